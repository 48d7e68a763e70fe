"""A full disk: the journal refuses and says so, what runs can be seen and ended, and it heals by itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agenttop.core import quick

from .conftest import Shell, alive, until

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk"),
]


@pytest.fixture
def home(home: Path) -> Iterator[Path]:
    """A home on a disk of 8 MiB."""
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "agenttop-test", str(home)], check=True)
    yield home
    subprocess.run(["umount", str(home)], check=True)


def fill(home: Path) -> Path:
    """Take all that is left of the disk."""
    file = home / "filler"
    with file.open("ab", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    return file


def status(sh: Shell) -> dict[str, object]:
    found: dict[str, object] = quick.ask(sh.paths.socket, "/v1/status")
    return found


def test_a_full_disk_refuses_says_so_and_heals_without_loss(sh: Shell, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    sh.ok("run", "--name", "ends", "--", "sh", "-c", f"read x < {gate}; exit 7")
    sh.ok("run", "--name", "lives", "--", "sleep", "600")
    sh.ok("run", "--name", "doomed", "--", "sleep", "600")
    sh.ok(
        "run",
        "--name",
        "again",
        "--restart",
        "on-failure",
        "--backoff",
        "0.1s",
        "--",
        "sh",
        "-c",
        "sleep 600",
    )
    before = sh.agents()
    filler = fill(sh.home)

    said = sh.fails(1, "hold", "lives")
    assert "The disk is full. Free some space on the disk of" in said
    assert "the disk is full" in sh("run", "--name", "new", "--", "true").stderr.lower().replace(
        "no space left on device", "the disk is full"
    )
    assert {agent["name"] for agent in sh.ps()} == set(before)
    assert status(sh)["healthy"] is False
    assert "The disk is full" in sh.ok("kernel", "status")
    assert "The disk is full" in sh.ok("top", "-b", "-n", "1")

    # What ended meanwhile, and what was killed: the disk's being full protects nobody.
    gate.write_text("x\n")
    until(lambda: not alive(before["ends"]["pid"]), "the end of the one that ends")
    killed = sh.fails(1, "kill", "doomed")
    assert "not written down yet" in killed
    assert not alive(before["doomed"]["pid"])
    for pid in before["again"]["pids"]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
    assert alive(before["lives"]["pid"])

    filler.unlink()
    until(lambda: status(sh)["healthy"], "the journal's recovery")
    until(lambda: sh.agents()["ends"]["exit_code"] == 7, "the exit that happened meanwhile")
    until(lambda: sh.agents()["again"]["run"] == 2, "the restart that was due meanwhile")
    after = until(lambda: (a := sh.agents()) and a["doomed"]["detail"] == "killed" and a, "the kill's record")
    assert set(after) == set(before)
    assert after["lives"]["pid"] == before["lives"]["pid"]
    sh.ok("hold", "lives")
    sh.kill_kernel()
    assert sh.agent("ends")["exit_code"] == 7
    assert sh.agent("lives")["pid"] == before["lives"]["pid"]
