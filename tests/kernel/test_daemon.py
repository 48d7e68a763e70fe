"""The kernel as a process: one per state directory, found or started, outliving whoever started it."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from agenttop.core import connect as connecting
from agenttop.core import lock, port, uds
from agenttop.core.api import StopRequest, Target
from agenttop.core.connect import connect, start_kernel
from agenttop.core.errors import AgentTopError, ConfigError, KernelUnreachable
from agenttop.core.paths import Paths
from agenttop.core.quick import OtherVersion, ask
from agenttop.core.service import AlreadyRunning, take_lock
from agenttop.core.starting import begin

from ..support.holders import dismiss
from .conftest import sh, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def paths(home: Path) -> AsyncIterator[Paths]:
    """A state directory whose kernel, agents and holder are ended after the test."""
    found = Paths.from_environ()
    yield found
    if uds.answers(found.socket):
        async with await connect(found, start=False, any_version=True) as client:
            await client.stop(StopRequest(all=True, how="kill"))
            await client.shutdown()
        await gone(found)
    holder = found.holder_socket
    found.lock.unlink(missing_ok=True)
    if holder.exists():
        assert dismiss(holder)


async def gone(paths: Paths) -> None:
    """Wait until no kernel has the lock."""

    async def free() -> bool:
        return lock.holder_of(paths.lock) is None

    await until(free, "the kernel's end", 20)


async def test_a_client_starts_the_kernel_and_the_next_one_finds_it(paths: Paths) -> None:
    async with await connect(paths) as first, await connect(paths, start=False) as second:
        assert (await first.status()).pid == (await second.status()).pid != os.getpid()


async def test_a_start_that_was_begun_early_is_waited_for_and_not_made_twice(paths: Paths) -> None:
    starting = begin(paths)
    assert starting is not None
    async with await connect(paths, starting=starting) as client:
        first = (await client.status()).pid
        assert begin(paths) is None
    starting.close()
    async with await connect(paths, start=False) as client:
        assert (await client.status()).pid == first


async def test_a_start_that_nobody_waits_for_leaves_no_child_and_a_kernel_that_answers(paths: Paths) -> None:
    starting = begin(paths)
    assert starting is not None
    starting.close()
    starting.close()
    assert starting._process.returncode == 0
    async with await connect(paths) as client:
        assert (await client.status()).state_dir == str(paths.state)


async def test_without_start_no_kernel_is_an_error_that_says_so(paths: Paths) -> None:
    with pytest.raises(KernelUnreachable, match=r"kernel\.sock is not there"):
        await connect(paths, start=False)


async def test_everything_it_makes_is_private(paths: Paths) -> None:
    async with await connect(paths):
        modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in paths.state.iterdir()}
    assert modes["kernel.sock"] == modes["holder.sock"] == modes["port"] == modes["kernel.log"] == 0o600
    assert all(mode & 0o077 == 0 for mode in modes.values()), modes
    assert stat.S_IMODE(paths.state.stat().st_mode) == 0o700


async def test_it_is_nobody_s_child_in_no_terminal_s_session(paths: Paths) -> None:
    async with await connect(paths) as client:
        pid = (await client.status()).pid
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    parent, session, terminal = int(fields[1]), int(fields[3]), int(fields[4])
    assert parent != os.getpid()
    assert session not in (os.getsid(0), pid)
    assert terminal == 0
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert os.readlink(f"/proc/{pid}/fd/2") == str(paths.log)


@pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/sys/fs/cgroup/unified", os.W_OK),
    reason="needs a cgroup v2 it may write",
)
async def test_it_leaves_the_cgroup_of_its_starter(paths: Paths) -> None:
    group = Path(f"/sys/fs/cgroup/unified/test-starter-{os.getpid()}")
    group.mkdir()
    try:
        script = (
            f"open('{group}/cgroup.procs','w').write('0')\n"
            "from agenttop.core.connect import start_kernel\nfrom agenttop.core.paths import Paths\n"
            "start_kernel(Paths.from_environ())"
        )
        await anyio.run_process([sys.executable, "-c", script])
        status = ask(paths.socket, "/v1/status")
        holder = lock_free_pid(paths)
        for pid in (status["pid"], holder):
            assert group.name not in Path(f"/proc/{pid}/cgroup").read_text()
    finally:
        await until(lambda: _removed(group), "the starter's group to empty")


def lock_free_pid(paths: Paths) -> int:
    """The holder's pid, as it says."""
    with uds.connect(paths.holder_socket, socket.SOCK_SEQPACKET) as link:
        link.send(b"who")
        return int(link.recv(100).split(b"\0")[1])


async def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True


async def test_of_two_started_at_once_one_wins_and_both_clients_have_it(paths: Paths) -> None:
    errors: list[BaseException] = []

    def start() -> None:
        try:
            start_kernel(paths)
        except BaseException as error:  # noqa: BLE001 - asserted below
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert errors == []
    assert paths.log.read_text().count("answers at") == 1
    assert ask(paths.socket, "/v1/status")["pid"] == lock.holder_of(paths.lock)


