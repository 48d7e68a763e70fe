"""Which calls a transcript tells of, and which of several copies counts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agenttop.core.errors import AgentTopError
from agenttop.core.observe.index import scan
from agenttop.core.observe.index.calls import NO_REQUEST, SIDECHAIN, Call, counted, pack, unpack_all
from agenttop.core.observe.index.history import History, Root
from agenttop.core.observe.index.lines import Lines
from agenttop.core.observe.index.scan_index import QUARTER, ScanIndex
from agenttop.core.observe.index.scan_pool import readings

from ..support.transcripts import BUCKETS, Corpus, Key, compact, stamp

NOW = 1_795_000_000.0


def history(home: Path, index: ScanIndex, processes: int = 1) -> History:
    roots = [Root("claude", f"{home}/.claude/projects"), Root("codex", f"{home}/.codex/sessions")]
    return History(index, roots, processes)


def found(index: ScanIndex) -> dict[Key, list[int]]:
    """What the index counts, in the form of the truth."""
    kinds = {known.file: known.kind for known in index.files()}
    cells: dict[Key, list[int]] = defaultdict(lambda: [0] * len(BUCKETS))
    for row in index.sums():
        cell = cells[kinds[row.file], stamp(row.quarter * QUARTER / 1000)[:10], row.model]
        tokens = (row.input, row.cache_read, row.cache_write_5m + row.cache_write_1h, row.output)
        for place, count in enumerate(tokens):
            cell[place] += count
    return cells


def calls_of(path: Path, kind: str = "claude") -> list[Call]:
    return [Call(*values) for values in unpack_all(scan.read(scan.Job(1, kind, str(path))).calls)]


def reply(**changes: Any) -> dict[str, Any]:
    """One line of a reply in the usual form; ``usage`` and others may be replaced."""
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 6,
        "cache_read_input_tokens": 7,
        "output_tokens": 5,
    }
    usage["cache_creation"] = {"ephemeral_1h_input_tokens": 2, "ephemeral_5m_input_tokens": 4}  # type: ignore[assignment]
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-8"}
    message |= {"content": changes.pop("content", []), "stop_reason": None}  # type: ignore[dict-item]
    message["usage"] = usage | changes.pop("usage", {})  # type: ignore[assignment]
    message |= changes.pop("message", {})
    line = {
        "parentUuid": None,
        "isSidechain": False,
        "message": message,
        "requestId": "req_1",
        "type": "assistant",
    }
    return (
        line | {"uuid": "u", "timestamp": "2026-11-18T08:00:00.123Z", "cwd": "/w", "sessionId": "s"} | changes
    )


def written(path: Path, *lines: object) -> Path:
    path.write_text("".join(line if isinstance(line, str) else compact(line) + "\n" for line in lines))
    return path


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), cut=st.booleans())
def test_a_corpus_of_everything_difficult_is_counted_to_the_token(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cut: bool
) -> None:
    home = tmp_path_factory.mktemp("home")
    corpus = Corpus(home, seed, body=40, tools=60)
    for number in range(5):
        corpus.claude_session(f"p{number % 2}", 12, NOW + number * 40_000, cut=cut)
        corpus.codex_session(8, NOW + number * 30_000, records=number % 2 == 0, fork=number == 3)
    index = ScanIndex(home / "scan.db")
    history(home, index).refresh()
    assert found(index) == corpus.truth
    index.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), steps=st.lists(st.floats(0, 1), max_size=4))
def test_files_that_grow_byte_by_byte_are_counted_like_whole_ones(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: list[float]
) -> None:
    home = tmp_path_factory.mktemp("home")
    corpus = Corpus(home, seed, body=40, tools=60)
    corpus.claude_session("p", 10, NOW)
    corpus.codex_session(8, NOW, records=seed % 2 == 0, fork=seed % 3 == 0)
    whole = {path: path.read_bytes() for path in corpus.files}
    index = ScanIndex(home / "scan.db")
    for part in [*sorted(steps), 1.0]:
        for path, data in whole.items():
            path.write_bytes(data[: int(len(data) * part)])
        history(home, index).refresh()  # as after a restart
    assert found(index) == corpus.truth
    index.close()


def test_several_processes_count_what_one_counts(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, 7, body=200, tools=200_000)
    for number in range(4):
        corpus.claude_session(f"p{number}", 90, NOW)
    index = ScanIndex(tmp_path / "scan.db")
    done = history(tmp_path, index, 2).refresh()
    assert done.new_bytes == corpus.bytes
    assert found(index) == corpus.truth
    index.close()


def readers() -> list[int]:
    """Reading processes of this test's process."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # ended, a zombie of another test's
            if any("scan_worker" in word for word in child.cmdline()):
                found.append(child.pid)
    return found


