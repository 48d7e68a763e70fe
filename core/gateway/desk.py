"""The gateway's door to the kernel's books: who calls, whether it may go on, what it has cost.

The order for one metered call is always the same, and every call that entered ``admit`` without an
error from it ends in exactly one ``settle``::

    identify(secret) -> Caller
    await admit(CallStarted)          # durable on return; may wait for hours
    await await_key(CallStarted, …)   # only where the provider's key is not there
    progressed(CallProgressed)        # about once a second, while it runs
    await settle(CallSettled)         # durable on return; the last chunk is withheld until then

A client that leaves while ``admit`` or ``await_key`` waits makes the gateway cancel that wait and
settle the call as ``client_cut`` with zero usage; the desk may therefore see a settlement of a call
whose ``CallStarted`` it never committed, and ignores that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..errors import AgentTopError
from ..journal.events import CallProgressed, CallSettled, CallStarted


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call: an agent's id, and the number of the run it is in."""

    agent: str
    run: int


class Refused(AgentTopError):
    """The desk will not let a call go on.

    Attributes:
        reply: HTTP status the client gets: 402 for money, 403 for policy (what clients do with
            each is why: those statuses are not retried).
        body: The whole body, if the desk wants a special one; else the protocol's own error form
            around ``message``.
        message: What a person reads in the agent's output.
    """

    status = 403
    code = "refused"

    def __init__(self, reply: int, message: str, body: bytes | None = None) -> None:
        super().__init__(message)
        self.reply = reply
        self.message = message
        self.body = body


class Desk(Protocol):
    """What the gateway asks of the kernel. All of it runs on the gateway's event loop."""

    def identify(self, secret: str) -> Caller | None:
        """The agent this secret belongs to, or ``None``; constant time (see ``Identity``)."""
        ...

    async def admit(self, started: CallStarted) -> None:
        """Commit ``started``; wait while the agent is held. On return the call is forwarded.

        Cancelled when the client leaves.

        Raises:
            Refused: The client gets this answer, marked as not worth a retry; the call is settled
                with the outcome ``refused``.
            AgentTopError: The call was not accepted (journal unavailable, say) and is not settled;
                the client gets the error's status and text.
        """
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
