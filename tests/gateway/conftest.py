"""A provider, a desk and a gateway, all real and all on loopback; the provider keeps the ground truth."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import pytest

from agenttop.core.gateway.desk import Asking, Caller, Refused
from agenttop.core.gateway.gateway import Gateway
from agenttop.core.gateway.identity import Identity
from agenttop.core.gateway.limits import Limits
from agenttop.core.gateway.providers import KeyRing, Provider
from agenttop.core.journal.events import CallProgressed, CallSettled, CallStarted, RequestPassed

KEY = "sk-the-provider-key"
USAGE = {
    "input_tokens": 1000,
    "cache_read_input_tokens": 5000,
    "cache_creation_input_tokens": 200,
    "cache_creation": {"ephemeral_5m_input_tokens": 150, "ephemeral_1h_input_tokens": 50},
}
MODEL = "claude-opus-5-5"


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The kernel runs on uvloop, an embedded one on the loop it is given."""
    return ("asyncio", {"use_uvloop": request.param})


@dataclass
class Seen:
    """One request as the provider got it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    connection: int = 0
    reader: asyncio.StreamReader | None = None

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name), None)


Script = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


def event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data}, separators=(',', ':'))}\n\n".encode()


def message_events(texts: list[str], *, tools: list[str] | None = None, output: int = 42) -> list[bytes]:
    """The events of one streamed answer, as the provider documents them."""
    events = [
        event(
            "message_start",
            {
                "message": {
                    "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": [],
                    "stop_reason": None, "stop_sequence": None, "usage": {**USAGE, "output_tokens": 1},
                }
            },
        ),
        event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        event("ping", {}),
    ]  # fmt: skip
    events += [
        event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}})
        for text in texts
    ]
    events.append(event("content_block_stop", {"index": 0}))
    for index, name in enumerate(tools or [], start=1):
        block = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
        events.append(event("content_block_start", {"index": index, "content_block": block}))
        delta = {"type": "input_json_delta", "partial_json": '{"command":"ls"}'}
        events.append(event("content_block_delta", {"index": index, "delta": delta}))
        events.append(event("content_block_stop", {"index": index}))
    stop = "tool_use" if tools else "end_turn"
    usage = {"output_tokens": output, "output_tokens_details": {"thinking_tokens": 7}}
    events.append(
        event("message_delta", {"delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage})
    )
    events.append(event("message_stop", {}))
    return events


def message(text: str = "Hello", output: int = 42) -> bytes:
    """One answer that is not streamed."""
    return json.dumps(
        {
            "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL,
            "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": None,
            "usage": {**USAGE, "output_tokens": output},
        }
    ).encode()  # fmt: skip


def sse_head(extra: str = "") -> bytes:
    return (
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nrequest-id: req_1\r\n"
        f"anthropic-ratelimit-requests-remaining: 7\r\n{extra}Transfer-Encoding: chunked\r\n\r\n"
    ).encode()


def as_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def stream_answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """The usual streamed answer, every event in its own chunk."""
    writer.write(sse_head())
    for data in message_events(["Hello", ", world"]):
        writer.write(as_chunk(data))
        await writer.drain()
    writer.write(b"0\r\n\r\n")


async def json_answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
    body = message()
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nrequest-id: req_2\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )


async def usual_answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
    stream = seen.body and json.loads(seen.body).get("stream")
    await (stream_answer if stream else json_answer)(seen, writer)


class FakeProvider:
    """A provider on loopback; ``script`` answers, everything that came is in ``seen``."""

    def __init__(self) -> None:
        self.script: Script = usual_answer
        self.seen: list[Seen] = []
        self.connections = 0
        self.lost = anyio.Event()
        """A connection ended."""
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            while (seen := await read_request(reader)) is not None:
                seen.connection = number
                seen.reader = reader
                self.seen.append(seen)
                await self.script(seen, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        except asyncio.CancelledError:
            pass
        finally:
            self.tasks.discard(task)
            self.lost.set()
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> Seen | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = head.split("\r\n")[:-2]
    method, target, _ = lines[0].split(" ")
    pairs = [line.split(": ", 1) for line in lines[1:]]
    seen = Seen(method, target, [(name, value) for name, value in pairs])
    if (length := seen.header("content-length")) is not None:
        seen.body = await reader.readexactly(int(length))
    elif seen.header("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            seen.body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    return seen


@asynccontextmanager
async def listening(
    take: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    tasks: set[asyncio.Task[None]] | None = None,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=context, limit=1 << 20)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks or ()):
            task.cancel()
        if tasks:
            await asyncio.wait(list(tasks), timeout=5)


class LedgerDesk:
    """The kernel's side of the seam: keeps the books in lists, and waits where a test says so."""

    hears = None

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.started: list[CallStarted] = []
        self.progress: list[CallProgressed] = []
        self.settled: list[CallSettled] = []
        self.asked: list[CallStarted] = []
        self.askings: list[Asking] = []
        self.keys_awaited: list[str] = []
        self.hold: anyio.Event | None = None
        self.settle_hold: anyio.Event | None = None
        self.key_came: anyio.Event | None = None
        self.refusal: Exception | None = None
        self.settle_error: Exception | None = None
        self.turns: list[CallStarted] = []
        self.turn_hold: anyio.Event | None = None
        self.places: list[str | Exception] = []
        self.busy: frozenset[int] = frozenset()
        self.heads: list[tuple[str, int, dict[bytes, bytes]]] = []
        self.losses: list[tuple[str, str]] = []
        self.recalls: list[bool] = []
        self.unmetered: list[RequestPassed] = []
        self.frozen_agents: set[str] = set()
        self.changed = anyio.Condition()

    def identify(self, secret: str) -> Caller | None:
        agent = self.identity.agent(secret, ("a1", "a2"))
        return Caller(agent, 3) if agent else None

    async def _note(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something in the books."""
        with anyio.fail_after(10):
            async with self.changed:
                while not condition():
                    await self.changed.wait()

    async def admit(self, started: CallStarted, asking: Asking) -> None:
        self.asked.append(started)
        self.askings.append(asking)
        await self._note()
        if self.refusal is not None:
            raise self.refusal
        if self.hold is not None:
            await self.hold.wait()
        self.started.append(started)
        await self._note()

    async def turn(self, started: CallStarted) -> str:
        """Its own provider, or what a test has laid out; after a loss nothing, but once."""
        self.turns.append(started)
        await self._note()
        if self.turn_hold is not None:
            await self.turn_hold.wait()
        if not self.places:
            if self.losses:
                raise Refused("throttled", f"not reached: {self.losses[-1][1]}", retry_after=7)
            return started.provider
        place = self.places.pop(0)
        if isinstance(place, Exception):
            raise place
        return place

    def recalled(self, started: CallStarted) -> bool:
        return self.recalls.pop(0) if self.recalls else False

    def answered(
        self, started: CallStarted, provider: str, status: int, headers: Mapping[bytes, bytes]
    ) -> Literal["pass", "again"]:
        self.heads.append((provider, status, dict(headers)))
        return "again" if status in self.busy else "pass"

    def lost(self, started: CallStarted, provider: str, why: str) -> None:
        self.losses.append((provider, why))

    async def let_pass(self, agent: str, provider: str) -> None:
        if self.refusal is not None:
            raise self.refusal

    def passed(self, event: RequestPassed) -> None:
        self.unmetered.append(event)

    def frozen(self, agent: str) -> bool:
        return agent in self.frozen_agents

    async def await_key(self, started: CallStarted, name: str) -> None:
        self.keys_awaited.append(name)
        await self._note()
        if self.key_came is None:
            raise Refused("key", "no key will come")
        await self.key_came.wait()

    def progressed(self, progress: CallProgressed) -> None:
        self.progress.append(progress)

    async def settle(self, settled: CallSettled) -> None:
        if self.settle_hold is not None:
            await self.settle_hold.wait()
        if self.settle_error is not None:
            raise self.settle_error
        self.settled.append(settled)
        await self._note()


@dataclass
class Bench:
    """Everything of one test."""

    provider: FakeProvider
    desk: LedgerDesk
    keys: KeyRing
    gateway: Gateway
    port: int
    secret: str
    base: str = field(default="")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)

    def post(self, body: bytes, *, headers: str = "", path: str = "/v1/messages") -> bytes:
        return (
            f"POST /a/{self.secret}/anthropic{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"x-api-key: placeholder\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        ).encode() + body

    async def settled(self, count: int = 1) -> list[CallSettled]:
        await self.desk.until(lambda: len(self.desk.settled) >= count)
        return self.desk.settled


@asynccontextmanager
async def gateway_bench(
    *,
    limits: Limits | None = None,
    environ: dict[str, str] | None = None,
    context: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    prefix: str = "",
    auth: str = "inject",
    apps: Any = None,
    keys: dict[str, str] | None = None,
    syscalls: Any = None,
    vouch: Any = None,
) -> AsyncIterator[Bench]:
    identity = Identity(b"k" * 32)
    desk = LedgerDesk(identity)
    provider = FakeProvider()
    async with listening(provider.take, provider.tasks, context) as upstream_port:
        provider.port = upstream_port
        ring = KeyRing({"ANTHROPIC_API_KEY": KEY} if keys is None else keys)
        scheme = "https" if context is not None else "http"
        settings = Provider(
            name="anthropic", protocol="anthropic", base_url=f"{scheme}://{host}:{upstream_port}{prefix}",
            key_env="ANTHROPIC_API_KEY", auth=auth,
        )  # fmt: skip
        gateway = Gateway(
            desk, {"anthropic": settings}, ring, limits=limits or Limits(tick_seconds=0.02), apps=apps,
            environ=environ or {}, syscalls=syscalls, vouch=vouch,
        )  # fmt: skip
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        port = listener.getsockname()[1]
        async with gateway.running():
            await gateway.serve(listener, "loopback")
            secret = identity.secret("a1")
            yield Bench(
                provider, desk, ring, gateway, port, secret, f"http://127.0.0.1:{port}/a/{secret}/anthropic"
            )


async def eventually(condition: Callable[[], object]) -> None:
    """Return when ``condition`` is true; it is one that nothing announces."""
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.002)


@pytest.fixture
def open_bench() -> Any:
    """``async with open_bench(...) as bench``."""
    return gateway_bench


@pytest.fixture
def wire() -> Any:
    """The words of the protocol, for tests that write their own scripts."""
    import sys

    return sys.modules[__name__]
