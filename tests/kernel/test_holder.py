"""The holder keeps descriptors while the kernel is away, and leaves when nothing needs it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from agenttop.core import detach, uds
from agenttop.core.errors import Conflict
from agenttop.core.holder import Holder

pytestmark = pytest.mark.anyio


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Path]:
    """A holder socket's path; whatever holds there is dismissed in the end."""
    path = tmp_path / "holder.sock"
    yield path
    shutil.rmtree(tmp_path, ignore_errors=True)  # a holder without its folder leaves by itself


async def until_gone(pid: int, seconds: float = 10.0) -> None:
    began = detach.start_time(pid)
    with anyio.fail_after(seconds):
        while began is not None and detach.start_time(pid) == began and not _is_zombie(pid):
            await anyio.sleep(0.02)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_a_listener_put_is_got_back_after_the_kernel_closed_its_own(place: Path) -> None:
    holder = Holder(place)
    assert await holder.open() == []
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    await holder.put("gateway", listener.fileno())
    listener.close()
    await holder.close()

    caller = socket.create_connection(("127.0.0.1", port))  # waits in the backlog, is not refused
    caller.sendall(b"hello")
    again = Holder(place)
    assert await again.open() == ["gateway"]
    fd = await again.get("gateway")
    assert fd is not None
    with socket.socket(fileno=fd) as back, caller:
        accepted, _ = back.accept()
        with accepted:
            assert accepted.recv(5) == b"hello"
    await again.dismiss()


async def test_a_fifo_write_end_kept_keeps_the_reader_open(place: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "stdin"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(fifo, os.O_WRONLY)
    holder = Holder(place)
    await holder.open()
    await holder.put("stdin:1", writer)
    os.close(writer)
    await holder.close()
    with pytest.raises(BlockingIOError):  # not the end of file: the holder has the write end
        os.read(reader, 1)
    again = Holder(place)
    await again.open()
    await again.drop("stdin:1")
    assert os.read(reader, 1) == b""
    os.close(reader)
    await again.dismiss()


async def test_the_socket_is_private(place: Path) -> None:
    holder = Holder(place)
    await holder.open()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    await holder.dismiss()


async def test_a_dismissed_holder_ends_and_takes_its_socket_along(place: Path) -> None:
    holder = Holder(place)
    await holder.open()
    pid = holder.pid
    assert pid is not None
    await holder.dismiss()
    await until_gone(pid)
    assert not place.exists()


async def test_a_holder_whose_folder_is_removed_ends_by_itself(place: Path) -> None:
    holder = Holder(place)
    await holder.open()
    pid = holder.pid
    assert pid is not None
    await holder.close()
    shutil.rmtree(place.parent)
    await until_gone(pid)


async def test_a_socket_left_by_a_dead_holder_is_replaced(place: Path) -> None:
    uds.bind(place, socket.SOCK_SEQPACKET).close()
    holder = Holder(place)
    await holder.open()
    await holder.put("a", 0)
    assert holder.keys == {"a"}
    await holder.dismiss()


async def test_a_killed_holder_is_replaced_and_given_everything_again(place: Path) -> None:
    holder = Holder(place)
    await holder.open()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await holder.put("gateway", listener.fileno())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(holder.watch)
        await anyio.wait_all_tasks_blocked()
        first = holder.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        with anyio.fail_after(10):
            while holder.pid in (first, None):
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    await holder.close()
    again = Holder(place)
    assert await again.open() == ["gateway"]
    assert again.pid != first
    await again.dismiss()


async def test_a_verb_after_the_holder_was_killed_still_works(place: Path) -> None:
    holder = Holder(place)
    await holder.open()
    await holder.put("a", 0)
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    await until_gone(holder.pid)
    await holder.put("b", 0)
    await holder.close()
    again = Holder(place)
    assert sorted(await again.open()) == ["a", "b"]
    await again.dismiss()


async def test_a_second_kernel_is_turned_away_while_the_first_lives(place: Path) -> None:
    first = Holder(place)
    await first.open()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            Holder(place)._open()
        except Conflict:
            code = 42
        finally:
            os._exit(code)
    _, status = await anyio.to_thread.run_sync(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 42
    await first.dismiss()


async def test_nonsense_does_not_end_the_holder(place: Path) -> None:
    holder = Holder(place)
    await holder.open()
    for nonsense in (b"hello\0x\0y", b"put\0k", b"\0\0", b"a" * 9000, b"get\0k", b"bye"):
        with uds.connect(place, socket.SOCK_SEQPACKET) as link:
            link.send(nonsense)
            assert link.recv(100).startswith(b"refused")
    await holder.put("a", 0)
    assert holder.keys == {"a"}
    await holder.dismiss()


async def test_a_holder_is_in_a_session_of_its_own_and_small(place: Path) -> None:
    holder = Holder(place)
    await holder.open()
    pid = holder.pid
    assert pid is not None
    assert os.getsid(pid) != os.getsid(0)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/comm").read_text().strip() != "agenttop-holder":
        assert time.monotonic() < deadline
        await anyio.sleep(0.01)
    private = sum(
        int(line.split()[1])
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        if line.startswith(("Private_Clean:", "Private_Dirty:"))
    )
    assert private < 8_000, f"{private} kB"
    environ = Path(f"/proc/{pid}/environ").read_text()
    assert all(
        entry.startswith(("PATH=", "PWD=", "_=", "SHLVL=", "OLDPWD="))
        for entry in environ.split("\0")
        if entry
    )
    await holder.dismiss()
