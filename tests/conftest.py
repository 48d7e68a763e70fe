"""Fixtures for every room: a home of its own, and the rule for parts that may be missing."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from agenttop.backends import cgroups, mounts
from agenttop.core.backend import state_name

#: Parts that must be there: `AGENTTOP_TEST_REQUIRE=docker,tmux,claude` turns a skip into a failure.
REQUIRED = frozenset(filter(None, os.environ.get("AGENTTOP_TEST_REQUIRE", "").split(",")))

#: The long way too: every program where a few show it, every kill where some do.
THOROUGH = os.environ.get("AGENTTOP_TEST_THOROUGH") == "1"

#: Taken by CI: the same examples each time.
hypothesis.settings.register_profile("ci", derandomize=True)


def missing(part: str, why: str) -> None:
    """Skip because ``part`` is not on this machine, or fail if the caller requires it."""
    if part in REQUIRED:
        pytest.fail(f"{part} is required by AGENTTOP_TEST_REQUIRE but {why}", pytrace=False)
    pytest.skip(f"{part}: {why}")


@pytest.fixture
def anyio_backend() -> str:
    """The kernel runs on asyncio only: uvicorn, uvloop and aiodocker do."""
    return "asyncio"


def groups_of(state: Path) -> list[Path]:
    """The control groups of the kernel with this state folder, in all hierarchies."""
    places = mounts.current()
    v2 = [places.v2.mount, places.v2.own] if places.v2 else []
    bases = {*v2, *(place.own for place in places.v1.values())}
    named = [Path(base, f"agenttop-{state_name(state)}") for base in sorted(bases)]
    return [group for group in named if group.is_dir()]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB of the test's own; see ``support.disks.fill``."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "agenttop-test", disk], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mount is not allowed here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An AGENTTOP_HOME of the test's own, and no trace of the developer's.

    A kernel that leaves removes its control groups; for those that a test kills it is done here.
    """
    for name in list(os.environ):
        if (
            name.startswith(("AGENTTOP_", "ANTHROPIC_", "OPENAI_", "CLAUDE"))
            and name != "AGENTTOP_TEST_REQUIRE"
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AGENTTOP_HOME", str(tmp_path / "home"))
    # What else runs on this machine, other tests' agents among it, is nothing to a test that does not ask.
    monkeypatch.setenv("AGENTTOP_OBSERVE", "off")
    yield tmp_path / "home"
    found = [str(group) for group in groups_of(tmp_path / "home" / "state")]
    deadline = time.monotonic() + 10  # what a test killed a moment ago may not be gone yet
    while found := [group for group in found if cgroups.remove([group])]:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
