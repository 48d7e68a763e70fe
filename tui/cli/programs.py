"""What the programs of templates say of themselves, for ``agenttop doctor``."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

_SECONDS = 20.0
_AT_ONCE = 4


def versions(programs: Iterable[str]) -> dict[str, str]:
    """The first line each prints for ``--version``; empty where it cannot tell."""
    wanted = list(dict.fromkeys(programs))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(wanted, pool.map(_version, wanted), strict=True))


def _version(program: str) -> str:
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            start_new_session=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines() if done.returncode == 0 else []
    return "".join(char for char in lines[0] if char.isprintable())[:80] if lines else ""
