"""What the docker backend's tests stand on: doors, launches, and a dockerd of a test's own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from agenttop.backends.docker import DockerBackend
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.backend import BackendContext, Launch
from agenttop.core.clock import SystemClock


def docker_problem() -> str:
    """Why there is no dockerd to test with, or an empty string."""
    if shutil.which("docker") is None:
        return "no docker command"
    answer = subprocess.run(["docker", "version"], capture_output=True, text=True)
    return "" if answer.returncode == 0 else answer.stderr.strip().splitlines()[-1]


class TestDoors:
    """Doors as the kernel has them, with an HTTP answer on each and nothing else behind."""

    __test__ = False

    def __init__(self, group: anyio.abc.TaskGroup, port: int) -> None:
        self._group = group
        self._port = port
        self.open: dict[str, socket.socket] = {}
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._served: dict[str, anyio.Event] = {}
        self.kept: dict[str, int] = {}
        self.requests: list[tuple[str, bytes]] = []

    @property
    def port(self) -> int:
        return self._port

    async def add(self, key: str, listener: socket.socket) -> None:
        assert key not in self.open, f"{key} was opened twice"
        self.open[key] = listener
        self._scopes[key] = anyio.CancelScope()
        self._served[key] = anyio.Event()
        self._group.start_soon(self._serve, key, listener)

    async def remove(self, key: str) -> None:
        listener = self.open.pop(key, None)
        if listener is not None:
            self._scopes.pop(key).cancel()
            await self._served.pop(key).wait()  # nobody may wait for a descriptor that is closed
            listener.close()

    def has(self, key: str) -> bool:
        return key in self.open

    async def keep(self, key: str, fd: int) -> None:
        await self.drop(key)
        self.kept[key] = os.dup(fd)

    async def drop(self, key: str) -> None:
        if (fd := self.kept.pop(key, None)) is not None:
            os.close(fd)

    async def close(self) -> None:
        for key in list(self.open):
            await self.remove(key)
        for key in list(self.kept):
            await self.drop(key)

    async def _serve(self, key: str, listener: socket.socket) -> None:
        served = self._served[key]
        with self._scopes[key]:
            async with anyio.create_task_group() as group:
                while True:
                    await anyio.wait_readable(listener)
                    with contextlib.suppress(BlockingIOError):
                        group.start_soon(self._answer, key, listener.accept()[0])
        served.set()

    async def _answer(self, key: str, connection: socket.socket) -> None:
        async with await anyio.abc.SocketStream.from_socket(connection) as stream:
            request = b""
            while b"\r\n\r\n" not in request:
                request += await stream.receive()
            self.requests.append((key, request))
            body = b"the gateway answers"
            await stream.send(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


@dataclass
class Rig:
    """One backend with its folder; ``restart`` gives what a restarted kernel would have."""

    backend: DockerBackend
    doors: TestDoors
    state: Path
    image: str
    group: anyio.abc.TaskGroup
    settings: dict[str, Any] = field(default_factory=dict)
    launches: list[Launch] = field(default_factory=list)
    _scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def launch(
        self, *command: str, agent: str = "", run: int = 1, env: dict[str, str] | None = None, **spec: Any
    ) -> Launch:
        agent = agent or f"a{len(self.launches)}{os.urandom(3).hex()}"
        folder = self.state / "agents" / agent / str(run)
        folder.mkdir(parents=True, exist_ok=True)
        spec.setdefault("image", self.image)
        spec.setdefault("network", "none")
        made = Launch(
            agent=agent,
            run=run,
            spec=AgentSpec(name=agent, backend="docker", command=list(command), **spec),
            folder=folder,
            command=command,
            cwd=spec.get("cwd") or "/",
            env={"AGENTTOP_RUN": f"{agent}.{run}", **(env or {})},
        )
        self.launches.append(made)
        return made

    def begin(self) -> None:
        """Run the backend's background work, as the kernel does."""
        self.group.start_soon(self._run)

    async def _run(self) -> None:
        with self._scope:
            await self.backend.run()

    async def restart(self, *, keep_doors: bool = False) -> None:
        """The kernel was killed: everything it had in memory is gone."""
        self._scope.cancel()
        await self.backend.close()
        if not keep_doors:
            for key in list(self.doors.open):
                await self.doors.remove(key)
        self._scope = anyio.CancelScope()
        context = BackendContext(self.state, SystemClock(), self.doors, self.settings)
        self.backend = DockerBackend(context)
        self.begin()

    async def text(self, launch: Launch, *, follow: bool = False, stream: str = "out") -> str:
        return b"".join(
            [c.data async for c in self.backend.output(launch, follow=follow) if c.stream == stream]
        ).decode()

    async def until_output(self, launch: Launch, wanted: str, seconds: float = 20.0) -> str:
        """Follow until the text appeared; everything up to there."""
        seen = b""
        with anyio.fail_after(seconds):
            async for chunk in self.backend.output(launch, follow=True):
                if chunk.stream == "out":
                    seen += chunk.data
                    if wanted.encode() in seen:
                        return seen.decode()
        raise AssertionError(f"{wanted!r} never came; there was {seen!r}")

    async def clean(self) -> None:
        await self.doors.close()
        self._scope.cancel()
        await self.backend.close()


