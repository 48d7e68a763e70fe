"""Ending a container with proof: thaw, TERM to every process, grace, KILL, and a look at what is left."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import anyio.to_thread

from agenttop.core.backend import Killed, Step
from agenttop.core.clock import Clock
from agenttop.core.errors import BackendUnavailable

from .docker_cgroup import Group, Identity, alive, send, zombie
from .docker_engine import Engine, EngineRefused

#: Seconds that KILL and the removal of the cgroup may take before what is left counts as survivors.
_PATIENCE = 15.0
_POLL = 0.02


class Stop:
    """One stop of one run.

    Works on the processes directly where it may, so that a dockerd that is away or stuck protects
    nobody, and through dockerd elsewhere.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        container: str,
        name: str,
        group: Group | None,
        init: int,
        on_step: Callable[[Step], None] | None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._container = container
        self._name = name
        self._group = group
        self._init = init
        self._on_step = on_step
        self._steps: list[Step] = []
        self._seen: dict[Identity, None] = {}

    async def run(self, info: dict[str, Any] | None, grace: float) -> Killed:
        """Do it; survivors are in the result. ``info`` is dockerd's view, or ``None`` if it is away."""
        began = self._clock.monotonic()
        await self._look()
        frozen = self._group is not None and self._group.told()
        if frozen or (info is not None and info["State"]["Paused"]):
            await self._thaw()
        if grace > 0:
            await self._terminate(grace)
        if not await self._gone(0):
            await self._kill()
        survivors = await self._verify()
        ended = len(self._seen) - len(survivors)
        return Killed(
            processes=len(self._seen),
            ended=ended,
            survivors=survivors,
            mechanism="docker",
            seconds=self._clock.monotonic() - began,
            steps=tuple(self._steps),
        )

    async def _thaw(self) -> None:
        try:
            await self._post("unpause")
        except (BackendUnavailable, EngineRefused):
            if self._group is None or not await anyio.to_thread.run_sync(self._group.thaw):
                raise
        self._step("thawed", "so that it can act on TERM")

    async def _terminate(self, grace: float) -> None:
        targets = [one for one in self._seen if one.pid != self._init]
        reached, evidence = await self._signal(targets, signal.SIGTERM), "pid and start time checked for each"
        if reached is None:
            await self._post("kill", signal="SIGTERM")
            reached, evidence = 1, f"by dockerd, to the main program of {self._name}"
        self._step(f"TERM sent to {_processes(reached)}", evidence)
        before = [one for one in self._seen if alive(one)]
        if await self._gone(grace):
            self._step(f"{len(self._seen)} ended by themselves", _by_name(self._seen))
            return
        await self._look()
        left = [one for one in self._seen if alive(one)]
        ended = [one for one in before if one not in left]
        if ended:
            self._step(f"{len(ended)} ended by themselves", _by_name(ended))

    async def _kill(self) -> None:
        await self._look()
        left = [one for one in self._seen if alive(one)]
        how = "by dockerd"
        try:
            # The end of a namespace's first process ends all others in it, those it forks meanwhile too.
            await self._post("kill", signal="SIGKILL")
        except EngineRefused as refusal:
            if refusal.answer not in (404, 409):  # it ended just now
                raise
        except BackendUnavailable:
            if await self._signal(left, signal.SIGKILL) is None:
                raise
            how = "directly: dockerd does not answer"
        numbers = " ".join(str(one.pid) for one in left[:8])
        self._step(
            f"KILL sent to {len(left)}", f"{numbers}{' …' if len(left) > 8 else ''} {_by_name(left)}, {how}"
        )

    async def _verify(self) -> tuple[int, ...]:
        gone = await self._gone(_PATIENCE)
        survivors = self._left()
        if self._group is not None:
            # The lists of a group do not show zombies: those seen are looked for one by one.
            zombies = sum(zombie(one) for one in self._seen)
            self._step(
                "cgroup.procs is empty" if not survivors else "cgroup.procs is not empty",
                f"{len(survivors)} survivors among {_processes(len(self._seen))}, {zombies} zombies",
                ok=not survivors,
            )
        try:
            info = await self._settled(wait=not survivors)
            running = bool(info["State"]["Running"])
            evidence = (
                "still running" if running else f"exit status {info['State']['ExitCode']}, its log is kept"
            )
            self._step(f"container {self._name} {'runs' if running else 'stopped'}", evidence, ok=not running)
            if running and not survivors:
                survivors = [int(info["State"]["Pid"])]
        except EngineRefused:
            self._step(f"container {self._name} removed", "by somebody else")
        except BackendUnavailable as error:
            self._step(f"container {self._name} not asked for", error.why, ok=gone and not survivors)
        return tuple(survivors)

    async def _settled(self, *, wait: bool) -> dict[str, Any]:
        """dockerd's view; it hears of the end of a container some milliseconds after the processes ended."""
        end = self._clock.monotonic() + (_PATIENCE if wait else 0.0)
        while True:
            info: dict[str, Any] = await self._engine.json(
                "GET", f"containers/{self._container}/json", "cannot verify"
            )
            if not info["State"]["Running"] or self._clock.monotonic() >= end:
                return info
            await anyio.sleep(_POLL)

    async def _gone(self, seconds: float) -> bool:
        """Whether the container ended within so many seconds."""
        if self._group is not None:
            with anyio.move_on_after(seconds):
                while await anyio.to_thread.run_sync(self._left):  # noqa: ASYNC110 - v1 tells no event
                    await anyio.sleep(_POLL)
            return not self._left()
        with anyio.move_on_after(max(seconds, 1.0)):
            await self._engine.json(
                "POST", f"containers/{self._container}/wait", "cannot wait for the container", patience=None
            )
            return True
        return False

    def _left(self) -> list[int]:
        """Who lives: the group's members, and those seen. A dying one leaves the group's list some steps
        before /proc calls it a zombie; it is waited for, and not taken for a survivor."""
        members = [one.pid for one in self._group.identities()] if self._group is not None else []
        return sorted({*members, *(one.pid for one in self._seen if alive(one))})

    async def _look(self) -> None:
        if self._group is not None:
            self._seen.update(dict.fromkeys(await anyio.to_thread.run_sync(self._group.identities)))

    async def _signal(self, targets: Iterable[Identity], signum: int) -> int | None:
        """How many got it; ``None`` where this user may not signal them."""
        if self._group is None:
            return None
        try:
            return sum([send(one, signum) for one in targets])
        except PermissionError:
            return None

    async def _post(self, verb: str, **params: str) -> None:
        await self._engine.json(
            "POST",
            f"containers/{self._container}/{verb}",
            f"cannot {verb} {self._name}",
            params=params,
            patience=30.0,
        )

    def _step(self, what: str, evidence: str, *, ok: bool = True) -> None:
        step = Step(self._clock.time(), what, evidence, ok)
        self._steps.append(step)
        if self._on_step is not None:
            self._on_step(step)


def _processes(count: int) -> str:
    return f"{count} process" if count == 1 else f"{count} processes"


def _by_name(processes: Iterable[Identity]) -> str:
    counts: dict[str, int] = {}
    for one in processes:
        counts[one.name] = counts.get(one.name, 0) + 1
    return ", ".join(f"{name} {count}" for name, count in counts.items())
