"""What the contract suite needs to know of a backend: how to launch, restart, and look for leftovers."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, ClassVar

import anyio
import anyio.to_thread

from agenttop.core.agents.spec import AgentSpec, Limits, OutputLimits
from agenttop.core.backend import MARKER, Adoption, Backend, BackendContext, Chunk, Exit, Launch, RunRef, mark
from agenttop.core.clock import SystemClock
from agenttop.core.errors import BackendError

#: No wait of the suite is longer; a loaded machine with two cores needs some of it.
DEADLINE = 30.0

DOOMED = Path(__file__).with_name("doomed_kernel.py")


class KeptDoors:
    """A kernel's doors as far as backends see them: keeps listeners and descriptors, serves nothing."""

    def __init__(self, port: int = 1) -> None:
        self.port = port
        self.listeners: dict[str, socket.socket] = {}
        self.kept: dict[str, int] = {}

    async def add(self, key: str, listener: socket.socket) -> None:
        self.listeners[key] = listener

    async def remove(self, key: str) -> None:
        if listener := self.listeners.pop(key, None):
            listener.close()

    def has(self, key: str) -> bool:
        return key in self.listeners

    async def keep(self, key: str, fd: int) -> None:
        await self.drop(key)
        self.kept[key] = os.dup(fd)

    async def drop(self, key: str) -> None:
        if (fd := self.kept.pop(key, None)) is not None:
            os.close(fd)

    def close(self) -> None:
        for listener in self.listeners.values():
            listener.close()
        for fd in self.kept.values():
            os.close(fd)
        self.listeners.clear()
        self.kept.clear()


async def until(condition: Callable[[], bool], what: str, deadline: float = DEADLINE) -> None:
    """Wait for a condition of the outside world; fails with ``what`` when it does not come."""
    with anyio.move_on_after(deadline):
        while not condition():
            await anyio.sleep(0.01)
        return
    raise AssertionError(f"{what} did not happen within {deadline} s")


