"""What agents' clients do when the kernel's end of their door behaves badly, and what they load."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

from agenttop.core import client
from agenttop.core.api import bus, memory, selves
from agenttop.core.client import Agent, AsyncAgent
from agenttop.core.client.wire import (
    KEYED,
    LONGEST,
    ONCE,
    REPEATABLE,
    WRITES,
    AnswerLost,
    NotAnAgent,
    Tries,
    door_of,
    repeatable,
    request,
)
from agenttop.core.errors import AgentTopError, Conflict, KernelUnreachable, UsageError, from_dict

pytestmark = pytest.mark.anyio

NEVER = b"never"
"""An act: no answer comes."""
SENT = {"id": "m1", "to": "b1"}


def http(document: Any, status: int = 200, more: str = "") -> bytes:
    body = json.dumps(document).encode()
    return f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{more}\r\n".encode() + body


class Peer:
    """A door whose every answer is written in advance; keeps what was asked.

    Each of ``acts`` is the bytes one request is answered with: fewer than a whole answer, and it hangs up.
    """

    def __init__(self, acts: Sequence[bytes]) -> None:
        self._acts = list(acts)
        self.asked: list[tuple[str, Any]] = []
        self.links = 0
        self.hung_up = threading.Event()
        """Whoever was never answered has left."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/a/secret"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while self._acts:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self.links += 1
            with link, link.makefile("rb") as read:
                self._answer(link, read)

    def _answer(self, link: socket.socket, read: Any) -> None:
        while self._acts:
            line = read.readline().decode()
            if not line:
                return
            length = 0
            while (header := read.readline().decode().strip()) != "":
                if header.startswith("content-length:"):
                    length = int(header.split(":")[1])
            self.asked.append((line.split()[1], json.loads(read.read(length))))
            act = self._acts.pop(0)
            if act == NEVER:
                assert read.read() == b""
                self.hung_up.set()
                return
            link.sendall(act)
            if not _whole(act):
                return

    def close(self) -> None:
        self._acts.clear()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)


def _whole(act: bytes) -> bool:
    head, _, body = act.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length")]
    return lengths == [len(body)] and b"connection: close" not in head


@contextmanager
def peer(*acts: bytes) -> Iterator[Peer]:
    one = Peer(acts)
    try:
        yield one
    finally:
        one.close()


Call = Callable[[str, str, tuple[Any, ...], dict[str, Any]], Any]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Any:
    """Calls one verb of either client."""

    async def made(url: str, verb: str, *arguments: Any, patience: float = 30.0, **options: Any) -> Any:
        if request.param == "sync":
            with Agent(url, patience=patience) as agent:
                return await anyio.to_thread.run_sync(lambda: getattr(agent, verb)(*arguments, **options))
        async with AsyncAgent(url, patience=patience) as other:
            return await getattr(other, verb)(*arguments, **options)

    return made


CUTS = (b"", b"HTTP/1.1 200 OK\r\ncontent-le", b'HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{"id"')


@pytest.mark.parametrize("cut", CUTS)
async def test_a_send_whose_answer_is_cut_is_repeated_with_the_same_key(call: Any, cut: bytes) -> None:
    with peer(cut, cut, http(SENT)) as door:
        assert (await call(door.url, "send", "b", "hello")).id == "m1"
        assert [target for target, _ in door.asked] == ["/a/secret/sys/bus.send"] * 3
        keys = {body["key"] for _, body in door.asked}
        assert len(keys) == 1
        assert len(keys.pop()) >= 16


async def test_two_sends_have_two_keys(call: Any) -> None:
    with peer(http(SENT), http(SENT)) as door:
        await call(door.url, "send", "b", "hello")
        await call(door.url, "send", "b", "hello")
        assert len({body["key"] for _, body in door.asked}) == 2


async def test_what_would_be_done_twice_is_not_repeated(call: Any) -> None:
    with peer(b"", http({})) as door:
        with pytest.raises(AnswerLost, match="not known"):
            await call(door.url, "memory_write", "plan", "more", append=True)
        assert len(door.asked) == 1


