"""What it costs to watch many agents of somebody else, and how soon a new line of theirs is on screen.

Run: python tests/bench/bench_observe.py watch [SESSIONS]. Each session is a real small process under the
CLI's name with a pid file and a transcript; one writer appends to all of them in turn. A kernel with one
open watch runs in a process of its own, and so does the same without ``[observe]``: the difference counts.
"""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

#: Calls in each transcript at the beginning.
BEFORE = 100
#: Seconds between two new calls of one session.
EACH = 5.0
SECONDS = 20.0


def watch(home: Path, enabled: bool) -> None:
    """What the measured process does: a kernel, and one watch; prints what it used and when rows moved."""
    import anyio

    from agenttop.core import config
    from agenttop.core.kernel import Kernel
    from agenttop.core.paths import Paths

    paths = Paths.from_environ({"AGENTTOP_HOME": str(home)})
    paths.config.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text(f"[observe]\nenabled = {str(enabled).lower()}\n")

    async def body() -> None:
        kernel = Kernel(paths, config.load(paths), environ={})
        told: dict[str, Any] = {"moved": [], "rows": 0}
        async with kernel.running():
            begun = time.perf_counter()
            with anyio.move_on_after(SECONDS + 4):
                used, since = 0.0, 0.0
                first = True
                async for change in kernel.client().watch("total"):
                    if change.rows and first:
                        told["first"], told["rows"] = time.perf_counter() - begun, len(change.rows)
                        first = False
                    now = time.time()
                    told["moved"] += [(row.name, row.output, now) for row in change.rows if row.observed]
                    if not since and time.perf_counter() - begun > 4:
                        used, since = _cpu(), time.perf_counter()
            told["share"] = 100 * (_cpu() - used) / (time.perf_counter() - since) if since else None
            await kernel.doors.dismiss()
        told["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(told), flush=True)

    anyio.run(body, backend_options={"use_uvloop": True})


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(count: int) -> None:
    """Build the rig, run both kernels, print."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.support.clis import Clis, line, reply, say

    with tempfile.TemporaryDirectory() as folder:
        clis = Clis(Path(folder, "person"))
        try:
            sessions = {}
            for number in range(count):
                pid = clis.start("claude", "READY; read line", f"w{number}")
                path = clis.session(pid, f"s{number}", f"w{number}")
                then = time.time() - 3600
                say(path, line("user", "go", then), *(reply(n, then + n) for n in range(BEFORE)))
                sessions[f"claude@{pid}"] = path
            bare, _ = run(Path(folder, "bare"), {}, enabled=False)
            told, written = run(Path(folder, "home"), sessions, enabled=True)
        finally:
            clis.close()
    report(count, bare, told, written)


def run(
    home: Path, sessions: dict[str, Path], *, enabled: bool
) -> tuple[dict[str, Any], dict[tuple[str, int], float]]:
    """One kernel while the sessions go on; what it told, and when each new call was written."""
    from tests.support.clis import reply, say

    command = [sys.executable, str(Path(__file__).with_name("bench_observe.py")), "--watch", str(home)]
    process = subprocess.Popen([*command, str(enabled)], stdout=subprocess.PIPE)
    written: dict[tuple[str, int], float] = {}
    begun, number = time.monotonic() + 3, BEFORE
    order = list(sessions.items())
    while order and process.poll() is None and time.monotonic() < begun + SECONDS:
        random.shuffle(order)
        for name, path in order:
            say(path, reply(number, time.time()))
            if time.monotonic() > begun + 1:  # before, the kernel may still be starting
                written[name, 42 * (number + 1)] = time.time()
            time.sleep(EACH / len(order))
        number += 1
    assert process.stdout is not None
    told = json.loads(process.stdout.read())
    process.wait()
    return told, written


def report(
    count: int, bare: dict[str, Any], told: dict[str, Any], written: dict[tuple[str, int], float]
) -> None:
    """The figures."""
    seen: dict[tuple[str, int], float] = {}
    for name, output, when in told["moved"]:
        seen.setdefault((name, output), when)
    late = sorted(seen[key] - when for key, when in written.items() if key in seen)
    rate = count / EACH
    share = told["share"] - bare["share"]
    print(f"{count} sessions, {rate:.0f} new calls a second in all, one watch open")
    print(f"  CPU of the kernel: {told['share']:.2f} % of one, {bare['share']:.2f} % without: {share:.2f} %")
    if late:
        middle, most = statistics.median(late), late[int(len(late) * 0.99)]
        print(f"  a new line on the feed after {middle:.2f} s, {most:.2f} s (99 %), {late[-1]:.2f} s (last)")
        print(f"  {len(late)} of {len(written)} lines seen one by one, the others together with their next")
    print(f"  first rows {told['first'] * 1e3:.0f} ms after the watch was opened")
    print(f"  memory of the kernel at most {told['memory']:.0f} MB")
    print(f"  (host: load {os.getloadavg()[0]:.1f})")
