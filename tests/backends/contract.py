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
import signal
import time
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest

from agenttop.core.agents.spec import Limits, OutputLimits
from agenttop.core.backend import Chunk, Process, RunRef, Step
from agenttop.core.errors import BackendError

from .rig import DEADLINE, Rig, until

pytestmark = pytest.mark.anyio

BURN = "while :; do :; done"
#: A child in a session of its own whose parents have ended: only a cgroup or the marker finds it.
DAEMON = "(setsid sh -c 'trap \"\" TERM; echo daemon; while :; do sleep 1; done' &); exec sleep 600"
#: Six workers that start new processes for ever.
STORM = "w() { while :; do sh -c ':' ; done; }; for i in 1 2 3 4 5 6; do w & done; echo storm; wait"
#: Every process lives a moment and starts its successor in a new session: no pid is there twice.
CHAIN = 'n() { setsid sh -c "$S" & }; echo chain; n; exec sleep 600'


def text(chunks: list[Chunk], stream: str = "out") -> bytes:
    return b"".join(chunk.data for chunk in chunks if chunk.stream == stream)


def ticks(processes: list[Process]) -> dict[int, int]:
    """CPU ticks of each process, from /proc and not from the backend."""
    used = {}
    for process in processes:
        try:
            stat = Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        used[process.pid] = int(stat[11]) + int(stat[12])
    return used


