"""Durable messages over the agents' HTTP door against Redis Streams with ``appendfsync always``.

Run: python tests/bench/bench_mail_door.py [SECONDS]. Needs redis-server, and a Python with redis-py, hiredis
and uvloop: made here with ``venv`` and ``pip``, or given as ``AGENTTOP_BENCH_REDIS``.

50 senders, each awaiting its message before the next, and 50 receivers, each reading its mailbox and
acknowledging what it read with the next reading. All of them are one process with one event loop (uvloop)
on either side, and the server is another one. Ours is spoken to over HTTP by a bare asyncio protocol (orjson,
no HTTP library), Redis over RESP by redis-py with hiredis, an asyncio client a library does for. Redis needs
three commands where we need two requests, since reading acknowledges what was read before. Both sync each
commit to the disk, and both put what waits into one.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import uvloop

from agenttop.core import statekey
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import RunRequest, StopRequest
from agenttop.core.connect import connect
from agenttop.core.gateway.identity import Identity
from agenttop.core.paths import Paths

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.mail_line import Line

PAIRS = 50
ROUNDS = 3
BODY = "x" * 270
ENVIRON = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp"}
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    """Seconds of CPU a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Fleet(NamedTuple):
    """Agents that only lend their secrets: the clients of this process speak as them."""

    pid: int
    port: int
    secrets: list[str]


async def start(paths: Paths) -> Fleet:
    """A kernel and its agents, senders first."""
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text("[gateway]\ncheck_peers = false\n")
    ids = []
    async with await connect(paths) as client:
        for number in range(2 * PAIRS):
            name = f"{'s' if number < PAIRS else 'r'}{number % PAIRS}"
            spec = AgentSpec(name=name, command=["sleep", "36000"], cwd="/tmp")
            ids.append((await client.run(RunRequest(spec=spec, environ=ENVIRON))).id)
        status = await client.status()
    identity = Identity(statekey.load(paths.key))
    return Fleet(status.pid, status.port, [identity.secret(one) for one in ids])


async def stop(paths: Paths) -> None:
    """End both."""
    async with await connect(paths) as client:
        await client.stop(StopRequest(all=True, how="kill"))
        await client.shutdown()


async def send(line: Line, to: str, until: float) -> int:
    sent = 0
    while time.perf_counter() < until:
        payload = {"at": time.perf_counter(), "body": BODY}
        await line.call("bus.send", {"to": to, "payload": payload})
        sent += 1
    return sent


async def receive(line: Line, late: list[float]) -> None:
    ack: list[str] = []
    while True:
        got = await line.call("bus.inbox", {"limit": 50, "run": 50, "wait": 10, "ack": ack})
        now = time.perf_counter()
        late.extend(now - one["payload"]["at"] for one in got)
        ack = [one["id"] for one in got]


async def ours(fleet: Fleet, seconds: float) -> dict[str, float]:
    lines = [await Line.open(fleet.port, secret) for secret in fleet.secrets]
    for line in lines:
        await line.call("bus.inbox", {})
    late: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        receivers = [tasks.create_task(receive(line, late)) for line in lines[PAIRS:]]
        kernel, cpu, begun = cpu_of(fleet.pid), time.process_time(), time.perf_counter()
        senders = (send(lines[n], f"r{n}", begun + seconds) for n in range(PAIRS))
        sent = sum(await asyncio.gather(*senders))
        while len(late) < sent:
            await asyncio.sleep(0.001)
        took, cpu = time.perf_counter() - begun, time.process_time() - cpu
        kernel = cpu_of(fleet.pid) - kernel
        for task in receivers:
            task.cancel()
    for line in lines[PAIRS:]:
        line.close()
    for secret in fleet.secrets[PAIRS:]:  # the last ones are not acknowledged yet
        line = await Line.open(fleet.port, secret)
        await line.call("bus.inbox", {})
        line.close()
    for line in lines[:PAIRS]:
        line.close()
    found = statistics.quantiles(late, n=100)
    return {
        "rate": sent / took, "p50": found[49] * 1e3, "p99": found[98] * 1e3, "client": cpu / sent * 1e6,
        "server": kernel / sent * 1e6,
    }  # fmt: skip


@contextmanager
def redis_server(folder: Path) -> Iterator[tuple[int, int]]:
    """Port and pid of a server that syncs before it answers."""
    port = 16_379
    child = subprocess.Popen([
        "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--appendonly",
        "yes", "--appendfsync", "always", "--save", "", "--loglevel", "warning",
    ], stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        for _ in range(200):
            if subprocess.run(
                ["redis-cli", "-p", str(port), "ping"], capture_output=True, check=False
            ).stdout.startswith(b"PONG"):
                break
            time.sleep(0.05)
        yield port, child.pid
    finally:
        child.terminate()
        child.wait()


def python_for_redis(folder: Path) -> str:
    given = os.environ.get("AGENTTOP_BENCH_REDIS")
    if given:
        return given
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([folder / "bin/pip", "install", "-q", "redis", "hiredis", "uvloop"], check=True)
    return str(folder / "bin/python")


def rival(python: str, port: int, pid: int, seconds: float) -> dict[str, float]:
    before = cpu_of(pid)
    script = Path(__file__).with_name("redis_streams.py")
    done = subprocess.run(
        [python, str(script), str(port), str(PAIRS), str(seconds)], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    found["server"] = (cpu_of(pid) - before) / (found["rate"] * seconds) * 1e6
    return found


def line_of(name: str, found: dict[str, Any]) -> str:
    return (
        f"  {name:<28} {found['rate']:>8,.0f}/s  p50 {found['p50']:5.1f} ms  p99 {found['p99']:5.1f} ms"
        f"  CPU a message: client {found['client']:.0f} µs, server {found['server']:.0f} µs"
    )


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        python = python_for_redis(folder / "venv")
        paths = Paths.from_environ({"AGENTTOP_HOME": str(folder / "home")})
        (folder / "redis").mkdir()
        fleet = anyio.run(start, paths)
        try:
            with redis_server(folder / "redis") as (port, pid):
                for number in range(ROUNDS):
                    mine = uvloop.run(ours(fleet, seconds))
                    theirs = rival(python, port, pid, seconds)
                    print(f"round {number + 1}: {mine['rate'] / theirs['rate']:.2f} x Redis", flush=True)
                    print(line_of("the agents' HTTP door", mine), flush=True)
                    print(line_of("Redis Streams, redis-py", theirs), flush=True)
        finally:
            anyio.run(stop, paths)
            deadline = time.monotonic() + 30
            while Path(f"/proc/{fleet.pid}").exists() and time.monotonic() < deadline:
                time.sleep(0.05)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
