"""A kernel of the test's own before a mock provider, a program as its agent, and what became of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import anyio

from agenttop.core.agents.agent import Fleet
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.agents.states import TRANSITIONS, State
from agenttop.core.api import AgentInfo, RunRequest
from agenttop.core.client import KernelClient
from agenttop.core.connect import connect
from agenttop.core.journal.events import CallSettled, CallStarted, Event, Usage
from agenttop.core.journal.fold import apply
from agenttop.core.journal.replay import Reader
from agenttop.core.paths import Paths
from agenttop.tui.demo.cleanup import clean, record_cgroups
from agenttop.tui.demo.provider import INSTANT, MockProvider

KEY = "the-providers-own-key"
PROTOCOLS = ("anthropic", "openai", "gemini")


@dataclass
class House:
    """A kernel that forwards everything to a mock provider."""

    home: Path
    client: KernelClient
    mock: MockProvider

    async def start(self, spec: AgentSpec, environ: Mapping[str, str]) -> AgentInfo:
        """Start an agent, and note its cgroup so that it can be removed whatever happens."""
        started = await self.client.run(RunRequest(spec=spec, environ=dict(environ)))
        await anyio.to_thread.run_sync(record_cgroups, self.home)
        return started

    async def ended(self, agent: str, seconds: float = 90) -> Ended:
        """What became of an agent that ends by itself."""
        with anyio.fail_after(seconds):
            (info,) = await self.client.wait([agent])
        chunks = [chunk async for chunk in self.client.output(agent)]
        said = {stream: b"".join(c.data for c in chunks if c.stream == stream) for stream in ("out", "err")}
        story = await self._story(agent)
        return Ended(info, said["out"].decode(), said["err"].decode(), story)

    async def _story(self, agent: str) -> list[tuple[Event, State]]:
        """Every event of the agent from the journal, and the state the fold has it in after that."""
        reader = Reader(Paths.from_environ({"AGENTTOP_HOME": str(self.home)}).journal)
        fleet = Fleet()
        story: list[tuple[Event, State]] = []
        try:
            async for chunk in reader.events():
                for record, event in chunk:
                    assert event is not None, record.kind
                    apply(fleet, record.seq, event, record.ts)
                    if record.agent == agent:
                        story.append((event, fleet.agents[agent].state))
        finally:
            reader.close()
        return story

    def truth(self) -> list[Usage]:
        """What each call to the provider used, by the provider's own books."""
        return sorted(Usage(*entry.usage) for entry in self.mock.truth.entries)


@dataclass
class Ended:
    """An agent that has ended: what it said, and its story event by event."""

    info: AgentInfo
    out: str
    err: str
    story: list[tuple[Event, State]]

    @property
    def started(self) -> list[CallStarted]:
        """The calls it made, refused ones too."""
        return [event for event, _ in self.story if isinstance(event, CallStarted)]

    @property
    def settled(self) -> list[CallSettled]:
        """How its calls ended."""
        return [event for event, _ in self.story if isinstance(event, CallSettled)]

    def states(self) -> list[State]:
        """The states it went through, from its creation on."""
        states = [state for _, state in self.story]
        return [state for n, state in enumerate(states) if n == 0 or states[n - 1] != state]

    def explain(self) -> str:
        """For a failure: the end of what it said."""
        return f"exit {self.info.exit_code}\n--- out\n{self.out[-2000:]}\n--- err\n{self.err[-2000:]}"


def agrees(house: House, ended: Ended, refused: int = 0) -> None:
    """Assert that the agent's meter, its calls one by one and the provider's books are one, to the token.

    Args:
        refused: So many of its calls did not get to the provider.
    """
    total = house.mock.truth.total()
    assert ended.info.tokens.model_dump() == {
        "input": total.input,
        "cache_read": total.cache_read,
        "cache_write": total.cache_write_5m + total.cache_write_1h,
        "output": total.output,
    }, ended.explain()
    assert total.output > 0
    forwarded = [call for call in ended.settled if call.outcome != "refused"]
    assert sorted(call.usage for call in forwarded) == house.truth()
    assert all(call.exact and call.outcome == "ok" for call in forwarded), forwarded
    assert len(ended.settled) == len(forwarded) + refused
    assert ended.info.cost_exact


def is_sane(ended: Ended, *, waited: bool = False) -> None:
    """Assert that every call was settled once and that the states followed the table to the end.

    Args:
        waited: A call of it was held.
    """
    assert sorted(call.call for call in ended.started) == sorted(call.call for call in ended.settled)
    states = ended.states()
    assert states[0] == State.INITIALIZING
    assert states[-1] == State.TERMINATED
    assert states.count(State.TERMINATED) == 1
    assert all(new in TRANSITIONS[old] for old, new in pairwise(states)), states
    assert (State.WAITING in states) == waited
    for event, state in ended.story:
        assert not isinstance(event, CallStarted) or state == State.PLANNING


@asynccontextmanager
async def open_house(
    home: Path, speed: float = INSTANT, provider: type[MockProvider] = MockProvider
) -> AsyncIterator[House]:
    """A kernel with the mock, ``speed`` times as fast as life, as every provider; gone afterwards, agents and
    all."""
    home.mkdir()
    key = home / "key"
    key.touch(mode=0o600)
    key.write_text(KEY)
    async with provider(speed=speed, key=KEY) as mock:
        (home / "config.toml").write_text(
            "".join(f'[providers.{name}]\nbase_url = "{mock.url}"\nkey_file = "key"\n' for name in PROTOCOLS)
        )
        try:
            async with await connect(Paths.from_environ({"AGENTTOP_HOME": str(home)})) as client:
                yield House(home, client, mock)
        finally:
            with anyio.CancelScope(shield=True):
                assert await anyio.to_thread.run_sync(clean, home, None) == []
