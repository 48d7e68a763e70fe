"""A held client neither times out nor notices; and time in which an agent is frozen does not count."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

import anyio
import pytest

from agenttop.core.gateway.desk import Refused
from agenttop.core.gateway.limits import Limits
from agenttop.core.gateway.protocols import PROTOCOLS
from agenttop.core.gateway.protocols.anthropic import Anthropic
from agenttop.core.gateway.protocols.base import RequestFacts, StreamFilter
from agenttop.core.journal.events import Usage

pytestmark = pytest.mark.anyio
STREAM = json.dumps({"model": "claude-opus-5-5", "stream": True, "max_tokens": 9, "messages": []}).encode()
WHOLE = json.dumps({"model": "claude-opus-5-5", "max_tokens": 9, "messages": []}).encode()
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
SHORT = Limits(tick_seconds=0.01, keep_alive_after=0.05, keep_alive_every=0.03, patience_seconds=0.1)


class Lively(Anthropic):
    """A protocol whose clients bear keep-alives."""

    def keep_alive(self, operation: str, facts: RequestFacts, target: bytes) -> tuple[bytes, ...]:
        return (PING,)


class Mute(Anthropic):
    """One whose clients do not."""

    def keep_alive(self, operation: str, facts: RequestFacts, target: bytes) -> tuple[bytes, ...]:
        return ()


@pytest.fixture
def lively(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "anthropic", Lively())


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "anthropic", Mute())


async def read_all(reader: asyncio.StreamReader) -> bytes:
    with anyio.fail_after(20):
        return await reader.read()


async def hear(reader: asyncio.StreamReader, times: int) -> bytes:
    """The head and so many keep-alives."""
    with anyio.fail_after(10):
        seen = await reader.readuntil(b"\r\n\r\n")
        while seen.count(PING) < times:
            seen += await reader.read(1000)
    return seen


def unchunk(data: bytes) -> bytes:
    out = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        if not int(size, 16):
            assert data == b"\r\n"
            return out
        out += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]


@pytest.mark.usefixtures("lively")
@pytest.mark.parametrize("where", ["admit", "key", "turn"])
async def test_a_held_stream_is_kept_alive_and_then_goes_on(open_bench: Any, wire: Any, where: str) -> None:
    async with open_bench(limits=SHORT, keys={} if where == "key" else None) as bench:
        go = anyio.Event()
        bench.desk.hold = go if where == "admit" else None
        bench.desk.turn_hold = go if where == "turn" else None
        bench.desk.key_came = go
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM, headers="Connection: close\r\nAccept-Encoding: gzip\r\n"))
        seen = await hear(reader, 3)
        head, _, body = seen.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream")
        assert b"content-length" not in head.lower()
        assert not bench.provider.seen
        bench.keys.supply("ANTHROPIC_API_KEY", "sk-late")
        go.set()
        body += await read_all(reader)
        assert b"HTTP/1.1" not in body
        events = unchunk(body).removeprefix(PING * unchunk(body).count(PING))
        assert events == b"".join(wire.message_events(["Hello", ", world"]))
        assert bench.provider.seen[0].header("accept-encoding") == "identity"
        (settled,) = bench.desk.settled
        assert (settled.outcome, settled.exact, settled.usage.output) == ("ok", True, 42)
        assert settled.queued_seconds > 0.05
        writer.close()


@pytest.mark.usefixtures("lively")
async def test_a_kept_alive_client_goes_on_hearing_until_its_provider_answers(
    open_bench: Any, wire: Any
) -> None:
    go = anyio.Event()

    async def slow(seen: Any, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await wire.stream_answer(seen, writer)

    async with open_bench(limits=SHORT) as bench:
        bench.desk.hold = anyio.Event()
        bench.provider.script = slow
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM, headers="Connection: close\r\n"))
        await hear(reader, 1)
        bench.desk.hold.set()
        await wire.eventually(lambda: bench.provider.seen)
        with anyio.fail_after(10):
            for _ in range(3):
                await reader.readuntil(PING)
        go.set()
        assert b"message_stop" in await read_all(reader)
        writer.close()


@pytest.mark.usefixtures("lively")
async def test_a_call_that_is_not_held_hears_nothing_of_it(open_bench: Any, wire: Any) -> None:
    """While the provider thinks, the client waits for the provider, and sees its own head."""
    go = anyio.Event()

    async def slow(seen: Any, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await wire.stream_answer(seen, writer)

    async with open_bench(limits=SHORT) as bench:
        bench.provider.script = slow
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM, headers="Connection: close\r\n"))
        with anyio.move_on_after(0.3) as waited:
            await reader.read(1)
        assert waited.cancelled_caught
        go.set()
        assert b"request-id: req_1\r\n" in await read_all(reader)
        writer.close()


@pytest.mark.usefixtures("lively")
async def test_a_refusal_after_keep_alives_is_an_event(open_bench: Any) -> None:
    async with open_bench(limits=SHORT) as bench:
        bench.desk.turn_hold = anyio.Event()
        bench.desk.places = [Refused("budget", "no money left")]
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM, headers="Connection: close\r\n"))
        seen = await hear(reader, 1)
        bench.desk.turn_hold.set()
        body = unchunk((seen + await read_all(reader)).partition(b"\r\n\r\n")[2])
        assert body.endswith(b"\n\n")
        name, _, data = body.split(b"\n\n")[-2].partition(b"\ndata: ")
        assert name == b"event: error"
        assert json.loads(data)["error"]["message"] == "agenttop: no money left"
        assert [(s.outcome, s.status) for s in bench.desk.settled] == [("refused", 402)]
        writer.close()


@pytest.mark.usefixtures("lively")
async def test_a_connection_goes_on_after_an_error_in_its_stream(open_bench: Any) -> None:
    async with open_bench(limits=SHORT) as bench:
        bench.desk.turn_hold = anyio.Event()
        bench.desk.places = [Refused("ended", "gone")]
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM))
        await hear(reader, 1)
        bench.desk.turn_hold.set()
        with anyio.fail_after(10):
            await reader.readuntil(b"\r\n0\r\n\r\n")
            writer.write(bench.post(WHOLE))
            assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        writer.close()


@pytest.mark.usefixtures("lively")
@pytest.mark.parametrize(
    ("answer", "says", "outcome"),
    [
        (
            b"HTTP/1.1 500 No\r\nContent-Length: 66\r\n\r\n"
            b'{"type":"error","error":{"type":"api_error","message":"it broke"}}', b"it broke", "error",
        ),
        (b"HTTP/1.1 204 Nothing\r\n\r\n", b"answered 204 without a stream", "ok"),
        (b"SSH-2.0-OpenSSH\r\n", b"did not speak HTTP", "upstream_cut"),
    ],
)  # fmt: skip
async def test_a_provider_that_fails_after_keep_alives_is_an_event(
    open_bench: Any, answer: bytes, says: bytes, outcome: str
) -> None:
    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async with open_bench(limits=SHORT) as bench:
        bench.desk.hold = anyio.Event()
        bench.provider.script = script
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM, headers="Connection: close\r\n"))
        seen = await hear(reader, 1)
        bench.desk.hold.set()
        body = unchunk((seen + await read_all(reader)).partition(b"\r\n\r\n")[2])
        assert body.count(b"event: error") == 1
        assert says in body
        assert [s.outcome for s in bench.desk.settled] == [outcome]
        writer.close()


@pytest.mark.usefixtures("lively")
async def test_a_client_that_leaves_while_it_is_kept_alive_costs_nothing(open_bench: Any) -> None:
    async with open_bench(limits=SHORT) as bench:
        bench.desk.hold = anyio.Event()
        reader, writer = await bench.connect()
        writer.write(bench.post(STREAM))
        await hear(reader, 2)
        writer.transport.abort()
        (settled,) = await bench.settled()
        assert (settled.outcome, settled.usage, settled.exact) == ("client_cut", Usage(), True)
        assert not bench.provider.seen


@pytest.mark.parametrize("body", [STREAM, WHOLE])
@pytest.mark.parametrize("where", ["admit", "key", "turn"])
@pytest.mark.usefixtures("mute")
async def test_a_client_that_cannot_be_kept_waiting_is_told_to_come_again(
    open_bench: Any, where: str, body: bytes
) -> None:
    async with open_bench(limits=SHORT, keys={} if where == "key" else None) as bench:
        never = anyio.Event()
        bench.desk.hold = never if where == "admit" else None
        bench.desk.turn_hold = never if where == "turn" else None
        bench.desk.key_came = never
        reader, writer = await bench.connect()
        writer.write(bench.post(body))
        with anyio.fail_after(10):
            head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 5\r\n" in head
        assert b"x-should-retry" not in head
        assert b"Connection: close" not in head
        (settled,) = bench.desk.settled
        assert (settled.outcome, settled.status, settled.usage, settled.exact) == (
            "refused", 429, Usage(), True,
        )  # fmt: skip
        assert settled.queued_seconds >= 0.1
        assert not bench.provider.seen
        bench.desk.hold = bench.desk.turn_hold = None
        bench.keys.supply("ANTHROPIC_API_KEY", "sk-late")
        writer.write(bench.post(body))  # and it comes, on the same connection
        with anyio.fail_after(10):
            await reader.readuntil(b"HTTP/1.1 200 OK")
        writer.close()


@pytest.mark.usefixtures("mute")
async def test_patience_does_not_run_while_the_agent_is_frozen(open_bench: Any) -> None:
    async with open_bench(limits=SHORT) as bench:
        bench.desk.frozen_agents = {"a1"}
        bench.desk.hold = anyio.Event()
        reader, writer = await bench.connect()
        writer.write(bench.post(WHOLE))
        with anyio.move_on_after(0.5) as waited:
            await reader.read(1)
        assert waited.cancelled_caught
        bench.desk.frozen_agents = set()
        with anyio.fail_after(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 429 ")
        writer.close()


@pytest.mark.parametrize("stage", ["upstream", "body", "idle"])
async def test_no_limit_in_time_runs_while_the_agent_is_frozen(
    open_bench: Any, wire: Any, stage: str
) -> None:
    async def silent(seen: Any, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await wire.json_answer(seen, writer)

    go = anyio.Event()
    limits = Limits(tick_seconds=0.01, upstream_seconds=0.1, body_seconds=0.1, idle_seconds=0.1)
    async with open_bench(limits=limits) as bench:
        reader, writer = await bench.connect()
        writer.write(bench.post(WHOLE))  # tells whose connection it is
        with anyio.fail_after(10):
            await reader.readuntil(wire.message())
        bench.desk.frozen_agents = {"a1"}
        bench.provider.script = silent
        request = b"" if stage == "idle" else bench.post(WHOLE)
        writer.write(request if stage == "upstream" else request[:-5])
        with anyio.move_on_after(0.5) as waited:
            await reader.read(1)
        assert waited.cancelled_caught
        go.set()
        writer.write({"upstream": b"", "body": request[-5:], "idle": bench.post(WHOLE)}[stage])
        with anyio.fail_after(10):
            assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        writer.close()


_READER = """
import socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.sendall(sys.stdin.buffer.read())
got, tail = 0, b""
while True:
    data = sock.recv(1 << 20)
    if not data:
        break
    if not got:
        print("began", flush=True)
    got += len(data)
    tail = (tail + data)[-7:]
