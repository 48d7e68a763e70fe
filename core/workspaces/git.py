"""Running git: in an environment of its own, never asking anybody, never for ever.

Hooks of the repository do not run (``core.hooksPath``), nothing stays behind in the background
(``gc.auto``, ``core.fsmonitor``), no pager and no prompt opens. Reading takes no lock
(``GIT_OPTIONAL_LOCKS``) and fetches nothing. Blocking: call it in a worker thread.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..errors import BackendError

#: What git is started with, whatever the repository's and the person's configuration say.
SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.quotePath=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "color.ui=false",
)

#: Variables of the kernel's own that git needs to find itself and the person's configuration.
_KEPT = ("PATH", "HOME", "XDG_CONFIG_HOME", "USER", "LOGNAME", "TMPDIR")

_FIXED = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "false",
    "SSH_ASKPASS": "false",
    "GIT_PAGER": "cat",
    "GIT_EDITOR": "false",
}

#: Variables that turn git away from the repository of its folder (``git rev-parse --local-env-vars``).
LOCAL = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_CONFIG_COUNT",
        "GIT_CONFIG_PARAMETERS", "GIT_DIR", "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE",
        "GIT_INTERNAL_SUPER_PREFIX", "GIT_NAMESPACE", "GIT_NO_REPLACE_OBJECTS", "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX", "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE",
    }
)  # fmt: skip

#: Seconds between TERM, which lets git clear up what it had begun, and KILL.
GRACE = 2.0

#: How much of one answer is taken, in bytes.
MOST = 64 << 20

_TICK = 0.1


class GitError(BackendError):
    """git is missing, refused, or took too long."""


class Answer(NamedTuple):
    """What one git said. ``cut``: it had more to say than was wanted."""

    code: int
    out: bytes
    err: str
    cut: bool = False

    @property
    def why(self) -> str:
        """git's own reason, one line."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        told = next(
            (line for line in lines if line.startswith(("fatal:", "error:"))), lines[0] if lines else ""
        )
        return (
            told.removeprefix("fatal:").removeprefix("error:").strip() or f"git ended with status {self.code}"
        )


def environment(*, reading: bool) -> dict[str, str]:
    """All that a git of ours sees."""
    env = {name: os.environ[name] for name in _KEPT if name in os.environ} | _FIXED
    if reading:
        env |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1"}
    return env


class Git:
    """Calls of git that share a time limit: together they take at most ``seconds``."""

    def __init__(self, seconds: float, stop: threading.Event | None = None, *, reading: bool = True) -> None:
        """``stop``: set by whoever does not want the answer any more; git is ended then."""
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds
        self._stop = stop or threading.Event()
        self._reading = reading

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.deadline - time.monotonic()

    def check(self) -> None:
        """Between two steps of work of one's own.

        Raises:
            GitError: The time is over, or nobody wants the answer any more.
        """
        if self._stop.is_set():
            raise GitError("git was ended", "Nobody waits for it any more")
        if self.left <= 0:
            raise GitError("git took too long", f"It was ended after {self.seconds:g} s")

    def run(
        self,
        *arguments: str,
        cwd: str | None = None,
        repository: str | None = None,
        env: Mapping[str, str] | None = None,
        told: bytes = b"",
        keep: Sequence[int] = (),
        most: int = MOST,
    ) -> Answer:
        """Run one git and wait for it.

        Args:
            cwd: The folder whose repository is meant.
            repository: Or the repository's own directory (``.git``).
            told: What it reads on its stdin.
            keep: Descriptors that it and what it starts hold open as long as they live.
            most: Bytes of its answer that are wanted; a longer one is cut, and git ended.

        Raises:
            GitError: There is no git, no such folder, or the time is over.
        """
        self.check()
        command = ["git", *(part for setting in SETTINGS for part in ("-c", setting))]
        if repository is not None:
            command += [f"--git-dir={repository}"]
        if cwd is not None:
            command += ["-C", cwd]
        try:
            process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.PIPE if told else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**environment(reading=self._reading), **(env or {})},
                cwd="/",
                pass_fds=tuple(keep),
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise GitError(
                "git is not installed", "There is no git in PATH", "Try: apt install git"
            ) from error
        except OSError as error:
            raise GitError("git could not be started", error.strerror or str(error)) from error
        with process:
            return self._answer(process, told, most)

    def _answer(self, process: subprocess.Popen[bytes], told: bytes, most: int) -> Answer:
        out, err, cut = bytearray(), bytearray(), False
        try:
            with selectors.DefaultSelector() as ready:
                for stream, into in ((process.stdout, out), (process.stderr, err)):
                    if stream is not None:
                        ready.register(stream, selectors.EVENT_READ, into)
                if process.stdin is not None:
                    os.set_blocking(process.stdin.fileno(), False)
                    ready.register(process.stdin, selectors.EVENT_WRITE)
                while ready.get_map() and not cut:
                    self.check()
                    for key, _ in ready.select(max(0.0, min(_TICK, self.left))):
                        if key.fileobj is process.stdin:
                            told = _write(ready, process, told)
                        elif chunk := os.read(key.fd, 65_536):
                            key.data.extend(chunk)
                        else:
                            ready.unregister(key.fileobj)
                    cut = len(out) > most or len(err) > most
            while not cut and process.poll() is None:
                self.check()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_TICK)
        finally:
            _end(process)
        return Answer(process.returncode, bytes(out[:most]), err.decode("utf-8", "replace"), cut)

    def ask(self, *arguments: str, cwd: str | None = None, repository: str | None = None) -> str | None:
        """The one line git answers with; ``None`` where it has none (a ref that does not exist)."""
        answer = self.run(*arguments, cwd=cwd, repository=repository)
        return os.fsdecode(answer.out).strip("\n") if answer.code == 0 else None

    def must(
        self,
        *arguments: str,
        cwd: str | None = None,
        repository: str | None = None,
        env: Mapping[str, str] | None = None,
        told: bytes = b"",
        keep: Sequence[int] = (),
        what: str = "git failed",
    ) -> bytes:
        """What git answers.

        Raises:
            GitError: It refused; ``what`` says what could not be done.
        """
        answer = self.run(*arguments, cwd=cwd, repository=repository, env=env, told=told, keep=keep)
        if answer.code != 0:
            raise GitError(what, answer.why)
        if answer.cut:
            raise GitError(what, f"git's answer is longer than {MOST >> 20} MB")
        return answer.out


def _write(ready: selectors.BaseSelector, process: subprocess.Popen[bytes], told: bytes) -> bytes:
    """Write what the pipe takes; closed when all is written, or nobody reads."""
    stdin = process.stdin
    assert stdin is not None
    try:
        told = told[os.write(stdin.fileno(), told[:65_536]) :]
    except BlockingIOError:
        return told
    except BrokenPipeError:
        told = b""
    if not told:
        ready.unregister(stdin)
        stdin.close()
    return told


def _end(process: subprocess.Popen[bytes]) -> None:
    """End git and what it started, if it has not ended; a filter's program may outlive it."""
    for signum, grace in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
        if process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)
