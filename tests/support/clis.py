"""Agents that somebody else started: shells under the CLIs' names, with the files those leave."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, Any

from agenttop.core.observe.readers.claude_slug import slug

from .transcripts import stamp

_SH = shutil.which("dash") or "/bin/sh"


def start_time(pid: int) -> int:
    """Clock ticks since boot."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])


def states(*pids: int) -> str:
    """The state letter of each process; ``-`` where there is none."""
    found = ""
    for pid in pids:
        try:
            found += Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            found += "-"
    return found


def line(kind: str, content: Any, time: float, **more: Any) -> dict[str, Any]:
    """A line of a Claude transcript."""
    message = {"role": kind, "content": content}
    return {"type": kind, "message": message, "timestamp": stamp(time), "isSidechain": False} | more


def reply(number: int, time: float, *blocks: dict[str, Any], stop: str = "end_turn") -> dict[str, Any]:
    """A call of Claude's, with 1000 fresh, 5000 read and 200 written tokens in and 42 out."""
    usage = {
        "input_tokens": 1000,
        "cache_read_input_tokens": 5000,
        "cache_creation_input_tokens": 200,
        "output_tokens": 42,
    }
    found = line("assistant", list(blocks), time, requestId=f"r{number}")
    found["message"] |= {"id": f"m{number}", "model": "claude-opus-4-5", "stop_reason": stop, "usage": usage}
    return found


class Clis:
    """Starts them below one home of their own, and ends them with all that they started."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._started: list[subprocess.Popen[bytes]] = []
        (home / "bin").mkdir(parents=True, exist_ok=True)

    def program(self, name: str) -> Path:
        """A shell of this name."""
        path = self.home / "bin" / name
        if not path.exists():
            shutil.copy(_SH, path)
        return path

    def start(self, name: str, script: str = "read line", folder: str = "w", **environ: str) -> int:
        """Start one; it says an empty line when its script has begun, and this returns. Its pid."""
        cwd = self.home / folder
        cwd.mkdir(exist_ok=True)
        process = subprocess.Popen(
            [str(self.program(name)), "-c", f"{script.replace('READY', 'echo')}; :"],
            cwd=cwd,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home)} | environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._started.append(process)
        if "READY" in script:
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
        return process.pid

    def reap(self, pid: int) -> None:
        """Wait for one that was ended."""
        next(process for process in self._started if process.pid == pid).wait(30)

    def pipes(self, pid: int) -> tuple[IO[bytes], IO[bytes]]:
        """The stdin and the stdout of one that was started."""
        process = next(process for process in self._started if process.pid == pid)
        assert process.stdin is not None
        assert process.stdout is not None
        return process.stdin, process.stdout

    def session(self, pid: int, session: str, folder: str = "w") -> Path:
        """Leave the pid file of a Claude; gives the path of its transcript, which is empty."""
        cwd = self.home / folder
        sessions = self.home / ".claude" / "sessions"
        sessions.mkdir(parents=True, exist_ok=True)
        told = {"pid": pid, "sessionId": session, "cwd": str(cwd), "procStart": str(start_time(pid))}
        (sessions / f"{pid}.json").write_text(json.dumps(told))
        project = self.home / ".claude" / "projects" / slug(os.path.realpath(cwd))
        project.mkdir(parents=True, exist_ok=True)
        (project / f"{session}.jsonl").touch()
        return project / f"{session}.jsonl"

    def close(self) -> None:
        """End all of them; each leads a session, and what it started is in it or was killed by the test."""
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def say(path: Path, *lines: dict[str, Any]) -> None:
    """Append to a transcript."""
    with path.open("a") as file:
        for one in lines:
            file.write(json.dumps(one | {"sessionId": path.stem}) + "\n")


def now() -> float:
    """Wall-clock seconds."""
    return time.time()
