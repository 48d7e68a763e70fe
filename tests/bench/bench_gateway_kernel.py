"""A real kernel's gateway beside LiteLLM's proxy; its memory over many calls and a long one; its stalls.

Run: ``python tests/bench/bench_gateway_kernel.py [--only litellm,calls,stream,stalls] [--rounds 3]``

The kernel has everything on: journal, a budget over the fleet, the queue, and (for the stalls) a client that
watches. Only that a secret is shown by its own agent's process is not looked at: one process asks for all.
It and its rival run on one core, provider and clients share another.

- litellm: calls per CPU second, an event stream of 60 events or a JSON answer at once, 20 clients. LiteLLM's
  proxy has one worker and no database; it is found by ``AGENTTOP_BENCH_LITELLM``, else in ``PATH``.
- calls: memory of the kernel before and after 10,000 calls.
- stream: the same before, during and after an answer of 500 MB.
- stalls: 200 agents stream at once, events 20 ms apart, a client watching the fleet: the longest time between
  two events on any stream, directly and through the kernel.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import anyio
import orjson
import uvloop

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import BudgetRequest, FleetRequest, StopRequest
from agenttop.core.budget.budget import Budget
from agenttop.core.connect import connect
from agenttop.core.gateway.identity import Identity
from agenttop.core.paths import Paths

sys.path.insert(0, str(Path(__file__).parent))
from bench_gateway import EVENTS, GAP, cpu, events, listener, pin, quantile
from terminal import resident

MODEL = "claude-opus-5-5"
KEY = "sk-bench"
STREAM_BYTES = 500 << 20
CONFIG = """
[providers.anthropic]
base_url = "http://127.0.0.1:{port}"
key_env = "ANTHROPIC_API_KEY"
[providers.anthropic.limits]
concurrency = 1000
[runaway]
enabled = false
[gateway]
check_peers = false
"""
LITELLM = """
model_list:
  - model_name: {model}
    litellm_params:
      model: anthropic/{model}
      api_base: http://127.0.0.1:{port}
      api_key: {key}
general_settings:
  master_key: {key}
litellm_settings:
  telemetry: false
