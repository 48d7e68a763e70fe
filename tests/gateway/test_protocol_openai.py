"""OpenAI's dialects: what is metered, at any borders, and what of it is believed."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.gateway.protocols.base import AnswerReader, RequestFacts
from agenttop.core.gateway.protocols.openai import OpenAI
from agenttop.core.journal.events import Usage

SSE = {b"content-type": b"text/event-stream; charset=utf-8"}
JSON = {b"content-type": b"application/json"}
BORDERS = st.lists(st.integers(0, 10**6), max_size=40)
NEWLINES = st.sampled_from(["\n", "\r\n", "\r"])
ASKED = RequestFacts(input_tokens=700)


def cut(data: bytes, borders: list[int]) -> list[bytes]:
    places = sorted({border % (len(data) + 1) for border in borders} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def reader(operation: str, headers: dict[bytes, bytes], status: int = 200) -> AnswerReader:
    return OpenAI().reader(operation, status, headers, event_bytes=1 << 20, answer_bytes=1 << 20, facts=ASKED)


def whole(operation: str, body: object, status: int = 200) -> AnswerReader:
    made = reader(operation, JSON, status)
    made.feed(json.dumps(body).encode())
    made.finish()
    return made


def sse(parts: list[tuple[str, Any]], newline: str = "\n", compact: bool = True) -> bytes:
    lines: list[str] = []
    for name, data in parts:
        if name:
            lines.append(f"event: {name}")
        text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":") if compact else None)
        lines += [f"data: {text}", ""]
    return (newline.join(lines) + newline).encode()


# --- Chat Completions

CHAT_USAGE = {
    "prompt_tokens": 6000,
    "completion_tokens": 42,
    "total_tokens": 6042,
    "prompt_tokens_details": {"cached_tokens": 5000},
    "completion_tokens_details": {"reasoning_tokens": 7},
}
CHAT_TRUTH = Usage(input=1000, cache_read=5000, output=42, reasoning=7)


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> tuple[str, dict[str, Any]]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return "", {"id": "c1", "object": "chat.completion.chunk", "model": "m-1", "choices": [choice], **more}


def usage_chunk(usage: object) -> tuple[str, dict[str, Any]]:
    return "", {"id": "c1", "object": "chat.completion.chunk", "model": "m-1", "choices": [], "usage": usage}


def chat(texts: list[str], tools: list[str], usage: object, done: bool = True) -> list[tuple[str, Any]]:
    parts: list[tuple[str, Any]] = [chunk({"role": "assistant", "content": ""}, usage=None)]
    parts += [chunk({"content": text}, usage=None) for text in texts]
    for n, tool in enumerate(tools):
        call = {
            "index": n,
            "id": f"call_{n}",
            "type": "function",
            "function": {"name": tool, "arguments": ""},
        }
        parts.append(chunk({"tool_calls": [call]}))
        parts.append(chunk({"tool_calls": [{"index": n, "function": {"arguments": '{"a":1}'}}]}))
    parts.append(chunk({}, "tool_calls" if tools else "stop"))
    if usage is not None:
        parts.append(usage_chunk(usage))
    return [*parts, ("", "[DONE]")] if done else parts


@given(
    texts=st.lists(st.text(max_size=30), max_size=6),
    tools=st.lists(st.sampled_from(["bash", "read"]), max_size=3),
    newline=NEWLINES,
    compact=st.booleans(),
    borders=BORDERS,
)
def test_a_chat_streams_usage_does_not_depend_on_chunk_borders(
    texts: list[str], tools: list[str], newline: str, compact: bool, borders: list[int]
) -> None:
    data = sse(chat(texts, tools, CHAT_USAGE), newline, compact)
    made = reader("chat", SSE)
    cuts = [at for piece in cut(data, borders) if (at := made.feed(piece)) is not None]
    made.finish()
    assert len(cuts) == 1
    assert made.usage() == CHAT_TRUTH
    assert (made.final, made.model, made.tools) == (True, "m-1", tools)
    assert made.stop_reason == ("tool_calls" if tools else "stop")


def test_the_cut_lies_before_done_and_after_all_that_was_said() -> None:
    data = sse(chat(["data: [DONE]"], [], CHAT_USAGE))
    assert reader("chat", SSE).feed(data) == data.rindex(b"data: [DONE]")


@pytest.mark.parametrize("done", [True, False])
def test_a_chat_stream_without_usage_is_estimated_from_both_sides(done: bool) -> None:
    made = reader("chat", SSE)
    for piece in sse(chat(["x" * 300, "y" * 100], [], None, done)).split(b"\n\n"):
        made.feed(piece + b"\n\n")
    made.finish()
    assert not made.final
    assert made.begun
    assert made.usage() == Usage(input=700, output=100)


def test_the_text_of_plain_deltas_is_measured_as_it_is_written() -> None:
    said = ['say \\"hi\\" and \\\\', "", "naïve", "more, text"]
    made = reader("chat", SSE)
    made.feed(sse([chunk({"role": "assistant"})]))
    for text in said:
        piece = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
        made.feed(piece % text.encode())
    assert made.usage().output == -(-sum(len(text.encode()) for text in said) // 4)


@pytest.mark.parametrize(
    "text",
    ['"name":', '"usage":{', '"choices":[]', '"finish_reason":"stop"', "[DONE]", "\n\ndata: [DONE]\n\n"],
)
def test_what_a_model_says_is_never_taken_for_the_protocol(text: str) -> None:
    made = reader("chat", SSE)
    made.feed(sse([chunk({"role": "assistant"})]))
    made.feed(sse([chunk({"content": text})]))
    assert (made.tools, made.stop_reason, made.final) == ([], None, False)
    assert made.usage().output > 0


def test_usage_in_every_chunk_is_followed_and_never_taken_back() -> None:
    parts = [
        chunk({"content": "a"}, usage={"prompt_tokens": 10, "completion_tokens": 5}),
        chunk({"content": "b"}, usage={"prompt_tokens": 10, "completion_tokens": 3}),
    ]
    made = reader("chat", SSE)
    made.feed(sse(parts))
    assert made.usage() == Usage(input=10, output=5)
    assert not made.final
    made.feed(sse([chunk({}, "stop", usage={"prompt_tokens": 9, "completion_tokens": 6})]))
    assert made.final
    assert made.usage() == Usage(input=10, output=6)


def test_an_error_in_a_chat_stream_is_a_failure() -> None:
    made = reader("chat", SSE)
    data = sse([chunk({"content": "a"}), ("", {"error": {"type": "server_error", "message": "no\nmore"}})])
    assert made.feed(data) == data.index(b'data: {"error"')
    assert (made.failed, made.error, made.final) == (True, "server_error: no more", False)


# --- Responses

RESPONSE_USAGE = {
    "input_tokens": 6200,
    "input_tokens_details": {"cached_tokens": 5000, "cache_write_tokens": 200},
    "output_tokens": 42,
    "output_tokens_details": {"reasoning_tokens": 7},
    "total_tokens": 6242,
}
RESPONSE_TRUTH = Usage(input=1000, cache_read=5000, cache_write_5m=200, output=42, reasoning=7)


def call(name: str, kind: str = "function_call") -> dict[str, Any]:
    return {"id": f"fc_{name}", "type": kind, "name": name, "arguments": "{}", "call_id": f"call_{name}"}


def response(
    texts: list[str], tools: list[str], usage: object, last: str = "completed", **more: Any
) -> list[tuple[str, Any]]:
    base = {"id": "resp_1", "object": "response", "model": "m-2", "status": "in_progress", "error": None}
    output = [call(tool) for tool in tools]
    parts: list[tuple[str, Any]] = [
        ("response.created", {"response": {**base, "output": [], "usage": None}}),
        ("response.in_progress", {"response": {**base, "output": [], "usage": None}}),
    ]
    for text in texts:
        delta = {"item_id": "msg_1", "output_index": 0, "delta": text, "logprobs": [], "obfuscation": "x7"}
        parts.append(("response.output_text.delta", delta))
    parts.append(("response.output_text.done", {"text": "".join(texts)}))
    for n, item in enumerate(output):
        parts.append(("response.output_item.added", {"output_index": n, "item": item}))
        parts.append(("response.function_call_arguments.delta", {"output_index": n, "delta": "{}"}))
        parts.append(("response.output_item.done", {"output_index": n, "item": item}))
    end = {**base, "status": last, "output": output, "usage": usage, **more}
    parts.append((f"response.{last}", {"response": end}))
    return [(name, {"type": name, **data}) for name, data in parts]


@given(
    texts=st.lists(st.text(max_size=30), max_size=6),
    tools=st.lists(st.sampled_from(["shell", "apply_patch"]), max_size=3),
    newline=NEWLINES,
    named=st.booleans(),
    compact=st.booleans(),
    borders=BORDERS,
)
def test_a_responses_usage_does_not_depend_on_chunk_borders(
    texts: list[str], tools: list[str], newline: str, named: bool, compact: bool, borders: list[int]
) -> None:
    parts = [(name if named else "", data) for name, data in response(texts, tools, RESPONSE_USAGE)]
    made = reader("responses", SSE)
    data = sse(parts, newline, compact)
    cuts = [at for piece in cut(data, borders) if (at := made.feed(piece)) is not None]
    made.finish()
    assert len(cuts) == 1
    assert made.usage() == RESPONSE_TRUTH
    assert (made.final, made.model, made.tools) == (True, "m-2", tools)
    assert made.stop_reason == ("tool_calls" if tools else "completed")


def test_the_cut_lies_before_the_event_that_ends_the_response() -> None:
    data = sse(response(["hi"], [], RESPONSE_USAGE))
    assert reader("responses", SSE).feed(data) == data.index(b"event: response.completed")


def test_an_interrupted_response_is_estimated_from_both_sides() -> None:
    made = reader("responses", SSE)
    for event in sse(response(["x" * 40, 'say "hi"' * 5], [], RESPONSE_USAGE)).split(b"\n\n")[:4]:
        made.feed(event + b"\n\n")
    made.finish()
    assert not made.final
    assert made.usage() == Usage(input=700, output=(40 + 5 * 10) // 4 + 1)


@pytest.mark.parametrize(
    ("last", "more", "stop", "failed"),
    [
        ("incomplete", {"incomplete_details": {"reason": "max_output_tokens"}}, "max_output_tokens", False),
        ("failed", {"error": {"code": "server_error", "message": "oh"}}, "failed", True),
    ],
)
def test_other_ends_of_a_response_tell_their_usage_too(
    last: str, more: dict[str, Any], stop: str, failed: bool
) -> None:
    made = reader("responses", SSE)
    assert made.feed(sse(response(["hi"], [], RESPONSE_USAGE, last, **more))) is not None
    assert (made.usage(), made.final, made.stop_reason) == (RESPONSE_TRUTH, True, stop)
    assert made.failed is failed
    assert made.error == ("server_error: oh" if failed else "")


def test_a_response_that_failed_without_usage_is_not_final() -> None:
    made = reader("responses", SSE)
    made.feed(sse(response([], [], None, "failed", error={"code": "rate_limit_exceeded", "message": "m"})))
    assert (made.failed, made.final, made.begun) == (True, False, True)


@pytest.mark.parametrize(
    ("kind", "stop"),
    [("local_shell_call", "tool_calls"), ("custom_tool_call", "tool_calls"), ("mcp_call", "completed")],
)
def test_only_calls_the_client_has_to_answer_leave_it_executing(kind: str, stop: str) -> None:
    made = whole("responses", {"status": "completed", "output": [call("x", kind)], "usage": RESPONSE_USAGE})
    assert (made.tools, made.stop_reason) == (["x"], stop)


@pytest.mark.parametrize("operation", ["responses", "compact"])
def test_a_whole_response_is_metered(operation: str) -> None:
    body = {"object": "response", "model": "m-2", "output": [], "usage": RESPONSE_USAGE, "error": None}
    made = whole(operation, body)
    assert (made.usage(), made.final, made.model, made.error) == (RESPONSE_TRUTH, True, "m-2", "")


def test_a_response_that_works_on_in_the_background_is_not_final() -> None:
    made = whole("responses", {"status": "queued", "output": [], "usage": None})
    assert (made.final, made.begun) == (False, True)
    assert made.usage().input == 700


# --- answers that come whole

CHAT_WHOLE = {
    "model": "m-1",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x" * 80}}],
}


def test_a_whole_completion_is_metered() -> None:
    made = whole("chat", {**CHAT_WHOLE, "usage": CHAT_USAGE})
    assert (made.usage(), made.final, made.stop_reason) == (CHAT_TRUTH, True, "stop")


def test_a_whole_completion_without_usage_is_estimated() -> None:
    made = whole("chat", CHAT_WHOLE)
    assert (made.usage(), made.final) == (Usage(input=700, output=20), False)


def test_embeddings_are_all_input() -> None:
    body = {"object": "list", "model": "e", "data": [], "usage": {"prompt_tokens": 9, "total_tokens": 9}}
    made = whole("embeddings", body)
    assert (made.usage(), made.final) == (Usage(input=9), True)


def test_legacy_completions_stream_their_text() -> None:
    parts = [("", {"model": "m", "choices": [{"text": "x" * 40, "index": 0, "finish_reason": None}]})] * 2
    made = reader("completions", SSE)
    for piece in sse(parts).split(b"\n\n"):
        made.feed(piece + b"\n\n")
    assert made.usage().output == 20


def test_a_refusal_from_the_provider_costs_nothing() -> None:
    made = whole("chat", {"error": {"message": "bad", "type": "invalid_request_error"}}, 400)
    assert made.usage() == Usage()
    assert made.error == "invalid_request_error: bad"


def test_a_body_cut_in_the_middle_is_estimated() -> None:
    made = reader("chat", JSON)
    made.feed(b"x" * 400)
    assert made.usage() == Usage(input=700, output=100)
    assert not made.final


# --- what is believed

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(0, 10**6), st.floats(), st.text(max_size=3)
)
DETAILS = st.one_of(
    VALUES,
    st.dictionaries(st.sampled_from(["cached_tokens", "cache_write_tokens", "reasoning_tokens"]), VALUES),
)
USAGES = st.dictionaries(
    st.sampled_from([
        "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens",
        "prompt_tokens_details", "input_tokens_details", "completion_tokens_details", "output_tokens_details",
        "prompt_cache_hit_tokens",
    ]),
    st.one_of(VALUES, DETAILS),
)  # fmt: skip


@given(
    usages=st.lists(st.one_of(VALUES, USAGES), max_size=4), operation=st.sampled_from(["chat", "responses"])
)
def test_whatever_usage_says_the_buckets_are_disjoint_and_only_grow(
    usages: list[Any], operation: str
) -> None:
    made = reader(operation, SSE)
    made.feed(sse(chat([], [], None, done=False) if operation == "chat" else response([], [], None)[:1]))
    before = Usage()
    for usage in usages:
        made.feed(sse([usage_chunk(usage)] if operation == "chat" else response([], [], usage)[-1:]))
        now = made.usage()
        assert min(now) >= 0
        assert max(now) <= 2 * 10**8
        assert now.reasoning <= now.output
        if before.output and operation == "chat":
            assert now.output >= before.output
        before = now


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": -5}, None),
        ({"prompt_tokens": 10, "completion_tokens": 10**12}, None),
        ({"prompt_tokens": "10", "completion_tokens": 1}, None),
        ({"prompt_tokens": 10, "completion_tokens": True}, None),
        ({"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9}},
         Usage(cache_read=5, output=1)),
        ({"prompt_tokens": 5, "completion_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 9}},
         Usage(input=5, output=3, reasoning=3)),
        # xAI: reasoning beside the completion, as the total shows.
        ({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 17,
          "completion_tokens_details": {"reasoning_tokens": 9}}, Usage(input=5, output=12, reasoning=9)),
        # DeepSeek's own name for the cached part.
        ({"prompt_tokens": 5, "completion_tokens": 3, "prompt_cache_hit_tokens": 4},
         Usage(input=1, cache_read=4, output=3)),
    ],
)  # fmt: skip
def test_figures_become_disjoint_buckets_or_are_not_believed(usage: Any, expected: Usage | None) -> None:
    made = whole("chat", {**CHAT_WHOLE, "usage": usage})
    assert made.final is (expected is not None)
    if expected is not None:
        assert made.usage() == expected
    else:
        assert made.usage().output == 20


@given(
    data=st.one_of(
        st.binary(max_size=2000),
        st.lists(st.recursive(VALUES, lambda v: st.lists(v) | st.dictionaries(st.sampled_from([
            "choices", "usage", "delta", "type", "response", "error", "output", "item", "message", "model",
            "tool_calls", "function", "content",
        ]), v), max_leaves=12), max_size=4).map(lambda parts: sse([("", part) for part in parts])),
    ),
    borders=BORDERS,
    operation=st.sampled_from(sorted(OpenAI.operations)),
    headers=st.sampled_from([SSE, JSON]),
)  # fmt: skip
def test_nothing_a_provider_sends_breaks_a_reader(
    data: bytes, borders: list[int], operation: str, headers: dict[bytes, bytes]
) -> None:
    made = reader(operation, headers)
    for piece in cut(data, borders):
        made.feed(piece)
        assert min(made.usage()) >= 0
    made.finish()
    assert min(made.usage()) >= 0


TEXTS = st.lists(
    st.one_of(st.text(max_size=20), st.sampled_from(['"', "\\", '"},"usage":{', "[DONE]", "a\\"])), max_size=8
)


@given(texts=TEXTS, more=st.sampled_from([{}, {"usage": None}, {"usage": None, "obfuscation": "x"}]))
def test_deltas_are_measured_the_same_one_by_one_and_all_at_once(
    texts: list[str], more: dict[str, Any]
) -> None:
    parts = [chunk({"content": text}, **more) for text in texts]
    data = sse([chunk({"role": "assistant", "content": ""}, **more), *parts])
    at_once, one_by_one = reader("chat", SSE), reader("chat", SSE)
    at_once.feed(data)
    for piece in data.split(b"\n\n")[:-1]:
        one_by_one.feed(piece + b"\n\n")
    escaped = sum(len(json.dumps(text)) - 2 for text in texts)
    assert at_once.usage().output == one_by_one.usage().output == -(-escaped // 4)
    assert not one_by_one.failed
