"""Which processes of this machine are agent CLIs, looked at without looking at all of them each time.

A process is read when it is first seen, again while it is young (a shell forks before it execs), and
seldom after that, for a long-lived shell may exec too.
"""

from __future__ import annotations

import functools
import logging
import os
import pwd
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..backend import MARKER
from .contract import Found, Observer
from .proc import Census

log = logging.getLogger(__name__)

_TICKS = os.sysconf("SC_CLK_TCK")
#: Seconds for which a process may still be about to exec.
YOUNG = 30.0
#: Every how many rounds the names of all others are read again.
SELDOM = 10
#: Programs that run CLIs as scripts: between fork and exec they are called as they will be after it.
_INTERPRETERS = (b"node", b"MainThread", b"python", b"bun", b"deno")
#: Bytes of a command line or an environment that are looked at.
_MOST = 1 << 17


class _Known:
    __slots__ = ("agent", "comm", "found", "inode", "name", "until")

    def __init__(self, inode: int) -> None:
        self.inode = inode
        self.comm = b""
        self.until = 0.0
        self.found: Found | None = None
        self.name = ""
        self.agent = ""


class Processes:
    """Finds the processes of all observers' CLIs.

    Args:
        kernel: The name of our own state folder (``backend.state_name``): what carries its mark, or
            descends from what does, belongs to a managed agent.
        follows: Which managed agents' CLIs are wanted, by id; the others' are passed over.
    """

    def __init__(
        self,
        observers: Mapping[str, Observer],
        proc: str = "/proc",
        *,
        kernel: str = "",
        follows: Callable[[str], bool] = lambda agent: False,
    ) -> None:
        self._observers = observers
        self._proc = proc
        self._kernel, self._follows = kernel, follows
        self._known: dict[int, _Known] = {}
        self._failed: set[str] = set()
        self._round = 0
        self._boot = _boot_time(proc)
        self.census = Census(proc)

    def refresh(self, now: float) -> dict[str, list[Found]]:
        """All live processes of each CLI, shims and workers included. Blocks for some milliseconds.

        Args:
            now: Monotonic seconds.
        """
        self._round += 1
        seldom = self._round % SELDOM == 0
        alive = self.census.refresh()
        for pid in self._known.keys() - alive.keys():
            del self._known[pid]
        for pid, inode in alive.items():
            known = self._known.get(pid)
            if known is None or known.inode != inode:
                known = self._known[pid] = _Known(inode)
                known.until = now + YOUNG
            elif now > known.until and not seldom:
                continue
            self._look(pid, known)
        found: dict[str, list[Found]] = {}
        for known in self._known.values():
            if known.found is not None:
                found.setdefault(known.name, []).append(known.found)
        return found

    def managed(self, pid: int) -> str:
        """The id of the managed agent that a found process belongs to; empty: it is nobody's of ours."""
        known = self._known.get(pid)
        return known.agent if known is not None else ""

    def disown(self, pid: int) -> None:
        """A process that was found is no observed agent's after all, and is passed over from now on."""
        if (known := self._known.get(pid)) is not None:
            known.found = None

    def _look(self, pid: int, known: _Known) -> None:
        comm = _read(f"{self._proc}/{pid}/comm")
        if comm == known.comm and (known.found is not None or not comm.startswith(_INTERPRETERS)):
            return
        argv = _read(f"{self._proc}/{pid}/cmdline")
        if not argv:  # gone, or a kernel thread
            known.found = None
            return
        known.comm = comm
        known.found, known.name = None, ""
        glimpse = _glimpse(pid, comm, argv)
        for name, observer in self._observers.items():
            if self._recognises(name, observer, glimpse):
                process = describe(pid, argv, self._boot, self._proc)
                if process is not None:
                    known.name, known.agent = name, self._manager(process)
                    if not known.agent or self._follows(known.agent):
                        known.found = process
                return

    def _recognises(self, name: str, observer: Observer, glimpse: Found) -> bool:
        try:
            return observer.recognise(glimpse)
        except Exception:  # somebody else's code must not hide the others' agents
            if name not in self._failed:
                self._failed.add(name)
                log.exception("the reader of %s failed to recognise", name)
            return False

    def _manager(self, process: Found) -> str:
        """The managed agent whose mark a process carries, or somebody above it whose environment it lost."""
        if mark := process.setting(MARKER):
            return self._marked(mark)
        for pid in self.census.ancestors(process.pid):
            environ = _environ(_read(f"{self._proc}/{pid}/environ"))
            if agent := self._marked(environ.get(MARKER, "")):
                return agent
        return ""

    def _marked(self, mark: str) -> str:
        kernel, _, run = mark.partition("/")
        return run.rpartition(".")[0] if kernel == self._kernel else ""


