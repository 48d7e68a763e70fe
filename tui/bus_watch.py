"""Following the bus for the screen: one watch of all of it, and one of the conversation under the cursor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from agenttop.core.errors import AgentTopError, KernelUnreachable
from agenttop.core.streams import closing

from .bus import BusPicture, Trace

if TYPE_CHECKING:
    from agenttop.core.client import KernelClient

#: Lines of the trace asked for, and of a conversation.
ROWS, TALK = 200, 500
#: Seconds the cursor rests on a message before its whole conversation is asked for.
REST = 0.25
#: Seconds before a watch that ended is begun again.
AGAIN = 1.0


class BusWatch:
    """Keeps a ``BusPicture`` and a conversation up to date until it is cancelled.

    Args:
        client: The connection there is now, if there is one.
        changed: Called after every change; says whether anybody still looks (else it ends).

    Attributes:
        problem: Why nothing comes, if nothing comes.
        talk: The conversation ``talk_of`` (a trace id) as far as the kernel has it.
    """

    def __init__(
        self, picture: BusPicture, client: Callable[[], KernelClient | None], changed: Callable[[], bool]
    ) -> None:
        self.picture = picture
        self.problem = ""
        self.text = ""
        self.host = ""
        self.talk = Trace()
        self.talk_of = ""
        self._client = client
        self._changed = changed
        self._scope: anyio.CancelScope | None = None
        self._talk_scope: anyio.CancelScope | None = None
        self._wanted = anyio.Event()
        self._talk_wanted = anyio.Event()

    # --- what is watched -----------------------------------------------------------------------

    def filter(self, text: str) -> None:
        """Only messages with this in them; what is here already is sifted at once."""
        if text != self.text:
            self.text = text
            self.picture.trace.select(text)
            self.again()

    def on(self, host: str) -> None:
        """Look at another host's bus."""
        if host != self.host:
            self.host = host
            self.picture.forget()
            self.listen("")
            self.again()

    def again(self) -> None:
        """Begin to watch anew: with another filter, or since lines were missed."""
        if self._scope is not None:
            self._scope.cancel()
        self._wanted.set()

    def listen(self, trace: str) -> None:
        """The conversation to follow; none for an empty id."""
        if trace != self.talk_of:
            self.talk_of, self.talk = trace, Trace()
            if self._talk_scope is not None:
                self._talk_scope.cancel()
            self._talk_wanted.set()

    # --- the two watches -----------------------------------------------------------------------

    async def run(self) -> None:
        """Watch until nobody looks any more."""
        while True:
            self._wanted = anyio.Event()
            text = self.text
            with anyio.CancelScope() as self._scope:
                await self._watch(text)
            if not self._changed():
                return
            with anyio.move_on_after(AGAIN):
                await self._wanted.wait()

    async def _watch(self, text: str) -> None:
        from agenttop.core.api import bus

        client = self._client()
        if client is None:
            return
        self.picture.begin()
        try:
            request = bus.BusWatchRequest(rows=ROWS, text=text, host=self.host)
            async with closing(client.follow(bus.WATCH, request)) as changes:
                async for change in changes:
                    self.problem = ""
                    self.picture.apply(change)
                    if not self._changed():
                        return
            self.problem = "the kernel ended the watch"
        except KernelUnreachable as error:
            self.problem = error.what if error.code == "host_away" else "no kernel answers"
        except AgentTopError as error:
            self.problem = str(error)

    async def run_talk(self) -> None:
        """Follow conversations, one after the other."""
        while self._changed():
            self._talk_wanted = anyio.Event()
            trace, into = self.talk_of, self.talk
            with anyio.CancelScope() as self._talk_scope:
                await anyio.sleep(REST)
                if trace and self._client() is not None:
                    await self._listen(trace, into)
                    await anyio.sleep(AGAIN)  # it ended: the other watch says why
                else:
                    await self._talk_wanted.wait()

    async def _listen(self, trace: str, into: Trace) -> None:
        from agenttop.core.api import bus

        client = self._client()
        if client is None:
            return
        try:
            request = bus.BusWatchRequest(rows=TALK, trace=trace, host=self.host)
            async with closing(client.follow(bus.WATCH, request)) as changes:
                async for change in changes:
                    if change.rows:
                        into.take(change.rows)
                        if not self._changed():
                            return
        except AgentTopError:
            return  # The first watch meets the same trouble, and says it.
