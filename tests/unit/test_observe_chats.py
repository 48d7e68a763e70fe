"""Calls out of transcripts of Gemini, Qwen, Copilot, aider, OpenCode and goose: each once, to the token."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agenttop.core.observe.contract import Observer, Session, observers
from agenttop.core.observe.index import scan
from agenttop.core.observe.index.calls import Call, unpack_all
from agenttop.core.observe.index.formats import BUILT_IN, reader_class
from agenttop.core.observe.index.history import History, Root
from agenttop.core.observe.index.scan_index import ScanIndex

from ..support import chats
from ..support.chats import OpenCode, Tokens, summed

OBSERVERS = observers()[0]
FORMATS = sorted(chats.WRITERS)
slow = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def tokens(call: Call) -> Tokens:
    return call.input, call.cache_read, call.cache_write_5m + call.cache_write_1h, call.output


class Reader:
    """Reads one source again and again, with what it has to remember between, and keeps all copies."""

    def __init__(self, kind: str, path: str) -> None:
        self.job = scan.Job(1, kind, path)
        self.calls: dict[int, Call] = {}
        self.odd = 0

    def read(self) -> Reader:
        reading = scan.read(self.job)
        assert reading.error == ""
        if reading.restart:
            self.calls.clear()
        self.odd = reading.odd + (0 if reading.whole else self.odd)
        self.calls |= {call.message: call for call in (Call(*v) for v in unpack_all(reading.calls))}
        place = reading.offset, reading.head, reading.head_size
        self.job = scan.Job(1, self.job.kind, self.job.path, *place, reading.state)
        return self

    @property
    def tokens(self) -> list[Tokens]:
        return sorted(tokens(call) for call in self.calls.values())


def file_of(kind: str, folder: Path) -> Path:
    """Where a transcript of this format may lie."""
    name = {
        "aider": ".aider.chat.history.md",
        "copilot": "s/events.jsonl",
        "gemini": "p/chats/session-1.jsonl",
    }
    path = folder / name.get(kind, "p/chats/s.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def usage_of(observer: Observer, path: Path | str) -> list[int]:
    """What a tail counts: its own calls and its subagents'."""
    tail = observer.tail(Session("s", str(path), True))
    tail.refresh()
    view = tail.view(chats.T, None)
    parts = [view.usage, *(child.view.usage for child in view.children)]
    return [
        sum(part)
        for part in zip(*((p.input, p.cache_read, p.cache_write, p.output) for p in parts), strict=True)
    ]


@pytest.mark.parametrize("kind", FORMATS)
@slow
@given(seed=st.integers(0, 10_000), turns=st.integers(1, 8))
def test_every_call_is_counted_once_to_the_token(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int, turns: int
) -> None:
    chat = chats.WRITERS[kind](seed, turns)
    path = file_of(kind, tmp_path_factory.mktemp("home"))
    path.write_bytes(chat.data)
    assert Reader(kind, str(path)).read().tokens == sorted(chat.truth + chat.others)
    assert usage_of(OBSERVERS[kind], path) == summed(chat.truth + chat.others)


