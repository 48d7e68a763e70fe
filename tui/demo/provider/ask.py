"""What a request asks for and what a reply says, without any provider's wire format.

A dialect (one module per protocol) turns its requests into an ``Ask`` and a ``Reply`` into its
bytes; everything between the two is written once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from .http import Request
from .prompt_cache import Block
from .truth import Usage

Kind = Literal["generate", "embed", "count", "models", "model", "hello"]


class Route(NamedTuple):
    """Where a request goes: what is wanted, and what stood before the provider's own path."""

    kind: Kind
    prefix: str
    detail: str = ""


class Invalid(Exception):
    """The request cannot be meant; answered with ``status`` and this message."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class Tool(NamedTuple):
    """A tool the client offers."""

    name: str
    schema: dict[str, Any]
    custom: bool = False
    """Takes text of its own kind instead of JSON."""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """One model call, as far as the answer depends on it."""

    model: str
    directives: str
    """What the client wrote in ``[[mock:…]]``, in the prompt or behind the model's name."""
    stream: bool
    max_output: int
    blocks: tuple[Block, ...]
    """The whole prompt, for counting and caching."""
    conversation: str
    """Stays the same while a conversation grows."""
    prompt: str
    """The last thing a person said."""
    rounds: int
    """How many times tools have answered since then."""
    tools: tuple[Tool, ...] = ()
    forced: str = ""
    """A tool that must be used."""
    thinks: bool = False
    schema: dict[str, Any] | None = None
    """The JSON schema the answer must have."""
    bills_writes: bool = True
    """Whether what goes into the cache is told and billed by itself, or is plain input."""
    wants_usage: bool | None = None
    """Whether the client asked for the usage in a stream; ``None`` where nobody has to ask."""
    stream_type: str = "text/event-stream; charset=utf-8"
    """The media type of a streamed answer."""

    @property
    def tokens(self) -> int:
        """Tokens of the whole prompt."""
        return sum(block.tokens for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Part:
    """One content block of a reply, in the pieces it is streamed in."""

    kind: Literal["thinking", "text", "tool"]
    pieces: tuple[str, ...]
    tokens: tuple[int, ...]
    tool: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says, and why it stopped."""

    parts: tuple[Part, ...]
    stop: Literal["end_turn", "tool_use", "max_tokens"]

    @property
    def output(self) -> int:
        """Output tokens, thinking included."""
        return max(1, sum(sum(part.tokens) for part in self.parts))

    @property
    def thinking(self) -> int:
        """Thinking tokens."""
        return sum(sum(part.tokens) for part in self.parts if part.kind == "thinking")


class Event(NamedTuple):
    """One piece of a streamed answer."""

    data: bytes
    output: int
    """Output tokens sent when this one is."""
    announced: dict[str, int] | None = None
    """The usage it carries, in the provider's field names."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Everything a dialect needs to write one reply."""

    ask: Ask
    reply: Reply
    usage: Usage
    id: str
    tool_ids: tuple[str, ...] = field(default=())


class Manners(NamedTuple):
    """How a provider names things."""

    message_id: str
    """What ids of answers begin with."""
    tool_id: str
    request_id: str
    """The header that has the request's id."""
    limits: Literal["anthropic", "openai", "none"]
    """Whose headers tell the rate limits."""
    garbage: bytes
    """Half an event, for a stream that ends in nonsense."""


class Dialect(Protocol):
    """One wire protocol."""

    @property
    def name(self) -> str:
        """As the truth calls it."""
        ...

    @property
    def manners(self) -> Manners:
        """How things are named."""
        ...

    def route(self, request: Request) -> Route | None:
        """What this request wants, or ``None`` if it is not of this protocol."""
        ...

    def parse(self, request: Request) -> Ask:
        """Read a model call.

        Raises:
            Invalid: It is not a valid one.
        """
        ...

    def events(self, answer: Answer) -> list[Event]:
        """The streamed form of a reply."""
        ...

    def body(self, answer: Answer) -> tuple[bytes, dict[str, int]]:
        """The other form, and the usage in it."""
        ...

    def trouble(self, status: int, message: str, request_id: str) -> bytes:
        """An error's body."""
        ...

    def stream_trouble(self, message: str, request_id: str) -> bytes:
        """An error in the middle of a stream."""
        ...

    def other(self, route: Route, request: Request) -> tuple[int, bytes]:
        """Answer what is not a model call."""
        ...


def tokens_in(text: str) -> int:
    """Tokens of a text, at four characters each: a count that anybody can check."""
    return (len(text) + 3) // 4
