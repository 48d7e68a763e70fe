"""What fills recall: model calls of every protocol, output, mail; each once, and none of it in anybody's way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import anyio
import httpx
import openai
import orjson
import pytest

from agenttop.core.bus.message import Draft
from agenttop.core.kernel import Kernel
from agenttop.core.memory.model import Entry, MemoryUnavailable, Said, Who
from agenttop.core.paths import Paths
from agenttop.tui.demo.provider import INSTANT, MockProvider

from .conftest import KernelMaker, sh, until

pytestmark = pytest.mark.anyio
PERSON = Who(None)
KEY = "the-providers-own-key"
TOOLS = "[[mock:tools=Read output=40]]"
SYSTEM = "You are careful."


@pytest.fixture
async def provider() -> AsyncIterator[MockProvider]:
    async with MockProvider(speed=INSTANT, key=KEY) as mock:
        yield mock


@pytest.fixture
def configured(paths: Paths, provider: MockProvider) -> Paths:
    paths.config.mkdir(parents=True, exist_ok=True)
    key = paths.config / "key"
    key.touch(mode=0o600)
    key.write_text(KEY)
    lines = [f'[providers.{name}]\nbase_url = "{provider.url}"\nkey_file = "key"\n' for name in PROVIDERS]
    paths.config_file.write_text("".join(lines) + "[gateway]\ncheck_peers = false\n")
    return paths


PROVIDERS = ("anthropic", "openai", "gemini")


async def caller(kernel: Kernel, name: str = "caller") -> tuple[str, str]:
    """An agent that lives, and its URL at the gateway."""
    agent = await kernel.client().run(sh("exec sleep 600", name))
    return agent.id, kernel.launcher._door.url(agent.id)


async def entries(kernel: Kernel, agent: str, count: int, *roles: str) -> list[Entry]:
    """The agent's recall, oldest first, when it has so many entries."""

    async def look() -> list[Entry]:
        found = await kernel.memory.recall(PERSON, agents=[agent], roles=roles or None, limit=200)
        return found.entries if len(found.entries) >= count else []

    found: list[Entry] = await until(look, f"{count} entries", 30)
    return found[::-1]


async def settled(kernel: Kernel) -> None:
    """Everything that was heard has been written."""

    async def look() -> bool:
        return not kernel.recorder.intake._waiting and not kernel.recorder.intake._unwritten

    while not await kernel.recorder.intake.write():
        await anyio.sleep(0.05)
    await until(look, "nothing waiting", 30)


# --- three turns in each protocol: a question, the tool's result, another question, all repeated each time


async def messages(url: str, streamed: bool) -> int:
    history: list[Any] = [{"role": "user", "content": f"read it {TOOLS}"}]
    async with anthropic.AsyncAnthropic(base_url=f"{url}/anthropic", api_key="x", max_retries=0) as client:
        for turn in range(3):
            ask: dict[str, Any] = {
                "model": "claude-opus-5-5",
                "max_tokens": 200,
                "system": SYSTEM,
                "messages": history,
                "tools": [{"name": "Read", "input_schema": {"type": "object"}}],
            }
            if streamed:
                async with client.messages.stream(**ask) as stream:
                    answer = await stream.get_final_message()
            else:
                answer = await client.messages.create(**ask)
            blocks = [block.model_dump(exclude_none=True) for block in answer.content]
            history.append({"role": "assistant", "content": blocks})
            used = [block for block in answer.content if block.type == "tool_use"]
            assert bool(used) == (turn == 0)
            if used:
                result = {"type": "tool_result", "tool_use_id": used[0].id, "content": "line one"}
                history.append({"role": "user", "content": [result]})
            else:
                history.append({"role": "user", "content": "again [[mock:tools=none output=30]]"})
    said = [
        block for message in history[:-1] if message["role"] == "assistant" for block in message["content"]
    ]
    return 1 + 3 + sum(block["type"] in ("text", "tool_use") for block in said)


async def responses(url: str, streamed: bool) -> int:
    history: list[Any] = [{"role": "user", "content": f"read it {TOOLS}"}]
    said = 0
    async with openai.AsyncOpenAI(base_url=f"{url}/openai/v1", api_key="x", max_retries=0) as client:
        for turn in range(3):
            ask: dict[str, Any] = {
                "model": "gpt-5.1",
                "instructions": SYSTEM,
                "input": history,
                "tools": [{"type": "function", "name": "Read", "parameters": {"type": "object"}}],
            }
            if streamed:
                async with client.responses.stream(**ask) as stream:
                    answer: Any = await stream.get_final_response()
            else:
                answer = await client.responses.create(**ask)
            items = [item.model_dump(exclude_none=True) for item in answer.output]
            history += items
            used = [item for item in items if item["type"] == "function_call"]
            said += sum(item["type"] in ("message", "function_call") for item in items)
            assert bool(used) == (turn == 0)
            if used:
                output = {"type": "function_call_output", "call_id": used[0]["call_id"], "output": "line one"}
                history.append(output)
            else:
                history.append({"role": "user", "content": "again [[mock:tools=none output=30]]"})
    return 1 + 3 + said


