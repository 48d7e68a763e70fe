"""A host that was let in but means no good, or is broken: it is away, and nothing else suffers."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import orjson
import pytest

from agenttop.core import __version__
from agenttop.core.api import Row
from agenttop.core.errors import AgentTopError, KernelUnreachable
from agenttop.core.hosts import dial, line
from agenttop.core.hosts.address import Reach, parse
from agenttop.core.hosts.channels import MOST_KEPT, PIECE, Channel, Garbled
from agenttop.core.hosts.client import HostsClient
from agenttop.core.hosts.host import Host
from agenttop.core.paths import Paths

from ..support.lines import SHELL_FOR_SSH

pytestmark = pytest.mark.anyio

#: What stands for agenttop over there: it greets, wakes as it is told, and answers every request alike.
FAR = """
import os, sys
from agenttop.core.hosts.channels import FrameReader, Kind, frame, greeting
awake, shut, answer, endless = (open(name, "rb").read() for name in sys.argv[1:5])
def say(*frames):
    data = b"".join(frames)
    while data:
        data = data[os.write(1, data):]
say(greeting())
reader = FrameReader()
while data := os.read(0, 65536):
    for kind, number, payload in reader.feed(data):
        if kind == Kind.WAKE:
            say(frame(Kind.AWAKE, 0, awake))
        elif kind == Kind.BEAT:
            say(frame(Kind.BEAT))
        elif kind == Kind.DATA and shut:
            say(frame(Kind.SHUT, number, shut))
        elif kind == Kind.DATA:
            say(frame(Kind.DATA, number, answer))
            while endless:
                say(frame(Kind.DATA, number, endless))
"""

THERE = orjson.dumps({"there": {"version": __version__, "state": "/nowhere", "home": "/", "environ": {}}})


def answer(body: bytes, status: str = "200 OK") -> bytes:
    """An answer of a kernel's."""
    head = f"HTTP/1.1 {status}\r\nagenttop-version: {__version__}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def reach(
    folder: Path, awake: bytes = THERE, shut: bytes = b"", answered: bytes = b"", endless: bytes = b""
) -> Reach:
    """The way to a host of which this is known."""
    folder.mkdir(exist_ok=True)
    words = [sys.executable, str(folder / "far.py")]
    (folder / "far.py").write_text(FAR)
    for name, data in (("awake", awake), ("shut", shut), ("answer", answered), ("endless", endless)):
        (folder / name).write_bytes(data)
        words.append(str(folder / name))
    return Reach(SHELL_FOR_SSH, {"evil": " ".join(words)})


@asynccontextmanager
async def client_of(way: Reach) -> AsyncIterator[HostsClient]:
    async with HostsClient([Host(parse(["evil"])[0], Paths.from_environ(), way)]) as client:
        yield client


@pytest.mark.parametrize(
    "awake", [b"no json", b"[]", b"7", b'{"there": 7}', b'{"there": {}}', b'{"error": 7}', b'{"error": null}']
)
async def test_a_far_side_that_cannot_be_understood_is_an_error(
    home: Path, tmp_path: Path, awake: bytes
) -> None:
    way = reach(tmp_path / "far", awake)
    with pytest.raises(KernelUnreachable, match="evil"):
        dial.call(parse(["evil"])[0], way, asks=False)
    async with client_of(way) as client:
        with pytest.raises(KernelUnreachable, match="evil"):
            await client.agents()


@pytest.mark.parametrize("shut", [b"no json", b"7", b'["error"]'])
async def test_a_channel_that_is_shut_without_sense_ends_the_line(
    home: Path, tmp_path: Path, shut: bytes
) -> None:
    async with client_of(reach(tmp_path / "far", shut=shut)) as client:
        with anyio.fail_after(30), pytest.raises(KernelUnreachable):
            await client.agents()


@pytest.mark.parametrize("body", [b"no json", b"{}", b'[{"id": 7}]', b"7"])
async def test_an_answer_that_makes_no_sense_is_that_host_s_error(
    home: Path, tmp_path: Path, body: bytes
) -> None:
    async with client_of(reach(tmp_path / "far", answered=answer(body))) as client:
        with anyio.fail_after(30), pytest.raises(AgentTopError, match="evil"):
            await client.agents()
        with anyio.fail_after(30), pytest.raises(AgentTopError, match="evil"):
            await client.hosts[0].client.inspect("a")


HEAD = f"HTTP/1.1 200 OK\r\nagenttop-version: {__version__}\r\ncontent-length: 999999999\r\n\r\n".encode()
ROW = orjson.dumps(["delta", 1, 1.0, None, [[7] * len(Row._fields)], []]) + b"\n"


@pytest.mark.parametrize("row", [b"no json\n", b"7\n", b"[]\n", b'["delta", 1]\n', b'{"error": 7}\n', ROW])
async def test_a_table_that_makes_no_sense_makes_a_host_away(home: Path, tmp_path: Path, row: bytes) -> None:
    async with client_of(reach(tmp_path / "far", answered=HEAD + row)) as client:
        async with aclosing(cast("Any", client.watch())) as changes:
            with anyio.fail_after(30):
                async for change in changes:
                    if change.header is not None and change.header.hosts[0].away is not None:
                        break
        assert client.hosts[0].absence is not None


@pytest.mark.parametrize("begins", [HEAD, HEAD.removesuffix(b"\r\n") + b"x-more: "])
async def test_an_answer_without_end_is_given_up(
    home: Path, tmp_path: Path, begins: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "LONGEST", 1 << 20)
    async with client_of(reach(tmp_path / "far", answered=begins, endless=b"y" * 65_536)) as client:
        with anyio.fail_after(30), pytest.raises(KernelUnreachable, match="does not end"):
            await client.agents()


async def test_a_channel_does_not_take_more_than_its_window() -> None:
    wire: list[bytes] = []
    channel = Channel(1, lambda kind, number, payload: wire.append(payload), lambda number: None)
    channel.pause_reading()
    for _ in range(MOST_KEPT // PIECE):
        channel.arrived(bytes(PIECE))
    with pytest.raises(Garbled, match="more than it may"):
        channel.arrived(b"y")


async def test_what_a_host_prints_before_it_greets_does_not_act_on_the_terminal(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    way = reach(tmp_path / "far")
    noise = r"printf '\033]0;mine\007hello\302\233 there\r\n' >&2; "
    way = way._replace(commands={"evil": noise + way.commands["evil"]})
    dial.end(dial.call(parse(["evil"])[0], way, asks=True).process)
    assert capfdbinary.readouterr().err == b"]0;minehello there\r\n"
