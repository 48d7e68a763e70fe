"""``--host`` over a real OpenSSH server: what is typed, what it prints, and what a cut line does to it."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from agenttop.core import lock, quick
from agenttop.core.errors import KernelUnreachable
from agenttop.core.paths import Paths

from ..conftest import missing
from ..support import sshd as server
from ..support.sshd import PROGRAM, Sshd

pytestmark = pytest.mark.ssh


def until(condition: Callable[[], Any], what: str, seconds: float = 40.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


def lives(pid: int) -> bool:
    """Whether a process runs; one whose parent has not yet heard of its end does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class Far:
    """Two machines behind one sshd, and the command line here."""

    def __init__(self, ssh: Sshd, homes: dict[str, Path]) -> None:
        self.ssh = ssh
        self.homes = homes
        self.environ = {**os.environ, "AGENTTOP_SSH": " ".join(ssh.ssh)}

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(PROGRAM), *arguments],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def started(self, *arguments: str) -> list[dict[str, Any]]:
        """``ps --json`` of what agenttop started; whoever else's agents run on this machine."""
        return [one for one in orjson.loads(self(*arguments, "ps", "--json").stdout) if not one["observed"]]

    def socket(self, host: str) -> Path:
        return Paths.from_environ({"AGENTTOP_HOME": str(self.homes[host])}).socket

    def leave(self) -> None:
        for host, home in self.homes.items():
            try:
                quick.ask(self.socket(host), "/v1/stop", {"all": True, "how": "kill"})
                quick.ask(self.socket(host), "/v1/shutdown", {"restart": False})
            except KernelUnreachable:
                continue
            path = Paths.from_environ({"AGENTTOP_HOME": str(home)}).lock
            until(lambda path=path: lock.holder_of(path) is None, "the kernel there having left")


@pytest.fixture
def far(home: Path, tmp_path: Path) -> Iterator[Far]:
    """A server of the test's own."""
    if why := server.why_not():
        missing("ssh", why)
    homes = {"box": tmp_path / "box", "shed": tmp_path / "shed"}
    with server.sshd(tmp_path / "ssh", {**homes, "bare": None}) as running:
        found = Far(running, homes)
        try:
            yield found
        finally:
            found.leave()


def test_every_verb_goes_to_the_named_host(far: Far) -> None:
    started = far("--host", "box", "run", "--name", "api", "--", "sh", "-c", "sleep 600 & sleep 600")
    agent = started.stdout.split()[0]
    (told,) = far.started("--host", "box")
    assert (told["id"], told["name"], len(told["pids"])) == (agent, "api", 4)
    assert far("--host", "box", "pause", "api").stdout == "api frozen 4/4\n"
    status = orjson.loads(far("--host", "box", "kernel", "status", "--json").stdout)
    assert status["state_dir"] == str(far.homes["box"] / "state")
    killed = far("--host", "box", "kill", "api", "--json")
    (outcome,) = orjson.loads(killed.stdout)
    assert (outcome["proof"]["processes"], outcome["proof"]["survivors"]) == (4, [])
    assert not [pid for pid in told["pids"] if lives(pid)]
    assert far("--host", "box", "pause", "nobody", check=False).returncode == 3


def test_several_hosts_are_one_list(far: Far) -> None:
    far("--host", "box", "run", "--name", "api", "--", "sleep", "600")
    far("--host", "shed", "run", "--name", "api", "--", "sleep", "600")
    both = ("--host", "box", "--host", "shed")
    found = far.started(*both)
    assert [(one["host"], one["name"], one["id"].split("/")[0]) for one in found] == [
        ("box", "api", "box"),
        ("shed", "api", "shed"),
    ]
    assert far(*both, "pause", "shed/api").stdout == "shed/api frozen 2/2\n"
    refused = far(*both, "kill", "api", check=False)
    assert refused.returncode == 3
    assert "box/api or shed/api" in refused.stderr
    three = far(*both, "--host", "bare", "ps", "-q", check=False)
    assert three.returncode == 1
    assert {one["id"] for one in found} <= set(three.stdout.split())
    assert "there is no agenttop on bare" in three.stderr.lower()


