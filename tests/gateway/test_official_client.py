"""The official client, streaming and not, through the gateway: what it sees and what is booked."""

from __future__ import annotations

from typing import Any

import anthropic
import anyio
import pytest

from agenttop.core.gateway.desk import Refused
from agenttop.core.journal.events import Usage

pytestmark = pytest.mark.anyio
ASK: dict[str, Any] = {
    "model": "claude-opus-5-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hi"}],
}
TRUTH = Usage(input=1000, cache_read=5000, cache_write_5m=150, cache_write_1h=50, output=42, reasoning=7)
#: USD per million at list prices: 4 in, 0.20 read, 5 and 8 write, 20 out.
COST = (1000 * 4 + 5000 * 0.2 + 150 * 5 + 50 * 8 + 42 * 20) / 1e6


async def test_a_streamed_call_is_booked_to_the_token(open_bench: Any) -> None:
    async with open_bench() as bench:
        async with (
            anthropic.AsyncAnthropic(base_url=bench.base, api_key="placeholder") as client,
            client.messages.stream(**ASK) as stream,
        ):
            text = await stream.get_final_text()
        assert text == "Hello, world"
        (started,) = bench.desk.started
        (settled,) = bench.desk.settled
        assert (started.agent, started.run, started.model, started.stream) == ("a1", 3, ASK["model"], True)
        assert settled.call == started.call
        assert settled.usage == TRUTH
        assert settled.exact
        assert settled.outcome == "ok"
        assert settled.status == 200
        assert settled.cost_usd == pytest.approx(COST)
        assert settled.stop_reason == "end_turn"
        assert settled.request_id == "req_1"
        assert settled.context_used == TRUTH.total
        assert settled.context_limit == 1_000_000
        assert settled.first_token_seconds is not None


async def test_an_unstreamed_call_is_booked_to_the_token(open_bench: Any) -> None:
    async with open_bench() as bench:
        async with anthropic.AsyncAnthropic(base_url=bench.base, api_key="placeholder") as client:
            answer = await client.messages.create(**ASK)
        assert answer.usage.output_tokens == 42
        (settled,) = bench.desk.settled
        assert settled.usage == TRUTH._replace(reasoning=0)
        assert settled.exact
        assert settled.request_id == "req_2"


async def test_the_synchronous_client_works_too(open_bench: Any) -> None:
    def talk(base: str) -> str:
        with anthropic.Anthropic(base_url=base, api_key="placeholder") as client:
            with client.messages.stream(**ASK) as stream:
                streamed = stream.get_final_text()
            return streamed + client.messages.create(**ASK).content[0].text

    async with open_bench() as bench:
        assert await anyio.to_thread.run_sync(talk, bench.base) == "Hello, worldHello"
        assert len(bench.desk.settled) == 2


async def test_the_provider_key_replaces_the_placeholder(open_bench: Any, wire: Any) -> None:
    async with open_bench(prefix="/corp/anthropic") as bench:
        async with anthropic.AsyncAnthropic(base_url=bench.base, api_key="placeholder") as client:
            await client.messages.create(
                **ASK, extra_headers={"X-Own": "kept", "Authorization": "Bearer old"}
            )
        (seen,) = bench.provider.seen
        assert seen.header("x-api-key") == wire.KEY
        assert seen.header("authorization") is None
        assert seen.header("x-own") == "kept"
        assert seen.header("host") == f"127.0.0.1:{bench.provider.port}"
        assert seen.target == "/corp/anthropic/v1/messages"
        assert bench.secret not in str(seen)


async def test_passthrough_keeps_the_clients_own_credentials(open_bench: Any) -> None:
    async with open_bench(auth="passthrough", keys={}) as bench:
        async with anthropic.AsyncAnthropic(base_url=bench.base, auth_token="own-login") as client:
            await client.messages.create(**ASK)
        (seen,) = bench.provider.seen
        assert seen.header("authorization") == "Bearer own-login"


async def test_a_refused_call_is_not_tried_again(open_bench: Any) -> None:
    async with open_bench() as bench:
        bench.desk.refusal = Refused("budget", "the budget of this agent is used up")
        async with anthropic.AsyncAnthropic(base_url=bench.base, api_key="placeholder") as client:
            with pytest.raises(anthropic.APIStatusError, match="used up") as caught:
                await client.messages.create(**ASK)
        assert caught.value.status_code == 402
        assert caught.value.body["error"]["type"] == "billing_error"  # type: ignore[index]
        assert len(bench.desk.asked) == 1
        assert not bench.provider.seen
        (settled,) = bench.desk.settled
        assert (settled.outcome, settled.usage, settled.exact) == ("refused", Usage(), True)


async def test_a_providers_error_passes_unchanged_and_is_booked(open_bench: Any) -> None:
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'

    async def overloaded(seen: Any, writer: Any) -> None:
        writer.write(
            b"HTTP/1.1 529 \r\nContent-Type: application/json\r\nretry-after: 0\r\nContent-Length: %d\r\n\r\n"
            % len(body)
            + body
        )

    async with open_bench() as bench:
        bench.provider.script = overloaded
        async with anthropic.AsyncAnthropic(base_url=bench.base, api_key="x", max_retries=1) as client:
            with pytest.raises(anthropic.APIStatusError, match="Overloaded") as caught:
                await client.messages.create(**ASK)
        assert caught.value.status_code == 529
        assert caught.value.response.headers["retry-after"] == "0"
        assert [s.outcome for s in bench.desk.settled] == ["error", "error"]
        assert bench.desk.settled[0].status == 529
        assert bench.desk.settled[0].error == "overloaded_error: Overloaded"
        assert bench.desk.settled[0].usage == Usage()


async def test_a_hundred_streams_at_once(open_bench: Any) -> None:
    async with open_bench() as bench:
        async with anthropic.AsyncAnthropic(base_url=bench.base, api_key="x", max_retries=0) as client:

            async def one() -> None:
                async with client.messages.stream(**ASK) as stream:
                    assert await stream.get_final_text() == "Hello, world"

            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(one)
        assert len(bench.desk.settled) == 100
        assert all(s.usage == TRUTH and s.exact for s in bench.desk.settled)
        assert len({s.call for s in bench.desk.settled}) == 100
        assert bench.gateway.in_flight == 0
