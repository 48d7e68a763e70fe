"""The screen over a canned fleet, at a fixed time, and what it shows as plain text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from textual.pilot import Pilot

from agenttop.core.api import KillPlan, Outcome, ProcessInfo, RunRequest, StopRequest, Target
from agenttop.core.backend import Chunk
from agenttop.core.client import KernelClient
from agenttop.core.clock import ManualClock
from agenttop.core.errors import AgentTopError
from agenttop.core.paths import Paths
from agenttop.tui.app import AgentTopApp

from ..support.sample import NOW, SampleClient

TERMINAL = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}

STEPS = [
    [NOW + 1.1, "TERM sent to 9 processes in 1 cgroup", "pid and start time checked for each", True],
    [NOW + 11.1, "KILL sent to 2", "5131 5132, python, ignored TERM", True],
    [NOW + 11.2, "cgroup.procs is empty", "0 survivors, 0 zombies", True],
]


class StageClient(SampleClient):
    """The sample with a kill that proves itself, output of any length, and refusals on request."""

    survivors: tuple[int, ...] = ()
    refusal: AgentTopError | None = None
    out: bytes = b""
    err: bytes = b""
    gate: asyncio.Event | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.gone = asyncio.Event()

    async def kill_plan(self, request: Target) -> KillPlan:
        refs = list(request.refs)
        if request.children:
            refs += [row.id for row in self.rows.values() if row.parent in refs]
        plan = await super().kill_plan(Target(refs=refs))
        other = ProcessInfo(pid=5190, ppid=1, state="S", cpu_seconds=1, memory=9, command="claude")
        more = {"b7e4": [other]}
        found = {key: more.get(key, processes) for key, processes in plan.processes.items()}
        return plan.model_copy(update={"processes": found, "containers": {"agenttop-b7e4-pg": "postgres:16"}})

    async def stop(self, request: StopRequest) -> list[Outcome]:
        outcomes = await super().stop(request)
        if self.gate is not None:
            await self.gate.wait()
        for outcome in outcomes:
            left = list(self.survivors)
            outcome.proof = {
                "processes": 9, "ended": 9 - len(left), "survivors": left, "mechanism": "cgroup2",
                "seconds": 10.4, "steps": STEPS,
            }  # fmt: skip
        return outcomes

    async def run(self, request: RunRequest) -> Any:
        if self.refusal is not None:
            raise self.refusal
        return await super().run(request)

    async def output(
        self, ref: str, *, follow: bool = False, run: int | None = None, tail: int | None = None
    ) -> AsyncIterator[Chunk]:
        self._alive()
        for stream, data in (("out", self.out), ("err", self.err)):
            start = max(0, len(data) - tail) if tail is not None else 0
            for at in range(start, len(data), 65_536):
                yield Chunk(stream, at, data[at : at + 65_536])  # type: ignore[arg-type]
        if follow:
            await self.gone.wait()
            self._alive()

    def fail(self) -> None:
        super().fail()
        self.gone.set()
        self.gone = asyncio.Event()


@asynccontextmanager
async def stage(
    client: KernelClient | None = None,
    size: tuple[int, int] = (120, 34),
    *,
    paths: Paths | None = None,
    theme: str | None = None,
    ascii: bool = False,
    press: Sequence[str] = (),
) -> AsyncIterator[tuple[AgentTopApp, Pilot[int]]]:
    """The running app with its first snapshot on screen."""
    one = client or StageClient()

    async def connect() -> KernelClient:
        if isinstance(one, SampleClient):
            one._alive()
        return one

    environ = TERMINAL if theme != "mono" else {**TERMINAL, "NO_COLOR": "1"}
    app = AgentTopApp(
        connect,
        paths=paths,
        ascii=ascii,
        theme=theme if theme != "mono" else None,
        clock=ManualClock(NOW),
        environ=environ,
    )
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.model.known)
        for key in press:
            await pilot.press(key)
        await pilot.pause()
        yield app, pilot


async def until(pilot: Pilot[int], true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Let the app run until something is so."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not true():
        assert asyncio.get_running_loop().time() < deadline, f"not so after {seconds} s:\n{text(pilot.app)}"
        await pilot.pause(0.02)
    await pilot.pause()


def text(app: Any) -> str:
    """What the screen on top shows, as text."""
    lines = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in lines)


async def shows(pilot: Pilot[int], *what: str) -> str:
    """Wait until all of these are on screen; gives the screen."""
    await until(pilot, lambda: all(part in text(pilot.app) for part in what))
    return text(pilot.app)


def typed(line: str) -> list[str]:
    """The keys that type a line."""
    names = {" ": "space", "-": "minus", ":": "colon", "/": "slash", ".": "full_stop", "'": "apostrophe"}
    return [names.get(char, char) for char in line]
