"""Gauges keep up during a stream, not only at its end, whatever its protocol."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from agenttop.core.gateway.providers import Provider

pytestmark = pytest.mark.anyio
WORDS = "some words of a long answer " * 8


def anthropic(wire: Any) -> tuple[list[bytes], bytes]:
    events = wire.message_events([WORDS])
    return events[:3], events[3]


def chat(wire: Any) -> tuple[list[bytes], bytes]:
    def chunk(delta: dict[str, str]) -> bytes:
        body = {"id": "c1", "object": "chat.completion.chunk", "model": "gpt-5"}
        return b"data: " + json.dumps({**body, "choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"

    return [chunk({"role": "assistant", "content": ""})], chunk({"content": WORDS})


def responses(wire: Any) -> tuple[list[bytes], bytes]:
    created = {"response": {"id": "r1", "model": "gpt-5", "status": "in_progress", "usage": None}}
    delta = {"item_id": "m1", "output_index": 0, "content_index": 0, "delta": WORDS}
    return [wire.event("response.created", created)], wire.event("response.output_text.delta", delta)


def gemini(wire: Any) -> tuple[list[bytes], bytes]:
    piece = {"candidates": [{"content": {"role": "model", "parts": [{"text": WORDS}]}, "index": 0}]}
    return [], b"data: " + json.dumps({**piece, "modelVersion": "gemini-2.5-pro"}).encode() + b"\r\n\r\n"


CASES = {
    "anthropic": (anthropic, "anthropic", "/v1/messages"),
    "chat": (chat, "openai", "/v1/chat/completions"),
    "responses": (responses, "openai", "/v1/responses"),
    "gemini": (gemini, "gemini", "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
}


@pytest.mark.parametrize("case", CASES)
async def test_usage_grows_with_every_look_at_a_stream(open_bench: Any, wire: Any, case: str) -> None:
    make, protocol, path = CASES[case]
    start, delta = make(wire)
    step = asyncio.Queue[None]()

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(wire.sse_head())
        for data in start:
            writer.write(wire.as_chunk(data))
        while True:
            await step.get()
            writer.write(wire.as_chunk(delta))
            await writer.drain()

    async with open_bench() as bench:
        url = f"http://127.0.0.1:{bench.provider.port}"
        provider = Provider(name=protocol, protocol=protocol, base_url=url, key_env="ANTHROPIC_API_KEY")
        bench.gateway.update({protocol: provider})
        bench.provider.script = script
        body = json.dumps({
            "model": "gpt-5", "stream": True, "max_tokens": 9,
            "messages": [{"role": "user", "content": "hi"}], "input": "hi",
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        }).encode()  # fmt: skip
        _reader, writer = await bench.connect()
        writer.write(bench.post(body, path=path).replace(b"/anthropic/", f"/{protocol}/".encode(), 1))
        outputs = [0]
        for _ in range(5):
            step.put_nowait(None)
            await wire.eventually(
                lambda: bench.desk.progress and bench.desk.progress[-1].usage.output > outputs[-1]
            )
            outputs.append(bench.desk.progress[-1].usage.output)
        assert outputs[-1] >= 4 * len(WORDS) // 5 // 4
        writer.transport.abort()
        (settled,) = await bench.settled()
        assert (settled.outcome, settled.exact) == ("client_cut", False)
        assert settled.usage.output >= outputs[-1]