def test_a_reading_given_up_leaves_no_process(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, 7, body=40, tools=60)
    jobs = [scan.Job(n, "claude", str(corpus.claude_session(f"p{n}", 5, NOW))) for n in range(40)]
    found = readings(jobs, 1 << 40, 2)
    next(found)
    assert len(readers()) == 2
    found.close()
    assert readers() == []


def test_a_reading_process_that_dies_is_an_error_and_leaves_no_process(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, 7, body=40, tools=60)
    jobs = [scan.Job(n, "claude", str(corpus.claude_session(f"p{n}", 5, NOW))) for n in range(40)]
    found = readings(jobs, 1 << 40, 2)
    next(found)
    for pid in readers():
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(AgentTopError, match="cannot read transcripts"):
        list(found)
    assert readers() == []


def test_a_second_start_reads_only_what_is_new(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, 3, body=40, tools=60)
    grown = corpus.claude_session("p", 5, NOW, hard=False)
    corpus.claude_session("q", 5, NOW, hard=False)
    index = ScanIndex(tmp_path / "scan.db")
    history(tmp_path, index).refresh()
    index.close()
    more = compact(reply(message={"id": "msg_new"}, requestId="req_new")) + "\n"
    with grown.open("a") as file:
        file.write(more)
    index = ScanIndex(tmp_path / "scan.db")
    again = history(tmp_path, index)
    first, second = again.refresh(), again.refresh()
    assert (first.read, first.new_bytes) == (1, len(more))
    assert (second.read, second.new_bytes) == (0, 0)
    assert sum(row.calls for row in index.sums()) == corpus.calls["claude"] + 1
    index.close()


def test_a_file_cut_off_and_written_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    folder = tmp_path / ".claude" / "projects" / "p"
    folder.mkdir(parents=True)
    path = written(folder / "s.jsonl", reply(), reply(message={"id": "msg_2"}, requestId="req_2"))
    index = ScanIndex(tmp_path / "scan.db")
    watched = history(tmp_path, index)
    watched.refresh()
    written(path, reply(message={"id": "msg_3"}, requestId="req_3"))
    watched.refresh()
    # What was told once has happened, even if the file says so no more.
    assert sum(row.calls for row in index.sums()) == 3
    index.close()


def test_a_placeholder_gives_way_to_the_line_with_the_highest_output(tmp_path: Path) -> None:
    path = written(
        tmp_path / "s.jsonl", reply(usage={"output_tokens": 1}), reply(), reply(usage={"output_tokens": 2})
    )
    (call,) = calls_of(path)
    assert (call.input, call.cache_read, call.cache_write_5m, call.cache_write_1h, call.output) == (
        10,
        7,
        4,
        2,
        5,
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (reply(message={"model": "<synthetic>"}), "an error that Claude Code itself wrote"),
        (
            {"type": "user", "message": {"role": "user"}, "toolUseResult": {"usage": {"input_tokens": 9}}},
            "a result",
        ),
        (
            {"type": "user", "message": {"role": "user", "content": []}, "usage": {"input_tokens": 9}},
            "not a message's",
        ),
        (["input_tokens"], "not an object"),
        ('{"message":{"usage":{"input_tokens":1', "the end is missing"),
    ],
)
def test_what_only_looks_like_a_call_is_none(tmp_path: Path, line: object, why: str) -> None:
    assert calls_of(written(tmp_path / "s.jsonl", line)) == [], why


def test_usage_inside_a_tools_input_is_not_the_calls(tmp_path: Path) -> None:
    fake = {"usage": {"input_tokens": 9, "cache_creation_input_tokens": 9, "cache_read_input_tokens": 9}}
    fake["usage"]["output_tokens"] = 999
    decoy = {"type": "tool_use", "input": {"a": fake, "requestId": "req_x", "type": "assistant"}}
    (call,) = calls_of(written(tmp_path / "s.jsonl", reply(content=[decoy])))
    assert call.output == 5


def test_usage_inside_a_tools_input_is_none_where_the_message_has_none(tmp_path: Path) -> None:
    usage = {
        "input_tokens": 9,
        "cache_creation_input_tokens": 9,
        "cache_read_input_tokens": 9,
        "output_tokens": 9,
    }
    line = reply(content=[{"type": "tool_use", "input": {"deep": {"usage": usage}}}])
    del line["message"]["usage"]
    assert calls_of(written(tmp_path / "s.jsonl", line)) == []


