"""What only the subprocess backend promises: wrappers, start times, reboots, programs of the machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from agenttop.backends import mounts, output, proc, runs, spawn
from agenttop.backends.subprocess import SubprocessBackend
from agenttop.core.agents.spec import Limits
from agenttop.core.backend import MARKER, BackendContext, Frozen, Killed, Launch, RunRef, mark
from agenttop.core.clock import SystemClock
from agenttop.core.errors import BackendError
from agenttop.core.nice import weight

from ..conftest import missing
from .evidence import alive, text, ticks
from .rig import DEADLINE, until
from .subprocess_rig import SubprocessRig

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[SubprocessRig]:
    state = tmp_path / "state"
    state.mkdir()
    rig = SubprocessRig(state)
    yield rig
    await rig.finish()


@pytest.fixture
async def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SubprocessRig]:
    """As on a machine without control groups: nothing of them is mounted where this process looks."""
    monkeypatch.setattr(mounts, "current", lambda: mounts.parse("", ""))
    state = tmp_path / "state"
    state.mkdir()
    rig = SubprocessRig(state)
    assert (await rig.backend.capabilities()).limits == frozenset()
    yield rig
    await rig.finish()


@pytest.fixture(params=["signal", "best"])
async def either(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[SubprocessRig]:
    """With and without control groups."""
    state = tmp_path / "state"
    state.mkdir()
    rig = SubprocessRig(state, {"freeze": "signal"} if request.param == "signal" else {})
    yield rig
    await rig.finish()


# -- never signal a stranger


def twin(launch: Launch, rig: SubprocessRig) -> Launch:
    """The same agent id and run in another kernel, ``rig``'s."""
    made = rig.sh("echo on; exec sleep 600")
    env = {**made.env, MARKER: mark(launch.agent, launch.run, rig.state)}
    rig.started = [(old, ref) for old, ref in rig.started if old is not made]
    return replace(made, agent=launch.agent, env=env)


