"""What starting, freezing and killing cost, against the bare loops one would write instead.

Run: ``python tests/bench/bench_processes.py [agents]``. Every rival is measured in the same run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
import psutil

from agenttop.backends import proc
from agenttop.backends.subprocess import SubprocessBackend
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.backend import MARKER, BackendContext, Launch, RunRef
from agenttop.core.clock import SystemClock

#: A tree of five processes: the shell and its four children.
FIVE = ("sh", "-c", "sleep 600 & sleep 600 & sleep 600 & sleep 600 & wait")


class NoDoors:
    port = 1

    async def add(self, key: str, listener: Any) -> None: ...
    async def remove(self, key: str) -> None: ...
    async def keep(self, key: str, fd: int) -> None: ...
    async def drop(self, key: str) -> None: ...
    def has(self, key: str) -> bool:
        return False


def launch(state: Path, agent: str, command: tuple[str, ...]) -> Launch:
    agent = f"b{os.getpid():x}-{state.name}-{agent}"  # no other bench of this machine has these markers
    folder = state / "agents" / agent / "1"
    folder.mkdir(parents=True)
    env = {"PATH": os.environ["PATH"], MARKER: f"{agent}.1"}
    return Launch(agent, 1, AgentSpec(name=agent), folder, command, "/", env)


def bare_start(count: int) -> tuple[list[subprocess.Popen[bytes]], float]:
    began = time.perf_counter()
    started = [
        subprocess.Popen(FIVE, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for _ in range(count)
    ]
    return started, time.perf_counter() - began


def group_members(leaders: set[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {leader: [] for leader in leaders}
    for pid in proc.pids():
        process = proc.stat(pid)
        if process and process.group in found:
            found[process.group].append(pid)
    return found


def wait_for_trees(leaders: set[int], each: int) -> dict[int, list[int]]:
    while True:
        found = group_members(leaders)
        if all(len(pids) == each for pids in found.values()):
            return found
        time.sleep(0.01)


def bare_freeze(trees: dict[int, list[int]]) -> float:
    began = time.perf_counter()
    for leader, pids in trees.items():
        os.killpg(leader, signal.SIGSTOP)
        for pid in pids:
            while (found := proc.stat(pid)) and found.state != "T":
                time.sleep(0)
    return time.perf_counter() - began


def bare_kill(trees: dict[int, list[int]], started: list[subprocess.Popen[bytes]]) -> float:
    began = time.perf_counter()
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pid in trees[process.pid]:
            while (found := proc.stat(pid)) and found.alive:
                time.sleep(0)
    return time.perf_counter() - began


async def ours(state: Path, count: int, settings: dict[str, str]) -> dict[str, float]:
    backend = SubprocessBackend(BackendContext(state, SystemClock(), NoDoors(), settings))
    await backend.capabilities()
    launches = [launch(state, f"a{n}", FIVE) for n in range(count)]
    refs: dict[int, RunRef] = {}
    took: dict[str, float] = {}

    async def start(n: int) -> None:
        refs[n] = await backend.start(launches[n])

    async def freeze(n: int) -> None:
        frozen = await backend.freeze(refs[n])
        assert frozen.complete, frozen
        assert frozen.total == 6, frozen

    async def kill(n: int) -> None:
        killed = await backend.stop(refs[n], grace=0)
        assert killed.survivors == (), killed
        assert killed.processes == 6, killed

    async def all_of(name: str, call: Any) -> None:
        began = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for n in range(count):
                tasks.start_soon(call, n)
        took[name] = time.perf_counter() - began

    try:
        await all_of("start", start)
        while True:  # every tree complete: the wrapper and its five
            sizes = [len(await backend.processes(ref)) for ref in refs.values()]
            if all(size == 6 for size in sizes):
                break
            await anyio.sleep(0.05)
        await all_of("freeze", freeze)
        for ref in refs.values():
            await backend.thaw(ref)
        await all_of("kill", kill)
    finally:
        await leave(backend, [(launches[n], ref) for n, ref in refs.items()])
    return took


async def leave(backend: SubprocessBackend, started: list[tuple[Launch, RunRef]]) -> None:
    """Leave nothing behind, whatever failed."""
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as tasks:
            for each in started:
                tasks.start_soon(backend.forget, *each)
        await backend.close()


async def sampling(state: Path, count: int, settings: dict[str, str]) -> tuple[float, float]:
    """CPU seconds of a round over ``count`` sleeping runs: ours and psutil's; best of five."""
    backend = SubprocessBackend(BackendContext(state, SystemClock(), NoDoors(), settings))
    launches = [launch(state, f"s{n}", ("sleep", "600")) for n in range(count)]
    refs = {each.agent: await backend.start(each) for each in launches}
    mine, theirs = [], []
    for _ in range(12):
        await anyio.sleep(1)
        began = time.process_time()
        samples = await backend.sample(refs)
        mine.append(time.process_time() - began)
        assert len(samples) == count
        began = time.process_time()
        for ref in refs.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(ref["pid"])
                process.cpu_times()
                process.memory_info()
        theirs.append(time.process_time() - began)
    await leave(backend, [(each, refs[each.agent]) for each in launches])
    return sum(mine[2:]) / len(mine[2:]), sum(theirs[2:]) / len(theirs[2:])


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    mechanisms = sys.argv[2:] or ["cgroup2", "cgroup1", "signal"]
    state = Path(tempfile.mkdtemp(prefix="agenttop-bench-"))
    try:
        for mechanism in mechanisms:
            ratios: dict[str, list[float]] = {}
            for attempt in range(3):
                started, start = bare_start(count)
                trees = wait_for_trees({process.pid for process in started}, 5)
                freeze = bare_freeze(trees)
                for leader in trees:
                    os.killpg(leader, signal.SIGCONT)
                kill = bare_kill(trees, started)
                rival = {"start": start, "freeze": freeze, "kill": kill}
                took = anyio.run(ours, state / f"{mechanism}{attempt}", count, {"freeze": mechanism})
                for name, seconds in took.items():
                    ratios.setdefault(name, []).append(seconds / rival[name])
                    print(
                        f"{mechanism:8} {name:6} {count} trees: {seconds * 1e3:7.1f} ms,"
                        f" bare loop {rival[name] * 1e3:7.1f} ms, ratio {seconds / rival[name]:.2f}"
                    )
            medians = ", ".join(f"{name} {statistics.median(all_):.2f}" for name, all_ in ratios.items())
            print(f"{mechanism:8} median ratios: {medians}")
        for mechanism in sorted({"cgroup2", "signal"} & set(mechanisms)):
            mine, theirs = anyio.run(
                sampling, state / f"sample-{mechanism}", 5 * count, {"freeze": mechanism}
            )
            print(
                f"{mechanism:8} sample of {5 * count} runs: {mine * 1e3:.1f} ms CPU,"
                f" psutil {theirs * 1e3:.1f} ms, ratio {mine / theirs:.2f}"
            )
    finally:
        shutil.rmtree(state)


if __name__ == "__main__":
    main()
