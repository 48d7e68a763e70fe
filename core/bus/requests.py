"""Questions and answers: one open request per question, ended by a reply, its deadline or a cancellation.

Requests are durable, the waiting for them is not: after a restart the reply is in the asker's mailbox.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from .books import CLOSED, Ended
from .delivery import Deliveries, Delivery
from .errors import BusUnavailable, Deadlock, NoReply
from .pipeline import Pipeline, Posted

log = logging.getLogger(__name__)

#: Told of a ring, in order, each waiting for the next and the last for the first; true breaks it.
OnDeadlock = Callable[[list[str]], bool]


class Requests:
    """Who waits here for a reply, and what is done about rings of them."""

    def __init__(self, pipeline: Pipeline, deliveries: Deliveries, on_deadlock: OnDeadlock) -> None:
        self._pipe = pipeline
        self._deliveries = deliveries
        self._on_deadlock = on_deadlock
        self._asking: dict[int, asyncio.Future[Ended]] = {}
        #: Requests whose reply is on its way to the disk.
        self.answering: set[int] = set()

    async def reply_to(self, posted: Posted, mailbox: int) -> Delivery:
        """Wait until a request just posted ends; cancelling this wait cancels the request.

        Raises:
            NoReply: It ended without one; Deadlock: it was cancelled to break a ring.
            BusUnavailable: The store failed, and the request was not accepted.
        """
        # Before it is durable, so that no reply can be quicker.
        waiting = self._asking[posted.seq] = asyncio.get_running_loop().create_future()
        try:
            await posted.batch
            ended = await waiting
        except asyncio.CancelledError:
            self._abandon(posted.seq, mailbox)
            raise
        finally:
            self._asking.pop(posted.seq, None)
        return await self._outcome(ended)

    def _abandon(self, seq: int, mailbox: int) -> None:
        """Nobody waits any more. The mark follows the request in the queue, durable or not yet."""
        try:
            self._pipe.mark(seq, mailbox, CLOSED, "cancelled")
        except BusUnavailable as error:
            # Its deadline ends it, if it is on the disk at all.
            log.warning("request m%d is not cancelled: %s", seq, error)

    async def _outcome(self, ended: Ended) -> Delivery:
        request = ended.request
        if ended.reply is None:
            kind = Deadlock if ended.reason == "deadlock" else NoReply
            raise kind(
                f"{request.asked} did not reply to m{request.seq}",
                f"Reason: {ended.reason}",
                "Ask again with more time, or ask somebody else",
            )
        return await self._deliveries.collect(request.asker, ended.reply)

    def cancel(self, seq: int, reason: str) -> bool:
        """End a request without a reply; false if it is not open.

        Raises:
            BusUnavailable: The store takes nothing now.
        """
        return self._deliveries.end_request(seq, reason) is not None

    def ended(self, ended: Iterable[Ended]) -> None:
        """These have ended, durably."""
        for one in ended:
            self.answering.discard(one.request.seq)
            waiting = self._asking.get(one.request.seq)
            if waiting is not None and not waiting.done():
                waiting.set_result(one)

    def reopened(self) -> None:
        """The books were folded again: whoever waits for what is not open there waits in vain."""
        self.answering.clear()
        for seq, waiting in self._asking.items():
            if seq not in self._pipe.books.requests and not waiting.done():
                waiting.set_exception(BusUnavailable(f"request m{seq} was lost", "The mail store failed"))

    def rings(self, rings: Iterable[list[str]]) -> None:
        """Agents wait for each other: report the rings that are still there, break them if so decided."""
        waits = self._pipe.books.waits
        for ring in rings:
            edges = [waits.of(a).get(b, set()) for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)]
            if all(edges) and self._on_deadlock(ring):
                # The youngest has waited least, and closed the ring; one beside it would keep it closed.
                for request in sorted(max(edges, key=max)):
                    self.cancel(request, "deadlock")
