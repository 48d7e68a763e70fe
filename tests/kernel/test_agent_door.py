"""The agents' door to system calls on a real kernel: bounds, errors, lists of calls, holds and halts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agenttop.core.agents.states import Pause
from agenttop.core.api import PauseRequest, Target
from agenttop.core.kernel import Kernel
from agenttop.core.paths import Paths
from agenttop.core.syscalls import door as doors
from agenttop.core.syscalls.caller import Caller
from agenttop.core.syscalls.door import AgentDoor

from ..support.mail_line import Line, Refused
from .conftest import KernelMaker, sh

pytestmark = pytest.mark.anyio


class Rig:
    """Two agents and the door, spoken to in this process."""

    def __init__(self, kernel: Kernel, ids: dict[str, str]) -> None:
        self.kernel = kernel
        self.ids = ids
        self.door = AgentDoor(kernel)

    async def raw(self, who: str, name: str, body: bytes) -> tuple[int, Any]:
        with anyio.fail_after(60):
            status, answer = await self.door.answer(self.ids[who], 1, name, body)
        return status, orjson.loads(answer)

    async def ask(self, who: str, name: str, request: Any) -> tuple[int, Any]:
        return await self.raw(who, name, orjson.dumps(request))

    async def ok(self, who: str, name: str, request: Any) -> Any:
        status, answer = await self.ask(who, name, request)
        assert status == 200, answer
        return answer


@asynccontextmanager
async def agents(kernels: KernelMaker, *names: str) -> AsyncIterator[Rig]:
    async with kernels() as kernel, anyio.create_task_group() as tasks:
        client = kernel.client()
        ids = {name: (await client.run(sh("exec sleep 600", name))).id for name in names}
        yield Rig(kernel, ids)
        tasks.cancel_scope.cancel()


@pytest.fixture
async def rig(kernels: KernelMaker) -> AsyncIterator[Rig]:
    async with agents(kernels, "a", "b") as rig:
        yield rig


async def test_one_of_a_list_that_is_nested_too_deep_is_told_so(rig: Rig) -> None:
    deep = b'{"to": "b", "payload": ' + b"[" * 400 + b"]" * 400 + b"}"
    status, (bad, good) = await rig.raw("a", "bus.send", b"[" + deep + b', {"to": "b", "payload": 1}]')
    assert (status, bad["error"]["code"]) == (200, "usage")
    assert good["to"] == rig.ids["b"]


async def test_mail_goes_from_agent_to_agent_and_is_acknowledged_with_the_next_reading(rig: Rig) -> None:
    sent = await rig.ok("a", "bus.send", {"to": "b", "payload": {"n": 1}})
    assert sent == {"id": "m1", "to": rig.ids["b"], "receivers": 1, "full": 0, "again": False}
    got = await rig.ok("b", "bus.inbox", {})
    assert [(one["id"], one["sender_name"], one["payload"]) for one in got] == [("m1", "a", {"n": 1})]
    assert await rig.ok("b", "bus.inbox", {"ack": ["m1"]}) == []
    assert await rig.ok("b", "bus.ack", {"ids": ["m1"]}) == {"acked": 0}


async def test_two_acknowledgements_are_harmless_and_one_out_of_order_says_which_is_first(rig: Rig) -> None:
    for number in range(2):
        await rig.ok("a", "bus.send", {"to": "b", "payload": number})
    await rig.ok("b", "bus.inbox", {"limit": 2, "run": 2})
    status, answer = await rig.ask("b", "bus.ack", {"ids": ["m2"]})
    assert (status, answer["error"]["code"]) == (409, "out_of_order")
    assert "m1" in answer["error"]["hint"]
    assert await rig.ok("b", "bus.ack", {"ids": ["m1", "m2"]}) == {"acked": 2}
    assert await rig.ok("b", "bus.ack", {"ids": ["m1", "m2"]}) == {"acked": 0}


@pytest.mark.parametrize(
    ("name", "request_", "status", "code"),
    [
        ("bus.send", {"to": "nobody", "payload": 1}, 404, "no_such_agent"),
        ("bus.send", {"to": "a", "payload": 1}, 400, "bad_message"),
        ("bus.send", {"to": "b"}, 400, "usage"),
        ("bus.send", {"to": "b", "payload": 1, "priority": 10}, 400, "usage"),
        ("bus.send", {"to": "b", "payload": "x" * 300_000}, 400, "bad_message"),
        ("bus.reply", {"request": "m99", "payload": 1}, 409, "conflict"),
        ("bus.ack", {"ids": []}, 400, "usage"),
        ("bus.mailboxes", {}, 403, "forbidden"),
        ("bus.watch", {}, 403, "forbidden"),
        ("no.such", {}, 400, "usage"),
        ("bus.inbox", [{}], 400, "usage"),
        ("bus.send", [{"to": "b", "payload": 1}] * 1001, 400, "usage"),
    ],
)
async def test_what_cannot_be_done_is_an_error_an_agent_can_act_on(
    rig: Rig, name: str, request_: Any, status: int, code: str
) -> None:
    got, answer = await rig.ask("a", name, request_)
    assert (got, answer["error"]["code"]) == (status, code)
    assert answer["error"]["why"] or answer["error"]["hint"]


async def test_what_is_not_json_says_where(rig: Rig) -> None:
    status, answer = await rig.raw("a", "bus.send", b'{"to": "b", "payload": tru}')
    assert (status, answer["error"]["code"]) == (400, "usage")
    assert "column" in answer["error"]["why"]
    status, answer = await rig.raw("a", "bus.send", b"[1, ")
    assert (status, answer["error"]["code"]) == (400, "usage")


async def test_a_list_of_sends_is_answered_one_by_one_and_sent_in_its_order(rig: Rig) -> None:
    sends: list[Any] = [{"to": "b", "payload": n} for n in range(200)]
    sends[7] = {"to": "nobody", "payload": 7}
    sends[9] = {"to": "b", "payload": 9, "wait": 3}
    sends[11] = 5
    answers = await rig.ok("a", "bus.send", sends)
    assert [n for n, one in enumerate(answers) if "error" in one] == [7, 9, 11]
    assert answers[7]["error"]["code"] == "no_such_agent"
    got = await rig.ok("b", "bus.inbox", {"limit": 500, "run": 500})
    assert [one["payload"] for one in got] == [n for n in range(200) if n not in (7, 9, 11)]
    assert [one["id"] for one in got] == [one["id"] for one in answers if "id" in one]


async def test_a_mailbox_nobody_reads_pushes_back_and_has_room_again_when_it_is_read(rig: Rig) -> None:
    limit = rig.kernel.bus.limits.depth
    for start in range(0, limit, 1000):
        await rig.ok(
            "a", "bus.send", [{"to": "b", "payload": n} for n in range(start, min(start + 1000, limit))]
        )
    status, answer = await rig.ask("a", "bus.send", {"to": "b", "payload": "more"})
    assert (status, answer["error"]["code"]) == (429, "mailbox_full")
    assert answer["error"]["hint"]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.ok, "a", "bus.send", {"to": "b", "payload": "more", "wait": 60})
        got = await rig.ok("b", "bus.inbox", {})
        await rig.ok("b", "bus.ack", {"ids": [got[0]["id"]]})


async def test_a_wait_for_mail_ends_with_mail(rig: Rig) -> None:
    found: list[Any] = []

    async def wait() -> None:
        found.extend(await rig.ok("b", "bus.inbox", {"wait": 60}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await rig.ok("a", "bus.send", {"to": "b", "payload": "come"})
    assert [one["payload"] for one in found] == ["come"]


async def test_a_message_that_every_receiver_dies_of_becomes_a_dead_letter(rig: Rig) -> None:
    await rig.ok("a", "bus.send", {"to": "b", "payload": "poison"})
    await rig.ok("a", "bus.send", {"to": "b", "payload": "after"})
    attempts = []
    with anyio.fail_after(60):
        while True:  # each reader ends between delivery and acknowledgement
            got = await rig.ok("b", "bus.inbox", {"visible": 0.02, "wait": 30})
            if got[0]["payload"] == "after":
                break
            attempts.append(got[0]["attempt"])
    assert attempts == list(range(1, rig.kernel.bus.limits.attempts + 1))
    (dead,) = rig.kernel.bus.mail.dead(rig.ids["b"])
    assert "never acknowledged" in dead.reason


async def test_nobody_is_handed_mail_while_the_fleet_is_halted(rig: Rig) -> None:
    await rig.ok("a", "bus.send", {"to": "b", "payload": 1})
    client = rig.kernel.client()
    await client.halt()
    done = anyio.Event()

    async def read() -> None:
        assert [one["payload"] for one in await rig.ok("b", "bus.inbox", {})] == [1]
        done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        assert not done.is_set()
        await client.unhalt()


async def test_a_frozen_agent_takes_no_mail_and_its_leases_do_not_run_out(rig: Rig) -> None:
    """Else mail that came while it was stopped would be given up unread."""
    client = rig.kernel.client()
    await rig.ok("a", "bus.send", {"to": "b", "payload": 1})
    await rig.ok("b", "bus.inbox", {})
    found: list[Any] = []

    async def wait() -> None:
        found.extend(await rig.ok("b", "bus.inbox", {"wait": 60}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await client.pause(PauseRequest(refs=["b"], how=Pause.FREEZE))
        assert rig.kernel.desk.frozen(rig.ids["b"])
        await rig.ok("a", "bus.send", {"to": "b", "payload": 2, "priority": 9})
        mail = rig.kernel.bus.mail
        mail.lapse(rig.kernel.clock.monotonic() + 3600)
        await anyio.wait_all_tasks_blocked()
        assert not found
        await client.resume(Target(refs=["b"]))
    assert found[0]["payload"] == 2


async def test_one_agent_asks_no_more_at_once_and_no_faster_than_it_may(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "AT_ONCE", 2)
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(rig.ask, "b", "bus.inbox", {"wait": 60})
        await anyio.wait_all_tasks_blocked()
        status, answer = await rig.ask("b", "whoami", {})
        assert (status, answer["error"]["code"]) == (429, "too_fast")
        assert (await rig.ask("a", "bus.inbox", {}))[0] == 200
        tasks.cancel_scope.cancel()
    rig.door._rates = doors.Rates(0.001, 2)
    statuses = [(await rig.ask("a", "bus.inbox", {}))[0] for _ in range(3)]
    assert statuses == [200, 200, 429]


async def test_the_door_is_reached_over_the_gateway_with_an_agents_secret(
    kernels: KernelMaker, paths: Paths
) -> None:
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text("[gateway]\ncheck_peers = false\n")
    async with agents(kernels, "a", "b") as rig:
        port = rig.kernel.doors.port
        a, b = [await Line.open(port, rig.kernel.identity.secret(rig.ids[name])) for name in "ab"]
        with anyio.fail_after(60):
            sent = await a.call("bus.send", {"to": "b", "payload": "hello"})
            got = await b.call("bus.inbox", {"wait": 30})
            assert [one["id"] for one in got] == [sent["id"]]
            assert (await a.call("whoami", {}))["name"] == "a"
            with pytest.raises(Refused) as refused:
                await a.call("bus.send", {"to": "nobody", "payload": 1})
            assert refused.value.status == 404
        a.close()
        b.close()


@asynccontextmanager
async def lines(kernels: KernelMaker, paths: Paths) -> AsyncIterator[tuple[Rig, Line, Line]]:
    """Connections of ``a`` and ``b`` whose calls are begun without a task."""
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text("[gateway]\ncheck_peers = false\n")
    async with agents(kernels, "a", "b") as rig:
        rig.door = rig.kernel.gateway._parts.syscalls  # type: ignore[assignment]
        port = rig.kernel.doors.port
        a, b = [await Line.open(port, rig.kernel.identity.secret(rig.ids[name])) for name in "ab"]
        with anyio.fail_after(60):
            for line in (a, b):
                await line.call("bus.inbox", {})
            await a.call("bus.send", {"to": "@me", "payload": 1})
            yield rig, a, b
        a.close()
        b.close()
        with anyio.fail_after(60):
            while rig.door._under_way:
                await asyncio.sleep(0.001)


async def test_begun_without_a_task_a_wait_ends_with_mail_or_with_its_time(
    kernels: KernelMaker, paths: Paths
) -> None:
    async with lines(kernels, paths) as (rig, a, b):
        assert await b.call("bus.inbox", {"wait": 0.01}) == []
        waiting = asyncio.ensure_future(b.call("bus.inbox", {"wait": 60}))
        while not rig.kernel.bus.mail._watching:
            await asyncio.sleep(0.001)
        sent = await a.call("bus.send", {"to": "b", "payload": "come"})
        got = await waiting
        assert [(one["id"], one["payload"]) for one in got] == [(sent["id"], "come")]
        assert await b.call("bus.inbox", {"ack": [sent["id"]]}) == []
        assert not rig.kernel.bus.pipeline.books.names[rig.ids["b"]].letters
        with pytest.raises(Refused) as refused:
            await a.call("bus.send", {"to": "nobody", "payload": 1})
        assert refused.value.status == 404


async def test_begun_without_a_task_mail_is_not_handed_to_who_has_left(
    kernels: KernelMaker, paths: Paths
) -> None:
    async with lines(kernels, paths) as (rig, a, b):
        waiting = asyncio.ensure_future(b.call("bus.inbox", {"wait": 60}))
        while not rig.kernel.bus.mail._watching:
            await asyncio.sleep(0.001)
        b.close()
        with pytest.raises(ConnectionResetError):
            await waiting
        while rig.kernel.bus.mail._watching:
            await asyncio.sleep(0.001)
        await a.call("bus.send", {"to": "b", "payload": "kept"})
        (one,) = await rig.ok("b", "bus.inbox", {})
        assert (one["payload"], one["attempt"]) == ("kept", 1)


async def test_begun_without_a_task_nothing_is_handed_out_while_the_agent_is_stopped(
    kernels: KernelMaker, paths: Paths
) -> None:
    async with lines(kernels, paths) as (rig, a, b):
        client = rig.kernel.client()
        waiting = asyncio.ensure_future(b.call("bus.inbox", {"wait": 60}))
        while not rig.kernel.bus.mail._watching:
            await asyncio.sleep(0.001)
        await client.pause(PauseRequest(refs=["b"], how=Pause.FREEZE))
        await a.call("bus.send", {"to": "b", "payload": 1})
        other = await Line.open(rig.kernel.doors.port, rig.kernel.identity.secret(rig.ids["b"]))
        asking = asyncio.ensure_future(other.call("whoami", {}))
        await anyio.wait_all_tasks_blocked()
        assert not waiting.done()
        assert not asking.done()
        await client.resume(Target(refs=["b"]))
        assert [one["payload"] for one in await waiting] == [1]
        assert (await asking)["name"] == "b"
        other.close()


async def test_begun_without_a_task_nothing_is_acknowledged_that_the_disk_did_not_take(
    kernels: KernelMaker, paths: Paths
) -> None:
    async with lines(kernels, paths) as (rig, a, b):
        bus = rig.kernel.bus
        await bus.pipeline.run(lambda db: db.execute("PRAGMA query_only = on") and None)
        with pytest.raises(Refused) as refused:
            await a.call("bus.send", {"to": "b", "payload": "lost"})
        assert (refused.value.status, refused.value.error["code"]) == (503, "bus_unavailable")
        await bus.reopen()
        await a.call("bus.send", {"to": "b", "payload": "kept"})
        assert [one["payload"] for one in await b.call("bus.inbox", {"wait": 30})] == ["kept"]


async def test_begun_without_a_task_a_payload_that_is_not_in_memory_is_read(
    kernels: KernelMaker, paths: Paths
) -> None:
    async with lines(kernels, paths) as (rig, a, b):
        books = rig.kernel.bus.pipeline.books
        sent = await a.call("bus.send", {"to": "b", "payload": {"n": 7}})
        seq = int(sent["id"][1:])
        books.messages[seq] = books.messages[seq]._replace(payload=None)
        assert [one["payload"] for one in await b.call("bus.inbox", {})] == [{"n": 7}]


async def test_begun_without_a_task_an_agent_asks_no_faster_than_it_may(
    kernels: KernelMaker, paths: Paths
) -> None:
    async with lines(kernels, paths) as (rig, a, _):
        rig.door._rates = doors.Rates(0.001, 2)
        statuses = []
        for _number in range(3):
            try:
                await a.call("bus.inbox", {})
                statuses.append(200)
            except Refused as refused:
                statuses.append(refused.status)
        assert statuses == [200, 200, 429]


async def test_mail_to_all_of_a_thousand_does_not_stall_the_kernel(rig: Rig) -> None:
    """The longest stall is printed; what is asserted is that everybody got it."""
    bus = rig.kernel.bus
    await bus.open_mailboxes([f"@p{n}" for n in range(1000)])
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            then = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - then)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        sent = await rig.ok("a", "bus.send", {"to": "*", "payload": "all"})
        tasks.cancel_scope.cancel()
    assert sent["receivers"] >= 1000
    assert all(bus.pipeline.books.names[f"@p{n}"].depth == 1 for n in range(1000))
    print(f"longest stall {longest * 1e3:.1f} ms")


# --- two ways to the same answer ---------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ODD = VALUES | st.sampled_from(["b", "a", "*", "@me", "", "m999", ["m999"], 1, 4, 10, 500, 501])
REQUESTS = st.tuples(
    st.sampled_from(["bus.send", "bus.publish", "bus.inbox", "bus.ack"]),
    st.fixed_dictionaries(
        {},
        optional={
            "to": st.sampled_from(["b", "nobody", "a"]) | ODD, "topic": st.sampled_from(["x/y", ""]) | ODD,
            "payload": VALUES, "type": st.sampled_from(["text", "note", "a b"]) | ODD,
            "priority": st.integers(-1, 10) | ODD, "key": st.sampled_from(["", "k" * 129]) | ODD,
            "limit": st.integers(0, 3) | ODD, "run": st.integers(0, 501) | ODD,
            "ack": st.lists(st.sampled_from(["m998", "m999", "x"]), max_size=2) | ODD,
            "ids": st.lists(st.sampled_from(["m998", "m999", "x"]), max_size=2) | ODD,
            "wait": st.just(0) | st.just(0.0) | st.just(-1),
        },
    ),
)  # fmt: skip
DRAFT = {
    "type": st.sampled_from(["text", "note.x"]),
    "priority": st.integers(0, 9),
    "key": st.text(max_size=3),
}
PLAIN = st.one_of(
    st.tuples(
        st.just("bus.send"),
        st.fixed_dictionaries({"to": st.sampled_from(["b", "@me"]), "payload": VALUES}, optional=DRAFT),
    ),
    st.tuples(
        st.just("bus.publish"),
        st.fixed_dictionaries({"topic": st.sampled_from(["x/y", "z"]), "payload": VALUES}, optional=DRAFT),
    ),
    st.tuples(
        st.just("bus.inbox"),
        st.fixed_dictionaries({}, optional={"limit": st.integers(1, 500), "run": st.integers(1, 500)}),
    ),
)


async def test_the_short_way_answers_as_the_long_one(rig: Rig) -> None:
    await rig.ok("a", "bus.subscribe", {"pattern": "x/*"})
    await rig.ok("b", "bus.send", {"to": "a", "payload": "first"})
    long, short = AgentDoor(rig.kernel), rig.door
    await long._open()
    long._hot = {}
    taken = await compared(rig, long, short)
    assert taken > 20, "hardly anything went the short way"


async def compared(rig: Rig, long: AgentDoor, short: AgentDoor) -> int:
    """Give both doors the same; answers differ in numbers, times and traces only."""
    taken = 0
    examples: list[tuple[str, bytes]] = []

    @settings(max_examples=150, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(PLAIN | REQUESTS, st.booleans())
    def collect(call: tuple[str, dict[str, Any]], ascii_only: bool) -> None:
        name, request = call
        examples.append((name, json.dumps(request, ensure_ascii=ascii_only).encode(errors="replace")))

    collect()
    caller = Caller(rig.ids["a"], "root", 1)
    bus = rig.kernel.bus
    for name, body in examples:
        for door in (long, short):
            door._rates = doors.Rates(1e9, 1 << 30)
        bus.desk.rates = doors.Rates(1e9, 1 << 30)
        answers = []
        for door in (long, short):
            for letter in list(bus.pipeline.books.names[caller.mailbox].in_flight):
                if letter.until and not letter.leaving:
                    letter.attempts = 0
                    bus.pipeline.books.names[caller.mailbox].release(letter.seq)
            status, answer = await door.answer(caller.mailbox, 1, name, body)
            answers.append((status, shape(orjson.loads(answer))))
        assert answers[0] == answers[1], (name, body)
        if answers[0][0] == 200 and name != "bus.ack":
            taken += await doors.awaited(name, short._hot[name], caller, body) is not None
    return taken


def shape(answer: Any) -> Any:
    """An answer without what differs from call to call; with a key, the second one is the first again."""
    if isinstance(answer, list):
        return [shape(one) for one in answer]
    kept = {key: value for key, value in answer.items() if key not in ("at", "trace", "attempt")}
    return {"sent": kept["to"], "full": kept["full"]} if "again" in kept else kept
