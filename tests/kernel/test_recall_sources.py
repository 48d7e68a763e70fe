"""What fills recall: calls of every protocol, output, mail; each once, and none of it in anybody's way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import aiohttp
import anthropic
import anyio
import openai
import pytest

from agenttop.core.api import StopRequest
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
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as client:
        for turn in range(3):
            ask = {
                "systemInstruction": {"parts": [{"text": SYSTEM}]},
                "contents": history,
                "tools": [{"functionDeclarations": [{"name": "Read"}]}],
            }
            address = f"{url}/gemini/v1beta/models/gemini-3-pro:{method}"
            async with client.post(address, json=ask, headers={"x-goog-api-key": "x"}) as answer:
                body = await answer.text()
            assert answer.status == 200, body
            lines = body.splitlines()
            chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
            parts = [
                part
                for chunk in (chunks if streamed else [json.loads(body)])
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
        assert next(text for role, text in texts if role == "user") == f"read it {TOOLS}"
        assert any(role == "assistant" and text.startswith("Read {") for role, text in texts)
        assert all(entry.source.startswith("call:") for entry in found)
        assert len({entry.source for entry in found}) == 3
        assert {entry.run for entry in found} == {1}


async def test_secrets_are_taken_out_of_what_is_remembered(kernels: KernelMaker, configured: Paths) -> None:
    async with kernels() as kernel:
        agent, url = await caller(kernel)
        asked = f"my key is {KEY} and my door is {url}/anthropic [[mock:tools=none output=20]]"
        async with anthropic.AsyncAnthropic(base_url=f"{url}/anthropic", api_key="x") as client:
            await client.messages.create(
                model="claude-opus-5-5", max_tokens=50, messages=[{"role": "user", "content": asked}]
            )
        (entry,) = await entries(kernel, agent, 1, "user")
        port = kernel.doors.port
        door = f"http://127.0.0.1:{port}/a/[key]/anthropic"
        assert entry.text == f"my key is [key] and my door is {door} [[mock:tools=none output=20]]"


async def test_a_new_run_that_goes_on_and_one_that_begins_anew_are_told_apart(
    kernels: KernelMaker, configured: Paths
) -> None:
    """Without an id of the client's, a conversation is that of the run it began in."""
    async with kernels() as kernel:
        agent, url = await caller(kernel)

        async def ask() -> None:
            async with anthropic.AsyncAnthropic(base_url=f"{url}/anthropic", api_key="x") as client:
                await client.messages.create(
                    model="claude-opus-5-5",
                    max_tokens=50,
                    messages=[{"role": "user", "content": "hi [[mock:tools=none output=20]]"}],
                )
            await settled(kernel)

        async def again(resume: str | None) -> None:
            await kernel.supervisor.stop(agent, how="kill", grace=0.0)
            await kernel.supervisor.start(agent, "restart", resume=resume)
            await ask()

        await ask()
        await again("")
        assert len(await entries(kernel, agent, 1, "user")) == 1
        await again(None)
        assert len(await entries(kernel, agent, 2, "user")) == 2