def test_a_file_cut_back_to_its_beginning_is_read_on(tmp_path: Path) -> None:
    folder = tmp_path / ".claude" / "projects" / "p"
    folder.mkdir(parents=True)
    lines = [reply(content=["x" * 2000], message={"id": f"m{n}"}, requestId=f"r{n}") for n in range(4)]
    path = written(folder / "s.jsonl", *lines[:3])
    index = ScanIndex(tmp_path / "scan.db")
    watched = history(tmp_path, index)
    watched.refresh()
    written(path, lines[0], lines[3])
    watched.refresh()
    assert sum(row.calls for row in index.sums()) == 4
    index.close()


def test_the_usual_form_and_any_other_are_read_alike(tmp_path: Path) -> None:
    line = reply(usage={"output_tokens_details": {"thinking_tokens": 3}})
    usual = calls_of(written(tmp_path / "a.jsonl", line))
    spaced = calls_of(
        written(tmp_path / "b.jsonl", json.dumps(line, indent=None, separators=(" , ", " : ")) + "\n")
    )
    turned = calls_of(written(tmp_path / "c.jsonl", dict(reversed(line.items()))))
    assert usual == spaced == turned
    assert usual[0].reasoning == 3


def test_a_line_without_its_end_waits_for_it(tmp_path: Path) -> None:
    text = compact(reply())
    path = written(tmp_path / "s.jsonl", text)
    first = scan.read(scan.Job(1, "claude", str(path)))
    assert (first.offset, first.calls) == (0, b"")
    written(path, text + "\n")
    assert len(calls_of(path)) == 1


def test_a_line_too_long_is_passed_over_and_counted(tmp_path: Path) -> None:
    path = written(
        tmp_path / "s.jsonl", reply(), "x" * 5_000_000 + "\n", reply(requestId="2", message={"id": "2"})
    )
    found = scan.read(scan.Job(1, "claude", str(path)), longest=1 << 20)
    assert (found.long, len(list(unpack_all(found.calls)))) == (1, 2)
    assert found.offset == path.stat().st_size


@given(st.lists(st.integers(0, 60), max_size=30), st.integers(4, 24))
def test_pieces_are_the_files_whole_lines(sizes: list[int], piece: int) -> None:
    data = b"".join(bytes([97 + size % 26]) * size + b"\n" for size in sizes)
    descriptor = os.memfd_create("lines")
    try:
        os.write(descriptor, data + b"half")
        lines = Lines(descriptor, 0, longest=1 << 20, piece=piece)
        got = b"".join(bytes(buffer[:end]) for buffer, end in lines.pieces())
        assert (got, lines.offset, lines.long) == (data, len(data), 0)
    finally:
        os.close(descriptor)


def test_a_file_that_may_not_be_read_a_loop_of_links_and_a_fifo_hinder_nobody(tmp_path: Path) -> None:
    folder = tmp_path / ".claude" / "projects" / "p"
    folder.mkdir(parents=True)
    written(folder / "s.jsonl", reply())
    (folder / "loop").symlink_to(folder)
    (folder / "gone.jsonl").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "folder.jsonl").mkdir()
    index = ScanIndex(tmp_path / "scan.db")
    done = history(tmp_path, index).refresh()
    assert (done.files, done.errors) == (1, 0)
    assert sum(row.calls for row in index.sums()) == 1
    index.close()


def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, 3, body=40, tools=60)
    corpus.claude_session("p", 5, NOW)
    (tmp_path / "scan.db").write_bytes(b"this is not a database, " * 100)
    index = ScanIndex(tmp_path / "scan.db")
    history(tmp_path, index).refresh()
    assert found(index) == corpus.truth
    index.close()


def test_a_crash_between_two_commits_costs_nothing(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, 4, body=40, tools=60)
    for _ in range(3):
        corpus.claude_session("p", 5, NOW)
    index = ScanIndex(tmp_path / "scan.db")
    index.add_files([("claude", str(path)) for path in corpus.files])
    index.begin()
    for known in index.files()[:2]:
        index.add(scan.read(scan.Job(known.file, known.kind, known.path)))
    index.close()  # as kill -9 would, before the commit
    index = ScanIndex(tmp_path / "scan.db")
    history(tmp_path, index).refresh()
    assert found(index) == corpus.truth
    index.close()


