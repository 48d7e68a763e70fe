"""What the contract's tests look with: scripts that behave badly, and the machine's own view of them."""

from __future__ import annotations

from pathlib import Path

import anyio

from agenttop.core.backend import Chunk, Process, RunRef, Step

from .rig import DEADLINE, Rig

BURN = "while :; do :; done"
#: A child in a session of its own whose parents have ended: only a cgroup or the marker finds it.
DAEMON = "(setsid sh -c 'trap \"\" TERM; echo daemon; while :; do sleep 1; done' &); exec sleep 600"
#: Six workers that start new processes for ever.
STORM = "w() { while :; do sh -c ':' ; done; }; for i in 1 2 3 4 5 6; do w & done; echo storm; wait"
#: Every process lives a moment and starts its successor in a new session: no pid is there twice.
CHAIN = 'n() { setsid sh -c "$S" & }; echo chain; n; exec sleep 600'


def text(chunks: list[Chunk], stream: str = "out") -> bytes:
    return b"".join(chunk.data for chunk in chunks if chunk.stream == stream)


def ticks(processes: list[Process]) -> dict[int, int]:
    """CPU ticks of each process, from /proc and not from the backend."""
    used = {}
    for process in processes:
        try:
            stat = Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        used[process.pid] = int(stat[11]) + int(stat[12])
    return used


def alive(pid: int) -> bool:
    """Whether a process of this id runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in (b"Z", b"X")


async def stands_still(rig: Rig, ref: RunRef, seconds: float = 0.3) -> bool:
    """Whether no process of the tree uses CPU, starts or ends over a while."""
    before = ticks(await rig.backend.processes(ref))
    await anyio.sleep(seconds)
    return ticks(await rig.backend.processes(ref)) == before


async def goes_on(rig: Rig, ref: RunRef) -> bool:
    """Whether the tree uses CPU, starts or ends processes; on a busy machine its turn may come late."""
    before = ticks(await rig.backend.processes(ref))
    with anyio.move_on_after(DEADLINE):
        while ticks(await rig.backend.processes(ref)) == before:
            await anyio.sleep(0.05)
        return True
    return False


async def killed(rig: Rig, ref: RunRef, grace: float) -> tuple[int, list[Step]]:
    """Stop a run, check the proof against /proc; returns how many processes it had."""
    members = [process.pid for process in await rig.backend.processes(ref)]
    steps: list[Step] = []
    with anyio.fail_after(DEADLINE):
        proof = await rig.backend.stop(ref, grace=grace, on_step=steps.append)
    assert proof.survivors == ()
    assert proof.ended == proof.processes
    assert proof.processes >= 1
    assert proof.mechanism
    assert tuple(steps) == proof.steps
    assert steps, "a kill without evidence is not proven"
    assert all(step.what for step in steps)
    assert all(step.ok for step in steps)
    assert [pid for pid in members if alive(pid)] == []
    return proof.processes, steps


def ticks_of(pids: list[int]) -> dict[int, int]:
    return ticks([Process(pid, 0, 0, "", 0.0, 0, "") for pid in pids])
