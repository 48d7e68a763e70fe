"""Memory through the client contract: what every way to the kernel answers of the three tiers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import pytest

from agenttop.core.api import memory as api
from agenttop.core.client import KernelClient
from agenttop.core.errors import Conflict, Forbidden
from agenttop.core.kernel import Kernel
from agenttop.core.memory.model import WriteRace
from agenttop.core.paths import Paths
from agenttop.core.syscalls.caller import Caller

from .conftest import KernelMaker, reached, sh

pytestmark = pytest.mark.anyio
LONG = "\n".join(f"line {number} of the plan" for number in range(40))


@pytest.fixture(params=["local", "socket"])
async def client(
    request: pytest.FixtureRequest, kernels: KernelMaker, paths: Paths
) -> AsyncIterator[KernelClient]:
    """The same kernel, reached in each way."""
    async with reached(request.param, kernels, paths) as client:
        yield client


@pytest.fixture
async def kernel(kernels: KernelMaker) -> AsyncIterator[Kernel]:
    """A kernel to speak to as an agent."""
    async with kernels() as kernel:
        yield kernel


async def agent(client: KernelClient, name: str = "hello", **spec: object) -> str:
    made = await client.run(sh("exit 0", name, **spec))
    await client.wait([made.id])
    return made.id


def on_disk(paths: Paths, words: Iterable[bytes]) -> list[bytes]:
    """Which of these are in any file of the memory."""
    found = b"".join(path.read_bytes() for path in paths.memory.parent.glob("memory.db*"))
    return [word for word in words if word in found]


async def test_a_block_is_written_read_and_its_versions_told_apart(client: KernelClient) -> None:
    id = await agent(client)
    first = await client.call(api.WRITE_BLOCK, api.WriteBlockRequest(agent="hello", name="plan", text="one"))
    assert (first.block.agent, first.block.version, first.moved) == (id, 1, [])
    assert first.block.changed_by.startswith("@")
    await client.call(
        api.WRITE_BLOCK, api.WriteBlockRequest(agent=id, name="plan", text="two", append=True, expected=1)
    )
    (block,) = await client.call(api.BLOCKS, api.BlocksRequest(agent="hello"))
    assert block.text == "one\ntwo"
    versions = await client.call(api.BLOCK_VERSIONS, api.BlockRequest(agent="hello", name="plan"))
    assert [(one.version, one.text) for one in versions] == [(2, "one\ntwo"), (1, "one")]


async def test_a_lost_race_says_which_version_there_is_now(client: KernelClient) -> None:
    await agent(client)
    for version in range(3):
        await client.call(
            api.WRITE_BLOCK,
            api.WriteBlockRequest(agent="hello", name="plan", text=f"text {version}", expected=version),
        )
    with pytest.raises(Conflict, match="version 3") as lost:
        await client.call(
            api.WRITE_BLOCK, api.WriteBlockRequest(agent="hello", name="plan", text="late", expected=1)
        )
    assert lost.value.code == WriteRace.code
    await client.call(api.WRITE_NOTE, api.WriteNoteRequest(key="k", text="a", expected=0))
    with pytest.raises(Conflict, match="version 1"):
        await client.call(api.WRITE_NOTE, api.WriteNoteRequest(key="k", text="b", expected=0))


async def test_an_overflowing_block_moves_is_found_and_forgotten_to_the_last_byte(
    client: KernelClient, paths: Paths
) -> None:
    await agent(client)
    secret = "zanzibar-quokka"
    written = await client.call(
        api.WRITE_BLOCK,
        api.WriteBlockRequest(agent="hello", name="plan", text=f"{secret} first\n{LONG}", limit=60),
    )
    assert written.moved
    assert written.moved[0].block == "plan"
    (move,) = await client.call(api.MOVES, api.MovesRequest(agent="hello"))
    assert (move.what, move.source, move.target) == ("plan", "working", "recall")
    assert move.tokens == written.moved[0].tokens
    assert "60 tokens" in move.why
    found = await client.call(api.SEARCH, api.SearchRequest(query=secret))
    assert [(hit.tier, hit.name) for hit in found.hits] == [("recall", "hello")]
    assert secret in found.hits[0].text
    dry = await client.call(api.FORGET, api.ForgetRequest(query=secret, dry=True))
    assert (dry.blocks, dry.entries, dry.notes, dry.dry) == (0, 1, 0, True)
    assert on_disk(paths, [secret.encode()])
    gone = await client.call(api.FORGET, api.ForgetRequest(query=secret))
    assert (gone.blocks, gone.entries) == (0, 1)
    assert (await client.call(api.SEARCH, api.SearchRequest(query=secret))).hits == []
    assert on_disk(paths, [b"zanzibar", b"quokka", secret.encode()]) == []
    assert (await client.call(api.BLOCKS, api.BlocksRequest(agent="hello")))[0].text.endswith(
        "39 of the plan"
    )


async def test_a_person_who_names_an_agent_is_told_what_that_agent_may_use(client: KernelClient) -> None:
    mine = await agent(client, "mine", labels={"team": "checkout"})
    other = await agent(client, "other")
    for namespace in (f"private/{mine}", f"private/{other}", "team/checkout", "team/other", "shared"):
        await client.call(api.WRITE_NOTE, api.WriteNoteRequest(namespace=namespace, key="k", text="text"))
    info = await client.call(api.NOTES, api.NotesRequest(agent="mine"))
    usable = {f"private/{mine}", "team/checkout", "shared"}
    assert {one.name for one in info.spaces} == usable
    assert {one.namespace for one in info.notes} == usable
    assert info.total == 3


async def test_an_agent_is_not_told_what_another_may_use(kernel: Kernel) -> None:
    client = kernel.client("ana")
    mine, other = await agent(client, "mine"), await agent(client, "other")
    caller = Caller(mine, "ana", 1)
    with pytest.raises(Forbidden):
        await kernel.syscalls.call(caller, api.NOTES, api.NotesRequest(agent=other))
    assert await kernel.syscalls.call(caller, api.NOTES, api.NotesRequest(agent=mine))


async def test_a_list_of_recall_can_be_had_with_its_texts_cut(client: KernelClient) -> None:
    await agent(client)
    await client.call(api.WRITE_BLOCK, api.WriteBlockRequest(agent="hello", name="plan", text=LONG))
    await client.call(api.EVICT, api.BlockRequest(agent="hello", name="plan"))
    (cut,) = (await client.call(api.RECALL, api.RecallRequest(agent="hello", chars=10))).entries
    (whole,) = (await client.call(api.RECALL, api.RecallRequest(agent="hello"))).entries
    assert (cut.text, whole.text) == (LONG[:10], LONG)