print(got, tail, flush=True)
"""


async def test_a_client_that_is_stopped_gets_all_of_its_stream_later(open_bench: Any, wire: Any) -> None:
    """All limits are far shorter than the time it is stopped, with its answer on the way."""
    limits = Limits(tick_seconds=0.01, upstream_seconds=0.1, body_seconds=0.1, idle_seconds=0.1)
    delta = wire.event(
        "content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "x" * 60_000}}
    )
    events = wire.message_events(["a"])
    stopped = anyio.Event()

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(wire.sse_head() + wire.as_chunk(b"".join(events[:3])))
        await writer.drain()
        await stopped.wait()
        for _ in range(800):
            writer.write(wire.as_chunk(delta))
            await writer.drain()
        writer.write(wire.as_chunk(b"".join(events[3:])) + b"0\r\n\r\n")

    async with open_bench(limits=limits) as bench:
        bench.provider.script = script
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _READER, str(bench.port),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(bench.post(STREAM, headers="Connection: close\r\n"))
        process.stdin.close()
        try:
            with anyio.fail_after(20):
                assert await process.stdout.readline() == b"began\n"
            os.kill(process.pid, signal.SIGSTOP)
            stopped.set()
            await wire.eventually(lambda: any(c.full for c in bench.gateway._connections))
            await anyio.sleep(0.5)
            assert not bench.desk.settled
            os.kill(process.pid, signal.SIGCONT)
            with anyio.fail_after(60):
                got, tail = (await process.stdout.read()).split(b" ", 1)
            assert int(got) > 800 * 60_000
            assert tail.strip() == repr(b"\r\n0\r\n\r\n").encode()
            assert [(s.outcome, s.usage.output) for s in bench.desk.settled] == [("ok", 42)]
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


# --- what the gateway itself asked for -----------------------------------------------------------


class _Cut(StreamFilter):
    """Takes out the events that have ``secret`` in them."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, data: bytes, last: bool) -> bytes:
        whole, end, self._kept = (self._kept + data).rpartition(b"\n\n")
        parts = [part + b"\n\n" for part in (whole + end).split(b"\n\n") if part and b"secret" not in part]
        if last:
            parts.append(self._kept)
            self._kept = b""
        return b"".join(parts)


