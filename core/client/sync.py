"""``Agent``: what a program that is an agent can do, for programs without an event loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from ..api import bus, memory, selves
from ..api.bus import MessageInfo, NoRequest, SentInfo
from . import asking
from .asking import LISTEN, DraftOptions
from .blocking import BlockingDoor
from .wire import PATIENCE


class Agent:
    """This program, as an agent of the kernel that started it.

    ::

        with Agent() as agent:
            for message in agent.inbox():
                agent.send(message.sender, f"thank you for {message.payload}")

    All verbs may be called by several threads at once. A message is durable when its verb returns; one that
    was cut off by a restart of the kernel is repeated with the same idempotency key, and never doubled.

    Args:
        url: The agent's own address; default: ``AGENTTOP_URL``.
        patience: Seconds for which a kernel that is away is called again.

    Raises:
        NotAnAgent: This program was not started as an agent, and no ``url`` is given.
    """

    def __init__(self, url: str | None = None, *, patience: float = PATIENCE) -> None:
        self.door = BlockingDoor(url, patience=patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self.door.close()

    # --- messages --------------------------------------------------------------------------------

    def send(self, to: str, payload: Any, *, wait: float = 0.0, **draft: Unpack[DraftOptions]) -> SentInfo:
        """Send any JSON value to an agent, to ``@me``, or to everybody (``*``).

        ``agent.send("tester", {"branch": "fix-42"}, type="job", wait=5)``

        Args:
            to: Name, id or id prefix of an agent, ``@NAME`` of a person.
            payload: Any JSON value; a text is a string.
            wait: Seconds to wait for room in a full mailbox.
            draft: type, priority, expires, cause, key, trace.

        Raises:
            AgentTopError: Nobody is there (``no_such_agent``), it is full (``mailbox_full``), or may not be.
        """
        return self.door.call(bus.SEND, asking.send(to, payload, wait, draft))

    def ask(
        self, to: str, payload: Any, *, timeout: float = 60.0, **draft: Unpack[DraftOptions]
    ) -> MessageInfo:
        """Send a request and wait for its reply.

        ``verdict = (agent.ask("tester", "does main build?", timeout=300)).payload``

        Raises:
            AgentTopError: As ``send``; nobody replied within ``timeout`` seconds (``no_reply``), or it would
                have waited for itself (``deadlock``).
        """
        return self.door.call(bus.ASK, asking.ask(to, payload, timeout, draft))

    def reply(self, request: MessageInfo | str, payload: Any, **draft: Unpack[DraftOptions]) -> SentInfo:
        """Answer a request, and acknowledge it.

        ``agent.reply(message, "yes")``

        Raises:
            Conflict: Nobody waits for it any more.
        """
        return self.door.call(bus.REPLY, asking.reply(request, payload, draft))

    def publish(self, topic: str, payload: Any, **draft: Unpack[DraftOptions]) -> SentInfo:
        """Send a message to whoever subscribed to a topic.

        ``agent.publish("builds/ui", {"ok": True})``
        """
        return self.door.call(bus.PUBLISH, asking.publish(topic, payload, draft))

    def subscribe(self, pattern: str) -> list[str]:
        """Get what is published to topics like this; gives all that is subscribed to now.

        ``agent.subscribe("builds/**")``: ``*`` is one level, a last ``**`` the rest.
        """
        return self.door.call(bus.SUBSCRIBE, asking.subscribe(pattern))

    def unsubscribe(self, pattern: str) -> list[str]:
        """End a subscription; gives those that are left.

        ``agent.unsubscribe("builds/**")``
        """
        return self.door.call(bus.SUBSCRIBE, asking.subscribe(pattern, end=True))

    def inbox(self, wait: float | None = None) -> Iterator[MessageInfo]:
        """The messages of the mailbox, each acknowledged when the body of the loop has ended.

        A body that raises, or is killed, leaves its message unacknowledged, and it comes again
        (``message.attempt`` above 1). So does one that is left by ``break`` or ``return``: acknowledge
        it first. Look at ``message.from_person`` before you trust what it says.

        ::

            for message in agent.inbox():
                if message.type == "stop":
                    agent.ack(message)
                    break
                work(message.payload)

        Args:
            wait: Seconds without a message after which it ends; 0: when nothing waits. Default: never.
        """
        done: list[MessageInfo] = []
        while True:
            got = self.take(wait=LISTEN if wait is None else wait, ack=done)
            done = []
            for message in got:
                yield message
                done.append(message)
            if not got and wait is not None:
                return

    def take(
        self,
        limit: int = 1,
        *,
        wait: float = 0.0,
        ack: Iterable[MessageInfo | str] = (),
        visible: float | None = None,
    ) -> list[MessageInfo]:
        """Take messages, acknowledging those taken before; for loops of one's own.

        ``batch = agent.take(50, wait=10, ack=batch)``

        Args:
            limit: So many at most.
            wait: Seconds to wait for the first one.
            ack: What is done with, in the order in which it came.
            visible: Seconds after which what is not acknowledged comes again; default: the kernel's.
        """
        return self.door.call(bus.INBOX, asking.take(limit, wait, ack, visible))

    def ack(self, *messages: MessageInfo | str) -> int:
        """Be done with messages; gives how many were waiting for it. A second time does no harm.

        ``agent.ack(message)``
        """
        return (self.door.call(bus.ACK, asking.ack(messages))).acked

    # --- memory ----------------------------------------------------------------------------------

    def memory_blocks(self) -> list[memory.BlockInfo]:
        """The blocks of working memory.

        ``plan = {block.name: block.text for block in agent.memory_blocks()}``
        """
        return self.door.call(memory.BLOCKS, memory.BlocksRequest())

    def memory_read(self, name: str) -> memory.BlockInfo | None:
        """One block, or ``None`` where there is none of this name.

        ``block = agent.memory_read("plan")``
        """
        return asking.named(self.memory_blocks(), name)

    def memory_write(
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

        ``agent.memory_write("plan", "1. read\\n2. fix", expected=block.version)``

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
        return self.door.call(memory.WRITE_BLOCK, request)

    def memory_search(
        self,
        query: str,
        *,
        tiers: Sequence[memory.Tier] | None = None,
        mode: memory.Mode = "hybrid",
        limit: int = 20,
    ) -> memory.SearchInfo:
        """Search blocks, recall and archive, best first; any text is a query.

        ``hits = (agent.memory_search("why sqlite", tiers=["archival"])).hits``
        """
        return self.door.call(memory.SEARCH, asking.search(query, tiers, mode, limit))

    def memory_recall(self, query: str = "", *, limit: int = 20) -> list[memory.EntryInfo]:
        """What was said to and by this agent, newest first, or what of it has these words.

        ``last = agent.memory_recall(limit=5)``
        """
        return (self.door.call(memory.RECALL, asking.recall(query, limit))).entries

    def archive(
        self, key: str, text: str, *, namespace: str = "shared", expected: int | None = None
    ) -> memory.NoteInfo:
        """Write a note that outlives this agent; each write is a version of its own.

        ``agent.archive("decisions/store", "SQLite, because ...")``

        Args:
            key: Segments joined by ``/``.
            text: The note.
            namespace: ``shared``, ``private`` (one's own) or ``team/NAME``.
            expected: The version this is based on; 0: there is none yet.

        Raises:
            AgentTopError: Somebody else wrote it since (``write_race``).
        """
        return self.door.call(memory.WRITE_NOTE, asking.archive(key, text, namespace, expected))

    def note(self, key: str, *, namespace: str = "shared") -> memory.NoteInfo:
        """A note, with who wrote it.

        ``text = (agent.note("decisions/store")).text``

        Raises:
            AgentTopError: There is none (``not_remembered``).
        """
        return self.door.call(memory.NOTE, asking.note(key, namespace))

    # --- oneself ---------------------------------------------------------------------------------

    def agents(self, *, all: bool = False) -> list[selves.PeerInfo]:
        """Who is there; with ``all`` those that have ended, too.

        ``names = [peer.name for peer in agent.agents()]``
        """
        return self.door.call(selves.AGENTS, selves.PeersRequest(all=all))

    def whoami(self) -> selves.SelfInfo:
        """Name, team, parent, children, mailbox and money of this agent.

        ``me = (agent.whoami()).name``
        """
        return self.door.call(selves.WHOAMI, NoRequest())

    def budget(self) -> list[selves.BudgetLeft]:
        """What this agent may still spend, by each budget that covers it.

        ``left = min(b.usd_left for b in agent.budget() if b.usd_left is not None)``
        """
        return self.door.call(selves.BUDGET, NoRequest())

    def progress(self, text: str = "", percent: float | None = None) -> None:
        """Tell whoever looks at the fleet how far this agent is.

        ``agent.progress("12 of 40 files", 30)``
        """
        self.door.call(selves.PROGRESS, asking.progress(text, percent))
