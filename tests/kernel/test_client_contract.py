"""One contract, four ways to the kernel: in its loop, over its socket, from another thread, as a host."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TypeVar, cast

import anyio
import pytest

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.agents.states import Pause
from agenttop.core.api import (
    Delta,
    FleetRequest,
    NiceRequest,
    PauseRequest,
    RemoveRequest,
    SignalRequest,
    Snapshot,
    StopRequest,
    Target,
)
from agenttop.core.client import KernelClient
from agenttop.core.errors import AmbiguousAgent, BackendError, Conflict, KernelUnreachable, NoSuchAgent
from agenttop.core.paths import Paths
from agenttop.core.remote import SocketClient

from .conftest import ENVIRON, KernelMaker, reached, sh, until, until_state

pytestmark = pytest.mark.anyio

T = TypeVar("T")
FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


@pytest.fixture(params=["local", "socket", "embedded", "host"])
async def client(
    request: pytest.FixtureRequest, kernels: KernelMaker, paths: Paths
) -> AsyncIterator[KernelClient]:
    """The same kernel, reached in each way."""
    async with reached(request.param, kernels, paths) as client:
        yield client


def closing(stream: AsyncIterator[T]) -> aclosing[AsyncGenerator[T, None]]:
    return aclosing(cast("AsyncGenerator[T, None]", stream))


async def text(client: KernelClient, ref: str, **options: bool | int | None) -> bytes:
    return b"".join([chunk.data async for chunk in client.output(ref, **options)])  # type: ignore[arg-type]


async def test_status_names_the_kernel(client: KernelClient) -> None:
    status = await client.status()
    assert status.pid == os.getpid()
    assert status.port > 0
    assert status.healthy
    assert status.agents == 0


async def test_run_then_agents_then_inspect_tell_the_same(client: KernelClient) -> None:
    made = await client.run(sh(FOREVER, labels={"team": "a"}))
    assert [info.id for info in await client.agents()] == [made.id]
    detail = await client.inspect("hello")
    assert detail.info.id == made.id
    assert detail.spec.labels == {"team": "a"}
    assert detail.info.pid in (await client.agents())[0].pids
    assert (await client.agents(pids=False))[0].pids == []


async def test_ended_agents_are_listed_with_all_only(client: KernelClient) -> None:
    made = await client.run(sh("exit 4"))
    (ended,) = await client.wait([made.id])
    assert ended.exit_code == 4
    assert await client.agents() == []
    assert [info.exit_code for info in await client.agents(all=True)] == [4]


async def test_an_unknown_reference_is_no_such_agent(client: KernelClient) -> None:
    for ref in ("nobody", "a/b", "../x", "two\nlines", "ü %2F?#", "", "x/output"):
        with pytest.raises(NoSuchAgent):
            await client.inspect(ref)
        with pytest.raises(NoSuchAgent):
            await anext(client.output(ref))
    with pytest.raises(NoSuchAgent):
        await client.wait(["nobody"])


async def test_an_ambiguous_prefix_is_an_error_that_lists_them(client: KernelClient) -> None:
    prefixes: set[str] = set()
    for number in range(17):  # by then two ids begin alike
        made = await client.run(sh("exit 0", name=f"x-{number}"))
        if made.id[0] in prefixes:
            break
        prefixes.add(made.id[0])
    with pytest.raises(AmbiguousAgent):
        await client.inspect(made.id[0])


async def test_a_taken_name_is_a_conflict(client: KernelClient) -> None:
    await client.run(sh(FOREVER))
    with pytest.raises(Conflict):
        await client.run(sh(FOREVER))


async def test_a_missing_program_is_a_backend_error(client: KernelClient) -> None:
    request = sh("").model_copy(
        update={"spec": AgentSpec(name="hello", command=["/no/such/program"], cwd="/tmp")}
    )
    with pytest.raises(BackendError, match="program"):
        await client.run(request)


async def test_verbs_on_several_never_stop_half_way(client: KernelClient) -> None:
    await client.run(sh(FOREVER, name="a"))
    await client.run(sh(FOREVER, name="b"))
    outcomes = await client.pause(PauseRequest(refs=["a", "nobody", "b"]))
    assert [outcome.exit_code for outcome in outcomes] == [0, 3, 0]
    assert outcomes[1].error is not None
    assert outcomes[1].error["code"] == "no_such_agent"
    assert {(await client.inspect(name)).info.state for name in "ab"} == {"paused"}


async def test_hold_freeze_and_resume_show(client: KernelClient) -> None:
    await client.run(sh(FOREVER))
    await client.pause(PauseRequest(refs=["hello"], how=Pause.HOLD))
    assert (await client.inspect("hello")).info.reason == "hold"
    await client.pause(PauseRequest(refs=["hello"]))
    info = (await client.inspect("hello")).info
    assert info.reason == "freeze"
    assert info.frozen is not None
    assert info.frozen[0] == info.frozen[1] >= 1
    await client.resume(Target(all=True))
    await until_state(client, "hello", "executing")


async def test_a_kill_comes_with_its_proof(client: KernelClient) -> None:
    await client.run(sh("trap '' TERM; while :; do sleep 0.05; done"))
    plan = await client.kill_plan(Target(refs=["hello"]))
    assert [info.name for info in plan.agents] == ["hello"]
    (outcome,) = await client.stop(StopRequest(refs=["hello"], how="kill"))
    assert outcome.proof is not None
    assert outcome.proof["survivors"] == []
    assert outcome.proof["processes"] >= 1
    assert outcome.done.startswith("killed")


async def test_signal_restart_nice_and_remove(client: KernelClient) -> None:
    await client.run(sh("trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done"))

    async def ready() -> bool:  # before its trap is set the signal would end it
        return b"ready" in await text(client, "hello")

    async def trapped() -> bool:
        await client.signal(SignalRequest(refs=["hello"], signal=10))
        return b"usr1" in await text(client, "hello")

    await until(ready, "the script being ready")
    await until(trapped, "the trap")
    (done,) = await client.nice(NiceRequest(refs=["hello"], nice=7))
    assert done.error is None
    assert (await client.inspect("hello")).info.nice == 7
    (done,) = await client.restart(Target(refs=["hello"]))
    assert done.error is None
    assert (await client.inspect("hello")).info.run == 2
    (done,) = await client.remove(RemoveRequest(refs=["hello"]))
    assert done.error is not None
    assert done.error["code"] == "conflict"
    (done,) = await client.remove(RemoveRequest(refs=["hello"], force=True))
    assert done.error is None
    assert await client.agents(all=True) == []


async def test_prune_removes_what_ended_only(client: KernelClient) -> None:
    await client.run(sh("exit 0", name="over"))
    await client.wait(["over"])
    await client.run(sh(FOREVER, name="alive"))
    assert [outcome.name for outcome in await client.prune()] == ["over"]
    assert [info.name for info in await client.agents(all=True)] == ["alive"]


async def test_wait_is_over_when_the_time_is(client: KernelClient) -> None:
    await client.run(sh(FOREVER))
    with pytest.raises(TimeoutError):
        await client.wait(["hello"], timeout=0.05)


async def test_a_wait_can_be_given_up(client: KernelClient) -> None:
    await client.run(sh(FOREVER))
    with anyio.move_on_after(0.1) as scope:
        await client.wait(["hello"])
    assert scope.cancelled_caught
    assert (await client.status()).agents == 1


async def test_stdin_is_written_and_closed(client: KernelClient) -> None:
    await client.run(sh("cat", stdin=True))
    await client.write("hello", b"one\n\x00\xff")
    await client.write("hello", b"two\n")
    await client.write("hello", None)
    await client.wait(["hello"])
    assert await text(client, "hello") == b"one\n\x00\xfftwo\n"
    await client.run(sh(FOREVER, name="deaf"))
    with pytest.raises(BackendError):
        await client.write("deaf", b"x")


async def test_output_is_exact_whatever_the_bytes_and_however_much(client: KernelClient) -> None:
    await client.run(sh("head -c 3000000 /dev/urandom | tee /dev/stderr | sha256sum > sum; cat sum >&2",
                        cwd="/tmp" if os.access("/tmp", os.W_OK) else "."))  # fmt: skip
    await client.wait(["hello"])
    streams: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}
    async for chunk in client.output("hello"):
        assert chunk.offset == len(streams[chunk.stream])
        streams[chunk.stream] += chunk.data
    import hashlib

    assert len(streams["err"]) > 3_000_000
    body, told = bytes(streams["err"][:3_000_000]), bytes(streams["err"][3_000_000:])
    assert told.split()[0].decode() == hashlib.sha256(body).hexdigest()
    assert await text(client, "hello", tail=10) == bytes(streams["err"][-10:])


async def test_following_output_goes_on_into_the_next_run_and_ends_with_the_agent(
    client: KernelClient,
) -> None:
    await client.run(
        sh(
            "echo run; sleep 0.2; exit 1",
            restart={"policy": "on-failure", "max_restarts": 1, "backoff": 0.01},
        )
    )
    with anyio.fail_after(20):
        assert await text(client, "hello", follow=True) == b"run\nrun\n"


async def test_a_stream_can_be_left_at_any_time(client: KernelClient) -> None:
    await client.run(sh("while :; do echo x; sleep 0.02; done"))
    async with closing(client.output("hello", follow=True)) as chunks:
        async for _ in chunks:
            break
    async with closing(client.watch()) as changes:
        await anext(changes)
    assert (await client.status()).agents == 1


async def test_events_resume_without_loss_or_repeat(client: KernelClient) -> None:
    for number in range(3):
        await client.run(sh("exit 0", name=f"a{number}"))
        await client.wait([f"a{number}"])
    whole = [event async for event in client.events()]
    seqs = [event.seq for event in whole]
    assert seqs == list(range(1, len(seqs) + 1))
    cut = seqs[len(seqs) // 2]
    rest = [event async for event in client.events(since=cut)]
    assert rest == [event for event in whole if event.seq > cut]
    mine = [event async for event in client.events(refs=["a1"], kinds=["RunExited"])]
    assert [(event.name, event.kind) for event in mine] == [("a1", "RunExited")]
    last = await client.last_events(2)
    assert len(last) == 2
    assert last[0].seq < last[1].seq


async def test_followed_events_arrive_as_they_are_committed(client: KernelClient) -> None:
    since = (await client.status()).seq
    events = closing(client.events(since=since, follow=True))
    seen = []
    async with events as stream, anyio.create_task_group() as tasks:
        tasks.start_soon(client.run, sh("exit 0"))
        with anyio.fail_after(15):
            async for event in stream:
                seen.append(event.kind)
                if event.kind == "RunExited":
                    break
    assert seen[0] == "AgentCreated"


async def test_watch_gives_one_snapshot_then_deltas_that_add_up(client: KernelClient) -> None:
    async with closing(client.watch("total")) as changes:
        first = await anext(changes)
        assert isinstance(first, Snapshot)
        assert first.rows == ()
        assert first.window == "total"
        await client.run(sh(FOREVER))
        rows = {}
        with anyio.fail_after(15):
            async for change in changes:
                assert isinstance(change, Delta)
                rows.update({row.name: row for row in change.rows})
                if "hello" in rows and rows["hello"].state == "executing":
                    break
    row = rows["hello"]
    assert isinstance(row.spark, tuple)
    assert row.backend == "subprocess"


async def test_up_is_idempotent_and_down_takes_it_away(client: KernelClient) -> None:
    specs = [AgentSpec(name=name, command=["/bin/sh", "-c", FOREVER], cwd="/tmp") for name in ("one", "two")]
    request = FleetRequest(fleet="/tmp/fleet.toml", specs=specs, environ=ENVIRON)
    assert {outcome.done for outcome in await client.up(request)} == {"created"}
    assert {outcome.done for outcome in await client.up(request)} == {"unchanged"}
    assert {outcome.name for outcome in await client.down("/tmp/fleet.toml")} == {"one", "two"}
    assert await client.agents(all=True) == []


async def test_templates_and_checks_are_told(client: KernelClient) -> None:
    assert {template.name for template in await client.templates()} >= {"claude"}
    assert {check.group for check in await client.checks()} >= {"subprocess", "kernel"}


async def test_many_questions_at_once_are_all_answered(client: KernelClient) -> None:
    answers: list[int] = []

    async def ask() -> None:
        answers.append((await client.status()).pid)

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(ask)
    assert answers == [os.getpid()] * 50


async def test_supplied_keys_are_taken_and_never_shown(client: KernelClient) -> None:
    await client.supply({"ANTHROPIC_API_KEY": "sk-never-shown"})
    assert "sk-never-shown" not in repr([event async for event in client.events()])


async def test_a_closed_client_says_so(paths: Paths) -> None:
    client = SocketClient(paths.socket)
    await client.close()
    with pytest.raises(KernelUnreachable):
        await client.status()
