"""Real agent CLIs that a person started, not agenttop: found, metered to the token, frozen, resumed, killed.

Each is started against the mock provider, lets its first calls through and then waits for an answer that
does not come: so it lives while it is looked at, and what was billed until then is known.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import anyio
import anyio.to_thread
import pytest

from agenttop.core.observe.proc import everything
from agenttop.tui.demo.cleanup import clean
from agenttop.tui.demo.provider import MockProvider
from agenttop.tui.demo.provider.directives import Behaviour

from ..support.clis import states
from .agent_clis import CLIS, Cli

pytestmark = pytest.mark.anyio

SPEED = 20.0
#: Seconds until something must have come true.
PATIENCE = 90.0


@dataclass(frozen=True)
class ByHand:
    """One CLI as a person starts it.

    Attributes:
        cli: What it is, and where its script and files come from.
        script: Instead of that of ``cli``; the prompt is ``$1``.
        observer: The name of its reader.
        calls: How many calls are let through; the next one hangs.
        env: What it needs in its environment besides.
        untold: The model whose calls the CLI keeps nowhere.
    """

    cli: Cli
    observer: str
    script: str = ""
    calls: int = 1
    env: Mapping[str, str] = field(default_factory=dict)
    prompt: str = "say hi with a tool [[mock:output=40]]"
    untold: str = "-"


_BY_NAME = {cli.name: cli for cli in CLIS}
TABLE = (
    ByHand(
        _BY_NAME["claude"],
        "claude",
        'exec claude -p "$1" --output-format stream-json --verbose --allowedTools Bash',
        env={"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"},
    ),
    ByHand(_BY_NAME["codex"], "codex"),
    ByHand(_BY_NAME["gemini"], "gemini"),
    ByHand(_BY_NAME["qwen"], "qwen"),
    # The title's call stands nowhere in its database.
    ByHand(_BY_NAME["opencode"], "opencode", calls=2, untold="gpt-5-mini"),
    ByHand(
        Cli("copilot", "copilot", "openai"),
        "copilot",
        "exec copilot --disable-client-telemetry --disable-builtin-mcps --allow-all-tools"
        ' --output-format json -p "$1"',
        env={"COPILOT_MODEL": "gpt-5.1", "COPILOT_OFFLINE": "true", "COPILOT_AUTO_UPDATE": "false"},
    ),
)


@pytest.fixture(
    params=[pytest.param(row, id=row.cli.name, marks=getattr(pytest.mark, row.cli.program)) for row in TABLE]
)
def by_hand(request: pytest.FixtureRequest) -> ByHand:
    """Each row of the table."""
    row: ByHand = request.param
    return row


@pytest.fixture
def cli(by_hand: ByHand) -> Cli:
    """For ``search_path``."""
    return by_hand.cli


@pytest.fixture
def agenttop(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agenttop]:
    """The command, with a home of its own and the observing that tests have switched off."""
    monkeypatch.delenv("AGENTTOP_OBSERVE")
    home.mkdir()
    yield Agenttop()
    assert clean(home, None) == []


class Agenttop:
    """Runs commands."""

    async def __call__(self, *words: str) -> Any:
        """One command with ``--json``; what it printed."""
        command = [sys.executable, "-m", "agenttop.tui.main", *words, "--json"]
        done = await anyio.run_process(command, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return json.loads(done.stdout)


def environment(row: ByHand, path: str, person: Path, url: str) -> dict[str, str]:
    """What the person has in the environment: the provider's address and a key."""
    return {
        **row.cli.environ(path, person),
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "x",
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": "x",
        "GOOGLE_GEMINI_BASE_URL": url,
        "GEMINI_API_KEY": "x",
        "COPILOT_PROVIDER_BASE_URL": f"{url}/v1",
        "COPILOT_PROVIDER_API_KEY": "x",
        **row.cli.env,
        **row.env,
    }


async def until(true: Any, what: str) -> Any:
    """Ask until it is so."""
    with anyio.move_on_after(PATIENCE):
        while True:
            if found := await true():
                return found
            await anyio.sleep(0.1)
    pytest.fail(f"{what}: not within {PATIENCE:.0f} s")


