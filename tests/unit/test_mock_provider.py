"""The mock provider: its protocol, its caching and its truth are what a meter is tested against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import anyio
import pytest

from agenttop.tui.demo.provider import INSTANT, MockProvider, Usage
from agenttop.tui.demo.provider.ask import Invalid
from agenttop.tui.demo.provider.directives import parse_directives
from agenttop.tui.demo.provider.limits import PerMinute

pytestmark = pytest.mark.anyio

BASH = {
    "name": "Bash",
    "input_schema": {
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
    },
}
LONG = "This is the project's guide for agents. " * 200


def client(provider: MockProvider, retries: int = 0) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=provider.url, api_key="x", max_retries=retries, timeout=20)


def ask(prompt: str = "hello", **more: Any) -> dict[str, Any]:
    return {
        "model": "claude-haiku-5-5",
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": prompt}],
        **more,
    }


async def test_stream_and_message_say_the_same_and_the_truth_agrees_with_both() -> None:
    async with MockProvider() as provider, client(provider) as api:
        whole = await api.messages.create(**ask())
        async with api.messages.stream(**ask()) as stream:
            streamed = await stream.get_final_message()
    assert [b.text for b in whole.content] == [b.text for b in streamed.content]  # type: ignore[union-attr]
    assert (whole.stop_reason, streamed.stop_reason) == ("end_turn", "end_turn")
    assert whole.usage.output_tokens == streamed.usage.output_tokens > 1
    first, second = provider.truth.entries
    assert (
        first.usage == second.usage == Usage(input=whole.usage.input_tokens, output=whole.usage.output_tokens)
    )
    assert (first.stream, second.stream) == (False, True)
    assert second.events_sent == second.events_planned
    assert second.announced["output_tokens"] == streamed.usage.output_tokens
    assert [e.outcome for e in (first, second)] == ["complete", "complete"]
    assert (first.id, second.id) == (whole.id, streamed.id)


async def test_request_id_and_rate_limits_are_in_the_headers() -> None:
    async with MockProvider() as provider, client(provider) as api:
        raw = await api.messages.with_raw_response.create(**ask())
    assert raw.headers["request-id"] == provider.truth.entries[0].request_id
    left = int(raw.headers["anthropic-ratelimit-requests-remaining"])
    assert left == int(raw.headers["anthropic-ratelimit-requests-limit"]) - 1
    assert raw.headers["anthropic-ratelimit-output-tokens-reset"].endswith("Z")


async def test_a_client_with_tools_is_given_one_call_and_its_turn_ends_with_the_result() -> None:
    async with MockProvider() as provider, client(provider) as api:
        first = await api.messages.create(**ask(tools=[BASH]))
        call = next(block for block in first.content if block.type == "tool_use")
        assert (first.stop_reason, call.name, call.input) == (
            "tool_use",
            "Bash",
            {"command": "echo hi", "description": "Say hi"},
        )
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "hi"}
        history = [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": [b.model_dump() for b in first.content]},
            {"role": "user", "content": [result]},
        ]
        second = await api.messages.create(**ask() | {"messages": history, "tools": [BASH]})
    assert second.stop_reason == "end_turn"
    assert provider.truth.entries[0].tools == ["Bash"]


async def test_tools_follow_the_directive_and_unknown_ones_are_filled_from_their_schema() -> None:
    order = {
        "name": "order",
        "input_schema": {
            "type": "object",
            "properties": {"count": {"type": "integer", "minimum": 3}, "kind": {"enum": ["a", "b"]}, "x": {}},
            "required": ["count", "kind"],
        },
    }
    async with MockProvider() as provider, client(provider) as api:
        reply = await api.messages.create(**ask("[[mock:tools=order calls=2]]", tools=[BASH, order]))
    calls = [block for block in reply.content if block.type == "tool_use"]
    assert [(c.name, c.input) for c in calls] == [("order", {"count": 3, "kind": "a"})] * 2
    assert len({c.id for c in calls}) == 2


async def test_a_growing_conversation_reads_what_it_wrote_before() -> None:
    """Everything up to the mark is written once, read later, and only what is new is written then."""
    marked = {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}
    async with MockProvider() as provider, client(provider) as api:
        first = await api.messages.create(**ask("one", system=[marked]))
        again = await api.messages.create(**ask("two", system=[marked]))
        longer = [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": LONG},
            {
                "role": "user",
                "content": [{**marked, "text": "go on", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
            },
        ]
        grown = await api.messages.create(**ask(system=[marked]) | {"messages": longer})
    written = first.usage.cache_creation_input_tokens
    assert written
    assert first.usage.cache_read_input_tokens == 0
    assert (again.usage.cache_read_input_tokens, again.usage.cache_creation_input_tokens) == (written, 0)
    assert grown.usage.cache_read_input_tokens == written
    assert grown.usage.cache_creation is not None
    assert (
        grown.usage.cache_creation.ephemeral_1h_input_tokens == grown.usage.cache_creation_input_tokens > 2000
    )
    assert grown.usage.cache_creation.ephemeral_5m_input_tokens == 0
    assert grown.usage.input_tokens == 0
    assert provider.truth.entries[2].usage.cache_write_1h == grown.usage.cache_creation_input_tokens


async def test_the_same_seed_repeats_itself_and_another_does_not() -> None:
    texts = []
    for seed in (1, 1, 2):
        async with MockProvider(seed=seed) as provider, client(provider) as api:
            reply = await api.messages.create(**ask("[[mock:output=200]]"))
            texts.append((reply.id, reply.content[0].text, reply.usage.output_tokens))  # type: ignore[union-attr]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]
    assert texts[0][2] == 200


async def test_max_tokens_cuts_the_reply() -> None:
    async with MockProvider() as provider, client(provider) as api:
        reply = await api.messages.create(**ask("[[mock:output=500]]", max_tokens=10))
    assert (reply.stop_reason, reply.usage.output_tokens) == ("max_tokens", 10)


async def test_thinking_comes_first_and_counts_as_output() -> None:
    async with MockProvider() as provider, client(provider) as api:
        thinking = {"type": "enabled", "budget_tokens": 1024}
        async with api.messages.stream(**ask(max_tokens=4000, thinking=thinking)) as stream:
            reply = await stream.get_final_message()
    assert [block.type for block in reply.content] == ["thinking", "text"]
    entry = provider.truth.entries[0]
    assert 0 < entry.usage.thinking < entry.usage.output == reply.usage.output_tokens


async def test_tokens_are_counted_as_they_would_be_billed() -> None:
    async with MockProvider() as provider, client(provider) as api:
        counted = await api.messages.count_tokens(model="claude-haiku-5-5", messages=ask(LONG)["messages"])
        reply = await api.messages.create(**ask(LONG))
        models = await api.models.list()
    assert counted.input_tokens == reply.usage.input_tokens
    assert "claude-haiku-5-5" in [model.id for model in models.data]


async def test_a_wrong_key_is_refused_and_costs_nothing() -> None:
    async with MockProvider(key="right") as provider, client(provider) as api:
        with pytest.raises(anthropic.AuthenticationError):
            await api.messages.create(**ask())
        assert provider.truth.entries[0].outcome == "refused"
        assert provider.truth.total() == Usage()
        good = api.with_options(api_key="right")
        assert (await good.messages.create(**ask())).usage.output_tokens > 0


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.InternalServerError),
    ],
)
async def test_an_error_wears_off_after_as_many_times_as_asked(status: int, error: type[Exception]) -> None:
    prompt = f"[[mock:error={status} times=2 retry_after=0]]"
    async with MockProvider() as provider, client(provider) as api:
        for _ in range(2):
            with pytest.raises(error):
                await api.messages.create(**ask(prompt))
        await api.messages.create(**ask(prompt))
    assert [e.status for e in provider.truth.entries] == [status, status, 200]
    assert provider.truth.total() == provider.truth.entries[2].usage


async def test_a_cut_stream_is_billed_as_far_as_it_was_sent() -> None:
    async with (
        MockProvider() as provider,
        client(provider) as api,
        api.messages.stream(**ask("[[mock:cut=5 output=400]]")) as stream,
    ):
        with pytest.raises(Exception, match="incomplete chunked read"):
            await stream.get_final_message()
        seen = stream.current_message_snapshot.content[0].text  # type: ignore[union-attr]
    entry = provider.truth.entries[0]
    assert (entry.outcome, entry.events_sent, len(seen)) == ("cut", 5, 48)
    assert entry.usage.output == 12 < entry.planned.output == 400
    assert entry.announced["output_tokens"] == 1


async def test_an_error_in_the_stream_reaches_the_client() -> None:
    async with (
        MockProvider() as provider,
        client(provider) as api,
        api.messages.stream(**ask("[[mock:stream_error=4]]")) as stream,
    ):
        with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
            await stream.get_final_message()
    assert (provider.truth.entries[0].outcome, provider.truth.entries[0].events_sent) == ("error", 4)


async def test_a_dropped_connection_has_no_headers_and_no_bill() -> None:
    async with MockProvider() as provider, client(provider) as api:
        with pytest.raises(anthropic.APIConnectionError):
            await api.messages.create(**ask("[[mock:drop]]"))
    assert (provider.truth.entries[0].outcome, provider.truth.total()) == ("dropped", Usage())


async def test_a_client_that_leaves_a_hanging_stream_is_noticed_and_billed_for_what_it_got() -> None:
    async with MockProvider() as provider, client(provider) as api:
        async with api.messages.stream(**ask("[[mock:hang=6 output=400]]")) as stream:
            async for event in stream:
                if event.type == "content_block_delta" and event.index == 0:
                    break
        with anyio.fail_after(10):
            while provider.truth.entries[0].outcome == "running":
                await anyio.lowlevel.checkpoint()
    entry = provider.truth.entries[0]
    assert (entry.outcome, entry.events_sent, entry.usage.output) == ("disconnected", 6, 18)


async def test_rules_for_the_calls_of_others_match_by_agent() -> None:
    async with MockProvider() as provider, client(provider) as api:
        rule = {"do": "error", "status": 529, "agent": "b", "times": 1}
        await api.post("/_behave", body=rule, cast_to=object)
        await api.messages.create(**ask(), extra_headers={"x-agent": "a"})
        with pytest.raises(anthropic.InternalServerError):
            await api.messages.create(**ask(), extra_headers={"x-agent": "b"})
        await api.messages.create(**ask(), extra_headers={"x-agent": "b"})
        told: Any = await api.get("/_truth?agent=b", cast_to=object)
        with pytest.raises(anthropic.BadRequestError):
            await api.post("/_behave", body={"do": "eror"}, cast_to=object)
    assert [(c["agent"], c["status"]) for c in told["calls"]] == [("b", 529), ("b", 200)]
    assert told["total"] == provider.truth.entries[2].usage._asdict()


def test_a_misspelt_directive_is_an_error() -> None:
    with pytest.raises(Invalid, match="unknown mock directive"):
        parse_directives("eror=429")


async def test_limits_refuse_when_they_are_enforced() -> None:
    provider = MockProvider(per_minute=PerMinute(requests=1), enforce_limits=True)
    async with provider, client(provider) as api:
        await api.messages.create(**ask())
        with pytest.raises(anthropic.RateLimitError) as caught:
            await api.messages.create(**ask())
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60


async def test_the_truth_file_has_each_begin_and_end(tmp_path: Path) -> None:
    file = tmp_path / "truth.ndjson"
    async with MockProvider(truth_file=file) as provider, client(provider) as api:
        await api.messages.create(**ask())
        during = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["event"] for line in during] == ["started", "ended"]
    assert during[1]["usage"] == provider.truth.entries[0].usage._asdict()
    assert during[1]["request_id"] == provider.truth.entries[0].request_id


async def test_the_path_before_the_providers_own_is_kept_as_the_agent() -> None:
    async with MockProvider() as provider, client(provider) as api:
        prefixed = api.with_options(base_url=f"{provider.url}/a/s3cret/anthropic")
        await prefixed.messages.create(**ask())
    entry = provider.truth.entries[0]
    assert (entry.prefix, entry.agent) == ("/a/s3cret/anthropic", "/a/s3cret/anthropic")


async def test_a_hundred_streams_at_once_are_all_counted() -> None:
    async with MockProvider(speed=50) as provider, client(provider) as api:
        seen: list[int] = []

        async def one(number: int) -> None:
            async with api.messages.stream(**ask(f"{number} [[mock:output=100]]")) as stream:
                seen.append((await stream.get_final_message()).usage.output_tokens)

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(one, number)
    assert seen == [100] * 100
    assert provider.truth.total().output == 10_000
    assert {entry.outcome for entry in provider.truth.entries} == {"complete"}


async def test_at_the_pace_of_life_tokens_arrive_one_after_another() -> None:
    async with MockProvider(speed=20) as provider, client(provider) as api:
        await api.messages.create(**ask("[[mock:output=150]]"))
        async with api.messages.stream(**ask("[[mock:output=150]]")) as stream:
            await stream.get_final_message()
    assert INSTANT > 20
    for entry in provider.truth.entries:
        assert entry.ended is not None
        assert entry.first_byte is not None
    streamed = provider.truth.entries[1]
    assert streamed.ended is not None
    assert streamed.first_byte is not None
    assert streamed.ended - streamed.first_byte > 150 / 180 / 20 * 0.9
