"""A dockerd that is stopped, killed and comes back. Never the machine's: each test starts its own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from tests.images import ensure

from agenttop.core.backend import Exit
from agenttop.core.errors import BackendUnavailable

from .docker_fixtures import docker_image, own_dockerd  # noqa: F401 - fixtures
from .docker_rig import PrivateDockerd, Rig, free_port, rig

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.root, pytest.mark.timeout(180)]


@pytest.fixture
async def made(own_dockerd: PrivateDockerd, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Rig]:  # noqa: F811
    image = ensure(own_dockerd.env)
    async with rig(tmp_path, image, free_port(), {"host": own_dockerd.host}) as one:
        yield one


async def test_a_dockerd_stopped_and_back_ends_its_containers_and_that_is_said(
    made: Rig,
    own_dockerd: PrivateDockerd,  # noqa: F811
) -> None:
    launch = made.launch("sh", "-c", "echo before; exec sleep 600")
    ref = await made.backend.start(launch)
    await made.until_output(launch, "before")
    ended: list[Exit] = []

    async def wait() -> None:
        ended.append(await made.backend.wait(ref))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.to_thread.run_sync(own_dockerd.stop)
        with pytest.raises(BackendUnavailable):
            await made.backend.adopt(launch, ref)
        with pytest.raises(BackendUnavailable):
            await made.backend.start(made.launch("true"))
        assert [check.level for check in await made.backend.check()] == ["missing"]
        assert ended == []
        await anyio.to_thread.run_sync(own_dockerd.start)
    assert ended[0].failed
    assert ended[0].detail == "dockerd stopped"
    assert await made.text(launch, follow=True) == "before\n"
    again = made.launch("echo", "the backend works on")
    assert (await made.backend.wait(await made.backend.start(again))).code == 0
    assert await made.text(again) == "the backend works on\n"


async def test_a_killed_dockerd_protects_nobody_and_its_runs_end_when_it_is_back(
    made: Rig,
    own_dockerd: PrivateDockerd,  # noqa: F811
) -> None:
    first, second = made.launch("sleep", "600"), made.launch("sleep", "600")
    doomed, other = await made.backend.start(first), await made.backend.start(second)
    await anyio.to_thread.run_sync(own_dockerd.kill)
    assert len(await made.backend.processes(doomed)) == 2
    assert set(await made.backend.sample({"a": doomed, "b": other})) == {"a", "b"}
    proof = await made.backend.stop(doomed, grace=2)
    assert proof.survivors == ()
    assert proof.processes == 2
    assert await made.backend.processes(doomed) == []
    await anyio.to_thread.run_sync(own_dockerd.start)
    with anyio.fail_after(60):
        assert (await made.backend.wait(doomed)).failed
        assert (await made.backend.wait(other)).failed
    for launch, ref in ((first, doomed), (second, other)):
        await made.backend.forget(launch, ref)
        assert (await made.backend.adopt(launch, None)).state == "never_started"


def test_the_private_dockerd_leaves_nothing_behind(own_dockerd: PrivateDockerd) -> None:  # noqa: F811
    folder = str(own_dockerd.folder)
    own_dockerd.clean()
    assert not os.path.exists(folder)
    assert folder not in Path("/proc/self/mountinfo").read_text()