async def test_a_second_kernel_says_who_has_the_directory(paths: Paths) -> None:
    async with await connect(paths) as client:
        pid = (await client.status()).pid
        with pytest.raises(AlreadyRunning, match=f"Process {pid}"):
            take_lock(paths)
        with pytest.raises(AlreadyRunning):
            await connect(paths, embedded=True)


async def test_a_socket_left_by_a_dead_kernel_is_replaced(paths: Paths) -> None:
    paths.make_state()
    uds.bind(paths.socket).close()
    with pytest.raises(KernelUnreachable, match="left by a kernel that died"):
        await connect(paths, start=False)
    async with await connect(paths) as client:
        assert (await client.status()).healthy


async def test_an_unwritable_state_directory_is_the_client_s_error(home: Path) -> None:
    home.write_text("not a folder")
    with pytest.raises(AgentTopError, match="cannot use the state folder"):
        await connect(Paths.from_environ())


async def test_a_kernel_that_cannot_start_says_why_to_whoever_started_it(paths: Paths) -> None:
    paths.make_state()
    with port.bind(0) as taken:
        paths.port.write_text(f"{taken.getsockname()[1]}\n")
        with pytest.raises(AgentTopError, match=rf"pid {os.getpid()}\) listens on it"):
            await connect(paths)
    paths.config_file.write_text('[kernel]\nlinger = "long"\n')
    with pytest.raises(ConfigError, match="line 2"):
        await connect(paths)
    paths.config_file.unlink()


async def test_it_lingers_and_leaves_with_its_holder_when_nothing_is_left(paths: Paths) -> None:
    paths.make_state()
    paths.config_file.write_text('[kernel]\nlinger = "0.3s"\n')
    async with await connect(paths) as client:
        pid = (await client.status()).pid
        holder = lock_free_pid(paths)
    await gone(paths)
    assert "nothing was left to look after" in paths.log.read_text()
    assert not paths.socket.exists()
    assert not paths.holder_socket.exists()

    async def ended() -> bool:
        return all(_dead(one) for one in (pid, holder))

    await until(ended, "both processes' end")


def _dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_it_does_not_leave_while_an_agent_runs_or_somebody_watches(paths: Paths) -> None:
    paths.make_state()
    paths.config_file.write_text('[kernel]\nlinger = "0.1s"\n')
    async with await connect(paths) as client:
        pid = (await client.status()).pid
        async for _ in client.watch():
            with anyio.move_on_after(0.6):
                await gone_or_fail(paths)
            break
        await client.run(sh("exec sleep 600"))
    with anyio.move_on_after(0.6):
        await gone_or_fail(paths)
    assert ask(paths.socket, "/v1/status")["pid"] == pid


async def gone_or_fail(paths: Paths) -> None:
    await gone(paths)
    pytest.fail("the kernel left")


async def test_sigterm_is_an_orderly_stop_and_the_agents_run_on(paths: Paths) -> None:
    async with await connect(paths) as client:
        pid = (await client.status()).pid
        agent = (await client.run(sh("exec sleep 600"))).id
        before = (await client.inspect(agent)).info.pid
    os.kill(pid, signal.SIGTERM)
    await gone(paths)
    assert paths.holder_socket.exists()
    async with await connect(paths) as client:
        info = (await client.inspect(agent)).info
        assert (info.pid, info.run) == (before, 1)
        kinds = [event.kind async for event in client.events()]
    assert kinds.count("KernelStopped") == 1


async def test_sighup_does_not_end_it(paths: Paths) -> None:
    async with await connect(paths) as client:
        pid = (await client.status()).pid
        os.kill(pid, signal.SIGHUP)
        assert (await client.status()).pid == pid


