"""A call's turn: where it goes, when it is taken back, and that the client sees one answer of it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from agenttop.core.gateway.desk import Refused
from agenttop.core.gateway.limits import Limits
from agenttop.core.gateway.providers import Provider
from agenttop.core.journal.events import Usage

pytestmark = pytest.mark.anyio
STREAM = json.dumps({"model": "claude-opus-5-5", "stream": True, "max_tokens": 9, "messages": []}).encode()
WHOLE = json.dumps({"model": "claude-opus-5-5", "max_tokens": 9, "messages": []}).encode()
BUSY = frozenset({429, 529})


async def read_all(reader: asyncio.StreamReader) -> bytes:
    with anyio.fail_after(20):
        return await reader.read()


async def ask(bench: Any, body: bytes = WHOLE, headers: str = "") -> bytes:
    reader, writer = await bench.connect()
    writer.write(bench.post(body, headers=headers + "Connection: close\r\n"))
    answer = await read_all(reader)
    writer.close()
    return answer


def turned_away(times: int, then: Any, body: bytes = b'{"error":"busy"}', head: bytes = b"") -> Any:
    """A provider that is busy ``times`` times."""
    left = [times]

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        if left[0]:
            left[0] -= 1
            writer.write(b"HTTP/1.1 429 Busy\r\nretry-after: 3\r\n" + head)
            writer.write((b"" if head else b"Content-Length: %d\r\n" % len(body)) + b"\r\n" + body)
        else:
            await then(seen, writer)

    return script


@asynccontextmanager
async def second_provider(bench: Any, wire: Any, **settings: Any) -> AsyncIterator[Any]:
    """Another provider beside the bench's, called ``spare``."""
    other = wire.FakeProvider()
    async with wire.listening(other.take, other.tasks) as port:
        about = {"protocol": "anthropic", "key_env": "SPARE_KEY", **settings}
        spare = Provider(name="spare", base_url=f"http://127.0.0.1:{port}/spare", **about)
        bench.gateway.update({**bench.gateway._parts.providers, "spare": spare})
        yield other


@pytest.mark.parametrize("body", [STREAM, WHOLE])
async def test_a_busy_provider_is_tried_again_and_the_client_sees_one_answer(
    open_bench: Any, wire: Any, body: bytes
) -> None:
    async with open_bench() as bench:
        bench.desk.busy = BUSY
        bench.provider.script = turned_away(2, wire.usual_answer)
        answer = await ask(bench, body)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert answer.count(b"HTTP/1.1") == 1
        assert [seen.body for seen in bench.provider.seen] == [body] * 3
        assert len({seen.connection for seen in bench.provider.seen}) == 1  # the short answers were drained
        assert [status for _, status, _ in bench.desk.heads] == [429, 429, 200]
        assert bench.desk.heads[0][2][b"retry-after"] == b"3"
        (settled,) = bench.desk.settled
        assert (settled.attempts, settled.outcome, settled.exact) == (3, "ok", True)
        assert settled.usage.output == 42
        assert len(bench.desk.started) == 1


