"""What the docker backend promises beyond the contract: hardening, identity, the gateway's door."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import anyio
import pytest

from agenttop.backends import docker_container, netns
from agenttop.backends.docker_gate import Gate, find_init
from agenttop.core.agents.spec import Limits
from agenttop.core.errors import BackendError, BackendUnavailable
from agenttop.core.nice import weight

from .docker_fixtures import docker_image, docker_rig  # noqa: F401 - fixtures
from .docker_rig import Rig, docker, free_port, host_port, rig, wait_for
from .evidence import ticks

pytestmark = [pytest.mark.anyio, pytest.mark.docker]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to enter network namespaces")
WGET = 'wget -q -O- "http://127.0.0.1:$PORT/first"'


def inspect(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(docker("inspect", name))[0]
    return found


# --- how it is hardened ------------------------------------------------------------------------------


async def test_a_container_is_hardened_by_default(docker_rig: Rig) -> None:  # noqa: F811
    launch = docker_rig.launch("cat", "/proc/1/status")
    ref = await docker_rig.backend.start(launch)
    await docker_rig.backend.wait(ref)
    host = inspect(ref["name"])["HostConfig"]
    assert isinstance(host, dict)
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["ReadonlyRootfs"] is True
    assert host["NetworkMode"] == "none"
    assert host["PidsLimit"] == docker_container.DEFAULT_PIDS
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["AutoRemove"] is False
    status = dict(
        line.split(":\t", 1) for line in (await docker_rig.text(launch)).splitlines() if ":\t" in line
    )
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Uid"].split()[0] != "0"


async def test_limits_of_the_spec_reach_dockerd(docker_rig: Rig) -> None:  # noqa: F811
    limits = {"memory": "64M", "cpus": 0.5, "pids": 50}
    ref = await docker_rig.backend.start(docker_rig.launch("true", limits=limits))
    host = inspect(ref["name"])["HostConfig"]
    assert isinstance(host, dict)
    assert (host["Memory"], host["MemorySwap"]) == (64 << 20, 64 << 20)
    assert (host["NanoCpus"], host["PidsLimit"]) == (500_000_000, 50)


async def test_nice_is_the_containers_share_of_the_cpu(docker_rig: Rig) -> None:  # noqa: F811
    ref = await docker_rig.backend.start(docker_rig.launch("sleep", "600", nice=5))
    pid = docker("inspect", "--format", "{{.State.Pid}}", ref["name"])
    groups = Path(f"/proc/{pid}/cgroup").read_text()
    for nice in (5, -5, 5):
        host = inspect(ref["name"])["HostConfig"]
        assert isinstance(host, dict)
        assert host["CpuShares"] == weight(nice)
        for line in groups.splitlines():
            if "cpu" in line.split(":")[1].split(","):
                shares = Path(f"/sys/fs/cgroup/cpu{line.split(':')[2]}/cpu.shares")
                assert int(shares.read_text()) == weight(nice)
        await docker_rig.backend.renice(ref, -nice)


async def test_no_host_environment_comes_along(docker_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    launch = docker_rig.launch("env", env={"GIVEN": "yes"})
    await docker_rig.backend.wait(await docker_rig.backend.start(launch))
    seen = dict(line.split("=", 1) for line in (await docker_rig.text(launch)).splitlines())
    assert set(seen) == {"GIVEN", "AGENTTOP_RUN", "PATH", "HOSTNAME", "HOME"}


async def test_the_root_is_read_only_and_tmp_is_not(docker_rig: Rig) -> None:  # noqa: F811
    launch = docker_rig.launch("sh", "-c", "touch /work/x || echo refused; touch /tmp/x && echo written")
    await docker_rig.backend.wait(await docker_rig.backend.start(launch))
    assert await docker_rig.text(launch) == "refused\nwritten\n"


async def test_the_workspace_is_writable_and_belongs_to_its_owner(docker_rig: Rig, tmp_path: Path) -> None:  # noqa: F811
    work = tmp_path / "work"
    work.mkdir()
    if os.geteuid() == 0:
        os.chown(work, 4321, 4322)
    launch = docker_rig.launch("sh", "-c", "pwd; id -u; echo done > result", cwd=str(work))
    await docker_rig.backend.wait(await docker_rig.backend.start(launch))
    assert (work / "result").read_text() == "done\n"
    assert (await docker_rig.text(launch)).split() == [str(work), str(work.stat().st_uid)]


async def test_the_kernels_own_folder_is_hidden_from_a_workspace_around_it(docker_rig: Rig) -> None:  # noqa: F811
    secret = docker_rig.state / "key"
    secret.write_text("the state key")
    launch = docker_rig.launch("sh", "-c", f"cat {secret} || echo hidden", cwd=str(docker_rig.state.parent))
    await docker_rig.backend.wait(await docker_rig.backend.start(launch))
    assert await docker_rig.text(launch) == "hidden\n"


@pytest.mark.parametrize("folder", ["state/agents", "no-such-folder"])
async def test_a_folder_that_cannot_be_mounted_starts_nothing(
    docker_rig: Rig,  # noqa: F811
    tmp_path: Path,
    folder: str,
) -> None:
    launch = docker_rig.launch("true", cwd=str(tmp_path / folder))
    with pytest.raises(BackendError, match="cannot be mounted"):
        await docker_rig.backend.start(launch)
    assert (await docker_rig.backend.adopt(launch, None)).state == "never_started"


# --- what is refused ---------------------------------------------------------------------------------


async def test_a_missing_image_starts_nothing_and_says_how_to_get_it(docker_rig: Rig) -> None:  # noqa: F811
    launch = docker_rig.launch("true", image="agenttop-no-such-image:1")
    with pytest.raises(BackendError) as error:
        await docker_rig.backend.start(launch)
    assert "docker pull agenttop-no-such-image:1" in error.value.hint
    assert (await docker_rig.backend.adopt(launch, None)).state == "never_started"


async def test_without_a_dockerd_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    async with rig(tmp_path, "x", 1, {"host": f"unix://{tmp_path}/none.sock"}) as made:
        with pytest.raises(BackendUnavailable, match="No dockerd listens") as error:
            await made.backend.capabilities()
        assert "apt install docker.io" in error.value.hint
        assert [check.level for check in await made.backend.check()] == ["missing"]


@needs_root
def test_without_permission_the_error_names_the_docker_group(docker_image: str, tmp_path: Path) -> None:  # noqa: F811
    script = textwrap.dedent("""
        import os
        import aiodocker, aiohttp, anyio
        from agenttop.backends.docker_engine import Engine
        from agenttop.core.errors import BackendUnavailable

        async def main():
            engine = Engine("unix:///var/run/docker.sock")
            await engine.json("GET", "info", "cannot use docker")
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            try:
                await engine.json("GET", "info", "cannot use docker")
            except BackendUnavailable as error:
                print(error)
            await engine.close()

        anyio.run(main)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert "docker group" in done.stdout
    assert "may not use dockerd's socket" in done.stdout


