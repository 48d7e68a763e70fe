"""Models that help the memory: through the kernel's own gateway, metered, and never in the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agenttop.core import config
from agenttop.core.api import BudgetRequest, RemoveRequest, Target
from agenttop.core.api import memory as api
from agenttop.core.budget.budget import Budget
from agenttop.core.client import KernelClient
from agenttop.core.errors import ConfigError
from agenttop.core.kernel import Kernel
from agenttop.core.paths import Paths
from agenttop.tui.demo.provider import MockProvider
from agenttop.tui.demo.provider.directives import Behaviour

from .conftest import KernelMaker, sh, until

pytestmark = pytest.mark.anyio
LONG = "\n".join(f"line {number} of what was planned" for number in range(40))


def configured(paths: Paths, url: str, more: str = "") -> None:
    """A provider with a key, which makes embeddings."""
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    key = paths.config_file.parent / "key"
    key.write_text("sk-test")
    key.chmod(0o600)
    paths.config_file.write_text(
        f'[providers.mock]\nprotocol = "openai"\nbase_url = "{url}"\nkey_file = "{key}"\n'
        f'[memory]\nembeddings = {{ provider = "mock", model = "text-embedding-3-small" }}\n{more}'
    )


@pytest.fixture
async def provider() -> AsyncIterator[MockProvider]:
    """The mock, to which calls go."""
    async with MockProvider() as provider:
        yield provider


@pytest.fixture
async def kernel(kernels: KernelMaker, paths: Paths, provider: MockProvider) -> AsyncIterator[Kernel]:
    """A kernel whose archive has an embedding model."""
    configured(paths, provider.url)
    async with kernels() as kernel:
        yield kernel


@pytest.fixture
def client(kernel: Kernel) -> KernelClient:
    """A person."""
    return kernel.client("ana")


async def write(client: KernelClient, key: str, text: str) -> None:
    await client.call(api.WRITE_NOTE, api.WriteNoteRequest(key=key, text=text))


async def search(client: KernelClient, query: str, mode: api.Mode = "meaning") -> api.SearchInfo:
    return await client.call(api.SEARCH, api.SearchRequest(query=query, tiers=["archival"], mode=mode))


async def test_notes_are_found_by_meaning_and_every_embedding_is_booked(
    client: KernelClient, provider: MockProvider
) -> None:
    await write(client, "animals", "the quick foxes jump")
    await write(client, "walls", "brick and mortar")

    async def found() -> bool:
        info = await search(client, "fox jumping")
        return not info.degraded and bool(info.hits) and info.hits[0].title == "shared/animals"

    await until(found, "the archive being searched by meaning", 30)
    info = await search(client, "fox jumping")
    assert info.hits[0].meaning
    (own,) = [one for one in await client.agents(all=True) if one.backend == "kernel"]
    assert own.name == "memory"

    async def booked() -> bool:
        (own,) = [one for one in await client.agents(all=True) if one.backend == "kernel"]
        told = sum(entry.usage.input for entry in provider.truth.entries)
        return own.tokens.input == told > 0  # what the provider says it gave, to the token

    await until(booked, "the calls being booked", 30)


async def test_a_provider_that_dies_leaves_words_and_says_why(
    client: KernelClient, provider: MockProvider
) -> None:
    provider.conduct.add(Behaviour(do="error", status=400))
    await write(client, "animals", "the quick foxes jump")
    info = await search(client, "foxes", "hybrid")
    assert [hit.title for hit in info.hits] == ["shared/animals"]
    assert "400" in info.degraded
    asked = len(provider.truth.entries)
    again = await search(client, "foxes", "hybrid")
    assert again.degraded
    assert len(provider.truth.entries) == asked, "one that failed is left alone for a while"
    notes = await client.call(api.NOTES, api.NotesRequest())
    assert notes.embeddings.startswith("mock/text-embedding-3-small: ")


async def test_a_budget_holds_the_memorys_calls_like_any_others(
    client: KernelClient, provider: MockProvider
) -> None:
    await client.set_budget(BudgetRequest(budget=Budget(name="none", tokens=1, action="deny")))
    await write(client, "animals", "the quick foxes jump")
    info = await search(client, "foxes", "hybrid")
    assert "budget" in info.degraded
    assert provider.truth.entries == []
    assert [hit.title for hit in info.hits] == ["shared/animals"]


async def test_the_agent_that_makes_the_calls_outlives_kernels_and_is_made_anew_when_removed(
    kernels: KernelMaker, paths: Paths, provider: MockProvider
) -> None:
    configured(paths, provider.url)
    made: list[str] = []
    for _ in range(2):
        async with kernels() as kernel:
            client = kernel.client("ana")
            await write(client, f"n{len(made)}", "the quick foxes jump")
            await search(client, "foxes")
            (own,) = [one for one in await client.agents(all=True) if one.backend == "kernel"]
            made.append(own.id)
            assert (own.state, own.pid) == ("terminated", None)
            assert (await client.inspect("memory")).info.id == own.id
            assert await client.agents() == []  # it is not among those that run, and keeps no kernel alive
            await until(lambda: _idle(kernel), "the kernel having nothing to look after", 30)
    assert made[0] == made[1]
    async with kernels() as kernel:
        client = kernel.client("ana")
        (outcome,) = await client.restart(Target(refs=["memory"]))
        assert outcome.error is not None, outcome
        (removed,) = await client.remove(RemoveRequest(refs=["memory"]))
        assert removed.error is None, removed
        await search(client, "foxes")
        (own,) = [one for one in await client.agents(all=True) if one.backend == "kernel"]
        assert own.id != made[0]


async def _idle(kernel: Kernel) -> bool:
    return kernel.idle


async def test_what_left_a_block_leaves_a_summary_in_it(
    kernels: KernelMaker, paths: Paths, provider: MockProvider
) -> None:
    configured(paths, provider.url, 'summaries = { provider = "mock", model = "gpt-5.1-mini" }\n')
    async with kernels() as kernel:
        client = kernel.client("ana")
        made = await client.run(sh("exit 0"))
        await client.wait([made.id])
        wrote = await client.call(
            api.WRITE_BLOCK, api.WriteBlockRequest(agent="hello", name="plan", text=LONG, limit=400)
        )
        assert wrote.moved == []
        wrote = await client.call(
            api.WRITE_BLOCK, api.WriteBlockRequest(agent="hello", name="plan", text=LONG * 2)
        )
        assert wrote.moved

        async def summarised() -> bool:
            (block,) = await client.call(api.BLOCKS, api.BlocksRequest(agent="hello"))
            return block.changed_by == "agenttop" and block.text.endswith(wrote.block.text)

        await until(summarised, "the summary", 30)


@pytest.mark.parametrize(
    ("table", "wrong"),
    [
        ("block_tokens = 9000", "block_tokens"),
        ("block_tokens = 0", "block_tokens"),
        ("nonsense = 1", "nonsense"),
        ('retention = { age = "soon" }', "age"),
        ("retention = { entries = 0 }", "entries"),
        ('embeddings = { provider = "nobody", model = "m" }', "nobody"),
        ('embeddings = { provider = "anthropic", model = "m" }', "OpenAI"),
        ('embeddings = { model = "m" }', "provider"),
    ],
)
def test_a_wrong_table_is_refused_with_file_and_line(home: Path, table: str, wrong: str) -> None:
    paths = Paths.from_environ()
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text(f"[memory]\n{table}\n")
    with pytest.raises(ConfigError, match=wrong) as refused:
        config.load(paths)
    assert f"{paths.config_file}" in str(refused.value)
