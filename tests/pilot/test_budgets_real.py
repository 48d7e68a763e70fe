"""The screen over a real kernel: a call is held, a person answers, and the kill switch is pulled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from textual.pilot import Pilot

from agenttop.core import config
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import BudgetRequest, RunRequest, StopRequest
from agenttop.core.budget.budget import Budget
from agenttop.core.client import KernelClient
from agenttop.core.gateway.desk import Asking, Refused
from agenttop.core.journal import events as ev
from agenttop.core.kernel import Kernel
from agenttop.core.paths import Paths
from agenttop.tui.app import AgentTopApp
from agenttop.tui.screens.fleet import FleetScreen

from .stage import TERMINAL, shows, text, typed, until

pytestmark = pytest.mark.anyio

#: $1 a million tokens in, $10 out: a call of 1,000 tokens each way needs up to $0.011.
MODELS = '[models."mock"]\ninput = 1\noutput = 10\ncontext = 200_000\nmax_output = 5_000\n'


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[tuple[Kernel, KernelClient, str]]:
    """A kernel with one agent that sleeps."""
    paths = Paths.from_environ()
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text(MODELS)
    kernel = Kernel(paths, config.load(paths), environ={})
    async with kernel.running():
        client = kernel.client("ana")
        try:
            spec = AgentSpec(name="worker", command=["/bin/sh", "-c", "sleep 600"], cwd="/tmp")
            info = await client.run(RunRequest(spec=spec, environ={"PATH": "/usr/bin:/bin"}))
            yield kernel, client, info.id
        finally:
            with anyio.CancelScope(shield=True):
                await client.stop(StopRequest(all=True, how="kill"))
                await kernel.doors.dismiss()


class Calls:
    """Calls of an agent at the kernel's own desk, as the gateway makes them; nothing is forwarded."""

    def __init__(self, kernel: Kernel, agent: str) -> None:
        self._kernel, self._agent = kernel, agent
        self._made = 0

    async def admit(self) -> str:
        self._made += 1
        call = f"call-{self._made}"
        started = ev.CallStarted(
            agent=self._agent, call=call, run=1, provider="anthropic", protocol="anthropic", model="mock"
        )
        await self._kernel.desk.admit(started, Asking(1_000, 1_000))
        return call

    async def settle(self, call: str) -> None:
        await self._kernel.desk.settle(
            ev.CallSettled(
                agent=self._agent, call=call, run=1, provider="anthropic", model="mock",
                usage=ev.Usage(output=1_000), cost_usd=0.01,
            )
        )  # fmt: skip

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Callable[[], str]]:
        """One that waits; tells how it ended."""
        ended = ""

        async def ask() -> None:
            nonlocal ended
            try:
                call = await self.admit()
            except Refused as refused:
                ended = refused.kind
            else:
                await self.settle(call)
                ended = "through"

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            yield lambda: ended
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def screen(client: KernelClient) -> AsyncIterator[tuple[AgentTopApp, Pilot[int]]]:
    async def connect() -> KernelClient:
        return client

    app = AgentTopApp(connect, environ=TERMINAL)
    async with app.run_test(size=(120, 34)) as pilot:
        await shows(pilot, "worker")
        yield app, pilot


async def answered(app: AgentTopApp, pilot: Pilot[int]) -> None:
    await until(pilot, lambda: isinstance(app.screen, FleetScreen))
    await pilot.press("escape")


async def test_held_calls_are_answered_from_the_screen(home: Path) -> None:
    async with running(home) as (kernel, client, agent):
        calls = Calls(kernel, agent)
        await calls.settle(await calls.admit())
        limit = Budget(name="small", scope="agent", target="worker", usd=Decimal("0.015"), window="day")
        await client.set_budget(BudgetRequest(budget=limit))
        async with screen(client) as (app, pilot):
            async with calls.held() as ended:
                await shows(pilot, "Need you:  1", "worker asks you: budget")
                await pilot.press("exclamation_mark")
                shown = await shows(
                    pilot, "worker waits: budget", "at most 0.011", "limit 0.0150", "left 0.005"
                )
                assert "Extend by" in shown
                await pilot.press("1")
                await until(pilot, lambda: ended() == "through")
            await answered(app, pilot)
            async with calls.held() as ended:
                await shows(pilot, "Need you:  1")
                await pilot.press("A")
                await shows(pilot, "worker waits: budget", "Extend by")
                await pilot.press("right", "enter")
                await until(pilot, lambda: ended() == "through")
            await answered(app, pilot)
            await pilot.press("5")
            await shows(pilot, "small", "Burn-down  small: agent worker, today")
            await pilot.press("minus", "ctrl+u", *typed("0.01"), "enter")
            await until(pilot, lambda: any(toast.title == "Budget small cut" for toast in app.toasts))
            async with calls.held() as ended:
                await until(pilot, lambda: app.screen.infos[0].held == 1)  # type: ignore[attr-defined]
                await pilot.press("enter")
                await shows(pilot, "worker waits: budget")
                await pilot.press("n")
                await until(pilot, lambda: bool(ended()))
                assert ended() != "through"


async def test_the_kill_switch_holds_and_freezes_for_real_and_lets_go_again(home: Path) -> None:
    async with running(home) as (kernel, client, agent):
        calls = Calls(kernel, agent)
        async with screen(client) as (app, pilot):
            await pilot.press("ctrl+f")
            await shows(pilot, "freeze 1 agent")
            await pilot.press("enter")
            await shows(pilot, "no call leaves any more", "1 agent frozen", "worker")
            await pilot.press("escape")
            await shows(pilot, "HALTED")
            frozen = (await client.inspect(agent)).info.frozen
            assert frozen is not None
            assert frozen[0] == frozen[1] > 0
            async with calls.held() as ended:
                await pilot.press("ctrl+f", "enter")
                await shows(pilot, "1 agent running again")
                await until(pilot, lambda: ended() == "through")
            await pilot.press("escape")
            await until(pilot, lambda: "HALTED" not in text(app))
