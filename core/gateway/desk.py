"""The gateway's door to the kernel's books: who calls, whether it may go on, what it has cost.

The order for one metered call is always the same, and every call that entered ``admit`` without an
error from it ends in exactly one ``settle``::

    identify(secret) -> Caller
    await admit(CallStarted, Asking)  # reserved and durable on return; may wait for hours
    await await_key(CallStarted, …)   # only where the provider's key is not there
    provider = await turn(CallStarted)  # its turn in the provider's queue; may wait
    recalled(CallStarted)             # right before its first byte goes out: is it still to go?
    answered(CallStarted, …)          # the head of an answer; may say: take it back, try again
    progressed(CallProgressed)        # about once a second, while it runs
    await settle(CallSettled)         # durable on return; the last chunk is withheld until then

After ``answered`` said ``again``, or where the provider was not reached (``lost``), ``turn`` is awaited
once more for the same call. A client that leaves while ``admit``, ``await_key`` or ``turn`` waits makes the
gateway cancel that wait and settle the call as ``client_cut`` with zero usage; so does the gateway itself
(outcome ``refused``) when a client has waited as long as it bears. The desk may therefore see a settlement
of a call whose ``CallStarted`` it never committed, and ignores that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from ..errors import AgentTopError
from ..journal.events import CallProgressed, CallSettled, CallStarted, RequestPassed
from .heard import Hears


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call: an agent's id, and the number of the run it is in."""

    agent: str
    run: int


class Asking(NamedTuple):
    """What a request says of itself that decides about its admission, beyond ``CallStarted``."""

    body_bytes: int
    """Length of its (decoded) body: bounds its input."""
    max_output: int | None
    """The most tokens it may produce, over all its choices; ``None`` where it does not say."""
    fingerprint: int | None = None
    """64-bit similarity hash of what it asks now: near-identical requests differ in few bits."""
    account: str = ""
    """Tells credentials that the client brings itself from others'; empty where it brings none that count."""
    stored_input: bool = False
    """Its body does not bound its input: the provider adds what it has stored."""


RefusalKind = Literal["budget", "policy", "ended", "throttled", "key"]
"""Why: no money, not allowed, the agent is gone, come again in ``retry_after``, no provider key."""


class Refused(AgentTopError):
    """The desk will not let a call go on. The protocol makes the answer of it that its clients understand.

    Attributes:
        kind: Why.
        message: What a person reads in the agent's output.
        retry_after: Seconds after which the client may come again (``throttled`` only).
    """

    status = 403
    code = "refused"

    def __init__(self, kind: RefusalKind, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.kind: RefusalKind = kind
        self.message = message
        self.retry_after = retry_after


class Desk(Protocol):
    """What the gateway asks of the kernel. All of it runs on the gateway's event loop."""

    def identify(self, secret: str) -> Caller | None:
        """The agent this secret belongs to, or ``None``; constant time (see ``Identity``)."""
        ...

    async def admit(self, started: CallStarted, asking: Asking) -> None:
        """Reserve the worst case and commit ``started``; wait while the agent is held or asks for money.

        Cancelled when the client leaves or has waited as long as it bears.

        Raises:
            Refused: The client gets this answer; the call is settled with the outcome ``refused``.
            AgentTopError: The call was not accepted (journal unavailable, say) and is not settled;
                the client gets the error's status and text.
        """
        ...

    async def turn(self, started: CallStarted) -> str:
        """Wait for the call's turn; the name of the provider it goes to (another one in a fallback).

        Raises:
            Refused: As in ``admit``; after a loss the outcome is ``unreachable``.
        """
        ...

    def recalled(self, started: CallStarted) -> bool:
        """Whether the call must not go out now after all: asked when its connection is there, which may have
        taken long. If so it has lost its turn, and ``turn`` is awaited once more."""
        ...

    def answered(
        self, started: CallStarted, provider: str, status: int, headers: Mapping[bytes, bytes]
    ) -> Literal["pass", "again"]:
        """Look at the head of an answer (lower-case names), before the client sees any of it.

        ``again``: the provider is busy (429, 529) and the client is spared that; the gateway drops this
        answer and awaits ``turn`` again.
        """
        ...

    def lost(self, started: CallStarted, provider: str, why: str) -> None:
        """The provider was not reached, timed out, or cut its answer. The call may ask for another ``turn``
        if nothing of it was sent."""
        ...

    async def await_key(self, started: CallStarted, name: str) -> None:
        """Wait until somebody supplied the provider key ``name`` (an environment variable).

        Called after ``admit`` where the key ring has no key. The desk shows the agent as waiting
        for a ``dependency`` and returns once ``KeyRing.supply`` was called. Cancelled when the
        client leaves.

        Raises:
            Refused: It is not going to come.
        """
        ...

    def progressed(self, progress: CallProgressed) -> None:
        """Note the usage seen so far; need not be durable at once."""
        ...

    async def settle(self, settled: CallSettled) -> None:
        """Commit the truth of a call. Not cancelled.

        Raises:
            AgentTopError: It could not be made durable. The client then never sees the end of its
                answer: its connection is cut.
        """
        ...

    async def let_pass(self, agent: str, provider: str) -> None:
        """Return when a request that is not metered may go to a provider; wait while the fleet is halted.

        Raises:
            Refused: Its agent has ended, or may not use this provider.
        """
        ...

    def passed(self, event: RequestPassed) -> None:
        """Note a request that is not metered and went to a provider; need not be durable at once."""
        ...

    @property
    def hears(self) -> Hears | None:
        """Who is told what was said in each call, after its settlement; ``None``: nobody, nothing is kept."""
        ...

    def frozen(self, agent: str) -> bool:
        """Whether the agent's processes are stopped: no limit in time of its calls counts that."""
        ...
