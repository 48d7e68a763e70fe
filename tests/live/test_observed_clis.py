"""Real CLIs started by hand, not by agenttop: found, joined to their sessions, and counted to the token.

Each gives work to a subagent, which runs a command that lasts until the test has looked. What the readers
count is then, and in the end, what the provider billed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from agenttop.core.agents.states import State
from agenttop.core.observe.contract import View, observers
from agenttop.core.observe.index.history import History
from agenttop.core.observe.index.scan_index import ScanIndex
from agenttop.core.observe.watch import Observed, Watch
from agenttop.tui.demo.provider import MockProvider, scenes

from .agent_clis import search_path

pytestmark = pytest.mark.anyio

SPEED = 20.0
DEADLINE = 90.0
_OPENCODE = {
    "autoupdate": False,
    "model": "mock/gpt-5.1",
    "small_model": "mock/gpt-5-mini",
    "provider": {
        "mock": {
            "npm": "@ai-sdk/openai-compatible",
            "options": {"baseURL": "{env:MOCK_URL}/v1", "apiKey": "x"},
            "models": {"gpt-5.1": {"limit": {"context": 128_000, "output": 8_192}}, "gpt-5-mini": {}},
        }
    },
    "permission": {"bash": "allow"},
}


@dataclass(frozen=True)
class Hand:
    """How a person starts one CLI.

    Attributes:
        name: Of the CLI and its reader.
        tools: How it is made to give work to a subagent and to wait for it; empty: it has none.
        script: A shell script; the prompt is ``$1``, the provider's address ``$MOCK_URL``.
        files: What its home has, by path.
        untold: Models whose calls the CLI tells nowhere: those that find titles.
        late: Whether it tells what a call used only when the tools that it asked for have returned.
    """

    name: str
    tools: str
    script: str
    files: Mapping[str, object] = field(default_factory=dict)
    untold: frozenset[str] = frozenset()
    late: bool = False


HANDS = (
    Hand(
        "claude",
        "Agent",
        "ANTHROPIC_BASE_URL=$MOCK_URL ANTHROPIC_API_KEY=x CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1"
        ' DISABLE_AUTOUPDATER=1 exec claude -p "$1" --allowedTools Bash,Agent,Task',
    ),
    Hand(
        "codex",
        "spawn_agent+wait_agent",
        "MOCK_KEY=x exec codex exec --json --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox"
        " -c analytics.enabled=false -c check_for_update_on_startup=false -c 'model_provider=\"mock\"'"
        ' -c "model_providers.mock={name=\\"mock\\",base_url=\\"$MOCK_URL/v1\\",env_key=\\"MOCK_KEY\\",'
        'wire_api=\\"responses\\"}" "$1"',
    ),
    Hand(
        "gemini",
        "invoke_agent",
        "GEMINI_API_KEY=x GOOGLE_GEMINI_BASE_URL=$MOCK_URL exec gemini -m gemini-2.5-pro --skip-trust -y"
        ' -o stream-json -p "$1"',
        {
            ".gemini/settings.json": {
                "security": {"auth": {"selectedType": "gemini-api-key"}},
                "privacy": {"usageStatisticsEnabled": False},
            }
        },
    ),
    Hand(
        "opencode",
        "task",
        "OPENCODE_DISABLE_AUTOUPDATE=1 OPENCODE_DISABLE_MODELS_FETCH=1 npm_config_offline=true"
        ' OPENCODE_CONFIG=$HOME/opencode.json exec opencode run --format json "$1"',
        {"opencode.json": _OPENCODE},
        frozenset({"gpt-5-mini"}),
        late=True,
    ),
    Hand(
        "qwen",
        "agent",
        "OPENAI_API_KEY=x OPENAI_BASE_URL=$MOCK_URL/v1 OPENAI_MODEL=gpt-5.1 exec qwen --auth-type openai -y"
        ' --output-format stream-json "$1"',
        {
            ".qwen/settings.json": {
                "memory": {"enableManagedAutoMemory": False},
                "privacy": {"usageStatisticsEnabled": False},
            }
        },
    ),
    Hand(
        "copilot",
        "task",
        "COPILOT_PROVIDER_BASE_URL=$MOCK_URL/v1 COPILOT_PROVIDER_API_KEY=x COPILOT_MODEL=gpt-5.1"
        " COPILOT_OFFLINE=true COPILOT_AUTO_UPDATE=false exec copilot --disable-client-telemetry"
        ' --disable-builtin-mcps --allow-all-tools --output-format json -p "$1"',
    ),
    Hand(
        "aider",
        "",
        "OPENAI_API_KEY=x OPENAI_API_BASE=$MOCK_URL/v1 exec aider --model openai/gpt-5.1 --no-check-update"
        ' --yes-always --no-git --message "$1"',
    ),
)


def of_each(*hands: Hand) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "hand", [pytest.param(hand, id=hand.name, marks=getattr(pytest.mark, hand.name)) for hand in hands]
    )


@contextmanager
def started(
    hand: Hand, path: str, home: Path, url: str, prompt: str, gate: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """The CLI in a home of its own; afterwards it is gone, and the commands that wait for ``gate`` are."""
    for folder in ("work", "tmp"):
        (home / folder).mkdir(parents=True)
    (home / "work" / "wait.sh").write_text("while [ ! -e gate ]; do sleep 0.1; done\n")
    for name, content in hand.files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(json.dumps(content))
    environ = {"PATH": path, "HOME": str(home), "TMPDIR": str(home / "tmp"), "MOCK_URL": url}
    with (home / "out").open("wb") as out:
        process = subprocess.Popen(
            ["/bin/sh", "-c", hand.script, hand.name, prompt],
            cwd=home / "work",
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            gate.touch()
            for number in (signal.SIGKILL, 0):
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:
                    break
                process.wait()


def billed(mock: MockProvider, hand: Hand) -> list[int]:
    """Input, cache read, cache write, output of all calls that the CLI can know of."""
    entries = [entry for entry in mock.truth.entries if entry.model not in hand.untold]
    total = mock.truth.total(entries)
    return [total.input, total.cache_read, total.cache_write_5m + total.cache_write_1h, total.output]


def counted(view: View | None) -> list[int]:
    """The same of an agent and its subagents, by its transcript."""
    usages = [] if view is None else [view.usage, *(child.view.usage for child in view.children)]
    return [
        sum(usage.input for usage in usages),
        sum(usage.cache_read for usage in usages),
        sum(usage.cache_write for usage in usages),
        sum(usage.output for usage in usages),
    ]


def asked_twice(mock: MockProvider, hand: Hand) -> bool:
    """Whether the agent and its subagent have asked once each, and both have their answers."""
    entries = [entry for entry in mock.truth.entries if entry.model not in hand.untold]
    return len(entries) >= 2 and all(entry.outcome == "complete" for entry in entries)


async def wait(condition: Callable[[], bool], explain: Callable[[], object]) -> None:
    """Until it is so, which is looked at in a thread; fails after the deadline with what there was."""
    end = time.monotonic() + DEADLINE
    while not await anyio.to_thread.run_sync(condition):
        assert time.monotonic() < end, explain()
        await anyio.sleep(0.05)


@of_each(*(hand for hand in HANDS if hand.tools))
async def test_a_cli_started_by_hand_is_seen_at_work_and_counted_to_the_token(
    hand: Hand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = search_path(hand.name)  # before a task group makes an error of the skip
    home = tmp_path / "home"
    gate = home / "work" / "gate"
    monkeypatch.setattr(scenes, "HARMLESS", ("sh wait.sh", "Wait"))
    observer = observers([hand.name])[0][hand.name]
    watched = Watch({hand.name: observer}, "boot")
    seen: list[Observed] = []

    async with MockProvider(speed=SPEED) as mock:
        with started(hand, path, home, mock.url, f"delegate [[mock:tools={hand.tools}]]", gate) as process:

            def at_work() -> bool:
                agents = watched.refresh(time.time(), time.monotonic())
                seen[:] = [agent for agent in agents if agent.main.cwd == str(home / "work")]
                if process.poll() is not None:
                    raise AssertionError((home / "out").read_text())
                views = [agent.view for agent in seen if agent.view and agent.view.children]
                if len(views) != 1 or not asked_twice(mock, hand):
                    return False
                found = counted(views[0])
                return found == billed(mock, hand) or (hand.late and not any(found))

            def explain() -> object:
                return seen, billed(mock, hand), (home / "out").read_text()[-2000:]

            await wait(at_work, explain)
            (agent,) = seen
            assert agent.view is not None
            assert agent.view.state in (State.EXECUTING, State.PLANNING) or not agent.view.certain, explain()
            assert agent.view.cwd == str(home / "work")
            assert agent.view.model is not None
            assert agent.view.prompt.strip('"').startswith("delegate")
            assert agent.session is not None
            gate.touch()
            await wait(lambda: process.poll() is not None, explain)
        assert process.returncode == 0, explain()
        told = [entry for entry in mock.truth.entries if entry.model not in hand.untold]
        assert {entry.outcome for entry in told} == {"complete"}
        truth = billed(mock, hand)

    assert agent.session is not None
    tail = observer.tail(agent.session)
    tail.refresh()
    view = tail.view(time.time(), None)
    assert counted(view) == truth
    assert view.state is State.IDLE
    assert view.children
    assert tail.oddities.unreadable == 0
    assert tail.oddities.problems == {}
    index = ScanIndex(tmp_path / "scan.db")
    history = History(index, observer.roots({}, str(home)), 1)
    assert history.refresh().errors == 0
    rows = index.sums()
    assert [
        sum(row.input for row in rows),
        sum(row.cache_read for row in rows),
        sum(row.cache_write_5m + row.cache_write_1h for row in rows),
        sum(row.output for row in rows),
    ] == truth
    assert history.refresh().read == 0
    assert {known.get("cwd") for known in index.facts().values()} == {str(home / "work")}
    index.close()


@of_each(*(hand for hand in HANDS if not hand.tools))
async def test_a_cli_that_only_estimates_is_counted_as_an_estimate(hand: Hand, tmp_path: Path) -> None:
    path = search_path(hand.name)  # before a task group makes an error of the skip
    home = tmp_path / "home"
    observer = observers([hand.name])[0][hand.name]
    watched = Watch({hand.name: observer}, "boot")
    exact: set[bool] = set()
    async with MockProvider(speed=SPEED) as mock:
        with started(hand, path, home, mock.url, "say hi [[mock:output=400]]", home / "gate") as process:

            def ended() -> bool:
                for agent in watched.refresh(time.time(), time.monotonic()):
                    if agent.main.cwd == str(home / "work") and agent.session is not None:
                        exact.add(agent.session.exact)
                return process.poll() is not None

            await wait(ended, lambda: (home / "out").read_text()[-2000:])
        assert process.returncode == 0, (home / "out").read_text()[-2000:]
        truth = billed(mock, hand)
    assert exact == {False}
    (chat,) = (home / "work").glob(".aider.chat.history.md")
    index = ScanIndex(tmp_path / "scan.db")
    History(index, observer.roots({"AIDER_CHAT_HISTORY_FILE": str(chat)}, str(home)), 1).refresh()
    (row,) = index.sums()
    assert row.model == "openai/gpt-5.1"
    assert 0.5 < row.input / truth[0] < 2
    assert 0.5 < row.output / truth[3] < 2
    index.close()
