"""Forks in the kernel: what is copied, what the new agent is, what cannot be forked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import AgentInfo, ForkRequest, RunRequest, Target
from agenttop.core.client import KernelClient
from agenttop.core.errors import AgentTopError, BackendError, Conflict, NoSuchAgent, UsageError
from agenttop.core.journal import events as ev
from agenttop.core.kernel import Kernel
from agenttop.core.paths import Paths

from .conftest import ENVIRON, KernelMaker, sh, until, until_state

pytestmark = pytest.mark.anyio

SESSION = "s-1"

#: Writes its turns where a client keeps them, and says what it was told and what it knows.
SCRIPT = """
folder="$NOTES/$(pwd -P | tr -c 'A-Za-z0-9\\n' -)"; mkdir -p "$folder"; file="$folder/s-1.jsonl"
echo "args: $*"; echo "secret: $MINE"
if [ -e "$file" ]; then echo "knows: $(cat "$file")"; fi
echo "{\\"told\\": \\"$*\\"}" >> "$file"
sleep 600
"""

TEMPLATE = f"""
title = "Noter"
programs = ["sh"]
prompt = "argument"
needs_prompt = true
command = ["{{program}}", "-c", '''{SCRIPT}''', "noter"]
prompt_arguments = ["--told", "{{prompt}}"]
resume_arguments = ["--resume", "{{session}}"]
fork_arguments = ["--fork", "{{session}}"]

[own]
NOTES = "{{folder}}/notes"

