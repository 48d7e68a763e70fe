"""A bus with senders and a receiver, until it is killed: ``mailing.py STORE FIRST_VALUE``.

One line for each thing that happened, written when the bus has promised it: ``S`` accepted,
``D`` delivered, ``A`` acknowledged.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
import anyio.lowlevel

from agenttop.core.bus.bus import Bus
from agenttop.core.bus.errors import TooFast
from agenttop.core.bus.message import Draft
from agenttop.core.clock import SystemClock

SENDERS = ("s1", "s2", "s3")


def say(what: str, sender: str, payload: bytes | None) -> None:
    os.write(1, f"{what} {sender} {(payload or b'').decode()}\n".encode())


async def send(bus: Bus, sender: str, first: int) -> None:
    for value in range(first, first + 100_000):
        payload = str(value).encode()
        try:
            await bus.send(sender, "r", Draft(payload), patience=60)
        except TooFast:
            await anyio.sleep(0.005)
        else:
            say("S", sender, payload)


async def receive(bus: Bus) -> None:
    while True:
        for one in await bus.mail.take("r", 30, run=10, wait=60):
            message = one.message
            say("D", message.sender, message.payload)
            # Some are left to be given back, so that redelivery is under fire too.
            if message.seq % 17 == 0 and one.attempt == 1:
                bus.mail.release("r", message.seq)
                break
            await bus.mail.ack("r", [message.seq])
            say("A", message.sender, message.payload)
        else:
            continue
        for letter in list(bus.pipeline.books.names["r"].in_flight):
            if letter.until and not letter.leaving:
                bus.mail.release("r", letter.seq)


async def main(path: Path, first: int) -> None:
    async with await Bus.open(path, SystemClock()) as bus, anyio.create_task_group() as tasks:
        await bus.open_mailbox("r")
        tasks.start_soon(bus.run)
        tasks.start_soon(receive, bus)
        for sender in SENDERS:
            tasks.start_soon(send, bus, sender, first)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
