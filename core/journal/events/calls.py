"""What happens to model calls."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...agents.states import Waiting
from .event import AgentEvent
from .usage import Usage


class CallStarted(AgentEvent):
    """Durable before the request is forwarded."""

    call: str
    run: int
    provider: str
    protocol: str
    operation: str = ""
    model: str | None = None
    stream: bool = False
    reserved_usd: float | None = None
    reserved_tokens: int | None = None
    """The worst case, held against every budget that covers the agent until the call is settled."""
    approval: str | None = None
    """The approval that let this one call through its budgets, or although it looks like a runaway's; both,
    with a blank between, where two were needed."""
    client: dict[str, str] = Field(default_factory=dict)
    """Facts the client's headers tell (session, subagent), never credentials."""


def conversation(started: CallStarted) -> str | None:
    """The client's own id of the conversation a call belongs to; ``None`` for a subagent's."""
    return None if started.client.get("subagent") else started.client.get("session")


class CallProgressed(AgentEvent):
    """Usage seen so far in a call that is still running; noted each second."""

    call: str
    usage: Usage


class CallSettled(AgentEvent):
    """The truth of a call. Durable before its last chunk is passed on to the client.

    ``cost_usd`` is ``None`` where no price is known. ``exact`` is false where the provider's final
    figure was not seen (the stream was cut, the kernel crashed) and the usage is what was seen.
    """

    call: str
    run: int
    provider: str
    model: str | None = None
    usage: Usage = Usage()
    cost_usd: float | None = None
    exact: bool = True
    status: int | None = None
    outcome: Literal["ok", "error", "client_cut", "upstream_cut", "unreachable", "crash", "refused"] = "ok"
    error: str = ""
    stop_reason: str | None = None
    tools: list[str] = Field(default_factory=list)
    context_limit: int | None = None
    context_used: int | None = None
    """Tokens in the model's context after the call; ``None`` for calls that are not the main loop."""
    queued_seconds: float = 0.0
    attempts: int = 1
    """How often it was sent; more than once where a provider turned it away for now."""
    first_token_seconds: float | None = None
    seconds: float = 0.0
    request_id: str | None = None


class CallHeld(AgentEvent):
    """The gateway keeps a call; ``reason`` is why the agent waits, ``None`` for a hold by a person."""

    call: str
    reason: Waiting | None = None
    detail: str = ""


class CallReleased(AgentEvent):
    """A held call goes on."""

    call: str


class CallThrottled(AgentEvent):
    """A provider turned a call away for now (429, 529), or was not reached; the gateway tries again."""

    call: str
    provider: str
    status: int | None = None
    retry_after: float | None = None


class RequestPassed(AgentEvent):
    """A request that is not metered went to a provider (a model list, a token count)."""

    run: int
    provider: str
    method: str
    path: str
    status: int | None = None
    seconds: float = 0.0
