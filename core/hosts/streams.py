"""What the merged client follows on several hosts at once: the table, the journals, long waits."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.abc
from anyio.streams.memory import MemoryObjectSendStream

from ..errors import AgentTopError, KernelUnreachable
from ..table import EventInfo, HostGauge
from .following import closing
from .host import Host
from .sums import Merger

if TYPE_CHECKING:
    from ..remote import SocketClient
    from ..table import Delta, Snapshot, Window
    from .naming import Names

T = TypeVar("T")

PACE = 0.1
"""Seconds between two deltas."""
TOGETHER = 1.0
"""Seconds the first snapshot waits for slower hosts."""
AHEAD = 256
"""Events that may wait for their reader."""
FROM_NOW = -1
"""The place in a journal of which nothing is known yet: where it is when its host is first there."""


async def side_by_side(work: Callable[[Host], Awaitable[None]], hosts: Iterable[Host]) -> None:
    """Do something with several hosts at once; the first error ends it, as itself."""
    failed: list[AgentTopError] = []

    async def one(host: Host) -> None:
        try:
            await work(host)
        except AgentTopError as error:
            failed.append(error)
            tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for host in hosts:
            tasks.start_soon(one, host)
    if failed:
        raise failed[0]


async def persistently(host: Host, ask: Callable[[SocketClient], Awaitable[T]]) -> T:
    """An answer that may take long and is asked for again after each loss of the line."""
    client, life = host.client, host.life
    while True:
        try:
            return await ask(client)
        except KernelUnreachable as error:
            host.doubt(life, error)
        client, life = await host.up(after=life)


# --- the table -----------------------------------------------------------------------------------


async def watched(
    tasks: anyio.abc.TaskGroup,
    hosts: Sequence[Host],
    names: Mapping[str, Names],
    window: Window,
    saw: Callable[[Host, int], None],
) -> AsyncIterator[Snapshot | Delta]:
    """One table of all hosts. Its tasks are the client's: a generator may be left at any yield."""
    merger = Merger(names.values(), window)
    news = _News()
    scopes = [anyio.CancelScope() for _ in hosts]
    for scope, host in zip(scopes, hosts, strict=True):
        tasks.start_soon(_feed, scope, host, window, merger, news, saw)
    try:
        while not merger.known:
            await news.wait()
        with anyio.move_on_after(TOGETHER):
            while not merger.settled:
                await news.wait()
        while True:
            if change := merger.take():
                yield change
                await anyio.sleep(PACE)
            else:
                await news.wait()
    finally:
        for scope in scopes:
            scope.cancel()


class _News:
    """Something changed since the last wait."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def tell(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = anyio.Event()


async def _feed(
    scope: anyio.CancelScope,
    host: Host,
    window: Window,
    merger: Merger,
    news: _News,
    saw: Callable[[Host, int], None],
) -> None:
    def changed() -> None:
        if host.absence is not None:
            merger.away(host.label, gauge(host))
            news.tell()

    unlisten = host.listen(changed)
    life = 0
    try:
        changed()
        with scope:
            while True:
                client, life = await host.up(after=life, patient=True)
                try:
                    async with closing(client.watch(window)) as changes:
                        async for change in changes:
                            saw(host, change.seq)
                            merger.apply(host.label, change)
                            news.tell()
                    raise KernelUnreachable("the kernel closed the connection")
                except AgentTopError as error:
                    host.doubt(life, error)
    finally:
        unlisten()


def gauge(host: Host) -> HostGauge:
    """A host's absence as the table's header tells it."""
    absence = host.absence
    if absence is None:
        return HostGauge(host.label)
    error = absence.error
    return HostGauge(host.label, absence.since, error.why or error.what, absence.next_try)


# --- the journals --------------------------------------------------------------------------------


async def merged(
    hosts: Sequence[Host],
    refs: Mapping[str, list[str]],
    places: Mapping[str, int],
    kinds: list[str],
) -> AsyncIterator[tuple[Host, EventInfo]]:
    """What is in the journals now, by time; each journal's rows stay in their order."""
    async with AsyncExitStack() as stack:
        heads: list[tuple[Host, EventInfo, AsyncGenerator[EventInfo, None]]] = []
        for host in hosts:
            since = await _place(host.client, places.get(host.label, 0))
            source = host.client.events(since=since, refs=refs[host.label], kinds=kinds)
            rows = await stack.enter_async_context(closing(source))
            if (first := await anext(rows, None)) is not None:
                heads.append((host, first, rows))
        while heads:
            host, event, rows = head = min(heads, key=lambda one: one[1].ts)
            heads.remove(head)
            yield host, event
            if (after := await anext(rows, None)) is not None:
                heads.append((host, after, rows))


async def followed(
    tasks: anyio.abc.TaskGroup,
    refs: Mapping[str, list[str]],
    places: Mapping[str, int],
    kinds: list[str],
    hosts: Mapping[str, Host],
) -> AsyncIterator[tuple[Host, EventInfo]]:
    """Rows as they come, from every host, through losses of its line."""
    sending, receiving = anyio.create_memory_object_stream[tuple[Host, EventInfo] | AgentTopError](AHEAD)
    scopes = [anyio.CancelScope() for _ in refs]
    for scope, (label, wanted) in zip(scopes, refs.items(), strict=True):
        place = places.get(label, 0)
        tasks.start_soon(_send, scope, sending.clone(), hosts[label], place, wanted, kinds)
    sending.close()
    try:
        async for item in receiving:
            if isinstance(item, AgentTopError):
                raise item
            yield item
    finally:
        for scope in scopes:
            scope.cancel()
        receiving.close()


async def _send(
    scope: anyio.CancelScope,
    sending: MemoryObjectSendStream[tuple[Host, EventInfo] | AgentTopError],
    host: Host,
    place: int,
    refs: list[str],
    kinds: list[str],
) -> None:
    life = 0
    # Whoever waits for room when the reader leaves is told of that, and may not be cancelled any more.
    with scope, sending, suppress(anyio.BrokenResourceError):
        while True:
            client, life = await host.up(after=life, patient=True)
            try:
                place = await _place(client, place)
                async with closing(client.events(since=place, follow=True, refs=refs, kinds=kinds)) as rows:
                    async for event in rows:
                        await sending.send((host, event))
                        place = event.seq
                return  # the agents it was about have ended for good
            except KernelUnreachable as error:
                host.doubt(life, error)
            except AgentTopError as error:
                await sending.send(error)
                return


async def _place(client: SocketClient, place: int) -> int:
    return (await client.status()).seq if place == FROM_NOW else place
