"""Gemini's dialect: events, arrays and objects, its names for usage, its keys and its errors."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.gateway.jsonstream import ObjectSplitter
from agenttop.core.gateway.protocols.base import AnswerReader, RequestFacts
from agenttop.core.gateway.protocols.gemini import Gemini, model_in
from agenttop.core.journal.events import Usage

SSE = {b"content-type": b"text/event-stream"}
JSON = {b"content-type": b"application/json; charset=UTF-8"}
BORDERS = st.lists(st.integers(0, 10**6), max_size=40)
TOLD = {
    "promptTokenCount": 6000,
    "cachedContentTokenCount": 5000,
    "candidatesTokenCount": 35,
    "thoughtsTokenCount": 7,
    "toolUsePromptTokenCount": 20,
    "totalTokenCount": 6062,
}
TRUTH = Usage(input=1020, cache_read=5000, output=42, reasoning=7)


def cut(data: bytes, borders: list[int]) -> list[bytes]:
    places = sorted({border % (len(data) + 1) for border in borders} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def chunks(texts: list[str], tools: list[str], last: dict[str, Any] = TOLD) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"text": text} for text in texts]
    parts += [{"functionCall": {"name": name, "args": {"a": '}"{'}}} for name in tools]
    out: list[dict[str, Any]] = [
        {
            "candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0}],
            "usageMetadata": {"promptTokenCount": 6000, "totalTokenCount": 6000},
            "modelVersion": "gemini-x",
        }
        for part in parts
    ]
    end = {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "STOP"}
    return [*out, {"candidates": [end], "usageMetadata": last, "modelVersion": "gemini-x"}]


def encode(parts: list[dict[str, Any]], form: str) -> bytes:
    if form == "array":
        return b"[" + b",\r\n".join(json.dumps(part, indent=1).encode() for part in parts) + b"]"
    newline = {"lf": "\n", "crlf": "\r\n"}[form]
    return "".join(f"data: {json.dumps(part)}{newline * 2}" for part in parts).encode()


def reader(
    headers: dict[bytes, bytes], operation: str = "streamGenerateContent", status: int = 200
) -> AnswerReader:
    facts = RequestFacts(input_tokens=700)
    return Gemini().reader(operation, status, headers, event_bytes=1 << 20, answer_bytes=1 << 20, facts=facts)


@given(
    texts=st.lists(st.text(max_size=30), max_size=5),
    tools=st.lists(st.sampled_from(["run_shell_command", "read_file"]), max_size=3),
    form=st.sampled_from(["lf", "crlf", "array"]),
    borders=BORDERS,
)
def test_a_streams_usage_does_not_depend_on_its_form_or_borders(
    texts: list[str], tools: list[str], form: str, borders: list[int]
) -> None:
    made = reader(JSON if form == "array" else SSE)
    for piece in cut(encode(chunks(texts, tools), form), borders):
        assert made.feed(piece) is None
    made.finish()
    assert made.usage() == TRUTH
    assert (made.final, made.model, made.tools) == (True, "gemini-x", tools)
    assert made.stop_reason == ("tool_calls" if tools else "STOP")


def test_an_interrupted_stream_keeps_what_was_told_and_estimates_the_rest() -> None:
    made = reader(SSE)
    made.feed(encode(chunks(["x" * 80], [])[:1], "lf"))
    assert (made.usage(), made.final) == (Usage(input=6000, output=20), False)


def test_an_answer_without_usage_is_estimated_from_both_sides() -> None:
    made = reader(SSE)
    made.feed(
        encode([{k: v for k, v in c.items() if k != "usageMetadata"} for c in chunks(["x" * 80], [])], "lf")
    )
    made.finish()
    assert (made.usage(), made.final) == (Usage(input=700, output=20), False)


def test_usage_that_goes_down_or_below_zero_is_not_believed() -> None:
    low = {"promptTokenCount": 5999, "candidatesTokenCount": -4, "thoughtsTokenCount": 10**15}
    parts = [*chunks(["hi"], [], TOLD), *chunks([], [], low)]
    made = reader(SSE)
    made.feed(encode(parts, "lf"))
    assert made.usage() == TRUTH


@pytest.mark.parametrize("operation", ["generateContent", "streamGenerateContent"])
def test_an_answer_that_comes_whole_is_metered(operation: str) -> None:
    made = reader(JSON, operation)
    made.feed(json.dumps(chunks([], ["f"])[-1] | {"usageMetadata": TOLD}).encode())
    made.finish()
    assert (made.usage(), made.final, made.stop_reason) == (TRUTH, True, "STOP")


def test_a_blocked_prompt_is_final() -> None:
    made = reader(SSE)
    body = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 9}}
    made.feed(encode([body], "lf"))
    assert (made.usage(), made.final, made.stop_reason) == (Usage(input=9), True, "SAFETY")


@pytest.mark.parametrize("body", [{"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}])
@pytest.mark.parametrize("form", ["lf", "array"])
def test_an_error_in_a_stream_is_a_failure(body: dict[str, Any], form: str) -> None:
    made = reader(JSON if form == "array" else SSE)
    made.feed(encode([body], form))
    assert (made.failed, made.error, made.begun) == (True, "UNAVAILABLE: busy", False)


def test_embeddings_are_all_input_and_mostly_estimated() -> None:
    made = reader(JSON, "embedContent")
    made.feed(b'{"embedding": {"values": [0.1]}}')
    made.finish()
    assert (made.usage(), made.final) == (Usage(input=700), False)


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", "/v1beta/models/gemini-x:generatecontent", "generateContent"),
        ("POST", "/v1/models/gemini-x:streamgeneratecontent", "streamGenerateContent"),
        ("POST", "/v1beta/tunedmodels/mine:generatecontent", "generateContent"),
        ("POST", "/v1/projects/p/locations/l/publishers/google/models/m:generatecontent", "generateContent"),
        ("POST", "/v1beta/models/e:embedcontent", "embedContent"),
        ("POST", "/v1beta/models/e:batchembedcontents", "batchEmbedContents"),
        ("POST", "/v1beta/models/gemini-x:counttokens", None),
        ("GET", "/v1beta/models", None),
        ("GET", "/v1beta/models/gemini-x", None),
        ("GET", "/v1beta/models/gemini-x:generatecontent", None),
    ],
)
def test_what_costs_is_metered_and_the_rest_is_free(method: str, path: str, operation: str | None) -> None:
    assert Gemini().operation(method, path) == operation


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1beta/models/Gemini-3.8-flash:generateContent", "Gemini-3.8-flash"),
        ("/v1beta/tunedModels/mine-1:streamGenerateContent", "tunedModels/mine-1"),
        ("/v1/publishers/google/models/m@001:generateContent", "m@001"),
        ("/v1beta/models", None),
    ],
)
def test_the_model_is_in_the_path(path: str, model: str | None) -> None:
    assert model_in(path) == model


def test_a_request_says_how_much_it_may_produce() -> None:
    body = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    config = {"maxOutputTokens": 100, "candidateCount": 3}
    ask = json.dumps({**body, "generationConfig": config}).encode()
    facts = Gemini().read_request("streamGenerateContent", [], ask, "/v1beta/models/m:streamGenerateContent")
    assert (facts.model, facts.stream, facts.max_tokens) == ("m", True, 300)
    assert facts.fingerprint is not None
    bare = Gemini().read_request(
        "generateContent", [], json.dumps(body).encode(), "/v1/models/m:generateContent"
    )
    assert (bare.stream, bare.max_tokens, bare.body_bytes) == (False, None, len(json.dumps(body)))


def test_gemini_clis_side_calls_do_not_tell_the_context() -> None:
    cli = [(b"User-Agent", b"GeminiCLI/0.61.0/gemini-x (linux; x64)")]
    asks = [{"contents": []}, {"contents": [], "tools": [{"functionDeclarations": []}]}]
    found = [
        Gemini().read_request("generateContent", headers, json.dumps(ask).encode()).main_loop
        for headers in (cli, [])
        for ask in asks
    ]
    assert found == [False, True, True, True]


@given(
    objects=st.lists(
        st.dictionaries(
            st.text(max_size=4), st.recursive(st.text(max_size=9), lambda v: st.lists(v)), max_size=3
        ),
        max_size=5,
    ),
    borders=BORDERS,
    indent=st.sampled_from([None, 2]),
)
def test_the_objects_of_an_array_are_found_however_it_is_fed(
    objects: list[dict[str, Any]], borders: list[int], indent: int | None
) -> None:
    data = json.dumps(objects, indent=indent, ensure_ascii=False).encode()
    splitter = ObjectSplitter()
    found = [json.loads(piece) for part in cut(data, borders) for piece in splitter.feed(part)]
    assert found == objects


@given(borders=BORDERS)
def test_an_object_that_is_too_long_is_skipped_and_the_next_is_read(borders: list[int]) -> None:
    splitter = ObjectSplitter(limit=30)
    data = b'[{"a": "' + b"x" * 100 + b'"}, {"b": 1}]'
    assert [piece for part in cut(data, borders) for piece in splitter.feed(part)] == [b'{"b": 1}']
    assert splitter.skipped == 1


ANYTHING = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=3)),
    lambda value: st.lists(value, max_size=3)
    | st.dictionaries(
        st.sampled_from([
            "candidates", "content", "parts", "text", "functionCall", "name", "args", "usageMetadata",
            "error", "promptTokenCount", "candidatesTokenCount", "cachedContentTokenCount",
            "thoughtsTokenCount", "finishReason", "promptFeedback", "blockReason",
        ]),
        value,
    ),
    max_leaves=15,
)  # fmt: skip


@given(
    data=st.one_of(st.binary(max_size=500), ANYTHING.map(lambda v: f"data: {json.dumps(v)}\n\n".encode())),
    borders=BORDERS,
    headers=st.sampled_from([SSE, JSON]),
    operation=st.sampled_from(sorted(Gemini.operations)),
)
def test_nothing_a_provider_sends_breaks_a_reader(
    data: bytes, borders: list[int], headers: dict[bytes, bytes], operation: str
) -> None:
    made = reader(headers, operation)
    for piece in cut(data, borders):
        made.feed(piece)
        assert min(made.usage()) >= 0
    made.finish()
    usage = made.usage()
    assert min(usage) >= 0
    assert usage.reasoning <= usage.output


@given(
    texts=st.lists(
        st.one_of(st.text(max_size=20), st.sampled_from(['"', "\\", '"}],"error":1'])), max_size=6
    ),
    counts=st.lists(st.integers(-5, 100), min_size=6, max_size=6),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_chunks_are_read_the_same_one_by_one_and_all_at_once(
    texts: list[str], counts: list[int], newline: str
) -> None:
    parts = chunks(texts, [])[: len(texts)]
    for part, count in zip(parts, counts, strict=False):
        part["usageMetadata"]["candidatesTokenCount"] = count
    events = [f"data: {json.dumps(part, separators=(',', ':'))}{newline * 2}".encode() for part in parts]
    at_once, one_by_one = reader(SSE), reader(SSE)
    at_once.feed(b"".join(events))
    for event in events:
        one_by_one.feed(event)
    assert one_by_one.usage().input == at_once.usage().input
    assert one_by_one.usage().output >= max([0, *counts[: len(texts)]])
    assert not one_by_one.failed
