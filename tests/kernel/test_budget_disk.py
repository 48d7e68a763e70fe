"""Budgets on a disk that fills up in the middle: nothing overspent, nothing reserved for ever."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from tests.support.desk import DeskRig, desk_rig
from tests.support.disks import fill

from agenttop.core.budget.amount import NANOS
from agenttop.core.errors import JournalUnavailable
from agenttop.core.gateway.desk import Refused
from agenttop.core.journal import events as ev
from agenttop.core.journal import fold
from agenttop.core.journal.books import _copy

pytestmark = pytest.mark.anyio


async def heal(rig: DeskRig) -> None:
    """What the kernel's housekeeping does."""
    while True:
        await rig.books.heal()
        await anyio.sleep(0.01)


async def test_a_full_disk_in_the_middle_of_a_race_loses_no_money_and_keeps_no_reservation(
    small_disk: Path,
) -> None:
    names = [f"a{i}" for i in range(20)]
    through = 0
    filled = anyio.Event()

    async def race(rig: DeskRig, agent: str) -> None:
        nonlocal through
        while True:
            try:
                call = await rig.admit(agent, bytes=1_000, output=4_900)  # at most $0.05
            except Refused:
                return
            except JournalUnavailable:
                await rig.books.healthy()
                continue
            account = rig.account()
            assert account.usd + account.reserved_usd <= NANOS
            through += 1
            if through >= 20:
                await filled.wait()
            await rig.settle(call, ev.Usage(input=1_000, output=900))  # $0.01

    async with desk_rig(small_disk) as rig:
        await rig.agents(*names)
        await rig.budget(usd=Decimal(1), action="deny")
        with anyio.fail_after(60):
            async with anyio.create_task_group() as housekeeping:
                housekeeping.start_soon(heal, rig)
                async with anyio.create_task_group() as racers:
                    for agent in names:
                        racers.start_soon(race, rig, agent)
                    while through < 20:
                        await anyio.sleep(0.001)
                    filler = fill(small_disk)
                    filled.set()
                    while not rig.books.problem:
                        await anyio.sleep(0.001)
                    filler.unlink()
                while rig.account().reserved_usd:
                    await anyio.sleep(0.01)
                housekeeping.cancel_scope.cancel()
        account = rig.account()
        spent = sum(agent.total.cost for agent in rig.books.pending.agents.values())
        assert account.usd == round(spent * NANOS)
        assert 0.95 * NANOS <= account.usd <= NANOS
        assert not rig.books.pending.reservations
        assert not any(agent.calls for agent in rig.books.pending.agents.values())
        await rig.books.commit(ev.KernelStopped())
        assert fold.dump(_copy(rig.books.pending)) == fold.dump(rig.books.committed)