[conversation]
"notes/*/{{session}}.jsonl" = "notes/{{project}}"
"""


@pytest.fixture(autouse=True)
def noter(paths: Paths) -> None:
    paths.templates.mkdir(parents=True, exist_ok=True)
    (paths.templates / "noter.toml").write_text(TEMPLATE)
    (paths.templates / "mute.toml").write_text('title = "Mute"\nprograms = ["sh"]\ncommand = ["{program}"]\n')


async def start(client: KernelClient, name: str = "first", **spec: Any) -> AgentInfo:
    fields = {"template": "noter", "prompt": "one", "cwd": "/tmp", "env": {"MINE": "heron"}, **spec}
    return await client.run(RunRequest(spec=AgentSpec(name=name, **fields), environ=ENVIRON))


async def calls(kernel: Kernel, agent: str, session: str = SESSION, run: int = 1) -> None:
    """Let it have made a call, by which its conversation is known."""
    call = {"agent": agent, "call": f"{agent}.{run}", "run": run, "provider": "anthropic"}
    client = {"session": session}
    await kernel.books.commit(ev.CallStarted.model_validate({**call, "protocol": "x", "client": client}))
    await kernel.books.commit(ev.CallSettled.model_validate({**call, "stop_reason": "end_turn"}))


async def said(client: KernelClient, ref: str) -> str:
    return b"".join([chunk.data async for chunk in client.output(ref)]).decode()


async def until_said(client: KernelClient, ref: str, text: str) -> str:
    async def look() -> str:
        whole = await said(client, ref)
        return whole if text in whole else ""

    found: str = await until(look, f"{ref} saying {text!r}", 30)
    return found


async def test_a_fork_is_the_other_told_something_else_in_a_copy_of_its_conversation(
    kernel: Kernel, client: KernelClient
) -> None:
    first = await start(client, budget="$5/day", labels={"team": "web"}, nice=3)
    await until_said(client, "first", "secret: heron")
    await calls(kernel, first.id)
    fork = await client.fork(ForkRequest(ref="first", prompt="two"))
    assert (fork.name, fork.parent, fork.forked_from) == ("first-2", first.id, first.id)
    assert (fork.task, fork.labels, fork.nice) == ("two", {"team": "web"}, 3)
    whole = await until_said(client, fork.id, "knows: ")
    assert "args: --fork s-1 --told two" in whole
    assert "secret: heron" in whole
    assert 'knows: {"told": "--told one"}' in whole
    assert [budget.budget.target for budget in await client.budgets()] == [first.id]
    detail = await client.inspect("first")
    assert detail.info.state == "idle"
    (notes,) = Path(detail.folder).rglob("s-1.jsonl")
    assert notes.read_text() == '{"told": "--told one"}\n'
    assert detail.info.run == 1


async def test_a_fork_of_a_fork_and_its_restart_go_on_with_their_own(
    kernel: Kernel, client: KernelClient
) -> None:
    first = await start(client)
    await until_said(client, "first", "secret: heron")
    await calls(kernel, first.id)
    second = await client.fork(ForkRequest(ref="first", name="second", prompt="two"))
    await until_said(client, "second", "knows: ")
    # Restarted before its first call it begins in the copy again, afterwards it goes on with its own.
    (outcome,) = await client.restart(Target(refs=["second"]))
    assert outcome.error is None, outcome
    assert "args: --fork s-1 --told two" in await until_said(client, "second", "knows: ")
    await calls(kernel, second.id, run=2)
    third = await client.fork(ForkRequest(ref="second", name="third", prompt="three"))
    assert third.forked_from == second.id
    whole = await until_said(client, "third", "knows: ")
    assert '"--told one"' in whole
    assert '"--fork s-1 --told two"' in whole
    (outcome,) = await client.restart(Target(refs=["second"]))
    assert outcome.error is None, outcome
    assert "args: --resume s-1 --told Go on" in await until_said(client, "second", "knows: ")


async def test_a_fork_of_an_agent_that_has_ended_works_too(kernel: Kernel, client: KernelClient) -> None:
    from agenttop.core.api import StopRequest

    first = await start(client)
    await until_said(client, "first", "secret: heron")
    await calls(kernel, first.id)
    await client.stop(StopRequest(refs=["first"], how="kill"))
    await until_state(client, "first", "terminated")
    fork = await client.fork(ForkRequest(ref="first", prompt="two"))
    await until_said(client, fork.id, 'knows: {"told": "--told one"}')


async def test_a_fork_that_was_written_down_and_not_started_is_started_as_one_by_the_next_kernel(
    kernels: KernelMaker,
) -> None:
    async with kernels(leave=True) as kernel:
        client = kernel.client()
        first = await start(client)
        await until_said(client, "first", "secret: heron")
        await calls(kernel, first.id)
        written = anyio.Event()

        async def cut(ids: Sequence[str]) -> list[AgentTopError | None]:
            written.set()
            await anyio.sleep_forever()
            return []

        kernel.creation._start_created = cut  # type: ignore[method-assign]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kernel.forking.fork, ForkRequest(ref="first", prompt="two"), "ana")
            await written.wait()
            tasks.cancel_scope.cancel()
    async with kernels() as kernel:
        whole = await until_said(kernel.client(), "first-2", "knows: ")
        assert "args: --fork s-1 --told two" in whole


async def test_a_fork_of_a_worktree_agent_has_a_worktree_of_its_own_and_knows_the_conversation(
    kernel: Kernel, client: KernelClient, tmp_path: Path
) -> None:
    repository = tmp_path / "shop"
    repository.mkdir()
    git = ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "begin"]):
        await anyio.run_process([*git, *words])
    first = await start(client, cwd=str(repository), worktree=True)
    await until_said(client, "first", "secret: heron")
    await calls(kernel, first.id)
    # A tag of its branch's name is another commit.
    own = kernel.books.committed.agents[first.id].worktree
    assert own is not None
    for words in (["commit", "-q", "--allow-empty", "-m", "other"], ["tag", own.branch]):
        await anyio.run_process([*git, *words])
    fork = await client.fork(ForkRequest(ref="first", prompt="two"))
    assert 'knows: {"told": "--told one"}' in await until_said(client, fork.id, "knows: ")
    places = [kernel.books.committed.agents[agent].worktree for agent in (first.id, fork.id)]
    assert places[0] is not None
    assert places[1] is not None
    assert places[0].folder != places[1].folder
    assert places[0].branch != places[1].branch
    assert places[0].base == places[1].base


@pytest.mark.parametrize(
    ("ref", "prompt", "error"),
    [
        ("nobody", "x", NoSuchAgent),
        ("plain", "x", UsageError),
        ("mute", "x", UsageError),
        ("first", None, UsageError),
        ("first", "x", Conflict),
    ],
)
async def test_what_cannot_be_forked_says_why_and_leaves_nothing(
    client: KernelClient, paths: Paths, ref: str, prompt: str | None, error: type[AgentTopError]
) -> None:
    await client.run(sh("sleep 600", "plain"))
    mute = AgentSpec(name="mute", template="mute", cwd="/tmp")
    await client.run(RunRequest(spec=mute, environ=ENVIRON))
    await start(client)
    with pytest.raises(error) as caught:
        await client.fork(ForkRequest(ref=ref, prompt=prompt))
    assert caught.value.why or error is NoSuchAgent
    known = {agent.id for agent in await client.agents(all=True) if not agent.observed}
    assert {folder.name for folder in paths.agents.iterdir()} == known
    assert len(known) == 3


async def test_a_conversation_that_is_gone_or_whose_name_is_taken_leaves_nothing(
    kernel: Kernel, client: KernelClient, paths: Paths
) -> None:
    first = await start(client)
    await until_said(client, "first", "secret: heron")
    await calls(kernel, first.id)
    with pytest.raises(Conflict, match="name first is taken"):
        await client.fork(ForkRequest(ref="first", name="first", prompt="x"))
    await calls(kernel, first.id, session="s-2", run=1)
    with pytest.raises(BackendError, match="was not forked"):
        await client.fork(ForkRequest(ref="first", prompt="x"))
    await calls(kernel, first.id, session="../../x", run=1)
    with pytest.raises(Conflict, match="cannot be forked"):
        await client.fork(ForkRequest(ref="first", prompt="x"))
    assert [folder.name for folder in paths.agents.iterdir()] == [first.id]
