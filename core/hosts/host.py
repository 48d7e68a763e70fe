"""One host of several: its line is kept up, and everybody learns whether it is there or away."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread

from ..connect import connect
from ..errors import AgentTopError, KernelUnreachable
from ..paths import Paths
from ..quick import OtherVersion
from ..remote import SocketClient
from .address import Address, Reach
from .dial import Called, HostRefused, NotThere, There, call, end
from .line import Line, LineClient

PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Seconds before each new try; the last one is repeated."""
GIVE_UP = 24 * 3600.0
"""Seconds after which a host that is away is not called again before a person asks."""

STEADY = 5.0
"""Seconds after which a kernel that answers counts as back; until then it is asked ever more rarely."""

_FINAL = (HostRefused, NotThere, OtherVersion)
"""What another try does not change; each try could even lock the user out."""


class HostAway(KernelUnreachable):
    """A host whose kernel cannot be reached now; nothing was done there."""

    code = "host_away"


@dataclass(frozen=True, slots=True)
class Absence:
    """Since when a host is away (wall clock), why, and when it is tried again (``None``: when asked)."""

    since: float
    error: AgentTopError
    attempt: int
    next_try: float | None


class Host:
    """One host. ``keep`` is the task that owns its line; verbs use ``client``."""

    def __init__(
        self,
        address: Address,
        paths: Paths,
        reach: Reach,
        *,
        first: Called | AgentTopError | None = None,
    ) -> None:
        self.address = address
        self.label = address.label
        self.reach = reach
        self.there: There | None = None
        """The far end; ``None`` for this machine, or before the first call went through."""
        self.absence: Absence | None = None
        self._paths = paths
        self._first = first
        self._client: SocketClient | None = None
        self._line: Line | None = None
        self._lives = 0
        self._rose = 0.0
        """Since when it is there (monotonic)."""
        self._attempt = 0
        self._doubted: AgentTopError | None = None
        self._true_until: float | None = None
        """When a line that was lost last said something."""
        self._news = anyio.Event()
        self._known = anyio.Event()
        self._doubt = anyio.Event()
        self._wanted = anyio.Event()
        self._changed: list[Callable[[], None]] = []

    # --- for those that use it

    @property
    def client(self) -> SocketClient:
        """The way to its kernel.

        Raises:
            HostAway: There is none now.
        """
        if self._client is None:
            raise self.away()
        return self._client

    @property
    def there_now(self) -> bool:
        """Whether it can be asked."""
        return self._client is not None

    @property
    def life(self) -> int:
        """Which life of it this is: how often it came back."""
        return self._lives

    @property
    def line_pid(self) -> int | None:
        """The process that is its line, while there is one."""
        return self._line.pid if self._line is not None else None

    def away(self) -> HostAway:
        """The error of everything that is asked of it while it is away."""
        absence = self.absence
        if absence is None:
            return HostAway(f"{self.label} is not called yet", hint="Try again in a moment")
        left = None if absence.next_try is None else max(0.0, absence.next_try - time.time())
        said = " ".join(part.rstrip(".") + "." for part in (absence.error.what, absence.error.why) if part)
        hint = absence.error.hint if left is None else f"It is called again in {left:.0f} s"
        if not said.startswith(self.label):
            said = said[:1].upper() + said[1:]
        return HostAway(f"{self.label} is away", said, hint)

    async def known(self) -> None:
        """Return when it is there, or its first call has failed."""
        await self._known.wait()

    async def up(self, *, after: int = 0, patient: bool = False) -> tuple[SocketClient, int]:
        """Wait until it is there: its client, and which life of it this is; one after ``after``.

        Raises:
            HostAway: It is not called again before a person asks; unless ``patient``.
        """
        while self._client is None or self._lives <= after:
            if not patient and self.absence is not None and self.absence.next_try is None:
                raise self.away()
            await self._news.wait()
        return self._client, self._lives

    def doubt(self, life: int, error: AgentTopError) -> None:
        """A stream of that life ended: its kernel may be gone, while the line is good."""
        if life == self._lives and self._client is not None:
            self._doubted = error
            self._doubt.set()

    def try_now(self) -> None:
        """A person asked: call without waiting."""
        self._wanted.set()

    def dispose(self) -> None:
        """End a first call that nobody took over."""
        if isinstance(self._first, Called):
            end(self._first.process)
            self._first = None

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` whenever it comes or goes, until the returned function is called."""
        self._changed.append(changed)
        return lambda: self._changed.remove(changed)

    # --- the task

    async def keep(self) -> None:
        """Call the host, keep what came of it, and call again when it is lost; until cancelled."""
        try:
            while True:
                try:
                    await self._live()
                except AgentTopError as error:
                    await self._rest(error)
        finally:
            self.dispose()
            await self._leave()

    async def _live(self) -> None:
        if self.address.local:
            await self._serve(self._connect_here)
            return
        first, self._first = self._first, None
        if isinstance(first, AgentTopError):
            raise first
        line = Line(self.address, first if first is not None else await self._call())
        self.there = line.there
        self._line = line
        lost: list[AgentTopError] = []
        async with anyio.create_task_group() as tasks:
            ready = anyio.Event()

            async def hold() -> None:
                try:
                    await line.hold(ready.set)
                except AgentTopError as error:
                    lost.append(error)
                    self._true_until = line.heard_at
                    self._line = None
                    line.hang_up(error)
                    tasks.cancel_scope.cancel()

            awake = True  # the call has seen to it

            async def connect_there() -> SocketClient:
                nonlocal awake
                if not awake:
                    await line.wake()
                awake = False
                return LineClient(line)

            tasks.start_soon(hold)
            await ready.wait()
            await self._serve(connect_there)
        raise lost[0]

    async def _serve(self, reach: Callable[[], Awaitable[SocketClient]]) -> None:
        """The host can be spoken to: keep a client, and make another where its kernel went away."""
        while True:
            try:
                client = await reach()
            except AgentTopError as error:
                await self._rest(error)
                continue
            await self._rise(client)
            await self._doubt.wait()
            if not self._steady and self._doubted is not None:
                await self._rest(self._doubted)

    async def _connect_here(self) -> SocketClient:
        client = await connect(self._paths)
        assert isinstance(client, SocketClient)
        return client

    async def _call(self) -> Called:
        """Call without a terminal, in a thread; cancelled, ssh is ended and the thread with it."""
        calling = _Calling()
        work = partial(call, self.address, self.reach, asks=False, started=calling.begin)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(calling.end_when_cancelled)
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(calling.run, work)
                calling.over = True
                tasks.cancel_scope.cancel()
        except BaseException:
            if isinstance(calling.result, Called):
                end(calling.result.process)
            raise
        if isinstance(calling.result, Called):
            return calling.result
        raise calling.result or KernelUnreachable(f"{self.label} was not called")

    # --- inside

    async def _rise(self, client: SocketClient) -> None:
        await self._leave()
        self._client = client
        self._rose = time.monotonic()
        self._lives += 1
        self._doubt = anyio.Event()
        self._doubted = None
        self.absence = None
        self._known.set()
        self._tell()

    @property
    def _steady(self) -> bool:
        """Whether it has been there long enough to count as back."""
        return self._client is not None and time.monotonic() - self._rose > STEADY

    async def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _rest(self, error: AgentTopError) -> None:
        """Away: wait as long as its pauses say, or until a person asks."""
        now = time.time()
        since = self.absence.since if self.absence is not None else (self._true_until or now)
        self._true_until = None
        if self._steady:
            self._attempt = 0  # it was back for good: its earlier losses say nothing about this one
        self._attempt += 1
        pause: float | None = PAUSES[min(self._attempt, len(PAUSES)) - 1]
        if isinstance(error, _FINAL) or now - since > GIVE_UP:
            pause = None
        self._wanted = anyio.Event()
        self.absence = Absence(since, error, self._attempt, None if pause is None else now + pause)
        await self._leave()
        self._known.set()
        self._tell()
        with anyio.move_on_after(pause):
            await self._wanted.wait()

    def _tell(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()
        for changed in list(self._changed):
            changed()


class _Calling:
    """One call that is being made in a thread."""

    def __init__(self) -> None:
        self.result: Called | AgentTopError | None = None
        self.over = False
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled = False

    def run(self, work: Callable[[], Called]) -> None:
        """In the thread."""
        try:
            self.result = work()
        except AgentTopError as error:
            self.result = error

    def begin(self, process: subprocess.Popen[bytes]) -> None:
        """In the thread: ssh was started."""
        self._process = process
        if self._cancelled:
            process.kill()

    async def end_when_cancelled(self) -> None:
        """Ends ssh, which ends the thread."""
        try:
            await anyio.sleep_forever()
        finally:
            self._cancelled = not self.over
            if self._cancelled and self._process is not None:
                self._process.kill()
