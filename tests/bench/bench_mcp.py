"""``inbox`` by MCP, warm: the SDK's client through the gateway, against a bare SDK server with an empty tool.

``python tests/bench/bench_mcp.py [CALLS]``. Both in processes of their own, in turns; times are of a call.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
import anyio.to_thread
from mcp import Client

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import RunRequest
from agenttop.core.connect import connect
from agenttop.core.gateway.identity import Identity
from agenttop.core.paths import Paths
from agenttop.tui.demo.cleanup import clean

ROUNDS = 5
BARE = """
import sys
from mcp.server import MCPServer
server = MCPServer("bare", log_level="ERROR")
@server.tool()
async def inbox() -> str:
    return "[]"
server.run("streamable-http", port=int(sys.argv[1]))
"""


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def timed(client: Client, calls: int) -> list[float]:
    """Seconds of each call."""
    found = []
    for _ in range(calls):
        begun = time.perf_counter()
        result = await client.call_tool("inbox", {})
        found.append(time.perf_counter() - begun)
        assert not result.is_error, result.content
    return found


async def reached(port: int) -> None:
    """Return when a server is there."""
    with anyio.fail_after(60):
        while True:
            try:
                await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
            except OSError:
                await anyio.sleep(0.1)
            else:
                return


async def compare(ours: str, bare: str, calls: int) -> None:
    """Print both, era by era."""
    for era in ("auto", "legacy"):
        async with Client(ours, mode=era) as a, Client(bare, mode=era) as b:
            await timed(a, 20)
            await timed(b, 20)
            version = a.protocol_version
            mine, theirs = [], []
            for _ in range(ROUNDS):
                mine += await timed(a, calls)
                theirs += await timed(b, calls)
        told = [sorted(mine), sorted(theirs)]
        middle = [statistics.median(one) * 1e3 for one in told]
        late = [one[len(one) * 95 // 100] * 1e3 for one in told]
        sys.stdout.write(
            f"{version}: inbox p50 {middle[0]:.1f} ms (aim 10), p95 {late[0]:.1f} ms; "
            f"bare SDK server p50 {middle[1]:.1f} ms, p95 {late[1]:.1f} ms; {middle[0] / middle[1]:.2f} x\n"
        )


async def main(calls: int) -> None:
    """Both servers, and what a client sees of them."""
    os.environ["AGENTTOP_OBSERVE"] = "off"
    home = Path(tempfile.mkdtemp())
    (home / "config.toml").write_text("[gateway]\ncheck_peers = false\n")
    port = free_port()
    command = [sys.executable, "-c", BARE, str(port)]
    bare = await anyio.open_process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        paths = Paths.from_environ({"AGENTTOP_HOME": str(home)})
        async with await connect(paths) as client:
            spec = AgentSpec(name="ada", command=["/bin/sleep", "3600"], cwd="/tmp")
            agent = await client.run(RunRequest(spec=spec, environ={"PATH": "/usr/bin:/bin"}))
            secret = Identity(paths.key.read_bytes()).secret(agent.id)
            ours = f"http://127.0.0.1:{(await client.status()).port}/a/{secret}/mcp"
            await reached(port)
            await compare(ours, f"http://127.0.0.1:{port}/mcp", calls)
    finally:
        bare.kill()
        with anyio.CancelScope(shield=True):
            await bare.aclose()
            await anyio.to_thread.run_sync(clean, home, None)


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 200)
