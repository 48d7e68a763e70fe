"""The gateway's doors: a port that never moves, and sockets that outlive the kernel."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core import port
from agenttop.core.doors import GatewayDoors
from agenttop.core.errors import AgentTopError, UsageError
from agenttop.core.kernel import Kernel
from agenttop.core.paths import Paths

pytestmark = pytest.mark.anyio


class Echo:
    """A server in the gateway's place: names the door a byte came through."""

    def __init__(self) -> None:
        self.servers: dict[str, anyio.abc.AsyncResource | object] = {}

    async def serve(self, listener: socket.socket, key: str) -> None:
        import asyncio

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)
            writer.write(key.encode())
            await writer.drain()
            writer.close()

        listener.setblocking(False)
        assert key not in self.servers
        self.servers[key] = await asyncio.start_server(answer, sock=listener)

    async def stop_serving(self, key: str) -> None:
        server = self.servers.pop(key, None)
        if server is not None:
            server.close()  # type: ignore[attr-defined]


async def ask(to: int) -> str:
    async with await anyio.connect_tcp("127.0.0.1", to) as stream:
        await stream.send(b"?")
        return (await stream.receive()).decode()


@pytest.fixture
async def paths(tmp_path: Path) -> AsyncIterator[Paths]:
    made = Paths(config=tmp_path, state=tmp_path / "state")
    made.make_state()
    yield made
    shutil.rmtree(made.state)


async def test_the_port_is_kept_0600_and_outside_the_ephemeral_range(paths: Paths) -> None:
    async with GatewayDoors(paths, Echo()).running() as doors:
        stored = int(paths.port.read_text())
        assert doors.port == stored
        assert stat.S_IMODE(paths.port.stat().st_mode) == 0o600
        low, high = map(int, port.EPHEMERAL.read_text().split())
        assert not low <= stored <= high
        await doors.dismiss()


@given(st.integers(1024, 65_535), st.integers(1024, 65_535))
def test_no_candidate_is_ephemeral(first: int, second: int) -> None:
    low, high = sorted((first, second))
    assert not [p for p in port.candidates(low, high) if low <= p <= high or p < 1024]


async def test_a_call_made_while_no_kernel_serves_waits_and_is_answered_by_the_next(paths: Paths) -> None:
    async with GatewayDoors(paths, Echo()).running() as doors:
        await doors.open()
        assert await ask(doors.port) == "gateway"
        await doors.close()
    answers: list[str] = []

    async def call() -> None:
        answers.append(await ask(doors.port))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        assert answers == []
        async with GatewayDoors(paths, Echo()).running() as again:
            assert again.port == doors.port
            await again.open()
            with anyio.fail_after(5):
                while not answers:
                    await anyio.sleep(0.01)
            await again.close()
            await again.dismiss()
    assert answers == ["gateway"]


async def test_nobody_else_can_listen_while_the_kernel_is_away(paths: Paths) -> None:
    async with GatewayDoors(paths, Echo()).running() as doors:
        pass
    with pytest.raises(OSError, match="in use"):
        port.bind(doors.port)
    async with GatewayDoors(paths, Echo()).running() as again:
        await again.dismiss()


async def test_the_same_port_is_bound_again_when_the_holder_is_gone_too(paths: Paths) -> None:
    async with GatewayDoors(paths, Echo()).running() as doors:
        await doors.dismiss()
    async with GatewayDoors(paths, Echo()).running() as again:
        assert again.port == doors.port
        await again.dismiss()


async def test_a_port_taken_by_somebody_else_is_refused_with_their_name(paths: Paths) -> None:
    async with GatewayDoors(paths, Echo()).running() as doors:
        await doors.dismiss()
    with port.bind(doors.port):
        with pytest.raises(port.PortTaken) as caught:
            async with GatewayDoors(paths, Echo()).running():
                pass
        assert f"pid {os.getpid()}" in str(caught.value)
        assert int(paths.port.read_text()) == doors.port


async def test_a_configured_port_is_chosen_and_cannot_move_afterwards(paths: Paths) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        wanted = free.getsockname()[1]
    async with GatewayDoors(paths, Echo(), wanted).running() as doors:
        assert doors.port == wanted
    with pytest.raises(UsageError, match="cannot move"):
        async with GatewayDoors(paths, Echo(), wanted + 1).running():
            pass
    async with GatewayDoors(paths, Echo()).running() as again:
        await again.dismiss()


async def test_a_broken_port_file_is_an_error_that_names_it(paths: Paths) -> None:
    paths.port.write_text("eighty\n")
    with pytest.raises(AgentTopError, match=str(paths.port)):
        async with GatewayDoors(paths, Echo()).running():
            pass


async def test_a_container_s_door_is_served_again_by_the_next_kernel_until_removed(paths: Paths) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    inside = listener.getsockname()[1]
    async with GatewayDoors(paths, Echo()).running() as doors:
        await doors.open()
        await doors.add("docker:a1", listener)
        assert doors.has("docker:a1")
        assert await ask(inside) == "door:docker:a1"
        await doors.close()
    async with GatewayDoors(paths, Echo()).running() as again:
        assert again.has("docker:a1")
        await again.open()
        assert await ask(inside) == "door:docker:a1"
        await again.remove("docker:a1")
        await again.remove("docker:a1")
        assert not again.has("docker:a1")
        with pytest.raises(OSError):  # noqa: PT011 - refused, by whatever name
            await ask(inside)
        await again.close()
        await again.dismiss()


async def test_a_killed_holder_does_not_interrupt_the_doors(paths: Paths) -> None:
    async with GatewayDoors(paths, Echo()).running() as doors:
        await doors.open()
        first = doors.holder.pid
        assert first is not None
        await anyio.wait_all_tasks_blocked()
        os.kill(first, signal.SIGKILL)
        with anyio.fail_after(10):
            while doors.holder.pid in (None, first):
                await anyio.sleep(0.01)
        assert await ask(doors.port) == "gateway"
        await doors.close()
    async with GatewayDoors(paths, Echo()).running() as again:
        assert again.port == doors.port
        await again.dismiss()


async def test_a_holder_that_cannot_be_kept_alive_is_said_in_status_and_header(kernel: Kernel) -> None:
    assert (kernel.status().healthy, kernel.status().gateway_problem) == (True, "")
    holder = kernel.doors.holder
    killed: set[int] = set()
    with anyio.fail_after(20):
        while not holder.problem:
            if holder.pid is not None and holder.pid not in killed:
                killed.add(holder.pid)
                os.kill(holder.pid, signal.SIGKILL)
            await anyio.sleep(0.01)
    status = kernel.status()
    assert (status.healthy, status.problem) == (False, "")
    assert "holder" in status.gateway_problem
    assert status.gateway_problem in kernel.feed.header("run").problem
