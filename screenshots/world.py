"""The demo's fleet after some minutes of work, always the same: a real kernel whose clock is held."""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import anyio
import anyio.to_thread
import orjson
from played import FOR_EVER, Actor, Cast, backends

from agenttop.core import backend, config, rows
from agenttop.core import kernel as kernels
from agenttop.core.agents.spec import Restart, RestartMode
from agenttop.core.agents.states import Pause
from agenttop.core.api import PauseRequest, RunRequest
from agenttop.core.bus.message import Draft
from agenttop.core.client import KernelClient
from agenttop.core.clock import ManualClock
from agenttop.core.errors import UsageError
from agenttop.core.gateway.limits import Limits
from agenttop.core.kernel import Kernel
from agenttop.core.paths import Paths
from agenttop.tui.demo import fleet
from agenttop.tui.demo.provider.directives import Behaviour
from agenttop.tui.demo.provider.service import MockProvider

START = 1_795_269_981.0 - 12 * 60
"""The fleet is started here; the pictures are taken twelve minutes later."""

LAST = 12.0
"""Seconds before the pictures in which calls begin that are still running in them."""


class World(NamedTuple):
    """What the pictures are taken of."""

    clock: ManualClock
    kernel: Kernel
    client: KernelClient


class Still(rows.Machine):
    """A machine that is the same wherever the pictures are drawn."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock, self.cores, self.memory = clock, 8, 32 << 30

    def cpu_seconds(self) -> float:
        return 0.012 * self.clock.monotonic()

    def resident(self) -> int:
        return 71 << 20


@contextlib.asynccontextmanager
async def world(home: Path) -> AsyncIterator[World]:
    """Bring the demo's fleet up in ``home`` and let twelve minutes pass."""
    clock = ManualClock(START)
    cast, chance = Cast(clock), Random("agenttop")
    secrets.token_hex = lambda size=32: chance.randbytes(size).hex()
    _play(clock, backends(cast))

    async def pass_time(seconds: float) -> None:
        clock.advance(seconds)

    async with MockProvider(seed=1, speed=2.0, key="demo", clock=clock, sleep=pass_time) as provider:
        paths = Paths.from_environ({"AGENTTOP_HOME": str(home)})
        paths.config_file.write_text(
            f'[providers.anthropic]\nbase_url = "{provider.url}"\nkey_env = "DEMO_KEY"\n'
            f"[observe]\nenabled = false\n{fleet.BUDGETS}"
        )
        keys = {"DEMO_KEY": "demo"}
        kernel = Kernel(paths, config.load(paths), clock=clock, environ=keys, machine=Still(clock))
        async with kernel.running():
            client = kernel.client("ana")
            try:
                await _Story(clock, cast, kernel, client, provider).tell()
                yield World(clock, kernel, client)
            finally:
                for actor in cast.actors.values():
                    actor.end(backend.Exit(0))
                await kernel.doors.dismiss()


def _play(clock: ManualClock, played: dict[str, type[backend.Backend]]) -> None:
    """Replace what a machine would put in: the backends, and the kernel's own use of it."""

    def load(name: str) -> type[backend.Backend]:
        if name not in played:
            raise UsageError(f"unknown backend {name}")
        return played[name]

    backend.load = load
    backend.names = lambda: sorted(played)
    # Progress is noted when the story says so, not each second of the machine that draws.
    kernels.Limits = functools.partial(Limits, tick_seconds=FOR_EVER)