async def test_a_strangers_container_of_the_same_name_is_left_alone(docker_rig: Rig) -> None:  # noqa: F811
    launch = docker_rig.launch("true")
    name = f"agenttop-{launch.agent}-1"
    docker("create", "--name", name, docker_rig.image, "true")
    try:
        ref = await docker_rig.backend.start(launch)
        assert ref["name"] != name
        assert (await docker_rig.backend.wait(ref)).code == 0
        await docker_rig.backend.forget(launch, ref)
        assert inspect(name)["Name"] == f"/{name}"
    finally:
        docker("rm", "-f", name)


async def test_a_container_that_is_not_this_runs_is_never_touched(docker_rig: Rig) -> None:  # noqa: F811
    launch = docker_rig.launch("sleep", "600")
    ref = await docker_rig.backend.start(launch)
    forged = {**ref, "run": "somebody.1"}
    for act in (docker_rig.backend.freeze, docker_rig.backend.thaw, docker_rig.backend.wait):
        with pytest.raises(BackendError, match="not this run's"):
            await act(forged)
    with pytest.raises(BackendError, match="not this run's"):
        await docker_rig.backend.stop(forged, grace=0)
    assert await docker_rig.backend.processes(ref)


async def test_a_live_container_is_not_forgotten(docker_rig: Rig) -> None:  # noqa: F811
    launch = docker_rig.launch("sleep", "600")
    ref = await docker_rig.backend.start(launch)
    with pytest.raises(BackendError, match="still runs"):
        await docker_rig.backend.forget(launch, ref)
    assert await docker_rig.backend.processes(ref)


# --- crashes between two lines -----------------------------------------------------------------------


async def test_a_container_that_was_created_and_never_started_is_removed(docker_rig: Rig) -> None:  # noqa: F811
    launch = docker_rig.launch("true")
    _create_only(docker_rig, launch.agent, launch.marker)
    assert (await docker_rig.backend.adopt(launch, None)).state == "never_started"
    assert docker("ps", "-aq", "--filter", f"label=agenttop.run={launch.marker}") == ""


async def test_starting_a_run_that_is_there_already_does_not_double_it(docker_rig: Rig) -> None:  # noqa: F811
    launch = docker_rig.launch("sleep", "600")
    _create_only(docker_rig, launch.agent, launch.marker)
    first = await docker_rig.backend.start(launch)
    await docker_rig.restart()
    second = await docker_rig.backend.start(launch)
    assert first["container"] == second["container"]
    assert len(docker("ps", "-aq", "--filter", f"label=agenttop.run={launch.marker}").split()) == 1


