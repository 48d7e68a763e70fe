"""The backend contract: one suite, run whole against every backend.

A test module makes a subclass of ``BackendContract`` with a fixture ``rig``::

    class TestMine(BackendContract):
        @pytest.fixture
        async def rig(self, tmp_path):
            rig = MyRig(tmp_path)
            yield rig
            await rig.finish()
"""

from __future__ import annotations

import os
import time

import anyio
import pytest

from agenttop.core.agents.spec import Limits
from agenttop.core.backend import RunRef
from agenttop.core.errors import BackendError

from .contract_control import ControlContract
from .contract_streams import StreamsContract
from .evidence import BURN, alive, goes_on, killed, text
from .rig import DEADLINE, Rig

pytestmark = pytest.mark.anyio


class BackendContract(StreamsContract, ControlContract):
    """Every rule of ``core/backend.py`` that can be seen from outside."""

    # -- start

    async def test_start_makes_a_live_process(self, rig: Rig) -> None:
        ref = await rig.start(rig.launch(("sleep", "600")))
        tree = await rig.backend.processes(ref)
        assert tree
        assert all(alive(process.pid) for process in tree)
        with anyio.fail_after(DEADLINE):
            while not any(process.command.endswith("sleep 600") for process in tree):
                await anyio.sleep(0.01)
                tree = await rig.backend.processes(ref)

    async def test_a_parent_is_listed_before_its_children(self, rig: Rig) -> None:
        launch = rig.sh("sh -c 'sh -c \"echo deep; sleep 600; :\"; :'; :")
        ref = await rig.start(launch)
        await rig.said(launch, "deep")
        with anyio.fail_after(10):
            while True:  # one that is between its fork and its program has no memory of its own yet
                tree = [process for process in await rig.backend.processes(ref) if process.state not in "ZX"]
                if len(tree) >= 4 and all(process.memory > 0 for process in tree):
                    break
                await anyio.sleep(0.01)
        place = {process.pid: index for index, process in enumerate(tree)}
        assert all(place.get(process.ppid, -1) < place[process.pid] for process in tree)
        assert all(process.start_time > 0 for process in tree)

    async def test_ref_is_json(self, rig: Rig) -> None:
        import json

        ref = await rig.start(rig.launch(("sleep", "600")))
        assert json.loads(json.dumps(ref)) == ref

    async def test_a_program_gets_its_arguments_and_environment_unchanged(self, rig: Rig) -> None:
        odd = "a b\n'\"$HOME\\ *"
        script = 'printf "%s|" "$@" "$ODD" "$AGENTTOP_RUN"'
        launch = rig.launch(("sh", "-c", script, "x", odd, ""), env={"ODD": odd})
        ref = await rig.start(launch)
        assert (await rig.wait(ref)).code == 0
        assert text(await rig.read(launch)) == f"{odd}||{odd}|{launch.mark}|".encode()

    async def test_a_shell_builtin_is_not_a_program(self, rig: Rig) -> None:
        with pytest.raises(BackendError):
            await rig.start(rig.launch(("exit", "3")))

    async def test_a_missing_program_starts_nothing(self, rig: Rig) -> None:
        launch = rig.launch(("no-such-program-anywhere", "x"))
        with pytest.raises(BackendError) as error:
            await rig.start(launch)
        assert "no-such-program-anywhere" in str(error.value)
        assert (await rig.adopt(launch, None)).state == "never_started"

    async def test_a_program_without_permission_starts_nothing(self, rig: Rig) -> None:
        launch = rig.launch(("/etc/passwd",))
        with pytest.raises(BackendError) as error:
            await rig.start(launch)
        assert "/etc/passwd" in str(error.value)
        assert (await rig.adopt(launch, None)).state == "never_started"

    async def test_many_starts_at_once(self, rig: Rig) -> None:
        launches = [rig.sh(f"echo run {n}") for n in range(8)]
        refs: dict[int, RunRef] = {}

        async def begin(n: int) -> None:
            refs[n] = await rig.start(launches[n])

        async with anyio.create_task_group() as tasks:
            for n in range(8):
                tasks.start_soon(begin, n)
        for n, launch in enumerate(launches):
            assert (await rig.wait(refs[n])).code == 0
            assert text(await rig.read(launch)) == f"run {n}\n".encode()

    # -- sample

    async def test_sample_shows_what_a_tree_uses(self, rig: Rig) -> None:
        launch = rig.sh(f"(while :; do :; done) & echo on; {BURN}")
        ref = await rig.start(launch)
        await rig.said(launch, "on")
        first = (await rig.backend.sample({"a": ref}))["a"]
        assert first.cpu_seconds is not None
        with anyio.fail_after(DEADLINE):
            while True:
                await anyio.sleep(0.05)
                now = (await rig.backend.sample({"a": ref}))["a"]
                if (now.cpu_seconds or 0) > first.cpu_seconds + 0.1 and (now.pids or 0) >= 2 and now.memory:
                    break

    async def test_sample_leaves_ended_runs_out(self, rig: Rig) -> None:
        live = await rig.start(rig.launch(("sleep", "600")))
        dead = await rig.start(rig.launch(("true",)))
        await rig.wait(dead)
        assert set(await rig.backend.sample({"live": live, "dead": dead})) == {"live"}

    # -- wait

    @pytest.mark.parametrize("code", [0, 1, 7, 255])
    async def test_wait_gives_the_exit_status(self, rig: Rig, code: int) -> None:
        ref = await rig.start(rig.sh(f"exit {code}"))
        ended = await rig.wait(ref)
        assert (ended.code, ended.signal, ended.failed) == (code, None, code != 0)

    async def test_wait_gives_the_signal_a_program_died_of(self, rig: Rig) -> None:
        ref = await rig.start(rig.sh("kill -9 $$"))
        ended = await rig.wait(ref)
        assert (ended.code, ended.signal) in {(137, None), (None, 9)}
        assert ended.failed

    async def test_cancelling_a_wait_leaves_the_run_alone(self, rig: Rig) -> None:
        launch = rig.sh("read x; exit 4", stdin=True)
        ref = await rig.start(launch)
        with anyio.move_on_after(0.1) as scope:
            await rig.backend.wait(ref)
        assert scope.cancelled_caught
        await rig.backend.write(ref, b"\n")
        assert (await rig.wait(ref)).code == 4

    # -- adopt

    async def test_a_run_outlives_a_killed_kernel(self, rig: Rig) -> None:
        orphan = rig.sh("echo on; while :; do echo tick; sleep 0.05; done")
        ref = await rig.start_in_doomed_kernel(orphan)
        adoption = await rig.adopt(orphan, ref)
        assert adoption.state == "alive"
        assert adoption.ref is not None
        before = (await rig.said(orphan, "tick")).count(b"tick")
        await rig.said(orphan, "tick", times=before + 2)
        await killed(rig, adoption.ref, grace=1)
        assert (await rig.wait(adoption.ref)).failed

    async def test_a_run_whose_ref_was_never_recorded_is_found(self, rig: Rig) -> None:
        launch = rig.sh("echo on; exec sleep 600")
        await rig.start_in_doomed_kernel(launch)
        adoption = await rig.adopt(launch, None)
        assert adoption.state == "alive"
        assert adoption.ref is not None
        assert (await rig.backend.freeze(adoption.ref)).complete
        await killed(rig, adoption.ref, grace=0)

    async def test_the_exit_status_of_a_run_that_ended_unseen_is_learnt(self, rig: Rig) -> None:
        launch = rig.sh("echo on; sleep 0.3; exit 9")
        ref = await rig.start_in_doomed_kernel(launch)
        with anyio.fail_after(DEADLINE):
            while (adoption := await rig.backend.adopt(launch, ref)).state == "alive":
                await anyio.sleep(0.05)
        assert (adoption.state, adoption.exit.code) == ("ended", 9)
        again = await rig.adopt(launch, None)
        assert (again.state, again.exit.code) == ("ended", 9)

    async def test_wait_on_an_adopted_run_gives_its_exit_status(self, rig: Rig) -> None:
        launch = rig.sh("echo on; sleep 0.5; exit 8")
        ref = await rig.start_in_doomed_kernel(launch)
        adoption = await rig.adopt(launch, ref)
        if adoption.state == "alive":
            assert adoption.ref is not None
            assert (await rig.wait(adoption.ref)).code == 8
        else:
            assert adoption.exit.code == 8

    async def test_a_run_that_was_never_started_is_known_as_that(self, rig: Rig) -> None:
        assert (await rig.adopt(rig.launch(("sleep", "600")), None)).state == "never_started"

    async def test_stdin_is_still_there_after_a_kernel_restart(self, rig: Rig) -> None:
        launch = rig.launch(("cat",), stdin=True)
        ref = await rig.start(launch)
        await rig.backend.write(ref, b"before\n")
        await rig.restart_kernel()
        adoption = await rig.adopt(launch, ref)
        assert adoption.state == "alive", "the program saw an end of its input"
        assert adoption.ref is not None
        await rig.backend.write(adoption.ref, b"after\n")
        await rig.backend.write(adoption.ref, None)
        assert (await rig.wait(adoption.ref)).code == 0
        assert text(await rig.read(launch, follow=True)) == b"before\nafter\n"

    # -- limits

    async def test_memory_limit_acts_on_the_tree(self, rig: Rig) -> None:
        await self._needs(rig, "memory")
        launch = rig.sh(
            "dd if=/dev/zero of=/dev/null bs=200M count=1; echo exit $?; exec sleep 600",
            limits=Limits(memory=48 << 20),
        )
        await rig.start(launch)
        assert b"exit 0" not in await rig.said(launch, "exit")

    async def test_cpu_limit_acts_on_the_tree(self, rig: Rig) -> None:
        await self._needs(rig, "cpus")
        launch = rig.sh(f"({BURN}) & echo on; {BURN}", limits=Limits(cpus=0.2))
        ref = await rig.start(launch)
        await rig.said(launch, "on")
        first, begin = (await rig.backend.sample({"a": ref}))["a"].cpu_seconds, time.monotonic()
        await anyio.sleep(1.5)
        last, end = (await rig.backend.sample({"a": ref}))["a"].cpu_seconds, time.monotonic()
        assert first is not None
        assert last is not None
        assert (last - first) / (end - begin) < 0.4

    async def test_pids_limit_acts_on_the_tree(self, rig: Rig) -> None:
        await self._needs(rig, "pids")
        burst = "i=0; while [ $i -lt 60 ]; do sleep 600 & i=$((i+1)); done; echo all of them"
        launch = rig.sh(f"sh -c '{burst}'; echo inner $?; exec sleep 600", limits=Limits(pids=20))
        ref = await rig.start(launch)
        seen = await rig.said(launch, "inner")
        assert b"all of them" not in seen
        assert 10 < len(await rig.backend.processes(ref)) <= 20

    async def _needs(self, rig: Rig, limit: str) -> None:
        if limit not in (await rig.backend.capabilities()).limits:
            pytest.skip(f"no {limit} limit on a whole tree here")

    # -- the rest

    async def test_renice_lets_the_run_go_on(self, rig: Rig) -> None:
        launch = rig.sh(f"echo on; {BURN}")
        ref = await rig.start(launch)
        await rig.said(launch, "on")
        await rig.backend.renice(ref, 10)
        assert await goes_on(rig, ref)

    async def test_forget_leaves_nothing(self, rig: Rig) -> None:
        launch = rig.sh("exit 0")
        ref = await rig.start(launch)
        await rig.wait(ref)
        await rig.backend.forget(launch, ref)
        assert rig.leftovers(launch) == []

    async def test_check_has_something_to_say(self, rig: Rig) -> None:
        checks = await rig.backend.check()
        assert checks
        assert all(line.name and line.found for line in checks)

    async def test_closing_the_backend_leaves_runs_alone(self, rig: Rig) -> None:
        ref = await rig.start(rig.launch(("sleep", "600")))
        pids = [process.pid for process in await rig.backend.processes(ref)]
        await rig.restart_kernel()
        assert all(alive(pid) for pid in pids)
        os.kill(pids[0], 0)