async def test_kill_9_keeps_the_port_the_agents_and_calls_waiting(paths: Paths) -> None:
    async with await connect(paths) as client:
        status = await client.status()
        agent = (await client.run(sh("exec sleep 600"))).id
    os.kill(status.pid, signal.SIGKILL)
    await gone(paths)
    with socket.create_connection(("127.0.0.1", status.port), timeout=20) as call:
        call.sendall(b"GET /a/nobody/anthropic/v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        async with await connect(paths) as client:
            assert (await client.status()).port == status.port
            assert (await client.inspect(agent)).info.run == 1
            answer = await anyio.to_thread.run_sync(call.recv, 100)
    assert answer.startswith(b"HTTP/1.1 4")  # made while no kernel ran, answered by the next


async def test_a_request_in_flight_when_the_kernel_is_killed_fails_clearly(paths: Paths) -> None:
    async with await connect(paths) as client:
        pid = (await client.status()).pid
        agent = (await client.run(sh("exec sleep 600"))).id
        failures: list[KernelUnreachable] = []

        async def wait() -> None:
            try:
                await client.wait([agent])
            except KernelUnreachable as error:
                failures.append(error)

        async def watch() -> None:
            try:
                async for _ in client.watch():
                    os.kill(pid, signal.SIGKILL)
            except KernelUnreachable as error:
                failures.append(error)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                tasks.start_soon(watch)
    assert len(failures) == 2
    assert "went away" in str(failures[0])
    async with await connect(paths) as client:
        assert (await client.inspect(agent)).info.run == 1


async def test_an_embedded_kernel_answers_others_and_ends_with_its_client(paths: Paths) -> None:
    async with await connect(paths, embedded=True) as client:
        assert (await client.status()).embedded
        assert ask(paths.socket, "/v1/status")["pid"] == os.getpid()
    assert lock.holder_of(paths.lock) is None
    assert not paths.socket.exists()


async def test_inside_an_agent_no_kernel_is_ever_started(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTTOP_URL", "http://127.0.0.1:1/a/secret")
    monkeypatch.setattr(connecting, "PATIENCE", 0.2)
    with pytest.raises(KernelUnreachable, match="inside an agent"):
        await connect(paths)
    with pytest.raises(KernelUnreachable, match="inside an agent"):
        await connect(paths, embedded=True)
    assert not paths.socket.exists()


async def test_a_kernel_of_another_version_is_refused_but_can_be_stopped(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await connect(paths):
        monkeypatch.setattr("agenttop.core.quick.__version__", "9.9.9")
        with pytest.raises(OtherVersion, match="agenttop kernel restart"):
            await connect(paths)
        with pytest.raises(OtherVersion):
            ask(paths.socket, "/v1/status")
        assert ask(paths.socket, "/v1/status", any_version=True)["version"] != "9.9.9"


async def test_a_home_of_any_path_length_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    monkeypatch.setenv("AGENTTOP_HOME", str(deep))
    paths = Paths.from_environ()
    assert len(str(paths.socket)) > uds.LIMIT
    async with await connect(paths) as client:
        assert (await client.status()).state_dir == str(paths.state)
        await client.shutdown()
    await gone(paths)


async def test_a_kernel_whose_state_folder_is_removed_leaves(paths: Paths) -> None:
    import shutil

    async with await connect(paths) as client:
        pid = (await client.status()).pid
    shutil.rmtree(paths.state)

    async def dead() -> bool:
        return _dead(pid)

    await until(dead, "the kernel's end", 20)


async def test_a_control_client_in_an_agent_s_tree_has_the_agent_s_rights(paths: Paths) -> None:
    async with await connect(paths) as client:
        stranger = (await client.run(sh("exec sleep 600", name="stranger"))).id
        script = f"""
import os
for name in list(os.environ):   # hiding in a child without its marker does not help
    if name == 'AGENTTOP_RUN': del os.environ[name]
from pathlib import Path
from agenttop.core.errors import AgentTopError
from agenttop.core.quick import ask
path = Path({str(paths.socket)!r})
me = os.environ['AGENTTOP_AGENT']
print([agent['name'] for agent in ask(path, '/v1/agents')])
print(ask(path, '/v1/agents/' + me)['info']['name'])
spec = {{'name': 'child', 'command': ['/bin/true'], 'cwd': '/tmp'}}
print(ask(path, '/v1/run', {{'spec': spec}})['parent'] == me)
for target, body in [
    ('/v1/agents/{stranger}', None), ('/v1/agents/{stranger}/output', None), ('/v1/watch', None),
    ('/v1/events', None),
    ('/v1/stop', {{'all': True, 'how': 'kill'}}), ('/v1/pause', {{'refs': [me]}}), ('/v1/prune', {{}}),
    ('/v1/shutdown', {{}}), ('/v1/keys', {{'keys': {{}}}}), ('/v1/wait', {{'refs': ['stranger']}}),
    ('/v1/run', {{'spec': spec | {{'name': 'x', 'parent': 'stranger'}}}}),
    ('/v1/run', {{'spec': spec | {{'name': 'x', 'pass_keys': ['ANTHROPIC_API_KEY']}}}}),
    ('/v1/run', {{'spec': spec | {{'name': 'x', 'nice': -1}}}}),
]:
    try:
        ask(path, target, body)
        print('allowed', target)
    except AgentTopError as error:
        if error.code != 'forbidden': print(target, error)
print('done')
"""
        code = "import subprocess,sys; subprocess.run([sys.executable, '-c', sys.stdin.read()], check=True)"
        request = sh("", name="insider")
        spec = request.spec.model_copy(update={"command": [sys.executable, "-c", code], "stdin": True})
        await client.run(request.model_copy(update={"spec": spec}))
        await client.write("insider", script.encode())
        await client.write("insider", None)
        await client.wait(["insider"])
        said = b"".join([chunk.data async for chunk in client.output("insider")]).decode()
        assert said.splitlines() == ["['insider']", "insider", "True", "done"], said
        await client.stop(StopRequest(all=True, how="kill"))
        assert (await client.kill_plan(Target(all=True))).agents == []
