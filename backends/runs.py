"""One run of this backend: its handle, and the files of its folder.

The wrapper writes boot id and pid into the pid file before it runs the program, but not its start time:
a shell reads /proc/self/stat with a system call a byte, which costs 6 to 11 % of the CPU time of a whole
start. The kernel reads the start time instead, while the wrapper is its unreaped child, and it is durable
with the handle (``RunStarted``). The pid file alone counts only where a kernel was killed in between;
there ``identity`` wants proof: the leader of its session, with the run's mark in its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import anyio

from agenttop.core.backend import Exit, RunRef
from agenttop.core.errors import BackendError

from . import proc

PID = "pid"
EXIT = "exit"
STDIN = "stdin"
GROUPS = "groups"


@dataclass(slots=True)
class Run:
    """A run as this process knows it; everything but the last block is in its ``RunRef``."""

    marker: str
    folder: Path
    pid: int
    start_time: int
    boot: str
    groups: dict[str, str] = field(default_factory=dict)
    """What a group is for (``tree``, ``freezer``, ``memory``, ``cpu``, ``pids``) → its folder."""

    mark: str = ""
    """The value of ``AGENTTOP_RUN`` in its processes; empty in runs of before marks named their kernel."""

    ours: bool = False
    """Whether the wrapper is a child of this process, to be reaped by it."""
    status: int | None = None
    """What waitpid said, once it did."""
    ready: bool = False
    """Whether the wrapper has entered its groups."""
    begun: bool = False
    """Whether the program has been exec'd: until then a signal is taken by a fork of the wrapper."""
    stopping: int = 0
    """How many calls of ``stop`` are at work on it."""
    done: anyio.Event = field(default_factory=anyio.Event)
    """Set when ``wait`` has seen the end of the tree."""
    seen: set[tuple[int, int]] = field(default_factory=set)
    """Processes that were found in the tree once: they stay in it whatever they do to their environment."""

    @property
    def ref(self) -> RunRef:
        """The handle for the journal."""
        return {
            "marker": self.marker,
            "folder": str(self.folder),
            "pid": self.pid,
            "start_time": self.start_time,
            "boot": self.boot,
            "groups": dict(self.groups),
            **({"mark": self.mark} if self.mark else {}),
        }

    @classmethod
    def from_ref(cls, ref: RunRef) -> Run:
        """Read a handle back.

        Raises:
            BackendError: It is not one of this backend's.
        """
        try:
            return cls(
                marker=str(ref["marker"]),
                folder=Path(ref["folder"]),
                pid=int(ref["pid"]),
                start_time=int(ref["start_time"]),
                boot=str(ref["boot"]),
                groups={str(key): str(path) for key, path in ref["groups"].items()},
                mark=str(ref.get("mark", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BackendError(
                "the handle of a run cannot be read", f"{type(error).__name__}: {error}"
            ) from error

    @property
    def identity(self) -> tuple[int, int, str]:
        """What no other process has: pid, start time, boot id."""
        return self.pid, self.start_time, self.boot

    @property
    def carried(self) -> str:
        """What its processes carry in their environment."""
        return self.mark or self.marker

    @property
    def tree(self) -> str | None:
        """The group whose members are the tree, if there is one."""
        return self.groups.get("tree") or self.groups.get("freezer")

    @property
    def mechanism(self) -> str:
        """How this run is frozen: ``cgroup2``, ``cgroup1`` or ``signal``."""
        return "cgroup2" if "tree" in self.groups else "cgroup1" if "freezer" in self.groups else "signal"

    def wrapper(self) -> proc.Stat | None:
        """The wrapper, if it is alive and still the process it was."""
        found = proc.stat(self.pid)
        return found if found and found.alive and found.start_time == self.start_time else None

    def entered(self) -> bool:
        """Whether the wrapper has entered its groups (it then writes its pid file) or has ended."""
        if not self.ready:
            self.ready = (self.folder / PID).exists() or self.wrapper() is None
        return self.ready

    def has_begun(self) -> bool:
        """Whether the wrapper's child has become the program (or the wrapper has ended)."""
        if not self.begun and self.entered():
            own = proc.read(f"/proc/{self.pid}/cmdline")
            self.begun = not own or any(
                proc.read(f"/proc/{pid}/cmdline") not in (own, b"", None) for pid in proc.children(self.pid)
            )
        return self.begun

    def reap(self) -> None:
        """Collect the wrapper if it is our child and has ended; harmless otherwise."""
        if not self.ours or self.status is not None:
            return
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # somebody set SIGCHLD to be ignored: the exit file has to do
            self.ours = False
            return
        if pid:
            self.status = status

    def exit(self) -> Exit:
        """How it ended, from the exit file, else from what waitpid said."""
        code = exit_code(self.folder)
        if code is not None:
            return Exit(code=code)
        if self.status is None:
            return Exit(detail="it left no exit status")
        if os.WIFSIGNALED(self.status):
            return Exit(signal=os.WTERMSIG(self.status), detail="its wrapper was killed")
        return Exit(code=os.waitstatus_to_exitcode(self.status))


def exit_code(folder: Path) -> int | None:
    """What the wrapper noted; ``None`` when it has not, or was killed while it wrote."""
    try:
        text = (folder / EXIT).read_bytes()
    except FileNotFoundError:
        return None
    return int(text) if text.endswith(b"\n") and text.strip().isdigit() else None


class Identity(NamedTuple):
    """Who a run's wrapper is, as its pid file and /proc tell together."""

    boot: str
    pid: int
    start_time: int
    """Clock ticks since boot; 0, which nobody's is, when the wrapper has ended."""
    mark: str
    """What it carries in its environment; empty when it has ended."""


def identity(folder: Path, marks: Collection[str]) -> Identity | None:
    """The wrapper of a run whose handle was lost; ``None`` without a complete pid file.

    A process with the noted pid is the wrapper only if it carries one of the run's marks and leads its
    session: a descendant that was given the number of a wrapper that ended carries the mark, too.
    """
    try:
        boot, _, line = (folder / PID).read_bytes().partition(b"\n")
        if not line.endswith(b"\n"):
            return None
        pid = int(line)
    except (FileNotFoundError, ValueError):
        return None
    return Identity(boot.decode("ascii", "replace"), pid, *_proven(pid, marks))


def _proven(pid: int, marks: Collection[str]) -> tuple[int, str]:
    found, mark = proc.stat(pid), proc.marker(pid)
    if found is None or not found.alive or found.session != pid or mark is None or mark not in marks:
        return 0, ""
    again = proc.stat(pid)  # the mark was read of the same process only if it still is the same
    return (found.start_time, mark) if again is not None and again.key == found.key else (0, "")


def store_groups(folder: Path, groups: dict[str, str]) -> None:
    """Note the groups of a run before it is spawned, for a kernel that has lost its handle."""
    (folder / GROUPS).write_text(json.dumps(groups))


def load_groups(folder: Path) -> dict[str, str]:
    """The groups of a run; empty if none were noted."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return {str(key): str(path) for key, path in json.loads((folder / GROUPS).read_text()).items()}
    return {}
