"""The key that tells whether something said in a call is known: no place in the request is in it."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.gateway.heard import Heard, Kept
from agenttop.core.memory.sources.calls import Known, said
from agenttop.core.memory.sources.output import ENTRY_BYTES, pieces
from agenttop.core.memory.sources.spoken import MOST_CHARS, Spoken, called, keyed, unescaped

ROLES = ("user", "assistant", "tool", "system")
THINGS = st.lists(
    st.builds(Spoken, st.sampled_from(ROLES), st.sampled_from(["yes", "no", "go on", " yes ", "", "x" * 50])),
    max_size=12,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def keys(things: list[Spoken], conversation: str = "c") -> list[str]:
    return [one.key for one in keyed(things, conversation)]


@given(THINGS, THINGS)
def test_a_conversation_that_grows_adds_only_what_is_new(before: list[Spoken], more: list[Spoken]) -> None:
    first, whole = keys(before), keys(before + more)
    assert whole[: len(first)] == first
    assert len(set(whole)) == len(whole)


@given(THINGS, st.data())
def test_a_conversation_that_lost_its_beginning_adds_nothing(
    things: list[Spoken], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(things)))
    assert set(keys(things[start:])) <= set(keys(things))


@given(THINGS, st.randoms())
def test_the_order_of_things_is_not_in_their_keys(things: list[Spoken], random: object) -> None:
    mixed = list(things)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert sorted(keys(mixed)) == sorted(keys(things))


@given(THINGS, THINGS)
def test_an_answer_has_the_key_its_repetition_has(asked: list[Spoken], reply: list[Spoken]) -> None:
    counts: dict[tuple[str, str], int] = {}
    apart = [*keyed(asked, "c", counts), *keyed(reply, "c", counts)]
    assert [one.key for one in apart] == keys(asked + reply)


@given(THINGS)
def test_what_is_said_twice_is_remembered_twice_and_the_system_once(things: list[Spoken]) -> None:
    kept = [Spoken(one.role, one.text.strip()) for one in things if one.text.strip()]
    system = {one for one in kept if one.role == "system"}
    assert len(keys(things)) == sum(one.role != "system" for one in kept) + len(system)


@given(THINGS)
def test_only_what_the_system_says_is_one_in_two_conversations(things: list[Spoken]) -> None:
    both = set(keys(things, "a")) & set(keys(things, "b"))
    assert len(both) == len({one.text.strip() for one in things if one.role == "system"} - {""})


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_arguments_read_the_same_however_they_are_written(value: object) -> None:
    compact, loose = orjson.dumps(value), orjson.dumps(value, option=orjson.OPT_INDENT_2)
    assert called("tool", compact.decode()) == called("tool", loose.decode()) == called("tool", value)


@given(st.text(max_size=40), st.data())
def test_a_text_that_was_streamed_in_pieces_is_whole_again(text: str, data: st.DataObject) -> None:
    characters = [orjson.dumps(character)[1:-1] for character in text.encode("utf-8", "ignore").decode()]
    sizes = data.draw(st.lists(st.integers(0, 5), max_size=8))
    fragments, at = [], 0
    for size in sizes:
        fragments.append(b"".join(characters[at : at + size]))
        at += size
    fragments.append(b"".join(characters[at:]))
    assert unescaped(fragments) == text.encode("utf-8", "ignore").decode()


def test_a_long_text_is_cut_and_says_so_and_its_key_is_that_of_the_whole() -> None:
    long = "a" * MOST_CHARS + "the end"
    (one,), (other,) = keyed([Spoken("user", long)], ""), keyed([Spoken("user", long + "!")], "")
    assert one.spoken.text.endswith("[7 more characters were not kept]")
    assert one.key != other.key


@given(
    st.binary(max_size=3 * ENTRY_BYTES) | st.lists(st.binary(max_size=200)).map(b"\n".join), st.integers(0, 9)
)
def test_output_in_pieces_is_the_output_and_only_an_unfinished_line_waits(data: bytes, start: int) -> None:
    found = pieces(data, start, last=True)
    assert b"".join(piece.data for piece in found) == data
    assert all(piece.end - piece.start == len(piece.data) <= ENTRY_BYTES for piece in found)
    early = pieces(data, start, last=False)
    rest = data[sum(len(piece.data) for piece in early) :]
    assert early == found[: len(early)]
    assert b"\n" not in rest
    assert len(rest) < ENTRY_BYTES


@given(st.lists(st.binary(max_size=30)), st.integers(0, 100))
def test_of_an_answer_the_beginning_is_kept_and_nothing_after_the_first_piece_left_out(
    sent: list[bytes], limit: int
) -> None:
    one, other = Kept(limit), Kept(limit)
    read = other.before(lambda data: None)
    for piece in sent:
        one.add(piece)
        read(piece)
    assert one.pieces == other.pieces == sent[: len(one.pieces)]
    assert one.cut == other.cut == (sum(map(len, sent)) > limit)
    assert sum(map(len, one.pieces)) <= limit


OPERATIONS = ("messages", "responses", "chat", "completions", "generateContent", "streamGenerateContent")
NAMES = (
    "messages", "system", "content", "role", "type", "text", "input", "instructions", "output", "contents",
    "parts", "functionCall", "tool_calls", "function", "arguments", "choices", "delta", "message",
    "candidates", "tool_use", "tool_result", "function_call", "user",
)  # fmt: skip
HOSTILE = st.recursive(
    st.none() | st.integers(-9, 9) | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=25,
)


@given(st.sampled_from(OPERATIONS), HOSTILE, HOSTILE, st.booleans(), st.binary(max_size=20))
def test_whatever_stands_in_a_call_is_read_without_an_error(
    operation: str, request: object, answer: object, streamed: bool, junk: bytes
) -> None:
    reply = orjson.dumps(answer, default=str)
    if streamed:
        reply = b"event: content_block_start\ndata: " + reply + b"\n\ndata: " + reply + b"\n\n" + junk
    body = orjson.dumps(request, default=str)
    heard = Heard("a", 1, "c", operation, {}, (), body, len(body), [reply], False, streamed, 200)
    found = said(heard, "run 1", 1.0, Known(), lambda text: text)
    assert all(one.text.strip() and one.key for one in found)
    assert len({one.key for one in found}) == len(found)


def test_what_is_known_is_bounded_and_the_quietest_agent_is_dropped_first() -> None:
    known = Known(most=10)
    for number in range(6):
        assert known.add("old", number)
    for number in range(6):
        assert known.add("new", number)
    assert not known.add("new", 5)
    assert known.add("old", 5)
