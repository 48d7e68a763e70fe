"""Stopping, letting go, ending and signalling the whole tree of an agent that somebody else started.

Nothing is signalled but what is proven to be the tree: processes that were in it when the kernel last
looked, by pid and start time, and what descends from them now. Each signal goes through a pidfd whose
process was looked at after it was opened, so that it cannot reach another one. All of this blocks.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ..backend import MARKER, Frozen, Killed, Step
from .proc import Key, Stat, below, everything, held, read, stat

#: How stopping, and letting go, is done: an observed agent shares its control group with others.
MECHANISM = "signal"
#: How long stopping a tree, or letting it go, may take.
DEADLINE = 5.0
#: How long KILL may take: a process in uninterruptible sleep dies when it wakes.
KILL_DEADLINE = 10.0
#: A tree is looked through again at least so often while it has time to end by itself.
_LOOK = 0.25
#: So many processes are waited for at once.
_WAITED = 64
#: Between two looks while signals take effect.
_BEAT = 0.01


class Thawed(NamedTuple):
    """What became of a tree that was let go."""

    going: int
    total: int
    background: tuple[int, ...]
    """Pids that stopped again, because their shell has taken the terminal back: ``fg`` there helps."""

    @property
    def complete(self) -> bool:
        """Whether every process that was let go goes on."""
        return self.going == self.total


class Acts:
    """What is done to one tree, from the processes that are known of it (pids with start times).

    Args:
        main: The topmost one.
        known: The others that were in the tree.
    """

    def __init__(self, main: Key, known: Iterable[Key] = (), clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._main = main
        self._ever: dict[Key, str] = dict.fromkeys((main, *known), "")
        self._steps: list[Step] = []

    # --- the tree --------------------------------------------------------------------------------

    def look(self) -> list[Stat]:
        """The live tree now: what was ever seen in it, and what descends from that; parents first.

        Without kernels, should the agent have started one, and without managed agents.
        """
        alive = everything()
        children: dict[int, set[int]] = {}
        for process in alive.values():
            children.setdefault(process.ppid, set()).add(process.pid)
        roots = [pid for pid, start in self._ever if pid in alive and alive[pid].start_time == start]
        own = _mark(self._main[0])  # another kernel's agent is shown as observed, and carries a mark itself
        others = {os.getpid()} | {pid for pid in below(roots, children) if _is_another(pid, own)}
        found = [alive[pid] for pid in below(roots, children, without=others) if pid in alive]
        for process in found:
            self._ever[process.key] = process.comm
        return found

    def forbidden(self) -> list[Stat]:
        """The processes of the tree that this user may not signal."""
        return [process for process in self.look() if not _permitted(process)]

    # --- freeze and thaw -------------------------------------------------------------------------

    def freeze(self, deadline: float = DEADLINE) -> Frozen:
        """Stop the tree; done when two looks in a row show the same processes, all stopped."""
        began = time.monotonic()
        before: set[Key] | None = None
        while True:
            found = self.look()
            moving = [process for process in found if not held(process)]
            known = {process.key for process in found}
            if (not moving and known == before) or time.monotonic() > began + deadline:
                frozen = len(found) - len(moving)
                return Frozen(frozen, len(found), MECHANISM, round(time.monotonic() - began, 3))
            for process in moving:
                send(process, signal.SIGSTOP)
            if moving:
                time.sleep(_BEAT / 10)
            before = known

    def stopped(self) -> tuple[int, int]:
        """How many of how many processes are stopped now."""
        found = self.look()
        return sum(held(process) for process in found), len(found)

    def thaw(self, deadline: float = DEADLINE) -> Thawed:
        """Let the tree run again; harmless if it does.

        A program that its shell has meanwhile put behind the terminal stops again by itself (SIGTTIN).
        """
        end = time.monotonic() + deadline
        let_go: Counter[Key] = Counter()
        while True:
            found = self.look()
            stopped = [process for process in found if held(process)]
            behind = [p for p in stopped if p.background and let_go[p.key]]
            rest = [process for process in stopped if process not in behind]
            if not rest or time.monotonic() > end:
                going = len(found) - len(stopped)
                return Thawed(going, len(found), tuple(process.pid for process in behind))
            for process in reversed(rest):  # children first: a shell must not see its job half stopped
                send(process, signal.SIGCONT)
                let_go[process.key] += 1
            time.sleep(_BEAT)

    # --- signals and nice ------------------------------------------------------------------------

    def signal(self, signum: int, keys: Sequence[Key]) -> int:
        """Send one signal to these of the tree; how many got it."""
        return sum(send(process, signum) for process in self.look() if process.key in keys)

    def renice(self, nice: int) -> tuple[int, int]:
        """Give every thread of the tree another nice value; how many processes took it, of how many."""
        found = self.look()
        return sum(_renice(process, nice) for process in found), len(found)

    # --- ending ----------------------------------------------------------------------------------

    def stop(self, grace: float) -> Killed:
        """TERM, ``grace`` seconds, KILL, proof; without grace KILL at once."""
        began = time.monotonic()
        left = self.look()
        if grace > 0 and left:
            left = self._term(left, began + grace)
        if left:
            told = len(left)
            what = f"{_pids(left)}, {_names(process.comm for process in left)}"
            left = self._kill(left)
            self._say(
                f"KILL sent to {told}", what + (", ignored TERM" if grace > 0 else ", no grace was given")
            )
        left = self.look()
        zombies = sum(_is_zombie(key) for key in self._ever)
        self._say(
            f"{len(left)} left: {_pids(left)}" if left else "no process of the tree is left",
            f"{len(left)} survivors, {zombies} zombies",
            ok=not left,
        )
        total = len([key for key, comm in self._ever.items() if comm])
        seconds = round(time.monotonic() - began, 3)
        survivors = tuple(process.pid for process in left)
        return Killed(total, total - len(left), survivors, MECHANISM, seconds, tuple(self._steps))

    def _say(self, what: str, evidence: str, ok: bool = True) -> None:
        self._steps.append(Step(self._clock(), what, evidence, ok))

    def _term(self, found: list[Stat], end: float) -> list[Stat]:
        frozen = any(held(process) for process in found)
        told = {process.key: process.comm for process in found if send(process, signal.SIGTERM)}
        self._say(f"TERM sent to {_count(len(told))}", "pid and start time checked for each")
        if frozen:
            self.thaw()
            self._say(f"thawed {_count(len(found))}", "so that TERM could act")
        while True:
            left = self.look()
            rest = end - time.monotonic()
            for process in left:
                # A shell that had just forked takes TERM with its own handler; what it then becomes does not.
                if told.get(process.key, process.comm) != process.comm:
                    told[process.key] = process.comm
                    send(process, signal.SIGTERM)
            if not left or rest <= 0:
                break
            _until_ended(left, min(rest, _LOOK))
        alive = {process.key for process in left}
        ended = [comm for key, comm in self._ever.items() if comm and key not in alive]
        if ended:
            self._say(f"{len(ended)} ended by themselves", _names(ended))
        return left

    def _kill(self, found: list[Stat]) -> list[Stat]:
        """KILL all of them, stopped first: nothing is forked then, so that none gets away."""
        end = time.monotonic() + KILL_DEADLINE
        while found and time.monotonic() < end:
            self.freeze(deadline=1.0)
            found = self.look()
            sent = [process for process in found if send(process, signal.SIGKILL)]
            if not sent:  # none of those that are left may be signalled
                return found
            _until_ended(sent, 1.0)
            found = self.look()
        return found


# --- single processes ----------------------------------------------------------------------------


def send(process: Stat, signum: int) -> bool:
    """Signal exactly this process; whether it was there, and ours to signal."""
    with _opened(process.key) as descriptor:
        if descriptor is None:
            return False
        try:
            signal.pidfd_send_signal(descriptor, signum)
        except (ProcessLookupError, PermissionError):
            return False
        return True


@contextlib.contextmanager
def _opened(key: Key) -> Iterator[int | None]:
    """A pidfd of exactly this process; ``None`` when it is gone or the pid is somebody else's now."""
    try:
        descriptor = os.pidfd_open(key[0])
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.EINVAL):
            raise
        yield None
        return
    try:
        found = stat(key[0])  # the pidfd was opened first: what is read here is what it holds, or gone
        yield descriptor if found is not None and found.key == key and found.alive else None
    finally:
        os.close(descriptor)