def test_a_file_that_grows_little_by_little_keeps_few_parts(tmp_path: Path) -> None:
    path = tmp_path / ".claude" / "projects" / "p" / "s.jsonl"
    path.parent.mkdir(parents=True)
    index = ScanIndex(tmp_path / "scan.db")
    watched = history(tmp_path, index)
    for number in range(40):
        with path.open("a") as file:
            for output in (1, 5):
                line = reply(
                    message={"id": f"m{number}"}, requestId=f"r{number}", usage={"output_tokens": output}
                )
                file.write(compact(line) + "\n")
                file.flush()
                watched.refresh()
    (row,) = index.sums()
    assert (row.calls, row.output) == (40, 200)
    assert len(list(index._parts())) < 20
    index.close()


def test_a_subagents_progress_line_is_a_call_of_the_same_message(tmp_path: Path) -> None:
    inner = reply(isSidechain=True)
    told = {
        "type": "assistant",
        "timestamp": inner["timestamp"],
        "message": inner["message"],
        "requestId": "req_1",
    }
    progress = {
        "type": "progress",
        "data": {"type": "agent_progress", "message": told},
        "timestamp": stamp(NOW),
    }
    (call,) = calls_of(written(tmp_path / "s.jsonl", progress, reply()))
    assert call.output == 5


# --- copies of one message -------------------------------------------------------------------------


def copy(request: int, output: int, file: int = 1) -> tuple[tuple[int, ...], int]:
    return (1, request, 0, 0, 0, 0, 0, 0, output, 0), file


def test_a_sidechains_replay_gives_way_to_the_parents_line() -> None:
    assert counted([copy(SIDECHAIN, 9), copy(5, 3)]) == [copy(5, 3)]
    assert counted([copy(SIDECHAIN, 3, 1), copy(SIDECHAIN, 9, 2)]) == [copy(SIDECHAIN, 9, 2)]


def test_without_a_request_id_the_message_decides() -> None:
    assert counted([copy(NO_REQUEST, 9), copy(5, 3)]) == [copy(5, 3)]
    assert counted([copy(SIDECHAIN, 9), copy(NO_REQUEST, 3)]) == [copy(NO_REQUEST, 3)]


def test_two_requests_of_one_message_are_two_calls() -> None:
    assert sorted(counted([copy(5, 3), copy(6, 3), copy(5, 2)])) == [copy(5, 3), copy(6, 3)]


@given(st.permutations([copy(SIDECHAIN, 9), copy(5, 3), copy(5, 8), copy(6, 1), copy(NO_REQUEST, 4)]))
def test_the_order_of_copies_does_not_matter(copies: list[tuple[tuple[int, ...], int]]) -> None:
    assert sorted(counted(copies)) == [copy(5, 8), copy(6, 1)]


def test_a_call_packs_and_unpacks() -> None:
    call = Call((1 << 63) - 1, SIDECHAIN, 1, (1 << 63) - 1, *[(1 << 32) - 1] * 6)
    assert Call(*next(unpack_all(pack(*call)))) == call


# --- Codex -----------------------------------------------------------------------------------------


def counted_line(second: int, total: int, last: int | None = None) -> dict[str, Any]:
    info: dict[str, Any] = {"total_token_usage": {"input_tokens": total, "output_tokens": 0}}
    if last is not None:
        info["last_token_usage"] = {"input_tokens": last, "output_tokens": 0}
    info["total_token_usage"]["reasoning_output_tokens"] = 0
    payload = {"type": "token_count", "info": info}
    return {"timestamp": f"2026-11-18T08:00:{second:02d}.000Z", "type": "event_msg", "payload": payload}


def test_a_codex_total_that_stands_still_is_no_call(tmp_path: Path) -> None:
    path = written(
        tmp_path / "r.jsonl", counted_line(1, 10, 10), counted_line(2, 10, 10), counted_line(3, 25, 15)
    )
    assert sorted(call.input for call in calls_of(path, "codex")) == [10, 15]


def test_codex_totals_alone_are_told_apart(tmp_path: Path) -> None:
    path = written(tmp_path / "r.jsonl", counted_line(1, 10), counted_line(2, 25), counted_line(3, 4))
    assert sorted(call.input for call in calls_of(path, "codex")) == [4, 10, 15]


def test_a_codex_count_without_numbers_is_none(tmp_path: Path) -> None:
    line = {"timestamp": stamp(NOW), "type": "event_msg", "payload": {"type": "token_count", "info": None}}
    assert calls_of(written(tmp_path / "r.jsonl", line), "codex") == []
