"""Recognising CLIs that are scripts: of Node, with shims and workers, or of Python."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..contract import Found

#: What Node's processes are called, by ``node`` itself and by builds that name their first thread.
_NODE = frozenset({"MainThread", "bun", "node"})


def runs_script(process: Found, name: str, *packages: str) -> bool:
    """Whether it is Node with the script ``name`` of a folder of programs, or with one of a package.

    Args:
        packages: As npm calls them: ``@google/gemini-cli``.
    """
    if process.comm not in _NODE and os.path.basename(process.argv[0]) not in _NODE:
        return False
    script = _script(process.argv)
    return os.path.basename(script) == name or any(
        f"/node_modules/{package}/" in script for package in packages
    )


def is_called(process: Found, *names: str) -> bool:
    """Whether a program of such a name is it, by its command line or as the kernel calls it."""
    return process.comm in names or os.path.basename(process.argv[0]) in names


def runs_python(process: Found, name: str) -> bool:
    """Whether it is Python with the script, or the module, ``name``."""
    if not os.path.basename(process.argv[0]).startswith("python"):
        return False
    if process.argv[1:3] == ("-m", name):
        return True
    return os.path.basename(_script(process.argv)) == name


def _script(argv: Sequence[str]) -> str:
    """The first word that is no option: what the interpreter runs."""
    return next((word for word in argv[1:] if not word.startswith("-")), "")
