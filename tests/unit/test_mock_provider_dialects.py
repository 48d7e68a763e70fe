"""The mock provider in OpenAI's and Google's words: what a client gets is what the truth says."""

from __future__ import annotations

import json
from typing import Any

import anyio
import openai
import pytest

from agenttop.tui.demo.provider import MockProvider, Usage, key_digest

pytestmark = pytest.mark.anyio

SHELL = {
    "type": "object",
    "properties": {"command": {"type": "string"}},
    "required": ["command"],
    "additionalProperties": False,
}
LONG = "This is the project's guide for agents. " * 200
MODEL = "gpt-6.1-sol"


def client(provider: MockProvider, path: str = "/v1") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=provider.url + path, api_key="x", max_retries=0, timeout=20)


def chat(prompt: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], **more}


async def post(
    provider: MockProvider, path: str, body: object, key: str = "k"
) -> tuple[int, dict[str, str], bytes]:
    """One request by hand: Google's client is not among the test's dependencies."""
    data = json.dumps(body).encode()
    async with await anyio.connect_tcp("127.0.0.1", provider.port) as stream:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\nConnection: close\r\n"
        await stream.send(f"{head}x-goog-api-key: {key}\r\n\r\n".encode() + data)
        answer = b""
        with anyio.fail_after(20):
            async for piece in stream:
                answer += piece
    first, _, rest = answer.partition(b"\r\n\r\n")
    lines = first.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    if headers.get("transfer-encoding") == "chunked":
        body_bytes = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body_bytes, rest = body_bytes + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        rest = body_bytes
    return int(lines[0].split()[1]), headers, rest