class _Story:
    """Who does what until the pictures are taken."""

    def __init__(
        self, clock: ManualClock, cast: Cast, kernel: Kernel, client: KernelClient, provider: MockProvider
    ) -> None:
        self.clock, self.cast, self.kernel, self.client, self.provider = clock, cast, kernel, client, provider
        self.turns: list[tuple[float, int, Actor]] = []
        self.count = itertools.count()

    async def tell(self) -> None:
        specs = fleet.specs(seed=1, speed="1", home="/demo", cwd="/", image="agenttop-demo:1")
        for spec in specs:
            command = ["python", *spec.command[1:]] if spec.backend == "subprocess" else spec.command
            restart = Restart(start_seconds=0)
            if spec.restart.policy is not RestartMode.NEVER:
                restart = Restart(policy=spec.restart.policy, start_seconds=3600, max_restarts=3, backoff=0)
            spec = spec.model_copy(update={"command": command, "restart": restart, "cwd": spec.cwd and "/"})
            info = await self.client.run(RunRequest(spec=spec, environ={}))
            if restart.policy is RestartMode.NEVER:
                await self.until(lambda id=info.id: self.agent(id).run.ready)
            self.clock.advance(0.4)
            self.enter()
        await self.go_on(START + 12 * 60 - 150)
        await self.client.pause(PauseRequest(refs=["sandbox-b"], how=Pause.FREEZE))
        await self.go_on(START + 12 * 60 - LAST)
        for actor in self.cast.actors.values():
            if actor.launch.agent == self.id("review") and actor.talk is not None:
                actor.talk.silent = True
        await self.client.pause(PauseRequest(refs=["review"], how=Pause.HOLD))
        for name in ("api", "triage", "embed", "lead"):
            self.provider.conduct.add(Behaviour(do="hang", after=9, agent=self.id(name)))
        await self.go_on(START + 12 * 60)
        self.ask("review", "api", "is retry safe here?")
        await self.measure()

    def ask(self, asker: str, asked: str, text: str) -> None:
        """A question that nobody has answered yet when the pictures are taken."""
        draft = Draft(payload=orjson.dumps(text))
        self.kernel.bus.post(self.id(asker), self.id(asked), draft, deadline=self.clock.time() + 480)

    def agent(self, ref: str):
        return self.kernel.books.committed.agents[ref]

    def id(self, name: str) -> str:
        return self.kernel.books.committed.names[name]

    def enter(self) -> None:
        """New actors join the queue."""
        for actor in self.cast.fresh:
            self.turn(actor, 0.1)
        self.cast.fresh.clear()

    def turn(self, actor: Actor, after: float) -> None:
        heapq.heappush(self.turns, (self.clock.time() + after, next(self.count), actor))

    async def go_on(self, end: float) -> None:
        """Let whoever's turn it is do something, until ``end``."""
        while self.turns and self.turns[0][0] < end:
            at, _, actor = heapq.heappop(self.turns)
            if actor.stopped or actor.exit is not None:
                continue
            self.clock.advance(max(0.0, at - self.clock.time()))
            await self.step(actor)
            self.enter()
        self.clock.advance(max(0.0, end - self.clock.time()))

    async def step(self, actor: Actor) -> None:
        """One turn; a call that does not come back ends the actor's part in the story."""
        async with anyio.create_task_group() as tasks:
            stuck = anyio.Event()

            async def watch() -> None:
                await self.stuck(actor.launch.agent)
                stuck.set()
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            nap = await anyio.to_thread.run_sync(actor.step, abandon_on_cancel=True)
            tasks.cancel_scope.cancel()
        if stuck.is_set():
            return
        if nap is not None:
            self.turn(actor, nap)
            return
        actor.ended.set()
        number = actor.launch.run
        await self.until(lambda: self.over(actor.launch.agent, number))

    async def stuck(self, ref: str) -> None:
        """Return when a call of this agent is held, or hangs and its progress has been noted."""
        await self.until(lambda: self.agent(ref).held_calls > 0 or self.hangs(ref), FOR_EVER)
        if not self.hangs(ref):
            return
        then = -1.0
        while then != self.clock.now:  # what comes before the silence has come
            then = self.clock.now
            await anyio.sleep(0.15)
        self.kernel.gateway.look(self.clock.monotonic(), 0.0)
        await self.until(lambda: any(call.usage.output for call in self.agent(ref).calls.values()))

    def hangs(self, ref: str) -> bool:
        return any(rule["agent"] == ref and rule["used"] for rule in self.provider.conduct.rules())

    def over(self, ref: str, number: int) -> bool:
        """The end of this run is in the books, and the next run has begun if there is one."""
        agent = self.agent(ref)
        assert agent.run is not None
        return agent.over or (agent.run.number > number and bool(self.cast.fresh))

    async def until(self, true: Callable[[], bool], patience: float = 20.0) -> None:
        with anyio.fail_after(patience):
            while not true():
                await anyio.sleep(0.002)

    async def measure(self) -> None:
        """Two samples, a second apart, and none after them."""
        await self.kernel.feed.measure()
        self.clock.advance(1.0)
        await self.kernel.feed.measure()
        self.cast.measured = True
