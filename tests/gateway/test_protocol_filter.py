"""The usage chunk nobody asked for is taken out again, and nothing else."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.gateway.protocols.usage_filter import UsageFilter

BORDERS = st.lists(st.integers(0, 10**6), max_size=60)
NEWLINES = st.sampled_from(["\n", "\r\n", "\r"])
USAGE = {"choices": [], "usage": {"prompt_tokens": 1}, "id": "c"}
KEPT = st.one_of(
    st.just('data: {"choices":[],"usage":null}'),  # Azure's first chunk
    st.just('data: {"choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":1}}'),
    st.just(": comment"),
    st.just("data: [DONE]"),
    st.just('data: {"choices":[{"delta":{"content":"\\"choices\\":[] \\"usage\\":{"}}]}'),
    st.text(
        alphabet=st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), min_size=1, max_size=30
    ).map(lambda text: f"data: {text}"),
)


def cut(data: bytes, borders: list[int]) -> list[bytes]:
    places = sorted({border % (len(data) + 1) for border in borders} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def through(pieces: list[bytes]) -> bytes:
    chosen = UsageFilter()
    out = b"".join(chosen.feed(piece, False) for piece in pieces)
    return out + chosen.feed(b"", True)


@given(
    events=st.lists(st.one_of(KEPT, st.none()), max_size=8),
    newline=NEWLINES,
    compact=st.booleans(),
    named=st.booleans(),
    borders=BORDERS,
)
def test_every_byte_but_the_usage_chunk_passes_at_any_borders(
    events: list[str | None], newline: str, compact: bool, named: bool, borders: list[int]
) -> None:
    usage = f"data: {json.dumps(USAGE, separators=(',', ':') if compact else None)}"
    usage = f"event: message{newline}{usage}" if named else usage
    data = "".join((usage if event is None else event) + newline * 2 for event in events).encode()
    wanted = "".join(event + newline * 2 for event in events if event is not None).encode()
    assert through(cut(data, borders)) == wanted


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_no_single_border_costs_a_byte_of_the_neighbours(newline: str) -> None:
    usage = f"data: {json.dumps(USAGE)}"
    data = (newline * 2).join(["data: a", usage, usage, "data: b", usage, "data: [DONE]", ""]).encode()
    wanted = (newline * 2).join(["data: a", "data: b", "data: [DONE]", ""]).encode()
    for border in range(len(data) + 1):
        assert through([data[:border], data[border:]]) == wanted


@given(data=st.binary(max_size=300), borders=BORDERS)
def test_what_is_no_stream_of_events_passes_whole(data: bytes, borders: list[int]) -> None:
    assert through(cut(data, borders)) == data


@pytest.mark.parametrize("size", [10, 70_000])
def test_whole_events_pass_at_once_and_long_ones_without_being_kept(size: int) -> None:
    chosen = UsageFilter()
    event = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"x" * size)
    assert chosen.feed(event, False) == event
    passed = [chosen.feed(event[n : n + 1000], False) for n in range(0, len(event), 1000)]
    assert b"".join(passed) == event
    usage = b"data: %b\n\n" % json.dumps(USAGE).encode()
    assert chosen.feed(usage + b"data: [DONE]\n\n", True) == b"data: [DONE]\n\n"


def test_a_usage_chunk_without_its_blank_line_goes_too() -> None:
    chosen = UsageFilter()
    data = b"data: a\n\ndata: %b\n" % json.dumps(USAGE).encode()
    assert chosen.feed(data, True) == b"data: a\n\n"