def _create_only(made: Rig, agent: str, marker: str) -> None:
    state = docker_container.state_label(made.state)
    labels = [
        f"--label=agenttop.agent={agent}",
        f"--label=agenttop.run={marker}",
        f"--label=agenttop.state={state}",
    ]
    docker("create", "--name", f"agenttop-{agent}-1", *labels, made.image, "true")


# --- output ------------------------------------------------------------------------------------------


async def test_a_prompt_without_a_line_end_is_seen_at_once(docker_rig: Rig) -> None:  # noqa: F811
    launch = docker_rig.launch("sh", "-c", "printf 'Your name? '; read name; echo hello $name", stdin=True)
    ref = await docker_rig.backend.start(launch)
    await docker_rig.until_output(launch, "Your name? ")
    await docker_rig.backend.write(ref, b"you\n")
    await docker_rig.backend.wait(ref)
    assert await docker_rig.text(launch, follow=True) == "Your name? hello you\n"


async def test_output_across_kernel_restarts_has_no_loss_and_no_repeat(docker_rig: Rig) -> None:  # noqa: F811
    script = "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); [ $((i%20)) = 0 ] && sleep 0.01; done"
    launch = docker_rig.launch("sh", "-c", script)
    ref = await docker_rig.backend.start(launch)
    for number in (300, 900, 1500):
        await docker_rig.until_output(launch, f"\n{number}\n")
        await docker_rig.restart()
        adoption = await docker_rig.backend.adopt(launch, ref)
        assert adoption.ref is not None
    with anyio.fail_after(60):
        assert (await docker_rig.backend.wait(ref)).code == 0
    assert (await docker_rig.text(launch, follow=True)).split() == [str(n) for n in range(3000)]


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})])
async def test_streams_and_stdin_survive_a_restart_on_the_kernels_own_loop(docker_rig: Rig) -> None:  # noqa: F811
    launch = docker_rig.launch("sh", "-c", "printf 'name? '; sleep 1; cat", stdin=True)
    ref = await docker_rig.backend.start(launch)
    await docker_rig.until_output(launch, "name? ")
    await docker_rig.backend.write(ref, b"x" * 300_000 + b"\n")
    await docker_rig.restart()
    assert (await docker_rig.backend.adopt(launch, ref)).state == "alive"
    await docker_rig.backend.write(ref, b"after\n")
    await docker_rig.backend.write(ref, None)
    assert (await docker_rig.backend.wait(ref)).code == 0
    assert await docker_rig.text(launch, follow=True) == "name? " + "x" * 300_000 + "\nafter\n"
    await docker_rig.backend.forget(launch, ref)
    assert docker_rig.doors.kept == {}


async def test_output_of_an_ended_run_outlives_its_container(docker_rig: Rig) -> None:  # noqa: F811
    launch = docker_rig.launch("sh", "-c", "echo kept; printf 'no end'")
    ref = await docker_rig.backend.start(launch)
    await docker_rig.backend.wait(ref)
    await docker_rig.backend.forget(launch, ref)
    assert await docker_rig.text(launch) == "kept\nno end"


