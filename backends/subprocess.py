"""Agents as ordinary processes of this machine, each run in a session of its own.

A small shell (``run.sh``) stands between the kernel and the program. It outlives the kernel, enters
the run's control groups before the program exists, and notes the exit status in the run's folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar

import anyio
import anyio.to_thread

from agenttop.core.backend import (
    Adoption,
    Backend,
    BackendContext,
    Capabilities,
    Check,
    Chunk,
    Exit,
    Frozen,
    Killed,
    Launch,
    Process,
    RunRef,
    Sample,
    SocketPeer,
    Step,
)
from agenttop.core.errors import AgentTopError, BackendError

from . import (
    begin,
    cgroups,
    doctor,
    freeze,
    output,
    priority,
    proc,
    runs,
    signals,
    sockets,
    tree,
)
from .ends import Ends
from .find import ENTER, Finder
from .runs import Run
from .sampler import Sampler
from .stdin import Inputs
from .stop import Stop
from .ungrouped import Ungrouped
from .ungrouped_stop import UngroupedStop

T = TypeVar("T")

#: What a program leaves behind gets so long to end when the program itself has.
SWEEP_GRACE = 2.0
#: Threads for looking at and signalling trees; more only fight over the same two locks of the kernel.
_THREADS = 16
#: Runs started in one go. All their program costs a spawn is one hop to a thread and one commit.
_BATCH = 16
#: How often a tree that goes on forking is looked through for those who are not niced yet.
_FORKS = 5
#: How long a wrapper may take from its pid file to the program.
_BEGIN = 1.0
_REBOOTED = "the machine was rebooted"


class SubprocessBackend(Backend):
    """See the contract; settings are ``freeze`` and ``cgroup`` (``cgroups.choose``)."""

    name: ClassVar[str] = "subprocess"
    batch: ClassVar[int] = _BATCH

    def __init__(self, context: BackendContext, *, boot_id: Callable[[], str] = proc.boot_id) -> None:
        super().__init__(context)
        self._boot_id = boot_id
        self._runs: dict[str, Run] = {}
        self._table = tree.Table()
        self._finder = Finder(self._table, boot_id)
        self._ungrouped = Ungrouped(self._table)
        self._sampler = Sampler(self._table)
        self._inputs = Inputs(context.doors)
        self._ends = Ends()
        self._limiter = anyio.CapacityLimiter(_THREADS)
        # posix_spawn keeps the interpreter's lock until the child has exec'd: two at a time gain nothing.
        self._spawning = anyio.CapacityLimiter(1)
        self._groups: cgroups.Cgroups | None = None
        self._groups_lock = anyio.Lock()

    async def _thread(self, call: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(call, limiter=self._limiter)

    async def _members(self, run: Run) -> list[proc.Stat]:
        if run.tree is None:
            return await self._ungrouped.members(run)
        return await self._thread(partial(tree.members, run, self._table))

    async def _cgroups(self) -> cgroups.Cgroups:
        async with self._groups_lock:
            if self._groups is None:
                self._groups = await anyio.to_thread.run_sync(self._choose)
            return self._groups

    def _choose(self) -> cgroups.Cgroups:
        chosen = cgroups.choose(self.context.state, dict(self.context.settings))
        cgroups.remove(cgroups.leftovers(chosen))
        cgroups.sweep(chosen)
        return chosen

    async def check(self) -> list[Check]:
        """What ``doctor`` says of this backend."""
        try:
            return await self._thread(partial(doctor.checks, await self._cgroups()))
        except (BackendError, OSError) as error:
            return [Check("freeze", "missing", str(error))]

    async def capabilities(self) -> Capabilities:
        """Freeze mechanisms and limits of this machine, for this user."""
        groups = await self._cgroups()
        return Capabilities(freeze=groups.mechanisms, limits=groups.limits, stdin=True)

    # -- start and adopt

    async def start(self, launch: Launch) -> RunRef:
        """Start the wrapper; on return it has been exec'd with the run's marker in its environment."""
        groups = await self._cgroups()
        if not begin.apart(launch, groups):
            (begun,) = await self._start_together([launch], groups)
            if isinstance(begun, Exception):
                raise begun
            return begun.ref
        made = await self._thread(partial(begin.prepare, launch, groups))
        reader = None
        try:
            if launch.spec.stdin:
                reader = await self._inputs.make(launch.marker, str(launch.folder))
            run = begin.make(launch, made, groups, self._boot_id(), self._ends)
            self._runs[launch.marker] = run
        except BaseException:
            with anyio.CancelScope(shield=True):
                if launch.spec.stdin:
                    await self._inputs.drop(launch.marker, str(launch.folder))
                await self._thread(partial(cgroups.remove, list(made.values())))
            raise
        finally:
            if reader is not None:
                os.close(reader)
        if launch.spec.nice and not groups.limits >= {"cpus"}:
            await self.renice(run.ref, launch.spec.nice)
        return run.ref

    async def start_all(self, launches: Sequence[Launch]) -> list[RunRef | AgentTopError | OSError]:
        """In one worker thread, but for those that need more than a process."""
        groups = await self._cgroups()
        together = [launch for launch in launches if not begin.apart(launch, groups)]
        begun = iter(await self._start_together(together, groups) if together else ())
        started: list[RunRef | AgentTopError | OSError] = []
        # What has been started must not get lost with whoever waits for it.
        with anyio.CancelScope(shield=True):
            for launch in launches:
                if begin.apart(launch, groups):
                    started += await super().start_all([launch])
                else:
                    run = next(begun)
                    started.append(run.ref if isinstance(run, Run) else run)
        return started

    async def _start_together(
        self, launches: Sequence[Launch], groups: cgroups.Cgroups
    ) -> list[Run | AgentTopError | OSError]:
        start = partial(begin.begin, launches, groups, self._boot_id(), self._ends)
        begun = await anyio.to_thread.run_sync(start, limiter=self._spawning)
        for run in begun:
            if isinstance(run, Run):
                self._runs[run.marker] = run
        return begun

    async def adopt(self, launch: Launch, ref: RunRef | None) -> Adoption:
        """Find the run by its handle, by its pid file, or by its marker in /proc."""
        known = self._runs.get(launch.marker)
        if known is not None and not known.done.is_set():
            await self._thread(known.reap)
            if known.wrapper() is not None:
                return Adoption("alive", known.ref)
        run = await self._thread(partial(self._finder.find, launch, ref))
        if run is None:
            code = runs.exit_code(launch.folder)
            if code is not None or (launch.folder / runs.PID).exists():
                return Adoption(
                    "ended",
                    None,
                    Exit(code=code, detail="" if code is not None else "its pid file is damaged"),
                )
            return Adoption("never_started")
        if run.boot != self._boot_id():
            ended = run.exit() if runs.exit_code(run.folder) is not None else Exit(detail=_REBOOTED)
            return Adoption("ended", run.ref, ended)
        if known is not None and known.identity == run.identity:
            run = known
        self._runs[launch.marker] = run
        if run.wrapper() is None:
            left = await self._members(run)
            if not left or runs.exit_code(run.folder) is not None:
                return Adoption("ended", run.ref, await self._end(run))
        return Adoption("alive", run.ref)

    # -- the end

    async def wait(self, ref: RunRef) -> Exit:
        """Until the main program has ended; what it left behind is then ended too."""
        run = self._run(ref)
        await self._wrapper_end(run)
        await self._thread(run.reap)
        if runs.exit_code(run.folder) is None:
            await self._orphans_end(run)
        return await self._end(run)

    async def _wrapper_end(self, run: Run) -> None:
        if run.status is not None or run.boot != self._boot_id():
            return
        await self._ends.wait((run.pid, run.start_time))

    async def _orphans_end(self, run: Run) -> None:
        """The wrapper was killed and the program may live on: the run lasts as long as its tree."""
        watch = signals.Watch()
        try:
            while left := await self._members(run):
                watch.add(left)
                while len(watch):
                    await anyio.wait_readable(watch.fileno())
                    watch.ended()
        finally:
            watch.close()

    async def _end(self, run: Run) -> Exit:
        """Clear up after a run whose main program has ended."""
        if not run.stopping and await self._members(run):
            await self._stop(run, SWEEP_GRACE, None)
        await self._thread(run.reap)
        await self._let_go(run, run.marker, run.folder)
        ended = run.exit()
        if not run.stopping:
            await self._thread(partial(self._clear, run))
        run.done.set()
        return ended

    async def _let_go(self, run: Run | None, marker: str, folder: Path) -> None:
        """Close what the run was told through; nobody writes any more."""
        await self._inputs.drop(marker, str(folder))

    def _clear(self, run: Run) -> None:
        self._sampler.drop(run.marker)
        cgroups.remove(list(run.groups.values()))

    async def forget(self, launch: Launch, ref: RunRef | None) -> None:
        """Remove groups and the stdin kept by the holder; what still runs is killed."""
        run = self._runs.pop(launch.marker, None)
        if run is None:
            run = await self._thread(partial(self._finder.find, launch, ref))
        await self._let_go(run, launch.marker, launch.folder)
        if run is None:
            await self._thread(partial(cgroups.remove, list(runs.load_groups(launch.folder).values())))
            return
        if run.boot == self._boot_id() and await self._members(run):
            await self._stop(run, 0, None)
        await self._thread(run.reap)
        await self._thread(partial(self._clear, run))
        await self._thread((await self._cgroups()).close)

    async def close(self) -> None:
        """Let go of descriptors; runs go on, and see no end of their input."""
        self._inputs.release_all()
        self._sampler.close()
        self._ends.close()
        if self._groups is None and not self._runs:
            return  # nothing was ever started or found here
        live = [run for run in self._runs.values() if not run.done.is_set()]
        kept = {path for run in live for path in run.groups.values()}
        await self._thread(partial((await self._cgroups()).tidy, kept))

    # -- control

    def _run(self, ref: RunRef) -> Run:
        """The run as known here, or from its handle."""
        known = self._runs.get(ref.get("marker", ""))
        if known is not None and known.identity == (ref.get("pid"), ref.get("start_time"), ref.get("boot")):
            return known
        return Run.from_ref(ref)

    async def _live(self, ref: RunRef) -> Run:
        """The run, proven to be alive and to have entered its groups.

        Raises:
            BackendError: It has ended.
        """
        run = self._run(ref)
        if run.boot != self._boot_id():
            raise BackendError(f"{run.marker} has ended", _REBOOTED)
        end = time.monotonic() + ENTER
        while not run.entered() and time.monotonic() < end:  # noqa: ASYNC110 - a file, a millisecond away
            await anyio.sleep(0.001)
        run.reap()
        if run.wrapper() is None and (run.done.is_set() or not await self._members(run)):
            raise BackendError(f"{run.marker} has ended", "There is nothing left to act on")
        return run

    async def _begun(self, run: Run) -> None:
        """Wait for the program behind a wrapper that was just started; a frozen one keeps us only so long."""
        end = time.monotonic() + _BEGIN
        while not run.has_begun() and time.monotonic() < end:  # noqa: ASYNC110 - an exec, a millisecond away
            await anyio.sleep(0.001)

    async def processes(self, ref: RunRef) -> list[Process]:
        """The tree; the first is the wrapper."""
        run = self._run(ref)
        if run.boot != self._boot_id():
            return []
        return await self._thread(lambda: [proc.describe(found) for found in tree.members(run, self._table)])

    async def freeze(self, ref: RunRef) -> Frozen:
        """Stop the tree with the run's mechanism."""
        run = await self._live(ref)
        if run.tree is None:
            return await self._ungrouped.freeze(run)
        return await self._thread(partial(freeze.freeze, run))

    async def thaw(self, ref: RunRef) -> None:
        """Let it run again."""
        run = await self._live(ref)
        if run.tree is None:
            await self._ungrouped.thaw(run)
        else:
            await self._thread(partial(freeze.thaw, run))

    async def signal(self, ref: RunRef, signum: int) -> int:
        """To the program, not to its wrapper."""
        run = await self._live(ref)
        await self._begun(run)
        found = await self._members(run)
        main = tree.main_program(run, found)
        if main is None:
            return 0
        try:
            return int(signals.send(main.pid, main.start_time, signum))
        except PermissionError as error:
            raise BackendError(f"cannot signal {main.pid} of {run.marker}", "Permission denied") from error

    async def stop(
        self, ref: RunRef, *, grace: float, on_step: Callable[[Step], None] | None = None
    ) -> Killed:
        """TERM, grace, KILL, proof."""
        run = await self._live(ref)
        if grace > 0:
            await self._begun(run)
        return await self._stop(run, grace, on_step)

    async def _stop(self, run: Run, grace: float, on_step: Callable[[Step], None] | None) -> Killed:
        run.stopping += 1
        try:
            kind = UngroupedStop if run.tree is None else Stop
            stop = kind(run, self._table, self.context.clock, self._limiter, self._ungrouped, on_step)
            return await stop(grace)
        finally:
            run.stopping -= 1
            if run.done.is_set() and not run.stopping:
                with anyio.CancelScope(shield=True):
                    await self._thread(partial(self._clear, run))

    async def renice(self, ref: RunRef, nice: int) -> None:
        """Through the group that shares the CPU out, else process by process where allowed."""
        run = await self._live(ref)
        await self._thread(partial(_renice, run, self._table, nice))

    # -- input, output, gauges

    async def write(self, ref: RunRef, data: bytes | None) -> None:
        """To the FIFO; ``None`` closes it for good."""
        run = await self._live(ref)
        if data is None:
            await self._inputs.close(run)
        else:
            await self._inputs.write(run, data)

    def output(
        self, launch: Launch, offsets: Mapping[str, int] | None = None, *, follow: bool = False
    ) -> AsyncIterator[Chunk]:
        """From the run's files."""
        return output.read(launch.folder, offsets, follow=follow, ended=partial(self._is_over, launch))

    def _is_over(self, launch: Launch) -> bool:
        run = self._runs.get(launch.marker)
        if run is None:
            noted = self._finder.noted(launch)
            if noted is None:  # never started, or its wrapper has yet to say who it is
                return launch.mark not in self._table.fresh().marked
            if noted.boot != self._boot_id():
                return True
            run = Run(launch.marker, launch.folder, noted.pid, noted.start_time, noted.boot)
        return run.done.is_set() or run.wrapper() is None

    async def trim(self, launch: Launch) -> None:
        """Hold both files together to ``spec.output.bytes``."""
        await self._thread(partial(output.trim, launch.folder, launch.spec.output.bytes))

    async def pids(self, refs: Mapping[str, RunRef]) -> dict[str, list[int]]:
        """From the groups' lists; without groups, one pass over /proc for all."""
        known = {key: run for key, ref in refs.items() if (run := self._sampled(ref)) is not None}
        scan = None if all(run.tree for run in known.values()) else await self._ungrouped.scan()
        return await self._thread(partial(_pids, known, scan))

    async def owns(self, ref: RunRef, peer: SocketPeer) -> bool | None:
        """By the group the socket was made in, else by who holds it open."""
        if peer.door:
            return False  # somebody else's container
        run = self._sampled(ref)
        if run is None or peer.inode is None:
            return None
        if sockets.made_in(run, peer):
            return True
        scan = None if run.tree else await self._ungrouped.scan()
        return await self._thread(partial(_holds, run, scan, peer.inode))

    async def sample(self, refs: Mapping[str, RunRef]) -> dict[str, Sample]:
        """One round of the sampler."""
        runs = self._runs
        known: dict[str, Run] = {}
        for key, ref in refs.items():
            run = runs.get(ref["marker"])
            if run is None or run.pid != ref["pid"] or run.start_time != ref["start_time"]:
                run = self._sampled(ref)
            if run is not None:
                known[key] = run
        return await self._thread(partial(self._sampler.sample, known))

    def _sampled(self, ref: RunRef) -> Run | None:
        known = self._runs.get(ref["marker"])
        if known is not None and known.pid == ref["pid"] and known.start_time == ref["start_time"]:
            return known
        run = self._run(ref)
        return run if run.boot == self._boot_id() else None


def _holds(run: Run, scan: tree.Scan | None, inode: int) -> bool | None:
    return sockets.held_by(_pids({"": run}, scan).get("", []), inode)


def _pids(known: Mapping[str, Run], scan: tree.Scan | None) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for key, run in known.items():
        if run.tree is not None:
            pids = tree.group_pids(run.tree) or []
            if run.pid not in pids and run.wrapper():
                pids.insert(0, run.pid)  # started a moment ago, not in its group yet
        else:
            pids = [process.pid for process in tree.related(run, scan)] if scan is not None else []
        if pids:
            found[key] = pids
    return found


def _renice(run: Run, table: tree.Table, nice: int) -> None:
    if cgroups.renice(run.groups, nice):
        return
    done: set[tuple[int, int]] = set()
    for _ in range(_FORKS):  # what was forked from one that had not been told has not been, either
        fresh = [process for process in tree.members(run, table) if process.key not in done]
        if not fresh:
            return
        priority.renice(fresh, nice)
        done.update(process.key for process in fresh)