async def test_a_memory_that_takes_nothing_hurts_no_call_and_is_the_kernels_problem(
    kernels: KernelMaker, configured: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kernels() as kernel:
        agent, url = await caller(kernel)
        whole = kernel.recorder.intake._remember
        broken = True

        async def remember(said: Sequence[Said]) -> object:
            if broken:
                raise MemoryUnavailable("the memory cannot be used", "No space left on device")
            return await whole(said)

        monkeypatch.setattr(kernel.recorder.intake, "_remember", remember)
        count = await messages(url, streamed=True)
        await until(lambda: _true("No space left" in kernel.problem), "the problem being shown", 30)
        assert not kernel.status().healthy
        broken = False
        assert len(await entries(kernel, agent, count)) == count
        await until(lambda: _true(not kernel.problem), "the problem being over", 30)


async def _true(value: object) -> object:
    return value


async def test_what_does_not_fit_is_counted_and_nobody_waits(
    kernels: KernelMaker, configured: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agenttop.core.memory.sources.intake.MOST_ITEMS", 0)
    async with kernels() as kernel:
        _, url = await caller(kernel)
        await messages(url, streamed=False)
        await until(
            lambda: _true(kernel.recorder.dropped.get("calls", 0) >= 3), "three calls being counted", 30
        )


# --- output


async def test_what_a_program_prints_is_remembered_in_whole_lines_and_once(kernels: KernelMaker) -> None:
    async with kernels(leave=True) as kernel:
        script = "echo first; echo '\033[31mred\033[0m' >&2; printf half; read x; echo \" way $x\"; sleep 600"
        agent = await kernel.client().run(sh(script, "printer", stdin=True))
        found = await entries(kernel, agent.id, 2, "output")
        assert {entry.text for entry in found} == {"first\n", "\x1b[31mred\x1b[0m\n"}
        assert {(entry.run, entry.source) for entry in found} == {(1, "output")}
        await kernel.client().write("printer", b"there\n")
        assert (await entries(kernel, agent.id, 3, "output"))[-1].text == "half way there\n"
        await until(lambda: _true((kernel.paths.state / "recalled.json").exists()), "it being noted", 30)
    async with kernels() as kernel:
        await until(lambda: _true(kernel.supervisor.runs.get(agent.id)), "its run being found", 30)
        await kernel.client().stop(StopRequest(refs=["printer"], how="kill"))
        output = kernel.recorder._output
        assert output is not None
        await until(lambda: _true(not output._runs), "its output being read", 30)
        await settled(kernel)
        texts = Counter(entry.text for entry in await entries(kernel, agent.id, 3, "output"))
        texts.pop("Killed\n", None)  # its shell's last word
        assert set(texts) == {"first\n", "\x1b[31mred\x1b[0m\n", "half way there\n"}
        assert set(texts.values()) == {1}


async def test_the_last_words_of_a_short_run_are_remembered(kernels: KernelMaker) -> None:
    async with kernels() as kernel:
        agent = await kernel.client().run(sh("printf 'no line end'", "short"))
        assert [entry.text for entry in await entries(kernel, agent.id, 1, "output")] == ["no line end"]


async def test_of_who_prints_too_much_the_newest_is_remembered(kernels: KernelMaker) -> None:
    async with kernels() as kernel:
        agent = await kernel.client().run(sh("seq 1 200000; echo done; exec sleep 600", "loud"))

        async def look() -> bool:
            found = await kernel.memory.recall(PERSON, "done", agents=[agent.id])
            return any(entry.text.endswith("200000\ndone\n") for entry in found.entries)

        await until(look, "the newest being remembered", 30)
        assert kernel.recorder.dropped
        found = await kernel.memory.recall(PERSON, agents=[agent.id], limit=200)
        assert sum(len(entry.text) for entry in found.entries) < 400_000


# --- mail


async def test_mail_is_remembered_for_its_sender_and_every_receiver(kernels: KernelMaker) -> None:
    async with kernels() as kernel:
        (ann, _), (bob, _), (cat, _) = [await caller(kernel, name) for name in ("ann", "bob", "cat")]
        for name in (ann, bob, cat):
            await kernel.bus.open_mailbox(name)
        sent = await kernel.bus.send(ann, bob, Draft(payload=b'"hello there"'))
        told, count, _ = await kernel.bus.broadcast(bob, Draft(payload=b'{"n": 1}', type="news"))
        assert count >= 2
        heard = {
            name: await entries(kernel, agent, 2, "message")
            for name, agent in {"ann": ann, "bob": bob}.items()
        }
        (only,) = await entries(kernel, cat, 1, "message")
        for name in ("ann", "bob"):
            assert [(entry.source, entry.text) for entry in heard[name]] == [
                (f"message:{sent}", "ann to bob: hello there"),
                (f"message:{told}", 'bob to *: news {"n": 1}'),
            ]
        assert only.source == f"message:{told}"


async def test_mail_that_was_acknowledged_and_purged_is_remembered_nevertheless(kernels: KernelMaker) -> None:
    async with kernels() as kernel:
        (ann, _), (bob, _) = [await caller(kernel, name) for name in ("ann", "bob")]
        for name in (ann, bob):
            await kernel.bus.open_mailbox(name)
        for number in range(50):
            await kernel.bus.send(ann, bob, Draft(payload=b'"number %d"' % number))
            for delivery in await kernel.bus.mail.take(bob, 1):
                await kernel.bus.mail.ack(bob, [delivery.message.seq])
        assert len(await entries(kernel, bob, 50, "message")) == 50


# --- the fleet table, the configuration


async def test_the_rows_show_how_much_is_in_each_tier_and_follow_what_changes(kernels: KernelMaker) -> None:
    async with kernels() as kernel:
        agent = await kernel.client().run(sh("echo hello; exec sleep 600", "printer"))
        who = Who(agent.id, 1)
        await kernel.memory.write_block(who, agent.id, "persona", "x" * 400)
        await kernel.memory.write_note(who, f"private/{agent.id}", "one", "a note")
        await kernel.memory.write_note(who, "shared", "two", "another note")

        def shown() -> tuple[int, int, int] | None:
            row = kernel.feed.row(agent.id, "run", kernel.clock.time())
            return row.tiers if row is not None else None

        async with aclosing(kernel.client().watch("run")) as changes:
            await anext(changes)
            await until(lambda: _true(shown() == (100, 1, 2)), "the counts being shown", 30)
            fill = await kernel.memory.fill(who, agent.id)
            assert shown() == (fill.working_tokens, fill.recall_entries, fill.archival_notes)
            await kernel.memory.forget_agent(PERSON, agent.id)
            await until(lambda: _true(shown() == (0, 0, 1)), "what is gone being gone", 30)


async def test_what_the_configuration_leaves_out_is_not_remembered(
    kernels: KernelMaker, configured: Paths
) -> None:
    with configured.config_file.open("a") as file:
        file.write('[memory]\nrecall = ["output"]\n')
    async with kernels() as kernel:
        agent = await kernel.client().run(sh("read line; echo $line; exec sleep 600", "ann", stdin=True))
        await messages(kernel.launcher._door.url(agent.id), streamed=True)
        await kernel.bus.send(agent.id, agent.id, Draft(payload=b'"to myself"'))
        await kernel.client().write("ann", b"done\n")
        (only,) = await entries(kernel, agent.id, 1)
        assert (only.role, only.text) == ("output", "done\n")