@asynccontextmanager
async def rig(
    folder: Path, image: str, port: int, settings: dict[str, Any] | None = None
) -> AsyncIterator[Rig]:
    """A backend over a state folder; every container it made is removed at the end."""
    state = folder / "state"
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with anyio.create_task_group() as group:
        doors = TestDoors(group, port)
        context = BackendContext(state, SystemClock(), doors, settings or {})
        made = Rig(DockerBackend(context), doors, state, image, group, settings or {})
        made.begin()
        try:
            yield made
        finally:
            with anyio.CancelScope(shield=True):
                await made.clean()
            host = (settings or {}).get("host")
            remove_containers(state, {"DOCKER_HOST": str(host)} if host else {})
            group.cancel_scope.cancel()


def remove_containers(state: Path, env: dict[str, str]) -> list[str]:
    """Remove what a test left, found by label; what there was."""
    from agenttop.backends.docker_container import state_label

    environ = {**os.environ, **env}
    label = f"label=agenttop.state={state_label(state)}"
    listed = subprocess.run(
        ["docker", "ps", "-aq", "--filter", label], capture_output=True, text=True, env=environ
    )
    left = listed.stdout.split()
    if left:
        subprocess.run(["docker", "rm", "-f", *left], capture_output=True, env=environ, check=False)
    return left


def docker(*args: str, env: dict[str, str] | None = None) -> str:
    """The docker command's output."""
    done = subprocess.run(
        ["docker", *args], capture_output=True, text=True, env={**os.environ, **(env or {})}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)


class PrivateDockerd:
    """A dockerd with its own folders, pid file, socket and network; the machine's is not touched.

    Its own network namespace, because a dockerd without a bridge removes ``docker0``, whosever that is
    (moby/moby#26989).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "d.sock"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    @property
    def env(self) -> dict[str, str]:
        return {"DOCKER_HOST": self.host}

    def start(self) -> None:
        # After a kill these name processes that are gone, or zombies that nobody reaps, which dockerd
        # takes for a living containerd.
        (self.folder / "d.pid").unlink(missing_ok=True)
        (self.folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)
        log = open(self.folder / "log", "ab")  # noqa: SIM115 - inherited by dockerd
        self.process = subprocess.Popen(
            [
                "unshare", "--net", "dockerd", "--host", self.host, "--data-root", str(self.folder / "data"),
                "--exec-root", str(self.folder / "exec"), "--pidfile", str(self.folder / "d.pid"),
                "--bridge", "none", "--iptables=false", "--ip6tables=false",
            ],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        log.close()
        wait_for(self._answers, 60, "an answer of the private dockerd")
        networks = [os.readlink(f"/proc/{pid}/ns/net") for pid in ("self", self.process.pid)]
        assert networks[0] != networks[1], "the private dockerd may remove the machine's docker0"

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(60)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def clean(self) -> None:
        """End it, its containerd and its containers, and unmount what they mounted."""
        if self.process is None or not self.folder.exists():
            return
        if self.process.poll() is not None:
            with contextlib.suppress(AssertionError):
                self.start()
        listed = subprocess.run(
            ["docker", "ps", "-aq"], capture_output=True, text=True, env={**os.environ, **self.env}
        )
        if listed.stdout.split():
            command = ["docker", "rm", "-f", *listed.stdout.split()]
            subprocess.run(command, capture_output=True, env={**os.environ, **self.env}, check=False)
        if self.process.poll() is None:
            self.stop()
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not self._processes(), 20, "the end of the private dockerd's processes")
        mounts = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in sorted((m for m in mounts if m.startswith(str(self.folder))), reverse=True):
            subprocess.run(["umount", "-l", point], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
        done = subprocess.run(["docker", "version"], capture_output=True, env={**os.environ, **self.env})
        return done.returncode == 0

    def _processes(self) -> list[int]:
        """containerd and shims of this dockerd: their command lines name its folder."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if (
                        str(self.folder).encode() in (entry / "cmdline").read_bytes()
                        and int(entry.name) != os.getpid()
                    ):
                        found.append(int(entry.name))
        return [
            pid
            for pid in found
            if Path(f"/proc/{pid}/exe").resolve().name.startswith(("containerd", "dockerd"))
        ]


@contextmanager
def private_dockerd() -> Iterator[PrivateDockerd]:
    # Not pytest's folder: a Unix socket's path ends at 107 bytes.
    made = PrivateDockerd(Path(tempfile.mkdtemp(prefix="agenttop-dockerd-")))
    try:
        made.start()
        yield made
    finally:
        made.clean()


@contextmanager
def host_port() -> Iterator[tuple[list[str], list[object]]]:
    """A port on every address of this host; the addresses with the port, and who came."""
    accepted: list[object] = []
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        listed = json.loads(
            subprocess.run(["ip", "-j", "-4", "addr"], capture_output=True, check=True).stdout
        )
        addresses = [f"{info['local']}:{port}" for link in listed for info in link["addr_info"]]

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    accepted.append(server.accept()[1])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield addresses, accepted
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