async def chat(url: str, streamed: bool) -> int:
    history: list[Any] = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"read it {TOOLS}"},
    ]
    said = 0
    async with openai.AsyncOpenAI(base_url=f"{url}/openai/v1", api_key="x", max_retries=0) as client:
        for turn in range(3):
            function = {"name": "Read", "parameters": {"type": "object"}}
            ask: dict[str, Any] = {
                "model": "gpt-5.1",
                "messages": history,
                "tools": [{"type": "function", "function": function}],
            }
            if streamed:
                async with client.chat.completions.stream(**ask) as stream:
                    answer: Any = await stream.get_final_completion()
            else:
                answer = await client.chat.completions.create(**ask)
            message = answer.choices[0].message
            calls = [call.model_dump(include={"id", "type", "function"}) for call in message.tool_calls or ()]
            for call in calls:
                call["function"].pop("parsed_arguments", None)
            repeated: dict[str, Any] = {"role": "assistant", "content": message.content}
            history.append({**repeated, "tool_calls": calls} if calls else repeated)
            said += bool(message.content) + len(calls)
            assert bool(calls) == (turn == 0)
            if calls:
                history.append({"role": "tool", "tool_call_id": calls[0]["id"], "content": "line one"})
            else:
                history.append({"role": "user", "content": "again [[mock:tools=none output=30]]"})
    return 1 + 3 + said


async def gemini(url: str, streamed: bool) -> int:
    history: list[Any] = [{"role": "user", "parts": [{"text": f"read it {TOOLS}"}]}]
    said = 0
    method = "streamGenerateContent?alt=sse" if streamed else "generateContent"
    async with httpx.AsyncClient(timeout=30) as client:
        for turn in range(3):
            ask = {
                "systemInstruction": {"parts": [{"text": SYSTEM}]},
                "contents": history,
                "tools": [{"functionDeclarations": [{"name": "Read"}]}],
            }
            address = f"{url}/gemini/v1beta/models/gemini-3-pro:{method}"
            answer = await client.post(address, json=ask, headers={"x-goog-api-key": "x"})
            assert answer.status_code == 200, answer.text
            lines = answer.text.splitlines()
            chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
            parts = [
                part
                for chunk in (chunks if streamed else [answer.json()])
                for candidate in chunk.get("candidates", [])
                for part in candidate.get("content", {}).get("parts", [])
                if not part.get("thought") and part.get("text") != ""
            ]
            text = "".join(part["text"] for part in parts if "text" in part)
            calls = [part for part in parts if "functionCall" in part]
            history.append({"role": "model", "parts": [*([{"text": text}] if text else []), *calls]})
            said += bool(text) + len(calls)
            assert bool(calls) == (turn == 0)
            if calls:
                response = {"name": "Read", "response": {"output": "line one"}}
                history.append({"role": "user", "parts": [{"functionResponse": response}]})
            else:
                again = {"text": "again [[mock:tools=none output=30]]"}
                history.append({"role": "user", "parts": [again]})
    return 1 + 3 + said


DIALOGUES = {"messages": messages, "responses": responses, "chat": chat, "gemini": gemini}


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("protocol", DIALOGUES)
async def test_a_conversation_is_remembered_once_however_often_it_is_repeated(
    protocol: str, streamed: bool, kernels: KernelMaker, configured: Paths
) -> None:
    async with kernels() as kernel:
        agent, url = await caller(kernel)
        # The question after the last answer was never asked: it is in the dialogue's count, and not here.
        count = await DIALOGUES[protocol](url, streamed)
        await settled(kernel)
        found = await entries(kernel, agent, count)
        texts = [(entry.role, entry.text) for entry in found]
        assert len(found) == count, texts
        roles = Counter(role for role, _ in texts)
        assert roles["system"] == roles["tool"] == 1
        assert ("system", SYSTEM) in texts
        assert ("tool", "line one") in texts
        assert roles["user"] == 2
        assert [text for role, text in texts if role == "user"][0] == f"read it {TOOLS}"
        assert any(role == "assistant" and text.startswith("Read {") for role, text in texts)
        calls = {f"call:{call}" for call in await _calls(kernel, agent)}
        assert {entry.source for entry in found} <= calls
        assert len({entry.source for entry in found}) == 3
        assert {entry.run for entry in found} == {1}


async def _calls(kernel: Kernel, agent: str) -> list[str]:
    found = await kernel.client().inspect(agent)
    return [line["call"] for line in await _journal(kernel, agent) if "call" in line] if found else []


async def _journal(kernel: Kernel, agent: str) -> list[dict[str, Any]]:
    from agenttop.core.journal.replay import Reader

    reader = Reader(kernel.paths.journal)
    try:
        return [
            orjson.loads(orjson.dumps(event.model_dump(mode="json")))
            async for chunk in reader.events()
            for record, event in chunk
            if event is not None and record.agent == agent
        ]
    finally:
        reader.close()