async def test_chat_streamed_and_whole_say_the_same_and_the_truth_agrees() -> None:
    async with MockProvider() as provider, client(provider) as api:
        whole = await api.chat.completions.create(**chat())
        stream = await api.chat.completions.create(
            **chat(), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    usage = chunks[-1].usage
    assert text == whole.choices[0].message.content
    assert usage is not None
    assert whole.usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens > 1
    assert chunks[-1].choices == []
    for entry in provider.truth.entries:
        assert entry.usage == Usage(input=usage.prompt_tokens, output=usage.completion_tokens)
        assert (entry.dialect, entry.outcome) == ("openai-chat", "complete")


async def test_usage_is_streamed_only_to_those_who_ask() -> None:
    async with MockProvider() as provider, client(provider, "") as api:
        chunks = [chunk async for chunk in await api.chat.completions.create(**chat(), stream=True)]
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert provider.truth.entries[0].announced == {}
    assert provider.truth.entries[0].usage.output > 0


async def test_a_server_may_refuse_to_be_asked_for_usage() -> None:
    async with MockProvider() as provider, client(provider) as api:
        ask = chat("[[mock:refuse_usage]]", stream=True)
        with pytest.raises(openai.BadRequestError, match="stream_options"):
            await api.chat.completions.create(**ask, stream_options={"include_usage": True})
        await (await api.chat.completions.create(**ask)).close()


async def test_chat_clients_with_tools_are_given_one_call_and_their_turn_ends_with_the_result() -> None:
    tools: Any = [{"type": "function", "function": {"name": "bash", "parameters": SHELL}}]
    async with MockProvider() as provider, client(provider) as api:
        first = await api.chat.completions.create(**chat(), tools=tools)
        calls = first.choices[0].message.tool_calls
        assert calls
        assert first.choices[0].finish_reason == "tool_calls"
        assert json.loads(calls[0].function.arguments) == {"command": "echo hi"}  # type: ignore[union-attr]
        history = [
            {"role": "user", "content": "hello"},
            first.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": calls[0].id, "content": "hi"},
        ]
        second = await api.chat.completions.create(**chat() | {"messages": history}, tools=tools)
    assert second.choices[0].finish_reason == "stop"
    assert provider.truth.entries[0].tools == ["bash"]


async def test_a_growing_chat_is_read_from_the_cache_without_asking() -> None:
    history: list[dict[str, Any]] = [{"role": "user", "content": LONG}]
    async with MockProvider() as provider, client(provider) as api:
        await api.chat.completions.create(**chat() | {"messages": history})
        history += [{"role": "assistant", "content": "ok"}, {"role": "user", "content": "go on"}]
        second = await api.chat.completions.create(**chat() | {"messages": history})
    one, two = (entry.usage for entry in provider.truth.entries)
    assert (one.cache_read, one.cache_write_5m, two.cache_write_5m) == (0, 0, 0)
    assert two.cache_read == one.input > 1500
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    assert second.usage.prompt_tokens_details.cached_tokens == two.cache_read
    assert second.usage.prompt_tokens == two.context


async def test_responses_streamed_and_whole_say_the_same_and_the_truth_agrees() -> None:
    ask: dict[str, Any] = {
        "model": MODEL,
        "input": "hello",
        "instructions": LONG,
        "reasoning": {"effort": "high"},
    }
    async with MockProvider() as provider, client(provider) as api:
        whole = await api.responses.create(**ask)
        async with api.responses.stream(**ask) as stream:
            events = [event.type async for event in stream]
            streamed = await stream.get_final_response()
    assert streamed.output_text == whole.output_text != ""
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert events[0] == "response.created"
    assert events[-1] == "response.completed"
    assert {"response.reasoning_summary_text.delta", "response.output_text.delta"} <= set(events)
    one, two = (entry.usage for entry in provider.truth.entries)
    assert one.cache_write_5m == two.cache_read > 1500
    for usage, truth in ((whole.usage, one), (streamed.usage, two)):
        assert usage is not None
        assert usage.input_tokens == truth.context
        assert usage.input_tokens_details.cached_tokens == truth.cache_read
        assert usage.output_tokens == truth.output
        assert 0 < usage.output_tokens_details.reasoning_tokens == truth.thinking


async def test_responses_call_tools_and_end_with_their_outputs() -> None:
    tools: Any = [{"type": "function", "name": "shell_command", "parameters": SHELL}]
    async with MockProvider() as provider, client(provider) as api:
        first = await api.responses.create(model=MODEL, input="hello", tools=tools)
        call = next(item for item in first.output if item.type == "function_call")
        history: Any = [
            {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
            call.model_dump(exclude_none=True),
            {"type": "function_call_output", "call_id": call.call_id, "output": "hi"},
        ]
        second = await api.responses.create(model=MODEL, input=history, tools=tools)
        cut = await api.responses.create(model=MODEL, input="[[mock:output=500]]", max_output_tokens=20)
        count = await api.responses.input_tokens.count(model=MODEL, input="hello", tools=tools)
    assert json.loads(call.arguments) == {"command": "echo hi"}
    assert [item.type for item in second.output] == ["message"]
    assert (cut.status, cut.incomplete_details and cut.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )
    assert count.input_tokens == first.usage.input_tokens  # type: ignore[union-attr]
    assert len(provider.truth.entries) == 3


def _near(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_embeddings_and_models() -> None:
    async with MockProvider() as provider, client(provider) as api:
        texts = ["red fox", "fox", "wall"]
        vectors = await api.embeddings.create(model="text-embedding-3-small", input=texts)
        models = [model.id async for model in api.models.list()]
        one = await api.models.retrieve(MODEL)
        with pytest.raises(openai.NotFoundError):
            await api.models.retrieve("none")
    fox, other, wall = [row.embedding for row in vectors.data]
    assert len(fox) == 64
    assert _near(fox, other) > 0.5 > _near(fox, wall)
    assert one.id in models
    assert provider.truth.entries[0].usage == Usage(input=vectors.usage.prompt_tokens)
    assert provider.truth.other == {"GET models": 1, "GET model": 2}


@pytest.mark.parametrize("status", [429, 503])
async def test_errors_are_in_openais_words(status: int) -> None:
    async with MockProvider() as provider, client(provider) as api:
        with pytest.raises(openai.APIStatusError) as caught:
            await api.chat.completions.create(**chat(f"[[mock:error={status} retry_after=2]]"))
    assert caught.value.status_code == status
    assert caught.value.response.headers["retry-after"] == "2"
    assert caught.value.response.headers["x-request-id"] == provider.truth.entries[0].request_id


@pytest.mark.parametrize(
    ("prompt", "outcome"),
    [
        ("[[mock:cut=4 output=300]]", "cut"),
        ("[[mock:stream_error=4]]", "error"),
        ("[[mock:malformed=4]]", "malformed"),
    ],
)
async def test_a_chat_stream_may_go_wrong(prompt: str, outcome: str) -> None:
    async with MockProvider() as provider, client(provider) as api:
        stream = await api.chat.completions.create(**chat(prompt), stream=True)
        with pytest.raises(Exception, match=r"\w"):
            [chunk async for chunk in stream]
    entry = provider.truth.entries[0]
    assert (entry.outcome, entry.events_sent) == (outcome, 4)
    assert 0 < entry.usage.output < entry.planned.output


@pytest.mark.parametrize("telling", ["missing", "falling", "negative", "absurd"])
async def test_usage_may_be_told_wrongly_while_the_truth_stays(telling: str) -> None:
    async with MockProvider() as provider, client(provider) as api:
        stream = await api.chat.completions.create(
            **chat(f"[[mock:usage={telling}]]"), stream=True, stream_options={"include_usage": True}
        )
        told = [chunk.usage.completion_tokens async for chunk in stream if chunk.usage]
    truth = provider.truth.entries[0].usage.output
    wanted = {"missing": [], "falling": [truth, truth // 2], "negative": [-truth], "absurd": [truth + 10**15]}
    assert told == wanted[telling]


GEMINI = "/v1beta/models/gemini-3.8-flash"


def contents(prompt: str = "hello", **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": prompt}]}], **more}


async def test_gemini_says_the_same_in_all_its_forms_and_the_truth_agrees() -> None:
    ask = contents(generationConfig={"thinkingConfig": {"includeThoughts": True}})
    async with MockProvider() as provider:
        whole = json.loads((await post(provider, f"{GEMINI}:generateContent", ask))[2])
        status, headers, data = await post(provider, f"{GEMINI}:streamGenerateContent?alt=sse", ask)
        array = json.loads((await post(provider, f"{GEMINI}:streamGenerateContent", ask))[2])
        count = json.loads((await post(provider, f"{GEMINI}:countTokens", ask))[2])
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    events = [json.loads(event.removeprefix(b"data: ")) for event in data.split(b"\r\n\r\n") if event]

    def text(chunks: list[Any]) -> str:
        parts = [part for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]]
        return "".join(part["text"] for part in parts if not part.get("thought"))

    assert text(events) == text(array) == text([whole]) != ""
    for told, entry in zip((whole, events[-1], array[-1]), provider.truth.entries, strict=True):
        usage = told["usageMetadata"]
        assert usage["promptTokenCount"] == entry.usage.context == count["totalTokens"]
        assert usage["candidatesTokenCount"] + usage["thoughtsTokenCount"] == entry.usage.output
        assert usage["thoughtsTokenCount"] == entry.usage.thinking > 0
        assert told["candidates"][0]["finishReason"] == "STOP"
    assert provider.truth.other == {"POST count": 1}


async def test_gemini_calls_functions_and_fills_schemas_in_capitals() -> None:
    function = {"name": "run_shell_command", "parametersJsonSchema": SHELL}
    tools = [{"functionDeclarations": [function]}]
    schema = {"type": "OBJECT", "properties": {"ok": {"type": "BOOLEAN"}}, "required": ["ok"]}
    async with MockProvider() as provider:
        first = json.loads((await post(provider, f"{GEMINI}:generateContent", contents(tools=tools)))[2])
        said = first["candidates"][0]["content"]
        call = next(part["functionCall"] for part in said["parts"] if "functionCall" in part)
        result = {"functionResponse": {"name": call["name"], "response": {"output": "hi"}}}
        history = [*contents()["contents"], said, {"role": "user", "parts": [result]}]
        second = json.loads(
            (await post(provider, f"{GEMINI}:generateContent", {"contents": history, "tools": tools}))[2]
        )
        ask = contents(generationConfig={"responseSchema": schema})
        third = json.loads((await post(provider, f"{GEMINI}:generateContent", ask))[2])
    assert call == {"name": "run_shell_command", "args": {"command": "echo hi"}}
    assert all("functionCall" not in part for part in second["candidates"][0]["content"]["parts"])
    assert json.loads(third["candidates"][0]["content"]["parts"][0]["text"]) == {"ok": False}
    assert [entry.tools for entry in provider.truth.entries] == [["run_shell_command"], [], []]


async def test_gemini_errors_are_in_googles_words() -> None:
    async with MockProvider() as provider:
        status, headers, body = await post(
            provider, f"{GEMINI}:generateContent", contents("[[mock:error=429 retry_after=3]]")
        )
    assert (status, headers["retry-after"]) == (429, "3")
    assert json.loads(body)["error"]["status"] == "RESOURCE_EXHAUSTED"


async def test_keys_are_told_apart_in_the_truth_and_not_told() -> None:
    async with MockProvider() as provider:
        for key in ("secret-1", "secret-2", "secret-1"):
            await post(provider, f"{GEMINI}:generateContent", contents(), key)
    entries = provider.truth.entries
    assert provider.truth.select(key=key_digest("secret-1")) == [entries[0], entries[2]]
    assert "secret" not in repr(entries)


async def test_codexs_own_kind_of_tool_is_called_with_a_script() -> None:
    """Its newest models get their tools in the input, in namespaces, and one that takes JavaScript."""
    tools = [{"type": "namespace", "name": "functions", "tools": [{"type": "custom", "name": "exec"}]}]
    ask: Any = [
        {"type": "additional_tools", "role": "developer", "tools": tools},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]},
    ]
    async with MockProvider() as provider, client(provider) as api:
        events = [e async for e in await api.responses.create(model=MODEL, input=ask, stream=True)]
        last = events[-1]
        assert last.type == "response.completed"
        call = last.response.output[-1]
        assert call.type == "custom_tool_call"
        output = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "hi"}
        history = [*ask, call.model_dump(exclude_none=True), output]
        second = await api.responses.create(model=MODEL, input=history)
    assert (call.name, "echo hi" in call.input) == ("exec", True)
    written = "".join(e.delta for e in events if e.type == "response.custom_tool_call_input.delta")
    assert written == call.input
    assert second.output[-1].type == "message"
