"""The message bus as people and agents see it.

Addresses: an agent's name, id or id prefix; ``@NAME`` for a person (``@me``: the kernel's owner). Answers
give ids and names of the moment. ``id`` of a message is ``m`` and its number. A payload is any JSON value;
a text is a JSON string.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, JsonValue

from .agents import Outcome
from .model import Model
from .verbs import Request, Verb

Address = Annotated[str, Field(min_length=1, max_length=200)]
MessageId = Annotated[str, Field(pattern=r"^m[0-9]{1,19}$")]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Kind = Literal["direct", "request", "reply", "topic", "broadcast"]
Standing = Literal["accepted", "delivered", "acked", "replied", "dead", "closed"]
"""How far a message has come; ``closed``: a request that ended without a reply."""


class DraftRequest(Request):
    """What all messages have."""

    payload: JsonValue
    type: Annotated[str, Field(max_length=64)] = "text"
    priority: Annotated[int, Field(ge=0, le=9)] = 4
    """A mailbox gives higher ones first."""
    expires: Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)] | None = None
    """Seconds from now after which it is no longer delivered."""
    cause: MessageId | None = None
    """The message that made the sender send this one; default: what it was handed last."""
    key: Annotated[str, Field(max_length=128)] = ""
    """Idempotency key: a second message of the sender with it is the first one again."""
    trace: Annotated[str, Field(max_length=512)] = ""
    """A W3C ``traceparent`` to go on with."""


class SendRequest(DraftRequest):
    """A message to one agent or person; ``*`` is everybody but the sender."""

    to: Address
    wait: Seconds = 0.0
    """How long to wait for room in a full mailbox."""


class PublishRequest(DraftRequest):
    """A message to whoever subscribed to a topic (``builds/ui``)."""

    topic: Address


class AskRequest(DraftRequest):
    """A message whose reply is waited for."""

    to: Address
    timeout: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 60.0


class ReplyRequest(DraftRequest):
    """The answer to a request."""

    request: MessageId


class SentInfo(Model):
    """What became of a message: it is durable."""

    id: str
    to: str = ""
    """Id of the receiver; empty for a topic and for everybody."""
    receivers: int = 1
    full: int = 0
    """How many of them had no room: there it is a dead letter."""
    again: bool = False
    """The idempotency key was used before: this is that message."""


class MessageInfo(Model):
    """A message as it is read."""

    id: str
    at: float
    """When it was accepted."""
    sender: str
    """Id of the agent, or ``@NAME`` of a person."""
    sender_name: str
    from_person: bool
    run: int | None = None
    """The sender's, as far as that is known."""
    kind: Kind
    to: str
    """Id, topic, or ``*``."""
    to_name: str
    type: str
    priority: int
    payload: Any
    size: int
    """Bytes of the payload."""
    trace: str
    cause: str | None = None
    hops: int = 0
    reply_to: str | None = None
    deadline: float | None = None
    """Of a request: until when a reply is waited for."""
    expires: float | None = None
    attempt: int = 0
    """How often it was handed out by now."""


class InboxRequest(Request):
    """Take what waits, acknowledging what was taken before.

    What is handed out is seen by nobody else for ``visible`` seconds; unacknowledged it comes again.
    """

    limit: Annotated[int, Field(ge=1, le=500)] = 10
    wait: Seconds = 0.0
    """Seconds to wait for the first one."""
    ack: list[MessageId] = Field(default_factory=list, max_length=500)
    visible: Annotated[float, Field(gt=0, le=86_400)] | None = None
    run: Annotated[int, Field(ge=1, le=500)] = 1
    """How many of one sender and priority at once, at most; they are acknowledged in their order."""


class AckRequest(Request):
    """Done with these; in the order in which they came."""

    ids: list[MessageId] = Field(min_length=1, max_length=500)


class AckInfo(Model):
    """How many of them were waiting for it; a second acknowledgement is harmless."""

    acked: int


class MailRequest(Request):
    """Look into an agent's mailbox without taking anything; ``agent`` empty: one's own."""

    agent: str = ""
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100


