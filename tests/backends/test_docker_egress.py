"""A container on the network ``gateway`` reaches the gateway and nothing else: shown by trying.

Each way of opening the door is tried: from inside the namespace (root), and by a sidecar container, by
root and by an ordinary user who may use Docker.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agenttop.backends import docker_container, netns

from ..conftest import missing
from .docker_fixtures import docker_image  # noqa: F401 - a fixture
from .docker_rig import Rig, docker, free_port, host_port, rig
from .test_ordinary_user import HERE, REPOSITORY, USER, environment, interpreter

pytestmark = [pytest.mark.anyio, pytest.mark.docker]
WGET = 'wget -q -O- "http://127.0.0.1:$PORT/first"'
SOCKET = Path("/run/docker.sock")


@pytest.fixture(params=["namespace", "sidecar"])
async def gated(
    request: pytest.FixtureRequest,
    docker_image: str,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Rig]:
    """The backend, opening doors in one way."""
    if request.param == "namespace" and not netns.may_enter():
        pytest.skip("only root may enter namespaces")
    with tempfile.TemporaryDirectory(prefix="at-") as folder:  # a Unix socket's path must be short
        async with rig(Path(folder), docker_image, free_port(), {"door": request.param}) as made:
            yield made


async def test_a_programs_first_call_finds_the_door_open(gated: Rig) -> None:
    launch = gated.launch("sh", "-c", WGET, network="gateway", env={"PORT": str(gated.doors.port)})
    ref = await gated.backend.start(launch)
    ended = await gated.backend.wait(ref)
    said = await gated.text(launch), await gated.text(launch, stream="err")
    assert (ended.code, said) == (0, ("the gateway answers", ""))
    assert [key for key, _ in gated.doors.requests] == [f"docker:{launch.marker}"]
    await gated.backend.forget(launch, ref)
    assert gated.doors.open == {}


async def test_nothing_of_a_sidecar_stays(gated: Rig) -> None:
    launch = gated.launch("sleep", "600", network="gateway")
    await gated.backend.start(launch)
    state = docker_container.state_label(gated.state)
    assert docker("image", "ls", "-aq", "--filter", f"label=agenttop.door={state}") == ""
    made = docker("ps", "-aq", "--filter", f"label=agenttop.state={state}").split()
    assert len(made) == 1
    assert not list((gated.state / "doors").glob("*"))


async def test_a_kernel_that_lost_the_door_opens_it_anew(gated: Rig) -> None:
    env = {"PORT": str(gated.doors.port)}
    launch = gated.launch("sh", "-c", f"read x; {WGET}", network="gateway", env=env, stdin=True)
    ref = await gated.backend.start(launch)
    await gated.restart(keep_doors=False)
    assert (await gated.backend.adopt(launch, ref)).state == "alive"
    await gated.backend.write(ref, b"\n")
    assert (await gated.backend.wait(ref)).code == 0
    assert await gated.text(launch, follow=True) == "the gateway answers"


async def test_nothing_but_the_gateway_is_reached(gated: Rig) -> None:
    other = gated.launch("sh", "-c", "echo up; exec nc -l -p 8099", network="open")
    ref = await gated.backend.start(other)
    await gated.until_output(other, "up")
    found = json.loads(docker("inspect", ref["name"]))[0]
    neighbour = found["NetworkSettings"]["IPAddress"]
    assert neighbour
    with host_port() as (addresses, accepted):
        tried = [*addresses, f"{neighbour}:8099"]
        script = "; ".join(
            f"timeout 3 wget -q -O- http://{address}/ >/dev/null 2>&1 && echo {address}" for address in tried
        )
        script += "; nslookup example.com >/dev/null 2>&1 && echo dns"
        script += "; nslookup example.com 127.0.0.11 >/dev/null 2>&1 && echo docker-dns"
        script += f"; {WGET} && echo; ip -o addr | grep -v ' lo ' ; echo end"
        env = {"PORT": str(gated.doors.port)}
        launch = gated.launch("sh", "-c", script, network="gateway", env=env)
        await gated.backend.wait(await gated.backend.start(launch))
        said = (await gated.text(launch)).split("\n")
    assert said == ["the gateway answers", "end", ""]
    assert accepted == []


@pytest.mark.root
def test_all_of_it_holds_for_an_ordinary_user_of_docker(docker_image: str) -> None:  # noqa: F811
    if os.geteuid() != 0:
        pytest.skip("the tests above run as an ordinary user already")
    found = SOCKET.stat() if SOCKET.exists() else None
    if found is None or not stat.S_IMODE(found.st_mode) & 0o060 or found.st_gid == 0:
        missing("docker", f"no group but root's may use {SOCKET}")
        return
    python = interpreter()
    folder = tempfile.mkdtemp(prefix="at-user-", dir="/tmp")  # pytest's own is closed to others
    try:
        os.chown(folder, USER, USER)
        command = [
            *("setpriv", f"--reuid={USER}", f"--regid={USER}", f"--groups={found.st_gid}", "--no-new-privs"),
            *(python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--basetemp={folder}/tmp"),
            *(f"--rootdir={REPOSITORY}", "-k", "sidecar", str(HERE / "test_docker_egress.py")),
        ]
        env = environment(folder)
        done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=110)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert " passed" in done.stdout
    finally:
        shutil.rmtree(folder)


async def test_what_a_killed_kernels_sidecar_left_is_swept(gated: Rig) -> None:
    state = docker_container.state_label(gated.state)
    left = docker(
        *("create", "--label", "agenttop.door=x", "--label", f"agenttop.state={state}", gated.image, "true")
    ).strip()
    try:
        await gated.backend.start(gated.launch("sleep", "600", network="gateway"))
        remaining = docker("ps", "-aq", "--no-trunc", "--filter", "label=agenttop.door=x").split()
        assert (left in remaining) is (gated.settings["door"] == "namespace")
    finally:
        docker("rm", "-f", left)
