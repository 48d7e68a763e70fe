"""The official OpenAI client, and Gemini's requests by hand, through the gateway: the books are the truth."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import openai
import pytest
import zstandard

from agenttop.core.gateway.desk import Refused
from agenttop.core.gateway.gateway import Gateway
from agenttop.core.gateway.identity import Identity
from agenttop.core.gateway.limits import Limits
from agenttop.core.gateway.providers import KeyRing, Provider
from agenttop.core.journal.events import CallSettled, Usage
from agenttop.tui.demo.provider import MockProvider, key_digest

pytestmark = pytest.mark.anyio
KEY = "sk-the-provider-key"
MODEL = "gpt-6.1-sol"
LONG = "This is the project's guide for agents. " * 200


@dataclass
class House:
    """A mock provider behind a gateway, under the names of all three protocols."""

    mock: MockProvider
    gateway: Gateway
    desk: Any
    port: int
    secret: str

    def base(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/a/{self.secret}/{name}"

    def client(self, path: str = "/v1") -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=self.base("openai") + path, api_key="own", max_retries=0, timeout=20
        )

    def agrees(self, count: int = 1) -> list[CallSettled]:
        """What is booked, call by call, is what the provider would bill."""
        settled = self.desk.settled
        truth = [entry.usage for entry in self.mock.truth.entries]
        assert len(settled) == len(truth) == count
        assert [s.usage for s in settled] == [Usage(*usage) for usage in truth]
        assert all(s.exact and s.outcome == "ok" for s in settled)
        return list(settled)


@pytest.fixture
def open_house(wire: Any) -> Any:
    @asynccontextmanager
    async def house(base_path: str = "") -> AsyncIterator[House]:
        identity = Identity(b"k" * 32)
        desk = wire.LedgerDesk(identity)
        async with MockProvider(key=KEY) as mock:
            providers = {
                name: Provider(name=name, protocol=name, base_url=mock.url + base_path, key_env="KEY")  # type: ignore[arg-type]
                for name in ("anthropic", "openai", "gemini")
            }
            gateway = Gateway(
                desk, providers, KeyRing({"KEY": KEY}), limits=Limits(tick_seconds=0.02), environ={}
            )
            listener = socket.socket()
            listener.bind(("127.0.0.1", 0))
            listener.listen(128)
            async with gateway.running():
                await gateway.serve(listener, "loopback")
                yield House(mock, gateway, desk, listener.getsockname()[1], identity.secret("a1"))

    return house


def chat(prompt: str = "hello", **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": LONG}, {"role": "user", "content": prompt}]
    return {"model": MODEL, "messages": messages, "reasoning_effort": "low", **more}


async def post(house: House, target: str, body: bytes, headers: str = "") -> bytes:
    async with await anyio.connect_tcp("127.0.0.1", house.port) as stream:
        head = f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}"
        await stream.send(f"{head}Connection: close\r\n\r\n".encode() + body)
        answer = b""
        with anyio.fail_after(20):
            async for piece in stream:
                answer += piece
    return answer


@pytest.mark.parametrize("base_path", ["", "/v1"])
async def test_chat_completions_are_booked_to_the_token(open_house: Any, base_path: str) -> None:
    async with open_house(base_path) as house, house.client() as api:
        await api.chat.completions.create(**chat())
        asked = await api.chat.completions.create(
            **chat(), stream=True, stream_options={"include_usage": True}
        )
        assert [chunk async for chunk in asked][-1].usage is not None
        unasked = await api.chat.completions.create(**chat(), stream=True)
        chunks = [chunk async for chunk in unasked]
        assert chunks
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)
        one, two, three = house.agrees(3)
        assert two.usage == three.usage
        assert two.usage.cache_read > 1500
        assert two.usage.reasoning > 0
        assert one.request_id == house.mock.truth.entries[0].request_id
        assert [s.operation for s in house.desk.started] == ["chat"] * 3
        assert {entry.key for entry in house.mock.truth.entries} == {key_digest(KEY)}
        assert one.cost_usd is None or one.cost_usd > 0


async def test_responses_are_booked_to_the_token(open_house: Any) -> None:
    tools: Any = [{"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}}]
    ask: dict[str, Any] = {"model": MODEL, "input": LONG, "reasoning": {"effort": "low"}, "tools": tools}
    async with open_house() as house, house.client() as api:
        await api.responses.create(**ask)
        async with api.responses.stream(**ask) as stream:
            assert (await stream.get_final_response()).output
        one, two = house.agrees(2)
        assert one.usage.cache_write_5m == two.usage.cache_read > 1500
        assert (two.tools, two.stop_reason) == (["shell"], "tool_calls")


async def test_embeddings_are_booked_and_models_and_counts_are_free(open_house: Any) -> None:
    async with open_house() as house, house.client() as api:
        await api.embeddings.create(model="text-embedding-3-small", input="hello")
        assert [model.id async for model in api.models.list()]
        await api.responses.input_tokens.count(model=MODEL, input="hello")
        house.agrees(1)
        assert house.mock.truth.other == {"GET models": 1, "POST count": 1}


@pytest.mark.parametrize("form", ["?alt=sse&key=own-key", "?key=own-key", ""])
async def test_gemini_is_booked_to_the_token_and_no_own_key_leaves(open_house: Any, form: str) -> None:
    parts = [{"text": LONG}]
    config = {"thinkingConfig": {"includeThoughts": True}}
    body = json.dumps({"contents": [{"role": "user", "parts": parts}], "generationConfig": config}).encode()
    async with open_house() as house:
        target = f"/a/{house.secret}/gemini/v1beta/models/gemini-3.8-flash"
        for method in ("streamGenerateContent", "generateContent", "countTokens"):
            answer = await post(house, f"{target}:{method}{form}", body, "x-goog-api-key: own-key\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")
        settled = house.agrees(2)
        assert {s.model for s in settled} == {"gemini-3.8-flash"}
        assert settled[1].usage.cache_read > 1500
        assert settled[0].usage.reasoning > 0
        # The mock takes only the provider's key, from a header before the query.
        assert {entry.key for entry in house.mock.truth.entries} == {key_digest(KEY)}


async def test_what_another_dialect_costs_is_booked_too(open_house: Any) -> None:
    body = json.dumps(chat(stream=True)).encode()
    async with open_house() as house:
        for name in ("anthropic", "gemini"):
            target = f"/a/{house.secret}/{name}/v1/chat/completions"
            await post(house, target, body, "authorization: Bearer own\r\n")
        assert [s.operation for s in house.desk.started] == ["chat", "chat"]
        assert [s.provider for s in house.desk.started] == ["anthropic", "gemini"]


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
async def test_compressed_requests_are_read_for_their_facts(open_house: Any, coding: str, pack: Any) -> None:
    body = pack(json.dumps(chat(stream=True, max_tokens=5)).encode())
    async with open_house() as house:
        target = f"/a/{house.secret}/openai/v1/chat/completions"
        await post(house, target, body, f"content-encoding: {coding}\r\n")
        (started,) = house.desk.started
        assert (started.model, started.stream) == (MODEL, True)


async def test_a_server_that_refuses_to_be_asked_for_usage_still_answers(open_house: Any) -> None:
    async with open_house() as house, house.client() as api:
        stream = await api.chat.completions.create(**chat("[[mock:refuse_usage output=200]]"), stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text
        (settled,) = house.desk.settled
        assert (settled.outcome, settled.exact) == ("ok", False)
        truth = house.mock.truth.entries[-1].usage
        assert truth.output / 2 < settled.usage.output < truth.output * 2
        assert truth.context / 2 < settled.usage.input < truth.context * 2


@pytest.mark.parametrize(
    ("telling", "exact"), [("missing", False), ("falling", True), ("negative", False), ("absurd", False)]
)
async def test_usage_that_is_told_wrongly_is_not_believed(open_house: Any, telling: str, exact: bool) -> None:
    prompt = f"[[mock:usage={telling} output=300]]"
    async with open_house() as house, house.client() as api:
        stream = await api.chat.completions.create(
            **chat(prompt), stream=True, stream_options={"include_usage": True}
        )
        [chunk async for chunk in stream]
        (settled,) = house.desk.settled
        truth = house.mock.truth.entries[0].usage
        assert settled.exact is exact
        if exact:
            assert settled.usage == Usage(*truth)
        else:
            assert truth.output / 2 < settled.usage.output < truth.output * 2


@pytest.mark.parametrize("kind", ["budget", "policy"])
async def test_refusals_are_not_tried_again(open_house: Any, kind: Any) -> None:
    async with open_house() as house:
        house.desk.refusal = Refused(kind, "no")
        async with house.client().with_options(max_retries=5) as api:
            for call, status in (
                (api.chat.completions.create(**chat()), 402 if kind == "budget" else 403),
                (api.responses.create(model=MODEL, input="x"), 400),
            ):
                with pytest.raises(openai.APIStatusError, match="no") as caught:
                    await call
                assert caught.value.status_code == status
        assert len(house.desk.asked) == 2
        assert not house.mock.truth.entries


async def test_a_cut_stream_is_estimated_from_what_was_seen(open_house: Any) -> None:
    async with open_house() as house, house.client() as api:
        stream = await api.responses.create(
            model=MODEL, input=f"{LONG}[[mock:cut=60 output=900]]", stream=True
        )
        with pytest.raises(openai.APIError):
            [event async for event in stream]
        (settled,) = house.desk.settled
        truth = house.mock.truth.entries[0].usage
        assert (settled.outcome, settled.exact) == ("upstream_cut", False)
        assert truth.output * 0.7 < settled.usage.output < truth.output * 1.4
        assert truth.context * 0.7 < settled.usage.input < truth.context * 1.4


@pytest.mark.parametrize("operation", ["chat", "responses"])
async def test_an_error_in_the_stream_reaches_the_official_client(operation: str) -> None:
    """What ``error_event`` says after a head of 200, the client tells as what it is."""
    from agenttop.core.gateway.protocols import PROTOCOLS

    event = b": waiting\n\n" + PROTOCOLS["openai"].error_event(operation, 402, "agenttop: no money")

    async def serve(stream: anyio.abc.ByteStream) -> None:
        async with stream:
            await stream.receive()
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
            await stream.send(head % len(event) + event)

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, serve)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}", api_key="x", max_retries=0) as api:
            if operation == "chat":
                stream = await api.chat.completions.create(**chat(), stream=True)
                with pytest.raises(openai.APIError, match="no money"):
                    [chunk async for chunk in stream]
            else:
                events = [e async for e in await api.responses.create(model=MODEL, input="x", stream=True)]
                assert events[-1].type == "response.failed"
                assert events[-1].response.error is not None
                assert "no money" in events[-1].response.error.message
        tasks.cancel_scope.cancel()
