"""``agenttop usage`` and ccusage read the same transcripts: they say the same, and where not, why not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import pytest

from agenttop.core.api import TranscriptReport, TranscriptRequest
from agenttop.core.budget.prices import Prices
from agenttop.core.paths import Paths
from agenttop.core.transcripts import Transcripts

from ..conftest import missing
from ..support import chats
from ..support.transcripts import START, Corpus, compact
from .agent_clis import CLAUDE, CLIS, look_for, of_each
from .managed import open_house

pytestmark = [pytest.mark.anyio, pytest.mark.ccusage]

NAMES = ("inputTokens", "cacheReadTokens", "cacheCreationTokens", "outputTokens")
CODEX = next(cli for cli in CLIS if cli.name == "codex")

Table = dict[tuple[str, ...], tuple[int, ...]]
Rival = Callable[..., Any]


@pytest.fixture
def ccusage() -> Rival:
    """Runs ccusage on the transcripts below a home, or in the folders that are named."""
    path, problem = look_for("ccusage")
    if problem:
        missing("ccusage", problem)

    def run(home: Path, *arguments: str, claude: Path | None = None, codex: Path | None = None) -> Any:
        claude, codex = claude or home / ".claude", codex or home / ".codex"
        (claude / "projects").mkdir(parents=True, exist_ok=True)  # else it says that there is nothing at all
        (codex / "sessions").mkdir(parents=True, exist_ok=True)
        environ = {
            "PATH": path,
            "HOME": str(home),
            "CLAUDE_CONFIG_DIR": str(claude),
            "CODEX_HOME": str(codex),
        }
        command = ["ccusage", *arguments, "--json", "--offline"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)

    return run


class Ours(NamedTuple):
    transcripts: Transcripts

    async def __call__(self, *by: str, **more: Any) -> TranscriptReport:
        return await self.transcripts.report(TranscriptRequest(by=list(by), **more))


@pytest.fixture
def ours(tmp_path: Path) -> Ours:
    """The kernel's own part for this, on the transcripts below ``tmp_path``."""
    paths = Paths(tmp_path / "config", tmp_path / "state")
    paths.make_state()
    return Ours(Transcripts(paths, {"HOME": str(tmp_path)}, Prices()))


def tokens(row: Any) -> tuple[int, ...]:
    return row.input, row.cache_read, row.cache_write, row.output


def table(report: TranscriptReport) -> Table:
    return {tuple(row.keys): tokens(row) for row in report.rows}


def corpus(home: Path, seed: int) -> Corpus:
    """Everything difficult that both read alike, over the end of New York.s summer time (1 November 2026)."""
    made = Corpus(home, seed, body=40, tools=60)
    for number in range(12):
        begun = START + number * 50_000 + seed * 1000
        made.claude_session(f"p{number % 3}", 15, begun, cut=number == 5)
        made.codex_session(10, begun, records=number % 2 == 0, fork=number == 3)
    return made


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
async def test_both_say_the_same_of_each_day_agent_and_model(
    zone: str, tmp_path: Path, ours: Ours, ccusage: Rival
) -> None:
    made = corpus(tmp_path, len(zone))
    said = ccusage(tmp_path, "daily", "--by-agent", "--timezone", zone)
    theirs: Table = {}
    prices: dict[str, float] = {}
    for day in said["daily"]:
        for agent in day["agents"]:
            for model in agent["modelBreakdowns"]:
                name = model["modelName"]
                theirs[day["period"], agent["agent"], name] = tuple(model[key] for key in NAMES)
                if not model.get("missingPricing"):
                    prices[name] = prices.get(name, 0.0) + model["cost"]
    mine = await ours("day", "agent", "model", timezone=zone)
    assert table(mine) == theirs
    assert len(theirs) > 30
    if zone == "UTC":
        assert {(agent, day, model): [*use] for (day, agent, model), use in table(mine).items()} == made.truth
    assert sum(row.calls for row in mine.rows) == sum(made.calls.values())
    # The price lists are two, and both are right of models that have had their price for a while.
    costs = {row.keys[0]: row.cost_usd for row in (await ours("model")).rows}
    for model in ("claude-opus-4-8", "claude-haiku-4-5"):
        assert costs[model] == pytest.approx(prices[model], rel=1e-6), model


