"""Back-pressure, big bodies, and connections that are kept: memory stays flat whatever passes."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from agenttop.core.gateway.limits import Limits

pytestmark = pytest.mark.anyio
WHOLE = json.dumps({"model": "claude-opus-5-5", "max_tokens": 9, "messages": []}).encode()
MIB = 1 << 20


def resident() -> int:
    """Bytes of memory this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_20_mb_body_arrives_whole(open_bench: Any) -> None:
    async with open_bench() as bench:
        body = json.dumps({"model": "claude-opus-5-5", "messages": ["x" * 20 * MIB]}).encode()
        reader, writer = await bench.connect()
        writer.write(bench.post(body))
        with anyio.fail_after(30):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert bench.provider.seen[0].body == body
        writer.close()


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_long_unmetered_upload_is_streamed(open_bench: Any, wire: Any, chunked: bool) -> None:
    """The provider sees its beginning before the client has sent its end."""
    async with open_bench() as bench:
        bench.provider.script = wire.json_answer
        reader, writer = await bench.connect()
        first, second = b"a" * (2 * MIB), b"b" * (2 * MIB)
        head = f"POST /a/{bench.secret}/anthropic/v1/files HTTP/1.1\r\nHost: x\r\n"
        if chunked:
            first, second = (b"%x\r\n%b\r\n" % (len(part), part) for part in (first, second))
            head += "Transfer-Encoding: chunked\r\n\r\n"
            second += b"0\r\n\r\n"
        else:
            head += f"Content-Length: {4 * MIB}\r\n\r\n"
        writer.write(head.encode() + first)
        await wire.eventually(lambda: bench.provider.connections)
        writer.write(second)
        with anyio.fail_after(30):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert bench.provider.seen[0].body == b"a" * (2 * MIB) + b"b" * (2 * MIB)
        writer.close()


async def test_a_provider_slow_to_read_slows_the_upload_down(open_bench: Any, wire: Any) -> None:
    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stop.wait()
        writer.close()

    stop = anyio.Event()
    async with open_bench() as bench, wire.listening(stuck) as port:
        provider = bench.gateway._parts.providers["anthropic"]
        bench.gateway.update(
            {"anthropic": provider.model_copy(update={"base_url": f"http://127.0.0.1:{port}"})}
        )
        _reader, writer = await bench.connect()
        size = 200 * MIB
        writer.write(
            f"POST /a/{bench.secret}/anthropic/v1/files HTTP/1.1\r\nContent-Length: {size}\r\n\r\n".encode()
        )
        sent, piece = 0, b"x" * MIB
        before = resident()
        with anyio.move_on_after(1.0):
            while sent < size:
                writer.write(piece)
                await writer.drain()
                sent += MIB
        assert sent < 60 * MIB  # socket buffers, and little more
        assert resident() - before < 30 * MIB
        writer.transport.abort()
        stop.set()
        await anyio.lowlevel.checkpoint()


def long_stream(wire: Any, size: int, sent: list[int]) -> Any:
    events = wire.message_events(["x" * 60_000])
    delta = events[3]

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(wire.sse_head())
        for data in events[:3]:
            writer.write(wire.as_chunk(data))
        block = wire.as_chunk(delta)
        while sent[0] < size:
            writer.write(block)
            await writer.drain()
            sent[0] += len(block)
        for data in events[4:]:
            writer.write(wire.as_chunk(data))
        writer.write(b"0\r\n\r\n")

    return script


async def test_a_200_mb_stream_passes_in_flat_memory(open_bench: Any, wire: Any) -> None:
    async with open_bench() as bench:
        sent = [0]
        bench.provider.script = long_stream(wire, 200 * MIB, sent)
        reader, writer = await bench.connect()
        writer.write(bench.post(WHOLE, headers="Connection: close\r\n"))
        got, peak, before, tail = 0, 0, resident(), b""
        with anyio.fail_after(60):
            while data := await reader.read(MIB):
                got += len(data)
                tail = (tail + data)[-100:]
                peak = max(peak, resident())
        assert got > 200 * MIB
        assert tail.endswith(b"0\r\n\r\n")
        assert peak - before < 24 * MIB
        assert [(s.outcome, s.exact, s.usage.output) for s in bench.desk.settled] == [("ok", True, 42)]
        writer.close()


async def test_a_slow_client_slows_the_provider_down(open_bench: Any, wire: Any) -> None:
    async with open_bench() as bench:
        sent = [0]
        bench.provider.script = long_stream(wire, 100 * MIB, sent)
        reader, writer = await bench.connect()
        before = resident()
        writer.write(bench.post(WHOLE, headers="Connection: close\r\n"))
        with anyio.fail_after(10):
            await reader.readexactly(1000)
        stalled, last = 0, -1
        with anyio.fail_after(20):
            while stalled < 20:  # 0.2 s without a byte from the provider
                stalled = stalled + 1 if sent[0] == last else 0
                last = sent[0]
                await anyio.sleep(0.01)
        assert sent[0] < 40 * MIB
        assert resident() - before < 24 * MIB
        with anyio.fail_after(60):
            total = 1000
            while data := await reader.read(MIB):
                total += len(data)
        assert total > 100 * MIB
        assert [s.outcome for s in bench.desk.settled] == ["ok"]
        writer.close()


