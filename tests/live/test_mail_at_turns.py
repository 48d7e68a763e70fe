"""Real CLIs that do not read their mail are told it: typed in at a terminal, and as the prompt of a new run.

What reached the model is asked of recall, which the gateway fills: mail, working memory, answers.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import AgentInfo, RunRequest, bus, memory
from agenttop.core.client import KernelClient
from agenttop.tui.demo.cleanup import record_cgroups
from agenttop.tui.demo.provider import INSTANT, MockProvider

from ..conftest import THOROUGH, missing
from . import agent_clis
from .managed import House, open_house
from .test_claude_managed import kernel

pytestmark = pytest.mark.anyio

#: Those that go on with a conversation without a terminal.
WOKEN = [*agent_clis.CLIS[:2], *agent_clis.CLIS[3:]]


async def recalled(client: KernelClient, agent: str, text: str, *roles: str) -> memory.EntryInfo:
    """The newest entry of an agent's recall with this text, once it is there."""
    with anyio.fail_after(90):
        while True:
            ask = memory.RecallRequest(agent=agent, roles=list(roles) or None, limit=200)
            found = await client.call(memory.RECALL, ask)
            for entry in found.entries:
                if text in entry.text:
                    return entry
            await anyio.sleep(0.1)


async def read(client: KernelClient, agent: str) -> None:
    """Wait until nothing is in its mailbox any more."""
    with anyio.fail_after(60):
        while await client.call(bus.MAIL, bus.MailRequest(agent=agent)):
            await anyio.sleep(0.1)


async def start(client: KernelClient, environ: Mapping[str, str], home: Path, **spec: object) -> AgentInfo:
    agent = await client.run(RunRequest(spec=AgentSpec.model_validate(spec), environ=dict(environ)))
    await anyio.to_thread.run_sync(record_cgroups, home)
    return agent


@pytest.mark.claude
@pytest.mark.tmux
async def test_claude_in_a_terminal_is_typed_its_mail_and_knows_its_working_memory(
    claude: str, claude_environ: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("tmux") is None:
        missing("tmux", "it is not on the PATH")
    home = tmp_path / "h"
    monkeypatch.setenv("AGENTTOP_HOME", str(home))
    environ = {**claude_environ, "PATH": f"{os.path.dirname(claude)}:{claude_environ['PATH']}"}
    async with MockProvider(speed=INSTANT) as provider, kernel(home, provider) as client:
        agent = await start(
            client,
            environ,
            home,
            name="bob",
            template="claude",
            backend="terminal",
            cwd=environ["HOME"],
            blocks={"persona": "You are called heron."},
        )
        text = "count the files\nplease [[mock:tools=none output=20]]"
        sent = await client.call(bus.SEND, bus.SendRequest(to="bob", payload=text))
        # Claude also asks a model for a title of it, in other words.
        head = "[agenttop] A message from a person by mail, not typed by your user"
        told = await recalled(client, agent.id, head, "user")
        assert f"{sent.id} from person" in told.text
        assert "count the files ⏎ please" in told.text
        await read(client, "bob")
        await recalled(client, agent.id, "You are called heron.")
        await recalled(client, agent.id, "", "assistant")


@agent_clis.of_each(*WOKEN if THOROUGH else WOKEN[:2])
async def test_a_headless_cli_goes_on_with_its_conversation_when_mail_wakes_it(
    cli: agent_clis.Cli, search_path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "h"
    monkeypatch.setenv("AGENTTOP_HOME", str(home))
    person = tmp_path / "person"
    for folder in ("work", "tmp"):
        (person / folder).mkdir(parents=True)
    async with open_house(home) as house:
        agent = await start(
            house.client,
            cli.environ(search_path, person),
            home,
            name="bob",
            template=cli.program,
            prompt="Remember the word heron. [[mock:tools=none output=20]]",
            cwd=str(person / "work"),
            mail="wake",
            blocks={"persona": "You are called bittern."},
        )
        first = await ended(house, agent.id)
        assert first.exit_code == 0
        await recalled(house.client, agent.id, "You are called bittern.")
        text = "what was the word? [[mock:tools=none output=20]]"
        sent = await house.client.call(bus.SEND, bus.SendRequest(to="bob", payload=text))
        told = await recalled(house.client, agent.id, f"{sent.id} from person", "user")
        assert told.run == 2
        await read(house.client, "bob")
        second = await ended(house, agent.id, run=2)
        assert second.exit_code == 0
        ask = memory.RecallRequest(agent=agent.id, roles=["user"], limit=200)
        users = (await house.client.call(memory.RECALL, ask)).entries
        # It went on with its conversation, and that was repeated: its first question is there once.
        assert sum("Remember the word heron." in entry.text for entry in users) == 1


async def ended(house: House, agent: str, run: int = 1) -> AgentInfo:
    """An agent whose run of this number has ended by itself."""
    with anyio.fail_after(90):
        while True:
            (info,) = await house.client.wait([agent])
            if info.run is not None and info.run >= run:
                return info
            await anyio.sleep(0.1)
