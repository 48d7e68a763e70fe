"""Reading usage: any chunk borders, any line ends, and what the fields mean."""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.gateway.coding import Decoder, accept_readable
from agenttop.core.gateway.protocols.anthropic import Anthropic, MessageReader, StreamReader
from agenttop.core.gateway.sse import EventSplitter, fields
from agenttop.core.journal.events import Usage

TEXTS = st.lists(st.text(max_size=30), max_size=6)
EVENT_TEXT = st.text(
    alphabet=st.characters(blacklist_characters="\r\n", blacklist_categories=("Cs",)), min_size=1, max_size=20
)


def cut(data: bytes, borders: list[int]) -> list[bytes]:
    places = sorted({border % (len(data) + 1) for border in borders} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def events(texts: list[str], tools: list[str], output: int) -> list[dict[str, Any]]:
    usage = {
        "input_tokens": 11,
        "cache_read_input_tokens": 22,
        "cache_creation_input_tokens": 33,
        "output_tokens": 1,
    }
    out: list[dict[str, Any]] = [{"type": "message_start", "message": {"model": "m", "usage": usage}}]
    out += [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        for text in texts
    ]
    out += [
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "name": tool}}
        for tool in tools
    ]
    out.append({"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 2}})
    out.append(
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": output}}
    )
    out.append({"type": "message_stop"})
    return out


def encode(parts: list[dict[str, Any]], newline: str, named: bool) -> bytes:
    lines = []
    for part in parts:
        if named:
            lines.append(f"event: {part['type']}")
        lines += [f"data: {json.dumps(part)}", ""]
    return (newline.join(lines) + newline).encode()


@given(
    texts=TEXTS,
    tools=st.lists(st.sampled_from(["Bash", "Read"]), max_size=3),
    output=st.integers(0, 10**6),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    named=st.booleans(),
    borders=st.lists(st.integers(0, 10**6), max_size=40),
)
def test_usage_does_not_depend_on_chunk_borders(
    texts: list[str], tools: list[str], output: int, newline: str, named: bool, borders: list[int]
) -> None:
    data = encode(events(texts, tools, output), newline, named)
    reader = StreamReader(1 << 20)
    cuts = [at for piece in cut(data, borders) if (at := reader.feed(piece)) is not None]
    # A lone CR may be half of a CRLF: the last blank line is complete, whatever follows.
    assert len(cuts) == 1
    # What was announced before (2) is not taken back.
    assert reader.usage() == Usage(input=11, cache_read=22, cache_write_5m=33, output=max(output, 2))
    assert (reader.final, reader.model, reader.tools, reader.stop_reason) == (True, "m", tools, "end_turn")


@given(
    blocks=st.lists(st.lists(EVENT_TEXT.map(lambda t: f"data: {t}"), min_size=1, max_size=3), max_size=8),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    gaps=st.integers(1, 3),
    borders=st.lists(st.integers(0, 10**6), max_size=60),
)
def test_the_splitter_finds_the_same_events_however_it_is_fed(
    blocks: list[list[str]], newline: str, gaps: int, borders: list[int]
) -> None:
    data = "".join(newline.join(block) + newline * (gaps + 1) for block in blocks).encode()
    splitter = EventSplitter()
    found = [event for piece in cut(data, borders) for event in splitter.feed(piece)]
    assert found == ["\n".join(block).encode() for block in blocks]


@given(size=st.integers(50, 5000), borders=st.lists(st.integers(0, 10**6), max_size=30))
def test_an_event_that_is_too_long_is_skipped_and_the_next_is_read(size: int, borders: list[int]) -> None:
    splitter = EventSplitter(limit=40)
    data = b"data: " + b"x" * size + b"\n\ndata: next\n\n"
    found = [event for piece in cut(data, [*borders, 45]) for event in splitter.feed(piece)]
    assert found[-1] == b"data: next"
    assert splitter.skipped + len(found) == 2


def test_the_cut_lies_before_the_event_that_ends_the_message() -> None:
    data = encode(events(["hi"], [], 5), "\n", named=True)
    at = StreamReader(1 << 20).feed(data)
    assert at == data.index(b"event: message_stop")


@given(border=st.integers(0, 10**6))
def test_nothing_a_client_could_act_on_leaves_before_the_settlement(border: int) -> None:
    data = encode(events(["hi"], [], 5), "\n", named=True)
    passed, reader = b"", StreamReader(1 << 20)
    for piece in cut(data, [border]):
        at = reader.feed(piece)
        if at is not None:
            passed += piece[:at]
            break
        passed += piece
    assert b"message_stop" not in b"".join(EventSplitter().feed(passed))


def test_fields_of_an_event() -> None:
    assert fields(b": comment\nevent: a\ndata: 1\ndata:2\nid: 7\nretry") == (b"a", b"1\n2")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input_tokens": 1, "output_tokens": 2}, Usage(input=1, output=2)),
        ({"input_tokens": 1, "cache_creation_input_tokens": 9}, Usage(input=1, cache_write_5m=9)),
        (
            {"cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}},
            Usage(cache_write_5m=3, cache_write_1h=4),
        ),
        (
            {"cache_creation_input_tokens": 7, "cache_creation": {"ephemeral_1h_input_tokens": 7}},
            Usage(cache_write_1h=7),
        ),
        ({"output_tokens": 5, "output_tokens_details": {"thinking_tokens": 4}}, Usage(output=5, reasoning=4)),
        ({"input_tokens": None, "output_tokens": "3", "cache_read_input_tokens": -1}, Usage()),
        ({"input_tokens": True, "output_tokens": 10**30}, Usage()),
    ],
)
def test_usage_fields_become_disjoint_buckets(usage: dict[str, Any], expected: Usage) -> None:
    reader = MessageReader(1 << 20)
    reader.feed(json.dumps({"usage": usage}).encode())
    reader.finish()
    assert reader.usage() == expected


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"usage": 3}', b'{"content": [1], "error": "x"}', b"\xff\xfe"]
)
def test_an_answer_that_makes_no_sense_is_not_final(body: bytes) -> None:
    reader = MessageReader(1 << 20)
    reader.feed(body)
    reader.finish()
    assert not reader.final
    assert reader.usage() == Usage()


