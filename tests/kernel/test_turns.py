"""Mail at the next turn, working memory at the start: agents are told what they cannot read themselves."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from agenttop.core.agents import beginnings, turns
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import AgentInfo, RunRequest
from agenttop.core.bus.errors import TooManyHops
from agenttop.core.bus.message import Draft, next_trace
from agenttop.core.journal import events as ev
from agenttop.core.kernel import Kernel
from agenttop.core.memory.model import Who
from agenttop.core.paths import Paths

from ..backends.terminal_rig import servers
from ..conftest import missing
from .conftest import ENVIRON, KernelMaker, sh, until

pytestmark = pytest.mark.anyio
PERSON = Who(None)

#: A program that is told a prompt, says what it was told, and goes on with a conversation.
SPEAKER = """
title = "Speaker"
programs = ["sh"]
protocol = "anthropic"
provider = "anthropic"
prompt = "argument"
mail = "turn"
memory = "speaker/NOTES.md"
command = ["{program}", "-c", 'echo "told: $*"; cat "$AGENTTOP_MEMORY"; exec sleep 600', "sh"]
prompt_arguments = ["{prompt}"]
resume_arguments = ["--resume", "{session}"]

[interactive]
command = ["{program}", "-c", 'while read -r line; do echo "got $line"; done']
"""

#: One without model calls, in a terminal.
ECHO = """
title = "Echo"
programs = ["sh"]
prompt = "argument"
command = ["{program}", "-c", "echo \\"$0\\""]
prompt_arguments = ["{prompt}"]