@pytest.mark.parametrize("kind", FORMATS)
def test_cut_at_any_byte_and_then_whole_is_the_same_as_whole(tmp_path: Path, kind: str) -> None:
    chat = chats.WRITERS[kind](3, 2)
    path = file_of(kind, tmp_path)
    whole = chat.data
    step = max(1, len(whole) // 700) | 1  # odd, so that all places in a line come
    for cut in range(0, len(whole), step):
        path.write_bytes(whole[:cut])
        reader = Reader(kind, str(path)).read()
        tail = OBSERVERS[kind].tail(Session("s", str(path), True))
        tail.refresh()
        with path.open("ab") as file:
            file.write(whole[cut:])
        assert reader.read().tokens == sorted(chat.truth + chat.others), cut
        assert reader.odd == 0
        tail.refresh()
        assert tail.view(chats.T, None).calls == len(chat.truth), cut
        assert tail.oddities.unreadable == 0


@pytest.mark.parametrize("kind", FORMATS)
@slow
@given(seed=st.integers(0, 10_000), steps=st.lists(st.floats(0, 1), max_size=5))
def test_a_file_that_grows_is_counted_like_a_whole_one(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int, steps: list[float]
) -> None:
    chat = chats.WRITERS[kind](seed, 4)
    path = file_of(kind, tmp_path_factory.mktemp("home"))
    path.touch()
    reader = Reader(kind, str(path))
    for part in [*sorted(steps), 1.0]:
        with path.open("r+b") as file:
            file.write(chat.data[: int(len(chat.data) * part)])
        reader.read()
    assert reader.tokens == sorted(chat.truth + chat.others)


@pytest.mark.parametrize("kind", FORMATS)
@slow
@given(
    garbage=st.lists(
        st.one_of(
            st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"")),
            st.sampled_from(
                [
                    b'{"type":"gemini","tokens":{"input":-5,"output":"x"}}',
                    b'{"type":"gemini","id":1,"tokens":[1],"timestamp":"never"}',
                    b'{"$set":{"messages":5}, "tokens":1}',
                    b'{"type":"session.usage_record","data":{"usage":[]}}',
                    b'{"type":"session.usage_record","data":{"usage":{"inputTokens":1e99}},"timestamp":7}',
                    b'{"type":"assistant","usageMetadata":{"promptTokenCount":true},"uuid":null}',
                    b'{"subtype":"ui_telemetry","type":"system","x":"qwen-code.api_response"}',
                    b"> Tokens: 1.2.3k sent, 5 received.",
                    b"# aider chat started at 9999-99-99 99:99:99",
                    b'["tokens", "usageMetadata", "session.usage_record"]',
                    b"\xff\xfe\x00",
                    b"[" * 3000,
                ]
            ),
        ),
        max_size=8,
    ),
    places=st.lists(st.floats(0, 1), min_size=8, max_size=8),
)
def test_garbage_between_the_lines_harms_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, kind: str, garbage: list[bytes], places: list[float]
) -> None:
    chat = chats.WRITERS[kind](5, 3)
    lines = [line.encode() for line in chat.lines]
    for line, place in zip(garbage, places, strict=False):
        lines.insert(1 + int(place * len(lines)), line)
    path = file_of(kind, tmp_path_factory.mktemp("home"))
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert Reader(kind, str(path)).read().tokens == sorted(chat.truth + chat.others)
    assert usage_of(OBSERVERS[kind], path) == summed(chat.truth + chat.others)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_written_anew_is_read_from_its_beginning(tmp_path: Path, kind: str) -> None:
    path, first, second = file_of(kind, tmp_path), chats.WRITERS[kind](1, 6), chats.WRITERS[kind](2, 2)
    path.write_bytes(first.data)
    tail = OBSERVERS[kind].tail(Session("s", str(path), True))
    tail.refresh()
    other = path.with_name("new")
    other.write_bytes(second.data)
    os.replace(other, path)
    assert tail.refresh()
    assert tail.view(chats.T, None).usage.output == summed(second.truth)[3]


def test_a_call_told_of_in_two_chats_counts_once(tmp_path: Path) -> None:
    chat = chats.gemini(1, 3)
    for name in ("session-1.jsonl", "session-2.jsonl"):  # resumed: its messages again under their ids
        path = tmp_path / "p" / "chats" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chat.data)
    index = ScanIndex(tmp_path / "scan.db")
    History(index, [Root("gemini", str(tmp_path / "p"))], 1).refresh()
    assert sum(row.calls for row in index.sums()) == len(chat.truth)
    assert sum(row.output for row in index.sums()) == summed(chat.truth)[3]
    index.close()


