"""Agents that use the clients while the kernel is killed: nothing is doubled, lost or out of order."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agenttop.core.paths import Paths
from agenttop.core.uds import answers

from .test_cli import Shell
from .test_cli_mail import until

COUNT = 400
KILLED_AT = (60, 230)

SENDER = """
import os, sys, time
from agenttop.core.client import Agent

with Agent() as agent:
    for number in range(int(sys.argv[1])):
        agent.send("receiver", number, wait=60)
        with open(sys.argv[2], "a") as told:
            told.write(f"{number}\\n")
    while not os.path.exists(sys.argv[3]):  # a question that is cut is not asked again by itself
        time.sleep(0.02)
    reply = agent.ask("receiver", "end", timeout=120)
    print(reply.payload, reply.from_person)
"""

RECEIVER = """
import sys
import anyio
from agenttop.core.client import AsyncAgent

async def main():
    async with AsyncAgent() as agent:
        async for message in agent.inbox():
            with open(sys.argv[1], "a") as told:
                told.write(f"{message.id} {message.payload}\\n")
            if message.kind == "request":
                await agent.reply(message, "all of them")
                return

anyio.run(main)
"""


@pytest.fixture
def sh(home: Path, tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    if answers(Paths.from_environ().socket):
        shell("kill", "--all", "--yes")
        assert shell("kernel", "stop").returncode == 0


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def test_neither_client_loses_or_doubles_a_message_over_kills_of_the_kernel(
    sh: Shell, tmp_path: Path
) -> None:
    sent, got, ended = tmp_path / "sent", tmp_path / "got", tmp_path / "ended"
    (tmp_path / "sender.py").write_text(SENDER)
    (tmp_path / "receiver.py").write_text(RECEIVER)
    sh.ok("run", "--name", "receiver", "--", sys.executable, "-P", str(tmp_path / "receiver.py"), str(got))
    sender = [sys.executable, "-P", str(tmp_path / "sender.py"), str(COUNT), str(sent), str(ended)]
    sh.ok("run", "--name", "sender", "--", *sender)
    for mark in KILLED_AT:
        until(lambda mark=mark: len(lines(sent)) >= mark, f"{mark} messages")  # type: ignore[misc]
        os.kill(json.loads(sh.ok("kernel", "status", "--json"))["pid"], signal.SIGKILL)
        sh.ok("ps")
    ended.touch()
    assert sh.ok("wait", "sender", "receiver", "--timeout", "100") == "0\n0\n", sh.ok("logs", "sender")
    assert sh.ok("logs", "sender") == "all of them False\n"
    seen = [line.split() for line in lines(got)]
    # At least once, and seen first in the order in which they were sent.
    assert list(dict.fromkeys(payload for _, payload in seen)) == [*map(str, range(COUNT)), "end"]
    # What came twice was one message, delivered again: no send was doubled.
    assert len({message for message, _ in seen}) == COUNT + 1
