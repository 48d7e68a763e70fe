"""Ending a tree that has no control group: in step with all others that are being ended."""

from __future__ import annotations

import signal
import time
from functools import partial

from . import proc, signals, tree
from .stop import KILL_DEADLINE, PLAIN, Stop, ended, send
from .ungrouped import act, held


class UngroupedStop(Stop):
    """As ``Stop``; every look is a pass over /proc that all who look at that moment share."""

    async def _look(self) -> list[proc.Stat]:
        return self._note(await self._trees.members(self._run))

    async def _send_term(self, found: list[proc.Stat]) -> tuple[int, bool]:
        """TERM to all that were found; what is forked meanwhile gets it from its own group, or KILL."""
        frozen = any(process.stopped for process in found)
        await act(partial(self._tell, found), len(found))
        if frozen:
            await self._trees.thaw(self._run)
        return len(found), frozen

    async def _kill(self, found: list[proc.Stat]) -> None:
        """KILL everything but the wrapper, so that it can note the exit status; at last that too.

        A tree that forks faster than it is killed is stopped first: nothing is forked then.
        """
        patience, end, attempt = PLAIN, time.monotonic() + KILL_DEADLINE, 0
        while found and time.monotonic() < end:
            if attempt:
                await self._trees.freeze(self._run, deadline=1.0)
                found = await self._look()
            watch = signals.Watch()
            try:
                await act(partial(self._send_all, found, watch, attempt), len(found))
                await ended(watch, patience)
            finally:
                watch.close()
            self._run.reap()
            found = await self._look()
            attempt, patience = attempt + 1, min(patience * 2, 1.0)

    def _send_all(self, found: list[proc.Stat], watch: signals.Watch, attempt: int) -> None:
        watch.add(found)
        self._send_kill(found, watch, attempt)
        for process in found:
            if attempt or held(process):  # KILL needs no such thing, but the wrapper must go on
                send(process, signal.SIGCONT, watch)

    async def _last_scan(self, end: float) -> tree.Scan:
        """A pass that finds nobody after a time in which nobody was born; ``Births`` says why."""
        while True:
            caught = await self._trees.births.hunt(self._run)
            self._note(caught)
            scan = await self._trees.scan()
            found = [p for p in scan.marked.get(self._run.carried, ()) if p.pid != self._run.pid]
            self._note(found)
            for process in found:
                send(process, signal.SIGKILL)
            if not (caught or found) or time.monotonic() > end:
                return scan

    async def _prove(self, scan: tree.Scan) -> list[proc.Stat]:
        found = tree.related(self._run, scan)
        if found:
            found = await self._look()
        if found or scan.marked.get(self._run.carried):
            return await self._thread(partial(self._prove_now, scan, found))
        return self._prove_now(scan, found)