async def test_a_busy_answer_that_goes_on_and_on_is_hung_up_on(open_bench: Any, wire: Any) -> None:
    async def endless(seen: Any, writer: asyncio.StreamWriter) -> None:
        if len(bench.provider.seen) > 1:
            await wire.json_answer(seen, writer)
            return
        writer.write(b"HTTP/1.1 529 Overloaded\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(wire.as_chunk(b"x" * 10_000))
            await writer.drain()

    async with open_bench() as bench:
        bench.desk.busy = BUSY
        bench.provider.script = endless
        assert (await ask(bench)).startswith(b"HTTP/1.1 200 OK")
        with anyio.fail_after(10):
            await bench.provider.lost.wait()
        assert [seen.connection for seen in bench.provider.seen] == [1, 2]


async def test_a_busy_answer_that_does_not_end_is_not_waited_for(open_bench: Any, wire: Any) -> None:
    async def stuck(seen: Any, writer: asyncio.StreamWriter) -> None:
        if len(bench.provider.seen) > 1:
            await wire.json_answer(seen, writer)
            return
        writer.write(b"HTTP/1.1 429 Busy\r\nContent-Length: 5\r\n\r\nno")
        await writer.drain()
        await seen.reader.read()

    async with open_bench(limits=Limits(linger_seconds=0.1, tick_seconds=0.02)) as bench:
        bench.desk.busy = BUSY
        bench.provider.script = stuck
        assert (await ask(bench)).startswith(b"HTTP/1.1 200 OK")
        with anyio.fail_after(10):
            await bench.provider.lost.wait()
        assert len(bench.desk.settled) == 1


async def test_a_busy_provider_that_the_desk_lets_pass_is_seen_by_the_client(
    open_bench: Any, wire: Any
) -> None:
    async with open_bench() as bench:
        bench.provider.script = turned_away(1, wire.usual_answer)
        answer = await ask(bench)
        assert answer.startswith(b"HTTP/1.1 429 Busy")
        assert b"retry-after: 3\r\n" in answer
        assert [(s.outcome, s.status, s.attempts) for s in bench.desk.settled] == [("error", 429, 1)]


async def test_a_failing_provider_is_told_to_the_desk_and_passed_on(open_bench: Any) -> None:
    async def broken(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Down\r\nContent-Length: 2\r\n\r\n{}")

    async with open_bench() as bench:
        bench.desk.busy = BUSY
        bench.provider.script = broken
        assert (await ask(bench)).startswith(b"HTTP/1.1 503 Down")
        assert [head[:2] for head in bench.desk.heads] == [("anthropic", 503)]


async def test_the_desk_has_the_last_word_after_a_busy_answer(open_bench: Any, wire: Any) -> None:
    async with open_bench() as bench:
        bench.desk.busy = BUSY
        bench.desk.places = ["anthropic", Refused("throttled", "come later", retry_after=4000)]
        bench.provider.script = turned_away(9, wire.usual_answer)
        answer = await ask(bench)
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 60\r\n" in answer  # clients obey longer ones, and hang
        (settled,) = bench.desk.settled
        assert (settled.outcome, settled.attempts, settled.exact) == ("refused", 1, True)
        assert settled.usage == Usage()


async def test_a_client_that_leaves_between_two_attempts_is_not_sent_for_again(
    open_bench: Any, wire: Any
) -> None:
    async with open_bench() as bench:
        bench.desk.busy = BUSY
        bench.provider.script = turned_away(9, wire.usual_answer)
        bench.desk.places = ["anthropic"]
        _reader, writer = await bench.connect()

        def hold_the_second(seen: Any, to: asyncio.StreamWriter) -> Any:
            bench.desk.turn_hold = anyio.Event()
            return turned_away(9, wire.usual_answer)(seen, to)

        bench.provider.script = hold_the_second
        writer.write(bench.post(WHOLE))
        await bench.desk.until(lambda: len(bench.desk.turns) == 2)
        writer.transport.abort()
        (settled,) = await bench.settled()
        assert (settled.outcome, settled.exact, settled.usage) == ("client_cut", True, Usage())
        assert settled.attempts == len(bench.provider.seen) == 1


@pytest.mark.parametrize("body", [STREAM, WHOLE])
async def test_a_fallback_gets_its_own_address_and_its_own_key(
    open_bench: Any, wire: Any, body: bytes
) -> None:
    keys = {"ANTHROPIC_API_KEY": "sk-first", "SPARE_KEY": "sk-spare"}
    async with open_bench(keys=keys, prefix="/main") as bench, second_provider(bench, wire) as spare:
        bench.desk.places = ["spare"]
        answer = await ask(bench, body, "X-Mine: 1\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert not bench.provider.seen
        (seen,) = spare.seen
        assert seen.target == "/spare/v1/messages"
        assert seen.header("x-api-key") == "sk-spare"
        assert seen.header("host") == f"127.0.0.1:{bench.gateway._parts.providers['spare'].origin.port}"
        assert seen.header("x-mine") == "1"
        assert b"sk-first" not in repr(seen.headers).encode()
        assert bench.desk.started[0].provider == "anthropic"
        assert [s.provider for s in bench.desk.settled] == ["spare"]
        assert bench.desk.heads[0][0] == "spare"


async def test_a_provider_that_is_gone_hands_its_call_to_the_fallback(open_bench: Any, wire: Any) -> None:
    keys = {"ANTHROPIC_API_KEY": "sk-first", "SPARE_KEY": "sk-spare"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        async with open_bench(keys=keys) as bench, second_provider(bench, wire) as spare:
            gone = bench.gateway._parts.providers["anthropic"].model_copy(
                update={"base_url": f"http://127.0.0.1:{free.getsockname()[1]}"}
            )
            bench.gateway.update({**bench.gateway._parts.providers, "anthropic": gone})
            bench.desk.places = ["anthropic", "spare"]
            assert (await ask(bench)).startswith(b"HTTP/1.1 200 OK")
            assert [name for name, _ in bench.desk.losses] == ["anthropic"]
            assert len(spare.seen) == 1
            (settled,) = bench.desk.settled
            assert (settled.outcome, settled.provider, settled.attempts) == ("ok", "spare", 1)


async def test_a_clients_own_credentials_are_not_shown_to_a_fallback(open_bench: Any, wire: Any) -> None:
    async with (
        open_bench(keys={"SPARE_KEY": "sk-spare"}, auth="passthrough") as bench,
        second_provider(bench, wire) as spare,
    ):
        bench.desk.places = ["spare"]
        assert (await ask(bench, WHOLE, "Authorization: Bearer mine\r\n")).startswith(b"HTTP/1.1 200")
        assert spare.seen[0].header("authorization") is None
        assert spare.seen[0].header("x-api-key") == "sk-spare"


@pytest.mark.parametrize("settings", [{"auth": "passthrough"}, {"key_env": "NO_SUCH_KEY"}])
async def test_a_fallback_without_a_key_of_its_own_gets_nothing(
    open_bench: Any, wire: Any, settings: dict[str, str]
) -> None:
    async with open_bench() as bench, second_provider(bench, wire, **settings) as spare:
        bench.desk.places = ["spare"]
        answer = await ask(bench, WHOLE, "Authorization: Bearer mine\r\n")
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"x-should-retry: false" in answer
        assert not spare.seen
        assert [s.outcome for s in bench.desk.settled] == ["refused"]


@pytest.mark.parametrize("place", ["nobody", "other"])
async def test_a_fallback_of_another_protocol_is_refused(open_bench: Any, place: str) -> None:
    async with open_bench() as bench:
        other = Provider(name="other", protocol="gemini", base_url="http://127.0.0.1:1", key_env="K")
        bench.gateway.update({**bench.gateway._parts.providers, "other": other})
        bench.desk.places = [place]
        assert (await ask(bench)).startswith(b"HTTP/1.1 403 ")
        assert [s.outcome for s in bench.desk.settled] == ["refused"]


async def test_a_call_cut_by_its_provider_is_told_to_the_desk_and_not_sent_again(
    open_bench: Any, wire: Any
) -> None:
    """It may have been worked on, and billed."""

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(wire.sse_head() + wire.as_chunk(wire.message_events(["hi"])[0]))
        await writer.drain()
        writer.transport.abort()
        raise ConnectionAbortedError

    async with open_bench() as bench:
        bench.provider.script = script
        await ask(bench, STREAM)
        assert [name for name, _ in bench.desk.losses] == ["anthropic"]
        assert len(bench.provider.seen) == 1
        assert [(s.outcome, s.attempts) for s in bench.desk.settled] == [("upstream_cut", 1)]


async def test_refusals_say_whether_to_come_again_and_keep_the_connection(open_bench: Any) -> None:
    async with open_bench() as bench:
        reader, writer = await bench.connect()
        for refusal, status, header in (
            (Refused("budget", "no money"), b"402", b"x-should-retry: false\r\n"),
            (Refused("policy", "not this model"), b"403", b"x-should-retry: false\r\n"),
            (Refused("ended", "gone"), b"403", b"x-should-retry: false\r\n"),
            (Refused("throttled", "wait", retry_after=9), b"429", b"retry-after: 9\r\n"),
            (Refused("throttled", "wait"), b"429", b"retry-after: 5\r\n"),
        ):
            bench.desk.refusal = refusal
            writer.write(bench.post(WHOLE))
            with anyio.fail_after(10):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
            assert head.startswith(b"HTTP/1.1 " + status)
            assert header in head
            assert (b"x-should-retry" in head) == (refusal.kind != "throttled")
            assert f"agenttop: {refusal.message}" in json.loads(body)["error"]["message"]
        assert not bench.provider.seen
        writer.close()


async def test_what_is_not_metered_is_recorded_as_having_passed(open_bench: Any) -> None:
    async with open_bench() as bench:
        for request in (
            f"GET /a/{bench.secret}/anthropic/v1/models?after=SECRET HTTP/1.1\r\nConnection: close\r\n\r\n",
            f"GET /a/{bench.secret}/anthropic/v1/%1b%5b2J/x HTTP/1.1\r\nConnection: close\r\n\r\n",
        ):
            reader, writer = await bench.connect()
            writer.write(request.encode())
            await read_all(reader)
            writer.close()
        first, second = bench.desk.unmetered
        assert (first.agent, first.run, first.provider) == ("a1", 3, "anthropic")
        assert (first.method, first.path, first.status) == ("GET", "/v1/models", 200)
        assert first.seconds > 0
        assert second.path == "/v1/?[2J/x"
        assert not bench.desk.settled


@pytest.mark.parametrize("body", [STREAM, WHOLE])
async def test_a_call_that_is_recalled_while_its_connection_was_made_sends_nothing_and_waits_again(
    open_bench: Any, wire: Any, body: bytes
) -> None:
    async with open_bench() as bench:
        bench.desk.recalls = [True]
        answer = await ask(bench, body)
        [settled] = await bench.settled()
        assert answer.startswith(b"HTTP/1.1 200")
        assert (len(bench.provider.seen), len(bench.desk.turns)) == (1, 2)
        assert (settled.outcome, settled.attempts) == ("ok", 1)


async def test_a_call_that_is_recalled_and_whose_agent_has_ended_goes_nowhere(
    open_bench: Any, wire: Any
) -> None:
    async with open_bench() as bench:
        bench.desk.recalls = [True]
        bench.desk.places = ["anthropic", Refused("ended", "this agent has ended")]
        answer = await ask(bench)
        [settled] = await bench.settled()
        assert b" 200 " not in answer.partition(b"\r\n")[0]
        assert bench.provider.seen == []
        assert (settled.outcome, settled.attempts, settled.usage, settled.exact) == (
            "refused",
            0,
            Usage(),
            True,
        )


async def test_a_request_that_is_not_metered_is_refused_by_the_desk_as_a_call_is(
    open_bench: Any, wire: Any
) -> None:
    async with open_bench() as bench:
        bench.desk.refusal = Refused("policy", "a1 may not use the provider anthropic")
        reader, writer = await bench.connect()
        writer.write(bench.post(b"{}", headers="Connection: close\r\n", path="/v1/messages/batches"))
        answer = await read_all(reader)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 403")
        assert b"may not use the provider anthropic" in answer
        assert bench.provider.seen == []
        assert bench.desk.unmetered == []


async def test_clients_with_credentials_of_their_own_are_told_apart_without_keeping_them(
    open_bench: Any, wire: Any
) -> None:
    async with open_bench(auth="passthrough") as bench:
        for token in ("one", "two", "one"):
            await ask(bench, headers=f"Authorization: Bearer {token}\r\n")
        first, second, third = (asking.account for asking in bench.desk.askings)
        assert first == third != second
        assert "one" not in first
    async with open_bench() as bench:
        await ask(bench, headers="Authorization: Bearer one\r\n")
        assert [asking.account for asking in bench.desk.askings] == [""]
