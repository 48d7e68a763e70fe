"""Real coding agents, and the official Python clients, as agents of a real kernel: what is booked is what
the provider billed, to the token."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.agents.states import State
from agenttop.core.journal.events import RequestPassed
from agenttop.tui.demo.provider import Entry

from .agent_clis import CLIS, Cli, of_each
from .managed import KEY, agrees, is_sane, open_house

pytestmark = pytest.mark.anyio

#: Twenty times as fast as life: replies still come event by event.
SPEED = 20.0

CLIENTS = Path(__file__).with_name("official_clients.py")


@of_each(*CLIS)
async def test_a_turn_with_a_tool_is_booked_to_the_token(
    cli: Cli, search_path: str, home: Path, tmp_path: Path
) -> None:
    person = tmp_path / "person"
    async with open_house(home, SPEED) as house:
        spec = cli.spec("say hi with a tool [[mock:output=40]]", person)
        started = await house.start(spec, cli.environ(search_path, person))
        ended = await house.ended(started.id)
        assert ended.info.exit_code == 0, ended.explain()
        agrees(house, ended)
        is_sane(ended)
        truth = house.mock.truth.entries
    assert {entry.status for entry in truth} == {200}
    assert {entry.outcome for entry in truth} == {"complete"}
    # It asked for a tool and came back with what that said: no state was skipped on the way.
    assert [len(entry.tools) for entry in truth if entry.model == ended.info.model] == [1, 0]
    assert truth[-1].usage.cache_read > 5_000, "the second call reads what the first wrote"
    assert State.EXECUTING in _between(ended.states(), State.PLANNING)
    assert ended.states()[-2:] == [State.IDLE, State.TERMINATED]
    assert {call.protocol for call in ended.started} == {cli.protocol}
    assert KEY not in ended.out + ended.err


def _between(states: list[State], edge: State) -> list[State]:
    """The states between the first and the last ``edge``."""
    return states[states.index(edge) : len(states) - states[::-1].index(edge)]


async def test_the_official_clients_see_what_the_provider_said_and_the_books_have_it(
    home: Path, tmp_path: Path
) -> None:
    async with open_house(home, SPEED) as house:
        spec = AgentSpec(name="clients", command=[sys.executable, str(CLIENTS)], cwd=str(tmp_path))
        started = await house.start(spec, {"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
        ended = await house.ended(started.id)
        assert ended.info.exit_code == 0, ended.explain()
        agrees(house, ended)
        is_sane(ended)
        truth, other = house.mock.truth.entries, house.mock.truth.other
    said = [json.loads(line) for line in ended.out.splitlines()]
    assert [line["call"] for line in said] == [
        "messages",
        "messages, streamed",
        "responses",
        "responses, streamed",
        "chat",
        "chat, streamed, usage asked for",
        "chat, streamed",
    ]
    assert [line["tokens"] for line in said] == [*map(_tokens, truth[:-1]), None]
    assert [entry.stream for entry in truth] == ["streamed" in line["call"] for line in said]
    assert [call.stream for call in ended.started] == [entry.stream for entry in truth]
    assert sum(entry.usage.cache_read > 1_000 for entry in truth) >= 4
    # Counting tokens and listing models cost nothing and are no calls.
    assert other == {"POST count": 1, "GET models": 1}
    passed = [event.path for event, _ in ended.story if isinstance(event, RequestPassed)]
    assert passed == ["/v1/messages/count_tokens", "/v1/models"]


def _tokens(entry: Entry) -> dict[str, int]:
    usage = entry.usage
    return {
        "input": usage.input,
        "cache_read": usage.cache_read,
        "cache_write": usage.cache_write_5m + usage.cache_write_1h,
        "output": usage.output,
    }
