"""Every way a call can end, and that each is settled exactly once."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from agenttop.core.errors import JournalUnavailable
from agenttop.core.gateway.limits import Limits
from agenttop.core.journal.events import Usage

pytestmark = pytest.mark.anyio
STREAM = json.dumps({"model": "claude-opus-5-5", "stream": True, "max_tokens": 9, "messages": []}).encode()
WHOLE = json.dumps({"model": "claude-opus-5-5", "max_tokens": 9, "messages": []}).encode()
INPUT = Usage(input=1000, cache_read=5000, cache_write_5m=150, cache_write_1h=50)


async def read_all(reader: asyncio.StreamReader) -> bytes:
    with anyio.fail_after(20):
        return await reader.read()


def stops_after(wire: Any, texts: list[str], then: Any) -> Any:
    """A provider that streams some text and then does ``then``."""

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(wire.sse_head())
        for data in wire.message_events(texts)[: 3 + len(texts)]:
            writer.write(wire.as_chunk(data))
        await writer.drain()
        await then(seen, writer)

    return script


async def never(seen: Any, writer: asyncio.StreamWriter) -> None:
    await seen.reader.read()


async def drop(seen: Any, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    raise ConnectionAbortedError


async def test_the_client_sees_no_end_before_the_call_is_settled(open_bench: Any) -> None:
    async with open_bench() as bench:
        bench.desk.settle_hold = anyio.Event()
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM, headers="Connection: close\r\n"))
        with anyio.fail_after(10):
            seen = await reader.readuntil(b"event: message_delta")
        with anyio.move_on_after(0.3):
            while data := await reader.read(65536):
                seen += data
        assert b"message_delta" in seen
        assert b"message_stop" not in seen
        assert not seen.endswith(b"0\r\n\r\n")
        assert not bench.desk.settled
        bench.desk.settle_hold.set()
        seen += await read_all(reader)
        assert b"event: message_stop" in seen
        assert seen.endswith(b"0\r\n\r\n")
        assert len(bench.desk.settled) == 1
        writer.close()


async def test_an_unstreamed_answer_waits_for_its_settlement_too(open_bench: Any, wire: Any) -> None:
    async with open_bench() as bench:
        bench.desk.settle_hold = anyio.Event()
        reader, writer = await bench.connect()
        writer.write(bench.post(WHOLE, headers="Connection: close\r\n"))
        with anyio.fail_after(10):
            await reader.readuntil(b"\r\n\r\n")
        rest = b""
        with anyio.move_on_after(0.3):
            rest = await reader.read(1)
        assert rest == b""
        bench.desk.settle_hold.set()
        assert await read_all(reader) == wire.message()
        writer.close()


async def test_a_settlement_that_fails_cuts_the_client(open_bench: Any) -> None:
    async with open_bench() as bench:
        bench.desk.settle_error = JournalUnavailable("the journal cannot be written", "disk full")
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM))
        seen = await read_all(reader)
        assert b"message_delta" in seen
        assert b"message_stop" not in seen
        assert not seen.endswith(b"0\r\n\r\n")
        writer.close()


async def test_a_client_that_leaves_in_mid_stream_is_billed_what_was_streamed(
    open_bench: Any, wire: Any
) -> None:
    async with open_bench() as bench:
        bench.provider.script = stops_after(wire, ["x" * 400, "y" * 402], never)
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM))
        with anyio.fail_after(10):
            await reader.readuntil(b"yy")
        writer.transport.abort()
        (settled,) = await bench.settled()
        assert settled.outcome == "client_cut"
        assert not settled.exact
        assert settled.usage == INPUT._replace(output=201)
        with anyio.fail_after(10):
            await bench.provider.lost.wait()  # the provider stops generating, and billing


async def test_a_stream_the_provider_cuts_is_cut_for_the_client(open_bench: Any, wire: Any) -> None:
    async with open_bench() as bench:
        bench.provider.script = stops_after(wire, ["z" * 40], drop)
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM))
        seen = await read_all(reader)
        assert b"zzz" in seen
        assert not seen.endswith(b"0\r\n\r\n")
        (settled,) = await bench.settled()
        assert settled.outcome == "upstream_cut"
        assert not settled.exact
        assert settled.usage == INPUT._replace(output=10)
        writer.close()


async def test_an_http10_client_sees_a_cut_stream_as_a_reset(open_bench: Any, wire: Any) -> None:
    async with open_bench() as bench:
        bench.provider.script = stops_after(wire, ["z" * 40], drop)
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        with pytest.raises(ConnectionResetError):
            await read_all(reader)
        writer.close()


async def test_a_final_figure_before_the_cut_is_exact(open_bench: Any, wire: Any) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(wire.sse_head())
        writer.write(wire.as_chunk(b"".join(wire.message_events(["hi"])[:-1])))
        await writer.drain()
        writer.transport.abort()
        raise ConnectionAbortedError

    async with open_bench() as bench:
        bench.provider.script = script
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM))
        await read_all(reader)
        (settled,) = await bench.settled()
        assert (settled.outcome, settled.exact, settled.usage.output) == ("upstream_cut", True, 42)
        writer.close()


async def test_an_error_event_in_the_stream_fails_the_call(open_bench: Any, wire: Any) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(wire.sse_head())
        for data in wire.message_events(["four"])[:4]:
            writer.write(wire.as_chunk(data))
        error = {"error": {"type": "overloaded_error", "message": "Overloaded"}}
        writer.write(wire.as_chunk(wire.event("error", error)) + b"0\r\n\r\n")

    async with open_bench() as bench:
        bench.provider.script = script
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM, headers="Connection: close\r\n"))
        assert (await read_all(reader)).endswith(b"0\r\n\r\n")
        (settled,) = bench.desk.settled
        assert (settled.outcome, settled.exact, settled.status) == ("error", False, 200)
        assert settled.error == "overloaded_error: Overloaded"
        assert settled.usage == INPUT._replace(output=1)
        writer.close()


async def test_an_unreachable_provider_costs_nothing_and_the_desk_ends_it(open_bench: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        async with open_bench() as bench:
            provider = bench.gateway._parts.providers["anthropic"]
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
            bench.gateway.update({"anthropic": provider.model_copy(update={"base_url": url})})
            reader, writer = await bench.connect()
            writer.write(bench.post(WHOLE, headers="Connection: close\r\n"))
            seen = await read_all(reader)
            assert seen.startswith(b"HTTP/1.1 429 ")
            assert b"retry-after: 7\r\n" in seen
            assert b"x-should-retry" not in seen
            assert len(bench.desk.turns) == 2
            assert [name for name, _ in bench.desk.losses] == ["anthropic"]
            (settled,) = bench.desk.settled
            assert (settled.outcome, settled.usage, settled.exact) == ("unreachable", Usage(), True)
            assert (settled.status, settled.attempts) == (429, 0)
            assert "was not reached" in settled.error
            writer.close()


async def test_a_provider_that_says_nothing_is_504_after_the_limit(open_bench: Any) -> None:
    async def silent(seen: Any, writer: asyncio.StreamWriter) -> None:
        await anyio.sleep_forever()

    async with open_bench(limits=Limits(tick_seconds=0.02, upstream_seconds=0.1)) as bench:
        bench.provider.script = silent
        reader, writer = await bench.connect()
        writer.write(bench.post(WHOLE, headers="Connection: close\r\n"))
        seen = await read_all(reader)
        assert seen.startswith(b"HTTP/1.1 504 ")
        assert b"timeout_error" in seen
        (settled,) = bench.desk.settled
        assert (settled.outcome, settled.status, settled.exact) == ("upstream_cut", 504, False)
        writer.close()


async def test_a_held_call_is_not_forwarded_and_then_is(open_bench: Any) -> None:
    async with open_bench() as bench:
        bench.desk.hold = anyio.Event()
        reader, writer = await bench.connect()
        writer.write(bench.post(WHOLE, headers="Connection: close\r\n"))
        await bench.desk.until(lambda: bench.desk.asked)
        assert not bench.provider.seen
        assert bench.gateway.in_flight == 1
        bench.desk.hold.set()
        assert (await read_all(reader)).startswith(b"HTTP/1.1 200 ")
        (settled,) = bench.desk.settled
        assert settled.queued_seconds > 0
        writer.close()


async def test_a_client_that_leaves_a_held_call_costs_nothing(open_bench: Any, wire: Any) -> None:
    async with open_bench() as bench:
        bench.desk.hold = anyio.Event()
        _, writer = await bench.connect()
        writer.write(bench.post(WHOLE))
        await bench.desk.until(lambda: bench.desk.asked)
        writer.transport.abort()
        (settled,) = await bench.settled()
        assert (settled.outcome, settled.usage, settled.exact) == ("client_cut", Usage(), True)
        assert not bench.provider.seen
        await wire.eventually(lambda: bench.gateway.in_flight == 0)


async def test_a_missing_key_is_waited_for(open_bench: Any) -> None:
    async with open_bench(keys={}) as bench:
        bench.desk.key_came = anyio.Event()
        reader, writer = await bench.connect()
        writer.write(bench.post(WHOLE, headers="Connection: close\r\n"))
        await bench.desk.until(lambda: bench.desk.keys_awaited)
        assert bench.desk.keys_awaited == ["ANTHROPIC_API_KEY"]
        bench.keys.supply("ANTHROPIC_API_KEY", "sk-late")
        bench.desk.key_came.set()
        assert (await read_all(reader)).startswith(b"HTTP/1.1 200 ")
        assert bench.provider.seen[0].header("x-api-key") == "sk-late"
        assert len(bench.desk.settled) == 1
        writer.close()


async def test_a_key_that_does_not_come_refuses_the_call(open_bench: Any) -> None:
    async with open_bench(keys={}) as bench:
        reader, writer = await bench.connect()
        writer.write(bench.post(WHOLE, headers="Connection: close\r\n"))
        seen = await read_all(reader)
        assert seen.startswith(b"HTTP/1.1 401 ")
        assert b"x-should-retry: false" in seen
        assert [s.outcome for s in bench.desk.settled] == ["refused"]
        writer.close()


async def test_a_journal_that_is_gone_is_503_and_nothing_is_sent(open_bench: Any) -> None:
    async with open_bench() as bench:
        bench.desk.refusal = JournalUnavailable("the journal cannot be written", "disk full")
        reader, writer = await bench.connect()
        writer.write(bench.post(WHOLE, headers="Connection: close\r\n"))
        seen = await read_all(reader)
        assert seen.startswith(b"HTTP/1.1 503 ")
        assert b"disk full" in seen
        assert not bench.provider.seen
        assert not bench.desk.settled
        writer.close()


async def test_closing_lets_calls_end_within_the_grace(open_bench: Any, wire: Any) -> None:
    go = anyio.Event()

    async def slow(seen: Any, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await wire.stream_answer(seen, writer)

    async with open_bench() as bench:
        bench.provider.script = slow
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM))
        await wire.eventually(lambda: bench.provider.seen)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.gateway.close, 20.0)
            await anyio.lowlevel.checkpoint()
            go.set()
        assert (await read_all(reader)).endswith(b"0\r\n\r\n")
        assert [s.outcome for s in bench.desk.settled] == ["ok"]
        writer.close()


@pytest.mark.parametrize("stage", ["held", "running", "uploading"])
async def test_closing_without_grace_settles_what_it_cuts(open_bench: Any, wire: Any, stage: str) -> None:
    async with open_bench() as bench:
        if stage == "held":
            bench.desk.hold = anyio.Event()
        bench.provider.script = stops_after(wire, ["abcd"], never)
        reader, writer = await bench.connect()
        request = bench.post(STREAM)
        writer.write(request if stage != "uploading" else request[:-5])
        if stage == "held":
            await bench.desk.until(lambda: bench.desk.asked)
        elif stage == "running":
            with anyio.fail_after(10):
                await reader.readuntil(b"abcd")
        else:
            await wire.eventually(lambda: bench.gateway._exchanges)
        with anyio.fail_after(10):
            await bench.gateway.close(0)
        assert not (await read_all(reader)).endswith(b"0\r\n\r\n")
        expected = {"held": [("crash", True)], "running": [("crash", False)], "uploading": []}[stage]
        assert [(s.outcome, s.exact) for s in bench.desk.settled] == expected
        writer.close()


async def test_progress_is_noted_while_a_call_runs(open_bench: Any, wire: Any) -> None:
    go = anyio.Event()

    async def wait(seen: Any, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await drop(seen, writer)

    async with open_bench() as bench:
        bench.provider.script = stops_after(wire, ["x" * 400], wait)
        _reader, writer = await bench.connect()
        writer.write(bench.post(STREAM))
        await wire.eventually(lambda: bench.desk.progress)
        await wire.eventually(lambda: bench.desk.progress[-1].usage == INPUT._replace(output=100))
        count = len(bench.desk.progress)
        await anyio.sleep(0.1)
        assert len(bench.desk.progress) == count  # nothing new, nothing noted
        go.set()
        await bench.settled()
        writer.close()


async def test_tools_and_subagents_are_told(open_bench: Any, wire: Any) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(wire.sse_head())
        writer.write(
            wire.as_chunk(b"".join(wire.message_events(["hi"], tools=["Bash", "Read"]))) + b"0\r\n\r\n"
        )

    async with open_bench() as bench:
        bench.provider.script = script
        reader, writer = await bench.connect()
        headers = "x-claude-code-session-id: s1\r\nx-claude-code-agent-id: sub7\r\nConnection: close\r\n"
        writer.write(bench.post(STREAM, headers=headers))
        await read_all(reader)
        (started,), (settled,) = bench.desk.started, bench.desk.settled
        assert started.client == {"session": "s1", "subagent": "sub7"}
        assert settled.tools == ["Bash", "Read"]
        assert settled.stop_reason == "tool_use"
        assert settled.context_used is None
        writer.close()
