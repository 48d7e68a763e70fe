"""The screen's one connection to its kernel: connect, watch, and come back when it is lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import anyio
from textual.message import Message

from agenttop.core.errors import AgentTopError, KernelUnreachable
from agenttop.core.streams import closing

if TYPE_CHECKING:
    from agenttop.core.api import Delta, Snapshot
    from agenttop.core.client import KernelClient
    from agenttop.core.table import Window

    from .app import AgentTopApp

#: Seconds before each new try; after the last one a person must ask.
PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 15.0, 15.0, 30.0, 30.0, 60.0)


#: Seconds from the first table to the import of what acting on it takes.
WARM_UP = 0.3


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no kernel, since when, and what happens next."""

    error: AgentTopError
    since: float
    attempt: int
    next_try: float | None
    """Wall clock; ``None``: not before a person asks."""


class Connected(Message):
    """A kernel answers."""


class Lost(Message):
    """No kernel answers."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__()
        self.trouble = trouble


class Arrived(Message):
    """One snapshot or one delta; never one message per agent."""

    def __init__(self, update: Snapshot | Delta) -> None:
        super().__init__()
        self.update = update


class Session:
    """Owns the client. ``run`` is the one task that consumes ``client.watch()``."""

    def __init__(self, app: AgentTopApp, connect: Callable[[], Awaitable[KernelClient]], window: str) -> None:
        self._app = app
        self._connect = connect
        self._window = window
        self._watching: anyio.CancelScope | None = None
        self._wanted = anyio.Event()
        self._attempt: int | None = 0
        """Tries in vain since a kernel last said something; ``None`` while one does."""
        self.client: KernelClient | None = None

    def rewatch(self, window: str) -> None:
        """Watch another window from now on."""
        self._window = window
        if self._watching is not None:
            self._watching.cancel()

    def try_now(self) -> None:
        """A person asked: try again without waiting."""
        self._wanted.set()
        if self.client is not None:
            self.client.try_now()

    async def run(self) -> None:
        """Connect and watch until cancelled; every loss is reported, tries are paced and end."""
        since = 0.0
        while True:
            pause: float | None = PAUSES[0]
            try:
                async with await self._connect() as client:
                    self.client = client
                    await self._watch(client)
            except AgentTopError as error:
                since = since if self._attempt else self._app.clock.time()
                self._attempt = attempt = (self._attempt or 0) + 1
                pause = PAUSES[attempt - 1] if attempt <= len(PAUSES) else None
                next_try = None if pause is None else self._app.clock.time() + pause
                self._app.post_message(Lost(Trouble(error, since, attempt, next_try)))
            finally:
                self.client = None
            await self._rest(pause)

    async def _watch(self, client: KernelClient) -> None:
        while True:
            with anyio.CancelScope() as self._watching:
                async with closing(client.watch(cast("Window", self._window))) as updates:
                    async for update in updates:
                        if self._attempt is not None:
                            # Only what it says proves a kernel; an open socket does not.
                            self._attempt = None
                            self._app.post_message(Connected())
                            self._app.set_timer(WARM_UP, self._import_models)
                        self._app.post_message(Arrived(update))
                raise KernelUnreachable(
                    "the kernel closed the connection", "It stopped or is being restarted"
                )

    async def _rest(self, seconds: float | None) -> None:
        self._wanted = anyio.Event()
        with anyio.move_on_after(seconds):
            await self._wanted.wait()

    def _import_models(self) -> None:
        """The table needs none of them; the first key that acts should not wait for them."""
        self._app.run_worker(_import_models, name="models", group="imports", thread=True)


def _import_models() -> None:
    import agenttop.core.answers  # noqa: F401 (imported for those who need it next)
