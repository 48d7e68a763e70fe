"""System calls at the agents' door: what reaches who answers them, and what is refused before."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import anyio
import pytest

from agenttop.core.gateway.limits import Limits
from agenttop.core.gateway.providers import Provider

pytestmark = pytest.mark.anyio


class Door:
    """Answers what it was asked; ``park`` waits for ever, and says when that was ended."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, str, bytes]] = []
        self.waiting = anyio.Event()
        self.ended = anyio.Event()

    async def answer(self, agent: str, run: int, name: str, body: bytes) -> tuple[int, bytes]:
        self.asked.append((agent, run, name, body))
        if name == "park":
            self.waiting.set()
            try:
                await anyio.sleep_forever()
            finally:
                self.ended.set()
        return (429, b'{"error": {}}') if name == "full" else (200, json.dumps({"size": len(body)}).encode())

    def shortcut(self, name: str) -> None:
        """Nothing is begun without a task."""


def call(secret: str, name: str, body: bytes = b"{}", method: str = "POST", headers: str = "") -> bytes:
    return (
        f"{method} /a/{secret}/sys/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    ).encode() + body


async def answered(reader: asyncio.StreamReader) -> tuple[int, str, Any]:
    """Status, head and decoded body of the next answer."""
    with anyio.fail_after(30):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        return int(head.split(" ")[1]), head, json.loads(await reader.readexactly(length))


async def test_calls_are_answered_in_this_process_and_in_their_order(open_bench: Any) -> None:
    door = Door()
    async with open_bench(syscalls=door) as bench:
        reader, writer = await bench.connect()
        writer.write(call(bench.secret, "bus.send", b'{"a":1}') + call(bench.secret, "whoami"))
        assert (await answered(reader))[::2] == (200, {"size": 7})
        assert (await answered(reader))[::2] == (200, {"size": 2})
        assert door.asked == [("a1", 3, "bus.send", b'{"a":1}'), ("a1", 3, "whoami", b"{}")]
        assert not bench.provider.seen
        assert not bench.desk.unmetered
        writer.close()


async def test_a_refusal_says_when_to_come_again(open_bench: Any) -> None:
    async with open_bench(syscalls=Door()) as bench:
        reader, writer = await bench.connect()
        writer.write(call(bench.secret, "full"))
        status, head, _ = await answered(reader)
        assert status == 429
        assert "\r\nRetry-After: 1\r\n" in head
        writer.close()


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (call("0" * 32, "whoami"), 403, "wrong_address"),
        (call("SECRET", "whoami", method="PUT"), 405, "wrong_method"),
    ],
)
async def test_what_is_no_call_gets_an_error_in_the_form_of_calls(
    open_bench: Any, request_: bytes, status: int, code: str
) -> None:
    door = Door()
    async with open_bench(syscalls=door) as bench:
        reader, writer = await bench.connect()
        writer.write(request_.replace(b"SECRET", bench.secret.encode()))
        got, _, body = await answered(reader)
        assert (got, body["error"]["code"]) == (status, code)
        assert set(body["error"]) == {"code", "what", "why", "hint"}
        assert not door.asked
        writer.close()


async def test_a_gateway_without_calls_says_so(open_bench: Any) -> None:
    async with open_bench() as bench:
        reader, writer = await bench.connect()
        writer.write(call(bench.secret, "whoami"))
        status, _, body = await answered(reader)
        assert (status, body["error"]["code"]) == (503, "no_syscalls")
        writer.close()


async def test_a_hundred_megabytes_are_refused_before_they_are_read(open_bench: Any) -> None:
    door = Door()
    async with open_bench(syscalls=door) as bench:
        reader, writer = await bench.connect()
        writer.write(
            f"POST /a/{bench.secret}/sys/bus.send HTTP/1.1\r\nContent-Length: 104857600\r\n\r\n".encode()
        )
        status, head, body = await answered(reader)  # not one byte of it was sent
        assert (status, body["error"]["code"]) == (413, "too_large")
        assert "104857600 bytes" in body["error"]["what"]
        assert body["error"]["hint"]
        assert "connection: close" in head.lower()
        assert not door.asked
        writer.close()


async def test_a_body_that_does_not_say_how_long_it_is_is_refused_where_it_gets_too_long(
    open_bench: Any,
) -> None:
    door = Door()
    async with open_bench(syscalls=door, limits=Limits(syscall_bytes=1000, tick_seconds=0.02)) as bench:
        reader, writer = await bench.connect()
        head = f"POST /a/{bench.secret}/sys/bus.send HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode() + (b"200\r\n" + b"x" * 512 + b"\r\n") * 2)
        status, _, body = await answered(reader)
        assert (status, body["error"]["code"]) == (413, "too_large")
        assert not door.asked
        writer.close()


async def test_a_client_that_leaves_ends_its_wait(open_bench: Any) -> None:
    door = Door()
    async with open_bench(syscalls=door) as bench:
        _, writer = await bench.connect()
        writer.write(call(bench.secret, "park"))
        with anyio.fail_after(30):
            await door.waiting.wait()
            writer.close()
            await door.ended.wait()


async def test_the_gateways_end_ends_waits(open_bench: Any) -> None:
    door = Door()
    async with open_bench(syscalls=door) as bench:
        reader, writer = await bench.connect()
        writer.write(call(bench.secret, "park"))
        with anyio.fail_after(30):
            await door.waiting.wait()
            await bench.gateway.close(0)
            assert await reader.read() == b""
            await door.ended.wait()
        writer.close()


async def test_calls_come_through_the_doors_of_containers_too(open_bench: Any, tmp_path: Path) -> None:
    door = Door()
    async with open_bench(syscalls=door) as bench:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "door"))
        listener.listen()
        await bench.gateway.serve(listener, "door:1")
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "door"))
        writer.write(call(bench.secret, "whoami"))
        assert (await answered(reader))[0] == 200
        writer.close()


async def test_a_stolen_secret_makes_no_calls(open_bench: Any) -> None:
    door = Door()

    async def vouch(agent: str, key: str, ours: object, theirs: object) -> bool:
        return False

    async with open_bench(syscalls=door, vouch=vouch) as bench:
        reader, writer = await bench.connect()
        writer.write(call(bench.secret, "whoami"))
        status, _, body = await answered(reader)
        assert (status, body["error"]["code"]) == (403, "wrong_address")
        assert not door.asked
        writer.close()


@pytest.mark.parametrize("name", ["sys", "mcp"])
async def test_no_provider_takes_the_place_of_a_part_of_the_kernel(name: str) -> None:
    with pytest.raises(ValueError, match="the kernel itself"):
        Provider(name=name, protocol="openai", base_url="http://127.0.0.1:1", key_env="K")


async def test_many_waits_hold_up_nobody(open_bench: Any) -> None:
    door = Door()
    async with open_bench(syscalls=door) as bench:
        parked = [await bench.connect() for _ in range(100)]
        for _, writer in parked:
            writer.write(call(bench.secret, "park"))
        with anyio.fail_after(30):
            while len(door.asked) < 100:
                await anyio.sleep(0.002)
        reader, writer = await bench.connect()
        writer.write(call(bench.secret, "whoami"))
        assert (await answered(reader))[0] == 200
        for _, other in [*parked, (reader, writer)]:
            other.close()