def test_geminis_thoughts_are_output_and_the_cache_is_no_fresh_input(tmp_path: Path) -> None:
    path = file_of("gemini", tmp_path)
    (path.parents[1] / ".project_root").write_text("/work/shop")
    line = {"id": "r", "timestamp": "2026-11-18T08:00:00Z", "type": "gemini", "model": "gemini-2.5-pro"}
    numbers = {"input": 100, "output": 10, "cached": 60, "thoughts": 5, "tool": 7, "total": 122}
    path.write_text(chats.compact(line | {"tokens": numbers}) + "\n")
    (call,) = Reader("gemini", str(path)).read().calls.values()
    assert (tokens(call), call.reasoning, call.total) == ((47, 60, 0, 15), 5, 122)
    assert scan.read(scan.Job(1, "gemini", str(path))).facts["cwd"] == "/work/shop"


def test_a_gemini_subagents_chat_names_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "p" / "chats" / "parent-id" / "own-id.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(chats.gemini(2).data)
    facts = scan.read(scan.Job(1, "gemini", str(path))).facts
    assert (facts["subagent"], facts["parent"]) == (True, "parent-id")


def test_qwens_subagents_are_counted_in_the_main_chat_only(tmp_path: Path) -> None:
    chat = chats.Chat(1)
    usage = (100, 50, 0, 20)
    main, sub = file_of("qwen", tmp_path), tmp_path / "p" / "subagents" / "q1" / "agent-a1.jsonl"
    sub.parent.mkdir(parents=True)
    main.write_text(chats.compact(chats.qwen_told(chat, usage, subagent_id="a1")) + "\n")
    sub.write_text(
        chats.compact(chats.qwen_reply(chat, usage) | {"isSidechain": True, "agentId": "a1"}) + "\n"
    )
    assert Reader("qwen", str(main)).read().tokens == [usage]
    assert Reader("qwen", str(sub)).read().tokens == []


def test_the_twin_of_a_qwen_call_is_known_after_a_restart_too(tmp_path: Path) -> None:
    chat, usage, path = chats.Chat(1), (100, 50, 0, 20), file_of("qwen", tmp_path)
    path.write_text(chats.compact(chats.qwen_told(chat, usage)) + "\n")
    reader = Reader("qwen", str(path)).read()
    with path.open("a") as file:
        file.write(chats.compact(chats.qwen_reply(chat, usage)) + "\n")
    assert reader.read().tokens == [usage]


def test_aiders_rounded_counts_are_read_and_its_cache_is_no_fresh_input(tmp_path: Path) -> None:
    path = file_of("aider", tmp_path)
    path.write_text(
        "# aider chat started at 2026-11-18 08:00:00\n> Main model: openai/gpt-5.1 with diff edit format\n"
        "> Tokens: 12k sent, 1.5k cache write, 9k cache hit, 350 received. Cost: $0.01 message\n"
    )
    assert Reader("aider", str(path)).read().tokens == [(1500, 9000, 1500, 350)]


def test_an_aiders_analytics_are_better_than_its_history(tmp_path: Path) -> None:
    log, history = tmp_path / "log.jsonl", file_of("aider", tmp_path)
    history.write_bytes(chats.aider(1, 2).data)
    told = {"main_model": "openai/REDACTED", "prompt_tokens": 2347, "completion_tokens": 35}
    events = [
        {"event": "message_send", "properties": told | {"prompt_tokens": 99_999}, "time": 1_795_000_000},
        {"event": "launched", "properties": {}, "time": 1_795_000_001},
        {"event": "message_send", "properties": told, "time": 1_795_000_002},
    ]
    log.write_text("".join(chats.compact(event) + "\n" for event in events))
    from agenttop.core.observe.readers.aider_state import AiderTail

    tail = AiderTail(Session("s", str(history), False), str(log))
    tail.refresh()
    view = tail.view(chats.T, None)
    assert (view.usage.input, view.usage.output, view.calls) == (2347, 35, 1)
    assert list(view.usages) == ["openai/gpt-5.1"]


