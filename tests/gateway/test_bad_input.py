"""What an agent or a provider may throw at the gateway, and that it stays small, quick and right."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from agenttop.core.gateway.limits import Limits
from agenttop.core.gateway.passage import without
from agenttop.core.journal.events import Usage

pytestmark = pytest.mark.anyio
STREAM = json.dumps({"model": "claude-opus-5-5", "stream": True, "max_tokens": 9, "messages": []}).encode()
WHOLE = json.dumps({"model": "claude-opus-5-5", "max_tokens": 9, "messages": []}).encode()
MIB = 1 << 20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def read_all(reader: asyncio.StreamReader) -> bytes:
    with anyio.fail_after(20):
        return await reader.read()


async def ask(bench: Any, request: bytes) -> bytes:
    reader, writer = await bench.connect()
    writer.write(request)
    answer = await read_all(reader)
    writer.close()
    return answer


# --- from agents ---------------------------------------------------------------------------------


async def test_a_body_of_a_gigabyte_is_413_before_it_is_read(open_bench: Any) -> None:
    async with open_bench(limits=Limits(linger_seconds=0.2, tick_seconds=0.02)) as bench:
        before = resident()
        head = f"POST /a/{bench.secret}/anthropic/v1/messages HTTP/1.1\r\nContent-Length: {1 << 30}\r\n\r\n"
        answer = await ask(bench, head.encode())
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"Connection: close\r\n" in answer
        assert b"x-should-retry: false\r\n" in answer
        assert resident() - before < 4 * MIB
        assert not bench.desk.asked


async def test_a_gigabyte_in_chunks_is_cut_off_at_the_limit_in_flat_memory(open_bench: Any) -> None:
    limits = Limits(body_bytes=4 * MIB, linger_seconds=0.2, tick_seconds=0.02)
    async with open_bench(limits=limits) as bench:
        reader, writer = await bench.connect()
        head = f"POST /a/{bench.secret}/anthropic/v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        block, sent, before = b"%x\r\n%b\r\n" % (MIB, b"x" * MIB), 0, resident()
        with anyio.fail_after(20):
            try:
                while sent < 1024:
                    writer.write(block)
                    await writer.drain()
                    sent += 1
            except ConnectionError:
                pass
        assert sent < 60
        assert resident() - before < 40 * MIB
        seen = b""
        with contextlib.suppress(ConnectionError):
            seen = await read_all(reader)
        assert seen == b"" or seen.startswith(b"HTTP/1.1 413 ")
        assert not bench.desk.asked
        writer.close()


async def test_a_length_that_is_no_number_of_bytes_is_400(open_bench: Any) -> None:
    async with open_bench() as bench:
        for length in (b"-1", b"+5", b"0x10", b"5, 5", b"99999999999999999999999", b"1_0", b"", b"5 5"):
            request = b"POST /a/x/anthropic/v1/messages HTTP/1.1\r\nContent-Length: %b\r\n\r\n" % length
            assert (await ask(bench, request)).startswith(b"HTTP/1.1 400 "), length
        assert not bench.provider.seen


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
        b"Content-Length: 6\r\nContent-Length: 6\r\n",
        b"Content-Length: 6\r\nContent-Length: 0\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: identity\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b" Content-Length: 6\r\n",
        b"X: 1\n\nGET / HTTP/1.1\r\nContent-Length: 6\r\n",
        b"Content-Length: 6\x00\r\n",
        b"X: a\r\n\tContent-Length: 6\r\nTransfer-Encoding\r\n",
    ],
    ids=range(14),
)
async def test_no_two_servers_could_read_a_request_differently(open_bench: Any, framing: bytes) -> None:
    """Whatever is ambiguous is refused, and what follows it is not taken for a request."""
    async with open_bench() as bench:
        smuggled = f"GET /a/{bench.secret}/anthropic/v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        head = f"POST /a/{bench.secret}/anthropic/v1/files HTTP/1.1\r\nHost: x\r\n".encode()
        answer = await ask(bench, head + framing + b"\r\n0\r\n\r\n" + smuggled)
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), answer[:100]
        assert answer.count(b"HTTP/1.1 ") == 1
        assert not bench.provider.seen


async def test_a_folded_header_cannot_hide_another(open_bench: Any) -> None:
    """Obsolete folding (RFC 9112, 5.2): refused, or passed on as one line."""
    async with open_bench() as bench:
        request = bench.post(WHOLE, headers="X-Folded: a\r\n x-api-key: mine\r\nConnection: close\r\n")
        answer = await ask(bench, request)
        if answer.startswith(b"HTTP/1.1 200 "):
            (seen,) = bench.provider.seen
            assert seen.header("x-api-key") == "sk-the-provider-key"
            assert "\n" not in (seen.header("x-folded") or "")
        else:
            assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "body",
    [
        b"2;" + b"x" * 2 * MIB + b"\r\n{}\r\n0\r\n\r\n",
        b"2;" + b"x" * 2 * MIB,
        b"2\r\n{}\r\n0\r\nX-Trailer: " + b"x" * 2 * MIB + b"\r\n\r\n",
        b"2\r\n{}\r\n0\r\n" + b"A: b\r\n" * 400_000 + b"\r\n",
        b"fffffffffffffffff\r\n{}",
        b"-2\r\n{}\r\n0\r\n\r\n",
        b"0x2\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}0\r\n\r\n",
        b" 2\r\n{}\r\n0\r\n\r\n",
    ],
    ids=range(9),
)
async def test_chunks_that_are_all_framing_are_refused(open_bench: Any, body: bytes) -> None:
    async with open_bench() as bench:
        reader, writer = await bench.connect()
        head = f"POST /a/{bench.secret}/anthropic/v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        writer.write(body)
        answer = await read_all(reader)
        assert answer.startswith(b"HTTP/1.1 400 "), answer[:100]
        assert not bench.desk.asked
        writer.close()


async def test_a_body_in_the_smallest_chunks_is_no_attack(open_bench: Any) -> None:
    async with open_bench() as bench:
        body = json.dumps({"model": "m", "messages": ["x" * 100_000]}).encode()
        head = f"POST /a/{bench.secret}/anthropic/v1/messages HTTP/1.1\r\nConnection: close\r\n"
        parts = b"".join(b"%x;a=b\r\n%b\r\n" % (1, body[n : n + 1]) for n in range(len(body)))
        answer = await ask(
            bench, head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert bench.provider.seen[0].body == body


async def test_a_slow_loris_is_timed_out_though_it_trickles(open_bench: Any) -> None:
    async with open_bench(limits=Limits(head_seconds=0.2, tick_seconds=0.02)) as bench:
        reader, writer = await bench.connect()
        writer.write(b"GET / HTTP/1.1\r\n")

        async def trickle() -> None:
            try:
                while True:
                    writer.write(b"A: b\r\n")
                    await writer.drain()
                    await anyio.sleep(0.02)
            except ConnectionError:
                pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(trickle)
            assert (await read_all(reader)).startswith(b"HTTP/1.1 408 ")
            tasks.cancel_scope.cancel()
        writer.close()


@pytest.mark.parametrize("key", ["messages", "tools", "nothing"])
async def test_json_nested_ten_thousand_deep_is_the_providers_to_refuse(open_bench: Any, key: str) -> None:
    async with open_bench() as bench:
        deep = b"[" * 10_000 + b"]" * 10_000
        body = b'{"model":"claude-opus-5-5","%b":%b}' % (key.encode(), deep)
        reader, writer = await bench.connect()
        bench.provider.script = _no
        writer.write(bench.post(body, headers="Connection: close\r\n"))
        assert (await read_all(reader)).startswith(b"HTTP/1.1 400 No")
        assert bench.provider.seen[0].body == body
        assert [(s.outcome, s.usage) for s in bench.desk.settled] == [("error", Usage())]
        writer.close()


async def _no(seen: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\n{}")


@pytest.mark.parametrize(
    "path",
    [
        "/%2e%2e/v1/messages", "/v1/%2E%2e%2fmessages", "/v1/..%2f..%2fx", "/%252e%252e/../x", "/v1/%2e/x",
        "/..", "/v1/..", "/.;x/..;y/z", "/v1\\..\\x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["origin", "absolute"])
async def test_no_path_climbs_out_of_the_base_url(open_bench: Any, path: str, form: str) -> None:
    async with open_bench(prefix="/corp") as bench:
        start = "http://gateway.example" if form == "absolute" else ""
        request = f"GET {start}/a/{bench.secret}/anthropic{path} HTTP/1.1\r\nConnection: close\r\n\r\n"
        assert (await ask(bench, request.encode())).startswith(b"HTTP/1.1 400 ")
        assert not bench.provider.seen


async def test_the_absolute_form_goes_where_its_path_says_and_nowhere_else(open_bench: Any) -> None:
    async with open_bench() as bench:
        target = f"http://evil.example:1/a/{bench.secret}/anthropic/v1/messages?x=http://evil/"
        request = bench.post(WHOLE, headers="Connection: close\r\n")
        request = request.replace(f"/a/{bench.secret}/anthropic/v1/messages".encode(), target.encode(), 1)
        assert (await ask(bench, request)).startswith(b"HTTP/1.1 200 ")
        assert bench.provider.seen[0].target == "/v1/messages?x=http://evil/"
        assert bench.provider.seen[0].header("host") == f"127.0.0.1:{bench.provider.port}"


@pytest.mark.parametrize("target", ["*", "http://", "http://x", "//", "a/b", "/a", "http:///a//"])
async def test_targets_that_lead_nowhere_are_refused(open_bench: Any, target: str) -> None:
    async with open_bench() as bench:
        answer = await ask(bench, f"OPTIONS {target} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 "))
        assert not bench.provider.seen


async def test_a_websocket_for_responses_is_426_at_once(open_bench: Any) -> None:
    """Codex then falls back to plain HTTP."""
    async with open_bench() as bench:
        nonce = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET /a/{bench.secret}/openai/v1/responses HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {nonce}\r\n"
            "openai-beta: responses_websockets=2026-02-06\r\n\r\n"
        )
        answer = await ask(bench, request.encode())
        assert answer.startswith(b"HTTP/1.1 426 ")
        assert b"Upgrade: HTTP/1.1\r\n" in answer
        assert not bench.desk.asked


async def test_a_refused_request_with_a_body_leaves_its_connection_usable(open_bench: Any) -> None:
    """The body is on its way when the answer is known already."""
    async with open_bench() as bench:
        reader, writer = await bench.connect()
        for framing in ("length", "chunked"):
            head = f"POST /a/{'0' * 32}/anthropic/v1/messages HTTP/1.1\r\nHost: x\r\n"
            piece = b"x" * 100_000
            if framing == "length":
                writer.write(head.encode() + b"Content-Length: 300000\r\n\r\n" + piece)
                rest = piece * 2
            else:
                writer.write(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n186a0\r\n" + piece)
                rest = b"\r\n186a0\r\n" + piece + b"\r\n0\r\n\r\n"
            with anyio.fail_after(10):
                answer = await reader.readuntil(b"\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 403 ")
                assert b"Connection: close" not in answer
                length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
            writer.write(rest + bench.post(WHOLE))
            with anyio.fail_after(10):
                answer = await reader.readuntil(b"\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 200 ")
                length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
        assert len(bench.provider.seen) == 2
        writer.close()


async def test_an_unwanted_body_is_not_read_for_ever(open_bench: Any) -> None:
    async with open_bench(limits=Limits(linger_seconds=0.2, tick_seconds=0.02)) as bench:
        _reader, writer = await bench.connect()
        head = f"POST /a/{'0' * 32}/anthropic/v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        block, sent = b"%x\r\n%b\r\n" % (MIB, b"x" * MIB), 0
        with anyio.fail_after(20):
            try:
                while True:
                    writer.write(block)
                    await writer.drain()
                    sent += 1
            except ConnectionError:
                pass
        writer.close()


async def test_a_secret_that_is_shown_by_a_stranger_is_worth_nothing(open_bench: Any) -> None:
    asked: list[tuple[str, str]] = []

    async def vouch(agent: str, door: str, near: Any, far: Any) -> bool:
        asked.append((agent, door))
        assert near[1] == bench.port
        assert far[0] == "127.0.0.1"
        return len(asked) == 1

    async with open_bench() as bench:
        bench.gateway._parts.vouch = vouch
        reader, writer = await bench.connect()
        for _ in range(2):  # a connection is asked about once
            writer.write(bench.post(WHOLE))
            with anyio.fail_after(10):
                await reader.readuntil(b"HTTP/1.1 200 OK")
        answer = await ask(bench, bench.post(WHOLE, headers="Connection: close\r\n"))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert asked == [("a1", "loopback")] * 2
        assert len(bench.desk.started) == 2
        writer.close()


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        (b"/v1/x?key=mine", b"/v1/x"),
        (b"/v1/x?a=%20b&key=mine&alt=sse", b"/v1/x?a=%20b&alt=sse"),
        (b"/v1/x?%6Bey=mine&KEY=2&keys=3", b"/v1/x?keys=3"),
        (b"/v1/x?a&&b=?key=1", b"/v1/x?a&&b=?key=1"),
        (b"/v1/x?", b"/v1/x?"),
        (b"/key=1", b"/key=1"),
    ],
)
def test_a_credential_in_the_query_is_left_out(target: bytes, sent: bytes) -> None:
    assert without(target, frozenset({"key"})) == sent


# --- from providers ------------------------------------------------------------------------------


async def test_half_an_event_at_the_end_is_no_end(open_bench: Any, wire: Any) -> None:
    whole = b"".join(wire.message_events(["Hello"]))

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(wire.sse_head() + wire.as_chunk(whole[:-3]) + b"0\r\n\r\n")

    async with open_bench() as bench:
        bench.provider.script = script
        answer = await ask(bench, bench.post(STREAM, headers="Connection: close\r\n"))
        assert whole[:-3] in answer
        (settled,) = bench.desk.settled
        assert (settled.outcome, settled.exact, settled.usage.output) == ("ok", True, 42)


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"\x00" * 100,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100_000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello",
    ],
    ids=range(8),
)
async def test_a_provider_that_sends_garbage_is_502(open_bench: Any, garbage: bytes) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(garbage)
        await writer.drain()
        writer.close()
        raise ConnectionAbortedError

    async with open_bench() as bench:
        bench.provider.script = script
        answer = await ask(bench, bench.post(WHOLE, headers="Connection: close\r\n"))
        assert answer.startswith(b"HTTP/1.1 502 "), answer[:100]
        assert [s.outcome for s in bench.desk.settled] == ["upstream_cut"]


@pytest.mark.parametrize(
    "chunks", [b"zz\r\nhello\r\n", b"5\r\nhelloXX0\r\n\r\n", b"fffffffffffffffffff\r\nhello", b"-1\r\n\r\n"]
)
async def test_garbage_inside_a_stream_cuts_it(open_bench: Any, wire: Any, chunks: bytes) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(wire.sse_head() + wire.as_chunk(wire.message_events(["hi"])[0]))
        await writer.drain()
        await go.wait()
        writer.write(chunks)
        await writer.drain()
        await seen.reader.read()

    go = anyio.Event()
    async with open_bench() as bench:
        bench.provider.script = script
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM))
        with anyio.fail_after(10):
            await reader.readuntil(b"message_start")
        go.set()
        assert not (await read_all(reader)).endswith(b"0\r\n\r\n")
        assert [(s.outcome, s.exact) for s in bench.desk.settled] == [("upstream_cut", False)]
        writer.close()


@pytest.mark.parametrize("kind", [b"application/json", b"text/event-stream"])
async def test_a_reply_without_end_passes_in_flat_memory(open_bench: Any, wire: Any, kind: bytes) -> None:
    """Neither JSON that never closes nor one endless event is gathered up. The client hangs up at last."""
    limits = Limits(answer_bytes=4 * MIB, event_bytes=MIB, tick_seconds=0.02)
    block = wire.as_chunk(b"x" * 256 * 1024)

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % kind)
        while True:
            writer.write(block)
            await writer.drain()

    async with open_bench(limits=limits) as bench:
        bench.provider.script = script
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM))
        got, peak, before = 0, 0, resident()
        with anyio.fail_after(60):
            while got < 200 * MIB:
                got += len(await reader.read(MIB))
                peak = max(peak, resident())
        assert peak - before < 32 * MIB
        writer.transport.abort()
        (settled,) = await bench.settled()
        assert (settled.outcome, settled.exact) == ("client_cut", False)
        with anyio.fail_after(10):
            await bench.provider.lost.wait()