class Asks(Anthropic):
    """A protocol that changes the request, and takes the answer to that out again."""

    def read_request(self, operation: str, headers: Any, body: bytes, *path: Any) -> RequestFacts:
        return RequestFacts(model="m", stream=True, body=body[:-1] + b',"usage":1}', strip_usage=True)

    def stream_filter(self, operation: str, facts: RequestFacts) -> StreamFilter | None:
        return _Cut() if facts.strip_usage else None


@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_what_the_gateway_asked_for_is_taken_out_again(
    open_bench: Any, wire: Any, monkeypatch: pytest.MonkeyPatch, framing: str
) -> None:
    monkeypatch.setitem(PROTOCOLS, "anthropic", Asks())
    events = wire.message_events(["Hello", ", world"])
    whole = b"".join([*events[:4], wire.event("secret", {"usage": 1}), *events[4:]])

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        if framing == "length":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n" % len(whole) + whole)
            return
        writer.write(wire.sse_head())
        for at in range(0, len(whole), 7):
            writer.write(wire.as_chunk(whole[at : at + 7]))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async with open_bench() as bench:
        bench.provider.script = script
        reader, writer = await bench.connect()
        headers = "Accept-Encoding: gzip\r\nContent-Encoding: gzip\r\nConnection: close\r\n"
        writer.write(bench.post(WHOLE, headers=headers))
        head, _, body = (await read_all(reader)).partition(b"\r\n\r\n")
        assert b"content-length" not in head.lower()
        assert unchunk(body) == b"".join(events)
        (seen,) = bench.provider.seen
        assert seen.body == WHOLE[:-1] + b',"usage":1}'
        assert seen.header("accept-encoding") == "identity"
        assert seen.header("content-encoding") is None
        assert [(s.outcome, s.usage.output) for s in bench.desk.settled] == [("ok", 42)]
        writer.close()