# --- databases -----------------------------------------------------------------------------------


@pytest.fixture
def opencode(tmp_path: Path) -> Iterator[OpenCode]:
    database = OpenCode(tmp_path / "opencode.db")
    yield database
    database.close()


def counted(index: ScanIndex) -> list[int]:
    rows = index.sums()
    return [
        sum(row.input for row in rows),
        sum(row.cache_read for row in rows),
        sum(row.cache_write_5m for row in rows),
        sum(row.output for row in rows),
    ]


@slow
@given(
    usages=st.lists(st.tuples(*[st.integers(0, 9000)] * 4), min_size=1, max_size=12),
    looks=st.sets(st.integers(0, 12)),
)
def test_opencodes_calls_are_counted_once_however_often_one_looks(
    tmp_path_factory: pytest.TempPathFactory, usages: list[Tokens], looks: set[int]
) -> None:
    home = tmp_path_factory.mktemp("home")
    database, index = OpenCode(home / "opencode.db"), ScanIndex(home / "scan.db")
    history = History(index, [Root("opencode", str(database.path))], 1)
    sessions = [database.session("ses_a"), database.session("ses_b", parent="ses_a")]
    for number, usage in enumerate(usages):
        session = sessions[number % 2]
        message = database.begin(session)
        if number in looks:
            history.refresh()
        database.end(session, message, usage)
        if number in looks:
            assert history.refresh().errors == 0
    history.refresh()
    assert counted(index) == summed(usages)
    assert history.refresh().read == 0
    assert History(index, [Root("opencode", str(database.path))], 1).refresh().read == 0
    facts = {known["session"]: known for known in index.facts().values()}
    assert (facts["ses_a"]["cwd"], facts["ses_b"]["parent"], facts["ses_b"]["subagent"]) == (
        *(chats.CWD, "ses_a"),
        True,
    )
    index.close()
    database.close()


def test_opencodes_reasoning_is_output_and_a_replaced_database_is_read_anew(
    tmp_path: Path, opencode: OpenCode
) -> None:
    opencode.session("ses_a")
    opencode.end("ses_a", opencode.begin("ses_a"), (100, 50, 20, 30))
    source = f"{opencode.path}#ses_a"
    reader = Reader("opencode", source).read()
    (call,) = reader.calls.values()
    assert (tokens(call), call.reasoning, call.total) == ((100, 50, 20, 30), 10, 200)
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        opencode.db.backup(other)
    opencode.close()
    os.replace(tmp_path / "other.db", opencode.path)
    assert reader.read().tokens == [(100, 50, 20, 30)]


def test_goose_counts_what_its_totals_grew_by(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    index = ScanIndex(tmp_path / "scan.db")
    history = History(index, [Root("goose", str(path))], 1)
    for totals in ((100, 20), (100, 20), (350, 60), (1000, 90)):
        chats.goose(path, totals)
        assert history.refresh().errors == 0
        assert counted(index) == [totals[0], 0, 0, totals[1]]
    assert [row.model for row in index.sums()][:1] == [chats.MODEL]
    chats.goose(path, (40, 5))  # begun anew: a new conversation under the old id
    history.refresh()
    assert counted(index) == [1040, 0, 0, 95]
    index.close()


def test_every_built_in_observer_reads_only_formats_that_there_are(tmp_path: Path) -> None:
    made, failed = observers()
    assert failed == {}
    assert sorted(made) == ["aider", "claude", "codex", "copilot", "gemini", "goose", "opencode", "qwen"]
    for name, observer in made.items():
        assert observer.name == name
        for root in observer.roots({}, str(tmp_path)):
            assert root.kind in BUILT_IN
            assert root.path.startswith(str(tmp_path))
            assert reader_class(root.kind, root.reader)(None).calls == {}
