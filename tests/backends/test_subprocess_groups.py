"""Control groups that nobody lives in any more are removed, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from agenttop.backends import cgroups, runs, signals
from agenttop.core.backend import Launch, state_name

from ..conftest import missing
from .rig import until
from .subprocess_rig import SubprocessRig

pytestmark = pytest.mark.anyio


def own_groups(state: Path) -> list[Path]:
    """The folders of a state folder in all hierarchies."""
    return sorted(Path("/sys/fs/cgroup").rglob(f"agenttop-{state_name(state)}"))


@pytest.mark.root
async def test_the_last_to_leave_removes_the_groups_and_one_with_agents_keeps_theirs(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    rig = SubprocessRig(tmp_path / "state")
    ended = rig.launch(("true",), nice=3)
    await rig.wait(await rig.start(ended))
    live = rig.sh("echo on; exec sleep 600", nice=3)
    ref = await rig.start(live)
    await rig.said(live, "on")
    await rig.restart_kernel()
    for path in runs.load_groups(live.folder).values():
        assert str(ref["pid"]) in Path(path, "cgroup.procs").read_text().split()
    # The kernel is killed, and then its agents: the next one clears up when it leaves.
    for process in await rig.backend.processes(ref):
        assert signals.send(process.pid, process.start_time, signal.SIGKILL)
    await until(lambda: not members(live), "an empty group")
    assert own_groups(rig.state) != []
    assert (await rig.adopt(live, ref)).state == "ended"
    await rig.backend.close()
    assert own_groups(rig.state) == []
    await rig.finish()


def members(launch: Launch) -> list[str]:
    """Who is in the groups of a run."""
    folders = runs.load_groups(launch.folder).values()
    return [pid for folder in folders for pid in Path(folder, "cgroup.procs").read_text().split()]


@pytest.mark.root
async def test_what_killed_kernels_left_is_removed_when_it_is_old_and_empty(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    rig = SubprocessRig(tmp_path / "state")
    base = (await rig.backend.capabilities()) and cgroups.choose(rig.state, {}).bases.get("tree")
    if base is None:
        missing("cgroup2", "no version 2 group can be written here")
    old, used = Path(base, f"agenttop-{os.urandom(6).hex()}"), Path(base, f"agenttop-{os.urandom(6).hex()}")
    (old / "run").mkdir(parents=True)
    (used / "run").mkdir(parents=True)
    sleeper = subprocess.Popen(["sleep", "600"])  # noqa: ASYNC220 - somebody else's agent
    try:
        (used / "run" / "cgroup.procs").write_text(str(sleeper.pid))
        await rig.restart_kernel()
        await rig.backend.capabilities()
        assert old.exists(), "it may be about to be used"
        for group in (old / "run", old, used / "run", used):
            os.utime(group, (0, 0))
        await rig.restart_kernel()
        await rig.backend.capabilities()
        assert (old.exists(), (used / "run").exists()) == (False, True)
    finally:
        sleeper.kill()
        sleeper.wait()
        cgroups.remove([str(old), str(used)])
        await rig.finish()