async def test_both_say_the_same_of_each_session(tmp_path: Path, ours: Ours, ccusage: Rival) -> None:
    """ccusage names Codex's sessions by their files, and of a copy they may take another session's line."""
    made = Corpus(tmp_path, 3, body=40, tools=60)
    for number in range(4):
        made.claude_session(f"p{number}", 12, START + number * 9_000, hard=False)
        made.codex_session(6, START + number * 9_000)
    said = ccusage(tmp_path, "session")
    theirs = {
        (row["agent"], row["period"].rpartition("/")[2][-36:]): tuple(row[key] for key in NAMES)
        for row in said["session"]
    }
    assert table(await ours("agent", "session")) == theirs
    assert len(theirs) == 8


async def test_a_span_of_days_is_the_same_span(tmp_path: Path, ours: Ours, ccusage: Rival) -> None:
    corpus(tmp_path, 5)
    said = ccusage(tmp_path, "daily", "--timezone", "UTC", "--since", "2026-10-28", "--until", "2026-10-30")
    span = {"since": 1_793_145_600.0, "until": 1_793_404_800.0}  # from the 28th up to the 31st, 0:00 UTC
    mine = await ours("day", timezone="UTC", **span)
    assert table(mine) == {(day["period"],): tuple(day[key] for key in NAMES) for day in said["daily"]}
    assert len(mine.rows) == 3


# --- where they differ -----------------------------------------------------------------------------


class Difference(NamedTuple):
    """Lines of which the two say different things.

    Attributes:
        why: The rule, and its source.
        calls: How many calls of ``USAGE`` we count; ``theirs``: how many they do.
    """

    name: str
    why: str
    calls: int
    theirs: int
    lines: Callable[[Corpus], list[str]]
    kind: str = "claude"


USAGE = (10, 20, 30, 40)
CODEX_USAGE = [60, 20, 30, 40, 5]  # the same in Codex's words


def block(made: Corpus, message: str, request: str | None, **more: Any) -> str:
    content = '{"type":"text","text":"x"}'
    return made.claude_block(
        "s", "/w", message, request, START, "claude-opus-4-8", USAGE, content=content, **more
    )


def without(line: str, *keys: str) -> str:
    data = json.loads(line)
    for key in keys:
        data.pop(key, None)
        data["message"].pop(key, None)
    return compact(data)


def counted(made: Corpus, when: float, total: list[int], **more: Any) -> str:
    line = json.loads(made._counted(when, total, CODEX_USAGE))
    line["payload"]["info"].pop(more.get("without"), None)
    return compact(line)


def head(made: Corpus) -> list[str]:
    meta = {"id": "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa", "cwd": "/w", "source": "cli"}
    return [
        made._codex(START, "session_meta", meta),
        made._codex(START, "turn_context", {"model": "gpt-5.5-codex"}),
    ]


def record(made: Corpus) -> str:
    from ..support.transcripts import _codex

    usage = {"thread_id": "t", "response_id": "resp_1", "usage": _codex(CODEX_USAGE)}
    return made._codex(START, "token_usage_record", usage)