"""
ANSWER = orjson.dumps({
    "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "stop_reason": "end_turn",
    "stop_sequence": None, "content": [{"type": "text", "text": "some words of an answer"}],
    "usage": {"input_tokens": 1000, "cache_read_input_tokens": 5000, "output_tokens": 330},
})  # fmt: skip


def question(**more: object) -> bytes:
    """The body of a request."""
    messages = [{"role": "user", "content": "some words of a question"}]
    return orjson.dumps({"model": MODEL, "max_tokens": 1000, "messages": messages, **more})


# --- the provider ------------------------------------------------------------------------------


class Upstream(asyncio.Protocol):
    """Answers with JSON; with a stream at once; paced; or with 500 MB: as the question's ``system`` says."""

    script = events()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.buffer = b""
        self.room = asyncio.Event()
        self.room.set()

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.room.set()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if not end or len(body) < int(lengths[0].partition(b":")[2]):
            return
        self.buffer = b""
        asked = orjson.loads(body)
        if not asked.get("stream"):
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(ANSWER), ANSWER)
            )
            return
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        if asked.get("system") == "long":
            self.long = asyncio.ensure_future(self.flood())
        else:
            self.step(0, GAP if asked.get("system") == "paced" else 0.0)

    def step(self, at: int, gap: float) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(self.script[at])
        if at + 1 == len(self.script):
            self.transport.write(b"0\r\n\r\n")
        elif gap:
            asyncio.get_running_loop().call_later(gap, self.step, at + 1, gap)
        else:
            asyncio.get_running_loop().call_soon(self.step, at + 1, gap)

    async def flood(self) -> None:
        """As many deltas as make 500 MB, no faster than they are read."""
        self.transport.write(self.script[0] + self.script[1])
        delta = orjson.dumps({
            "type": "content_block_delta", "index": 0,
            "delta": {"type": "text_delta", "text": "words " * 2_000},
        })  # fmt: skip
        event = b"event: content_block_delta\ndata: %b\n\n" % delta
        piece = b"%x\r\n%b\r\n" % (len(event), event)
        for _ in range(STREAM_BYTES // len(event) + 1):
            await self.room.wait()
            if self.transport.is_closing():
                return
            self.transport.write(piece)
        self.transport.write(b"".join(self.script[-3:]) + b"0\r\n\r\n")


async def provide(sock: socket.socket) -> None:
    """Serve as the provider."""
    async with await asyncio.get_running_loop().create_server(Upstream, sock=sock, backlog=1024) as server:
        await server.serve_forever()


# --- the clients -------------------------------------------------------------------------------


class Asker(asyncio.Protocol):
    """One connection that asks while calls are left, and checks every answer."""

    def __init__(
        self, path: str, body: bytes, left: list[int], gaps: list[float], done: asyncio.Future[None]
    ) -> None:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nx-api-key: {KEY}\r\n"
            f"anthropic-version: 2023-06-01\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.request = head.encode() + body
        self.left, self.gaps, self.done = left, gaps, done
        self.whole = ("content-length", b"") if b'"stream":true' not in body else ("", b"0\r\n\r\n")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.ask()

    def ask(self) -> None:
        if not self.left[0]:
            self.transport.close()
            return
        self.left[0] -= 1
        self.size, self.start, self.end = 0, b"", b""
        self.last = self.longest = 0.0
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self.last:
            self.longest = max(self.longest, now - self.last)
        self.last = now
        self.size += len(data)
        self.start = self.start if len(self.start) > 4_000 else self.start + data
        self.end = (self.end + data)[-400:]
        if self.whole[0]:
            head, found, body = self.start.partition(b"\r\n\r\n")
            length = next(
                (n for n in head.lower().split(b"\r\n") if n.startswith(b"content-length:")), b":-1"
            )
            complete = bool(found) and len(body) == int(length.partition(b":")[2])
            good = b'"output_tokens":330' in body
        else:
            complete = self.end.endswith(self.whole[1])
            good = b"message_stop" in self.end
        if complete:
            if not self.start.startswith(b"HTTP/1.1 200") or not good:
                self.fail()
                return
            self.gaps.append(self.longest)
            self.ask()

    def fail(self) -> None:
        if not self.done.done():
            self.done.set_exception(AssertionError(self.start[:300] + b" ... " + self.end[-200:]))
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def load(port: int, paths: list[str], body: bytes, calls: int) -> list[float]:
    """Ask from one connection for each path; the longest pause within each answer."""
    loop, left, gaps = asyncio.get_running_loop(), [calls], list[float]()
    waits: list[asyncio.Future[None]] = []
    for path in paths:
        done = loop.create_future()
        waits.append(done)
        await loop.create_connection(
            lambda path=path, done=done: Asker(path, body, left, gaps, done),  # type: ignore[misc]
            "127.0.0.1",
            port,
        )
    await asyncio.gather(*waits)
    if len(gaps) != calls:
        raise AssertionError(f"{len(gaps)} of {calls} calls were answered")
    return gaps


# --- the kernel and its rival ------------------------------------------------------------------


class Served(NamedTuple):
    """A proxy that runs: its process, its port, and the paths its clients use."""

    name: str
    pid: int
    port: int
    paths: list[str]


@asynccontextmanager
async def a_kernel(agents: int) -> AsyncIterator[Served]:
    """A kernel of its own with so many agents, each with a path, and a budget over them all."""
    paths = Paths.from_environ()
    async with await connect(paths) as client:
        try:
            specs = [AgentSpec(name=f"a-{n}", command=["sleep", "3600"], cwd="/tmp") for n in range(agents)]
            request = FleetRequest(fleet="/bench", specs=specs, environ={"PATH": os.environ["PATH"]})
            made = await client.up(request)
            assert {outcome.done for outcome in made} == {"created"}, made[:3]
            await client.set_budget(BudgetRequest(budget=Budget(name="all", usd=1e9, window="day")))
            status = await client.status()
            identity = Identity(paths.key.read_bytes())
            found = [
                f"/a/{identity.secret(agent.id)}/anthropic/v1/messages" for agent in await client.agents()
            ]
            for task in Path(f"/proc/{status.pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), {sorted(os.sched_getaffinity(0))[0]})
            yield Served("kernel", status.pid, status.port, found)
        finally:
            await client.stop(StopRequest(all=True, how="kill"))
            pid = (await client.status()).pid
            await client.shutdown()
            while Path(f"/proc/{pid}").exists():  # the next one is on the same folder
                await anyio.sleep(0.05)


@contextmanager
def a_litellm(folder: Path, upstream: int) -> Iterator[Served | None]:
    """LiteLLM's proxy, or ``None`` where it is not installed."""
    command = os.environ.get("AGENTTOP_BENCH_LITELLM") or shutil.which("litellm")
    if command is None:
        print("LiteLLM is not installed (AGENTTOP_BENCH_LITELLM, PATH): no comparison with it")
        yield None
        return
    config = folder / "litellm.yaml"
    config.write_text(LITELLM.format(model=MODEL, port=upstream, key=KEY))
    with listener() as free:
        port = free.getsockname()[1]
    arguments = [command, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    environ = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with (folder / "litellm.log").open("wb") as log:
        process = subprocess.Popen(
            [*arguments, "--num_workers", "1"],
            stdout=log, stderr=log, env=environ, preexec_fn=lambda: pin(0), start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((folder / "litellm.log").read_text()[-2000:])
            time.sleep(0.2)
        yield Served("litellm", process.pid, port, ["/v1/messages"])
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# --- what is measured --------------------------------------------------------------------------


async def against_litellm(upstream: int, folder: Path, rounds: int) -> None:
    """Calls per CPU second of both, streams and JSON; of each the round that was disturbed least."""
    best: dict[tuple[str, str], float] = {}
    async with a_kernel(20) as ours:
        with a_litellm(folder, upstream) as theirs:
            for number in range(rounds + 1):
                for served, calls in ((ours, 1000), (theirs, 60)):
                    if served is None:
                        continue
                    paths = served.paths if served is ours else served.paths * 20
                    for kind, body in (("streamed", question(stream=True)), ("JSON", question())):
                        before = cpu(served.pid)
                        await load(served.port, paths, body, calls)
                        rate = calls / (cpu(served.pid) - before)
                        if number:  # the first round warms up
                            key = (served.name, kind)
                            best[key] = max(best.get(key, 0.0), rate)
    for kind in ("streamed", "JSON"):
        mine, other = best["kernel", kind], best.get(("litellm", kind))
        text = f"{kind:8} {mine:6.0f} calls a CPU second"
        print(text if other is None else f"{text}, LiteLLM {other:.1f}: {mine / other:.0f}x as many")


async def over_many_calls(calls: int) -> None:
    """Memory of the kernel after each thousand calls of 100 agents."""
    async with a_kernel(100) as served:
        body, sizes = question(stream=True), [resident(served.pid)]
        for _ in range(10):
            await load(served.port, served.paths, body, calls // 10)
            sizes.append(resident(served.pid))
        figures = " ".join(f"{size / 1e6:.0f}" for size in sizes)
        later = _mb(sizes[-1] - sizes[5])
        print(f"memory over {calls} calls of 100 agents: {figures} MB; the second half {later}")


async def over_a_long_stream() -> None:
    """Memory of the kernel while 500 MB pass."""
    async with a_kernel(1) as served:
        await load(served.port, served.paths, question(stream=True), 10)
        before = most = resident(served.pid)
        task = asyncio.ensure_future(load(served.port, served.paths, question(stream=True, system="long"), 1))
        used, began = cpu(served.pid), time.perf_counter()
        while not task.done():
            most = max(most, resident(served.pid))
            await asyncio.sleep(0.05)
        await task
        took = time.perf_counter() - began
        print(
            f"memory over one stream of {STREAM_BYTES >> 20} MB: {before / 1e6:.0f} MB before, at most "
            f"{_mb(most - before)}, after it {_mb(resident(served.pid) - before)}; "
            f"{took:.1f} s, {cpu(served.pid) - used:.1f} s of CPU"
        )


async def stalls(upstream: int, agents: int) -> None:
    """The longest pause within a stream of many at once, while a client watches."""
    body = question(stream=True, system="paced")
    direct = await load(upstream, ["/v1/messages"] * agents, body, agents * 3)
    async with a_kernel(agents) as served:
        # In a process of its own: what it takes to read the deltas is no pause of the streams.
        watcher = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--watch", stdout=asyncio.subprocess.PIPE
        )
        assert watcher.stdout is not None
        try:
            await watcher.stdout.readline()
            await load(served.port, served.paths, body, agents)  # warm
            through = await load(served.port, served.paths, body, agents * 3)
        finally:
            watcher.terminate()
        seen = len((await watcher.stdout.read()).splitlines())
        await watcher.wait()
    for name, gaps in (("directly", direct), ("through the kernel", through)):
        print(
            f"{agents} streams of {EVENTS} events, {GAP * 1000:.0f} ms apart, {name}: longest pause of a "
            f"stream {quantile(gaps, 0.5) * 1000:.0f} ms (median), {max(gaps) * 1000:.0f} ms (of all)"
        )
    print(f"longest stall added: {(max(through) - max(direct)) * 1000:.0f} ms; the watcher saw {seen} deltas")


async def watch() -> None:
    """Read the live table as a screen does; a line for each part of it."""
    async with await connect(Paths.from_environ()) as client:
        async for _ in client.watch():
            print("seen", flush=True)


def _mb(size: float) -> str:
    return f"{size / 1e6:+.1f} MB"


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="litellm,calls,stream,stalls")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--watch", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        pin(1)
        asyncio.run(watch())
        return
    if options.fd is not None:
        pin(1)
        uvloop.run(provide(socket.socket(fileno=options.fd)))
        return
    place = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="agenttop-bench-", dir=place, ignore_cleanup_errors=True) as home:
        sock = listener()
        port = sock.getsockname()[1]
        sock.set_inheritable(True)
        arguments = [sys.executable, __file__, "--fd", str(sock.fileno())]
        provider = subprocess.Popen(arguments, pass_fds=[sock.fileno()])
        parts: dict[str, Callable[[], object]] = {
            "litellm": lambda: asyncio.run(against_litellm(port, Path(home), options.rounds)),
            "calls": lambda: asyncio.run(over_many_calls(10_000)),
            "stream": lambda: asyncio.run(over_a_long_stream()),
            "stalls": lambda: asyncio.run(stalls(port, options.agents)),
        }
        try:
            for name in options.only.split(","):
                folder = Path(home) / name
                folder.mkdir()
                (folder / "config.toml").write_text(CONFIG.format(port=port))
                os.environ.update(AGENTTOP_HOME=str(folder), ANTHROPIC_API_KEY=KEY)
                parts[name]()
        finally:
            provider.terminate()
            provider.wait()


if __name__ == "__main__":
    main()
