"""Hosts without sshd: ``ssh`` is a shell that runs the far side's command here. Bridge and line are real."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from agenttop.core.hosts.address import Reach, parse
from agenttop.core.hosts.host import Host
from agenttop.core.paths import Paths

#: Drops ssh's options and runs what is meant for the login shell over there.
SHELL_FOR_SSH = ("/bin/sh", "-c", 'for last; do :; done; exec /bin/sh -c "$last"', "ssh")


def cut(home: Path) -> Path:
    """While this file exists, ``ssh`` does not get through to the machine whose AGENTTOP_HOME is ``home``."""
    return home.with_name(f"{home.name}.cut")


def agenttop(home: Path | None = None, *, check: bool = True) -> str:
    """The words that run the agenttop under test, with another AGENTTOP_HOME, unless that is cut off."""
    program = f"{sys.executable} -m agenttop.tui.main"
    if home is None:
        return program
    if not check:
        return f"AGENTTOP_HOME={home} {program}"
    refuse = f"test ! -e {cut(home)} || {{ echo No route to host >&2; exit 255; }}"
    return f"{refuse}; AGENTTOP_HOME={home} {program}"


def reach(homes: Mapping[str, Path | None]) -> Reach:
    """The way to hosts that are folders of this machine."""
    return Reach(SHELL_FOR_SSH, {name: agenttop(home) for name, home in homes.items()})


def hosts(paths: Paths, homes: Mapping[str, Path | None]) -> list[Host]:
    """Hosts that were not called yet."""
    way = reach(homes)
    return [Host(address, paths, way) for address in parse(list(homes))]
