"""From launches to runs: what can be refused before there is a process, the groups, the wrapper.

Blocking, to be called in a worker thread.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence

from agenttop.core.backend import Launch
from agenttop.core.errors import AgentTopError, BackendError

from . import cgroups, proc, program, runs, spawn
from .ends import Ends
from .runs import Run


def apart(launch: Launch, groups: cgroups.Cgroups) -> bool:
    """Whether a start takes more than making the process."""
    return launch.spec.stdin or bool(launch.spec.nice and "cpus" not in groups.limits)


def begin(
    launches: Sequence[Launch], groups: cgroups.Cgroups, boot: str, ends: Ends
) -> list[Run | AgentTopError | OSError]:
    """Start some runs, one after the other; what went wrong stands in the place of those that failed."""
    begun: list[Run | AgentTopError | OSError] = []
    checked: set[tuple[str, str | None, str]] = set()
    for launch in launches:
        try:
            made = prepare(launch, groups, checked)
            try:
                begun.append(make(launch, made, groups, boot, ends))
            except BaseException:
                cgroups.remove(made.values())
                raise
        except (AgentTopError, OSError) as error:
            begun.append(error)
    return begun


def prepare(
    launch: Launch, groups: cgroups.Cgroups, checked: set[tuple[str, str | None, str]] | None = None
) -> dict[str, str]:
    """Everything that can be refused before a process is made, then the groups.

    Args:
        checked: Programs that were found a moment ago: name, ``PATH`` and folder.
    """
    asked = (launch.command[0] if launch.command else "", launch.env.get("PATH"), launch.cwd)
    if checked is None or asked not in checked:
        program.check_folder(launch.cwd)
        program.check_program(launch.command, launch.cwd, launch.env)
        if checked is not None:
            checked.add(asked)
    if launch.spec.sandbox and shutil.which("bwrap") is None:
        program.sandboxed(launch.command, launch.cwd, launch.folder)
    made = groups.make(launch.marker, launch.spec.limits, launch.spec.nice)
    if made:
        runs.store_groups(launch.folder, made)
    return made


def wrapped(launch: Launch, made: dict[str, str], groups: cgroups.Cgroups, boot: str) -> list[str]:
    """The command line of the wrapper that enters the groups ``made`` and runs the program."""
    limit = launch.spec.limits.memory
    command = launch.command
    if launch.spec.sandbox:
        command = program.sandboxed(command, launch.cwd, launch.folder)
    held = "memory" in made or "memory" in groups.v2_limits
    return spawn.arguments(
        launch.folder,
        boot,
        launch.cwd,
        launch.env,
        command,
        groups=list(made.values()),
        kib=0 if limit is None or held else max(1, limit >> 10),
    )


def make(launch: Launch, made: dict[str, str], groups: cgroups.Cgroups, boot: str, ends: Ends) -> Run:
    """Make the wrapper of one run, in groups that were ``made`` for it; its end is told to ``ends``."""
    argv = wrapped(launch, made, groups, boot)
    pid = spawn.spawn(argv, launch.folder, launch.cwd, launch.env, stdin=launch.spec.stdin)
    found = proc.stat(pid)
    if found is None:
        raise BackendError(f"cannot start {launch.command[0]}", "Its wrapper vanished")
    # Our own child, and not reaped yet: the pid is its. Without a descriptor ``wait`` tries again.
    with contextlib.suppress(OSError):
        ends.add(found.key, os.pidfd_open(pid))
    return Run(launch.marker, launch.folder, pid, found.start_time, boot, made, mark=launch.mark, ours=True)
