"""A kernel that starts one run, reports its ref and waits to be killed. Run as a script by the rig."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

import anyio

from agenttop.core.backend import BackendContext, Launch, load
from agenttop.core.clock import SystemClock


class _Doors:
    """Loses everything, as a kernel without a holder does."""

    port = 1

    async def add(self, key: str, listener: Any) -> None: ...
    async def remove(self, key: str) -> None: ...
    async def keep(self, key: str, fd: int) -> None: ...
    async def drop(self, key: str) -> None: ...
    def has(self, key: str) -> bool:
        return False


async def _main(name: str, state: Path, settings: dict[str, Any], launch: Launch) -> None:
    backend = load(name)(BackendContext(state, SystemClock(), _Doors(), settings))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(backend.run)
        ref = await backend.start(launch)
        answer = pickle.dumps(ref)
        os.write(1, len(answer).to_bytes(8, "little") + answer)
        await anyio.sleep_forever()


if __name__ == "__main__":
    signal.alarm(60)  # never outlives a broken test
    size = int.from_bytes(sys.stdin.buffer.read(8), "little")
    anyio.run(_main, *pickle.loads(sys.stdin.buffer.read(size)))