TWICE = [2 * count for count in CODEX_USAGE]
DIFFERENCES = [
    Difference(
        "a copy without a request id",
        "The message's id tells that it is the same call (ccusage#985; 20.0.24 counts it again)",
        1,
        2,
        lambda made: [block(made, "m", "r"), block(made, "m", None)],
    ),
    Difference(
        "a line copied that has no id of its message",
        "Its uuid tells that it is the same line",
        1,
        2,
        lambda made: 2 * [without(block(made, "m", "r"), "id", "requestId")],
    ),
    Difference(
        "a reply that Claude Code wrote itself",
        "The model <synthetic> is none and was paid nothing (Claude Code 2.1 writes errors so)",
        0,
        1,
        lambda made: [block(made, "m", "r").replace("claude-opus-4-8", "<synthetic>")],
    ),
    Difference(
        "a call whose model is null",
        "It was a call, and is counted without a price",
        1,
        0,
        lambda made: [block(made, "m", "r").replace('"claude-opus-4-8"', "null")],
    ),
    Difference(
        "a last line without its end",
        "Its writer may be in the middle of it; it is counted when the end is there",
        0,
        1,
        lambda made: [],  # written below
    ),
    Difference(
        "a record of a response without the count that usually follows",
        "Codex 0.169 writes token_usage_record with the response's id: that is the call",
        1,
        0,
        lambda made: [*head(made), record(made)],
        "codex",
    ),
    Difference(
        "a total that shrank",
        "Totals only grow: it began anew (ccusage takes nothing for it)",
        3,
        2,
        lambda made: [
            *head(made),
            counted(made, START, TWICE, without="last_token_usage"),
            counted(made, START + 60, CODEX_USAGE, without="last_token_usage"),
        ],
        "codex",
    ),
]


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.name)
async def test_where_the_two_differ_there_is_a_rule(
    difference: Difference, tmp_path: Path, ours: Ours, ccusage: Rival
) -> None:
    made = Corpus(tmp_path, 1)
    if difference.kind == "codex":
        path = (
            tmp_path
            / ".codex/sessions/2026/10/26/rollout-2026-10-26T00-00-00-aaaaaaaa-aaaa-aaaa-aaaa-a.jsonl"
        )
    else:
        path = tmp_path / ".claude/projects/w/s.jsonl"
    lines = difference.lines(made)
    made.write(path, lines, cut="" if lines else block(made, "m", "r"))
    said = ccusage(tmp_path, "daily")
    totals = said["totals"] if isinstance(said, Mapping) else dict.fromkeys(NAMES, 0)
    assert tuple(totals[name] for name in NAMES) == tuple(difference.theirs * count for count in USAGE)
    mine = await ours("day")
    assert tokens(mine.total) == tuple(difference.calls * count for count in USAGE), difference.why


async def test_of_two_copies_the_one_with_more_output_counts(
    tmp_path: Path, ours: Ours, ccusage: Rival
) -> None:
    """Placeholders have less output (ccusage#888, #901); ccusage takes the one with more tokens in all."""
    made = Corpus(tmp_path, 1)
    early = json.loads(block(made, "m", "r", output=1))
    early["message"]["usage"]["input_tokens"] = 1000
    made.write(tmp_path / ".claude/projects/w/s.jsonl", [compact(early), block(made, "m", "r")])
    assert tokens((await ours("day")).total) == USAGE
    totals = ccusage(tmp_path, "daily")["totals"]
    assert tuple(totals[name] for name in NAMES) == (1000, 20, 30, 1)


async def test_what_was_deleted_since_stays_known(tmp_path: Path, ours: Ours, ccusage: Rival) -> None:
    """Claude Code deletes transcripts after thirty days; what was paid stays paid."""
    made = Corpus(tmp_path, 1)
    gone = made.write(tmp_path / ".claude/projects/w/s.jsonl", [block(made, "m", "r")])
    made.write(tmp_path / ".claude/projects/w/t.jsonl", [block(made, "m2", "r2")])
    before = await ours("day")
    gone.unlink()
    after = await ours("day")
    assert tokens(before.total) == tokens(after.total) == tuple(2 * count for count in USAGE)
    assert ccusage(tmp_path, "daily")["totals"]["inputTokens"] == USAGE[0]


