"""What the gateway costs: CPU per streamed call, and added time to the first byte, against its rivals.

Run: ``python tests/bench/bench_gateway.py [--calls 300] [--streams 100] [--rounds 3]``

One provider process streams 60 events 20 ms apart to 100 clients at once: directly, through nginx (if it
is installed), through the gateway with its books in memory, and through the gateway with the kernel's desk:
journal, meters, a budget over the fleet, the provider's queue, every call durable before it is forwarded and
again before its last event is passed on.
The proxy runs on one core, provider and clients share another. Printed are ratios within this run: the
proxy's CPU over the provider's, the gateway's over nginx's, and milliseconds added to the first byte.
The routes take turns, and of each the round counts that was disturbed least: other work on the machine
takes caches away and makes the same instructions cost up to twice the time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import uvloop

from agenttop.core import pace
from agenttop.core.gateway.desk import Asking, Caller, Desk
from agenttop.core.gateway.gateway import Gateway
from agenttop.core.gateway.identity import Identity
from agenttop.core.gateway.providers import CallLimits, KeyRing, Provider
from agenttop.core.journal.events import CallProgressed, CallSettled, CallStarted, RequestPassed

EVENTS = 60
GAP = 0.02
BODY = json.dumps({"model": "claude-opus-5-5", "stream": True, "max_tokens": 9, "messages": []}).encode()
TICK = os.sysconf("SC_CLK_TCK")


def events() -> list[bytes]:
    """A start, text, the final figures, the end."""

    def event(name: str, **data: object) -> bytes:
        body = (
            f"event: {name}\ndata: {json.dumps({'type': name, **data}, separators=(',', ':'))}\n\n".encode()
        )
        return b"%x\r\n%b\r\n" % (len(body), body)

    usage = {"input_tokens": 1000, "cache_read_input_tokens": 5000, "output_tokens": 1}
    delta = {"type": "text_delta", "text": "some words of an answer"}
    return [
        event("message_start", message={"model": "claude-opus-5-5", "usage": usage}),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *(event("content_block_delta", index=0, delta=delta) for _ in range(EVENTS - 5)),
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 330}),
        event("message_stop"),
    ]


# --- the provider ------------------------------------------------------------------------------


class Upstream(asyncio.Protocol):
    """Answers every request with the same paced stream."""

    script = events()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        _, end, body = self.buffer.partition(b"\r\n\r\n")
        if end and len(body) >= len(BODY):
            self.buffer = body[len(BODY) :]
            self.transport.write(  # type: ignore[attr-defined]
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: r\r\n"
                b"transfer-encoding: chunked\r\n\r\n"
            )
            self.step(0)

    def step(self, at: int) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(self.script[at])  # type: ignore[attr-defined]
        if at + 1 < len(self.script):
            asyncio.get_running_loop().call_later(GAP, self.step, at + 1)
        else:
            self.transport.write(b"0\r\n\r\n")  # type: ignore[attr-defined]


async def serve_provider(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, sock=listener, backlog=1024)
    async with server:
        await server.serve_forever()


# --- the gateway -------------------------------------------------------------------------------


class MemoryDesk:
    """Books in memory, and a check that every call was settled exactly: what the gateway alone costs."""

    hears = None

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def identify(self, secret: str) -> Caller | None:
        agent = self._identity.agent(secret, frozenset({"a1"}))
        return Caller(agent, 1) if agent else None

    async def admit(self, started: CallStarted, asking: Asking) -> None: ...

    async def await_key(self, started: CallStarted, name: str) -> None: ...

    async def turn(self, started: CallStarted) -> str:
        return started.provider

    def recalled(self, started: CallStarted) -> bool:
        return False

    def answered(
        self, started: CallStarted, provider: str, status: int, headers: Mapping[bytes, bytes]
    ) -> Literal["pass", "again"]:
        return "pass"

    def lost(self, started: CallStarted, provider: str, why: str) -> None:
        print("a provider was lost:", why, file=sys.stderr, flush=True)

    def progressed(self, progress: CallProgressed) -> None: ...

    async def let_pass(self, agent: str, provider: str) -> None: ...

    def passed(self, event: RequestPassed) -> None: ...

    def frozen(self, agent: str) -> bool:
        return False

    async def settle(self, settled: CallSettled) -> None:
        if not settled.exact or settled.usage.output != 330:
            print("wrong books:", settled, file=sys.stderr, flush=True)


@asynccontextmanager
async def kernel_desk(
    folder: str, identity: Identity, keys: KeyRing, provider: Provider
) -> AsyncIterator[Desk]:
    """The kernel's own: journal, meters, a budget over the fleet, the provider's queue."""
    import anyio

    from agenttop.core.agents.spec import AgentSpec
    from agenttop.core.budget.budget import Budget
    from agenttop.core.budget.prices import Prices
    from agenttop.core.clock import SystemClock
    from agenttop.core.gateway.calls import CallDesk
    from agenttop.core.gateway.meters import Meters
    from agenttop.core.journal import events as ev
    from agenttop.core.journal.books import Books
    from agenttop.core.journal.journal import Journal

    clock = SystemClock()
    async with await Journal.open(Path(folder) / "journal.db", clock) as journal:
        books = Books(journal)
        await books.open()
        providers = {provider.name: provider}
        desk = CallDesk(books, Meters(), identity, Prices(), clock, keys, providers=providers)
        await books.commit(
            ev.AgentCreated(agent="a1", spec=AgentSpec(name="a1", command=["true"]), owner="bench"),
            ev.RunStarting(agent="a1", run=1),
            ev.RunStarted(agent="a1", run=1, ref={"pid": 1}),
            ev.BudgetSet(budget=Budget(name="all", usd=1e9, window="day")),
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(desk.run)
            yield desk
            tasks.cancel_scope.cancel()


async def serve_gateway(listener: socket.socket, upstream: int, folder: str | None) -> None:
    """Serve with the kernel's desk, whose journal is in ``folder``, or with books in memory."""
    provider = Provider(
        name="anthropic",
        protocol="anthropic",
        base_url=f"http://127.0.0.1:{upstream}",
        key_env="KEY",
        limits=CallLimits(concurrency=1000, requests=1e6, tokens=1e12),
    )
    identity, keys = Identity(b"k" * 32), KeyRing({"KEY": "sk-x"})
    async with AsyncExitStack() as stack:
        desk: Desk = MemoryDesk(identity)
        if folder is not None:
            desk = await stack.enter_async_context(kernel_desk(folder, identity, keys, provider))
        gateway = await stack.enter_async_context(Gateway(desk, {"anthropic": provider}, keys).running())
        await gateway.serve(listener, "bench")
        pace.steady()  # as the kernel does it
        await asyncio.get_running_loop().create_future()


NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; keepalive_requests 100000;
  upstream provider {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 100000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header x-api-key sk-x; proxy_buffering off;
    }}
  }}
}}
"""


# --- the clients -------------------------------------------------------------------------------


class Client(asyncio.Protocol):
    """One connection that asks again and again."""

    def __init__(self, path: str, left: list[int], first: list[float], done: asyncio.Future[None]) -> None:
        self.request = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\ncontent-type: application/json\r\nx-api-key: p\r\n"
            f"Content-Length: {len(BODY)}\r\n\r\n"
        ).encode() + BODY
        self.left, self.first, self.done = left, first, done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        # Spread over one stream's length: in lockstep, all would measure the queue they make.
        asyncio.get_running_loop().call_later(random.random() * EVENTS * GAP, self.ask)

    def ask(self) -> None:
        if not self.left[0]:
            self.transport.close()
            return
        self.left[0] -= 1
        self.seen, self.sent, self.waiting = bytearray(), time.perf_counter(), True
        self.transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.seen += data
        if self.waiting and b"message_start" in self.seen:
            self.waiting = False
            self.first.append(time.perf_counter() - self.sent)
        if self.seen.endswith(b"0\r\n\r\n"):
            if not self.seen.startswith(b"HTTP/1.1 200") or self.seen.count(b"event: ") != EVENTS:
                raise AssertionError(bytes(self.seen[:300]))
            self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def load(port: int, path: str, calls: int, streams: int) -> tuple[float, list[float]]:
    """Seconds for all calls, and the time to the first event of each."""
    loop = asyncio.get_running_loop()
    left, first = [calls], []
    waits = [loop.create_future() for _ in range(streams)]
    begin = time.perf_counter()
    for done in waits:
        await loop.create_connection(lambda done=done: Client(path, left, first, done), "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*waits)
    if len(first) != calls:
        raise AssertionError(f"{len(first)} of {calls} calls were answered")
    return time.perf_counter() - begin, first


# --- measuring ---------------------------------------------------------------------------------


def cpu(pid: int) -> float:
    """CPU seconds of a process and its children in the same group (nginx has a worker)."""
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(entry.name) == pid or int(fields[1]) == pid:
                total += int(fields[11]) + int(fields[12])
    return total / TICK


def listener() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(1024)
    return sock


def spawn(role: str, sock: socket.socket, core: int, *more: str) -> subprocess.Popen[bytes]:
    sock.set_inheritable(True)
    command = [
        sys.executable,
        __file__,
        "--role",
        role,
        "--fd",
        str(sock.fileno()),
        "--core",
        str(core),
        *more,
    ]
    return subprocess.Popen(command, pass_fds=[sock.fileno()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--role", choices=("provider", "gateway"))
    parser.add_argument("--fd", type=int)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--upstream", type=int)
    parser.add_argument("--folder")
    options = parser.parse_args()
    if options.role:
        pin(options.core)
        sock = socket.socket(fileno=options.fd)
        work = (
            serve_provider(sock)
            if options.role == "provider"
            else serve_gateway(sock, options.upstream, options.folder)
        )
        uvloop.run(work)
        return
    compare(options.calls, options.streams, options.rounds)


def pin(core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


def compare(calls: int, streams: int, rounds: int) -> None:
    running: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            provider_socket, gateway_socket, kernel_socket = listener(), listener(), listener()
            upstream = provider_socket.getsockname()[1]
            provider = spawn("provider", provider_socket, 1)
            gateway = spawn("gateway", gateway_socket, 0, "--upstream", str(upstream))
            where = ("--upstream", str(upstream), "--folder", folder)
            kernel = spawn("gateway", kernel_socket, 0, *where)
            running += [provider, gateway, kernel]
            secret = Identity(b"k" * 32).secret("a1")
            routes: list[Route] = [("direct", upstream, "/v1/messages", None)]
            if shutil.which("nginx"):
                nginx, port = start_nginx(folder, upstream)
                running.append(nginx)
                routes.append(("nginx", port, "/v1/messages", nginx))
            for name, sock, process in (
                ("gateway", gateway_socket, gateway),
                ("kernel", kernel_socket, kernel),
            ):
                path = f"/a/{secret}/anthropic/v1/messages"
                routes.append((name, sock.getsockname()[1], path, process))
            pin(1)
            report(measure(routes, provider, calls, streams, rounds))
        finally:
            for process in running:
                process.send_signal(signal.SIGTERM)
                process.wait(10)


def start_nginx(folder: str, upstream: int) -> tuple[subprocess.Popen[bytes], int]:
    with listener() as free:
        port = free.getsockname()[1]
    config = Path(folder) / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, upstream=upstream, port=port))
    process = subprocess.Popen(["nginx", "-c", str(config), "-p", folder], preexec_fn=lambda: pin(0))
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, port
        time.sleep(0.02)
    raise AssertionError("nginx did not start")


class Result(NamedTuple):
    """One round of one route."""

    name: str
    proxy: float
    """CPU milliseconds a call."""
    provider: float
    first: list[float]
    """Seconds to the first event of each call."""


Route = tuple[str, int, str, subprocess.Popen[bytes] | None]


def measure(
    routes: list[Route], provider: subprocess.Popen[bytes], calls: int, streams: int, rounds: int
) -> list[Result]:
    results: list[Result] = []
    for number in range(rounds):
        for name, port, path, proxy in routes:
            if number == 0:
                uvloop.run(load(port, path, streams, streams))  # warm: imports, pools, prices
            before = cpu(proxy.pid) if proxy else 0.0, cpu(provider.pid)
            _, first = uvloop.run(load(port, path, calls, streams))
            used = (cpu(proxy.pid) if proxy else 0.0) - before[0], cpu(provider.pid) - before[1]
            results.append(Result(name, used[0] / calls * 1000, used[1] / calls * 1000, first))
    return results


def report(results: list[Result]) -> None:
    best: dict[str, Result] = {}
    for result in results:
        if result.name not in best or result.proxy + result.provider < sum(best[result.name][1:3]):
            best[result.name] = result
    quickest = {
        name: min((r.first for r in results if r.name == name), key=statistics.median) for name in best
    }
    direct = quickest.pop("direct")
    for name, first in quickest.items():
        result = best[name]
        added = [(quantile(first, q) - quantile(direct, q)) * 1000 for q in (0.5, 0.99)]
        print(
            f"{name:8} CPU {result.proxy:.2f} ms a call, {result.proxy / result.provider:.2f}x the provider, "
            f"first event {added[0]:+.1f} ms (median), {added[1]:+.1f} ms (99 %)"
        )
    if "nginx" in best:
        for name in ("gateway", "kernel"):
            print(f"{name} CPU is {best[name].proxy / best['nginx'].proxy:.2f}x nginx's")
    else:
        print("nginx is not installed: no comparison with it")


def quantile(values: list[float], at: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * at))]


if __name__ == "__main__":
    main()
