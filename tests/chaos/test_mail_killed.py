"""The kernel killed while agents write to each other over its door: what was acknowledged is delivered, once
for whoever looks at ids, and in order.

``AGENTTOP_TEST_KILLS`` is how often it is killed (a hundred, to be sure), ``AGENTTOP_TEST_RATE`` messages a
second.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from agenttop.core import statekey
from agenttop.core.connect import start_kernel
from agenttop.core.gateway.identity import Identity
from agenttop.core.port import read as read_port

from ..support.mail_line import Line, Refused
from .conftest import Shell

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1_800)]

KILLS = int(os.environ.get("AGENTTOP_TEST_KILLS", "5"))
RATE = float(os.environ.get("AGENTTOP_TEST_RATE", "2000"))
PAIRS = 4
BATCH = 10
PRIORITIES = (4, 9)
DEADLINE = 120.0


class Agent:
    """An agent's side of the door; goes on with the next kernel where one is killed."""

    def __init__(self, sh: Shell, secret: str) -> None:
        self._sh = sh
        self._secret = secret
        self._line: Line | None = None

    async def call(self, name: str, request: Any) -> Any:
        """The answer; ``ConnectionError`` where it is not known whether it was done."""
        if self._line is None:
            self._line = await Line.open(read_port(self._sh.paths.port) or 0, self._secret)
        try:
            return await self._line.call(name, request)
        except ConnectionError:
            self._line = None
            raise

    def leave(self) -> None:
        if self._line is not None:
            self._line.close()


class Ledger:
    """What senders were promised and receivers got."""

    def __init__(self) -> None:
        self.stop = False
        self.accepted: set[tuple[int, int, int]] = set()
        #: Ids of messages in the order in which a receiver first saw them, by sender and priority.
        self.seen: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self.ids: set[str] = set()
        self.again = 0
        self.kills = 0
        self.lost_answers = 0


async def send(agent: Agent, number: int, ledger: Ledger) -> None:
    """Numbers in lists of ten, each once: a list whose answer was lost is not sent again."""
    value = 0
    while not ledger.stop:
        began = anyio.current_time()
        values = range(value, value + BATCH)
        value += BATCH
        sends = [
            {"to": f"r-{number}", "payload": [number, one], "priority": PRIORITIES[one % 2]} for one in values
        ]
        try:
            answers = await agent.call("bus.send", sends)
        except ConnectionError:
            ledger.lost_answers += 1
            await anyio.sleep(0.01)
            continue
        for one, answer in zip(values, answers, strict=True):
            if "id" in answer:
                ledger.accepted.add((number, PRIORITIES[one % 2], one))
            else:
                assert answer["error"]["code"] in ("mailbox_full", "bus_unavailable", "too_fast"), answer
        await anyio.sleep(max(0.0, BATCH * PAIRS / RATE - (anyio.current_time() - began)))


async def receive(agent: Agent, number: int, ledger: Ledger) -> None:
    """Read, look at ids, acknowledge with the next reading; ends with an empty mailbox."""
    ack: list[str] = []
    while True:
        asked = {"limit": 200, "run": 200, "wait": 0 if ledger.stop else 0.5, "ack": ack}
        try:
            got = await agent.call("bus.inbox", asked)
        except ConnectionError:
            ack = []
            await anyio.sleep(0.01)
            continue
        except Refused as refused:
            if refused.error["code"] != "out_of_order":  # the kernel that handed it out is gone
                raise
            ack = []
            continue
        if not got and ledger.stop and not ack:
            return
        for one in got:
            if one["id"] in ledger.ids:
                ledger.again += 1
                continue
            ledger.ids.add(one["id"])
            ledger.seen.setdefault((number, one["priority"]), []).append(
                (int(one["id"][1:]), one["payload"][1])
            )
        ack = [one["id"] for one in got]


async def kill(sh: Shell, ledger: Ledger, until: Callable[[int], Awaitable[None]]) -> None:
    chance = random.Random(20_261_121)
    for number in range(KILLS):
        await until(len(ledger.accepted) + chance.randint(0, int(RATE / 4)))
        sh.kill_kernel()
        ledger.kills = number + 1
        await anyio.to_thread.run_sync(start_kernel, sh.paths)
    await until(len(ledger.accepted) + 100)
    ledger.stop = True


@pytest.fixture
async def agents(sh: Shell) -> AsyncIterator[dict[str, Agent]]:
    """Senders and receivers, whose secrets this process has."""
    sh.paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    sh.paths.config_file.write_text("[gateway]\ncheck_peers = false\n")
    fleet = sh.home / "fleet.toml"
    text = '[agents.{}]\ncount = {}\ncommand = ["sleep", "3600"]\ncwd = "/tmp"\n'
    fleet.write_text(text.format("s", PAIRS) + text.format("r", PAIRS))
    sh.ok("up", "-f", str(fleet))
    identity = Identity(statekey.load(sh.paths.key))
    made = {
        name.replace("-", ""): Agent(sh, identity.secret(agent["id"])) for name, agent in sh.agents().items()
    }
    yield made
    for agent in made.values():
        agent.leave()


async def test_no_acknowledged_message_is_lost_doubled_or_out_of_order_whenever_the_kernel_is_killed(
    sh: Shell, agents: dict[str, Agent]
) -> None:
    ledger = Ledger()

    async def until(count: int) -> None:
        with anyio.fail_after(DEADLINE):
            while len(ledger.accepted) < count:
                await anyio.sleep(0.005)

    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for number in range(1, PAIRS + 1):
            tasks.start_soon(send, agents[f"s{number}"], number, ledger)
            tasks.start_soon(receive, agents[f"r{number}"], number, ledger)
        tasks.start_soon(kill, sh, ledger, until)
    got = {(sender, priority, value) for (sender, priority), seen in ledger.seen.items() for _, value in seen}
    print(
        f"{ledger.kills} kills in {anyio.current_time() - began:.0f} s: {len(ledger.accepted)} accepted, "
        f"{len(got)} delivered, {ledger.again} of them again, {ledger.lost_answers} answers lost"
    )
    assert ledger.kills == KILLS
    assert not ledger.accepted - got, "acknowledged and never delivered"
    for lane, seen in ledger.seen.items():
        assert len({value for _, value in seen}) == len(seen), f"{lane}: one message under two ids"
        assert seen == sorted(seen), f"{lane}: out of order"
        assert [value for _, value in seen] == sorted(value for _, value in seen), f"{lane}: out of order"