class SubscribeRequest(Request):
    """Begin or end a subscription; ``*`` is one level, a last ``**`` the rest."""

    pattern: Address
    agent: str = ""
    """Whose; a person may do it for an agent. Empty: one's own."""
    end: bool = False


class NoRequest(Request):
    """Nothing more needs to be said."""


class MailboxInfo(Model):
    """A mailbox."""

    agent: str
    name: str
    unread: int
    """Unacknowledged, those in the receiver's hands included."""
    taken: int
    limit: int
    oldest: float | None = None
    """When the oldest unacknowledged one was accepted."""
    dead: int = 0
    patterns: list[str] = Field(default_factory=list)


class TopicInfo(Model):
    """A topic or pattern that somebody subscribed to or published to of late."""

    topic: str
    subscribers: list[str]
    """Names."""
    per_minute: float = 0.0


class DeadInfo(Model):
    """A dead letter."""

    message: MessageInfo
    agent: str
    """Id of the mailbox's owner."""
    name: str
    reason: str
    attempts: int


class DeadRequest(Request):
    """Dead letters of one agent, or of all (``agent`` empty)."""

    agent: str = ""
    limit: Annotated[int, Field(ge=1, le=10_000)] = 1_000


class DeadActRequest(Request):
    """Put dead letters back, or throw them away; without ids all of that agent."""

    agent: Address
    ids: list[MessageId] = Field(default_factory=list, max_length=10_000)


class MessageRequest(Request):
    """One message, with its payload as far as it is kept."""

    id: MessageId


class WaitInfo(Model):
    """Somebody waits for a reply."""

    asker: str
    asker_name: str
    asked: str
    asked_name: str
    request: str
    since: float
    deadline: float


class WaitsInfo(Model):
    """The wait-for graph, and the rings in it (names, each waiting for the next)."""

    waits: list[WaitInfo]
    rings: list[list[str]]


# --- the live picture of the Bus pane: NamedTuples, up to a thousand rows a second ---------------


class MessageRow(NamedTuple):
    """One line of the trace."""

    seq: int
    at: float
    sender: str
    """Name of the agent, or ``@NAME``."""
    to: str
    """Name, ``#topic`` or ``*``."""
    kind: str
    type: str
    size: int
    state: str
    """``Standing``, or ``acked 3/4`` where several receive it."""
    latency: float | None
    """Seconds from accepted to acknowledged, of the last receiver; ``None`` while it is under way."""
    text: str
    """The beginning of the payload, hostile."""
    note: str
    """Why it is dead or closed."""
    deadline: float | None
    trace: str
    """The 32 hex digits of its trace id: the conversation."""
    reply_to: int | None


class BoxRow(NamedTuple):
    """One mailbox."""

    agent: str
    name: str
    unread: int
    limit: int
    oldest: float | None
    dead: int


class TopicRow(NamedTuple):
    """One topic."""

    topic: str
    subscribers: int
    per_minute: float


class WaitRow(NamedTuple):
    """An edge of the wait-for graph."""

    asker: str
    asked: str
    request: int
    since: float
    deadline: float


class PairRow(NamedTuple):
    """Who wrote to whom, how often since the kernel started, and when last."""

    sender: str
    to: str
    messages: int
    last: float


class BusSums(NamedTuple):
    """The bus in one line."""

    hour: int
    """Messages accepted in the last hour."""
    per_second: float
    """Over the last ten seconds."""
    p95: float | None
    """Seconds to the acknowledgement, of the last 1,000 messages."""
    unread: int
    dead: int


class BusChange(NamedTuple):
    """What changed; ``None`` is: as before. The first one has everything."""

    time: float
    rows: tuple[MessageRow, ...]
    """New or changed lines that fit the filter, oldest first, the newest ``BusWatchRequest.rows`` at most."""
    boxes: tuple[BoxRow, ...] | None
    topics: tuple[TopicRow, ...] | None
    waits: tuple[WaitRow, ...] | None
    rings: tuple[tuple[str, ...], ...] | None
    pairs: tuple[PairRow, ...] | None
    sums: BusSums


