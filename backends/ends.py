"""The ends of many processes, told to the event loop through one descriptor."""

from __future__ import annotations

import asyncio
import os
import select

from . import signals

Key = tuple[int, int]


class Ends:
    """Processes by pid and start time, each behind a kept pidfd in one epoll(7).

    A descriptor and a dictionary entry per process; a thousand of them cost the loop one reader.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._open: dict[Key, int] = {}
        self._keys: dict[int, Key] = {}
        self._waiting: dict[Key, list[asyncio.Future[None]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def add(self, key: Key, descriptor: int) -> None:
        """Keep an open pidfd of this process, to be waited for later. From any thread.

        Raises:
            OSError: The system watches no more; the descriptor is closed.
        """
        if self._closed:
            os.close(descriptor)
            return
        self._open[key] = descriptor
        self._keys[descriptor] = key
        try:
            self._epoll.register(descriptor, select.EPOLLIN)
        except OSError:
            del self._open[key], self._keys[descriptor]
            os.close(descriptor)
            raise

    async def wait(self, key: Key) -> None:
        """Return when the process has ended; at once if it is gone.

        Raises:
            OSError: It cannot be watched: no descriptor is left.
        """
        if key not in self._open:
            descriptor = signals.open_process(*key)
            if descriptor is None:
                return
            self.add(key, descriptor)
        if not self._closed:  # else nobody is told any more: the kernel is about to cancel this
            self._listen()
        ended = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(ended)
        try:
            await ended
        finally:
            if not ended.done() or ended.cancelled():
                self._leave(key, ended)

    def _leave(self, key: Key, waiter: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(key, [])
        if waiter in waiting:
            waiting.remove(waiter)
        if not waiting:
            self._waiting.pop(key, None)

    def _listen(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._epoll.fileno(), self._ended)

    def _ended(self) -> None:
        for descriptor, _ in self._epoll.poll(0, max(1, len(self._keys))):
            key = self._keys.pop(descriptor)
            del self._open[key]
            self._epoll.unregister(descriptor)
            os.close(descriptor)
            for waiter in self._waiting.pop(key, ()):
                if not waiter.done():
                    waiter.set_result(None)

    def close(self) -> None:
        """Let go of all descriptors. Who still waits is told nothing, and waits until it is cancelled."""
        self._closed = True
        if self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._loop = None
        for descriptor in self._keys:
            os.close(descriptor)
        self._keys.clear()
        self._open.clear()
        self._epoll.close()
