"""Verbs that meet in the middle, clients that leave, and a journal that fails between two steps."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from agenttop.backends.subprocess import SubprocessBackend
from agenttop.core.agents.spec import AgentSpec, OutputLimits, Restart, RestartMode
from agenttop.core.agents.trimming import prune
from agenttop.core.api import FleetRequest, PauseRequest, RemoveRequest, StopRequest, Target
from agenttop.core.client import KernelClient
from agenttop.core.errors import JournalUnavailable
from agenttop.core.journal.writer import Writer
from agenttop.core.kernel import Kernel
from agenttop.core.store import unavailable

from .conftest import ENVIRON, KernelMaker, sh, until, until_processes, until_state

pytestmark = pytest.mark.anyio

DEAF = "trap '' TERM; while :; do sleep 0.05; done"


async def kinds(client: KernelClient, ref: str) -> list[str]:
    return [event.kind async for event in client.events(refs=[ref])]


def full() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


class Disk:
    """The journal's disk, which can be made to refuse."""

    def __init__(self, kernel: Kernel, patch: pytest.MonkeyPatch) -> None:
        self.full = False
        insert, probe = Writer._insert, Writer._probe

        def refuse(action: Callable[..., None]) -> Callable[..., None]:
            def act(writer: Writer, *args: object) -> None:
                if self.full:
                    raise full()
                action(writer, *args)

            return act

        patch.setattr(Writer, "_insert", refuse(insert))

        def probing(writer: Writer) -> None:
            if self.full:
                raise unavailable(kernel.paths.journal, full())
            probe(writer)

        patch.setattr(Writer, "_probe", probing)


@pytest.fixture
def disk(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(kernel, monkeypatch)


async def test_a_client_that_leaves_in_the_grace_does_not_cut_the_stop(client: KernelClient) -> None:
    await client.run(sh(DEAF, stop_grace=0.6))
    await until_processes(client, "hello", 3)
    with anyio.move_on_after(0.2):
        await client.stop(StopRequest(refs=["hello"]))
    assert (await client.inspect("hello")).info.state != "terminated"
    [ended] = await client.wait(["hello"], timeout=10)
    assert (ended.state, ended.detail) == ("terminated", "stopped")

    async def proven() -> bool:
        return "KillProven" in await kinds(client, "hello")

    await until(proven)


async def test_a_client_that_leaves_during_a_start_leaves_a_running_agent(client: KernelClient) -> None:
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run, sh("sleep 600"))
            await anyio.lowlevel.checkpoint()  # the verb has begun
            scope.cancel()

    async def running() -> bool:
        return any(agent.pid for agent in await client.agents())

    await until(running)


async def test_a_kill_ends_what_a_stop_waits_for(client: KernelClient) -> None:
    await client.run(sh(DEAF, stop_grace=60))
    await until_processes(client, "hello", 3)
    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(20):
            tasks.start_soon(client.stop, StopRequest(refs=["hello"]))

            async def stopping() -> bool:
                return "StopRequested" in await kinds(client, "hello")

            await until(stopping)
            [outcome] = await client.stop(StopRequest(refs=["hello"], how="kill"))
            assert outcome.error is None
            [ended] = await client.wait(["hello"])
    assert (ended.state, ended.detail) == ("terminated", "killed")


async def test_up_twice_at_once_makes_one_fleet_and_fails_nobody(client: KernelClient) -> None:
    specs = [AgentSpec(name=f"a{n}", command=["sleep", "600"], cwd="/tmp") for n in range(5)]
    done: list[list[str]] = []

    async def up() -> None:
        outcomes = await client.up(FleetRequest(fleet="/x", specs=specs, environ=ENVIRON))
        done.append([outcome.done for outcome in outcomes])

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(up)
    assert sorted(done) == [["created"] * 5, ["unchanged"] * 5, ["unchanged"] * 5]


async def test_remove_and_restart_at_once_leave_no_run_without_an_agent(
    client: KernelClient, kernel: Kernel
) -> None:
    for number in range(5):
        name = f"a{number}"
        await client.run(sh("exec sleep 600", name))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.restart, Target(refs=[name]))
            await anyio.sleep(number * 0.005)
            tasks.start_soon(client.remove, RemoveRequest(refs=[name], force=True))
    assert set(kernel.supervisor.runs) <= set(kernel.books.committed.agents)
    for agent in kernel.books.committed.agents.values():
        assert agent.live == (agent.id in kernel.supervisor.runs)
    removed = set(kernel.supervisor._locks) - set(kernel.books.committed.agents)
    assert removed == set()


async def test_a_first_input_that_is_never_read_does_not_block_the_kill(
    client: KernelClient, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel.launcher, "first_input", lambda agent: b"x" * (4 << 20))
    with anyio.fail_after(20):
        await client.run(sh("exec sleep 600", stdin=True))
        [outcome] = await client.stop(StopRequest(refs=["hello"], how="kill"))
    assert outcome.error is None