async def test_a_request_that_was_accepted_before_the_cut_is_told_so(call: Any) -> None:
    with peer(b"", http({"error": Conflict("asked already").to_dict()}, 409)) as door:
        with pytest.raises(AnswerLost, match="inbox"):
            await call(door.url, "ask", "b", "hello")
        assert len(door.asked) == 2


async def test_a_conflict_without_a_cut_is_itself(call: Any) -> None:
    asked = http({"error": Conflict("asked already").to_dict()}, 409)
    with peer(asked) as door, pytest.raises(Conflict, match="asked already"):
        await call(door.url, "ask", "b", "hello")


async def test_nothing_is_repeated_for_ever(call: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(KernelUnreachable, match="does not answer"):
        await call(f"http://127.0.0.1:{port}/a/s", "whoami", patience=0.2)


async def test_a_connection_that_was_hung_up_meanwhile_is_not_used_again(call: Any) -> None:
    with peer(http(SENT, more="connection: close\r\n"), http(SENT)) as door:
        for _ in range(2):
            await call(door.url, "send", "b", "x")
        assert door.links == 2


def test_one_connection_serves_many_calls() -> None:
    with peer(*[http(SENT)] * 5) as door, Agent(door.url) as agent:
        for number in range(5):
            agent.send("b", number)
        assert door.links == 1


@pytest.mark.parametrize(
    "act",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        http("nonsense", 502),
        http({"error": {"message": "no"}}, 500),
        http(None, 404),
    ],
)
async def test_an_answer_that_is_none_is_an_error_and_not_a_crash(call: Any, act: bytes) -> None:
    with peer(act) as door, pytest.raises(AgentTopError):
        await call(door.url, "whoami")


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("no_such_agent", 3), ("no_such_mailbox", 3), ("mailbox_full", 1), ("memory_refused", 2)],
)
async def test_errors_keep_their_kind_and_exit_code(call: Any, code: str, exit_code: int) -> None:
    told = {"code": code, "what": "no", "why": "because", "hint": "do"}
    with peer(http({"error": told}, 404)) as door:
        with pytest.raises(AgentTopError) as caught:
            await call(door.url, "send", "b", "x")
        assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
        assert str(caught.value) == "no. because. do."


@pytest.mark.parametrize(
    "payload", ["half a \udc80 pair", float("nan"), object(), {1: "x"}, {"a": {"b": {1, 2}}}]
)
async def test_a_payload_that_is_no_json_is_refused_before_it_is_sent(call: Any, payload: Any) -> None:
    with peer() as door:
        with pytest.raises(UsageError):
            await call(door.url, "send", "b", payload)
        assert door.asked == []


async def test_a_value_out_of_bounds_is_refused_with_its_field(call: Any) -> None:
    with pytest.raises(UsageError, match="priority"):
        await call("http://127.0.0.1:9/a/s", "send", "b", "x", priority=11)


async def test_more_than_a_call_may_have_is_not_even_sent(call: Any) -> None:
    with pytest.raises(UsageError, match=str(LONGEST)):
        await call("http://127.0.0.1:9/a/s", "send", "b", "x" * (LONGEST + 1))


def message(number: int) -> dict[str, Any]:
    return bus.MessageInfo(
        id=f"m{number}", at=1.0, sender="a1", sender_name="ana", from_person=False, kind="direct", to="b1",
        to_name="b", type="text", priority=4, payload=number, size=1, trace="",
    ).model_dump()  # fmt: skip


async def test_a_call_that_is_cancelled_hangs_up_and_the_next_one_is_answered() -> None:
    with peer(NEVER, http(SENT)) as door:
        async with AsyncAgent(door.url) as agent:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(agent.ask, "b", "anybody there?")
                with anyio.fail_after(30):
                    while not door.asked:
                        await anyio.sleep(0.001)
                tasks.cancel_scope.cancel()
            assert await anyio.to_thread.run_sync(door.hung_up.wait, 30)
            assert (await agent.send("b", "then not")).id == "m1"
        assert door.links == 2


