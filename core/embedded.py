"""A kernel inside a client's process: its own thread, its own event loop, the same control socket."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
import anyio.to_thread

from .api import (
    AgentDetail,
    AgentInfo,
    AnswerRequest,
    ApprovalInfo,
    BudgetInfo,
    BudgetRequest,
    CallInfo,
    CallsRequest,
    CheckInfo,
    Delta,
    EventInfo,
    ExtendRequest,
    FleetRequest,
    HaltInfo,
    KernelStatus,
    KillPlan,
    NiceRequest,
    Outcome,
    PauseRequest,
    ProviderInfo,
    RemoveRequest,
    RunRequest,
    SignalRequest,
    Snapshot,
    StopRequest,
    Target,
    TemplateInfo,
    UsageRequest,
    UsageRow,
    Window,
)
from .backend import Chunk
from .client import KernelClient
from .errors import KernelUnreachable
from .paths import Paths

if TYPE_CHECKING:
    from .kernel import Kernel

T = TypeVar("T")
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
                async with aclosing(cast("AsyncGenerator[T, None]", source)) as generator:
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

    async def status(self) -> KernelStatus:
        """See ``KernelClient``."""
        return await self._call(self._local.status)

    async def agents(self, *, all: bool = False, pids: bool = True) -> list[AgentInfo]:
        """See ``KernelClient``."""
        return await self._call(self._local.agents, all=all, pids=pids)

    async def inspect(self, ref: str) -> AgentDetail:
        """See ``KernelClient``."""
        return await self._call(self._local.inspect, ref)

    async def run(self, request: RunRequest) -> AgentInfo:
        """See ``KernelClient``."""
        return await self._call(self._local.run, request)

    async def up(self, request: FleetRequest) -> list[Outcome]:
        """See ``KernelClient``."""
        return await self._call(self._local.up, request)

    async def down(self, fleet: str, grace: float | None = None) -> list[Outcome]:
        """See ``KernelClient``."""
        return await self._call(self._local.down, fleet, grace)

    async def pause(self, request: PauseRequest) -> list[Outcome]:
        """See ``KernelClient``."""
        return await self._call(self._local.pause, request)

    async def resume(self, request: Target) -> list[Outcome]:
        """See ``KernelClient``."""
        return await self._call(self._local.resume, request)

    async def stop(self, request: StopRequest) -> list[Outcome]:
        """See ``KernelClient``."""
        return await self._call(self._local.stop, request)

    async def signal(self, request: SignalRequest) -> list[Outcome]:
        """See ``KernelClient``."""
        return await self._call(self._local.signal, request)

    async def restart(self, request: Target) -> list[Outcome]:
        """See ``KernelClient``."""
        return await self._call(self._local.restart, request)

    async def nice(self, request: NiceRequest) -> list[Outcome]:
        """See ``KernelClient``."""
        return await self._call(self._local.nice, request)

    async def remove(self, request: RemoveRequest) -> list[Outcome]:
        """See ``KernelClient``."""
        return await self._call(self._local.remove, request)

    async def prune(self) -> list[Outcome]:
        """See ``KernelClient``."""
        return await self._call(self._local.prune)

    async def kill_plan(self, request: Target) -> KillPlan:
        """See ``KernelClient``."""
        return await self._call(self._local.kill_plan, request)

    async def write(self, ref: str, data: bytes | None) -> None:
        """See ``KernelClient``."""
        await self._call(self._local.write, ref, data)

    async def wait(self, refs: Sequence[str], timeout: float | None = None) -> list[AgentInfo]:
        """See ``KernelClient``."""
        return await self._call(self._local.wait, refs, timeout)

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

    async def last_events(self, count: int, refs: Sequence[str] = ()) -> list[EventInfo]:
        """See ``KernelClient``."""
        return await self._call(self._local.last_events, count, refs)

    def watch(self, window: Window = "today") -> AsyncIterator[Snapshot | Delta]:
        """See ``KernelClient``."""
        return self._stream(self._local.watch(window))

    async def budgets(self) -> list[BudgetInfo]:
        """See ``KernelClient``."""
        return await self._call(self._local.budgets)

    async def set_budget(self, request: BudgetRequest) -> BudgetInfo:
        """See ``KernelClient``."""
        return await self._call(self._local.set_budget, request)

    async def extend_budget(self, request: ExtendRequest) -> BudgetInfo:
        """See ``KernelClient``."""
        return await self._call(self._local.extend_budget, request)

    async def remove_budget(self, name: str) -> None:
        """See ``KernelClient``."""
        await self._call(self._local.remove_budget, name)

    async def approvals(self) -> list[ApprovalInfo]:
        """See ``KernelClient``."""
        return await self._call(self._local.approvals)

    async def answer(self, request: AnswerRequest) -> list[Outcome]:
        """See ``KernelClient``."""
        return await self._call(self._local.answer, request)

    async def model_calls(self, request: CallsRequest) -> list[CallInfo]:
        """See ``KernelClient``."""
        return await self._call(self._local.model_calls, request)

    async def usage(self, request: UsageRequest) -> list[UsageRow]:
        """See ``KernelClient``."""
        return await self._call(self._local.usage, request)

    async def providers(self) -> list[ProviderInfo]:
        """See ``KernelClient``."""
        return await self._call(self._local.providers)

    async def halt(self) -> HaltInfo:
        """See ``KernelClient``."""
        return await self._call(self._local.halt)

    async def unhalt(self) -> HaltInfo:
        """See ``KernelClient``."""
        return await self._call(self._local.unhalt)

    async def templates(self) -> list[TemplateInfo]:
        """See ``KernelClient``."""
        return await self._call(self._local.templates)

    async def checks(self) -> list[CheckInfo]:
        """See ``KernelClient``."""
        return await self._call(self._local.checks)

    async def supply(self, keys: Mapping[str, str]) -> None:
        """See ``KernelClient``."""
        await self._call(self._local.supply, keys)

    async def shutdown(self, *, restart: bool = False) -> None:
        """See ``KernelClient``."""
        await self._call(self._local.shutdown, restart=restart)