async def test_a_journal_that_fails_after_the_spawn_loses_no_run(
    client: KernelClient, kernel: Kernel, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = kernel.backends.get("subprocess")
    start = backend.start

    async def filling(launch: object) -> object:
        ref = await start(launch)  # type: ignore[arg-type]
        disk.full = True
        return ref

    monkeypatch.setattr(backend, "start", filling)
    with pytest.raises(JournalUnavailable, match="The disk is full"):
        await client.run(sh("exec sleep 600"))
    disk.full = False

    async def recorded() -> bool:
        return kernel.books.problem == "" and "RunStarted" in await kinds(client, "hello")

    await until(recorded)
    info = (await client.inspect("hello")).info
    assert info.pid is not None
    assert (await kinds(client, "hello")).count("RunStarted") == 1


async def test_a_program_can_be_killed_while_the_journal_takes_nothing(
    client: KernelClient, disk: Disk
) -> None:
    always = Restart(policy=RestartMode.ALWAYS, backoff=0.01)
    await client.run(sh("exec sleep 600", restart=always))
    disk.full = True
    [outcome] = await client.stop(StopRequest(refs=["hello"], how="kill"))
    assert outcome.error is not None
    assert outcome.error["code"] == "journal_unavailable"
    assert "not written down yet" in outcome.error["what"]
    disk.full = False
    ended = await until_state(client, "hello", "terminated")
    assert (ended.run, ended.detail) == (1, "killed")


async def test_a_restart_that_was_due_while_the_disk_was_full_comes_after(
    client: KernelClient, disk: Disk, tmp_path: Path
) -> None:
    policy = Restart(policy=RestartMode.ON_FAILURE, backoff=0.3)
    await client.run(
        sh(f"[ -e {tmp_path}/once ] && exec sleep 600; : > {tmp_path}/once; exit 1", restart=policy)
    )

    async def scheduled() -> bool:
        return "RestartScheduled" in await kinds(client, "hello")

    await until(scheduled)
    disk.full = True
    await anyio.sleep(0.6)  # the back-off is over, and the start was refused
    disk.full = False
    await client.pause(PauseRequest(refs=["nobody"]))

    async def again() -> bool:
        return (await client.inspect("hello")).info.run == 2

    await until(again)


async def test_one_agent_s_unforeseen_failure_leaves_the_others_verbs_alone(
    client: KernelClient, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await client.run(sh("exec sleep 600", "first"))
    await client.run(sh("exec sleep 600", "second"))
    backend = kernel.backends.get("subprocess")
    freeze = backend.freeze

    async def broken(ref: dict[str, object]) -> object:
        if str(ref["marker"]).startswith(first.id):
            raise OSError(5, "Input/output error")
        return await freeze(ref)

    monkeypatch.setattr(backend, "freeze", broken)
    outcomes = await client.pause(PauseRequest(refs=["first", "second"]))
    assert [outcome.error is None for outcome in outcomes] == [False, True]
    assert (await client.inspect("first")).info.state != "paused"
    assert (await client.inspect("second")).info.state == "paused"


async def test_a_reboot_ends_all_runs_and_policies_apply(
    kernels: KernelMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = Restart(policy=RestartMode.ON_FAILURE, backoff=0.05)
    async with kernels(boot="before", leave=True) as kernel:
        client = kernel.client()
        await client.run(sh("exec sleep 600", "stays-ended"))
        await client.run(sh("exec sleep 600", "comes-back", restart=policy))
        pids = [agent.pid for agent in await client.agents()]
    # The processes really live on here, under what the backend takes for another boot.
    monkeypatch.setitem(SubprocessBackend.__init__.__kwdefaults__, "boot_id", lambda: "after")
    async with kernels(boot="after") as kernel:
        client = kernel.client()
        ended = await until_state(client, "stays-ended", "error")
        assert ended.detail == "reboot"

        async def back() -> bool:
            return (await client.inspect("comes-back")).info.run == 2

        await until(back)
    for pid in pids:
        assert pid is not None
        os.killpg(pid, signal.SIGKILL)


def test_ended_runs_outputs_are_bounded_by_size_and_age(tmp_path: Path) -> None:
    for number in range(1, 6):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "out").write_bytes(b"x" * 400_000)
        (folder / "exit").write_text("0")
        os.utime(folder / "out", (number * 100, number * 100))
    prune(tmp_path, OutputLimits(bytes=1_000_000, age=1e8), live=5, now=1_000)
    assert [n for n in range(1, 6) if (tmp_path / str(n) / "out").exists()] == [3, 4, 5]
    prune(tmp_path, OutputLimits(bytes=1_000_000, age=650), live=5, now=1_000)
    assert [n for n in range(1, 6) if (tmp_path / str(n) / "out").exists()] == [4, 5]
    assert all((tmp_path / str(n) / "exit").exists() for n in range(1, 6))