async def test_another_kernels_agent_of_the_same_id_is_a_stranger(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = SubprocessRig(tmp_path / "one", {"freeze": "signal"})
    two = SubprocessRig(tmp_path / "two", {"freeze": "signal"})
    try:
        ours = one.sh("echo on; exec sleep 600")
        theirs = twin(ours, two)
        ref, other = await one.start(ours), await two.start(theirs)
        await one.said(ours, "on")
        await two.said(theirs, "on")
        assert (await one.backend.freeze(ref)).total == len(await one.backend.processes(ref)) == 2
        killed = await one.backend.stop(ref, grace=0)
        assert (killed.processes, killed.survivors) == (2, ())
        assert [process.state for process in await two.backend.processes(other)] == ["S", "S"]
    finally:
        await one.finish()
        await two.finish()


async def test_a_run_of_an_older_version_is_adopted_with_its_shorter_mark(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    rig = SubprocessRig(tmp_path / "state", {"freeze": "signal"})
    try:
        new = rig.sh("echo on; setsid sleep 600 & wait")
        old = replace(new, env={**new.env, MARKER: new.marker})
        ref = await rig.start(old)
        await rig.said(old, "on")
        ref = {key: value for key, value in ref.items() if key != "mark"}
        for known in (ref, None):  # with its handle, and when that was lost
            await rig.restart_kernel()
            adoption = await rig.adopt(new, known)
            assert adoption.state == "alive"
            assert adoption.ref is not None
            assert len(await rig.backend.processes(adoption.ref)) == 3
        assert (await rig.backend.stop(adoption.ref, grace=0)).survivors == ()
        assert rig.leftovers(old) == []
    finally:
        await rig.finish()


async def test_a_descendant_with_the_number_of_the_wrapper_is_not_the_wrapper(rig: SubprocessRig) -> None:
    launch = rig.sh("echo on; sleep 600 & wait")
    ref = await rig.start(launch)
    await rig.said(launch, "on")
    noted = runs.identity(launch.folder, (launch.mark,))
    assert noted == (ref["boot"], ref["pid"], ref["start_time"], launch.mark)
    child = next(one.pid for one in await rig.backend.processes(ref) if one.pid != ref["pid"])
    assert proc.marker(child) == launch.mark
    (launch.folder / runs.PID).write_text(f"{ref['boot']}\n{child}\n")
    assert runs.identity(launch.folder, (launch.mark,)) == (ref["boot"], child, 0, "")


@pytest.mark.parametrize("forged", ["start_time", "boot"])
async def test_a_pid_that_is_somebody_elses_now_is_never_touched(rig: SubprocessRig, forged: str) -> None:
    launch = rig.launch(("true",))
    ref = await rig.start(launch)
    await rig.wait(ref)
    await rig.restart_kernel()
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)  # noqa: ASYNC220 - a bare stranger
    try:
        found = proc.stat(stranger.pid)
        assert found is not None
        ref = {**ref, "pid": stranger.pid, "start_time": found.start_time, "groups": {}}
        ref = (
            {**ref, "start_time": found.start_time - 1}
            if forged == "start_time"
            else {**ref, "boot": "another"}
        )
        for control in (
            rig.backend.freeze(ref),
            rig.backend.thaw(ref),
            rig.backend.signal(ref, signal.SIGKILL),
            rig.backend.stop(ref, grace=0),
            rig.backend.renice(ref, 19),
        ):
            with pytest.raises(BackendError):
                await control
        assert await rig.backend.processes(ref) == []
        assert await rig.backend.sample({"a": ref}) == {}
        now = proc.stat(stranger.pid)
        assert now is not None
        assert now.alive
        assert not now.stopped
        assert os.getpriority(os.PRIO_PROCESS, stranger.pid) == os.getpriority(os.PRIO_PROCESS, 0)
    finally:
        stranger.kill()
        stranger.wait()


# -- adopt


async def test_after_a_reboot_every_run_has_ended(rig: SubprocessRig) -> None:
    launch = rig.sh("echo on; exec sleep 600")
    ref = await rig.start(launch)
    await rig.said(launch, "on")
    context = BackendContext(rig.state, SystemClock(), rig.doors)
    after = SubprocessBackend(context, boot_id=lambda: "the next boot")
    for known in (ref, None):
        adoption = await after.adopt(launch, known)
        assert adoption.state == "ended"
        assert (adoption.exit.code, adoption.exit.detail) == (None, "the machine was rebooted")
    with pytest.raises(BackendError):
        await after.stop(ref, grace=0)
    await after.close()
    assert await rig.backend.processes(ref), "the other boot's process of this id was touched"


async def test_a_program_whose_wrapper_was_killed_is_still_its_run(either: SubprocessRig) -> None:
    rig = either
    launch = rig.sh("echo on; while :; do sleep 0.05; done")
    ref = await rig.start_in_doomed_kernel(launch)
    await rig.said(launch, "on")
    os.kill(ref["pid"], signal.SIGKILL)
    await until(lambda: not alive(ref["pid"]), "the wrapper's end")
    adoption = await rig.adopt(launch, ref)
    assert adoption.state == "alive"
    assert adoption.ref is not None
    assert (await rig.backend.freeze(adoption.ref)).complete
    await rig.backend.thaw(adoption.ref)
    assert await rig.backend.signal(adoption.ref, signal.SIGCONT) == 1
    with anyio.move_on_after(0.2) as scope:
        await rig.backend.wait(adoption.ref)
    assert scope.cancelled_caught
    killed = await rig.backend.stop(adoption.ref, grace=0)
    assert killed.survivors == ()
    ended = await rig.wait(adoption.ref)
    assert (ended.code, ended.failed) == (None, True)
    assert ended.detail


async def test_the_death_of_a_wrapper_is_seen_as_a_signal(rig: SubprocessRig) -> None:
    launch = rig.sh("echo on; exec sleep 600")
    ref = await rig.start(launch)
    await rig.said(launch, "on")
    for process in await rig.backend.processes(ref):
        os.kill(process.pid, signal.SIGKILL)
    ended = await rig.wait(ref)
    assert (ended.code, ended.signal) in {(None, 9), (137, None)}


async def test_an_exit_file_cut_short_is_no_exit_status(tmp_path: Path) -> None:
    (tmp_path / runs.EXIT).write_bytes(b"")
    assert runs.exit_code(tmp_path) is None
    (tmp_path / runs.EXIT).write_bytes(b"13")
    assert runs.exit_code(tmp_path) is None
    (tmp_path / runs.EXIT).write_bytes(b"137\n")
    assert runs.exit_code(tmp_path) == 137


# -- the end of a run is the end of its tree


async def test_what_a_program_leaves_behind_ends_with_it(either: SubprocessRig) -> None:
    rig = either
    launch = rig.sh(
        "(setsid sh -c 'trap \"\" TERM; echo daemon; while :; do sleep 1; done' &); sleep 0.3; exit 3"
    )
    ref = await rig.start(launch)
    await rig.said(launch, "daemon")
    assert (await rig.wait(ref)).code == 3
    assert rig.leftovers(launch) == []
    assert await rig.backend.processes(ref) == []


async def test_proof_tells_what_was_done_in_order(rig: SubprocessRig) -> None:
    launch = rig.sh("(trap '' TERM; echo on; while :; do sleep 1; done) & wait")
    ref = await rig.start(launch)
    await rig.said(launch, "on")
    killed = await rig.backend.stop(ref, grace=0.5)
    what = [step.what for step in killed.steps]
    assert what[0].startswith("TERM sent to ")
    assert " ended by themselves" in what[1]
    assert what[2].startswith("KILL sent to ")
    assert killed.steps[-1].evidence.startswith("0 survivors, 0 reparented")
    assert "ignored TERM" in killed.steps[2].evidence


# -- programs


async def test_a_working_folder_must_be_there(rig: SubprocessRig) -> None:
    with pytest.raises(BackendError, match="no such folder"):
        await rig.start(rig.launch(("true",), cwd=str(rig.state / "nowhere")))


async def test_a_script_without_its_interpreter_starts_nothing(rig: SubprocessRig) -> None:
    script = rig.state / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    launch = rig.launch((str(script),))
    with pytest.raises(BackendError, match="/no/such/interpreter"):
        await rig.start(launch)
    assert rig.leftovers(launch) == []


async def test_a_program_is_looked_for_in_its_own_path(rig: SubprocessRig) -> None:
    launch = rig.launch(("mine",))
    program = Path(launch.cwd) / "mine"
    program.write_text("#!/bin/sh\necho found by $0; pwd\n")
    program.chmod(0o755)
    launch.env["PATH"] = f"{launch.cwd}:{launch.env['PATH']}"  # type: ignore[index]
    await rig.wait(await rig.start(launch))
    assert text(await rig.read(launch)) == f"found by {program}\n{launch.cwd}\n".encode()


async def test_variables_with_unusual_names_arrive(rig: SubprocessRig) -> None:
    if shutil.which("bash") is None:
        missing("bash", "the wrapper's shell drops such names")
    launch = rig.launch(("env",), env={"npm_config_//registry/:_x": "1", "A-B": "2"})
    await rig.wait(await rig.start(launch))
    lines = text(await rig.read(launch)).splitlines()
    assert b"npm_config_//registry/:_x=1" in lines
    assert b"A-B=2" in lines


async def test_signals_are_at_their_default_in_a_program(rig: SubprocessRig) -> None:
    launch = rig.launch(("grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"))
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        await rig.wait(await rig.start(launch))
    finally:
        signal.signal(signal.SIGUSR1, before)
    masks = [int(line.split()[1], 16) for line in text(await rig.read(launch)).splitlines()]
    internal = 0b11 << 31  # 32 and 33 are glibc's own: its posix_spawn ignores them
    assert [mask & ~internal for mask in masks] == [0, 0]


async def test_memory_is_limited_per_process_where_groups_cannot(bare: SubprocessRig) -> None:
    launch = bare.sh(
        "dd if=/dev/zero of=/dev/null bs=200M count=1; echo exit $?", limits=Limits(memory=64 << 20)
    )
    await bare.start(launch)
    assert b"exit 0" not in await bare.said(launch, "exit")


async def test_a_limit_that_cannot_be_held_starts_nothing(bare: SubprocessRig) -> None:
    with pytest.raises(BackendError, match="pids"):
        await bare.start(bare.launch(("true",), limits=Limits(pids=10)))


async def test_a_sandbox_keeps_a_program_from_writing_elsewhere(rig: SubprocessRig) -> None:
    if shutil.which("bwrap") is None:
        missing("bwrap", "bubblewrap is not installed")
    launch = rig.sh(
        "echo in > here && echo wrote; (echo out > /etc/agenttop-test) 2>/dev/null || echo refused",
        sandbox=True,
    )
    ref = await rig.start(launch)
    await rig.wait(ref)
    assert text(await rig.read(launch)) == b"wrote\nrefused\n"
    assert not Path("/etc/agenttop-test").exists()
    assert (Path(launch.cwd) / "here").exists()


async def test_a_frozen_sandbox_is_killed_whole(rig: SubprocessRig) -> None:
    if shutil.which("bwrap") is None:
        missing("bwrap", "bubblewrap is not installed")
    launch = rig.sh("echo on; while :; do sleep 1; done", sandbox=True)
    ref = await rig.start(launch)
    await rig.said(launch, "on")
    assert (await rig.backend.freeze(ref)).complete
    assert (await rig.backend.stop(ref, grace=0)).survivors == ()


async def test_a_mechanism_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    backend = SubprocessBackend(
        BackendContext(tmp_path, SystemClock(), SubprocessRig(tmp_path).doors, {"freeze": "magic"})
    )
    with pytest.raises(BackendError, match="magic"):
        await backend.capabilities()
    assert (await backend.check())[0].level == "missing"


async def test_nice_is_given_from_the_start(either: SubprocessRig) -> None:
    launch = either.sh("echo on; exec sleep 600", nice=7)
    ref = await either.start(launch)
    await either.said(launch, "on")
    groups = runs.load_groups(launch.folder)
    if "cpu" in groups:
        shares = Path(groups["cpu"], "cpu.shares")
        assert int(shares.read_text()) == weight(7)
        await either.backend.renice(ref, -5)
        assert int(shares.read_text()) == weight(-5)
    else:
        for process in await either.backend.processes(ref):
            assert os.getpriority(os.PRIO_PROCESS, process.pid) == 7


async def test_a_run_without_a_group_is_niced_with_all_its_threads(rig: SubprocessRig) -> None:
    """A run that began at nice 0 has no group for the CPU; its threads and its session have a nice value."""
    program = (
        "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start(); "
        "print('on', flush=True); time.sleep(600)"
    )
    launch = rig.launch((sys.executable, "-c", program))
    ref = await rig.start(launch)
    await rig.said(launch, "on")
    if "cpu" in runs.load_groups(launch.folder):
        pytest.skip("version 2 groups share the CPU out here")
    for nice in (5, 7):  # one at once after the other, which the system refuses to ordinary users
        await rig.backend.renice(ref, nice)
    processes = await rig.backend.processes(ref)
    threads = [int(name) for one in processes for name in os.listdir(f"/proc/{one.pid}/task")]
    assert len(threads) > len(processes)
    assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {7}
    autogroup = Path(f"/proc/{processes[0].pid}/autogroup")
    if autogroup.exists():
        assert autogroup.read_text().split()[-1] == "7"


@pytest.mark.root
async def test_nice_decides_who_gets_the_cpu(tmp_path: Path) -> None:
    """Two runs that burn one CPU share it by their weights, whichever way nice is given."""
    state = tmp_path / "state"
    state.mkdir()
    rig = SubprocessRig(state)
    try:
        if "cpus" not in (await rig.backend.capabilities()).limits:
            pytest.skip("no control group shares the CPU out here")
        cpu = min(os.sched_getaffinity(0))
        burn = f"taskset -p -c {cpu} $$ >&2; echo on; while :; do :; done"
        begun = []
        for nice in (1, 11):
            launch = rig.sh(burn, nice=nice)
            begun.append(await rig.start(launch))
            await rig.said(launch, "on")
        trees = [await rig.backend.processes(ref) for ref in begun]
        before = [sum(ticks(tree).values()) for tree in trees]
        with anyio.fail_after(60):
            while True:
                used = [sum(ticks(tree).values()) - old for tree, old in zip(trees, before, strict=True)]
                if sum(used) >= 150:  # a second and a half of the CPU
                    break
                await anyio.sleep(0.05)
        assert used[0] / max(1, used[1]) == pytest.approx(weight(1) / weight(11), rel=0.5)
    finally:
        await rig.finish()


# -- output


async def test_a_file_system_without_holes_keeps_the_newest_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_fallocate", lambda *_: -1)
    monkeypatch.setattr(output.ctypes, "get_errno", lambda: 95)
    written = b""
    with (tmp_path / "out").open("ab", buffering=0) as file:
        for n in range(40):
            line = b"%07d\n" % n * 1000
            file.write(line)
            written += line
            output.trim(tmp_path, 32 << 10)
    with anyio.fail_after(DEADLINE):
        chunks = [chunk async for chunk in output.read(tmp_path)]
    assert chunks[0].offset > 0
    assert len(written) - chunks[0].offset >= 32 << 10
    assert text(chunks) == written[chunks[0].offset :]
    kept = sum((tmp_path / name).stat().st_size for name in ("out", "out.old"))
    assert kept <= 3 * (32 << 10)


async def test_trimmed_blocks_go_back_to_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("ab", buffering=0) as file:
        for _ in range(32):
            file.write(os.urandom(1 << 20))
            output.trim(tmp_path, 2 << 20)
    os.sync()
    assert path.stat().st_size == 32 << 20
    assert path.stat().st_blocks * 512 <= 4 << 20


async def test_one_stream_does_not_starve_the_other(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"o" * (4 << 20))
    (tmp_path / "err").write_bytes(b"e" * 1000)
    output.trim(tmp_path, 1 << 20)
    chunks = [chunk async for chunk in output.read(tmp_path)]
    assert text(chunks, "err") == b"e" * 1000
    assert 1 << 19 <= len(text(chunks)) <= 5 << 18


async def test_a_program_that_begins_while_it_is_stopped_hears_of_it(rig: SubprocessRig) -> None:
    """The wrapper's fork takes a TERM that comes before it has become the program."""
    for _ in range(15):
        launch = rig.launch(["sleep", "600"])
        ref = await rig.start(launch)
        killed = await rig.backend.stop(ref, grace=8.0)
        assert killed.survivors == ()
        assert killed.seconds < 4.0


# -- the wrapper's short way to the program


def test_every_builtin_of_this_machine_s_dash_is_known() -> None:
    dash = shutil.which("dash")
    if dash is None:
        missing("dash", "another shell is /bin/sh here")
        return
    folders = [folder for folder in os.environ["PATH"].split(os.pathsep) if os.path.isdir(folder)]
    names = {name for folder in folders for name in os.listdir(folder)} | spawn.BUILTINS
    script = 'for name do case $(command -V "$name") in *builtin*) echo "$name";; esac; done'
    said = subprocess.run([dash, "-c", script, "x", *names], capture_output=True, text=True, check=False)
    assert set(said.stdout.split()) <= spawn.BUILTINS


@pytest.mark.parametrize("name", ["echo", "kill", "ours", "_agenttop_refuse"])
async def test_a_program_of_a_builtin_s_name_is_run_and_not_the_builtin(
    rig: SubprocessRig, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / name).write_text("#!/bin/sh\necho program $0 $*\nexit 7\n")
    (folder / name).chmod(0o755)
    launch = rig.launch((name, "a b"), env={"PATH": f"{folder}:{os.environ['PATH']}"})
    ref = await rig.start(launch)
    assert (await rig.wait(ref)).code == 7
    assert text(await rig.read(launch)) == f"program {folder / name} a b\n".encode()


# -- many at once


async def test_of_several_started_together_one_that_fails_stops_no_other(either: SubprocessRig) -> None:
    launches = [
        either.launch(("sleep", "600")),
        either.launch(("no-such-program-anywhere",)),
        either.launch(("cat",), stdin=True),
        either.launch(("sleep", "600")),
    ]
    first, missing_one, fed, last = await either.backend.start_all(launches)
    assert isinstance(missing_one, BackendError)
    assert "no such program" in str(missing_one)
    for launch, ref in ((launches[0], first), (launches[2], fed), (launches[3], last)):
        assert isinstance(ref, dict), ref
        assert ref["marker"] == launch.marker
        assert (await either.backend.adopt(launch, ref)).state == "alive"
    assert isinstance(fed, dict)
    await either.backend.write(fed, None)
    assert (await either.wait(fed)).code == 0


@pytest.mark.parametrize("count", [40])
async def test_many_trees_frozen_and_killed_at_once_have_each_its_own_proof(
    either: SubprocessRig, count: int
) -> None:
    launches = [either.sh("sleep 600 & sleep 600 & echo on; wait") for _ in range(count)]
    refs = [ref for ref in await either.backend.start_all(launches) if isinstance(ref, dict)]
    assert len(refs) == count
    for launch in launches:
        await either.said(launch, "on")
    frozen: list[Frozen] = []
    killed: list[Killed] = []

    async def freeze(ref: RunRef) -> None:
        frozen.append(await either.backend.freeze(ref))

    async def kill(ref: RunRef) -> None:
        killed.append(await either.backend.stop(ref, grace=0))

    for verb in (freeze, kill):
        async with anyio.create_task_group() as tasks:
            for ref in refs:
                tasks.start_soon(verb, ref)
    assert {(each.frozen, each.total) for each in frozen} == {(4, 4)}
    assert {(each.processes, each.ended, each.survivors) for each in killed} == {(4, 4, ())}
