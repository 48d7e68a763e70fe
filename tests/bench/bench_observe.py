"""Transcripts read to the last token, against ccusage's native binary on the same files.

Run: python tests/bench/bench_observe.py [MEGABYTES]. Needs npm for the rival (installed into the temporary
folder's ``ccusage``), or ``AGENTTOP_CCUSAGE`` with the path of its binary; without, that part is left out.
``watch [SESSIONS]`` instead measures the watching of live sessions, see ``watching.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import watching

ROUNDS = 3
REFRESHES = 20
#: Seconds between two looks at the memory.
SAMPLING = 0.03
#: 20.0.26 has no binary in the registry.
RIVAL = "20.0.24"


class Run(NamedTuple):
    """Wall and CPU seconds, and kilobytes at the peak."""

    wall: float
    cpu: float
    memory: int
    totals: tuple[int, ...]


def rival() -> Path | None:
    """ccusage's native binary."""
    if named := os.environ.get("AGENTTOP_CCUSAGE"):
        return Path(named)
    folder = Path(tempfile.gettempdir(), "ccusage")
    found = list(folder.glob("node_modules/@ccusage/*/bin/ccusage"))
    if not found and shutil.which("npm"):
        folder.mkdir(exist_ok=True)
        packages = [f"ccusage@{RIVAL}", f"@ccusage/ccusage-linux-x64@{RIVAL}"]
        command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", *packages]
        subprocess.run(command, check=False, capture_output=True)
        found = list(folder.glob("node_modules/@ccusage/*/bin/ccusage"))
    if not found:
        return None
    found[0].chmod(0o755)
    return found[0]


def environment(home: Path) -> dict[str, str]:
    return os.environ | {
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "CODEX_HOME": str(home / ".codex"),
        "TZ": "UTC",
    }


class Peak(threading.Thread):
    """The most memory that a process and all below it held at once, kilobytes; shared pages count once.

    ``ru_maxrss`` will not do: it begins with what the process had that started it, and is one process's.
    """

    def __init__(self, pid: int) -> None:
        super().__init__()
        self._pid = pid
        self._over = threading.Event()
        self.most = 0

    def run(self) -> None:
        while not self._over.wait(SAMPLING):
            self.most = max(self.most, sum(map(self._held, self._tree(self._pid))))

    def stop(self) -> int:
        self._over.set()
        self.join()
        return self.most

    def _tree(self, pid: int) -> list[int]:
        try:
            below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            below = []
        return [pid, *(one for child in below for one in self._tree(int(child)))]

    def _held(self, pid: int) -> int:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


def measured(command: list[str], home: Path) -> tuple[Run, bytes]:
    """Run a command; what it took (no totals yet), and what it said."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE)
    assert process.stdout is not None
    peak = Peak(process.pid)
    peak.start()
    with process.stdout:
        said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    spent = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed: {process.returncode}")
    return Run(spent, used.ru_utime + used.ru_stime, peak.stop(), (0, 0, 0, 0)), said


def theirs(binary: Path, home: Path) -> Run:
    run, said = measured([str(binary), "daily", "--json", "--offline"], home)
    totals = json.loads(said)["totals"]
    names = ("inputTokens", "cacheReadTokens", "cacheCreationTokens", "outputTokens")
    return run._replace(totals=tuple(totals[name] for name in names))


def ours(home: Path, index: Path) -> tuple[Run, dict[str, Any]]:
    run, said = measured([sys.executable, __file__, "--read", str(home), str(index)], home)
    told = json.loads(said)
    return run._replace(totals=tuple(told["totals"])), told


def read(home: Path, path: Path) -> None:
    """What the measured process does: bring the index up to date and sum everything by day."""
    from agenttop.core.observe.index.history import History, Root
    from agenttop.core.observe.index.scan_index import ScanIndex
    from agenttop.core.observe.index.summing import Wish, groups

    index = ScanIndex(path)
    processes = min(os.cpu_count() or 1, 4)
    history = History(
        index,
        [Root("claude", f"{home}/.claude/projects"), Root("codex", f"{home}/.codex/sessions")],
        processes,
    )
    done = history.refresh()
    files = index.files()
    kinds, paths = {known.file: known.kind for known in files}, {known.file: known.path for known in files}
    sums = groups(index.sums_by_file(), kinds, index.facts(), paths, Wish(by=("day",), timezone="UTC"))
    spent = []
    for _ in range(REFRESHES):
        begun = time.perf_counter()
        history.refresh()
        spent.append(time.perf_counter() - begun)
    told = {
        "totals": [
            sum(row.input for row in sums),
            sum(row.cache_read for row in sums),
            sum(row.cache_write_5m + row.cache_write_1h for row in sums),
            sum(row.output for row in sums),
        ],
        "files": done.files,
        "read": done.read,
        "bytes": done.new_bytes,
        "refresh": statistics.median(spent),
    }
    print(json.dumps(told))


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from support.transcripts import large

    size = int(float(sys.argv[1]) * 1e6) if len(sys.argv) > 1 else 1_000_000_000
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "home")
        corpus = large(home, size)
        truth = tuple(corpus.total())
        print(f"{corpus.bytes / 1e6:.0f} MB in {len(corpus.files)} files, {sum(corpus.calls.values())} calls")
        binary = rival()
        mine, other, told = [], [], {}
        for number in range(ROUNDS):
            run, told = ours(home, Path(folder, f"index{number}.db"))
            mine.append(run)
            if binary:
                other.append(theirs(binary, home))
        show("agenttop", mine, truth)
        if binary:
            show(f"ccusage {RIVAL}", other, truth)
            for what in ("wall", "cpu", "memory"):
                ratios = [getattr(a, what) / getattr(b, what) for a, b in zip(mine, other, strict=True)]
                print(f"  {what}: {statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})")
        else:
            print("ccusage: not compared (no npm, or its binary could not be installed)")
        unchanged = told["refresh"] * 1e3
        each = unchanged / told["files"]
        print(f"unchanged: {unchanged:.2f} ms for {told['files']} files, {each * 200:.2f} for 200")
        grown = corpus.files[0]
        with grown.open("ab") as file:
            file.write(b"\n" + grown.read_bytes()[:100_000])
        run, told = ours(home, Path(folder, "index0.db"))
        print(
            f"second start, one file grown: {run.wall:.2f} s, {told['read']} file, {told['bytes']} bytes read"
        )


def show(name: str, runs: list[Run], truth: tuple[int, ...]) -> None:
    right = (
        "= truth" if all(run.totals == truth for run in runs) else f"NOT the truth {truth}: {runs[0].totals}"
    )
    wall, cpu = statistics.median(run.wall for run in runs), statistics.median(run.cpu for run in runs)
    memory = max(run.memory for run in runs) / 1024
    print(f"{name}: {wall:.2f} s, {cpu:.2f} s CPU, {memory:.0f} MB, totals {right}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        read(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1:2] == ["--watch"]:
        watching.watch(Path(sys.argv[2]), sys.argv[3] == "True")
    elif sys.argv[1:2] == ["watch"]:
        watching.main(int(sys.argv[2]) if len(sys.argv) > 2 else 200)
    else:
        main()