class BusWatchRequest(Request):
    """Watch the bus: one whole picture, then changes, five a second at most."""

    rows: Annotated[int, Field(ge=1, le=2_000)] = 200
    text: Annotated[str, Field(max_length=200)] = ""
    """Only messages with this in sender, receiver, type or the text's beginning."""
    trace: Annotated[str, Field(max_length=32)] = ""
    """Only this conversation."""


SEND: Verb[SendRequest, SentInfo] = Verb(
    "bus.send", SendRequest, SentInfo, "Send a message; durable when this returns.", agents=True
)
ASK: Verb[AskRequest, MessageInfo] = Verb(
    "bus.ask", AskRequest, MessageInfo, "Send a request and wait for its reply.", agents=True
)
REPLY: Verb[ReplyRequest, SentInfo] = Verb(
    "bus.reply", ReplyRequest, SentInfo, "Answer a request, and acknowledge it.", agents=True
)
PUBLISH: Verb[PublishRequest, SentInfo] = Verb(
    "bus.publish", PublishRequest, SentInfo, "Send a message to a topic's subscribers.", agents=True
)
INBOX: Verb[InboxRequest, list[MessageInfo]] = Verb(
    "bus.inbox", InboxRequest, list[MessageInfo], "Take what waits in one's own mailbox.", agents=True
)
ACK: Verb[AckRequest, AckInfo] = Verb("bus.ack", AckRequest, AckInfo, "Acknowledge messages.", agents=True)
SUBSCRIBE: Verb[SubscribeRequest, list[str]] = Verb(
    "bus.subscribe", SubscribeRequest, list[str], "Begin or end a subscription; answers with what is "
    "subscribed to now.", agents=True, ref="agent",
)  # fmt: skip
MAIL: Verb[MailRequest, list[MessageInfo]] = Verb(
    "bus.mail", MailRequest, list[MessageInfo], "Look into a mailbox without taking anything.", ref="agent"
)
MAILBOXES: Verb[NoRequest, list[MailboxInfo]] = Verb(
    "bus.mailboxes", NoRequest, list[MailboxInfo], "Every mailbox."
)
TOPICS: Verb[NoRequest, list[TopicInfo]] = Verb("bus.topics", NoRequest, list[TopicInfo], "Every topic.")
DEAD: Verb[DeadRequest, list[DeadInfo]] = Verb(
    "bus.dead", DeadRequest, list[DeadInfo], "Dead letters, oldest first.", ref="agent"
)
REVIVE: Verb[DeadActRequest, list[Outcome]] = Verb(
    "bus.revive", DeadActRequest, list[Outcome], "Put dead letters back into their mailbox.", ref="agent"
)
DROP: Verb[DeadActRequest, list[Outcome]] = Verb(
    "bus.drop", DeadActRequest, list[Outcome], "Throw dead letters away.", ref="agent"
)
MESSAGE: Verb[MessageRequest, MessageInfo] = Verb("bus.message", MessageRequest, MessageInfo, "One message.")
CONVERSATION: Verb[MessageRequest, list[MessageInfo]] = Verb(
    "bus.conversation", MessageRequest, list[MessageInfo], "The messages of one trace, oldest first."
)
WAITS: Verb[NoRequest, WaitsInfo] = Verb("bus.waits", NoRequest, WaitsInfo, "Who waits for whose reply.")
WATCH: Verb[BusWatchRequest, BusChange] = Verb(
    "bus.watch", BusWatchRequest, BusChange, "The live picture of the bus.", stream=True
)

VERBS: tuple[Verb[Any, Any], ...] = (
    SEND, ASK, REPLY, PUBLISH, INBOX, ACK, SUBSCRIBE, MAIL, MAILBOXES, TOPICS, DEAD, REVIVE, DROP, MESSAGE,
    CONVERSATION, WAITS, WATCH,
)  # fmt: skip