# --- other CLIs ------------------------------------------------------------------------------------

CHATS = {
    "gemini": ".gemini/tmp/p/chats/session-2026-11-18T08-00-abcdef12.jsonl",
    "qwen": ".qwen/projects/-work-p/chats/0b1d5c9a-8fd0-4a52-9f57-b6a3f3a1c0de.jsonl",
    "copilot": ".copilot/session-state/0b1d5c9a-8fd0-4a52-9f57-b6a3f3a1c0de/events.jsonl",
}


@pytest.mark.parametrize("agent", [*CHATS, "opencode"])
async def test_what_other_clis_wrote_differs_only_in_what_goes_where(
    agent: str, tmp_path: Path, ours: Ours, ccusage: Rival
) -> None:
    """Buckets are apart and output has the reasoning, whichever CLI it is; ccusage mixes some."""
    if agent == "opencode":
        database = chats.OpenCode(tmp_path / ".local/share/opencode/opencode.db")
        session = database.session("one")
        for usage in ((10, 20, 30, 40), (5, 6, 7, 8)):
            database.end(session, database.begin(session), usage)
        database.close()
        own, others = database.truth[session], []
    else:
        chat = getattr(chats, agent)(1, 4)
        (tmp_path / CHATS[agent]).parent.mkdir(parents=True)
        (tmp_path / CHATS[agent]).write_bytes(chat.data)
        own, others = chat.truth, chat.others
    (row,) = (await ours("agent")).rows
    assert (row.keys, [*tokens(row)]) == ([agent], chats.summed([*own, *others]))
    totals = ccusage(tmp_path, "daily")["totals"]
    fresh, read, written, output = chats.summed(own) if agent == "qwen" else tokens(row)
    expected = {
        # What was thought is no output there, though it is paid for as such.
        "gemini": (fresh, read, written, output - row.reasoning),
        "opencode": (fresh, read, written, output - row.reasoning),
        # What was read from the cache is counted twice, and subagents' calls are not.
        "qwen": (fresh + read, read, written, output),
        # What was written to the cache is input.
        "copilot": (fresh + written, read, 0, output),
    }
    assert tuple(totals[name] for name in NAMES) == expected[agent]


# --- what real CLIs wrote --------------------------------------------------------------------------


@of_each(CLAUDE, CODEX)
async def test_both_say_of_a_real_transcript_what_the_provider_billed(
    cli: Any, search_path: str, home: Path, tmp_path: Path, ccusage: Rival, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = tmp_path / "person"
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.delenv("CODEX_HOME", raising=False)
    async with open_house(home, 20.0) as house:
        spec = cli.spec("say hi with a tool [[mock:output=40]]", person)
        started = await house.start(spec, cli.environ(search_path, person))
        ended = await house.ended(started.id)
        assert ended.info.exit_code == 0, ended.explain()
        mine = await house.client.transcripts(
            TranscriptRequest(by=["agent", "model"], environ={"HOME": str(person)})
        )
        checks = await house.client.agent_checks()
        truth = house.mock.truth.entries
        own = home / "state" / "agents" / started.id / "claude"
        said = await anyio.to_thread.run_sync(
            lambda: ccusage(person, "daily", claude=own if cli is CLAUDE else None)
        )
        mode = (home / "state" / "transcripts.db").stat().st_mode & 0o777
    billed: Table = {}
    for entry in truth:
        used = entry.usage
        call = used.input, used.cache_read, used.cache_write_5m + used.cache_write_1h, used.output
        key = (cli.program, entry.model)
        billed[key] = tuple(a + b for a, b in zip(billed.get(key, (0, 0, 0, 0)), call, strict=True))
    assert table(mine) == billed
    assert mine.total.calls == len(truth) > 1
    assert tuple(said["totals"][name] for name in NAMES) == tokens(mine.total)
    assert [check for check in checks if check.level != "ok"] == []
    assert mode == 0o600