def billed(mock: MockProvider, untold: str) -> dict[str, int]:
    """The tokens of the calls that were answered, by the provider's own books."""
    entries = [entry for entry in mock.truth.entries if entry.outcome == "complete"]
    done = [entry.usage for entry in entries if entry.model != untold]
    return {
        "input": sum(usage.input for usage in done),
        "cache_read": sum(usage.cache_read for usage in done),
        "cache_write": sum(usage.cache_write_5m + usage.cache_write_1h for usage in done),
        "output": sum(usage.output for usage in done),
    }


async def test_what_a_person_started_is_metered_to_the_token_and_acted_on_with_all_its_processes(
    by_hand: ByHand, search_path: str, agenttop: Agenttop, tmp_path: Path
) -> None:
    person = tmp_path / "person"
    spec = by_hand.cli.spec(by_hand.prompt, person)
    script = by_hand.script or by_hand.cli.script
    async with MockProvider(speed=SPEED) as mock:
        mock.conduct.add(Behaviour(do="slow", factor=1.0, times=by_hand.calls))  # as usual, that is
        mock.conduct.add(Behaviour(do="hang"))
        said = (tmp_path / "said").open("wb")
        process = _begun(by_hand, script, spec.cwd, environment(by_hand, search_path, person, mock.url), said)
        try:

            async def hangs() -> bool:
                assert process.poll() is None, (tmp_path / "said").read_text()
                entries = mock.truth.entries
                done = sum(entry.outcome == "complete" for entry in entries)
                return len(entries) > by_hand.calls and done == by_hand.calls

            await until(hangs, "the call that is not answered")
            await _play(by_hand, agenttop, mock, process.pid)
        finally:
            for other in [one for one in everything().values() if one.session == process.pid]:
                os.kill(other.pid, 9)
            process.wait()
            said.close()


def _begun(
    row: ByHand, script: str, cwd: str | None, environ: Mapping[str, str], said: IO[bytes]
) -> subprocess.Popen[bytes]:
    """What a shell of the person's became."""
    return subprocess.Popen(
        ["/bin/sh", "-c", script, row.cli.program, row.prompt],
        cwd=cwd,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        start_new_session=True,
    )


async def _play(by_hand: ByHand, agenttop: Agenttop, mock: MockProvider, leader: int) -> None:
    """Look at it, freeze it, let it go, end it."""
    told: dict[str, Any] = {}

    async def metered() -> bool:
        own = {process.pid for process in everything().values() if process.session == leader}
        found = [info for info in await agenttop("ps") if info["observed"] and own & set(info["pids"])]
        if not found:
            return False
        told.update(found[0], children=found[1:])
        sums = {key: sum(info["tokens"][key] for info in found) for key in told["tokens"]}
        return sums == billed(mock, by_hand.untold) and sums["output"] > 0

    try:
        await until(metered, "the tokens of the ledger")
    except BaseException:
        print(told, billed(mock, by_hand.untold))
        raise
    assert (told["template"], told["owner"]) == (by_hand.observer, _me())
    assert not told["unpriced"] or told["cost_usd"] is None
    pids = told["pids"]
    # All that the person's command became, shims and tools too.
    assert set(pids) >= {process.pid for process in everything().values() if process.session == leader}
    (outcome,) = await agenttop("pause", told["name"])
    assert outcome["done"] == f"frozen {len(pids)}/{len(pids)}"
    assert set(states(*pids)) == {"T"}
    (shown,) = [info for info in await agenttop("ps") if info["id"] == told["id"]]
    assert (shown["state"], shown["reason"], shown["tokens"]) == ("paused", "freeze", told["tokens"])
    (outcome,) = await agenttop("resume", told["name"])
    assert outcome["done"] == "resumed"
    assert "T" not in states(*pids)
    (outcome,) = await agenttop("kill", told["name"])
    assert outcome["proof"]["survivors"] == []
    assert set(states(*pids)) <= {"-", "Z"}
    assert not [info for info in await agenttop("ps") if info["id"] == told["id"]]


def _me() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name