def alive(pid: int) -> bool:
    """Whether a process of this id runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in (b"Z", b"X")


async def stands_still(rig: Rig, ref: RunRef, seconds: float = 0.3) -> bool:
    """Whether no process of the tree uses CPU, starts or ends over a while."""
    before = ticks(await rig.backend.processes(ref))
    await anyio.sleep(seconds)
    return ticks(await rig.backend.processes(ref)) == before


async def killed(rig: Rig, ref: RunRef, grace: float) -> tuple[int, list[Step]]:
    """Stop a run, check the proof against /proc; returns how many processes it had."""
    members = [process.pid for process in await rig.backend.processes(ref)]
    steps: list[Step] = []
    with anyio.fail_after(DEADLINE):
        proof = await rig.backend.stop(ref, grace=grace, on_step=steps.append)
    assert proof.survivors == ()
    assert proof.ended == proof.processes
    assert proof.processes >= 1
    assert proof.mechanism
    assert tuple(steps) == proof.steps
    assert steps, "a kill without evidence is not proven"
    assert all(step.what for step in steps)
    assert all(step.ok for step in steps)
    assert [pid for pid in members if alive(pid)] == []
    return proof.processes, steps


class BackendContract:
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
        tree = [process for process in await rig.backend.processes(ref) if process.state not in "ZX"]
        place = {process.pid: index for index, process in enumerate(tree)}
        assert len(tree) >= 4
        assert all(place.get(process.ppid, -1) < place[process.pid] for process in tree)
        assert all(process.start_time > 0 and process.memory > 0 for process in tree)

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

    # -- output

    async def test_output_of_both_streams_is_kept(self, rig: Rig) -> None:
        launch = rig.sh("echo one; echo two >&2; echo three")
        await rig.wait(await rig.start(launch))
        chunks = await rig.read(launch, follow=True)
        assert text(chunks, "out") == b"one\nthree\n"
        assert text(chunks, "err") == b"two\n"

    async def test_output_from_an_offset(self, rig: Rig) -> None:
        launch = rig.sh("printf 0123456789; printf abcdef >&2")
        await rig.wait(await rig.start(launch))
        await rig.read(launch, follow=True)
        chunks = await rig.read(launch, {"out": 4, "err": 6})
        assert text(chunks, "out") == b"456789"
        assert text(chunks, "err") == b""
        assert chunks[0].offset == 4

    async def test_offsets_count_every_byte(self, rig: Rig) -> None:
        launch = rig.sh("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done")
        await rig.start(launch)
        chunks = [chunk for chunk in await rig.read(launch, follow=True) if chunk.stream == "out"]
        position = 0
        for chunk in chunks:
            assert chunk.offset == position
            position += len(chunk.data)
        assert text(chunks).splitlines() == [b"line %d" % n for n in range(20000)]

    async def test_hostile_bytes_arrive_unchanged(self, rig: Rig) -> None:
        launch = rig.sh(r"printf '\033]0;x\007\000\377\200\r\n'")
        await rig.wait(await rig.start(launch))
        assert text(await rig.read(launch, follow=True)) == b"\x1b]0;x\x07\x00\xff\x80\r\n"

    async def test_follow_sees_what_comes_later(self, rig: Rig) -> None:
        launch = rig.sh("echo ready; read line; echo got $line", stdin=True)
        ref = await rig.start(launch)
        await rig.said(launch, "ready")
        seen: list[Chunk] = []
        async with anyio.create_task_group() as tasks:

            async def follow() -> None:
                seen.extend(await rig.read(launch, {"out": 6}, follow=True))

            tasks.start_soon(follow)
            await rig.backend.write(ref, b"later\n")
        assert text(seen) == b"got later\n"

    async def test_cancelling_a_follower_leaves_the_run_alone(self, rig: Rig) -> None:
        launch = rig.sh("echo ready; exec sleep 600")
        ref = await rig.start(launch)
        await rig.said(launch, "ready")
        with anyio.move_on_after(0.1) as scope:
            async with aclosing(rig.backend.output(launch, follow=True)) as chunks:  # type: ignore[type-var]
                async for _ in chunks:
                    pass
        assert scope.cancelled_caught
        assert await rig.backend.processes(ref)

    async def test_output_of_an_ended_run_survives_the_kernel(self, rig: Rig) -> None:
        launch = rig.sh("echo last words")
        await rig.wait(await rig.start(launch))
        await rig.read(launch, follow=True)
        await rig.restart_kernel()
        assert text(await rig.read(launch, follow=True)) == b"last words\n"

    async def test_trim_keeps_the_newest_and_offsets_stay(self, rig: Rig) -> None:
        keep = 1 << 20
        launch = rig.sh(
            "dd if=/dev/zero bs=65536 count=64 2>/dev/null; printf END; read x; printf MORE",
            stdin=True,
            output=OutputLimits(bytes=keep),
        )
        ref = await rig.start(launch)
        total = 64 * 65536 + 3
        await rig.said(launch, "END")
        await rig.backend.trim(launch)
        chunks = [chunk for chunk in await rig.read(launch) if chunk.stream == "out"]
        assert chunks[0].offset > 0
        assert chunks[-1].offset + len(chunks[-1].data) == total
        assert total - chunks[0].offset <= keep * 1.25
        assert text(chunks).endswith(b"END")
        await rig.backend.write(ref, b"\n")
        await rig.wait(ref)
        assert text(await rig.read(launch, {"out": total}, follow=True)) == b"MORE"

    # -- stdin

    async def test_stdin_arrives_and_closes(self, rig: Rig) -> None:
        launch = rig.launch(("cat",), stdin=True)
        ref = await rig.start(launch)
        await rig.backend.write(ref, b"hello\n")
        await rig.backend.write(ref, b"world\n")
        await rig.backend.write(ref, None)
        assert (await rig.wait(ref)).code == 0
        assert text(await rig.read(launch, follow=True)) == b"hello\nworld\n"

    async def test_a_large_write_waits_for_its_reader(self, rig: Rig) -> None:
        launch = rig.sh("sleep 0.3; wc -c", stdin=True)
        ref = await rig.start(launch)
        with anyio.fail_after(DEADLINE):
            await rig.backend.write(ref, b"x" * 1_000_000)
            await rig.backend.write(ref, None)
        await rig.wait(ref)
        assert text(await rig.read(launch, follow=True)).strip() == b"1000000"

    async def test_writing_after_close_is_an_error(self, rig: Rig) -> None:
        ref = await rig.start(rig.sh("cat; exec sleep 600", stdin=True))
        await rig.backend.write(ref, None)
        with pytest.raises(BackendError):
            await rig.backend.write(ref, b"x")

    async def test_without_stdin_a_program_reads_nothing(self, rig: Rig) -> None:
        launch = rig.launch(("cat",))
        ref = await rig.start(launch)
        assert (await rig.wait(ref)).code == 0

    async def test_writing_without_stdin_is_an_error(self, rig: Rig) -> None:
        ref = await rig.start(rig.launch(("sleep", "600")))
        with pytest.raises(BackendError):
            await rig.backend.write(ref, b"x")

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
        assert not await stands_still(rig, ref)

    async def test_thawing_what_is_not_frozen_is_harmless(self, rig: Rig) -> None:
        launch = rig.sh(f"echo on; {BURN}")
        ref = await rig.start(launch)
        await rig.said(launch, "on")
        await rig.backend.thaw(ref)
        assert not await stands_still(rig, ref)

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
        assert not await stands_still(rig, adoption.ref)

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
        assert not await stands_still(rig, ref)

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


def ticks_of(pids: list[int]) -> dict[int, int]:
    return ticks([Process(pid, 0, 0, "", 0.0, 0, "") for pid in pids])
