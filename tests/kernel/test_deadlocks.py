"""Real programs that ask each other in a ring: found, told with names, and broken where that is wanted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anyio
import pytest

from agenttop.core.api import StopRequest
from agenttop.core.api import bus as api
from agenttop.core.client import KernelClient
from agenttop.core.kernel import Kernel
from agenttop.core.paths import Paths

from .conftest import KernelMaker, sh, until

pytestmark = pytest.mark.anyio

DEADLINE = 60.0
NAMES = ("ann", "bob", "cid")

#: An agent that waits for a person to tell it whom to ask, and asks.
ASKER = """
import json, os, urllib.error, urllib.request

def call(name, **body):
    request = urllib.request.Request(os.environ["AGENTTOP_URL"] + "/sys/" + name, json.dumps(body).encode())
    try:
        return json.load(urllib.request.urlopen(request, timeout=90))
    except urllib.error.HTTPError as error:
        return json.load(error)

told = {"from_person": False}
while not told["from_person"]:
    [told] = call("bus.inbox", wait=60, limit=1)
call("bus.ack", ids=[told["id"]])
print(json.dumps(call("bus.ask", to=told["payload"], payload="?", timeout=60)), flush=True)
"""


async def start(client: KernelClient, folder: Path) -> None:
    script = folder / "asker.py"
    script.write_text(ASKER)
    for name in NAMES:
        await client.run(sh(f"exec {sys.executable} {script}", name=name))


async def ask_round(client: KernelClient) -> None:
    """Each is told to ask the next, one after the other: the last one closes the ring."""
    for count, (name, following) in enumerate(zip(NAMES, (*NAMES[1:], NAMES[0]), strict=True), 1):
        await client.call(api.SEND, api.SendRequest(to=name, payload=following))

        async def asked(count: int = count) -> bool:
            # The ring that is broken ends the last request at once.
            waits = (await client.call(api.WAITS, api.NoRequest())).waits
            return len(waits) >= min(count, 2)

        await until(asked, f"{name} asking", DEADLINE)


async def found(kernel: Kernel) -> dict[str, object]:
    async def told() -> list[dict[str, object]]:
        rows = await kernel.journal.tail(10, kinds=["DeadlockFound"])
        return [{**json.loads(row.body), "ts": row.ts} for row in rows]

    (event,) = await until(told, "the deadlock in the journal", DEADLINE)
    return event


async def test_a_ring_of_three_is_told_with_names(kernel: Kernel, tmp_path: Path) -> None:
    client = kernel.client("ana")
    await start(client, tmp_path)
    await ask_round(client)
    event = await found(kernel)
    assert event["names"] == ["cid", "ann", "bob"]
    assert event["broken"] is False
    waits = await client.call(api.WAITS, api.NoRequest())
    assert waits.rings == [["cid", "ann", "bob"]]
    asked_last = max(one.since for one in waits.waits)
    assert float(str(event["ts"])) - asked_last < 1.0
    rows = {
        row.name: row for agent in kernel.books.committed.agents if (row := kernel.feed.row(agent, "run", 0))
    }
    assert [rows[name].needs for name in NAMES] == [True] * 3
    assert rows["ann"].detail == "deadlock: ann → bob → cid → ann"
    assert rows["ann"].reason == "message"
    shown = await client.last_events(20)
    assert "deadlock, each waits for the next: cid → ann → bob → cid" in [one.text for one in shown]
    # One of them ends: nobody waits in a ring any more.
    await client.stop(StopRequest(refs=["ann"], how="kill"))

    async def over() -> bool:
        waits = await client.call(api.WAITS, api.NoRequest())
        return waits.rings == []

    await until(over, "the ring being gone", DEADLINE)


async def test_a_ring_is_broken_where_policy_says_so(
    paths: Paths, kernels: KernelMaker, tmp_path: Path
) -> None:
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text('[bus]\ndeadlock = "break"\n')
    async with kernels() as kernel:
        client = kernel.client("ana")
        await start(client, tmp_path)
        await ask_round(client)
        event = await found(kernel)
        assert event["broken"] is True
        with anyio.fail_after(DEADLINE):
            await client.wait(["cid"])
        said = b"".join([chunk.data async for chunk in client.output("cid")])
        error = json.loads(said)["error"]
        assert error["code"] == "deadlock"
        assert "cid → ann → bob → cid" in error["why"]
        waits = await client.call(api.WAITS, api.NoRequest())
        assert waits.rings == []
