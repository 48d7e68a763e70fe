"""What is said at an agent's own door: ``POST $AGENTTOP_URL/sys/NAME``, JSON both ways. Nothing is sent here.

Both clients and the ``agenttop`` command inside an agent use it, so it loads neither models nor an event
loop. A kernel that is restarted is waited for: its door stays open meanwhile, and calls wait in the backlog.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import httptools

from ..errors import AgentTopError, Conflict, KernelUnreachable, UsageError, from_dict

PATIENCE = 30.0
"""Seconds for which a kernel that is away is called again."""
SILENCE = 86_400.0
"""Seconds without an answer, beyond what was asked to be waited: an agent on hold waits for its resumption,
and a kernel that ends hangs up."""
CONNECT = 5.0
"""Seconds a connection may take."""
LONGEST = 8 << 20
"""Bytes of a call; the door takes no more."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

#: Calls that change nothing, or nothing more the second time.
REPEATABLE = frozenset((
    "agents", "whoami", "budget", "progress",
    "bus.inbox", "bus.ack", "bus.subscribe",
    "memory.blocks", "memory.block-versions", "memory.recall", "memory.note", "memory.notes",
    "memory.note-versions", "memory.search", "memory.fill", "memory.moves", "memory.pin", "memory.evict",
    "memory.forget",
))  # fmt: skip
#: Calls that the kernel knows again by their idempotency key.
KEYED = frozenset(("bus.send", "bus.ask", "bus.reply", "bus.publish"))
#: Calls that are repeatable unless they add to what is there, or build upon what was read.
WRITES = frozenset(("memory.write-block", "memory.write-note"))
#: Calls of which the second one does something else; they are made once.
ONCE = frozenset(("memory.promote",))


class NotAnAgent(UsageError):
    """This program was not started as an agent."""

    code = "not_an_agent"


class AnswerLost(KernelUnreachable):
    """The kernel went away in the middle of a call that must not be made twice."""

    code = "answer_lost"


class Door(NamedTuple):
    """Where an agent's own door is."""

    host: str
    port: int
    path: str
    """Secret: whoever has it is that agent."""


def door_of(url: str | None = None) -> Door:
    """The door at ``url``; default: of the agent this program is.

    Raises:
        NotAnAgent: ``AGENTTOP_URL`` is not set.
        UsageError: It is no such URL.
    """
    said = os.environ.get("AGENTTOP_URL", "") if url is None else url
    if not said:
        raise NotAnAgent(
            "this program is not an agent",
            "AGENTTOP_URL is not set; the kernel sets it for the agents it starts",
            "Start it with `agenttop run -- COMMAND`",
        )
    scheme, _, rest = said.rstrip("/").partition("://")
    authority, _, path = rest.partition("/")
    host, colon, port = authority.rpartition(":")
    if scheme != "http" or not colon or not port.isascii() or not port.isdigit() or not path:
        # Not quoted: it has the agent's secret.
        raise UsageError("AGENTTOP_URL is not an agent's address", "It is not http://HOST:PORT/a/SECRET")
    return Door(host.strip("[]"), int(port), f"/{path}")


def request(door: Door, name: str, fields: Mapping[str, Any]) -> bytes:
    """The bytes of one call.

    Raises:
        UsageError: A text that is not UTF-8, or a value JSON does not know.
    """
    try:
        body = json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{name} cannot be asked",
            f"This is not JSON in UTF-8: {error}",
            "Send texts, numbers, lists, objects",
        ) from error
    if len(body) > LONGEST:
        raise UsageError(
            f"{name} cannot be asked", f"It has {len(body)} bytes; a call has {LONGEST} at most", "Send less"
        )
    host = f"[{door.host}]" if ":" in door.host else door.host
    head = f"POST {door.path}/sys/{name} HTTP/1.1\r\nhost: {host}:{door.port}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


def waiting(fields: Mapping[str, Any]) -> float:
    """Seconds of silence that a call allows the kernel."""
    asked = fields.get("wait") or fields.get("timeout") or 0.0
    return SILENCE + float(asked)


def repeatable(name: str, fields: Mapping[str, Any]) -> bool:
    """Whether a call whose answer was lost may be made again."""
    if name in KEYED:
        return bool(fields.get("key"))
    if name in WRITES:
        return not fields.get("append") and fields.get("expected") is None
    return name in REPEATABLE


class Answer:
    """One answer, as its bytes come (``feed``)."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self.begun = False
        self.complete = False
        self.reusable = False
        """The connection can be used for the next call."""

    def feed(self, data: bytes) -> None:
        """Bytes of it.

        Raises:
            KernelUnreachable: They are no answer.
        """
        self.begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise KernelUnreachable(
                "the kernel's answer cannot be read", f"It is not HTTP: {error}"
            ) from error

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        """It is complete."""
        if self._parser.get_status_code() >= 200:
            self.complete = True
            self.reusable = self._parser.should_keep_alive()

    def body(self) -> bytes:
        """The answer's JSON.

        Raises:
            AgentTopError: The error it is.
        """
        data = b"".join(self._pieces)
        status = self._parser.get_status_code()
        if status < 400:
            return data
        raise _error(status, data)


def _error(status: int, data: bytes) -> AgentTopError:
    try:
        told = json.loads(data)["error"]
        if "code" in told:
            return from_dict(told)
        why = str(told["message"])
    except (ValueError, KeyError, TypeError):
        why = data[:200].decode("utf-8", "replace")
    return AgentTopError(f"the kernel answered with status {status}", why)


class Tries:
    """The attempts at one call: which failures are followed by another, when, and when it is enough.

    Args:
        name: The call.
        again: It may be made again after it was sent.
        patience: Seconds from the first failure to the last attempt.
    """

    def __init__(
        self, name: str, again: bool, patience: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._again = again
        self._patience = patience
        self._clock = clock
        self._pause = _FIRST_PAUSE
        self._until: float | None = None

    def result(self, answer: Answer) -> bytes:
        """The answer's JSON.

        Raises:
            AnswerLost: A request was accepted before its answer was lost: nobody waits for its reply now.
            AgentTopError: The error it is.
        """
        try:
            return answer.body()
        except Conflict as error:
            if self._until is None or self._name != "bus.ask":
                raise
            raise AnswerLost(
                "the kernel went away while a reply was waited for",
                "The request was sent before",
                "Its reply, if there is one, comes to the inbox",
            ) from error

    def failed(self, error: Exception, *, sent: bool) -> float:
        """Seconds until the next attempt.

        Args:
            sent: The kernel may have had the call.

        Raises:
            AnswerLost: It may have been done, and must not be done twice.
            KernelUnreachable: It was tried for long enough.
        """
        if sent and not self._again:
            raise AnswerLost(
                f"the kernel went away during {self._name}",
                "It ended or was restarted; whether this was done is not known",
                "Look whether it was, then decide",
            ) from error
        now = self._clock()
        if self._until is None:
            self._until = now + self._patience
        if now >= self._until:
            raise KernelUnreachable(
                "the kernel does not answer",
                f"{str(error) or type(error).__name__}, for {self._patience:g} s",
                "Ask whoever started this agent to run `agenttop kernel status`",
            ) from error
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        return min(pause, max(self._until - now, 0.0))


def quiet(descriptor: int) -> bool:
    """Whether nothing has come on a connection since its last answer: not its end either."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return not poll.poll(0)


def silent(name: str, seconds: float) -> KernelUnreachable:
    """Nothing came for too long."""
    return KernelUnreachable(
        f"the kernel does not answer {name}",
        f"Nothing came for {seconds:g} s",
        "Ask whoever started this agent to run `agenttop kernel status`",
    )
