"""Agents' own programs use the kernel's tools: by MCP those that can, by the command those that have a shell.

What is asserted is what the kernel has afterwards, not what a program says it did.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import AgentInfo
from agenttop.core.api.bus import WATCH, BusWatchRequest, MessageRow
from agenttop.core.api.memory import BLOCKS, NOTES, BlocksRequest, NoteInfo, NotesRequest
from agenttop.core.streams import closing

from ..conftest import THOROUGH
from .managed import House, open_house
from .test_templates import CASES, SPEED, Case, asked, person

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(400)]

PATIENCE = 240
BY_MCP = {case.template: case for case in CASES if case.template != "aider"}
OTHERS = [
    pytest.param(BY_MCP[name], id=name, marks=getattr(pytest.mark, name)) for name in ("qwen", "copilot")
]
RING = ("opencode", "gemini", "codex", "claude")
"""Each sends to the one before it, the first to the last: the slowest to start is the first."""


def use(tool: str, **arguments: object) -> str:
    """One word of a script: this tool, with these arguments."""
    told = "&".join(f"{name}={quote_plus(str(value))}" for name, value in arguments.items())
    return f"use={tool}?{told}" if told else f"use={tool}"


def script(case: Case, *words: str) -> str:
    """A prompt that makes the model use these tools, one after the other."""
    if case.template == "qwen":  # it keeps tools of servers from its model until that searches for them
        names = dict.fromkeys(word.removeprefix("use=").partition("?")[0] for word in words)
        chosen = ",".join(f"mcp__agenttop__{name}" for name in names)
        words = (use("tool_search", query=f"select:{chosen}", max_results=20), *words)
    return f"go on [[mock:{' '.join(words)}]]"


async def messages(house: House) -> list[MessageRow]:
    """All that was sent."""
    async with closing(house.client.follow(WATCH, BusWatchRequest(rows=2_000))) as changes:
        async for change in changes:
            return list(change.rows)
    raise AssertionError("the bus shows nothing")


async def notes(house: House) -> dict[str, NoteInfo]:
    """All shared notes by key."""
    found = await house.client.call(NOTES, NotesRequest(namespace="shared"))
    return {note.key: note for note in found.notes}


async def block(house: House, agent: str, name: str) -> str:
    """What stands in a working block."""
    found = await house.client.call(BLOCKS, BlocksRequest(agent=agent))
    return {one.name: one.text for one in found}.get(name, "")


async def over(house: House, *agents: AgentInfo) -> None:
    """Wait until these have ended well."""
    for agent in agents:
        ended = await house.ended(agent.id, PATIENCE)
        assert ended.info.exit_code == 0, f"{agent.name}: {ended.explain()}"


def by_mcp(folder: Path, name: str) -> tuple[Case, Mapping[str, str]]:
    """A program, and the environment of a person who has it."""
    case = BY_MCP[name]
    return case, person(case, folder)


@pytest.mark.parametrize("case", OTHERS if THOROUGH else OTHERS[:1])
async def test_a_program_reads_mail_answers_and_remembers_by_mcp(
    case: Case, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "one" / "person"
    environ = person(case, folder)
    async with open_house(home, SPEED) as house:
        prompt = script(
            case,
            use("send", to="@me", text="I am here & ready", type="hello"),
            use("memory_write", block="plan", text="first the tests"),
            use("archive", key="how/we-test", text="with real programs"),
            use("memory_read", key="how/we-test"),
            use("progress", text="half", percent=50),
        )
        started = await house.start(asked(case, folder, prompt), environ)
        await over(house, started)
        (hello,) = await messages(house)
        assert (hello.sender, hello.type, hello.text) == (case.template, "hello", "I am here & ready")
        assert await block(house, started.id, "plan") == "first the tests"
        note = (await notes(house))["how/we-test"]
        assert (note.text, note.by, note.by_name, note.run) == (
            "with real programs", started.id, case.template, 1,
        )  # fmt: skip


@pytest.mark.claude
@pytest.mark.codex
@pytest.mark.gemini
@pytest.mark.opencode
async def test_four_programs_send_each_other_mail_in_a_ring(home: Path, tmp_path: Path) -> None:
    made = {name: by_mcp(tmp_path / name / "person", name) for name in RING}
    async with open_house(home, SPEED) as house:
        started: list[AgentInfo] = []
        for name in RING:
            case, environ = made[name]
            to = started[-1].name if started else ""
            receive = [use("inbox", wait=200), use("ack", ids="@message")]
            send = [use("send", to=to or "claude", text=f"from {name}", type="ring")]
            keep = [
                use("memory_write", block="ring", text=f"{name} was here"),
                use("archive", key=f"ring/{name}", text="@message"),
            ]
            # The last one begins: by then all are there.
            words = [*send, *receive, *keep] if name == RING[-1] else [*receive, *send, *keep]
            folder = tmp_path / name / "person"
            started.append(await house.start(asked(case, folder, script(case, *words)), environ))
        await over(house, *started)
        rows = await messages(house)
        pairs = {(row.sender, row.to) for row in rows if row.type == "ring"}
        assert pairs == {
            ("claude", "codex"), ("codex", "gemini"), ("gemini", "opencode"), ("opencode", "claude"),
        }  # fmt: skip
        assert {row.state for row in rows} == {"acked"}, rows
        read = {row.to: f"m{row.seq}" for row in rows}
        kept = await notes(house)
        for agent in started:
            assert await block(house, agent.id, "ring") == f"{agent.name} was here"
            note = kept[f"ring/{agent.name}"]
            assert (note.by, note.run, note.text) == (agent.id, 1, read[agent.name])


SHELL = """
set -e
agenttop inbox --wait 200 --limit 1 --json > mail.json
agenttop send "$1" "from $2" --type ring
agenttop mem write ring "$2 was here"
agenttop mem put "ring/$2" "$(cat mail.json)" --shared
"""


@pytest.mark.claude
async def test_a_plain_shell_does_the_same_with_the_command(home: Path, tmp_path: Path) -> None:
    case, environ = by_mcp(tmp_path / "claude" / "person", "claude")
    path = f"{os.path.dirname(sys.executable)}:/usr/bin:/bin"
    async with open_house(home, SPEED) as house:
        command = ["/bin/sh", "-c", SHELL, "sh", "claude", "shell"]
        spec = AgentSpec(name="shell", command=command, cwd=str(tmp_path))
        shell = await house.start(spec, {"PATH": path, "HOME": str(tmp_path)})
        words = [
            use("send", to="shell", text="from claude", type="ring"),
            use("inbox", wait=200),
            use("ack", ids="@message"),
            use("memory_read", key="ring/shell"),
        ]
        folder = tmp_path / "claude" / "person"
        claude = await house.start(asked(case, folder, script(case, *words)), environ)
        await over(house, shell, claude)
        rows = await messages(house)
        assert [(row.sender, row.to, row.text) for row in rows] == [
            ("claude", "shell", "from claude"),
            ("shell", "claude", "from shell"),
        ]
        assert {row.state for row in rows} == {"acked"}, rows
        assert await block(house, shell.id, "ring") == "shell was here"
        note = (await notes(house))["ring/shell"]
        assert (note.by, note.by_name, note.run) == (shell.id, "shell", 1)
        assert "from claude" in note.text
