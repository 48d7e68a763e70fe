"""A kernel inside a client's process: its own thread, its own event loop, the same control socket."""

from __future__ import annotations

import abc
import asyncio
import concurrent.futures
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from .client import KernelClient
from .errors import KernelUnreachable
from .paths import Paths
from .streams import closing

if TYPE_CHECKING:
    from .api.verbs import A, Q, Verb
    from .backend import Chunk
    from .kernel import Kernel
    from .table import Delta, EventInfo, Snapshot, Window

T = TypeVar("T")
C = TypeVar("C", bound=type[KernelClient])
AHEAD = 8
"""Items of a stream that may wait for their reader."""


class EmbeddedKernel:
    """The thread a kernel lives in, and the bridge to its event loop."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._ready: concurrent.futures.Future[Kernel] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._main, name="kernel", daemon=True)
        self._loop: asyncio.AbstractEventLoop
        self._stop: anyio.Event

    async def start(self) -> Kernel:
        """Start it; returns when it answers.

        Raises:
            AgentTopError: It cannot start; another kernel has the state directory, say.
        """
        self._thread.start()
        return await asyncio.wrap_future(self._ready)

    async def end(self) -> None:
        """Let the kernel leave in order, and wait for it. Agents run on."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            await anyio.to_thread.run_sync(self._thread.join)

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Begin ``work`` on the kernel's loop.

        Raises:
            KernelUnreachable: The kernel has ended.
        """
        if not self._thread.is_alive():
            work.close()
            raise KernelUnreachable("the kernel in this process has ended")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the kernel's loop; cancelling the caller cancels it there."""
        return await asyncio.wrap_future(self.submit(work))

    def _main(self) -> None:
        try:
            anyio.run(self._body, backend_options={"use_uvloop": True})
        except BaseException as error:
            if self._ready.done():
                raise
            from .service import cause

            self._ready.set_exception(cause(error))

    async def _body(self) -> None:
        from . import config
        from .service import serve, take_lock

        self._loop = asyncio.get_running_loop()
        self._stop = anyio.Event()
        await anyio.to_thread.run_sync(self._paths.make_state)
        lock = await anyio.to_thread.run_sync(take_lock, self._paths)
        try:
            chosen = await anyio.to_thread.run_sync(config.load, self._paths)
            await serve(self._paths, chosen, ready=self._ready.set_result, stop=self._stop, embedded=True)
        finally:
            lock.release()


def _bridged(client: C) -> C:
    """Let a client answer every verb it does not write out by that verb of ``_local``, over there."""

    def over_there(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def verb(self: EmbeddedClient, *args: Any, **options: Any) -> Any:
            return await self._call(getattr(self._local, name), *args, **options)

        return functools.wraps(getattr(KernelClient, name), updated=())(verb)  # else it were abstract too

    for name in KernelClient.__abstractmethods__ - vars(client).keys():
        setattr(client, name, over_there(name))
    abc.update_abstractmethods(client)
    return client


@_bridged
class EmbeddedClient(KernelClient):
    """A ``LocalClient`` used from another thread; closing it ends the kernel."""

    def __init__(self, kernel: EmbeddedKernel, local: KernelClient) -> None:
        self._kernel = kernel
        self._local = local

    @classmethod
    async def start(cls, paths: Paths) -> EmbeddedClient:
        """Start a kernel in this process.

        Raises:
            AgentTopError: It cannot start.
        """
        embedded = EmbeddedKernel(paths)
        kernel = await embedded.start()
        return cls(embedded, kernel.client())

    async def close(self) -> None:
        """End the kernel; agents run on."""
        await self._kernel.end()

    async def _call(self, verb: Callable[..., Coroutine[Any, Any, T]], *args: Any, **options: Any) -> T:
        return await self._kernel.call(verb(*args, **options))

    async def _stream(self, source: AsyncIterator[T]) -> AsyncIterator[T]:
        """Items of ``source``, which is driven by one task over there and waits for its reader here.

        No task group: this generator may be left at any yield, and a task group may not.
        """
        here = asyncio.get_running_loop()
        items: asyncio.Queue[tuple[T] | None] = asyncio.Queue()
        room = asyncio.Semaphore(AHEAD)
        ended = asyncio.Event()
        failures: list[Exception] = []

        async def put(item: T) -> None:
            await room.acquire()
            items.put_nowait((item,))

        def over() -> None:
            ended.set()
            items.put_nowait(None)

        async def drive() -> None:
            try:
                async with closing(source) as generator:
                    async for item in generator:
                        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(put(item), here))
            except Exception as error:  # noqa: BLE001 - raised by the reader below
                failures.append(error)
            finally:
                here.call_soon_threadsafe(over)

        job = self._kernel.submit(drive())
        try:
            while (item := await items.get()) is not None:
                room.release()
                yield item[0]
            if failures:
                raise failures[0]
            if job.cancelled():
                raise KernelUnreachable("the kernel in this process has ended")
        finally:
            job.cancel()
            with anyio.CancelScope(shield=True):
                await ended.wait()

    def output(
        self, ref: str, *, follow: bool = False, run: int | None = None, tail: int | None = None
    ) -> AsyncIterator[Chunk]:
        """See ``KernelClient``."""
        return self._stream(self._local.output(ref, follow=follow, run=run, tail=tail))

    def events(
        self, *, since: int = 0, follow: bool = False, refs: Sequence[str] = (), kinds: Sequence[str] = ()
    ) -> AsyncIterator[EventInfo]:
        """See ``KernelClient``."""
        return self._stream(self._local.events(since=since, follow=follow, refs=refs, kinds=kinds))

    def watch(self, window: Window = "today") -> AsyncIterator[Snapshot | Delta]:
        """See ``KernelClient``."""
        return self._stream(self._local.watch(window))

    def follow(self, verb: Verb[Q, A], request: Q) -> AsyncIterator[A]:
        """See ``KernelClient``."""
        return self._stream(self._local.follow(verb, request))
