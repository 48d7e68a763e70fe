"""What the gateway has to know about a provider's wire protocol, one implementation per protocol.

A protocol has no state. For every metered call it makes one ``AnswerReader``, which sees a (decoded)
copy of the answer on its way to the client and gathers what the call has used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ...journal.events import Usage
from ..desk import RefusalKind
from ..http1 import Header


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What a metered request says about itself before it is forwarded.

    ``max_tokens`` is the most it may produce over all its choices, for the reservation; ``None`` where it
    does not say. ``body_bytes`` is the length of the body, decoded where it came compressed.
    ``fingerprint`` is the 64-bit similarity hash of what it asks now (see ``fingerprint.py``).
    ``main_loop`` is false for subagents' and side calls, which do not tell the agent's context.
    """

    model: str | None = None
    stream: bool = False
    max_tokens: int | None = None
    main_loop: bool = True
    input_tokens: int = 0
    """An estimate from the body's size, pictures and files left out: for answers that tell no usage."""
    context_limit: int | None = None
    """Where the request itself changes the model's usual limit."""
    client: dict[str, str] = field(default_factory=dict)
    body_bytes: int = 0
    stored_input: bool = False
    """It goes on with what the provider has stored (a response, a conversation, a cached prompt): its body
    bounds its input no more."""
    fingerprint: int | None = None
    body: bytes | None = None
    """The body to send instead of the client's own (usage asked for, say), in the clear: it goes without
    ``Content-Encoding``. ``None`` sends it as it came."""
    strip_usage: bool = False
    """The client did not ask for the usage in its answer: what only tells that is taken out again."""


class AnswerReader(ABC):
    """Reads one answer as it passes. Attributes may be looked at any time.

    Attributes:
        model: The model that answered, as the provider names it.
        final: The provider's final usage figure was seen: ``usage()`` is exact.
        begun: Anything was seen that the provider bills.
        answered: The first token (or the body) was seen.
        ended: The answer's own last word was seen: it was not cut, whether it told its usage or not.
        failed: The answer itself says that the call failed, whatever the HTTP status.
        stop_reason: Why the model stopped, in the protocol's words.
        tools: Names of the tools the model called, in order.
        error: Type and message of an error in the answer.
    """

    def __init__(self) -> None:
        self.model: str | None = None
        self.final = False
        self.begun = False
        self.answered = False
        self.ended = False
        self.failed = False
        self.stop_reason: str | None = None
        self.tools: list[str] = []
        self.error = ""

    @abstractmethod
    def feed(self, data: bytes) -> int | None:
        """Read the next piece of the body.

        Returns:
            The offset in ``data`` from which nothing may be passed on before the call is settled,
            once the answer's last event was seen; ``None`` before.
        """

    @abstractmethod
    def finish(self) -> None:
        """The body is complete."""

    @abstractmethod
    def usage(self) -> Usage:
        """What was used so far; an estimate for the part that is still streaming."""


class StreamFilter(ABC):
    """Takes out of a stream what the client did not ask for. Works on undecoded pieces, at any borders.

    Used for event streams only, and asked for without a content coding.
    """

    @abstractmethod
    def feed(self, data: bytes, last: bool) -> bytes:
        """What the client gets of ``data`` and of what was kept back before; everything if ``last``."""


class WireProtocol(ABC):
    """One provider dialect."""

    name: str
    credential_headers: frozenset[bytes]
    """Lower-case names of the headers that carry credentials."""
    credential_queries: frozenset[str] = frozenset()
    """Lower-case names of the query parameters that carry credentials."""
    operations: frozenset[str] = frozenset()
    """The metered operations of this dialect; no two dialects share a name."""

    @abstractmethod
    def operation(self, method: str, path: str) -> str | None:
        """The metered operation this is, or ``None`` for one that costs nothing.

        Args:
            path: The whole path at the provider, decoded, without empty segments: no way of writing
                a path leads around the meter.
        """

    @abstractmethod
    def read_request(
        self, operation: str, headers: Sequence[Header], body: bytes, path: str = ""
    ) -> RequestFacts:
        """What the request says. A body that cannot be read gives empty facts: upstream refuses it.

        Args:
            path: As for ``operation``, but in its own case: some protocols have the model in it.
        """

    @abstractmethod
    def reader(
        self,
        operation: str,
        status: int,
        headers: Mapping[bytes, bytes],
        *,
        event_bytes: int,
        answer_bytes: int,
        facts: RequestFacts | None = None,
    ) -> AnswerReader:
        """A reader for the answer with this status and these (lower-case) headers.

        Args:
            facts: Of the request: where the answer never tells its input, that is estimated from them.
        """

    @abstractmethod
    def credentials(self, key: str) -> list[Header]:
        """The headers that carry the provider key."""

    @abstractmethod
    def request_id(self, headers: Mapping[bytes, bytes]) -> str | None:
        """The provider's own id of the call, from its (lower-case) response headers."""

    @abstractmethod
    def error_body(self, status: int, message: str) -> bytes:
        """The protocol's own error form, as JSON."""

    def refusal(self, operation: str, kind: RefusalKind, message: str) -> tuple[int, bytes]:
        """Status and body with which this protocol's clients stop (or come again) as they should.

        By default 402 for a budget, 403 for policy and ended agents, 401 for a missing key, 429 to come
        again, each in ``error_body``'s form.
        """
        status = {"budget": 402, "policy": 403, "ended": 403, "key": 401, "throttled": 429}[kind]
        return status, self.error_body(status, message)

    def keep_alive(self, operation: str, facts: RequestFacts, target: bytes) -> tuple[bytes, ...]:
        """What may be sent in a stream whose answer has not begun, so that the client goes on waiting: one
        piece after the other, round and round. Empty where no client was seen to bear that.

        Args:
            target: The request's path and query.
        """
        return ()

    def error_event(self, operation: str, status: int, message: str) -> bytes:
        """An error inside a stream whose head (200) was sent already."""
        return b"event: error\ndata: " + self.error_body(status, message) + b"\n\n"

    def refuses_addition(self, status: int) -> bool:
        """Whether an answer with this status to a changed body may be due to the change: the client's own
        body is to be sent then, once, and from then on without the change where that is answered."""
        return status in (400, 422)

    def stream_filter(self, operation: str, facts: RequestFacts) -> StreamFilter | None:
        """What takes out of the answer what the gateway itself asked for; ``None`` for nothing."""
        return None
