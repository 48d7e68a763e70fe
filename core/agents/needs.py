"""What a template's program needs besides itself: checked before it is started, and told by ``doctor``."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

from .furnish import at_home
from .template import Template

_SECONDS = 10.0


def missing(template: Template, search: str | None = None) -> str:
    """What keeps the template from running on this machine, a sentence; empty for nothing. Blocking.

    Args:
        search: The ``PATH`` of who starts it; default: this process's.
    """
    return _node(template, search)


def node(template: Template, search: str | None = None) -> str:
    """The version of the Node.js it would run on; empty where it needs none, or there is none. Blocking."""
    path = shutil.which("node", path=search) if template.node is not None else None
    return _version(path, Path(path).stat().st_mtime_ns) if path is not None else ""


def unusable(home: str) -> str:
    """What is wrong with a home folder, a clause; empty for nothing."""
    if not os.path.isdir(home):
        return f"{home} is not there"
    return "" if os.access(home, os.W_OK | os.X_OK) else f"{home} cannot be written"


def login(template: Template, home: str) -> str:
    """The person's own login that the template could be lent; empty where there is none."""
    found = (at_home(source, home) for source in template.login.values())
    return next((path for path in found if os.path.isfile(path)), "")


def caution(template: Template, agents: Path) -> str:
    """What it runs in spite of, but not in full; ``agents`` is the folder in which agents' own are."""
    return _place(template, agents)


def _node(template: Template, search: str | None) -> str:
    if template.node is None:
        return ""
    path = shutil.which("node", path=search)
    if path is None:
        return f"{template.title} needs Node.js {template.node}, and there is no node in PATH"
    said = _version(path, Path(path).stat().st_mtime_ns)
    found = re.match(r"v(\d+)", said)
    if found is not None and int(found[1]) >= template.node:
        return ""
    return f"{template.title} needs Node.js {template.node}, and {path} is {said or 'of an unknown version'}"


@functools.lru_cache(maxsize=16)
def _version(path: str, changed: int) -> str:
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()[:40]


def _place(template: Template, agents: Path) -> str:
    for folder in template.not_below:
        if agents.resolve().is_relative_to(folder):
            return (
                f"{template.title} does not work in full with its settings below {folder}, "
                f"and agents' folders are in {agents}"
            )
    return ""
