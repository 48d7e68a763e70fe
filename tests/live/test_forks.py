"""Forks with real CLIs: their calls carry what was said before, and the original goes on without it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from agenttop.core.api import ForkRequest, Target
from agenttop.core.errors import Conflict
from agenttop.tui.demo.provider import MockProvider

from ..conftest import THOROUGH
from .managed import House, open_house
from .test_templates import CASES, SPEED, Case, answered, asked, of, person

pytestmark = pytest.mark.anyio

#: Those whose templates can.
CAN = ("claude", "codex", "gemini", "opencode", "qwen")
#: Those that start soon enough to be started four times.
WHOLE = ("claude", "codex")

FIRST = "Remember the word heron. [[mock:tools=none output=60]]"
SECOND = "Which word was it, ostrich? [[mock:tools=none output=40]]"
THIRD = "And now say lark. [[mock:tools=none output=40]]"


class Listening(MockProvider):
    """Keeps what it is asked."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.heard: list[str] = []

    async def _handle(self, request: Any, exchange: Any) -> None:
        if request.method == "POST":
            self.heard.append(request.body.decode("utf-8", "replace"))
        await super()._handle(request, exchange)


def heard(house: House) -> list[str]:
    assert isinstance(house.mock, Listening)
    return house.mock.heard


def files(folder: Path) -> dict[str, bytes]:
    """What an agent's folder holds of conversations."""
    found = [*folder.rglob("*.jsonl")]
    return {str(file): file.read_bytes() for file in found if not file.is_symlink()}


@of(*(case for case in CASES if case.template in CAN and (THOROUGH or case in CASES[:2])))
async def test_a_fork_begins_in_a_copy_of_the_conversation_and_the_original_goes_on_without_it(
    case: Case, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "person"
    environ = person(case, folder)
    async with open_house(home, SPEED, Listening) as house:
        original = await house.start(asked(case, folder, FIRST), environ)
        assert (await house.ended(original.id)).info.exit_code == 0
        before = files(Path((await house.client.inspect(original.id)).folder))
        count = len(heard(house))
        fork = await house.client.fork(ForkRequest(ref=original.id, prompt=SECOND))
        ended = await house.ended(fork.id)
        assert ended.info.exit_code == 0, ended.explain()
        assert (fork.name, fork.parent, fork.forked_from) == (f"{case.template}-2", original.id, original.id)
        theirs = [body for body in heard(house)[count:] if "ostrich" in body]
        assert theirs
        assert any("heron" in body for body in theirs), "what was said before is not in its calls"
        assert files(Path((await house.client.inspect(original.id)).folder)) == before
        if case.template not in WHOLE:
            return
        # The fork goes on with its own conversation, the original with its own.
        count = len(heard(house))
        (outcome,) = await house.client.restart(Target(refs=[fork.id]))
        assert outcome.error is None, outcome
        assert (await house.ended(fork.id)).info.exit_code == 0
        assert any("ostrich" in body and "heron" in body for body in heard(house)[count:])
        count = len(heard(house))
        (outcome,) = await house.client.restart(Target(refs=[original.id]))
        assert outcome.error is None, outcome
        assert (await house.ended(original.id)).info.exit_code == 0
        again = heard(house)[count:]
        assert any("heron" in body for body in again)
        assert not any("ostrich" in body for body in again)


@pytest.mark.claude
@pytest.mark.tmux
async def test_a_fork_in_a_terminal_waits_for_its_person_or_does_what_it_is_told(
    home: Path, tmp_path: Path
) -> None:
    case = CASES[0]
    folder = tmp_path / "person"
    environ = person(case, folder, "tmux")
    async with open_house(home, SPEED, Listening) as house:
        original = await house.start(asked(case, folder, FIRST, backend="terminal", stop_grace=5), environ)
        await answered(house, original.id, 1)
        await until_waiting(house, original.id)
        quiet = await house.client.fork(ForkRequest(ref=original.id, name="quiet"))
        await until_waiting(house, quiet.id)
        told = await house.client.fork(ForkRequest(ref=original.id, name="told", prompt=SECOND))
        with anyio.fail_after(60):
            while not any("ostrich" in body and "heron" in body for body in heard(house)):
                await anyio.sleep(0.05)
        await until_waiting(house, told.id)
        await house.client.write(quiet.id, THIRD.encode())
        await anyio.sleep(0.5)  # as a person: what is pasted together with the key is not sent
        await house.client.write(quiet.id, b"\r")
        with anyio.fail_after(60):
            while not any("lark" in body and "heron" in body for body in heard(house)):
                await anyio.sleep(0.05)
        await until_waiting(house, quiet.id)
        assert not any("lark" in body and "ostrich" in body for body in heard(house))


async def until_waiting(house: House, agent: str) -> None:
    """Wait until an agent waits for its person."""
    with anyio.fail_after(60):
        while True:
            (info,) = [one for one in await house.client.agents(all=True) if one.id == agent]
            if (info.state, info.reason) == ("waiting", "input"):
                return
            assert info.exit_code is None, await house.ended(agent)
            await anyio.sleep(0.05)


@pytest.mark.claude
async def test_a_crash_that_the_policy_restarts_goes_on_with_the_conversation(
    home: Path, tmp_path: Path
) -> None:
    case = CASES[0]
    folder = tmp_path / "person"
    environ = person(case, folder)
    policy = {"policy": "on-failure", "backoff": 0.1, "max_restarts": 3}
    async with open_house(home, SPEED, Listening) as house:
        # It answers at once and is killed while it waits for the second answer, which never ends.
        prompt = "Remember the word heron. [[mock:output=4000 tools=none]]"
        started = await house.start(asked(case, folder, prompt, restart=policy), environ)
        with anyio.fail_after(60):
            while not any(entry.events_sent > 3 for entry in house.mock.truth.entries):
                await anyio.sleep(0.02)
        kept = Path((await house.client.inspect(started.id)).folder)
        with anyio.fail_after(60):
            while not any("heron" in text.decode() for text in files(kept / "claude").values()):
                await anyio.sleep(0.02)
        pid = (await house.client.inspect(started.id)).info.pid
        assert pid is not None
        count = len(heard(house))
        from agenttop.core.api import SignalRequest

        await house.client.signal(SignalRequest(refs=[started.id], signal=9))
        with anyio.fail_after(60):
            while not any("Go on where you were stopped" in body for body in heard(house)[count:]):
                await anyio.sleep(0.05)
        assert any("heron" in body for body in heard(house)[count:])
        (info,) = [one for one in await house.client.agents() if one.id == started.id]
        assert info.run == 2
        assert os.path.exists(f"/proc/{info.pid}")


@pytest.mark.claude
async def test_what_has_said_nothing_yet_cannot_be_forked(home: Path, tmp_path: Path) -> None:
    case = CASES[0]
    folder = tmp_path / "person"
    environ = person(case, folder)
    async with open_house(home, SPEED, Listening) as house:
        silent = asked(case, folder, FIRST, command=["sleep", "60"])
        started = await house.start(silent, environ)
        with pytest.raises(Conflict, match="cannot be forked"):
            await house.client.fork(ForkRequest(ref=started.id, prompt=SECOND))
