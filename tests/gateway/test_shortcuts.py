"""Calls that are begun without parsing their heads again, and without a task: same answers, same ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.gateway.shortcuts import alone

from .test_syscalls import answered, call

pytestmark = pytest.mark.anyio


class Begun:
    """Answered when the test says so."""

    def __init__(self, tell: Callable[[int, bytes], None]) -> None:
        self.tell: Callable[[int, bytes], None] | None = tell
        self.gone = anyio.Event()

    @property
    def done(self) -> bool:
        return self.tell is None

    def client_gone(self) -> None:
        self.tell = None
        self.gone.set()

    def client_room(self, room: bool) -> None:
        """Nothing is held back."""

    def answer(self, status: int, body: bytes) -> None:
        tell, self.tell = self.tell, None
        assert tell is not None
        tell(status, body)


class Door:
    """Answers with the size of what it got; begins ``later`` and leaves the answer to the test."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun: list[Begun] = []
        self.came = anyio.Event()

    async def answer(self, agent: str, run: int, name: str, body: bytes) -> tuple[int, bytes]:
        self.asked.append(name)
        return 200, b'{"size": %d}' % len(body)

    def shortcut(self, name: str) -> Callable[..., Begun | None] | None:
        if name == "long":
            return None

        def begin(agent: str, body: bytes, tell: Callable[[int, bytes], None]) -> Begun | None:
            if name == "not.now":
                return None
            begun = Begun(tell)
            self.begun.append(begun)
            if name == "now":
                begun.answer(200, b'{"size": %d}' % len(body))
            self.came.set()
            return begun

        return begin


async def test_the_second_call_with_the_same_head_needs_no_task_whatever_its_length(open_bench: Any) -> None:
    door = Door()
    async with open_bench(syscalls=door) as bench:
        reader, writer = await bench.connect()
        for size in (2, 99, 5, 1000):
            writer.write(call(bench.secret, "now", b"x" * size))
            assert (await answered(reader))[::2] == (200, {"size": size})
        assert door.asked == ["now"]
        assert len(door.begun) == 3
        for name in ("long", "not.now"):
            for size in (1, 20):
                writer.write(call(bench.secret, name, b"x" * size))
                assert (await answered(reader))[::2] == (200, {"size": size})
        assert door.asked == ["now", "long", "long", "not.now", "not.now"]
        writer.close()


async def test_what_comes_in_pieces_or_together_is_answered_in_its_order(open_bench: Any) -> None:
    door = Door()
    async with open_bench(syscalls=door) as bench:
        reader, writer = await bench.connect()
        writer.write(call(bench.secret, "now"))
        await answered(reader)
        whole = call(bench.secret, "now", b"x" * 10)
        for cut in (1, 30, 60, len(whole) - 1):
            writer.write(whole[:cut])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(whole[cut:])
            assert (await answered(reader))[::2] == (200, {"size": 10})
        writer.write(b"".join(call(bench.secret, "now", b"x" * size) for size in (3, 1, 2)))
        assert [(await answered(reader))[2]["size"] for _ in range(3)] == [3, 1, 2]
        writer.close()


async def test_a_call_sent_ahead_waits_for_the_answer_before_it(open_bench: Any) -> None:
    door = Door()
    async with open_bench(syscalls=door) as bench:
        reader, writer = await bench.connect()
        writer.write(call(bench.secret, "later"))
        await answered(reader)
        writer.write(call(bench.secret, "later"))
        with anyio.fail_after(30):
            await door.came.wait()
        writer.write(call(bench.secret, "now", b"x" * 7))
        door.begun[0].answer(429, b'{"error": {}}')
        status, head, _ = await answered(reader)
        assert status == 429
        assert "\r\nRetry-After: 1\r\n" in head
        assert (await answered(reader))[::2] == (200, {"size": 7})
        writer.close()


async def test_the_same_head_from_another_connection_is_looked_at_again(open_bench: Any) -> None:
    door = Door()
    vouched: list[str] = []

    async def vouch(agent: str, key: str, ours: object, theirs: object) -> bool:
        vouched.append(agent)
        return len(vouched) < 2

    async with open_bench(syscalls=door, vouch=vouch) as bench:
        reader, writer = await bench.connect()
        for _ in range(2):
            writer.write(call(bench.secret, "now"))
            assert (await answered(reader))[0] == 200
        other, thief = await bench.connect()
        thief.write(call(bench.secret, "now"))
        assert (await answered(other))[0] == 403
        assert vouched == ["a1", "a1"]
        writer.close()
        thief.close()


async def test_a_client_that_leaves_is_not_answered_and_ends_its_call(open_bench: Any) -> None:
    door = Door()
    async with open_bench(syscalls=door) as bench:
        reader, writer = await bench.connect()
        writer.write(call(bench.secret, "later"))
        await answered(reader)
        writer.write(call(bench.secret, "later"))
        with anyio.fail_after(30):
            await door.came.wait()
            writer.close()
            await door.begun[0].gone.wait()


@pytest.mark.parametrize("grace", [0.0, 30.0])
async def test_the_gateways_end_waits_for_what_is_begun_as_long_as_it_may(
    open_bench: Any, grace: float
) -> None:
    door = Door()
    async with open_bench(syscalls=door) as bench, anyio.create_task_group() as tasks:
        reader, writer = await bench.connect()
        writer.write(call(bench.secret, "later"))
        await answered(reader)
        writer.write(call(bench.secret, "later"))
        with anyio.fail_after(60):
            await door.came.wait()
            tasks.start_soon(bench.gateway.close, grace)
            if grace:
                await anyio.wait_all_tasks_blocked()
                door.begun[0].answer(200, b"{}")
                _, head, _ = await answered(reader)
                assert "\r\nConnection: close\r\n" in head
            else:
                await door.begun[0].gone.wait()
            assert await reader.read() == b""
        writer.close()


# With two lengths a request is refused, so that its head is never one that was seen before.
HEADS = st.sampled_from(["", "Accept: */*\r\n", "X: Content-Length: 4\r\n", "X: a\r\n content-length: 4\r\n"])


@given(HEADS, st.binary(max_size=40), st.binary(max_size=3), st.integers(0, 400))
def test_only_one_whole_request_is_taken_for_one(headers: str, body: bytes, more: bytes, cut: int) -> None:
    whole = call("a" * 32, "bus.send", body, headers=headers)
    found = alone(whole)
    if found is not None:
        head, start = found
        assert whole[start:] == body
        longer = alone(call("a" * 32, "bus.send", body + b"x" * 90, headers=headers))
        assert longer is not None
        assert longer[0] == head
    assert (found is not None) == bool(body)
    if more:
        assert alone(whole + more) is None
    if 0 < cut < len(whole):
        assert alone(whole[:cut]) is None
