"""The contract's rules for acting on a whole tree."""

from __future__ import annotations

import signal
import time

import anyio
import pytest

from agenttop.core.errors import BackendError

from .evidence import BURN, CHAIN, DAEMON, STORM, goes_on, killed, stands_still, text, ticks, ticks_of
from .rig import DEADLINE, Rig, until


class ControlContract:
    """Freeze and thaw, verified; signals; stop and kill, proven."""

    # -- freeze and thaw

    async def test_freeze_stops_every_process_and_thaw_lets_them_run(self, rig: Rig) -> None:
        launch = rig.sh(f"({BURN}) & ({BURN}) & echo on; {BURN}")
        ref = await rig.start(launch)
        await rig.said(launch, "on")
        frozen = await rig.backend.freeze(ref)
        assert frozen.complete
        assert frozen.total >= 3
        assert frozen.mechanism == (await rig.backend.capabilities()).freeze[0]
        assert await stands_still(rig, ref)
        before = ticks(await rig.backend.processes(ref))
        await rig.backend.thaw(ref)
        used = sum(before.values())
        await until(lambda: sum(ticks_of(list(before)).values()) > used, "going on after thaw")

    async def test_freezing_twice_is_harmless(self, rig: Rig) -> None:
        launch = rig.sh(f"echo on; {BURN}")
        ref = await rig.start(launch)
        await rig.said(launch, "on")
        first = await rig.backend.freeze(ref)
        second = await rig.backend.freeze(ref)
        assert first.complete
        assert (second.frozen, second.total) == (first.frozen, first.total)
        await rig.backend.thaw(ref)
        assert await goes_on(rig, ref)

    async def test_thawing_what_is_not_frozen_is_harmless(self, rig: Rig) -> None:
        launch = rig.sh(f"echo on; {BURN}")
        ref = await rig.start(launch)
        await rig.said(launch, "on")
        await rig.backend.thaw(ref)
        assert await goes_on(rig, ref)

    async def test_freeze_finds_a_daemonised_grandchild(self, rig: Rig) -> None:
        launch = rig.sh(f"(setsid sh -c 'echo daemon; {BURN}' &); echo started; exec sleep 600")
        ref = await rig.start(launch)
        await rig.said(launch, "daemon")
        frozen = await rig.backend.freeze(ref)
        assert frozen.complete
        assert frozen.total >= 2
        assert await stands_still(rig, ref)

    async def test_freeze_holds_a_tree_that_forks_all_the_time(self, rig: Rig) -> None:
        launch = rig.sh(STORM)
        ref = await rig.start(launch)
        await rig.said(launch, "storm")
        with anyio.fail_after(DEADLINE):
            frozen = await rig.backend.freeze(ref)
        assert frozen.complete
        assert frozen.total >= 7
        assert await stands_still(rig, ref)

    async def test_a_frozen_run_can_be_thawed_by_the_next_kernel(self, rig: Rig) -> None:
        launch = rig.sh(f"echo on; {BURN}")
        ref = await rig.start(launch)
        await rig.said(launch, "on")
        assert (await rig.backend.freeze(ref)).complete
        await rig.restart_kernel()
        adoption = await rig.adopt(launch, ref)
        assert adoption.state == "alive"
        assert adoption.ref is not None
        assert await stands_still(rig, adoption.ref)
        await rig.backend.thaw(adoption.ref)
        assert await goes_on(rig, adoption.ref)

    # -- signal, stop

    async def test_signal_reaches_the_main_program(self, rig: Rig) -> None:
        launch = rig.sh("trap 'echo usr1' USR1; echo on; while :; do sleep 0.05; done")
        ref = await rig.start(launch)
        await rig.said(launch, "on")
        assert await rig.backend.signal(ref, signal.SIGUSR1) == 1
        await rig.said(launch, "usr1")

    async def test_stop_lets_a_program_end_by_itself(self, rig: Rig) -> None:
        launch = rig.sh("trap 'echo bye; exit 5' TERM; echo on; while :; do sleep 0.05; done")
        ref = await rig.start(launch)
        await rig.said(launch, "on")
        start = time.monotonic()
        await killed(rig, ref, grace=DEADLINE)
        assert time.monotonic() - start < DEADLINE / 2
        assert (await rig.wait(ref)).code == 5
        assert text(await rig.read(launch, follow=True)) == b"on\nbye\n"

    async def test_stop_kills_what_ignores_term(self, rig: Rig) -> None:
        launch = rig.sh("trap '' TERM; echo on; while :; do sleep 1; done")
        ref = await rig.start(launch)
        await rig.said(launch, "on")
        _, steps = await killed(rig, ref, grace=0.3)
        assert any("KILL" in step.what for step in steps)
        assert (await rig.wait(ref)).failed

    async def test_stop_without_grace_kills_at_once(self, rig: Rig) -> None:
        launch = rig.sh("trap 'echo bye; exit 5' TERM; echo on; while :; do sleep 0.05; done")
        ref = await rig.start(launch)
        await rig.said(launch, "on")
        await killed(rig, ref, grace=0)
        ended = await rig.wait(ref)
        assert (ended.code, ended.signal) in {(137, None), (None, 9)}
        assert b"bye" not in text(await rig.read(launch, follow=True))

    async def test_stop_finds_a_daemonised_grandchild(self, rig: Rig) -> None:
        launch = rig.sh(DAEMON)
        ref = await rig.start(launch)
        await rig.said(launch, "daemon")
        processes, _ = await killed(rig, ref, grace=0.3)
        assert processes >= 2

    async def test_stop_kills_a_frozen_tree(self, rig: Rig) -> None:
        launch = rig.sh(f"trap '' TERM; ({BURN}) & echo on; {BURN}")
        ref = await rig.start(launch)
        await rig.said(launch, "on")
        assert (await rig.backend.freeze(ref)).complete
        await killed(rig, ref, grace=0.3)
        assert (await rig.wait(ref)).failed

    async def test_a_frozen_program_may_still_end_by_itself(self, rig: Rig) -> None:
        launch = rig.sh("trap 'exit 6' TERM; echo on; while :; do sleep 0.05; done")
        ref = await rig.start(launch)
        await rig.said(launch, "on")
        assert (await rig.backend.freeze(ref)).complete
        await killed(rig, ref, grace=DEADLINE)
        assert (await rig.wait(ref)).code == 6

    @pytest.mark.parametrize("grace", [0.0, 0.3])
    async def test_stop_kills_what_forks_all_the_time(self, rig: Rig, grace: float) -> None:
        launch = rig.sh("trap '' TERM; " + STORM)
        ref = await rig.start(launch)
        await rig.said(launch, "storm")
        await killed(rig, ref, grace=grace)

    async def test_stop_kills_a_chain_of_sessions(self, rig: Rig) -> None:
        launch = rig.sh(CHAIN, env={"S": 'setsid sh -c "$S" &\n sleep 0.02'})
        ref = await rig.start(launch)
        await rig.said(launch, "chain")
        await killed(rig, ref, grace=0)

    async def test_stop_ends_what_the_main_program_left(self, rig: Rig) -> None:
        launch = rig.sh("(setsid sh -c 'echo daemon; sleep 600; :' >/dev/null &); sleep 600; :")
        ref = await rig.start(launch)
        with anyio.fail_after(DEADLINE):
            while len(await rig.backend.processes(ref)) < 4:
                await anyio.sleep(0.01)
        await killed(rig, ref, grace=1)

    async def test_controlling_an_ended_run_is_an_error(self, rig: Rig) -> None:
        ref = await rig.start(rig.launch(("true",), stdin=True))
        await rig.wait(ref)
        with pytest.raises(BackendError):
            await rig.backend.freeze(ref)
        with pytest.raises(BackendError):
            await rig.backend.thaw(ref)
        with pytest.raises(BackendError):
            await rig.backend.signal(ref, signal.SIGTERM)
        with pytest.raises(BackendError):
            await rig.backend.stop(ref, grace=0)
        with pytest.raises(BackendError):
            await rig.backend.write(ref, b"x")
        assert await rig.backend.processes(ref) == []