async def test_an_answer_that_is_no_stream_is_not_filtered(
    open_bench: Any, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROTOCOLS, "anthropic", Asks())
    async with open_bench() as bench:
        bench.provider.script = wire.json_answer
        reader, writer = await bench.connect()
        writer.write(bench.post(WHOLE, headers="Connection: close\r\n"))
        head, _, body = (await read_all(reader)).partition(b"\r\n\r\n")
        assert b"Content-Length: %d\r\n" % len(wire.message()) in head
        assert body == wire.message()
        writer.close()


async def test_a_provider_that_refuses_what_was_asked_for_gets_the_clients_own_request(
    open_bench: Any, wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def strict(seen: Any, writer: asyncio.StreamWriter) -> None:
        if b"usage" in seen.body:
            writer.write(b"HTTP/1.1 400 What\r\nContent-Length: 2\r\n\r\n{}")
        else:
            await wire.stream_answer(seen, writer)

    monkeypatch.setitem(PROTOCOLS, "anthropic", Asks())
    async with open_bench() as bench:
        bench.provider.script = strict
        for _ in range(2):
            reader, writer = await bench.connect()
            writer.write(bench.post(WHOLE, headers="Connection: close\r\n"))
            assert (await read_all(reader)).startswith(b"HTTP/1.1 200 OK")
            writer.close()
        # The second call knows from the first.
        assert [b"usage" in seen.body for seen in bench.provider.seen] == [True, False, False]
        assert len(bench.desk.turns) == 2
        assert [(s.outcome, s.attempts) for s in bench.desk.settled] == [("ok", 2), ("ok", 1)]


async def test_a_request_that_is_wrong_in_itself_is_refused_as_that(
    open_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wrong(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 What\r\nContent-Length: 2\r\n\r\n{}")

    monkeypatch.setitem(PROTOCOLS, "anthropic", Asks())
    async with open_bench() as bench:
        bench.provider.script = wrong
        for _ in range(2):
            reader, writer = await bench.connect()
            writer.write(bench.post(WHOLE, headers="Connection: close\r\n"))
            assert (await read_all(reader)).startswith(b"HTTP/1.1 400 What")
            writer.close()
        assert [b"usage" in seen.body for seen in bench.provider.seen] == [True, False] * 2
        assert [s.status for s in bench.desk.settled] == [400, 400]


def test_each_known_client_gets_what_it_was_seen_to_wait_on() -> None:
    anthropic, openai, gemini = (PROTOCOLS[name] for name in ("anthropic", "openai", "gemini"))
    plain, claude = RequestFacts(stream=True), RequestFacts(stream=True, client={"session": "s"})
    assert anthropic.keep_alive("messages", plain, b"/v1/messages") == (PING,)
    pieces = anthropic.keep_alive("messages", claude, b"/v1/messages")
    assert pieces[0] == PING
    assert [piece.partition(b"\n")[0] for piece in pieces].count(b"event: message_start") == 1
    assert len(pieces) * Limits().keep_alive_every < 150  # half of the time after which it gives up
    (event,) = openai.keep_alive("responses", plain, b"/v1/responses")
    assert event.startswith(b"event: keepalive\n")
    assert openai.keep_alive("chat", plain, b"/v1/chat/completions") == (b": held\n\n",)
    assert openai.keep_alive("embeddings", plain, b"/v1/embeddings") == ()
    path = b"/v1beta/models/m:streamGenerateContent"
    assert gemini.keep_alive("streamGenerateContent", plain, path) == ()
    (chunk,) = gemini.keep_alive("streamGenerateContent", plain, path + b"?alt=sse")
    assert not chunk.startswith(b":")