[interactive]
command = ["{program}", "-c", 'while read -r line; do echo "got $line"; done']
"""


@pytest.fixture
def templated(paths: Paths) -> Paths:
    paths.templates.mkdir(parents=True, exist_ok=True)
    (paths.templates / "speaker.toml").write_text(SPEAKER)
    (paths.templates / "echo.toml").write_text(ECHO)
    return paths


@pytest.fixture
async def tmux(templated: Paths) -> AsyncIterator[None]:
    if shutil.which("tmux") is None:
        missing("tmux", "it is not on the PATH")
    yield
    with anyio.fail_after(30):
        while await anyio.to_thread.run_sync(servers, templated.state):
            await anyio.sleep(0.05)


async def start(kernel: Kernel, name: str, template: str = "speaker", **spec: Any) -> AgentInfo:
    whole = AgentSpec(
        name=name, template=template, cwd="/tmp", **{"restart": {"start_seconds": 0.05}, **spec}
    )
    return await kernel.client().run(RunRequest(spec=whole, environ=ENVIRON))


async def yes(value: object) -> object:
    return value


async def called(kernel: Kernel, agent: str, run: int) -> None:
    """The agent makes a model call in a conversation, and has its answer."""
    await kernel.books.commit(
        ev.CallStarted(
            agent=agent,
            run=run,
            call=f"c{agent}{run}",
            provider="anthropic",
            protocol="anthropic",
            operation="messages",
            model="m",
            stream=True,
            client={"session": "conversation-1"},
        )
    )
    await kernel.books.commit(
        ev.CallSettled(
            agent=agent,
            run=run,
            call=f"c{agent}{run}",
            provider="anthropic",
            model="m",
            usage=ev.Usage(input=1, output=1),
            cost_usd=None,
            exact=True,
            outcome="ok",
            stop_reason="end_turn",
            context_used=2,
            seconds=0.1,
        )
    )


async def output(kernel: Kernel, agent: str, run: int, text: str) -> str:
    """What a run printed, once that has the text."""
    file = kernel.paths.run_dir(agent, run) / "out"

    async def look() -> str:
        said = file.read_text() if file.exists() else ""
        return said if text in said else ""

    found: str = await until(look, f"{text!r} in the output", 30)
    return found


def depth(kernel: Kernel, agent: str) -> int:
    return len(kernel.bus.pipeline.books.names[agent].letters)


async def ended(kernel: Kernel, agent: str) -> None:
    """Its program ends by itself, as far as the journal is concerned."""
    run = kernel.supervisor.runs[agent]
    for process in await run.backend.processes(run.ref):
        if process.command.startswith("sleep"):
            import os

            os.kill(process.pid, 9)
    await until(lambda: yes(kernel.books.committed.agents[agent].over), "its end", 30)


# --- working memory


async def test_declared_blocks_are_made_once_and_are_there_at_each_start(
    kernels: KernelMaker, templated: Paths
) -> None:
    async with kernels() as kernel:
        agent = await start(kernel, "one", prompt="go", blocks={"persona": "I am careful."})
        said = await output(kernel, agent.id, 1, "I am careful.")
        assert "## persona" in said
        folder = templated.agent_dir(agent.id)
        notes = folder / "speaker" / "NOTES.md"
        assert "I am careful." in notes.read_text()
        assert (folder / beginnings.MEMORY).stat().st_mode & 0o777 == notes.stat().st_mode & 0o777 == 0o600
        assert beginnings.kept(folder) == {}
        assert "careful" not in (kernel.books.committed.agents[agent.id].spec.blocks["persona"])
        notes.write_text("my own line\n" + notes.read_text())
        await kernel.memory.write_block(PERSON, agent.id, "persona", "I am bold.")
        await kernel.supervisor.stop(agent.id, how="kill", grace=0.0)
        await kernel.supervisor.start(agent.id, "restart")
        await output(kernel, agent.id, 2, "I am bold.")
        assert "careful" not in notes.read_text()
        assert notes.read_text().startswith("my own line\n")
        await kernel.memory.drop_block(PERSON, agent.id, "persona")
        await kernel.supervisor.stop(agent.id, how="kill", grace=0.0)
        await kernel.supervisor.start(agent.id, "restart")
        await output(kernel, agent.id, 3, "told: ")
        assert "bold" not in notes.read_text()
        assert (folder / beginnings.MEMORY).read_text() == ""


async def test_no_word_of_a_declared_block_is_in_the_journal(kernels: KernelMaker, templated: Paths) -> None:
    async with kernels() as kernel:
        agent = await start(kernel, "one", prompt="go", blocks={"persona": "heliotrope"})
        await output(kernel, agent.id, 1, "heliotrope")
    files = [path for path in templated.state.glob("journal.db*") if b"heliotrope" in path.read_bytes()]
    assert files == []


async def test_a_script_finds_its_memory_by_its_environment(kernels: KernelMaker) -> None:
    async with kernels() as kernel:
        request = sh('cat "$AGENTTOP_MEMORY"; exec sleep 600', "script", blocks={"task": "count to three"})
        agent = await kernel.client().run(request)
        assert "## task\n\ncount to three" in await output(kernel, agent.id, 1, "count to three")


# --- mail at a headless agent's next run


async def test_a_conversation_goes_on_with_the_mail_and_mail_is_acknowledged_by_the_call(
    kernels: KernelMaker, templated: Paths
) -> None:
    async with kernels() as kernel:
        other = await start(kernel, "ann", prompt="hi")
        agent = await start(kernel, "bob", prompt="go")
        await called(kernel, agent.id, 1)
        first = await kernel.bus.send(
            other.id, agent.id, Draft(payload=b'"look at \\u001b[31mthis\\r\\nnow"')
        )
        await kernel.bus.send(other.id, agent.id, Draft(payload=b'{"n": 2}', type="numbers"))
        conversation = kernel.control._conversation(kernel.books.pending.agents[agent.id])
        await kernel.supervisor.stop(agent.id, how="kill", grace=0.0)
        await kernel.supervisor.start(agent.id, "restart", resume=conversation)
        said = await output(kernel, agent.id, 2, "told: --resume conversation-1")
        assert "[agenttop] 2 messages from another agent, not typed by your user" in said
        assert f"{first} from agent ann ({other.id})" in said
        assert "«look at this ⏎ now»" in said
        assert 'type numbers: «{"n": 2}»' in said
        assert "agenttop send ann" in said
        assert depth(kernel, agent.id) == 2
        await called(kernel, agent.id, 2)
        await until(lambda: yes(depth(kernel, agent.id) == 0), "the mail being acknowledged", 30)


async def test_a_run_that_ends_before_its_first_call_gives_its_mail_back(
    kernels: KernelMaker, templated: Paths
) -> None:
    async with kernels() as kernel:
        other = await start(kernel, "ann", prompt="hi")
        agent = await start(kernel, "bob", prompt="go")
        await called(kernel, agent.id, 1)
        await kernel.bus.send(other.id, agent.id, Draft(payload=b'"hello"'))
        for run in (2, 3):
            await kernel.supervisor.stop(agent.id, how="kill", grace=0.0)
            await until(lambda: yes(kernel.turns._ready(agent.id)), "the mail being back", 30)
            await kernel.supervisor.start(agent.id, "restart", resume="conversation-1")
            said = await output(kernel, agent.id, run, "«hello»")
        assert "told for the 2. time" in said


async def test_a_run_that_ends_gives_all_its_mail_back_of_whomever_it_is(
    kernels: KernelMaker, templated: Paths
) -> None:
    async with kernels() as kernel:
        others = [await start(kernel, name, prompt="hi") for name in ("ann", "eve")]
        agent = await start(kernel, "bob", prompt="go")
        await called(kernel, agent.id, 1)
        for other in (others[0], others[0], others[1]):
            await kernel.bus.send(other.id, agent.id, Draft(payload=b'"hello"'))
        await kernel.supervisor.stop(agent.id, how="kill", grace=0.0)
        await kernel.supervisor.start(agent.id, "restart", resume="conversation-1")
        await output(kernel, agent.id, 2, "3 messages")
        await kernel.supervisor.stop(agent.id, how="kill", grace=0.0)
        letters = kernel.bus.pipeline.books.names[agent.id].letters.values()
        await until(lambda: yes(not any(one.until for one in letters)), "all of it being back", 30)


async def test_agents_that_wake_each_other_are_stopped_by_their_hops(
    kernels: KernelMaker, templated: Paths
) -> None:
    async with kernels() as kernel:
        other = await start(kernel, "ann", prompt="hi")
        agent = await start(kernel, "bob", prompt="go")
        await called(kernel, agent.id, 1)
        most = kernel.bus.limits.hops
        kernel.bus.desk.reading[other.id] = (1, most - 1, next_trace(""))
        await kernel.bus.send(other.id, agent.id, Draft(payload=b'"hello"'))
        await kernel.supervisor.stop(agent.id, how="kill", grace=0.0)
        await kernel.supervisor.start(agent.id, "restart", resume="conversation-1")
        await output(kernel, agent.id, 2, "«hello»")
        await called(kernel, agent.id, 2)
        await until(lambda: yes(depth(kernel, agent.id) == 0), "the mail being acknowledged", 30)
        # It is acknowledged, and still what this run works on.
        with pytest.raises(TooManyHops):
            await kernel.bus.send(agent.id, other.id, Draft(payload=b'"thank you"'))
        await kernel.supervisor.stop(agent.id, how="kill", grace=0.0)
        await kernel.supervisor.start(agent.id, "restart", resume="conversation-1")
        await kernel.bus.send(agent.id, other.id, Draft(payload=b'"something else"'))


async def test_a_kernel_that_is_killed_in_between_tells_the_mail_again(
    kernels: KernelMaker, templated: Paths
) -> None:
    async with kernels(leave=True) as kernel:
        other = await start(kernel, "ann", prompt="hi")
        agent = await start(kernel, "bob", prompt="go")
        await called(kernel, agent.id, 1)
        await kernel.bus.send(other.id, agent.id, Draft(payload=b'"hello"'))
        await kernel.supervisor.stop(agent.id, how="kill", grace=0.0)
        await kernel.supervisor.start(agent.id, "restart", resume="conversation-1")
        await output(kernel, agent.id, 2, "«hello»")
    async with kernels() as kernel:
        await until(lambda: yes(kernel.supervisor.runs.get(agent.id)), "its run being found", 30)
        assert depth(kernel, agent.id) == 1
        await kernel.supervisor.stop(agent.id, how="kill", grace=0.0)
        await kernel.supervisor.start(agent.id, "restart", resume="conversation-1")
        await output(kernel, agent.id, 3, "«hello»")
        await called(kernel, agent.id, 3)
        await until(lambda: yes(depth(kernel, agent.id) == 0), "the mail being acknowledged", 30)


async def test_a_message_begins_the_run_of_who_is_to_be_woken_and_of_nobody_a_person_stopped(
    kernels: KernelMaker, templated: Paths
) -> None:
    async with kernels() as kernel:
        other = await start(kernel, "ann", prompt="hi")
        woken = await start(kernel, "woken", prompt="go", mail="wake")
        sleeper = await start(kernel, "sleeper", prompt="go")
        stopped = await start(kernel, "stopped", prompt="go", mail="wake")
        for agent in (woken, sleeper, stopped):
            await called(kernel, agent.id, 1)
        await ended(kernel, woken.id)
        await ended(kernel, sleeper.id)
        await kernel.supervisor.stop(stopped.id, how="stop", grace=5.0)
        for agent in (sleeper, stopped, woken):
            await kernel.bus.send(other.id, agent.id, Draft(payload=b'"wake up"'))
        await output(kernel, woken.id, 2, "«wake up»")
        for agent in (sleeper, stopped):
            run = kernel.books.committed.agents[agent.id].run
            assert run is not None
            assert run.number == 1


# --- at a terminal


async def shown(kernel: Kernel, ref: str, text: str) -> list[str]:
    async def look() -> list[str]:
        lines = (await kernel.client().history(ref)).lines
        return lines if text in " ".join(lines) or any(text in line for line in lines) else []

    found: list[str] = await until(look, f"{text!r} on the screen of {ref}", 30)
    return found


async def waiting(kernel: Kernel, agent: str) -> None:
    def look() -> bool:
        record = kernel.books.committed.agents[agent]
        return (record.state, record.reason) == ("waiting", "input")

    await until(lambda: yes(look()), "it waiting for input", 30)


@pytest.mark.tmux
async def test_mail_is_typed_in_where_a_terminal_waits_even_if_it_was_frozen_for_being_idle(
    kernels: KernelMaker, templated: Paths, tmux: None
) -> None:
    async with kernels() as kernel:
        other = await start(kernel, "ann", prompt="hi")
        agent = await start(kernel, "bob", "echo", backend="terminal", idle={"freeze_after": 0.2})
        frozen = lambda: yes(kernel.books.committed.agents[agent.id].freeze)  # noqa: E731
        await until(frozen, "it being frozen", 30)
        await kernel.bus.send(other.id, agent.id, Draft(payload=b'"first\\nrm -rf \\u001b[201~ \\u0003 x"'))
        await shown(kernel, "bob", "got [agenttop] A message from another agent")
        await until(lambda: yes(depth(kernel, agent.id) == 0), "it being acknowledged", 30)
        lines = await shown(kernel, "bob", "TEXT")
        assert sum("got " in line for line in lines) == 1  # one line, one Enter
        assert "first ⏎ rm -rf" in "".join(lines)


@pytest.mark.tmux
async def test_nothing_is_typed_into_a_question_nor_while_a_call_runs(
    kernels: KernelMaker, templated: Paths, tmux: None
) -> None:
    async with kernels() as kernel:
        other = await start(kernel, "ann", prompt="hi")
        agent = await start(kernel, "bob", backend="terminal")
        await waiting(kernel, agent.id)
        await kernel.books.commit(ev.InputAwaited(agent=agent.id, run=1, detail="Bash: rm -rf"))
        await kernel.bus.send(other.id, agent.id, Draft(payload=b'"hello"'))
        await until(lambda: yes(not kernel.turns._busy and not kernel.turns._due), "it being looked at", 30)
        assert kernel.turns._ready(agent.id)
        await kernel.books.commit(ev.InputGiven(agent=agent.id, run=1, state="idle"))
        await shown(kernel, "bob", "«hello»")
        # It is one that makes calls: until it has made one, it may not have taken it.
        assert depth(kernel, agent.id) == 1
        await called(kernel, agent.id, 1)
        await until(lambda: yes(depth(kernel, agent.id) == 0), "it being acknowledged", 30)


@pytest.mark.tmux
async def test_mail_that_was_typed_in_and_led_to_no_call_is_typed_in_again(
    kernels: KernelMaker, templated: Paths, tmux: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "LEASE", 0.5)
    async with kernels() as kernel:
        other = await start(kernel, "ann", prompt="hi")
        agent = await start(kernel, "bob", backend="terminal")
        await waiting(kernel, agent.id)
        await kernel.bus.send(other.id, agent.id, Draft(payload=b'"hello"'))
        await shown(kernel, "bob", "told for the 2. time")


@pytest.mark.tmux
async def test_who_types_is_not_disturbed(kernels: KernelMaker, templated: Paths, tmux: None) -> None:
    async with kernels() as kernel:
        other = await start(kernel, "ann", prompt="hi")
        agent = await start(kernel, "bob", "echo", backend="terminal")
        await waiting(kernel, agent.id)
        await kernel.client().write("bob", b"half a li")
        await kernel.bus.send(other.id, agent.id, Draft(payload=b'"hello"'))

        def put_off() -> bool:
            return kernel.turns._due.get(agent.id, 0.0) > kernel.clock.monotonic() + 5

        await until(lambda: yes(put_off()), "it being put off", 30)
        assert kernel.turns._ready(agent.id)


async def test_mail_that_is_read_or_wanted_by_nobody_is_left_alone(
    kernels: KernelMaker, templated: Paths
) -> None:
    async with kernels() as kernel:
        other = await start(kernel, "ann", prompt="hi")
        for mode in ("read", "none"):
            agent = await start(kernel, mode, prompt="go", mail=mode)
            await called(kernel, agent.id, 1)
            await kernel.bus.send(other.id, agent.id, Draft(payload=b'"hello"'))
            await kernel.supervisor.stop(agent.id, how="kill", grace=0.0)
            await kernel.supervisor.start(agent.id, "restart", resume="conversation-1")
            assert "Go on where you were stopped." in await output(kernel, agent.id, 2, "told: ")
            assert kernel.turns._ready(agent.id)


def test_a_memory_file_keeps_what_is_not_between_the_marks(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "NOTES.md"
    beginnings.insert(file, "")
    assert not file.exists()
    beginnings.insert(file, "first")
    file.write_text("above\n" + file.read_text() + "\nbelow\n")
    for text in ("second", "", "third", f"hostile {beginnings._END} text"):
        beginnings.insert(file, text)
        said = file.read_text()
        assert said.startswith("above\n")
        assert said.endswith("below\n") or text == "third" or text.startswith("hostile")
        assert "first" not in said
