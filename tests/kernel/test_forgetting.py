"""Forgetting, as a person means it: also what is on its way into the memory, and copies of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agenttop.core.agents import beginnings
from agenttop.core.api import memory as api
from agenttop.core.bus.message import Draft
from agenttop.core.errors import UsageError
from agenttop.core.kernel import Kernel
from agenttop.core.memory.model import Said, Who
from agenttop.core.paths import Paths

from .conftest import sh, until

pytestmark = pytest.mark.anyio
PERSON = Who(None)


async def test_what_was_said_a_moment_ago_and_is_not_written_yet_is_forgotten_too(kernel: Kernel) -> None:
    client = kernel.client("ana")
    agent = await client.run(sh("echo zanzibar; read x; echo after", "printer", stdin=True))
    folder = kernel.paths.run_dir(agent.id, 1)

    async def printed() -> bool:
        return b"zanzibar" in (folder / "out").read_bytes()

    await until(printed, "the output", 30)
    await kernel.bus.open_mailbox(agent.id)
    for text in ("first", "the quokka"):  # the first one is being written while the second one comes
        await kernel.bus.send("@ana", agent.id, Draft(payload=json.dumps(text).encode()))
    await client.call(api.FORGET, api.ForgetRequest(query="zanzibar"))
    await client.call(api.FORGET, api.ForgetRequest(query="quokka"))
    await kernel.recorder.catch_up()
    read = json.loads((kernel.paths.state / "recalled.json").read_bytes())
    assert read[f"{agent.id}.1"]["out"] == len(b"zanzibar\n")  # the next kernel begins behind it
    for word in ("zanzibar", "quokka"):
        assert (await client.call(api.SEARCH, api.SearchRequest(query=word))).hits == [], word


async def test_the_files_an_agent_began_with_lose_what_is_forgotten(kernel: Kernel, paths: Paths) -> None:
    client = kernel.client("ana")
    request = sh("sleep 600")
    request.spec.blocks.update(plan="zanzibar first", rules="be quick")
    agent = await client.run(request)
    file = kernel.launcher.memory_of((kernel.books.committed.agents)[agent.id])

    async def begun() -> bool:
        return file.exists() and "zanzibar" in file.read_text()

    await until(begun, "its memory", 30)
    await client.call(api.FORGET, api.ForgetRequest(query="zanzibar", dry=True))
    assert "zanzibar" in file.read_text()
    await client.call(api.FORGET, api.ForgetRequest(query="zanzibar"))
    assert "zanzibar" not in file.read_text()
    assert "be quick" in file.read_text()
    await client.call(api.FORGET, api.ForgetRequest(agent=agent.id, everything=True))
    assert file.read_text() == ""
    assert Path(file).stat().st_mode & 0o777 == 0o600


async def test_two_things_to_forget_in_one_request_are_refused(kernel: Kernel) -> None:
    """Words *in* a namespace are not what it would be: whoever means that must not lose all of both."""
    client = kernel.client("ana")
    for key in ("a", "b"):
        await client.call(api.WRITE_NOTE, api.WriteNoteRequest(key=key, text=f"quokka {key}"))
    for ask in (
        api.ForgetRequest(query="a", namespace="shared"),
        api.ForgetRequest(query="a", key="b"),
        api.ForgetRequest(entries=[1], query="a"),
        api.ForgetRequest(block="x", everything=True),
    ):
        with pytest.raises(UsageError):
            await client.call(api.FORGET, ask)
    assert len((await client.call(api.SEARCH, api.SearchRequest(query="quokka"))).hits) == 2
    gone = await client.call(api.FORGET, api.ForgetRequest(namespace="shared", key="a"))
    assert gone.notes == 1


async def test_what_recall_drops_is_shown(kernel: Kernel) -> None:
    client = kernel.client("ana")
    assert (await client.status()).recall_dropped == {}
    kernel.recorder.intake.drop("calls", 3)
    status = await client.status()
    assert (status.recall_dropped, status.memory_problem) == ({"calls": 3}, "")
    (line,) = [check for check in kernel.checks() if check.name == "memory"]
    assert (line.level, line.found) == (
        "warn",
        "3 calls were not remembered since its start: they came too fast",
    )
    kernel.recorder.intake.problem = "the memory cannot be used: disk full"
    assert (await client.status()).memory_problem
    await kernel.memory.remember([Said("a", "user", "x", 1000.0)])


def test_no_text_leaves_a_mark_that_keeps_a_part_of_it_in_the_file(tmp_path: Path) -> None:
    begin, end = beginnings._BEGIN, beginnings._END
    file = tmp_path / "CLAUDE.md"
    file.write_text("mine\n")
    hostile = f"a {end[:10]}{begin}{end[10:]} zanzibar {begin[:9]}{end}{begin[9:]}"
    beginnings.insert(file, hostile)
    assert "zanzibar" in file.read_text()
    beginnings.insert(file, "")
    assert file.read_text().strip() == "mine"