async def test_the_next_call_of_an_event_loop_uses_the_same_connection() -> None:
    with peer(*[http(SENT)] * 3) as door:
        async with AsyncAgent(door.url) as agent:
            for _ in range(3):
                await agent.send("b", "x")
        assert door.links == 1


async def test_the_inbox_acknowledges_a_message_when_its_loop_body_has_ended(call: Any) -> None:
    acts = [http([message(1)]), http([message(2)]), http([])]
    with peer(*acts) as door, Agent(door.url) as agent:
        assert [one.payload for one in agent.inbox(wait=0)] == [1, 2]
        assert [body["ack"] for _, body in door.asked] == [[], ["m1"], ["m2"]]
    with peer(*acts) as door:
        async with AsyncAgent(door.url) as other:
            assert [one.payload async for one in other.inbox(wait=0)] == [1, 2]
        assert [body["ack"] for _, body in door.asked] == [[], ["m1"], ["m2"]]


def test_a_loop_body_that_raises_leaves_its_message_unacknowledged() -> None:
    def work(agent: Agent) -> None:
        for one in agent.inbox():
            raise RuntimeError(f"cannot do {one.payload}")

    with peer(http([message(1)]), http([])) as door, Agent(door.url) as agent:
        with pytest.raises(RuntimeError, match="cannot do 1"):
            work(agent)
        assert [body["ack"] for _, body in door.asked] == [[]]


async def test_outside_an_agent_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTTOP_URL", raising=False)
    for kind in (Agent, AsyncAgent):
        with pytest.raises(NotAnAgent, match="agenttop run") as caught:
            kind()
        assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "url",
    ["https://h:1/a/topsecret", "http://h/a/topsecret", "http://h:x/a/topsecret", "topsecret", "http://h:1"],
)
def test_a_wrong_address_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        door_of(url)
    assert "topsecret" not in str(caught.value)


def test_an_address_may_be_of_ipv6() -> None:
    assert door_of("http://[::1]:80/a/s/") == ("::1", 80, "/a/s")
    assert b"\r\nhost: [::1]:80\r\n" in request(door_of("http://[::1]:80/a/s"), "whoami", {})


def test_of_every_call_of_agents_it_is_decided_whether_it_may_be_repeated() -> None:
    calls = {
        verb.name for verb in (*bus.VERBS, *memory.VERBS, *selves.VERBS) if verb.agents and not verb.stream
    }
    sets = [REPEATABLE, KEYED, WRITES, ONCE]
    assert calls <= frozenset().union(*sets)
    assert sum(map(len, sets)) == len(frozenset().union(*sets))


def test_writes_that_build_upon_what_is_there_are_made_once() -> None:
    assert repeatable("memory.write-block", {"text": "x"})
    assert not repeatable("memory.write-block", {"text": "x", "append": True})
    assert not repeatable("memory.write-note", {"text": "x", "expected": 0})
    assert not repeatable("bus.send", {"payload": 1})
    assert not repeatable("no.such.call", {})


def test_pauses_grow_and_end_with_patience() -> None:
    now = [0.0]
    tries, pauses = Tries("whoami", True, 5.0, lambda: now[0]), []

    def fail_again() -> None:
        pauses.append(tries.failed(ConnectionRefusedError("refused"), sent=False))
        now[0] += pauses[-1]

    while now[0] < 5.0:
        fail_again()
    with pytest.raises(KernelUnreachable, match="refused"):
        fail_again()
    assert pauses[:5] == [0.05, 0.1, 0.2, 0.4, 0.8]
    assert max(pauses) == 1.0
    assert now[0] == pytest.approx(5.0)


def test_the_package_says_what_it_has() -> None:
    for name in client.__all__:
        assert getattr(client, name).__name__ == name
    with pytest.raises(AttributeError):
        client.Agnet  # noqa: B018 - the misspelt name is the test


def test_an_error_nobody_knows_is_still_told() -> None:
    assert str(from_dict({"code": "of_next_year", "what": "it broke"})) == "it broke."