def test_an_answer_too_long_to_keep_is_not_final() -> None:
    reader = MessageReader(100)
    for _ in range(5):
        reader.feed(b"x" * 50)
    reader.finish()
    assert not reader.final
    assert "too long" in reader.error


@given(st.binary(max_size=2000), st.lists(st.integers(0, 10**6), max_size=10))
def test_no_bytes_break_the_reader(data: bytes, borders: list[int]) -> None:
    reader = StreamReader(1000)
    for piece in cut(data, borders):
        reader.feed(piece)
    reader.finish()
    assert reader.usage().total >= 0


@given(
    st.binary(max_size=5000),
    st.sampled_from(["gzip", "deflate", "raw"]),
    st.lists(st.integers(0, 10**6), max_size=20),
)
def test_decoding_does_not_depend_on_borders(data: bytes, coding: str, borders: list[int]) -> None:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "raw": lambda d: zlib.compress(d)[2:-4]}[coding]
    decoder = Decoder(b"gzip" if coding == "gzip" else b"deflate")
    out = b"".join(out for piece in cut(pack(data), borders) for out in decoder.feed(piece))
    assert out == data
    assert not decoder.broken


def test_a_decompression_bomb_comes_in_small_pieces() -> None:
    decoder = Decoder(b"gzip")
    sizes = [len(piece) for piece in decoder.feed(gzip.compress(bytes(50 << 20)))]
    assert sum(sizes) == 50 << 20
    assert max(sizes) <= 64 << 10


def test_a_broken_coding_is_noticed() -> None:
    decoder = Decoder(b"gzip")
    assert list(decoder.feed(b"not gzip at all")) == []
    assert decoder.broken


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (b"gzip, deflate, br, zstd", b"gzip, deflate"),
        (b"br", b"identity"),
        (b"*", b"identity"),
        (b"GZIP;q=0.5, br;q=1", b"GZIP;q=0.5"),
        (b"", b"identity"),
    ],
)
def test_only_what_can_be_read_is_asked_for(asked: bytes, sent: bytes) -> None:
    assert accept_readable(asked) == sent


@pytest.mark.parametrize(
    ("headers", "tools", "main"),
    [
        ([], [], True),
        ([(b"X-Claude-Code-Session-Id", b"s")], [{"name": "Bash"}], True),
        ([(b"X-Claude-Code-Session-Id", b"s")], [], False),
        ([(b"x-claude-code-session-id", b"s"), (b"x-claude-code-agent-id", b"a")], [{"name": "Bash"}], False),
    ],
)
def test_only_the_main_loop_tells_the_context(headers: Any, tools: Any, main: bool) -> None:
    body = json.dumps({"model": "m", "tools": tools, "max_tokens": 5}).encode()
    facts = Anthropic().read_request("messages", headers, body)
    assert (facts.main_loop, facts.model, facts.max_tokens, facts.stream) == (main, "m", 5, False)


def test_the_long_context_beta_changes_the_limit() -> None:
    facts = Anthropic().read_request("messages", [(b"Anthropic-Beta", b"x,context-1m-2025-08-07")], b"{}")
    assert facts.context_limit == 1_000_000
