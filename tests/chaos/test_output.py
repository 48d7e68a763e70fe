"""Output that is too fast, binary, or means to take over the terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

from agenttop.core import quick

from .conftest import COMMAND, Shell, until

KEEP = 8 << 20

#: About 200 MB/s for as long as it lives, in lines.
FLOOD = """
import os, time
block = (b"x" * 1023 + b"\\n") * 1024
began, written = time.monotonic(), 0
while True:
    written += os.write(1, block)
    ahead = written / 200e6 - (time.monotonic() - began)
    if ahead > 0:
        time.sleep(ahead)
"""

HOSTILE = (
    b"plain\x1b]0;owned\x07 \x1b[2J\x1b[31mred\x1b[0m \x9b31m \x1bc\x00\x07 \xff\xfe \x1b[6n caf\xc3\xa9\n"
)


def disk_use(folder: Path) -> int:
    return sum(os.stat(folder / name).st_blocks * 512 for name in os.listdir(folder))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_flood_of_output_stays_within_its_size_and_out_of_the_kernel(sh: Shell, tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    program = tmp_path / "flood.py"
    program.write_text(FLOOD)
    file.write_text(
        f'[agents.flood]\ncommand = ["{sys.executable}", "-S", "{program}"]\noutput = {{ bytes = {KEEP} }}\n'
    )
    sh.ok("up", "-f", str(file))
    agent, kernel = sh.agents()["flood"], sh.kernel
    folder = sh.paths.run_dir(agent["id"], 1)
    memory, cpu, began = resident(kernel), cpu_seconds(kernel), time.monotonic()
    peak = 0
    while time.monotonic() - began < 4:
        peak = max(peak, disk_use(folder))
        time.sleep(0.01)
    seconds = time.monotonic() - began
    written = (folder / "out").stat().st_size
    used = cpu_seconds(kernel) - cpu
    print(
        f"{written / seconds / 1e6:.0f} MB/s: at most {peak / 1e6:.0f} MB on the disk, "
        f"kernel {100 * used / seconds:.0f}% of a core, {(resident(kernel) - memory) / 1e6:+.1f} MB"
    )
    assert written > 20 * KEEP
    assert used / seconds < 0.25
    assert resident(kernel) - memory < 16 << 20
    # A look each 0.1 s, of which some come late on a busy machine: what was written meanwhile is above.
    assert peak < KEEP * 5 / 4 + max(200e6, written / seconds) * 2.5
    tail = sh.ok("logs", "--tail", "3", "flood")
    assert tail == ("x" * 1023 + "\n") * 3 or set(tail) <= {"x", "\n"}
    sh.ok("kill", "flood")


def test_hostile_output_is_harmless_on_a_terminal_and_raw_in_a_pipe(sh: Shell, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(HOSTILE)
    sh.ok("run", "--name", "evil", "--wait", "--", "cat", str(data))
    raw = subprocess.run(
        [*COMMAND, "logs", "evil"], env=sh.environ, capture_output=True, check=True, timeout=60
    ).stdout
    assert raw == HOSTILE

    ours, theirs = pty.openpty()
    with subprocess.Popen([*COMMAND, "logs", "evil"], env=sh.environ, stdout=theirs, stderr=theirs) as shown:
        os.close(theirs)
        seen = b""
        while True:
            try:
                piece = os.read(ours, 65_536)
            except OSError:
                break
            if not piece:
                break
            seen += piece
        assert shown.wait(30) == 0
    os.close(ours)
    for bad in (b"\x1b]", b"\x1b[2J", b"\x1bc", b"\x1b[6n", b"\x00", b"\x07", b"owned"):
        assert bad not in seen, seen
    assert b"plain" in seen
    assert b"\x1b[31mred" in seen
    assert "café".encode() in seen


def test_binary_output_comes_out_byte_for_byte(sh: Shell) -> None:
    sh.ok(
        "run",
        "--name",
        "noise",
        "--wait",
        "--",
        "sh",
        "-c",
        "head -c 300000 /dev/urandom | tee /tmp/noise.$$ | cat; rm /tmp/noise.$$",
    )
    agent = sh.agents()["noise"]
    kept = (sh.paths.run_dir(agent["id"], 1) / "out").read_bytes()
    raw = subprocess.run([*COMMAND, "logs", "noise"], env=sh.environ, capture_output=True, check=True).stdout
    assert len(raw) == 300_000
    assert raw == kept
    until(lambda: quick.ask(sh.paths.socket, "/v1/status")["healthy"], "the kernel's health")