async def test_a_client_that_reads_nothing_is_no_silent_provider(open_bench: Any, wire: Any) -> None:
    """A frozen agent does not read; its call must outlive the time limit for the provider."""
    async with open_bench(limits=Limits(upstream_seconds=0.1, tick_seconds=0.02)) as bench:
        sent = [0]
        bench.provider.script = long_stream(wire, 60 * MIB, sent)
        reader, writer = await bench.connect()
        writer.write(bench.post(WHOLE, headers="Connection: close\r\n"))
        with anyio.fail_after(10):
            await reader.readexactly(1000)
        await anyio.sleep(0.5)
        with anyio.fail_after(60):
            while await reader.read(MIB):
                pass
        assert [s.outcome for s in bench.desk.settled] == ["ok"]
        writer.close()


async def answer(reader: asyncio.StreamReader) -> bytes:
    with anyio.fail_after(10):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head + await reader.readexactly(length)


async def test_a_kept_connection_that_went_stale_is_replaced_once(open_bench: Any, wire: Any) -> None:
    """The second request on each connection is met by a close, as after a load balancer's idle time."""

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        if sum(s.connection == seen.connection for s in bench.provider.seen) == 2:
            writer.close()
            raise ConnectionAbortedError
        await wire.json_answer(seen, writer)

    async with open_bench() as bench:
        bench.provider.script = script
        reader, writer = await bench.connect()
        for _ in range(3):
            writer.write(bench.post(WHOLE))
            assert (await answer(reader)).startswith(b"HTTP/1.1 200")
        assert [s.connection for s in bench.provider.seen] == [1, 1, 2, 2, 3]
        assert [(s.outcome, s.exact) for s in bench.desk.settled] == [("ok", True)] * 3
        writer.close()


async def test_a_fresh_connection_that_is_dropped_is_not_tried_again(open_bench: Any) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.close()
        raise ConnectionAbortedError

    async with open_bench() as bench:
        bench.provider.script = script
        reader, writer = await bench.connect()
        writer.write(bench.post(WHOLE))
        assert (await answer(reader)).startswith(b"HTTP/1.1 502")
        assert len(bench.provider.seen) == 1
        assert [(s.outcome, s.exact) for s in bench.desk.settled] == [("upstream_cut", False)]
        writer.close()


async def test_kept_connections_are_given_up_when_idle(open_bench: Any) -> None:
    async with open_bench(limits=Limits(upstream_idle_seconds=0.1, tick_seconds=0.02)) as bench:
        reader, writer = await bench.connect()
        writer.write(bench.post(WHOLE))
        await answer(reader)
        assert bench.gateway._pool.idle == 1
        with anyio.fail_after(10):
            await bench.provider.lost.wait()
        assert bench.gateway._pool.idle == 0
        writer.close()


async def test_data_nobody_asked_for_ends_a_kept_connection(open_bench: Any, wire: Any) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        await wire.json_answer(seen, writer)
        await writer.drain()
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale")
        await writer.drain()

    go = anyio.Event()
    async with open_bench() as bench:
        bench.provider.script = script
        reader, writer = await bench.connect()
        writer.write(bench.post(WHOLE))
        await answer(reader)
        go.set()
        with anyio.fail_after(10):
            await bench.provider.lost.wait()
        assert bench.gateway._pool.idle == 0
        writer.write(bench.post(WHOLE))
        assert b"stale" not in await answer(reader)
        writer.close()


async def test_an_early_answer_to_an_upload_ends_both_connections(open_bench: Any, wire: Any) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Big\r\nContent-Length: 3\r\n\r\nno!")
        await writer.drain()
        await reader.read()
        writer.close()
        ended.set()

    ended = anyio.Event()
    async with (
        open_bench(limits=Limits(linger_seconds=0.2, tick_seconds=0.02)) as bench,
        wire.listening(early) as port,
    ):
        provider = bench.gateway._parts.providers["anthropic"]
        bench.gateway.update(
            {"anthropic": provider.model_copy(update={"base_url": f"http://127.0.0.1:{port}"})}
        )
        reader, writer = await bench.connect()
        head = f"POST /a/{bench.secret}/anthropic/v1/files HTTP/1.1\r\nContent-Length: {9 * MIB}\r\n\r\n"
        writer.write(head.encode() + b"x" * (2 * MIB))
        with anyio.fail_after(10):
            assert b"no!" in await reader.read()
        with anyio.fail_after(10):
            await ended.wait()
        await wire.eventually(lambda: not bench.gateway._exchanges)
        writer.close()
