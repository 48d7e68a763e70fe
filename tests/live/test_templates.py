"""Every template whose program is here, through a real kernel: headless, and in a terminal with a person.

What is booked is what the provider billed, to the token, and nobody's own settings are touched.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.agents.states import State
from agenttop.core.api import AgentInfo, PauseRequest, Target
from agenttop.tui.demo.provider import Entry

from ..conftest import THOROUGH, missing
from .agent_clis import look_for
from .managed import KEY, House, agrees, is_sane, open_house

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]

#: Twenty times as fast as life: replies still come event by event.
SPEED = 20.0

#: Seconds until a program has started and answered: OpenCode's screen takes 30 on two busy cores.
PATIENCE = 120


@dataclass(frozen=True)
class Case:
    """A template; the model is the test's where the program would otherwise ask one for a model.

    Attributes:
        template: Its name, which is the program's.
        protocol: What its calls speak.
        model: The model it is told to take.
        environ: What keeps it from fetching things in the background.
        greets: What its terminal shows when it can be told something; empty: it is told at its start.
        leaves: What it keeps in a person's home besides caches that all have.
        caches: The variable of a folder that all its tests may share: it unpacks 235 MB into a new one.
    """

    template: str
    protocol: str
    model: str | None = None
    environ: tuple[tuple[str, str], ...] = ()
    greets: bytes = b""
    leaves: tuple[str, ...] = ()
    caches: str = ""


CASES = (
    Case("claude", "anthropic"),
    Case("codex", "openai", "gpt-5.1"),
    Case("gemini", "gemini", "gemini-2.5-pro"),
    Case("opencode", "openai", environ=(("npm_config_offline", "true"),)),
    Case("qwen", "openai"),
    Case("copilot", "openai", caches="XDG_CACHE_HOME"),
    # Its home of caches cannot be moved.
    Case("aider", "openai", greets=b"> ", leaves=(".aider",)),
)


def of(*cases: Case) -> pytest.MarkDecorator:
    """One test for each of these programs."""
    return pytest.mark.parametrize(
        "case",
        [pytest.param(case, id=case.template, marks=getattr(pytest.mark, case.template)) for case in cases],
    )


of_each = of(*CASES)
of_some = of(*(CASES if THOROUGH else CASES[:4]))


def person(case: Case, folder: Path, *more: str) -> dict[str, str]:
    """The environment of somebody who has this program, and ``more``, with a home of their own."""
    path, problem = look_for(case.template)
    if problem:
        missing(case.template, problem)
    for program in more:
        if shutil.which(program) is None:
            missing(program, "it is not on the PATH")
    for name in ("work", "tmp"):
        (folder / name).mkdir(parents=True)
    if case.greets:  # else it asks first whether it is to make one, and to add its files to what it ignores
        subprocess.run(["git", "init", "-q", str(folder / "work")], check=True)
        (folder / "work" / ".gitignore").write_text(".aider*\n")
    shared = {case.caches: str(folder.parents[1] / "caches")} if case.caches else {}
    return {"PATH": path, "HOME": str(folder), "TMPDIR": str(folder / "tmp"), **dict(case.environ), **shared}


def asked(case: Case, folder: Path, prompt: str | None, **more: object) -> AgentSpec:
    return AgentSpec.model_validate(
        {
            "name": case.template,
            "template": case.template,
            "prompt": prompt,
            "model": case.model,
            "cwd": str(folder / "work"),
            **more,
        }
    )


def context(entry: Entry) -> int:
    """How many tokens a call sent."""
    usage = entry.usage
    return usage.input + usage.cache_read + usage.cache_write_5m + usage.cache_write_1h


def settings_of(folder: Path) -> set[str]:
    """What is in somebody's home, but for caches."""
    return {path.name for path in folder.iterdir()} - {"work", "tmp", ".cache", ".npm", ".bun", ".node-gyp"}


