"""The bus in the kernel: who has a mailbox, who is meant, and the verbs, however they are reached."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

import anyio
import pytest

from agenttop.core.api import RemoveRequest, StopRequest, selves
from agenttop.core.api import bus as api
from agenttop.core.api.target import Target
from agenttop.core.bus.errors import BadMessage, NoReply, NoSuchMailbox, NoSuchMessage
from agenttop.core.client import KernelClient
from agenttop.core.errors import Conflict, Forbidden, NoSuchAgent, UsageError
from agenttop.core.kernel import Kernel, user
from agenttop.core.paths import Paths
from agenttop.core.syscalls.caller import Caller

from .conftest import KernelMaker, reached, sh, until

pytestmark = pytest.mark.anyio

FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
DEADLINE = 40.0


@pytest.fixture(params=["local", "socket"])
async def client(
    request: pytest.FixtureRequest, kernels: KernelMaker, paths: Paths
) -> AsyncIterator[KernelClient]:
    async with reached(request.param, kernels, paths) as client:
        yield client


@pytest.fixture
async def kernel(kernels: KernelMaker) -> AsyncIterator[Kernel]:
    async with kernels() as made:
        yield made


async def agent(kernel: Kernel, name: str, script: str = FOREVER, **spec: object) -> Caller:
    """A running agent, as who it asks."""
    made = await kernel.client("ana").run(sh(script, name=name, **spec))
    return Caller(made.id, "ana", 1)


def changes(
    client: KernelClient, request: api.BusWatchRequest
) -> aclosing[AsyncGenerator[api.BusChange, None]]:
    return aclosing(cast("AsyncGenerator[api.BusChange, None]", client.follow(api.WATCH, request)))


# --- people ------------------------------------------------------------------------------------------


async def test_a_person_sends_and_the_agents_mailbox_has_it(client: KernelClient) -> None:
    made = await client.run(sh(FOREVER))
    sent = await client.call(api.SEND, api.SendRequest(to="hello", payload={"a": [1, None, "ü"]}))
    assert sent.to == made.id
    (found,) = await client.call(api.MAIL, api.MailRequest(agent="hello"))
    assert found.id == sent.id
    assert found.payload == {"a": [1, None, "ü"]}
    assert found.from_person
    assert found.to_name == "hello"
    assert found.attempt == 0
    (box,) = [one for one in await client.call(api.MAILBOXES, api.NoRequest()) if one.agent == made.id]
    assert (box.name, box.unread, box.dead) == ("hello", 1, 0)
    assert box.oldest == found.at
    one = await client.call(api.MESSAGE, api.MessageRequest(id=sent.id))
    assert one.payload == found.payload
    (same,) = await client.call(api.CONVERSATION, api.MessageRequest(id=sent.id))
    assert same.id == sent.id


async def test_a_key_sends_once(client: KernelClient) -> None:
    await client.run(sh(FOREVER))
    request = api.SendRequest(to="hello", payload="x", key="once")
    first = await client.call(api.SEND, request)
    second = await client.call(api.SEND, request)
    assert (second.id, second.again) == (first.id, True)
    assert not first.again


async def test_the_picture_shows_lines_boxes_pairs_and_what_changes(client: KernelClient) -> None:
    await client.run(sh(FOREVER))
    with anyio.fail_after(DEADLINE):
        async with changes(client, api.BusWatchRequest()) as picture:
            first = await anext(picture)
            assert first.rows == ()
            assert first.boxes is not None
            await client.call(api.SEND, api.SendRequest(to="hello", payload="hi \x1b[2J", type="note"))
            rows = []
            boxes = pairs = None
            async for change in picture:
                rows += change.rows
                boxes, pairs = change.boxes or boxes, change.pairs or pairs
                if rows and pairs and boxes and any(box.unread for box in boxes):
                    break
    assert [(row.to, row.type, row.kind, row.state, row.text) for row in rows] == [
        ("hello", "note", "direct", "accepted", "hi \x1b[2J")
    ]
    assert [(pair.to, pair.messages) for pair in pairs or ()] == [("hello", 1)]


async def test_a_filter_leaves_out_what_does_not_fit(client: KernelClient) -> None:
    await client.run(sh(FOREVER))
    for text in ("apples", "pears", "green Apples"):
        await client.call(api.SEND, api.SendRequest(to="hello", payload=text))
    with anyio.fail_after(DEADLINE):
        async with changes(client, api.BusWatchRequest(text="apple")) as picture:
            assert [row.text for row in (await anext(picture)).rows] == ["apples", "green Apples"]
        async with changes(client, api.BusWatchRequest(rows=1)) as picture:
            assert [row.text for row in (await anext(picture)).rows] == ["green Apples"]


async def test_a_message_tells_the_run_it_was_sent_in(kernel: Kernel) -> None:
    ann, bob = await agent(kernel, "ann"), await agent(kernel, "bob")
    calls = kernel.syscalls
    await calls.call(ann, api.SEND, api.SendRequest(to="bob", payload=1))
    await kernel.supervisor.stop(str(ann.agent), how="kill", grace=0.0)
    await kernel.supervisor.start(str(ann.agent), "restart")
    await calls.call(ann, api.SEND, api.SendRequest(to="bob", payload=2))
    await kernel.client().call(api.SEND, api.SendRequest(to="bob", payload=3))
    found = await calls.call(bob, api.INBOX, api.InboxRequest(run=10))
    assert {one.payload: one.run for one in found} == {1: 1, 2: 2, 3: None}


async def test_the_inbox_of_a_person_is_their_own(client: KernelClient) -> None:
    mine = await client.call(selves.WHOAMI, api.NoRequest())
    assert mine.id.startswith("@")
    assert await client.call(api.INBOX, api.InboxRequest()) == []
    assert await client.call(api.SUBSCRIBE, api.SubscribeRequest(pattern="news/*")) == ["news/*"]
    assert [topic.topic for topic in await client.call(api.TOPICS, api.NoRequest())] == ["news/*"]
    assert await client.call(api.SUBSCRIBE, api.SubscribeRequest(pattern="news/*", end=True)) == []


async def test_ids_that_are_none_are_told(client: KernelClient) -> None:
    with pytest.raises(NoSuchMessage):
        await client.call(api.MESSAGE, api.MessageRequest(id="m999"))
    with pytest.raises(NoSuchAgent):
        await client.call(api.MAIL, api.MailRequest(agent="nobody"))
    assert await client.call(api.ACK, api.AckRequest(ids=["m999"])) == api.AckInfo(acked=0)
    with pytest.raises(Conflict):
        await client.call(api.REPLY, api.ReplyRequest(request="m999", payload=1))


# --- agents ------------------------------------------------------------------------------------------


async def test_agents_talk_and_provenance_is_told(kernel: Kernel) -> None:
    a, b = await agent(kernel, "a"), await agent(kernel, "b")
    ask = kernel.syscalls.call
    await ask(a, api.SEND, api.SendRequest(to="b", payload={"x": 1}))
    (found,) = await ask(b, api.INBOX, api.InboxRequest(wait=DEADLINE))
    assert (found.sender, found.sender_name, found.from_person) == (a.agent, "a", False)
    assert found.attempt == 1
    assert (await ask(b, api.ACK, api.AckRequest(ids=[found.id]))).acked == 1
    assert (await ask(b, api.ACK, api.AckRequest(ids=[found.id]))).acked == 0
    await kernel.client("root").call(api.SEND, api.SendRequest(to="b", payload="from a person"))
    (found,) = await ask(b, api.INBOX, api.InboxRequest(wait=DEADLINE))
    assert (found.sender, found.sender_name, found.from_person) == ("@root", "@root", True)
    # What it sends now goes on in the trace of what it was handed.
    await ask(b, api.SEND, api.SendRequest(to="@me", payload="thanks"))
    mine = kernel.client(user())
    (thanks,) = await mine.call(api.INBOX, api.InboxRequest(wait=DEADLINE))
    assert thanks.cause == found.id
    assert thanks.trace[3:35] == found.trace[3:35]
    conversation = await mine.call(api.CONVERSATION, api.MessageRequest(id=thanks.id))
    assert [one.id for one in conversation] == [found.id, thanks.id]


async def test_ask_and_reply(kernel: Kernel) -> None:
    a, b = await agent(kernel, "a"), await agent(kernel, "b")
    ask = kernel.syscalls.call
    answers: list[api.MessageInfo] = []

    async def question() -> None:
        answers.append(await ask(a, api.ASK, api.AskRequest(to="b", payload="?", timeout=DEADLINE)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(question)
        (asked,) = await ask(b, api.INBOX, api.InboxRequest(wait=DEADLINE))
        waits = await kernel.client("ana").call(api.WAITS, api.NoRequest())
        assert [(one.asker_name, one.asked_name, one.request) for one in waits.waits] == [
            ("a", "b", asked.id)
        ]
        assert waits.rings == []
        with pytest.raises(Forbidden):
            await ask(a, api.REPLY, api.ReplyRequest(request=asked.id, payload="!"))
        await ask(b, api.REPLY, api.ReplyRequest(request=asked.id, payload="!"))
    assert [one.payload for one in answers] == ["!"]
    with pytest.raises(Conflict):
        await ask(b, api.REPLY, api.ReplyRequest(request=asked.id, payload="!"))
    with pytest.raises(NoReply, match="b did not reply"):
        await ask(a, api.ASK, api.AskRequest(to="b", payload="?", timeout=0.05))


async def test_mail_to_nobody_the_dead_oneself_and_strangers(kernel: Kernel) -> None:
    a, done = await agent(kernel, "a"), await agent(kernel, "done", "exit 3")
    await kernel.client("ana").wait(["done"])
    ask = kernel.syscalls.call
    for verb, request in (
        (api.SEND, lambda to: api.SendRequest(to=to, payload=1)),
        (api.ASK, lambda to: api.AskRequest(to=to, payload=1)),
    ):
        with pytest.raises(NoSuchAgent, match="no agent nobody"):
            await ask(a, verb, request("nobody"))  # type: ignore[arg-type]
        with pytest.raises(NoSuchMailbox, match="done has ended"):
            await ask(a, verb, request("done"))  # type: ignore[arg-type]
        with pytest.raises(BadMessage, match="oneself"):
            await ask(a, verb, request("a"))  # type: ignore[arg-type]
        with pytest.raises(NoSuchMailbox, match="no person"):
            await ask(a, verb, request("@stranger"))  # type: ignore[arg-type]
    with pytest.raises(NoSuchMailbox, match="done has ended"):
        await ask(done, api.INBOX, api.InboxRequest())
    with pytest.raises(BadMessage, match="64"):
        await ask(a, api.SEND, api.SendRequest(to="@me", payload=2**70))


async def test_everybody_is_all_but_the_sender_and_the_ended(kernel: Kernel) -> None:
    callers = [await agent(kernel, f"a{number}") for number in range(4)]
    await agent(kernel, "done", "exit 0")
    await kernel.client("ana").wait(["done"])
    ask = kernel.syscalls.call
    for caller in callers:  # each has its mailbox
        assert await ask(caller, api.INBOX, api.InboxRequest()) == []
    sent = await ask(callers[0], api.SEND, api.SendRequest(to="*", payload="all"))
    people = [one for one in kernel.bus.pipeline.books.names if one.startswith("@")]
    assert sent.receivers == 3 + len(people)
    for caller in callers[1:]:
        (found,) = await ask(caller, api.INBOX, api.InboxRequest())
        assert (found.kind, found.to, found.sender_name) == ("broadcast", "*", "a0")
    assert await ask(callers[0], api.INBOX, api.InboxRequest()) == []


async def test_topics_reach_subscribers(kernel: Kernel) -> None:
    a, b = await agent(kernel, "a"), await agent(kernel, "b")
    ask = kernel.syscalls.call
    assert await ask(b, api.SUBSCRIBE, api.SubscribeRequest(pattern="builds/**")) == ["builds/**"]
    with pytest.raises(Forbidden):
        await ask(a, api.SUBSCRIBE, api.SubscribeRequest(pattern="builds/**", agent="b"))
    with pytest.raises(BadMessage):
        await ask(a, api.SUBSCRIBE, api.SubscribeRequest(pattern="builds//x"))
    sent = await ask(a, api.PUBLISH, api.PublishRequest(topic="builds/ui", payload="red"))
    assert sent.receivers == 1
    (found,) = await ask(b, api.INBOX, api.InboxRequest(wait=DEADLINE))
    assert (found.kind, found.to) == ("topic", "builds/ui")
    kernel.mailroom.trace.digest()
    topics = await kernel.client("ana").call(api.TOPICS, api.NoRequest())
    assert [(one.topic, one.subscribers) for one in topics] == [("builds/**", ["b"]), ("builds/ui", ["b"])]
    # A person subscribes an agent.
    await kernel.client("ana").call(api.SUBSCRIBE, api.SubscribeRequest(pattern="x", agent="a"))
    mine = await ask(a, selves.WHOAMI, api.NoRequest())
    assert mine.subscriptions == ["x"]


async def test_an_agent_looks_into_no_mailbox(kernel: Kernel) -> None:
    a = await agent(kernel, "a")
    for verb in (api.MAIL, api.MAILBOXES, api.DEAD, api.DROP, api.REVIVE, api.WAITS, api.MESSAGE):
        with pytest.raises(Forbidden):
            await kernel.syscalls.call(a, verb, api.NoRequest())  # type: ignore[arg-type]


async def test_who_is_there_and_who_one_is(kernel: Kernel) -> None:
    a = await agent(kernel, "a", labels={"team": "x"})
    b = await agent(kernel, "b", parent="a")
    await agent(kernel, "done", "exit 0")
    await kernel.client("ana").wait(["done"])
    ask = kernel.syscalls.call
    peers = await ask(b, selves.AGENTS, selves.PeersRequest())
    assert [(one.name, one.team, one.parent, one.reads_mail) for one in peers] == [
        ("a", "x", None, True),
        ("b", None, "a", True),
    ]
    everybody = await ask(b, selves.AGENTS, selves.PeersRequest(all=True))
    assert [(one.name, one.reads_mail) for one in everybody] == [("a", True), ("b", True), ("done", False)]
    mine = await ask(a, selves.WHOAMI, api.NoRequest())
    assert (mine.id, mine.name, mine.team, mine.children, mine.owner) == (a.agent, "a", "x", ["b"], "ana")
    assert mine.namespaces == ["shared", f"private/{a.agent}", "team/x"]
    assert mine.run == 1
    assert await ask(a, selves.BUDGET, api.NoRequest()) == []


async def test_progress_is_in_the_row_and_the_last_word_counts(kernel: Kernel) -> None:
    a = await agent(kernel, "a")
    for percent in range(0, 101, 5):
        await kernel.syscalls.call(
            a, selves.PROGRESS, selves.ProgressRequest(text="half\x1b[0m", percent=percent)
        )

    async def told() -> bool:
        row = kernel.feed.row(a.mailbox, "run", kernel.clock.time())
        return row is not None and row.task == "100% half\x1b[0m"

    await until(told, "the row to tell it", DEADLINE)
    records = await kernel.journal.tail(100, kinds=["ProgressReported"])
    assert 1 <= len(records) <= 3
    (info,) = await kernel.client("ana").agents()
    assert info.progress == "100% half\x1b[0m"
    with pytest.raises(UsageError):
        await kernel.client("ana").call(selves.PROGRESS, selves.ProgressRequest(text="x"))


# --- mailboxes follow agents -------------------------------------------------------------------------


async def test_an_end_for_good_closes_the_mailbox_and_a_new_run_opens_it_again(kernel: Kernel) -> None:
    a, client = await agent(kernel, "a"), kernel.client("ana")
    sent = await client.call(api.SEND, api.SendRequest(to="a", payload="unread"))
    await client.stop(StopRequest(refs=["a"], how="kill"))

    async def closed() -> bool:
        return a.mailbox not in kernel.bus.pipeline.books.names

    await until(closed, "its mailbox to be closed", DEADLINE)

    async def buried() -> list[api.DeadInfo]:
        return await client.call(api.DEAD, api.DeadRequest(agent="a"))

    (dead,) = await until(buried, "its mail to be dead", DEADLINE)
    assert (dead.message.id, dead.reason, dead.message.payload) == (sent.id, "closed", "unread")
    (refused,) = await client.call(api.REVIVE, api.DeadActRequest(agent="a"))
    assert refused.error
    assert kernel.feed.row(a.mailbox, "run", 0.0).dead_letters == 1  # type: ignore[union-attr]
    await client.restart(Target(refs=["a"]))
    (revived,) = await client.call(api.REVIVE, api.DeadActRequest(agent="a"))
    assert (revived.ref, revived.done) == (sent.id, "put back")
    (found,) = await kernel.syscalls.call(a, api.INBOX, api.InboxRequest(wait=DEADLINE))
    assert found.id == sent.id


async def test_a_restart_keeps_the_mail(kernel: Kernel) -> None:
    a, client = await agent(kernel, "a"), kernel.client("ana")
    await kernel.syscalls.call(a, api.SUBSCRIBE, api.SubscribeRequest(pattern="t"))
    sent = await client.call(api.SEND, api.SendRequest(to="a", payload="unread"))
    await client.restart(Target(refs=["a"]))
    (found,) = await kernel.syscalls.call(a, api.INBOX, api.InboxRequest(wait=DEADLINE))
    assert found.id == sent.id
    assert (await kernel.syscalls.call(a, selves.WHOAMI, api.NoRequest())).subscriptions == ["t"]


async def test_a_removed_agents_dead_letters_can_be_thrown_away(kernel: Kernel) -> None:
    a, client = await agent(kernel, "a"), kernel.client("ana")
    await client.call(api.SEND, api.SendRequest(to="a", payload="unread"))
    await client.stop(StopRequest(refs=["a"], how="kill"))
    await client.remove(RemoveRequest(refs=["a"]))

    async def buried() -> list[api.DeadInfo]:
        return await client.call(api.DEAD, api.DeadRequest())

    (dead,) = await until(buried, "its mail to be dead", DEADLINE)
    assert (dead.agent, dead.name) == (a.agent, "a")
    (gone,) = await client.call(api.DROP, api.DeadActRequest(agent=a.mailbox))
    assert gone.done == "thrown away"
    assert await client.call(api.DEAD, api.DeadRequest()) == []


async def test_a_kernel_that_starts_opens_and_closes_what_is_due(kernels: KernelMaker) -> None:
    async with kernels(leave=True) as first:
        a = await agent(first, "a")
        gone = await agent(first, "gone", "sleep 0.1")
        sent = await first.client("ana").call(api.SEND, api.SendRequest(to="a", payload="x" * 500))
        await first.syscalls.call(gone, api.INBOX, api.InboxRequest())
        await first.client("ana").wait(["gone"])
        # As a kernel that was killed right then leaves it.
        first.mailroom.mailboxes._closing.clear()
    async with kernels() as second:
        (found,) = await second.syscalls.call(a, api.INBOX, api.InboxRequest(wait=DEADLINE))
        assert found.id == sent.id

        async def closed() -> bool:
            return gone.mailbox not in second.bus.pipeline.books.names

        await until(closed, "the mailbox of the one that ended", DEADLINE)
        async with changes(second.client("ana"), api.BusWatchRequest()) as picture:
            first_change = await anext(picture)
        assert [(row.seq, row.size, len(row.text)) for row in first_change.rows] == [
            (int(sent.id[1:]), 502, 240)
        ]


# --- what rows show ----------------------------------------------------------------------------------


async def test_rows_show_mail_and_the_wait_for_a_reply(kernel: Kernel) -> None:
    a, b = await agent(kernel, "a"), await agent(kernel, "b")
    ask, client = kernel.syscalls.call, kernel.client("ana")

    async def row(caller: Caller, what: str, wanted: object) -> None:
        async def seen() -> bool:
            found = kernel.feed.row(caller.mailbox, "run", kernel.clock.time())
            return found is not None and getattr(found, what) == wanted

        await until(seen, f"{what} being {wanted}", DEADLINE)

    await row(a, "unread", 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, a, api.ASK, api.AskRequest(to="b", payload="?", timeout=DEADLINE))
        await row(b, "unread", 1)
        await row(a, "reason", "message")
        found = kernel.feed.row(a.mailbox, "run", kernel.clock.time())
        assert found is not None
        assert (found.state, found.detail, found.needs) == ("waiting", "reply of b", False)
        told = {one.name: (one.state, one.reason) for one in await client.agents(pids=False)}
        assert told["a"] == ("waiting", "message")
        (asked,) = await ask(b, api.INBOX, api.InboxRequest(wait=DEADLINE))
        await ask(b, api.REPLY, api.ReplyRequest(request=asked.id, payload="!"))
    await row(a, "reason", None)
    await row(b, "unread", 0)


async def test_mail_keeps_no_kernel_alive_but_that_of_agents_who_go_on(kernel: Kernel) -> None:
    a, client = await agent(kernel, "a"), kernel.client("ana")
    await kernel.syscalls.call(a, api.SEND, api.SendRequest(to="@me", payload="hi"))
    await client.stop(StopRequest(all=True, how="kill"))

    async def idle() -> bool:
        return kernel.idle

    await until(idle, "the kernel being idle", DEADLINE)
    # Ended, and with a conversation to go on with.
    kernel.mailroom.resumable = lambda agent: True
    kernel.mailroom.mailboxes.compare()
    await client.call(api.SEND, api.SendRequest(to="a", payload="next turn"))
    assert not kernel.idle
    (found,) = await kernel.syscalls.call(a, api.INBOX, api.InboxRequest(wait=DEADLINE))
    await kernel.syscalls.call(a, api.ACK, api.AckRequest(ids=[found.id]))
    assert kernel.idle