async def test_memory_that_ran_out_is_named(docker_rig: Rig) -> None:  # noqa: F811
    command = ("dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
    ref = await docker_rig.backend.start(docker_rig.launch(*command, limits={"memory": "32M"}))
    ended = await docker_rig.backend.wait(ref)
    assert ended.failed
    assert ended.detail == "out of memory"


# --- the gateway's door ------------------------------------------------------------------------------


@needs_root
async def test_the_first_call_of_a_program_finds_the_door_open(docker_rig: Rig) -> None:  # noqa: F811
    env = {"PORT": str(docker_rig.doors.port)}
    launches = [docker_rig.launch("sh", "-c", WGET, network="gateway", env=env) for _ in range(20)]
    for launch in launches:
        ref = await docker_rig.backend.start(launch)
        ended = await docker_rig.backend.wait(ref)
        said = await docker_rig.text(launch), await docker_rig.text(launch, stream="err")
        assert (ended.code, said) == (0, ("the gateway answers", ""))
        await docker_rig.backend.forget(launch, ref)
    assert [key for key, _ in docker_rig.doors.requests] == [f"docker:{launch.marker}" for launch in launches]
    assert docker_rig.doors.open == {}


@needs_root
async def test_a_container_on_the_gateway_network_reaches_no_port_of_the_host(docker_rig: Rig) -> None:  # noqa: F811
    with host_port() as (addresses, accepted):
        calls = "; ".join(f"wget -q -O- http://{address}/ 2>&1" for address in addresses)
        launch = docker_rig.launch("sh", "-c", f"{calls}; true", network="gateway")
        await docker_rig.backend.wait(await docker_rig.backend.start(launch))
    assert accepted == []
    assert len((await docker_rig.text(launch)).splitlines()) >= len(addresses)


@needs_root
async def test_the_door_is_opened_anew_when_nobody_kept_it(docker_rig: Rig) -> None:  # noqa: F811
    env = {"PORT": str(docker_rig.doors.port)}
    launch = docker_rig.launch("sh", "-c", f"read x; {WGET}", network="gateway", env=env, stdin=True)
    ref = await docker_rig.backend.start(launch)
    await docker_rig.restart(keep_doors=False)
    assert (await docker_rig.backend.adopt(launch, ref)).state == "alive"
    await docker_rig.backend.write(ref, b"\n")
    assert (await docker_rig.backend.wait(ref)).code == 0
    assert await docker_rig.text(launch, follow=True) == "the gateway answers"


@needs_root
async def test_a_door_that_was_kept_is_used_again(docker_rig: Rig) -> None:  # noqa: F811
    launch = docker_rig.launch("sleep", "600", network="gateway")
    ref = await docker_rig.backend.start(launch)
    kept = dict(docker_rig.doors.open)
    await docker_rig.restart(keep_doors=True)
    assert (await docker_rig.backend.adopt(launch, ref)).state == "alive"
    assert docker_rig.doors.open == kept


async def test_network_none_has_no_door(docker_rig: Rig) -> None:  # noqa: F811
    await docker_rig.backend.start(docker_rig.launch("sleep", "600", network="none"))
    assert docker_rig.doors.open == {}


@needs_root
def test_opening_a_listener_elsewhere_leaves_this_process_where_it_is() -> None:
    def own() -> set[str]:
        found = set()
        for task in os.listdir("/proc/self/task"):
            with contextlib.suppress(FileNotFoundError):
                found.add(os.readlink(f"/proc/self/task/{task}/ns/net"))
        return found

    before = own()
    holder = subprocess.Popen(["unshare", "--net", "sleep", "60"])
    try:
        here = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{holder.pid}/ns/net") == here:
            assert holder.poll() is None
        namespace = netns.open_namespace(holder.pid)
        port = free_port()
        with contextlib.closing(netns.listen_in(namespace, port)) as listener:
            assert listener.getsockname() == ("127.0.0.1", port)
            with socket.socket() as same:  # the port is free here: the listener is elsewhere
                same.bind(("127.0.0.1", port))
        os.close(namespace)
        wait_for(lambda: own() == before, 10, "the end of the thread that entered")
    finally:
        holder.kill()
        holder.wait()


def test_a_program_behind_a_gate_begins_when_it_opens(tmp_path: Path) -> None:
    init = find_init()
    if init is None:
        pytest.skip("no docker-init here")
    marker = tmp_path / "began"
    with Gate(tmp_path, init) as gate:
        started = threading.Event()

        def program() -> None:
            started.set()
            subprocess.run(
                [gate.file, "-s", "--", "touch", str(marker)], check=True, stderr=subprocess.DEVNULL
            )

        thread = threading.Thread(target=program)
        thread.start()
        started.wait()
        thread.join(0.3)
        assert thread.is_alive()
        assert not marker.exists()
        gate.open()
        thread.join(10)
    assert marker.exists()


async def test_a_stop_waits_for_dockerd_to_hear_of_it(docker_rig: Rig) -> None:  # noqa: F811
    """The processes are gone before dockerd knows: that is no survivor."""
    for _ in range(8):
        ref = await docker_rig.backend.start(docker_rig.launch("sh", "-c", "while :; do sleep 1; done"))
        killed = await docker_rig.backend.stop(ref, grace=5.0)
        assert killed.survivors == (), killed.steps
        assert [step for step in killed.steps if not step.ok] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to write a container's freezer")
async def test_a_container_that_hardly_gets_any_cpu_is_frozen_and_thawed(docker_rig: Rig) -> None:  # noqa: F811
    """Each process has to run a moment before it is frozen; runc gives up long before eight of them have."""
    burn = "while :; do :; done & "
    launch = docker_rig.launch("sh", "-c", f"{burn * 8} echo on; wait", limits=Limits(cpus=0.05))
    ref = await docker_rig.backend.start(launch)
    await docker_rig.until_output(launch, "on", 60)
    for _ in range(3):
        frozen = await docker_rig.backend.freeze(ref)
        assert frozen.complete
        assert frozen.total >= 9
        again = await docker_rig.backend.freeze(ref)
        assert (again.complete, again.total) == (True, frozen.total)
        before = ticks(await docker_rig.backend.processes(ref))
        await docker_rig.backend.thaw(ref)
        while ticks(await docker_rig.backend.processes(ref)) == before:
            await anyio.sleep(0.05)
    assert (await docker_rig.backend.freeze(ref)).complete
    killed = await docker_rig.backend.stop(ref, grace=0)
    assert (killed.survivors, killed.processes) == ((), frozen.total)
