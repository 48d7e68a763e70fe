"""``python -m tests.pilot.waiting_screen GO``: the screen over the canned fleet; once the file GO is there,
an agent whose name is hostile begins to wait for its person."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from agenttop.core.client import KernelClient
from agenttop.tui.app import AgentTopApp

from ..support.sample import SampleClient

WAITS = "api"
HOSTILE = "ev\x1b]2;il\x07;il"


async def waits(app: AgentTopApp, client: SampleClient, go: Path) -> None:
    """Let one wait when it may."""
    while not (app.model.known and go.exists()):
        await asyncio.sleep(0.02)
    row = next(row for row in client.rows.values() if row.name == WAITS)
    client.push(row._replace(name=HOSTILE, state="waiting", reason="input", needs=True))


def main(go: Path) -> None:
    client = SampleClient()
    tasks = []

    async def connect() -> KernelClient:
        tasks.append(asyncio.get_running_loop().create_task(waits(app, client, go)))
        return client

    app = AgentTopApp(connect)
    app.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
