"""The bus under kill -9: what it promised is kept, and nothing it took back comes again."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from agenttop.core.bus.bus import Bus
from agenttop.core.clock import SystemClock

pytestmark = pytest.mark.anyio

KILLS = 15
_CHILD = Path(__file__).with_name("mailing.py")


def life(store: Path, first: int, lines: int) -> list[list[str]]:
    """Run a bus until it has said so many things, kill it, and return all it said."""
    with subprocess.Popen(
        [sys.executable, str(_CHILD), str(store), str(first)], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        said = []
        for line in child.stdout:
            said.append(line)
            if len(said) == lines:
                child.kill()
    assert len(said) >= lines, f"it ended by itself with {child.returncode}"
    return [line.decode().split() for line in said if line.endswith(b"\n")]


def judge(said: Iterable[list[str]]) -> tuple[set[tuple[str, int]], dict[str, list[int]]]:
    """What was accepted, and what each sender's receiver saw for the first time, in order."""
    accepted: set[tuple[str, int]] = set()
    acknowledged: set[tuple[str, int]] = set()
    seen: dict[str, list[int]] = {}
    for what, sender, value in said:
        one = (sender, int(value))
        if what == "S":
            accepted.add(one)
        elif what == "A":
            acknowledged.add(one)
        else:
            assert one not in acknowledged, f"{one} came again after its acknowledgement was durable"
            if one[1] not in seen.setdefault(sender, []):
                seen[sender].append(one[1])
    return accepted, seen


async def test_every_acknowledged_message_is_delivered_in_order_whenever_the_bus_is_killed(
    tmp_path: Path,
) -> None:
    store = tmp_path / "mail.db"
    chance = random.Random(tmp_path.name)
    said: list[list[str]] = []
    for number in range(KILLS):
        said += life(store, number * 1_000_000, chance.randint(1, 600))
    async with await Bus.open(store, SystemClock()) as bus:
        while got := await bus.mail.take("r", 100, run=100):
            for one in got:
                assert one.message.payload is not None
                said.append(["D", one.message.sender, one.message.payload.decode()])
            await bus.mail.ack("r", [one.message.seq for one in got])
        dead = bus.mail.dead("r")
    accepted, seen = judge(said)
    assert dead == []
    assert accepted <= {(sender, value) for sender, values in seen.items() for value in values}
    assert all(values == sorted(values) for values in seen.values())
    assert len(accepted) > KILLS