def _permitted(process: Stat) -> bool:
    with _opened(process.key) as descriptor:
        if descriptor is None:
            return True
        try:
            signal.pidfd_send_signal(descriptor, 0)
        except PermissionError:
            return False
        except ProcessLookupError:
            return True
        return True


def _renice(process: Stat, nice: int) -> bool:
    with _opened(process.key) as descriptor:
        if descriptor is None:
            return False
        try:
            threads = [int(name) for name in os.listdir(f"/proc/{process.pid}/task")]
        except OSError:
            return False
        done = False
        for thread in threads:
            try:
                os.setpriority(os.PRIO_PROCESS, thread, nice)
                done = True
            except ProcessLookupError:
                continue
            except PermissionError:
                return False
        return done


def _until_ended(found: Iterable[Stat], seconds: float) -> None:
    """Until all of these have ended, or time is up; of very many the first ones: each takes a descriptor."""
    end = time.monotonic() + seconds
    with contextlib.ExitStack() as stack, select.epoll() as epoll:
        waiting = set()
        for process in itertools.islice(found, _WAITED):
            descriptor = stack.enter_context(_opened(process.key))
            if descriptor is not None:
                epoll.register(descriptor, select.EPOLLIN)
                waiting.add(descriptor)
        while waiting and (rest := end - time.monotonic()) > 0:
            for descriptor, _ in epoll.poll(rest, len(waiting)):
                epoll.unregister(descriptor)
                waiting.discard(descriptor)