def test_logs_that_are_followed_go_on_after_the_line_was_cut(far: Far, tmp_path: Path) -> None:
    end = tmp_path / "end"
    ticks = f"n=0; while [ ! -e {end} ]; do n=$((n+1)); echo line $n; sleep 0.01; done"
    agent = far("--host", "box", "run", "--name", "ticks", "--", "sh", "-c", ticks).stdout.split()[0]
    following = subprocess.Popen(
        [str(PROGRAM), "--host", "box", "logs", "-f", "ticks"],
        env=far.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # what is read ahead would be lost to communicate()
    )
    try:
        assert following.stdout is not None
        assert following.stderr is not None
        first = following.stdout.readline()
        assert far.ssh.cut() >= 1
        assert b"box is away" in following.stderr.readline()
        assert b"box is back" in following.stderr.readline()
        end.touch()
        rest, _ = following.communicate(timeout=90)
    finally:
        end.touch()
        following.kill()
        following.wait()
    assert following.returncode == 0
    kept = far.homes["box"] / "state" / "agents" / agent / "1" / "out"
    assert first + rest == kept.read_bytes()


def test_an_unknown_or_changed_host_key_is_never_passed_over(far: Far) -> None:
    far.ssh.known.write_text("")
    refused = far("--host", "box", "ps", check=False)
    assert refused.returncode == 1
    assert "Host key verification failed" in refused.stderr
    assert "box is not known to be the host it says it is" in refused.stderr
    # Another server's key under this name.
    (kind, other, *_) = (far.ssh.folder / "shed.pub").read_text().split()
    far.ssh.known.write_text(f"[127.0.0.1]:{far.ssh.port} {kind} {other}\n")
    refused = far("--host", "box", "ps", check=False)
    assert refused.returncode == 1
    assert "box is not known to be the host it says it is" in refused.stderr
    assert far.ssh.known.read_text().count("\n") == 1


def test_a_host_that_does_not_answer_is_an_error_at_once(far: Far) -> None:
    far.ssh.stop()
    refused = far("--host", "box", "ps", check=False)
    assert refused.returncode == 1
    assert "box cannot be reached" in refused.stderr
    assert "Connection refused" in refused.stderr


def test_ssh_asks_on_the_terminal_before_the_screen_opens(far: Far) -> None:
    """The key is unknown; ssh asks, a person says yes, and the screen has the host's agents."""
    far("--host", "box", "run", "--name", "visible", "--", "sleep", "600")
    far.ssh.known.write_text("")
    far.ssh.config.write_text(
        far.ssh.config.read_text().replace("StrictHostKeyChecking yes", "StrictHostKeyChecking ask")
    )
    pid, fd = pty.fork()
    if pid == 0:
        environ = {**far.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
        os.execve(PROGRAM, [str(PROGRAM), "--host", "box"], environ)
    try:
        shown = _read_until(fd, b"(yes/no", b"")
        assert b"\x1b[?1049h" not in shown  # the screen is not open yet
        os.write(fd, b"yes\n")
        shown = _read_until(fd, b"visible", shown)
        assert b"\x1b[?1049h" in shown
        os.write(fd, b"q")
        _read_until(fd, b"\x1b[?1049l", b"")
        _, status = os.waitpid(pid, 0)
        pid = 0
        assert os.waitstatus_to_exitcode(status) == 0
        assert "ssh-ed25519" in far.ssh.known.read_text()
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(fd)


def _read_until(fd: int, what: bytes, shown: bytes) -> bytes:
    """Everything a terminal showed up to, at least, ``what``."""
    deadline = time.monotonic() + 60
    while what not in shown:
        assert time.monotonic() < deadline, shown[-2000:]
        if select.select([fd], [], [], 1)[0]:
            shown += os.read(fd, 65_536)
    return shown