@of_each
async def test_a_headless_agent_is_booked_to_the_token_and_leaves_a_persons_settings_alone(
    case: Case, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "person"
    environ = person(case, folder)
    async with open_house(home, SPEED) as house:
        started = await house.start(asked(case, folder, "say hi with a tool [[mock:output=40]]"), environ)
        ended = await house.ended(started.id)
        assert ended.info.exit_code == 0, ended.explain()
        agrees(house, ended)
        is_sane(ended)
        assert {call.protocol for call in ended.started} == {case.protocol}
        assert {entry.status for entry in house.mock.truth.entries} == {200}
    assert KEY not in ended.out + ended.err
    assert settings_of(folder) <= {".config", ".local", ".bun", *case.leaves}, settings_of(folder)


@of_some
async def test_a_restarted_agent_goes_on_with_its_conversation(
    case: Case, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "person"
    environ = person(case, folder)
    async with open_house(home, SPEED) as house:
        prompt = "Remember the word heron. [[mock:tools=none output=400]]"
        started = await house.start(asked(case, folder, prompt), environ)
        assert (await house.ended(started.id)).info.exit_code == 0
        before = max(map(context, house.mock.truth.entries))
        count = len(house.mock.truth.entries)
        (outcome,) = await house.client.restart(Target(refs=[started.id]))
        assert outcome.error is None, outcome
        ended = await house.ended(started.id)
        assert (ended.info.run, ended.info.exit_code) == (2, 0), ended.explain()
        agrees(house, ended)
        # What it sends is what was said before, and more; alone, what it is told now would be less.
        again = max(map(context, house.mock.truth.entries[count:]))
    assert again > before


@of_each
@pytest.mark.tmux
async def test_in_a_terminal_it_answers_what_it_is_told_and_what_is_typed(
    case: Case, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "person"
    environ = person(case, folder, "tmux")
    async with open_house(home, SPEED) as house:
        prompt = "say hi [[mock:output=40 tools=none]]"
        started = await told(house, case, folder, environ, prompt)
        first = await answered(house, started.id, 1)
        await typed(house, started.id, b"and again [[mock:output=30 tools=none]]")
        await answered(house, started.id, first + 1)
        total = house.mock.truth.total()
        (info,) = [agent for agent in await house.client.agents() if agent.id == started.id]
        assert info.tokens.output == total.output > 0
        assert info.tokens.input == total.input
        assert info.state in (State.IDLE, State.WAITING)


@of_some
@pytest.mark.tmux
async def test_frozen_in_the_middle_of_an_answer_it_shows_nothing_more_until_it_is_resumed(
    case: Case, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "person"
    environ = person(case, folder, "tmux")
    async with open_house(home, 1.0) as house:
        prompt = "tell a story [[mock:output=300 tools=none]]"
        started = await told(house, case, folder, environ, prompt)
        with anyio.fail_after(PATIENCE):
            while not any(entry.events_sent > 3 for entry in house.mock.truth.entries):
                await anyio.sleep(0.02)
        (outcome,) = await house.client.pause(PauseRequest(refs=[started.id]))
        assert outcome.error is None, outcome
        await anyio.sleep(0.3)  # what it had printed is still on its way to the file
        before = await printed(house, started.id)
        await anyio.sleep(1)
        assert await printed(house, started.id) == before
        assert house.mock.truth.total().output < 300, "it was not frozen in the middle"
        (outcome,) = await house.client.resume(Target(refs=[started.id]))
        assert outcome.error is None, outcome
        await answered(house, started.id, 1)
        assert await printed(house, started.id) > before
        (info,) = [agent for agent in await house.client.agents() if agent.id == started.id]
        assert info.tokens.output == house.mock.truth.total().output > 0


async def told(house: House, case: Case, folder: Path, environ: dict[str, str], prompt: str) -> AgentInfo:
    """An agent in a terminal that was told this: at its start, or typed where it takes nothing there."""
    first = None if case.greets else prompt
    started = await house.start(asked(case, folder, first, backend="terminal", stop_grace=5), environ)
    if case.greets:
        with anyio.fail_after(PATIENCE):
            while case.greets not in b"".join([c.data async for c in house.client.output(started.id)]):
                await anyio.sleep(0.05)
        await typed(house, started.id, prompt.encode())
    return started


async def typed(house: House, agent: str, text: bytes) -> None:
    """A person types, and only then presses the key that sends it."""
    await house.client.write(agent, text)
    await anyio.sleep(0.5)
    await house.client.write(agent, b"\r")


async def printed(house: House, agent: str) -> int:
    """How much its terminal has been given."""
    return sum([len(chunk.data) async for chunk in house.client.output(agent)])


async def answered(house: House, agent: str, calls: int) -> int:
    """Wait until this many calls were answered and booked, and none is going on; how many there are."""
    try:
        with anyio.fail_after(PATIENCE):
            while True:
                (info,) = [one for one in await house.client.agents(all=True) if one.id == agent]
                entries = [entry for entry in house.mock.truth.entries if entry.outcome == "complete"]
                if len(entries) >= calls and info.calls == len(entries) and info.state != State.PLANNING:
                    return len(entries)
                assert info.exit_code is None, "it ended"
                await anyio.sleep(0.1)
    except (TimeoutError, AssertionError) as error:
        said = b"".join([chunk.data async for chunk in house.client.output(agent)])
        raise AssertionError(f"{error!r}: {said[-3000:].decode('utf-8', 'replace')!r}") from error
