"""What a container's proof says of processes that have ended but were not taken leave of."""

from __future__ import annotations

import os
import subprocess

import pytest

from agenttop.backends.docker_cgroup import Identity, alive, read_process, zombie

from .docker_fixtures import docker_image, docker_rig  # noqa: F401 - fixtures
from .docker_rig import Rig

pytestmark = pytest.mark.anyio


def test_a_zombie_has_ended_and_is_told_from_the_dead_and_the_living() -> None:
    child = subprocess.Popen(["sleep", "600"])
    found = read_process(child.pid)
    assert found is not None
    one = Identity(child.pid, found.start_time, "sleep")
    assert (alive(one), zombie(one)) == (True, False)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not taken leave of
    assert (alive(one), zombie(one)) == (False, True)
    assert not zombie(one._replace(start_time=one.start_time + 1))
    child.wait()
    assert (alive(one), zombie(one)) == (False, False)


async def test_the_proof_of_a_container_counts_zombies(docker_rig: Rig) -> None:  # noqa: F811
    launch = docker_rig.launch("sh", "-c", "true & echo on; exec sleep 600")  # sleep takes leave of nobody
    ref = await docker_rig.backend.start(launch)
    await docker_rig.until_output(launch, "on")
    proof = await docker_rig.backend.stop(ref, grace=0)
    (step,) = [step for step in proof.steps if step.what == "cgroup.procs is empty"]
    assert step.evidence.endswith(", 0 zombies")
    assert step.ok