def _glimpse(pid: int, comm: bytes, argv: bytes) -> Found:
    """A process of which only name and command line have been read."""
    return Found(
        pid=pid,
        start_time=0,
        ppid=0,
        uid=-1,
        comm=comm.rstrip(b"\n").decode("utf-8", "replace"),
        argv=_words(argv),
        exe=None,
        cwd=None,
        environ=None,
        home=None,
        started=0.0,
        terminal=False,
        inner_pid=pid,
        root="",
    )


def _words(argv: bytes) -> tuple[str, ...]:
    return tuple(part.decode("utf-8", "replace") for part in argv.rstrip(b"\0").split(b"\0"))


def describe(pid: int, argv: bytes, boot: float, proc: str = "/proc") -> Found | None:
    """One process as far as it may be looked at; ``None``: it is gone."""
    stat = _read(f"{proc}/{pid}/stat")
    status = _read(f"{proc}/{pid}/status")
    if not stat or not status:
        return None
    head, _, tail = stat.rpartition(b")")
    fields = tail.split()
    if fields[0] in (b"Z", b"X"):
        return None
    start = int(fields[19])
    lines = dict(line.split(b":\t", 1) for line in status.splitlines() if b":\t" in line)
    uid = int(lines[b"Uid"].split()[0])
    data = _read(f"{proc}/{pid}/environ")
    environ = _environ(data) if data else None
    return Found(
        pid=pid,
        start_time=start,
        ppid=int(fields[1]),
        uid=uid,
        comm=head.partition(b" (")[2].decode("utf-8", "replace"),
        argv=_words(argv),
        exe=_link(f"{proc}/{pid}/exe"),
        cwd=_link(f"{proc}/{pid}/cwd"),
        environ=environ,
        home=(environ or {}).get("HOME") or _home(uid),
        started=boot + start / _TICKS,
        terminal=int(fields[4]) != 0,
        inner_pid=int(lines.get(b"NSpid", lines[b"Pid"]).split()[-1]),
        root=_root(pid, proc),
    )


def agents(processes: Iterable[Found]) -> dict[tuple[int, int], list[Found]]:
    """The processes of one CLI as agents: each topmost process, with those of the same CLI below it.

    npm's shims start the CLI as a child, and Gemini and Qwen start themselves once more; that is one agent.
    """
    by_pid = {process.pid: process for process in processes}
    found: dict[tuple[int, int], list[Found]] = {}
    for process in by_pid.values():
        top, seen = process, {process.pid}
        while (parent := by_pid.get(top.ppid)) is not None and parent.pid not in seen:
            top = parent
            seen.add(top.pid)
        found.setdefault(top.key, []).append(process)
    for top_key, group in found.items():
        group.sort(key=lambda process: (process.key != top_key, process.start_time, process.pid))
    return found


def open_files(pid: int, proc: str = "/proc") -> list[str]:
    """The paths that a process has open; empty where that may not be seen."""
    try:
        with os.scandir(f"{proc}/{pid}/fd") as entries:
            return [path for entry in entries if (path := _link(entry.path))]
    except OSError:
        return []


def option(argv: Sequence[str], *names: str) -> str | None:
    """The value of a command-line option, ``--name value`` or ``--name=value``; the last one given."""
    value = None
    for place, word in enumerate(argv):
        if word in names and place + 1 < len(argv):
            value = argv[place + 1]
        for name in names:
            if word.startswith(f"{name}="):
                value = word[len(name) + 1 :]
    return value


def _environ(data: bytes) -> dict[str, str]:
    pairs = (entry.partition(b"=") for entry in data.split(b"\0"))
    return {
        name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, _, value in pairs if name
    }


def _read(path: str) -> bytes:
    """The beginning of a file below /proc; empty when its process is gone or it may not be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts, size = [], 0
        while size < _MOST and (part := os.read(descriptor, 1 << 16)):
            parts.append(part)
            size += len(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _root(pid: int, proc: str) -> str:
    own, its = _link(f"{proc}/self/ns/mnt"), _link(f"{proc}/{pid}/ns/mnt")
    return f"{proc}/{pid}/root" if its is not None and its != own else ""


@functools.lru_cache(maxsize=256)
def _home(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return None


def _boot_time(proc: str) -> float:
    with open(f"{proc}/stat", "rb") as file:
        for line in file:
            if line.startswith(b"btime "):
                return float(line.split()[1])
    return 0.0
