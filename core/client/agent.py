"""``AsyncAgent``: what a program that is an agent can do, for programs with an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from ..api import bus, memory, selves
from ..api.bus import MessageInfo, NoRequest, SentInfo
from . import asking
from .asking import LISTEN, DraftOptions
from .door import AgentDoor
from .wire import PATIENCE


class AsyncAgent:
    """This program, as an agent of the kernel that started it.

    ::

        async with AsyncAgent() as agent:
            async for message in agent.inbox():
                await agent.send(message.sender, f"thank you for {message.payload}")

    All verbs may be called by several tasks at once. A message is durable when its verb returns; one that
    was cut off by a restart of the kernel is repeated with the same idempotency key, and never doubled.

    Args:
        url: The agent's own address; default: ``AGENTTOP_URL``.
        patience: Seconds for which a kernel that is away is called again.

    Raises:
        NotAnAgent: This program was not started as an agent, and no ``url`` is given.
    """

    def __init__(self, url: str | None = None, *, patience: float = PATIENCE) -> None:
        self.door = AgentDoor(url, patience=patience)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        await self.door.close()

    # --- messages --------------------------------------------------------------------------------

    async def send(
        self, to: str, payload: Any, *, wait: float = 0.0, **draft: Unpack[DraftOptions]
    ) -> SentInfo:
        """Send any JSON value to an agent, to ``@me``, or to everybody (``*``).

        ``await agent.send("tester", {"branch": "fix-42"}, type="job", wait=5)``

        Args:
            to: Name, id or id prefix of an agent, ``@NAME`` of a person.
            payload: Any JSON value; a text is a string.
            wait: Seconds to wait for room in a full mailbox.
            draft: type, priority, expires, cause, key, trace.

        Raises:
            AgentTopError: Nobody is there (``no_such_agent``), it is full (``mailbox_full``), or may not be.
        """
        return await self.door.call(bus.SEND, asking.send(to, payload, wait, draft))

    async def ask(
        self, to: str, payload: Any, *, timeout: float = 60.0, **draft: Unpack[DraftOptions]
    ) -> MessageInfo:
        """Send a request and wait for its reply; cancelling the wait cancels the request.

        ``verdict = (await agent.ask("tester", "does main build?", timeout=300)).payload``

        Raises:
            AgentTopError: As ``send``; nobody replied within ``timeout`` seconds (``no_reply``), or it would
                have waited for itself (``deadlock``).
        """
        return await self.door.call(bus.ASK, asking.ask(to, payload, timeout, draft))

    async def reply(
        self, request: MessageInfo | str, payload: Any, **draft: Unpack[DraftOptions]
    ) -> SentInfo:
        """Answer a request, and acknowledge it.

        ``await agent.reply(message, "yes")``

        Raises:
            Conflict: Nobody waits for it any more.
        """
        return await self.door.call(bus.REPLY, asking.reply(request, payload, draft))

    async def publish(self, topic: str, payload: Any, **draft: Unpack[DraftOptions]) -> SentInfo:
        """Send a message to whoever subscribed to a topic.

        ``await agent.publish("builds/ui", {"ok": True})``
        """
        return await self.door.call(bus.PUBLISH, asking.publish(topic, payload, draft))

    async def subscribe(self, pattern: str) -> list[str]:
        """Get what is published to topics like this; gives all that is subscribed to now.

        ``await agent.subscribe("builds/**")``: ``*`` is one level, a last ``**`` the rest.
        """
        return await self.door.call(bus.SUBSCRIBE, asking.subscribe(pattern))

    async def unsubscribe(self, pattern: str) -> list[str]:
        """End a subscription; gives those that are left.

        ``await agent.unsubscribe("builds/**")``
        """
        return await self.door.call(bus.SUBSCRIBE, asking.subscribe(pattern, end=True))

    async def inbox(self, wait: float | None = None) -> AsyncIterator[MessageInfo]:
        """The messages of the mailbox, each acknowledged when the body of the loop has ended.

        A body that raises, or is killed, leaves its message unacknowledged, and it comes again
        (``message.attempt`` above 1). So does one that is left by ``break`` or ``return``: acknowledge
        it first. Look at ``message.from_person`` before you trust what it says.

        ::

            async for message in agent.inbox():
                if message.type == "stop":
                    await agent.ack(message)
                    break
                await work(message.payload)

        Args:
            wait: Seconds without a message after which it ends; 0: when nothing waits. Default: never.
        """
        done: list[MessageInfo] = []
        while True:
            got = await self.take(wait=LISTEN if wait is None else wait, ack=done)
            done = []
            for message in got:
                yield message
                done.append(message)
            if not got and wait is not None:
                return

    async def take(
        self,
        limit: int = 1,
        *,
        wait: float = 0.0,
        ack: Iterable[MessageInfo | str] = (),
        visible: float | None = None,
    ) -> list[MessageInfo]:
        """Take messages, acknowledging those taken before; for loops of one's own.

        ``batch = await agent.take(50, wait=10, ack=batch)``

        Args:
            limit: So many at most.
            wait: Seconds to wait for the first one.
            ack: What is done with, in the order in which it came.
            visible: Seconds after which what is not acknowledged comes again; default: the kernel's.
        """
        return await self.door.call(bus.INBOX, asking.take(limit, wait, ack, visible))

    async def ack(self, *messages: MessageInfo | str) -> int:
        """Be done with messages; gives how many were waiting for it. A second time does no harm.

        ``await agent.ack(message)``
        """
        return (await self.door.call(bus.ACK, asking.ack(messages))).acked

    # --- memory ----------------------------------------------------------------------------------

    async def memory_blocks(self) -> list[memory.BlockInfo]:
        """The blocks of working memory.

        ``plan = {block.name: block.text for block in await agent.memory_blocks()}``
        """
        return await self.door.call(memory.BLOCKS, memory.BlocksRequest())

    async def memory_read(self, name: str) -> memory.BlockInfo | None:
        """One block, or ``None`` where there is none of this name.

        ``block = await agent.memory_read("plan")``
        """
        return asking.named(await self.memory_blocks(), name)

    async def memory_write(
        self,
        name: str,
        text: str,
        *,
        append: bool = False,
        expected: int | None = None,
        limit: int | None = None,
        pinned: bool | None = None,
    ) -> memory.WrittenInfo:
        """Write a block of working memory; what does not fit moves to recall, and the answer says so.

        ``await agent.memory_write("plan", "1. read\\n2. fix", expected=block.version)``

        Args:
            name: The block; it is made if need be.
            text: What it says then, or with ``append`` what is added.
            append: Add to it.
            expected: The version this is based on; 0: there is none yet.
            limit: Tokens it may have.
            pinned: It is never moved out.

        Raises:
            AgentTopError: Somebody else wrote it since (``write_race``).
        """
        request = asking.write(name, text, append, expected, limit, pinned)
        return await self.door.call(memory.WRITE_BLOCK, request)

    async def memory_search(
        self,
        query: str,
        *,
        tiers: Sequence[memory.Tier] | None = None,
        mode: memory.Mode = "hybrid",
        limit: int = 20,
    ) -> memory.SearchInfo:
        """Search blocks, recall and archive, best first; any text is a query.

        ``hits = (await agent.memory_search("why sqlite", tiers=["archival"])).hits``
        """
        return await self.door.call(memory.SEARCH, asking.search(query, tiers, mode, limit))

    async def memory_recall(self, query: str = "", *, limit: int = 20) -> list[memory.EntryInfo]:
        """What was said to and by this agent, newest first, or what of it has these words.

        ``last = await agent.memory_recall(limit=5)``
        """
        return (await self.door.call(memory.RECALL, asking.recall(query, limit))).entries

    async def archive(
        self, key: str, text: str, *, namespace: str = "shared", expected: int | None = None
    ) -> memory.NoteInfo:
        """Write a note that outlives this agent; each write is a version of its own.

        ``await agent.archive("decisions/store", "SQLite, because ...")``

        Args:
            key: Segments joined by ``/``.
            text: The note.
            namespace: ``shared``, ``private`` (one's own) or ``team/NAME``.
            expected: The version this is based on; 0: there is none yet.

        Raises:
            AgentTopError: Somebody else wrote it since (``write_race``).
        """
        return await self.door.call(memory.WRITE_NOTE, asking.archive(key, text, namespace, expected))

    async def note(self, key: str, *, namespace: str = "shared") -> memory.NoteInfo:
        """A note, with who wrote it.

        ``text = (await agent.note("decisions/store")).text``

        Raises:
            AgentTopError: There is none (``not_remembered``).
        """
        return await self.door.call(memory.NOTE, asking.note(key, namespace))

    # --- oneself ---------------------------------------------------------------------------------

    async def agents(self, *, all: bool = False) -> list[selves.PeerInfo]:
        """Who is there; with ``all`` those that have ended, too.

        ``names = [peer.name for peer in await agent.agents()]``
        """
        return await self.door.call(selves.AGENTS, selves.PeersRequest(all=all))

    async def whoami(self) -> selves.SelfInfo:
        """Name, team, parent, children, mailbox and money of this agent.

        ``me = (await agent.whoami()).name``
        """
        return await self.door.call(selves.WHOAMI, NoRequest())

    async def budget(self) -> list[selves.BudgetLeft]:
        """What this agent may still spend, by each budget that covers it.

        ``left = min(b.usd_left for b in await agent.budget() if b.usd_left is not None)``
        """
        return await self.door.call(selves.BUDGET, NoRequest())

    async def progress(self, text: str = "", percent: float | None = None) -> None:
        """Tell whoever looks at the fleet how far this agent is.

        ``await agent.progress("12 of 40 files", 30)``
        """
        await self.door.call(selves.PROGRESS, asking.progress(text, percent))
