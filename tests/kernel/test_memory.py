"""Memory through the client contract: what every way to the kernel answers of the three tiers."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from agenttop.core.api import RemoveRequest
from agenttop.core.api import memory as api
from agenttop.core.client import KernelClient
from agenttop.core.clock import SystemClock
from agenttop.core.errors import Conflict, Forbidden, NoSuchAgent, UsageError
from agenttop.core.kernel import Kernel
from agenttop.core.memory.memory import Memory
from agenttop.core.memory.model import MemoryRefused, Said, Who, WriteRace
from agenttop.core.paths import Paths
from agenttop.core.syscalls.caller import Caller

from .conftest import KernelMaker, reached, sh, until

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


async def test_each_tier_is_searched_in_its_own_order_and_shows_the_part_with_the_words(
    client: KernelClient,
) -> None:
    await agent(client)
    pad = "nothing here " * 60
    await client.call(
        api.WRITE_BLOCK, api.WriteBlockRequest(agent="hello", name="plan", text=f"{pad}the kumquat {pad}")
    )
    await client.call(api.WRITE_NOTE, api.WriteNoteRequest(key="fruit/kumquat", text=f"{pad}Kumquât {pad}"))
    found = await client.call(api.SEARCH, api.SearchRequest(query="kumquat", mode="words"))
    assert [hit.tier for hit in found.hits] == ["working", "archival"]
    assert all("umqu" in hit.text and len(hit.text) < 400 for hit in found.hits)
    assert [hit.title for hit in found.hits] == ["plan", "shared/fruit/kumquat"]
    assert found.seconds > 0
    only = await client.call(api.SEARCH, api.SearchRequest(query="kumquat", tiers=["working"]))
    assert [hit.tier for hit in only.hits] == ["working"]
    hybrid = await client.call(api.SEARCH, api.SearchRequest(query="kumquat"))
    assert "no embedding model" in hybrid.degraded


async def test_no_search_is_a_syntax_error(client: KernelClient) -> None:
    await agent(client)
    for query in ('"', 'a" OR "', "NEAR(", "* ^ -", "a:b (c", "'; DROP TABLE entry --", "\\"):
        found = await client.call(api.SEARCH, api.SearchRequest(query=query))
        assert found.hits == [], query
        assert (await client.call(api.RECALL, api.RecallRequest(query=query))).entries == [], query


async def test_names_that_lead_elsewhere_are_refused(client: KernelClient) -> None:
    for namespace, key in (
        ("private/..", "k"),
        ("../x", "k"),
        ("team/a/../b", "k"),
        ("shared", "../../etc/passwd"),
        ("shared", "a//b"),
        ("shared", "a\x1b[2Jb"),
        ("shared/x", "k"),
    ):
        with pytest.raises((MemoryRefused, NoSuchAgent)):
            await client.call(api.WRITE_NOTE, api.WriteNoteRequest(namespace=namespace, key=key, text="x"))
    assert (await client.call(api.NOTES, api.NotesRequest())).total == 0


async def test_what_is_too_long_is_refused_and_what_is_hostile_is_kept_as_it_is(
    client: KernelClient,
) -> None:
    with pytest.raises(MemoryRefused, match="too long"):
        await client.call(api.WRITE_NOTE, api.WriteNoteRequest(key="k", text="x" * (2 << 20)))
    hostile = "\x1b]0;owned\x07 \u202e ]]>\0 end"
    await client.call(api.WRITE_NOTE, api.WriteNoteRequest(key="k", text=hostile))
    assert (await client.call(api.NOTE, api.NoteRequest(key="k"))).text == hostile
    raw = bytes(range(256))
    await client.call(
        api.WRITE_NOTE,
        api.WriteNoteRequest(key="file", text=base64.b64encode(raw).decode(), base64=True),
    )
    file = await client.call(api.NOTE, api.NoteRequest(key="file", base64=True))
    assert (base64.b64decode(file.text), file.file, file.size) == (raw, True, 256)
    with pytest.raises(MemoryRefused, match="base64"):
        await client.call(api.WRITE_NOTE, api.WriteNoteRequest(key="file", text="%%%", base64=True))


async def test_notes_say_who_wrote_them_and_lists_are_cut(client: KernelClient) -> None:
    for number in range(3):
        await client.call(api.WRITE_NOTE, api.WriteNoteRequest(key=f"n{number}", text="long " * 500))
    listed = await client.call(api.NOTES, api.NotesRequest(namespace="shared", after="n0", limit=1))
    assert [(note.key, len(note.text), note.size) for note in listed.notes] == [("n1", 400, 2500)]
    assert listed.total == 3
    assert [(space.name, space.notes, space.write) for space in listed.spaces] == [("shared", 3, True)]
    newest = await client.call(api.NOTES, api.NotesRequest())
    assert [note.key for note in newest.notes] == ["n2", "n1", "n0"]
    assert {note.by for note in newest.notes} == {"@ana"}
    assert listed.embeddings == "off"


async def test_exports_are_private_files_and_come_in_again(client: KernelClient, tmp_path: Path) -> None:
    await agent(client)
    await client.call(api.WRITE_BLOCK, api.WriteBlockRequest(agent="hello", name="plan", text="do it"))
    await client.call(api.WRITE_NOTE, api.WriteNoteRequest(key="a/b", text="deep"))
    path = tmp_path / "out.jsonl"
    done = await client.call(api.EXPORT, api.ExportRequest(path=str(path)))
    assert (done.blocks, done.entries, done.notes) == (1, 0, 1)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(MemoryRefused):
        await client.call(api.EXPORT, api.ExportRequest(path=str(path)))
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    with pytest.raises(MemoryRefused):
        await client.call(api.IMPORT, api.ImportRequest(path=str(link)))
    for wrong in ("out.jsonl", str(tmp_path / ".." / "x")):
        with pytest.raises(UsageError):
            await client.call(api.EXPORT, api.ExportRequest(path=wrong))
    folder = tmp_path / "notes"
    await client.call(api.EXPORT, api.ExportRequest(path=str(folder), format="markdown", namespace="shared"))
    assert (folder / "a" / "b.md").read_text() == "deep"
    (folder / "sly.md").symlink_to("/etc/passwd")
    again = await client.call(
        api.IMPORT, api.ImportRequest(path=str(folder), format="markdown", namespace="team/red")
    )
    assert again.notes == 1
    assert len(again.skipped) == 1
    other = await agent(client, "other")
    await client.call(api.IMPORT, api.ImportRequest(path=str(path), agent="other"))
    (block,) = await client.call(api.BLOCKS, api.BlocksRequest(agent=other))
    assert (block.text, block.changed_by) == ("do it", "@ana")


async def test_an_evicted_block_is_in_recall_and_comes_back_but_a_pinned_one_stays(
    client: KernelClient,
) -> None:
    id = await agent(client)
    write = api.WriteBlockRequest(agent="hello", name="plan", text="do it well", pinned=True)
    await client.call(api.WRITE_BLOCK, write)
    ask = api.BlockRequest(agent="hello", name="plan")
    with pytest.raises(MemoryRefused, match="stays"):
        await client.call(api.EVICT, ask)
    await client.call(api.PIN, api.PinRequest(agent="hello", name="plan", pinned=False))
    out = await client.call(api.EVICT, ask)
    assert out is not None
    assert [one.block for one in out.moved] == ["plan"]
    (entry,) = (await client.call(api.RECALL, api.RecallRequest(agent="hello"))).entries
    assert (entry.agent, entry.name, entry.text) == (id, "hello", "do it well")
    fill = await client.call(api.FILL, api.AgentRequest(agent="hello"))
    assert (fill.recall_entries, fill.recall_bytes, fill.recall_tokens) == (1, 10, 3)
    assert sum(fill.recall_spark) == 1
    assert len(fill.recall_spark) == 60
    back = await client.call(api.PROMOTE, api.PromoteRequest(agent="hello", entry=entry.id, block="plan"))
    assert back.block.text == "do it well"
    moves = await client.call(api.MOVES, api.MovesRequest(agent="hello"))
    assert [(move.source, move.target) for move in moves] == [("recall", "working"), ("working", "recall")]


# --- as an agent


async def as_agent(kernel: Kernel, id: str, verb: str, **fields: object) -> object:
    known = kernel.syscalls.named(verb)
    return await kernel.syscalls.call(Caller(id, "ana", 1), known, known.request(**fields))


async def test_an_agent_has_its_own_memory_its_teams_and_what_is_shared(kernel: Kernel) -> None:
    client = kernel.client("ana")
    one = await agent(client, "one", labels={"team": "red"})
    two = await agent(client, "two", labels={"team": "red"})
    three = await agent(client, "three")
    await as_agent(kernel, one, "memory.write-block", name="plan", text="secret plan")
    note = await as_agent(kernel, one, "memory.write-note", namespace="private", key="k", text="own")
    assert isinstance(note, api.NoteInfo)
    assert (note.namespace, note.by, note.by_name, note.run) == (f"private/{one}", one, "one", 1)
    await as_agent(kernel, one, "memory.write-note", namespace="team", key="k", text="ours")
    shared = await as_agent(kernel, two, "memory.note", namespace="team/red", key="k")
    assert isinstance(shared, api.NoteInfo)
    assert (shared.text, shared.by_name) == ("ours", "one")
    for verb, fields in (
        ("memory.blocks", {"agent": "one"}),
        ("memory.write-block", {"agent": "one", "name": "plan", "text": "x"}),
        ("memory.note", {"namespace": "private/one", "key": "k"}),
        ("memory.recall", {"agent": "one"}),
        ("memory.recall", {"agents": ["one", "three"]}),
        ("memory.fill", {"agent": "one"}),
        ("memory.forget", {"agent": "one", "everything": True}),
        ("memory.forget", {"namespace": "shared"}),
        ("memory.search", {"agent": "one", "query": "secret"}),
        ("memory.note", {"namespace": "team/red", "key": "k"}),
        ("memory.export", {"path": "/tmp/x"}),
    ):
        with pytest.raises(Forbidden):
            await as_agent(kernel, three, verb, **fields)
    found = await as_agent(kernel, three, "memory.search", query="secret own ours")
    assert isinstance(found, api.SearchInfo)
    assert found.hits == []
    seen = await client.call(api.SEARCH, api.SearchRequest(query="ours", agent="two", mode="words"))
    assert [hit.title for hit in seen.hits] == ["team/red/k"]


async def test_the_journal_hears_that_and_how_much_but_never_what(kernel: Kernel) -> None:
    client = kernel.client("ana")
    id = await agent(client)
    await client.call(
        api.WRITE_BLOCK, api.WriteBlockRequest(agent="hello", name="quokka", text=LONG, limit=60)
    )
    await client.call(api.FORGET, api.ForgetRequest(agent="hello", block="quokka"))

    async def told() -> list[tuple[str, str | None, str]]:
        found = [(one.kind, one.agent, one.text) async for one in client.events(follow=False)]
        mine = [one for one in found if one[0].startswith("Memory")]
        return mine if len(mine) == 2 else []

    moved, forgotten = sorted(await until(told, "both events", 30), reverse=True)
    assert moved[:2] == ("MemoryMoved", id)
    assert "went from working to recall" in moved[2]
    assert forgotten == ("MemoryForgotten", id, "memory: 1 block, 1 entry forgotten for good by @ana")
    raw = b"".join(path.read_bytes() for path in kernel.paths.journal.parent.glob("journal*"))
    assert b"MemoryForgotten" in raw
    assert b"quokka" not in raw
    assert b"of the plan" not in raw


async def test_memory_outlives_its_agent_and_its_kernel(kernels: KernelMaker) -> None:
    async with kernels() as kernel:
        client = kernel.client("ana")
        id = await agent(client)
        await kernel.memory.remember([Said(id, "user", "hello there", 1000.0)])
        await client.remove(RemoveRequest(refs=["hello"]))
        with pytest.raises(NoSuchAgent):
            await client.call(api.RECALL, api.RecallRequest(agent="hello"))
    async with kernels() as kernel:
        client = kernel.client("ana")
        for ref in (id, id[:3]):
            (entry,) = (await client.call(api.RECALL, api.RecallRequest(agent=ref))).entries
            assert (entry.text, entry.name) == ("hello there", id)
        assert id in await kernel.keeper.remembered()
        with pytest.raises(UsageError):
            await client.call(api.FORGET, api.ForgetRequest(agent=id))
        gone = await client.call(api.FORGET, api.ForgetRequest(agent=id, everything=True))
        assert gone.entries == 1
        with pytest.raises(NoSuchAgent):
            await client.call(api.RECALL, api.RecallRequest(agent=id))


async def test_retention_forgets_what_is_old_and_too_much_and_says_how_much(
    kernels: KernelMaker, paths: Paths
) -> None:
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text('[memory]\nretention = { age = "30d", entries = 2 }\n')
    async with kernels() as kernel:
        client = kernel.client("ana")
        id = await agent(client)
        now = kernel.clock.time()
        said = [Said(id, "user", f"word{number}", now - number) for number in range(4)]
        await kernel.memory.remember([*said, Said("gone", "user", "ancient", now - 40 * 86_400)])

        async def expired() -> bool:
            events = [one.text async for one in client.events(follow=False)]
            return "memory: 3 entries expired" in events

        await until(expired, "retention", 30)
        left = (await client.call(api.RECALL, api.RecallRequest())).entries
        assert [entry.text for entry in left] == ["word0", "word1"]
    async with kernels() as kernel:
        assert await kernel.memory.retained() + 86_400 > kernel.clock.time()
        await kernel.memory.remember([Said("gone", "user", "ancient", kernel.clock.time() - 40 * 86_400)])
        assert (await kernel.client("ana").call(api.RECALL, api.RecallRequest(query="ancient"))).entries


async def test_what_a_crash_kept_from_the_journal_is_told_at_the_next_start(
    kernels: KernelMaker, paths: Paths
) -> None:
    paths.make_state()
    person = Who(None, person="ana")
    async with Memory(paths.memory, SystemClock(), lambda *_: True) as memory:
        (entry,) = await memory.remember([Said("gone", "user", "hello", 1000.0)])
        await memory.forget_entries(person, ids=[entry])
    for _ in range(2):  # once, however often it starts
        async with kernels() as kernel:
            client = kernel.client("ana")

            async def told() -> list[str]:
                events = [one async for one in client.events(follow=False)]  # noqa: B023 - awaited
                return [one.text for one in events if one.kind == "MemoryForgotten"]

            assert await until(told, "the event", 30) == ["memory: 1 entry forgotten for good by @ana"]
            await until(lambda: _nothing_to_tell(kernel), "all being told", 30)


async def _nothing_to_tell(kernel: Kernel) -> bool:
    return not await kernel.memory.facts(1)