def _is_another(pid: int, own: bytes) -> bool:
    """Whether a process is a kernel's, or a managed agent's: an agent may have started either."""
    return _is_ours(read(f"/proc/{pid}/cmdline").split(b"\0")) or _mark(pid) not in (b"", own)


def _is_ours(argv: Sequence[bytes]) -> bool:
    """Whether a command line is a kernel's or a holder's; not one that only names them, as a search does."""
    if not os.path.basename(argv[0]).startswith((b"python", b"pypy")):
        return False
    words = iter(argv[1:])
    for word in words:
        if word == b"-m":
            return next(words, b"").startswith(b"agenttop.core.")
        if word == b"-c":
            return False
        if not word.startswith(b"-"):
            return word.endswith(b"/holder_process.py")
    return False


def _mark(pid: int) -> bytes:
    """Of which managed agent's run a process carries the mark; empty without one."""
    environ = b"\0" + read(f"/proc/{pid}/environ", 1 << 17)
    return environ.partition(f"\0{MARKER}=".encode())[2].partition(b"\0")[0]


def _is_zombie(key: Key) -> bool:
    found = stat(key[0])
    return found is not None and found.key == key and found.state == "Z"


def _count(number: int) -> str:
    return f"{number} process{'es' if number != 1 else ''}"


def _pids(found: Sequence[Stat], most: int = 8) -> str:
    shown = " ".join(str(process.pid) for process in found[:most])
    return shown if len(found) <= most else f"{shown} and {len(found) - most} more"


def _names(comms: Iterable[str], most: int = 8) -> str:
    counted: Mapping[str, int] = Counter(comms)
    shown = [f"{name} {number}" for name, number in sorted(counted.items(), key=lambda item: -item[1])]
    return ", ".join(shown[:most]) + (", …" if len(shown) > most else "")
