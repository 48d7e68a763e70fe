"""What is read of requests: facts, compressed bodies, usage asked for in the client's own words, likeness."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.gateway.fingerprint import distance, fingerprint
from agenttop.core.gateway.protocols import PROTOCOLS, asked
from agenttop.core.gateway.protocols.anthropic import Anthropic
from agenttop.core.gateway.protocols.base import RequestFacts, WireProtocol
from agenttop.core.gateway.protocols.gemini import Gemini
from agenttop.core.gateway.protocols.openai import OpenAI
from agenttop.core.gateway.protocols.openai_chat import asking_usage

DIALECTS: list[tuple[WireProtocol, str]] = [
    (dialect, operation)
    for dialect in (Anthropic(), OpenAI(), Gemini())
    for operation in sorted(dialect.operations)
]
ASK = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 7}


@pytest.mark.parametrize(
    ("operation", "body", "most"),
    [
        ("chat", {"max_tokens": 10}, 10),
        ("chat", {"max_completion_tokens": 20, "max_tokens": 10, "n": 3}, 60),
        ("chat", {}, None),
        ("chat", {"max_tokens": -1}, None),
        ("chat", {"max_tokens": True, "n": "x"}, None),
        ("responses", {"max_output_tokens": 5, "max_tokens": 99}, 5),
        ("completions", {"max_tokens": 4, "best_of": 2, "n": 1, "prompt": ["a", "b", "c"]}, 24),
        ("completions", {"max_tokens": 4, "prompt": [1, 2, 3]}, 4),
        ("embeddings", {"input": "x"}, 0),
    ],
)
def test_the_most_a_request_may_produce_counts_all_its_choices(
    operation: str, body: dict[str, Any], most: int | None
) -> None:
    assert OpenAI().read_request(operation, [], json.dumps(body).encode()).max_tokens == most


@pytest.mark.parametrize(
    ("headers", "tools", "main"),
    [
        ([], [], True),
        ([(b"x-session-id", b"s")], [], False),
        ([(b"x-session-id", b"s")], [{"type": "function"}], True),
        ([(b"x-session-id", b"s"), (b"x-parent-session-id", b"p")], [{"type": "function"}], False),
        ([(b"session-id", b"s"), (b"x-codex-turn-metadata", b'{"agent_name":"/root"}')], [{}], True),
        ([(b"session-id", b"s"), (b"x-codex-turn-metadata", b'{"agent_name":"/root/a"}')], [{}], False),
        ([(b"session-id", b"s"), (b"x-codex-turn-metadata", b"not json")], [{}], True),
        ([(b"session-id", b"s"), (b"x-codex-turn-metadata", b'{"request_kind":"turn"}')], [], True),
        ([(b"session-id", b"s"), (b"x-codex-turn-metadata", b'{"request_kind":"title"}')], [], False),
        ([(b"x-codex-turn-metadata", b'{"agent_name":"/root/a","request_kind":"turn"}')], [], False),
        ([(b"User-Agent", b"QwenCode/0.24.4 (linux; x64)")], [], False),
    ],
)
def test_only_the_main_loop_tells_the_context(headers: Any, tools: Any, main: bool) -> None:
    facts = OpenAI().read_request("chat", headers, json.dumps({"model": "m", "tools": tools}).encode())
    assert facts.main_loop is main


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        (b"gzip", gzip.compress),
        (b"deflate", zlib.compress),
        (b"zstd", zstandard.compress),
        (b"gzip, zstd", lambda data: zstandard.compress(gzip.compress(data))),
        (b"Identity", bytes),
    ],
)
def test_a_compressed_request_is_read_like_a_plain_one(coding: bytes, pack: Any) -> None:
    data = json.dumps(ASK).encode()
    plain = OpenAI().read_request("chat", [], data)
    packed = OpenAI().read_request("chat", [(b"Content-Encoding", coding)], pack(data))
    assert packed == plain
    assert packed.body is not None
    assert json.loads(packed.body) == ASK | {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"zstd", b"br", b"gzip,gzip,gzip", b"\xff"])
@pytest.mark.parametrize("data", [b"", b"garbage", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd\x00"])
def test_a_body_that_cannot_be_decoded_gives_empty_facts(coding: bytes, data: bytes) -> None:
    facts = OpenAI().read_request("chat", [(b"content-encoding", coding)], data)
    assert (facts.model, facts.body, facts.fingerprint) == (None, None, None)
    assert facts.body_bytes >= len(data)


@pytest.mark.parametrize(("coding", "pack"), [(b"gzip", gzip.compress), (b"zstd", zstandard.compress)])
def test_a_bomb_is_not_unpacked(coding: bytes, pack: Any) -> None:
    bomb = pack(bytes(asked.MOST_BYTES + 1))
    began = time.process_time()
    assert asked.decoded([coding], bomb) is None
    assert time.process_time() - began < 5
    assert asked.decoded([coding], pack(bytes(1000)), most=999) is None
    assert asked.decoded([coding], pack(bytes(1000)), most=1000) == bytes(1000)


@pytest.mark.parametrize(("dialect", "operation"), DIALECTS, ids=[name for _, name in DIALECTS])
@pytest.mark.parametrize(
    "data",
    [
        b"[" * 10_000,
        b'{"messages":' * 10_000 + b"1" + b"}" * 10_000,
        b"{",
        b"\xff",
        b"null",
        b"[]",
        b'"x"',
        b"",
    ],
    ids=["lists", "objects", "open", "bytes", "null", "list", "text", "nothing"],
)
def test_a_body_that_makes_no_sense_gives_empty_facts(
    dialect: WireProtocol, operation: str, data: bytes
) -> None:
    facts = dialect.read_request(operation, [], data)
    assert (facts.model, facts.fingerprint, facts.body) == (None, None, None)
    assert facts.body_bytes == len(data)


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda value: st.lists(value, max_size=4)
    | st.dictionaries(
        st.sampled_from([
            "model", "messages", "input", "contents", "content", "role", "parts", "text", "type", "stream",
            "tools", "stream_options", "include_usage", "max_tokens", "max_output_tokens", "n", "prompt",
            "generationConfig", "maxOutputTokens", "candidateCount",
        ]),
        value,
    ),
    max_leaves=25,
)  # fmt: skip


@given(which=st.sampled_from(DIALECTS), body=ANYTHING, junk=st.binary(max_size=50))
def test_no_request_breaks_its_reader(which: tuple[WireProtocol, str], body: Any, junk: bytes) -> None:
    dialect, operation = which
    headers = [(b"x-codex-turn-metadata", junk), (b"x-session-id", junk), (b"User-Agent", junk)]
    for data in (json.dumps(body).encode(), junk):
        facts = dialect.read_request(operation, headers, data, junk.decode("latin-1"))
        assert facts.max_tokens is None or facts.max_tokens >= 0
        assert facts.fingerprint is None or 0 <= facts.fingerprint < 1 << 64


def test_pictures_do_not_count_as_text() -> None:
    picture = "A" * 400_000
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
    body = {"messages": [{"role": "user", "content": [url, {"type": "text", "text": "x" * 4000}]}]}
    assert 1000 < OpenAI().read_request("chat", [], json.dumps(body).encode()).input_tokens < 4000


# --- asking for the usage

OPTIONS = st.one_of(
    st.none(),
    st.just({}),
    st.dictionaries(
        st.sampled_from(["include_usage", "include_obfuscation", "x"]), st.one_of(st.none(), st.booleans())
    ),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=8)),
    lambda value: st.lists(value, max_size=3) | st.dictionaries(st.text(max_size=4), value, max_size=3),
    max_leaves=8,
)
TRAPS = ["stream_options", "include_usage", '"stream_options":', '{"stream_options":{}}', "\\"]


@given(
    before=st.dictionaries(st.text(max_size=5) | st.sampled_from(TRAPS[1:]), VALUES, max_size=3),
    options=st.one_of(st.just("absent"), OPTIONS),
    after=st.dictionaries(st.text(max_size=5), VALUES | st.sampled_from(TRAPS), max_size=3),
    form=st.sampled_from([{"indent": 1}, {"separators": (",", ":")}, {}, {"ensure_ascii": False}]),
    blank=st.sampled_from(["", " ", "\n\t"]),
)
def test_usage_is_asked_for_and_every_other_byte_stays(
    before: Any, options: Any, after: Any, form: Any, blank: str
) -> None:
    body = {**before, "stream": True}
    if options != "absent":
        body["stream_options"] = options
    body |= {key: value for key, value in after.items() if key not in ("stream", "stream_options")}
    data = (blank + json.dumps(body, **form) + blank).encode("utf-8", "surrogatepass")
    changed = asking_usage(data, body)
    if isinstance(options, dict) and options.get("include_usage"):
        assert changed is None
        return
    assert changed is not None
    wanted = dict(options) if isinstance(options, dict) else {}
    assert json.loads(changed) == body | {"stream_options": wanted | {"include_usage": True}}
    # Textually: what was inserted or replaced is all that differs.
    prefix = next((n for n, (a, b) in enumerate(zip(data, changed, strict=False)) if a != b), len(data))
    suffix = next((n for n, (a, b) in enumerate(zip(data[::-1], changed[::-1], strict=False)) if a != b), 0)
    assert prefix + suffix >= len(data) - len("false")


@pytest.mark.parametrize(
    ("data", "changed"),
    [
        (b'{"stream":true}', b'{"stream_options":{"include_usage":true},"stream":true}'),
        (
            b'{"stream":true,"stream_options":{ }}',
            b'{"stream":true,"stream_options":{"include_usage":true }}',
        ),
        (
            b'{"stream":true,"stream_options": null}',
            b'{"stream":true,"stream_options": {"include_usage":true}}',
        ),
        (
            b'{"stream_options":{"include_usage" : false},"stream":true}',
            b'{"stream_options":{"include_usage" : true},"stream":true}',
        ),
        # The last of equal members counts, escapes or not.
        (
            b'{"stream":true,"stream_options":{"include_usage":true},"stream_\\u006fptions":null}',
            b'{"stream":true,"stream_options":{"include_usage":true},"stream_\\u006fptions":{"include_usage":true}}',
        ),
        (b'{"stream":false}', None),
        (b'{"stream":true,"stream_options":{"include_usage":true}}', None),
        (b'{"stream":true,"stream_options":"x"}', None),
    ],
)
def test_how_usage_is_asked_for(data: bytes, changed: bytes | None) -> None:
    assert asking_usage(data, json.loads(data)) == changed


@pytest.mark.parametrize(("operation", "asks"), [("chat", True), ("completions", True), ("responses", False)])
def test_usage_is_asked_for_only_where_it_has_to_be(operation: str, asks: bool) -> None:
    facts = OpenAI().read_request(operation, [], json.dumps(ASK).encode())
    assert (facts.strip_usage, facts.body is not None) == (asks, asks)
    assert (OpenAI().stream_filter(operation, facts) is not None) is asks


# --- likeness


def ask(text: str, **more: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": text, **more}]}]


PROSE = " ".join(f"word{n * 7919 % 1009} of{n % 13}" for n in range(2500))


def test_only_the_newest_messages_count() -> None:
    old = [{"role": "user", "content": "first"}, {"role": "assistant", "content": "reply"}]
    other = [{"role": "user", "content": "another"}, {"role": "assistant", "content": "answer"}]
    assert fingerprint("m", old + ask("go on")) == fingerprint("m", other + ask("go on"))
    assert fingerprint("m", old + ask("go on")) != fingerprint("m", old + ask("stop here now"))


def test_what_a_client_puts_before_a_prompt_does_not_hide_it() -> None:
    before = [{"role": "developer", "content": PROSE}, {"role": "user", "content": PROSE}]
    one, two = (
        fingerprint("m", [*before, *ask(prompt)]) for prompt in ("mend the tests", "write a poem about it")
    )
    assert distance(one or 0, two or 0) >= 8
    many = [{"type": "text", "text": f"reminder {n} {PROSE[:300]}"} for n in range(20)]
    texts = [[*many, {"type": "text", "text": prompt}] for prompt in ("mend the tests", "write a poem")]
    assert len({fingerprint("m", [{"role": "user", "content": text}]) for text in texts}) == 2


def test_all_that_tools_answered_in_a_round_counts() -> None:
    call = {"role": "assistant", "tool_calls": []}
    answers = [{"role": "tool", "tool_call_id": str(n), "content": f"answer {n}"} for n in range(2)]
    assert fingerprint("m", [call, *answers]) != fingerprint("m", [call, answers[1]])
    assert fingerprint("m", [call, *answers]) == fingerprint(
        "m", [{"role": "user", "content": "x"}, *answers]
    )


def test_ids_times_and_cache_marks_do_not_count() -> None:
    one = ask("at 2026-11-21T05:43:59Z run 550e8400-e29b-41d4-a716-446655440000", cache_control={"type": "x"})
    two = ask("at 2026-11-22T15:03:01Z run b50e8400-e29b-41d4-a716-44665544ffff")
    assert fingerprint("m", one) == fingerprint("m", two)
    results = [
        [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": "no such file"}]}]
        for id in ("toolu_1", "toolu_2")
    ]
    assert fingerprint("m", results[0]) == fingerprint("m", results[1])


def test_model_and_role_count() -> None:
    assert fingerprint("a", ask("hi")) != fingerprint("b", ask("hi"))
    assert fingerprint("a", [{"role": "user", "content": "x"}]) != fingerprint(
        "a", [{"role": "tool", "content": "x"}]
    )


@pytest.mark.parametrize("at", [0.0, 0.3, 0.7, 1.0])
def test_near_identical_requests_differ_in_few_bits_and_others_in_many(at: float) -> None:
    place = int(len(PROSE) * at)
    near = PROSE[:place] + " attempt 17 " + PROSE[place:]
    far = " ".join(f"other{n * 104729 % 2003}" for n in range(4000))
    base = fingerprint("m", ask(PROSE))
    assert base is not None
    assert distance(base, fingerprint("m", ask(near)) or 0) <= 16
    assert distance(base, fingerprint("m", ask(far)) or 0) >= 20


@pytest.mark.parametrize(
    "newest",
    [
        "text",
        [
            {"type": "function_call", "name": "f"},
            {"type": "function_call_output", "call_id": "1", "output": "o"},
        ],
        [
            {"role": "model", "parts": [{"text": "a"}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f"}}]},
        ],
        [[[[[["deep"]]]]]],
    ],
)
def test_every_protocols_messages_have_a_fingerprint(newest: Any) -> None:
    assert fingerprint("m", newest) == fingerprint("m", json.loads(json.dumps(newest)))
    assert fingerprint("m", newest) is not None


def test_a_fingerprint_is_cheap_however_long_the_message_is() -> None:
    def cpu(messages: Any) -> float:
        best = 1.0
        for _ in range(30):
            began = time.process_time()
            fingerprint("m", messages)
            best = min(best, time.process_time() - began)
        return best

    assert cpu(ask(PROSE * 100)) < 20 * cpu(ask(PROSE[:2000]))
    wide = [{"role": "user", "content": [["x"] * 1000] * 1000}]
    assert cpu(wide) < 0.02


# --- the paths


@pytest.mark.parametrize("home", ["anthropic", "openai", "gemini"])
@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", "/v1/messages", "messages"),
        ("POST", "/v1/messages/count_tokens", None),
        ("GET", "/v1/models", None),
        ("POST", "/v1/responses", "responses"),
        ("POST", "/responses", "responses"),
        ("POST", "/v1/responses/compact", "compact"),
        ("POST", "/v1/responses/input_tokens", None),
        ("GET", "/v1/responses/resp_1", None),
        ("POST", "/v1/chat/completions", "chat"),
        ("POST", "/chat/completions", "chat"),
        ("POST", "/openai/deployments/gpt/chat/completions", "chat"),
        ("GET", "/v1/chat/completions", None),
        ("POST", "/v1/completions", "completions"),
        ("POST", "/v1/embeddings", "embeddings"),
        ("POST", "/v1beta/models/m:generatecontent", "generateContent"),
        ("POST", "/v1beta/models/m:counttokens", None),
    ],
)
def test_what_is_metered_does_not_depend_on_the_provider(
    home: str, method: str, path: str, operation: str | None
) -> None:
    assert PROTOCOLS[home].operation(method, path) == operation


def test_no_dialects_credentials_reach_anothers_provider() -> None:
    every = {b"x-api-key", b"authorization", b"api-key", b"x-goog-api-key"}
    assert all(protocol.credential_headers == every for protocol in PROTOCOLS.values())
    assert PROTOCOLS["gemini"].credential_queries == {"key", "access_token"}
    assert PROTOCOLS["gemini"].credentials("k") == [(b"x-goog-api-key", b"k")]
    assert PROTOCOLS["openai"].credentials("k") == [(b"Authorization", b"Bearer k")]


def test_azure_names_its_model_in_the_path() -> None:
    facts = OpenAI().read_request(
        "chat", [], b'{"messages":[]}', "/openai/deployments/My-GPT/chat/completions"
    )
    assert facts.model == "My-GPT"


# --- what clients are told


@pytest.mark.parametrize(
    ("home", "operation", "kind", "status", "path", "word"),
    [
        ("anthropic", "messages", "budget", 402, ("error", "type"), "billing_error"),
        ("anthropic", "messages", "policy", 403, ("error", "type"), "permission_error"),
        ("anthropic", "messages", "throttled", 429, ("error", "type"), "rate_limit_error"),
        ("openai", "responses", "budget", 400, ("error", "code"), "budget_exceeded"),
        ("openai", "responses", "budget", 400, ("error", "type"), "invalid_request_error"),
        ("openai", "compact", "policy", 400, ("error", "code"), "policy_denied"),
        ("openai", "responses", "key", 400, ("error", "code"), "provider_key_missing"),
        ("openai", "responses", "throttled", 429, ("error", "code"), "rate_limit_exceeded"),
        ("openai", "chat", "budget", 402, ("error", "code"), "budget_exceeded"),
        ("openai", "chat", "ended", 403, ("error", "code"), "agent_ended"),
        ("openai", "messages", "budget", 402, ("error", "type"), "billing_error"),
        ("gemini", "generateContent", "budget", 402, ("error", "status"), "PERMISSION_DENIED"),
        ("gemini", "streamGenerateContent", "throttled", 429, ("error", "status"), "RESOURCE_EXHAUSTED"),
        ("gemini", "chat", "budget", 402, ("error", "code"), "budget_exceeded"),
    ],
)
def test_refusals_are_what_their_clients_understand(
    home: str, operation: str, kind: Any, status: int, path: tuple[str, str], word: str
) -> None:
    told, body = PROTOCOLS[home].refusal(operation, kind, "agenttop: no")
    error = json.loads(body)
    assert told == status
    assert error[path[0]][path[1]] == word
    assert error["error"]["message"] == "agenttop: no"


@pytest.mark.parametrize("home", ["anthropic", "openai", "gemini"])
@pytest.mark.parametrize(("dialect", "operation"), DIALECTS, ids=[name for _, name in DIALECTS])
def test_what_keeps_a_client_waiting_depends_on_its_dialect_and_tells_its_reader_nothing(
    home: str, dialect: WireProtocol, operation: str
) -> None:
    facts = RequestFacts(stream=True)
    sent = PROTOCOLS[home].keep_alive(operation, facts, b"/x?alt=sse")
    assert sent == dialect.keep_alive(operation, facts, b"/x?alt=sse")
    made = dialect.reader(
        operation, 200, {b"content-type": b"text/event-stream"}, event_bytes=1 << 20, answer_bytes=1 << 20
    )
    for piece in sent:
        made.feed(piece)
    assert (made.answered, made.failed, made.final) == (False, False, False)
    assert made.usage().total == 0


@pytest.mark.parametrize(("dialect", "operation"), DIALECTS, ids=[name for _, name in DIALECTS])
@pytest.mark.parametrize("status", [400, 429, 502])
def test_an_error_in_a_stream_is_one_that_our_own_reader_takes_for_a_failure(
    dialect: WireProtocol, operation: str, status: int
) -> None:
    made = dialect.reader(
        operation, 200, {b"content-type": b"text/event-stream"}, event_bytes=1 << 20, answer_bytes=1 << 20
    )
    event = dialect.error_event(operation, status, "agenttop: no")
    assert event.endswith(b"\n\n")
    made.feed(event)
    assert made.failed
    assert "agenttop: no" in made.error


@pytest.mark.parametrize(
    ("operation", "body", "stored"),
    [
        ("responses", {"input": "go on", "previous_response_id": "resp_1"}, True),
        ("responses", {"input": "go on", "previous_response_id": None}, False),
        ("responses", {"input": "go on", "conversation": {"id": "conv_1"}}, True),
        ("responses", {"prompt": {"id": "pmpt_1"}}, True),
        ("completions", {"prompt": "text"}, False),
        ("responses", {"input": "the conversation"}, False),
    ],
)
def test_a_request_that_goes_on_with_what_is_stored_says_that_its_body_does_not_bound_it(
    operation: str, body: dict[str, Any], stored: bool
) -> None:
    assert OpenAI().read_request(operation, [], json.dumps(body).encode()).stored_input is stored
