"""How long a client waits for a call that is held, and what keeps it waiting.

Known clients give up when nothing comes for a minute or more, people answer in hours. Where a protocol
has something that may be sent in front of a stream's first event, the head of the answer and that go out;
elsewhere the client is told to come again soon, which costs it nothing but the time.
"""

from __future__ import annotations

import itertools

from .limits import Limits
from .server import ClientConnection

_STREAM = [(b"Content-Type", b"text/event-stream; charset=utf-8"), (b"Cache-Control", b"no-cache")]


class Patience:
    """Of one client with one call.

    Args:
        keep_alive: What may be sent while it waits, round and round; empty for nothing.
        since: When it began to wait (monotonic seconds).

    Attributes:
        waiting: It is the gateway that keeps the client waiting, not the provider.
    """

    def __init__(
        self, client: ClientConnection, limits: Limits, keep_alive: tuple[bytes, ...], since: float
    ) -> None:
        self.waiting = True
        self._client = client
        self._limits = limits
        self._keep_alive = itertools.cycle(keep_alive) if keep_alive else None
        self._since = since
        self._kept_at: float | None = None

    def sent(self) -> None:
        """The request is with the provider. A stream that was begun is kept alive until that answers."""
        self.waiting = self._client.started

    def tick(self, now: float, frozen: float) -> bool:
        """Send what is due. False once the client must not be kept waiting any longer.

        Args:
            frozen: Seconds since the last tick that do not count: the client was frozen, too.
        """
        self._since += frozen
        if not self.waiting or frozen or self._client.gone:
            return True
        if self._keep_alive is None:
            return now - self._since < self._limits.patience_seconds
        if self._kept_at is None:
            if now - self._since < self._limits.keep_alive_after:
                return True
            self._client.start(200, b"OK", _STREAM, length=None, bodyless=False)
        elif now - self._kept_at < self._limits.keep_alive_every or self._client.full:
            return True
        self._kept_at = now
        self._client.write(next(self._keep_alive))
        return True