class Rig(ABC):
    """One backend under test, with a state folder of its own.

    A subclass says how launches look; the suite talks to ``backend`` only through the contract.
    Scripts run by ``sh -c`` and may use what both coreutils and busybox have.
    """

    backend_name: ClassVar[str]

    def __init__(self, state: Path, settings: Mapping[str, Any] | None = None) -> None:
        self.state = state
        self.settings = dict(settings or {})
        self.doors = KeptDoors()
        self.started: list[tuple[Launch, RunRef | None]] = []
        self.opened: list[Backend] = []
        self.backend = self.open()
        self._count = 0

    # -- what differs between backends

    @abstractmethod
    def make_backend(self, context: BackendContext) -> Backend:
        """The backend over ``context``; called again for every simulated kernel restart."""

    @abstractmethod
    def leftovers(self, launch: Launch) -> list[str]:
        """What exists of this run, looked up without the backend: processes, cgroups, containers."""

    def spec_fields(self) -> dict[str, Any]:
        """Fields every spec of this backend needs (an image, say)."""
        return {}

    def environ(self) -> dict[str, str]:
        """The environment a launch starts from."""
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8"}

    # -- launches

    def launch(
        self,
        command: Sequence[str],
        *,
        stdin: bool = False,
        limits: Limits | None = None,
        output: OutputLimits | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        **fields: Any,
    ) -> Launch:
        """A launch of ``command`` as run 1 of a new agent."""
        self._count += 1
        agent = f"{os.getpid():x}{self._count:04x}{os.urandom(2).hex()}"
        spec = AgentSpec(
            name=f"test-{agent}",
            backend=self.backend_name,
            command=list(command),
            stdin=stdin,
            limits=limits or Limits(),
            output=output or OutputLimits(),
            **{**self.spec_fields(), **fields},
        )
        folder = self.state / "agents" / agent / "1"
        folder.mkdir(parents=True, mode=0o700)
        launch = Launch(
            agent=agent,
            run=1,
            spec=spec,
            folder=folder,
            command=tuple(command),
            cwd=cwd or self.cwd(agent),
            env={
                **self.environ(),
                **(env or {}),
                "AGENTTOP_AGENT": agent,
                MARKER: mark(agent, 1, self.state),
            },
        )
        self.started.append((launch, None))
        return launch

    def cwd(self, agent: str) -> str:
        """A working folder for one agent."""
        folder = self.state / "work" / agent
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)

    def sh(self, script: str, **options: Any) -> Launch:
        """A launch of a shell script."""
        return self.launch(("sh", "-c", script), **options)

    async def start(self, launch: Launch) -> RunRef:
        """Start a run that is killed when the test ends."""
        ref = await self.backend.start(launch)
        self._note(launch, ref)
        return ref

    def _note(self, launch: Launch, ref: RunRef | None) -> None:
        self.started = [(old, known) for old, known in self.started if old is not launch]
        self.started.append((launch, ref))

    # -- output

    async def read(
        self, launch: Launch, offsets: Mapping[str, int] | None = None, **options: bool
    ) -> list[Chunk]:
        """All output from ``offsets``; with ``follow=True`` until the run has ended."""
        with anyio.fail_after(DEADLINE):
            return [chunk async for chunk in self.backend.output(launch, offsets, **options)]

    async def said(self, launch: Launch, text: str, *, times: int = 1) -> bytes:
        """Follow the output until it contains ``text``; returns what was read of stdout so far."""
        seen = b""
        with anyio.move_on_after(DEADLINE):
            source: AsyncIterator[Chunk] = self.backend.output(launch, follow=True)
            async with aclosing(source) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    if chunk.stream == "out":
                        seen += chunk.data
                    if seen.count(text.encode()) >= times:
                        return seen
        raise AssertionError(f"{text!r} was not printed; got {seen[-2000:]!r}")

    async def wait(self, ref: RunRef) -> Exit:
        with anyio.fail_after(DEADLINE):
            return await self.backend.wait(ref)

    # -- kernels that come and go

    def open(self) -> Backend:
        """A backend object as a freshly started kernel would make it."""
        backend = self.make_backend(BackendContext(self.state, SystemClock(), self.doors, self.settings))
        self.opened.append(backend)
        return backend

    async def restart_kernel(self) -> Backend:
        """Leave and come back: the new object knows nothing but the state folder."""
        await self.backend.close()
        self.opened.remove(self.backend)
        self.backend = self.open()
        return self.backend

    async def start_in_doomed_kernel(self, launch: Launch) -> RunRef:
        """Start a run from a process that is then killed with SIGKILL; returns the ref it reported."""
        return await anyio.to_thread.run_sync(self._doomed, launch)

    def _doomed(self, launch: Launch) -> RunRef:
        order = pickle.dumps((self.backend_name, self.state, self.settings, launch))
        kernel = subprocess.Popen(
            [sys.executable, str(DOOMED)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert kernel.stdin is not None
        assert kernel.stdout is not None
        with kernel.stdin, kernel.stdout:
            kernel.stdin.write(len(order).to_bytes(8, "little") + order)
            kernel.stdin.flush()
            size = int.from_bytes(kernel.stdout.read(8), "little")
            answer = kernel.stdout.read(size)
            kernel.kill()
            kernel.wait()
        assert size, "the doomed kernel could not start the run"
        ref: RunRef = pickle.loads(answer)
        self._note(launch, ref)
        return ref

    async def adopt(self, launch: Launch, ref: RunRef | None) -> Adoption:
        """Adopt with the current backend; a live run is killed when the test ends."""
        with anyio.fail_after(DEADLINE):
            adoption = await self.backend.adopt(launch, ref)
        if adoption.state == "alive":
            self._note(launch, adoption.ref)
        return adoption

    # -- the end

    async def finish(self) -> None:
        """Kill what the test left, and fail if anything of any run still exists."""
        left: list[str] = []
        for launch, ref in self.started:
            with anyio.fail_after(DEADLINE):
                adoption = await self.backend.adopt(launch, ref)
                if adoption.state == "alive" and adoption.ref is not None:
                    try:
                        await self.backend.stop(adoption.ref, grace=0)
                        await self.backend.wait(adoption.ref)
                    except BackendError as error:
                        left += [str(error)] if self.leftovers(launch) else []
                await self.backend.forget(launch, adoption.ref or ref)
            left += self.leftovers(launch)
        for backend in self.opened:
            await backend.close()
        assert not left, f"left behind: {left}"
        kept = sorted(self.doors.kept) + sorted(self.doors.listeners)
        self.doors.close()
        shutil.rmtree(self.state, ignore_errors=True)
        assert not kept, f"still kept by the holder: {kept}"
