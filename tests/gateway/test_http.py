"""HTTP/1.1 to the letter: what agents may send, what they may not, and what passes unchanged."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import zlib
from typing import Any

import anyio
import pytest

from agenttop.core.gateway.limits import Limits
from agenttop.core.gateway.routes import KernelApp
from agenttop.core.journal.events import Usage

pytestmark = pytest.mark.anyio
WHOLE = json.dumps({"model": "claude-opus-5-5", "max_tokens": 9, "messages": []}).encode()
STREAM = json.dumps({"model": "claude-opus-5-5", "stream": True, "messages": []}).encode()
TRUTH = Usage(input=1000, cache_read=5000, cache_write_5m=150, cache_write_1h=50, output=42)


async def read_all(reader: asyncio.StreamReader) -> bytes:
    with anyio.fail_after(20):
        return await reader.read()


async def one_answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    with anyio.fail_after(20):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head, await reader.readexactly(length)


async def ask(bench: Any, request: bytes) -> bytes:
    reader, writer = await bench.connect()
    writer.write(request)
    answer = await read_all(reader)
    writer.close()
    return answer


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1/messages", "/a", "/a/", "/a//anthropic/v1/messages",
        "/a/00000000000000000000000000000000/anthropic/v1/messages", "/a/short/anthropic/v1/messages",
        "/b/SECRET/anthropic/v1/messages", "/a/SECRETx/anthropic/v1/messages",
        "/a/%C3%A9/anthropic/v1/messages",
    ],
)  # fmt: skip
async def test_without_a_valid_secret_nothing_is_served(open_bench: Any, path: str) -> None:
    async with open_bench() as bench:
        path = path.replace("SECRET", bench.secret)
        answer = await ask(
            bench,
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode(),
        )
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"x-should-retry: false" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"].startswith("agenttop:")
        assert not bench.provider.seen
        assert not bench.desk.asked


async def test_the_secret_is_never_logged(open_bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        async with open_bench() as bench:
            await ask(bench, bench.post(WHOLE, headers="Connection: close\r\n"))
            await ask(bench, bench.post(WHOLE, headers="Connection: close\r\n", path="/../x"))
            assert "a1 POST /v1/messages" in caplog.text
            assert bench.secret not in caplog.text


async def test_an_unknown_provider_is_404(open_bench: Any) -> None:
    async with open_bench() as bench:
        request = f"GET /a/{bench.secret}/nobody/v1/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await ask(bench, request.encode())).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "path", ["/../v1/messages", "/v1/%2e%2e/x", "/v1/./messages", "/v1/..;a/x", "/v1/..%5cx"]
)
async def test_dot_segments_do_not_leave_the_base_url(open_bench: Any, path: str) -> None:
    async with open_bench(prefix="/corp") as bench:
        answer = await ask(bench, bench.post(WHOLE, path=path, headers="Connection: close\r\n"))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert not bench.provider.seen


@pytest.mark.parametrize(
    "path",
    [
        "//v1/messages", "/v1//messages", "/v1/messages/", "/v1/messages?beta=true", "/v1/%6dessages",
        "/V1/Messages",
    ],
)  # fmt: skip
async def test_no_way_of_writing_the_path_leads_around_the_meter(open_bench: Any, path: str) -> None:
    async with open_bench() as bench:
        await ask(bench, bench.post(WHOLE, path=path, headers="Connection: close\r\n"))
        assert [s.usage for s in bench.desk.settled] == [TRUTH]
        assert bench.provider.seen[0].target == path


async def test_what_costs_nothing_passes_unmetered(open_bench: Any) -> None:
    async with open_bench() as bench:
        await ask(bench, bench.post(WHOLE, path="/v1/messages/count_tokens", headers="Connection: close\r\n"))
        request = f"GET /a/{bench.secret}/anthropic/v1/models?limit=5 HTTP/1.1\r\nConnection: close\r\n\r\n"
        answer = await ask(bench, request.encode())
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert [s.target for s in bench.provider.seen] == ["/v1/messages/count_tokens", "/v1/models?limit=5"]
        assert bench.provider.seen[0].body == WHOLE
        assert not bench.desk.asked


async def test_head_has_no_body_and_the_connection_lives_on(open_bench: Any) -> None:
    async with open_bench() as bench:
        reader, writer = await bench.connect()
        writer.write(f"HEAD /a/{bench.secret}/anthropic/api/hello HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with anyio.fail_after(10):
            head = await reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: " in head
        writer.write(bench.post(WHOLE))
        answer, _ = await one_answer(reader)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        writer.close()


async def test_headers_pass_unchanged_except_those_of_the_hop(open_bench: Any, wire: Any) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        body = wire.message()
        writer.write(
            b"HTTP/1.1 200 Fine\r\nX-Odd-CASE: Kept\r\nanthropic-ratelimit-tokens-remaining: 5\r\n"
            b"Set-Cookie: a=1\r\n"
            b"Set-Cookie: b=2\r\nKeep-Alive: timeout=5\r\nX-Hop: gone\r\nConnection: keep-alive, X-Hop\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )

    async with open_bench() as bench:
        bench.provider.script = script
        headers = (
            "X-Mine: 1\r\nanthropic-beta: a,b\r\nTE: trailers\r\nX-Drop: 1\r\nConnection: close, X-Drop\r\n"
        )
        answer = await ask(bench, bench.post(WHOLE, headers=headers))
        head = answer.partition(b"\r\n\r\n")[0]
        assert head.startswith(b"HTTP/1.1 200 Fine\r\nX-Odd-CASE: Kept\r\n")
        assert b"Set-Cookie: a=1\r\nSet-Cookie: b=2" in head
        assert b"X-Hop" not in head
        assert b"Keep-Alive" not in head
        seen = bench.provider.seen[0]
        assert (seen.header("x-mine"), seen.header("anthropic-beta")) == ("1", "a,b")
        assert (seen.header("te"), seen.header("x-drop"), seen.header("connection")) == (None, None, None)


async def test_one_connection_carries_many_calls_both_ways(open_bench: Any) -> None:
    async with open_bench() as bench:
        reader, writer = await bench.connect()
        for _ in range(5):
            writer.write(bench.post(WHOLE))
            assert (await one_answer(reader))[0].startswith(b"HTTP/1.1 200")
        writer.close()
        assert {s.connection for s in bench.provider.seen} == {1}
        assert len(bench.desk.settled) == 5


async def test_requests_sent_ahead_are_answered_in_order(open_bench: Any) -> None:
    async with open_bench() as bench:
        reader, writer = await bench.connect()
        paths = [f"/v1/models/{n}" for n in range(5)]

        async def echo(seen: Any, writer: asyncio.StreamWriter) -> None:
            body = seen.target.encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        bench.provider.script = echo
        lines = [f"GET /a/{bench.secret}/anthropic{path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths]
        writer.write("".join(lines).encode())
        assert [(await one_answer(reader))[1].decode() for _ in paths] == paths
        writer.close()


async def test_too_many_requests_sent_ahead_are_refused(open_bench: Any) -> None:
    async with open_bench() as bench:
        line = f"GET /a/{bench.secret}/anthropic/v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
        answer = await ask(bench, line.encode() * 50)
        assert b"HTTP/1.1 400 " in answer
        assert len(bench.provider.seen) <= 17


async def test_a_chunked_request_is_metered_and_passed(open_bench: Any) -> None:
    async with open_bench() as bench:
        head = f"POST /a/{bench.secret}/anthropic/v1/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        parts = b"".join(b"%x\r\n%b\r\n" % (1, WHOLE[n : n + 1]) for n in range(len(WHOLE)))
        await ask(
            bench,
            head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\nX-Trailer: 1\r\n\r\n",
        )
        assert bench.provider.seen[0].body == WHOLE
        assert bench.desk.started[0].model == "claude-opus-5-5"


async def test_expect_100_continue_is_answered_before_the_body(open_bench: Any) -> None:
    async with open_bench() as bench:
        reader, writer = await bench.connect()
        request = bench.post(WHOLE, headers="Expect: 100-continue\r\n")
        writer.write(request[: -len(WHOLE)])
        with anyio.fail_after(10):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(WHOLE)
        assert (await one_answer(reader))[0].startswith(b"HTTP/1.1 200")
        assert bench.provider.seen[0].header("expect") is None
        writer.close()


async def test_a_refused_body_is_not_asked_for(open_bench: Any) -> None:
    async with open_bench() as bench:
        request = bench.post(WHOLE, headers="Expect: 100-continue\r\n").replace(
            bench.secret.encode(), b"x" * 32
        )
        assert (await ask(bench, request[: -len(WHOLE)])).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_beyond_the_limit_is_413_and_the_client_sees_it(open_bench: Any, declared: bool) -> None:
    async with open_bench(limits=Limits(body_bytes=1 << 20, tick_seconds=0.02)) as bench:
        big = b"x" * (3 << 20)
        reader, writer = await bench.connect()
        if declared:
            writer.write(bench.post(big))
        else:
            head = f"POST /a/{bench.secret}/anthropic/v1/messages HTTP/1.1\r\nHost: x\r\n"
            writer.write(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(big) + big)
        answer = await read_all(reader)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"request_too_large" in answer
        assert not bench.provider.seen
        writer.close()


@pytest.mark.parametrize(
    ("junk", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", b"400"),
        (b"GET / HTTP/3.7\r\n\r\n", b"400"),
        (b"BREW /coffee HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nBad Header: 1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", b"501"),
        (b"POST / HTTP/1.1\r\nExpect: a-pony\r\n\r\n", b"417"),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 300 + b"\r\n", b"431"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", b"426"),
    ],
)
async def test_what_is_not_http_is_refused_clearly(open_bench: Any, junk: bytes, status: bytes) -> None:
    async with open_bench() as bench:
        answer = await ask(bench, junk)
        assert answer.startswith(b"HTTP/1.1 " + status), answer[:200]
        assert not bench.provider.seen


async def test_a_broken_chunk_in_a_body_is_400(open_bench: Any) -> None:
    async with open_bench() as bench:
        head = f"POST /a/{bench.secret}/anthropic/v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        reader, writer = await bench.connect()
        writer.write(head.encode() + b"2\r\n{}\r\n")
        await writer.drain()
        writer.write(b"zz\r\n")
        assert (await read_all(reader)).startswith(b"HTTP/1.1 400 ")
        assert not bench.desk.asked
        writer.close()


async def test_a_head_that_trickles_is_timed_out(open_bench: Any) -> None:
    async with open_bench(limits=Limits(head_seconds=0.1, tick_seconds=0.02)) as bench:
        assert (await ask(bench, b"GET / HTTP/1.1\r\nA: ")).startswith(b"HTTP/1.1 408 ")


async def test_idle_connections_are_closed(open_bench: Any) -> None:
    async with open_bench(limits=Limits(idle_seconds=0.1, tick_seconds=0.02)) as bench:
        assert await ask(bench, b"") == b""


async def test_more_connections_than_allowed_are_turned_away(open_bench: Any) -> None:
    async with open_bench(limits=Limits(connections=2, tick_seconds=0.02)) as bench:
        first = await bench.connect()
        first[1].write(bench.post(WHOLE))
        await one_answer(first[0])
        second = await bench.connect()
        second[1].write(bench.post(WHOLE))
        await one_answer(second[0])
        reader, writer = await bench.connect()
        with contextlib.suppress(ConnectionResetError):
            assert await read_all(reader) == b""
        for pair in (first, second, (reader, writer)):
            pair[1].close()


async def test_an_old_client_gets_its_stream_without_chunks(open_bench: Any, wire: Any) -> None:
    async with open_bench() as bench:
        answer = await ask(bench, bench.post(STREAM).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in head
        assert body == b"".join(wire.message_events(["Hello", ", world"]))


@pytest.mark.parametrize("framing", ["length", "chunked", "eof"])
async def test_bodies_pass_unchanged_however_they_are_framed(
    open_bench: Any, wire: Any, framing: str
) -> None:
    body = wire.message("é" * 100_000)

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        if framing == "length":
            writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        elif framing == "chunked":
            writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
            for at in range(0, len(body), 7001):
                writer.write(wire.as_chunk(body[at : at + 7001]))
            writer.write(b"0\r\nX-Trailer: 1\r\n\r\n")
        else:
            writer.write(b"\r\n" + body)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            raise ConnectionAbortedError

    async with open_bench() as bench:
        bench.provider.script = script
        _head, _, answer = (await ask(bench, bench.post(WHOLE, headers="Connection: close\r\n"))).partition(
            b"\r\n\r\n"
        )
        if framing != "length":
            answer = unchunk(answer)
        assert answer == body
        assert [(s.usage, s.exact) for s in bench.desk.settled] == [(TRUTH, True)]


def unchunk(data: bytes) -> bytes:
    out = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        if not int(size, 16):
            return out
        out += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw deflate"])
async def test_a_compressed_stream_passes_unchanged_and_is_read(
    open_bench: Any, wire: Any, coding: str
) -> None:
    plain = b"".join(wire.message_events(["Hello", ", world"]))
    packer = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "raw deflate": lambda d: zlib.compress(d)[2:-4],
    }[coding]
    packed = packer(plain)

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(wire.sse_head(f"Content-Encoding: {coding.split()[-1]}\r\n"))
        for at in range(0, len(packed), 50):
            writer.write(wire.as_chunk(packed[at : at + 50]))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    async with open_bench() as bench:
        bench.provider.script = script
        headers = "Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: close\r\n"
        answer = await ask(bench, bench.post(STREAM, headers=headers))
        assert unchunk(answer.partition(b"\r\n\r\n")[2]) == packed
        assert bench.provider.seen[0].header("accept-encoding") == "gzip, deflate"
        assert [(s.usage, s.exact) for s in bench.desk.settled] == [(TRUTH._replace(reasoning=7), True)]


async def test_interim_answers_are_not_passed_on(open_bench: Any, wire: Any) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n")
        await wire.json_answer(seen, writer)

    async with open_bench() as bench:
        bench.provider.script = script
        answer = await ask(bench, bench.post(WHOLE, headers="Connection: close\r\n"))
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"Link" not in answer


async def test_a_provider_that_does_not_speak_http_is_502(open_bench: Any) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")

    async with open_bench() as bench:
        bench.provider.script = script
        answer = await ask(bench, bench.post(WHOLE, headers="Connection: close\r\n"))
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert [(s.outcome, s.exact) for s in bench.desk.settled] == [("upstream_cut", False)]


async def test_a_kernel_app_gets_the_callers_name_and_cannot_be_lied_to(
    open_bench: Any, wire: Any, tmp_path: Any
) -> None:
    seen: list[Any] = []
    done = anyio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await wire.read_request(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        await reader.read()
        writer.close()
        done.set()

    path = str(tmp_path / "app.sock")
    server = await asyncio.start_unix_server(take, path)
    async with open_bench(apps={"mcp": KernelApp(path, "/syscalls/mcp")}) as bench:
        request = f"POST /a/{bench.secret}/mcp?x=1 HTTP/1.1\r\nX-AgentTop-Agent: a2\r\nContent-Length: 2\r\n"
        answer = await ask(bench, request.encode() + b"Connection: close\r\n\r\n{}")
        assert answer.endswith(b"ok")
        assert seen[0].target == "/syscalls/mcp?x=1"
        assert [v for n, v in seen[0].headers if n.lower() == "x-agenttop-agent"] == ["a1"]
        assert seen[0].body == b"{}"
    server.close()
    with anyio.fail_after(10):
        await done.wait()


async def test_a_listener_that_is_closed_cuts_its_clients(open_bench: Any) -> None:
    async with open_bench() as bench:
        bench.desk.hold = anyio.Event()
        reader, writer = await bench.connect()
        writer.write(bench.post(WHOLE))
        await bench.desk.until(lambda: bench.desk.asked)
        await bench.gateway.stop_serving("loopback")
        assert await read_all(reader) == b""
        assert [s.outcome for s in await bench.settled()] == ["client_cut"]
        with pytest.raises(OSError, match=r"refused|reset|Connect"):
            await bench.connect()
        writer.close()


def test_the_gateway_works_on_a_loop_that_anyio_did_not_start(open_bench: Any) -> None:
    """Protocol callbacks run outside of tasks; there anyio knows its backend only if it started the loop."""

    async def call() -> list[str]:
        async with open_bench() as bench:
            assert (await ask(bench, bench.post(WHOLE, headers="Connection: close\r\n"))).startswith(
                b"HTTP/1.1 200"
            )
            _reader, writer = await bench.connect()
            writer.write(
                f"POST /a/{bench.secret}/anthropic/v1/files HTTP/1.1\r\nContent-Length: 9\r\n\r\n".encode()
            )
            await writer.drain()
            writer.transport.abort()
            return [settled.outcome for settled in bench.desk.settled]

    assert asyncio.run(call()) == ["ok"]
