"""The command line and the daemon as a person has them, in a home that leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from agenttop.core import lock, quick, uds
from agenttop.core.api import StopRequest
from agenttop.core.connect import connect
from agenttop.core.paths import Paths
from agenttop.tui.demo.provider import MockProvider

from ..support.holders import dismiss

COMMAND = [sys.executable, "-P", "-m", "agenttop.tui.main"]


def until(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """Ask until the answer is true; fail with what was waited for."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {seconds} s")
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    """Whether it runs; one that only waits for its parent to take its status does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def marked(home: Path) -> list[int]:
    """Live processes that belong to agents of the kernel in ``home``, by their environment alone."""
    found = []
    needle = f"AGENTTOP_HOME={home}\0".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environ = (entry / "environ").read_bytes() + b"\0"
            except OSError:
                continue
            if needle in environ and b"AGENTTOP_RUN=" in environ and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


class Shell:
    """Runs ``agenttop`` on one state directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.paths = Paths.from_environ({"AGENTTOP_HOME": str(home)})
        self.environ = {**os.environ, "AGENTTOP_HOME": str(home)}

    def __call__(
        self, *arguments: str, stdin: str = "", timeout: float = 60, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            timeout=timeout,
            cwd="/tmp",
            env={**self.environ, **environ},
        )

    def ok(self, *arguments: str, stdin: str = "") -> str:
        done = self(*arguments, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, ""), (arguments, done)
        return done.stdout

    def fails(self, status: int, *arguments: str, **environ: str) -> str:
        done = self(*arguments, **environ)
        assert done.returncode == status, done
        assert done.stderr.startswith("agenttop: "), done
        assert "Traceback" not in done.stderr
        return done.stderr

    def ps(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.ok("ps", "--json", *arguments))
        return found

    def agents(self) -> dict[str, dict[str, Any]]:
        """All agents by name, asked at the door that the command line uses; starts no kernel."""
        found = quick.ask(self.paths.socket, "/v1/agents?all=true", any_version=True)
        return {agent["name"]: agent for agent in found}

    def agent(self, name: str) -> dict[str, Any]:
        """One of them; a kernel is started if none runs."""
        return next(agent for agent in self.ps("--all") if agent["name"] == name)

    def happened(self, *kinds: str, name: str = "") -> list[dict[str, Any]]:
        """The journal's rows of these kinds, oldest first; only kinds worth a person's look."""
        ref = f"&ref={name}" if name else ""
        found = quick.ask(self.paths.socket, f"/v1/last-events?count=10000{ref}", any_version=True)
        return [row for row in found if row["kind"] in kinds]

    def printed(self, name: str) -> bytes:
        """What the agent's current run has written to its standard output so far."""
        agent = self.agents()[name]
        return (self.paths.run_dir(agent["id"], agent["run"]) / "out").read_bytes()

    def popen(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/tmp",
            env=self.environ,
            **options,
        )

    @property
    def kernel(self) -> int:
        """The pid of the kernel that runs."""
        pid = lock.holder_of(self.paths.lock)
        assert pid, "no kernel runs"
        return pid

    def kill_kernel(self, signum: int = signal.SIGKILL) -> int:
        """End the kernel's process; returns its pid when it is gone."""
        pid = self.kernel
        os.kill(pid, signum)
        until(lambda: not alive(pid), "the kernel's end")
        return pid

    def leave(self) -> None:
        """End agents, kernel and holder."""
        if uds.answers(self.paths.socket) or marked(self.home):
            self("kill", "--all", "--yes")
            self("kernel", "stop")
        dismiss(self.paths.holder_socket)
        assert lock.holder_of(self.paths.lock) is None
        assert until(lambda: not marked(self.home), "the end of all agents")


@pytest.fixture
def sh(home: Path) -> Iterator[Shell]:
    shell = Shell(home)
    yield shell
    shell.leave()


@pytest.fixture
async def provider() -> AsyncIterator[MockProvider]:
    """What the kernel of ``paths`` forwards calls to."""
    async with MockProvider(seed=7, speed=8.0, key="k3y") as running:
        yield running


@pytest.fixture
async def paths(home: Path, provider: MockProvider, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Paths]:
    """A home whose kernel knows ``provider``; everything in it is ended after the test."""
    home.mkdir()
    (home / "config.toml").write_text(f'[providers.anthropic]\nbase_url = "{provider.url}"\n')
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k3y")
    paths = Paths.from_environ()
    try:
        yield paths
    finally:
        with anyio.CancelScope(shield=True):
            async with await connect(paths) as client:
                await client.stop(StopRequest(all=True, how="kill"))
                await client.prune()
                await client.shutdown()
