"""The contract between the kernel and the places where agents run.

A backend knows one run at a time by its ``RunRef``, a small JSON-able handle that is stored in the
journal and is enough to find the run again after the kernel was killed. One contract suite in
``tests/backends`` runs whole against every implementation.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from .agents.spec import AgentSpec
from .clock import Clock
from .errors import AgentTopError, BackendError, UsageError

ENTRY_POINTS = "agenttop.backends"

#: The variable with the mark that every process of a managed agent carries (``mark``).
#: Membership in a tree is the cgroup, else descendants plus everything with this marker.
MARKER = "AGENTTOP_RUN"

RunRef = dict[str, Any]

_TERMINAL = "Start it with --backend terminal"


def state_name(state: Path) -> str:
    """Twelve hex digits that tell a state folder, and with it a kernel, from all others."""
    return hashlib.sha256(str(state.absolute()).encode()).hexdigest()[:12]


def mark(agent: str, run: int, state: Path) -> str:
    """``<state>/<agent>.<run>``: agents' ids are short, and two kernels may have given out the same."""
    return f"{state_name(state)}/{agent}.{run}"


class Capabilities(NamedTuple):
    """What a backend can do here and now, for this user."""

    freeze: tuple[str, ...]
    """Freeze mechanisms that work, best first: ``cgroup2``, ``cgroup1``, ``signal``, ``docker``."""
    limits: frozenset[str]
    """Which of ``memory``, ``cpus``, ``pids`` act on the whole tree."""
    stdin: bool = True
    attach: bool = False
    network: tuple[str, ...] = ()


class Check(NamedTuple):
    """One line of ``agenttop doctor``."""

    name: str
    level: Literal["ok", "warn", "missing"]
    found: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything a backend needs to start one run. ``folder`` exists and belongs to the run alone."""

    agent: str
    run: int
    spec: AgentSpec
    folder: Path
    command: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    """The complete environment, marker included; nothing is inherited from the kernel."""

    @property
    def marker(self) -> str:
        """``<agent>.<run>``: which run this is, among those of its kernel."""
        return f"{self.agent}.{self.run}"

    @property
    def mark(self) -> str:
        """The value of ``AGENTTOP_RUN``: which run this is, among those of all kernels."""
        return self.env.get(MARKER, self.marker)


class Exit(NamedTuple):
    """How a run ended. A shell's 137 stays a code; ``signal`` only where it was seen itself."""

    code: int | None = None
    signal: int | None = None
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Whether a restart policy ``on-failure`` acts; unknown counts as failed."""
        return self.code != 0


class Adoption(NamedTuple):
    """What became of a run while no kernel watched."""

    state: Literal["alive", "ended", "never_started"]
    ref: RunRef | None = None
    exit: Exit = Exit()


class Frozen(NamedTuple):
    """Proof of a freeze: of ``total`` processes in the tree ``frozen`` are stopped."""

    frozen: int
    total: int
    mechanism: str
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every process of the tree is stopped."""
        return self.frozen == self.total


class Step(NamedTuple):
    """One line of a kill's proof: when, what was done, and the evidence."""

    ts: float
    what: str
    evidence: str
    ok: bool = True


class Killed(NamedTuple):
    """Proof of a kill. ``survivors`` is empty or the kill failed."""

    processes: int
    ended: int
    survivors: tuple[int, ...]
    mechanism: str
    seconds: float
    steps: tuple[Step, ...] = ()


class Process(NamedTuple):
    """One live process of a tree."""

    pid: int
    ppid: int
    start_time: int
    """Clock ticks since boot, field 22 of /proc/pid/stat."""
    state: str
    cpu_seconds: float
    memory: int
    command: str


class Sample(NamedTuple):
    """What a tree uses now. Cumulative where the name says so; ``None`` is not known."""

    cpu_seconds: float | None = None
    memory: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    pids: int | None = None


class Chunk(NamedTuple):
    """A piece of output. ``offset`` is the logical position of ``data`` in its stream."""

    stream: Literal["out", "err"]
    offset: int
    data: bytes


class SocketPeer(NamedTuple):
    """The client's end of a connection to the gateway, as the operating system tells it."""

    door: str
    """The key of the door (``Doors.add``) it came through; empty for the gateway's own listener."""
    inode: int | None
    """By which its holders know the socket (``socket:[INODE]`` in /proc/PID/fd)."""
    uid: int | None
    cgroup: int | None
    """Inode number of the version 2 group it was made in."""


class Doors(Protocol):
    """Where a backend puts listening sockets it opened for agents (inside containers, say).

    The kernel serves the gateway on them, and the holder keeps them while the kernel is away.
    """

    @property
    def port(self) -> int:
        """The gateway's port, the same on every loopback."""
        ...

    async def add(self, key: str, listener: socket.socket) -> None:
        """Serve the gateway on ``listener``; ``key`` names it for ``remove`` and in the holder."""
        ...

    async def remove(self, key: str) -> None:
        """Stop serving and close; unknown keys are ignored."""
        ...

    def has(self, key: str) -> bool:
        """Whether this door is open (after a restart the holder may have kept it)."""
        ...

    async def keep(self, key: str, fd: int) -> None:
        """Let the holder keep a duplicate of ``fd`` (a FIFO's write end) across kernel restarts."""
        ...

    async def drop(self, key: str) -> None:
        """Let the holder close what it kept under ``key``."""
        ...


@dataclass(frozen=True, slots=True)
class BackendContext:
    """What the kernel gives to every backend when it is first used."""

    state: Path
    clock: Clock
    doors: Doors
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The ``[backends.NAME]`` table of the configuration."""


class Backend(ABC):
    """A place where agents run.

    All methods are coroutines on the kernel's event loop and never block it. Every method that
    takes a ``RunRef`` first proves that what it names is still that run (start time and boot id,
    container label); for a run that has ended, control methods raise ``BackendError``.
    """

    name: ClassVar[str]

    batch: ClassVar[int] = 1
    """How many runs ``start_all`` is given at most; more than one where they cost less together."""

    keyboard: ClassVar[bool] = False
    """Whether every run can be written to, whatever its spec says of stdin."""

    terminals: ClassVar[bool] = False
    """Whether its runs have terminals: ``attach_command``, ``press`` and ``history``."""

    detach_key: str = ""
    """By which a person leaves what ``attach_command`` gives, as a person reads it: ``Ctrl-\\``."""

    left: ClassVar[int] = 0
    """The status that command ends with then, where it is another than at the end of a run."""

    def __init__(self, context: BackendContext) -> None:
        self.context = context

    @abstractmethod
    async def check(self) -> list[Check]:
        """What is found, what is missing and how to get it; for ``doctor``. Never raises."""

    @abstractmethod
    async def capabilities(self) -> Capabilities:
        """What works here. Raises ``BackendUnavailable`` when that cannot be told."""

    @abstractmethod
    async def start(self, launch: Launch) -> RunRef:
        """Start one run; on return its process exists and ``adopt`` can find it.

        Raises:
            BackendError: Nothing was started: program or image missing, no permission, …
        """

    async def start_all(self, launches: Sequence[Launch]) -> list[RunRef | AgentTopError | OSError]:
        """Start several runs; what became of each, in their order. One that fails stops no other.

        Once something was started this must return, not raise: the kernel watches what it is told of.
        """
        started: list[RunRef | AgentTopError | OSError] = []
        for launch in launches:
            try:
                started.append(await self.start(launch))
            except (AgentTopError, OSError) as error:
                started.append(error)
        return started

    @abstractmethod
    async def adopt(self, launch: Launch, ref: RunRef | None) -> Adoption:
        """Find a run again after a kernel restart; ``ref`` is ``None`` if it was never recorded.

        Raises:
            BackendUnavailable: It cannot be told now; the kernel asks again later.
        """

    @abstractmethod
    async def wait(self, ref: RunRef) -> Exit:
        """Return when the run's main program has ended. May be awaited once per adopt or start."""

    @abstractmethod
    async def processes(self, ref: RunRef) -> list[Process]:
        """Every live process of the tree, parents before children."""

    async def pids(self, refs: Mapping[str, RunRef]) -> dict[str, list[int]]:
        """The pids of many trees at once, keyed as ``refs``; runs that ended meanwhile are left out.

        Cheaper than ``processes`` where all trees are asked for: nothing but the pids is read.
        """
        found: dict[str, list[int]] = {}
        for key, ref in refs.items():
            try:
                found[key] = [process.pid for process in await self.processes(ref)]
            except BackendError:
                continue
        return found

    async def owns(self, ref: RunRef, peer: SocketPeer) -> bool | None:
        """Whether a connection comes from this run's tree; ``None`` where that cannot be told."""
        return None

    @abstractmethod
    async def sample(self, refs: Mapping[str, RunRef]) -> dict[str, Sample]:
        """Gauges of many runs at once, keyed as ``refs``; runs that ended meanwhile are left out."""

    @abstractmethod
    async def freeze(self, ref: RunRef) -> Frozen:
        """Stop every process of the tree and verify it. Freezing twice is harmless."""

    @abstractmethod
    async def thaw(self, ref: RunRef) -> None:
        """Let every process run again. Thawing what is not frozen is harmless."""

    @abstractmethod
    async def signal(self, ref: RunRef, signum: int) -> int:
        """Send a signal to the tree's main program; returns how many processes got it."""

    @abstractmethod
    async def stop(
        self, ref: RunRef, *, grace: float, on_step: Callable[[Step], None] | None = None
    ) -> Killed:
        """TERM to the whole tree, thawing it if need be; after ``grace`` seconds KILL; verify.

        With ``grace=0`` KILL at once. Never raises for survivors: they are in the result.
        """

    @abstractmethod
    async def write(self, ref: RunRef, data: bytes | None) -> None:
        """Write to the run's stdin; ``None`` closes it. Waits for room (back-pressure).

        Raises:
            BackendError: The spec did not ask for stdin, or it was closed.
        """

    async def attach_command(self, ref: RunRef) -> list[str]:
        """What a screen runs, full-screen, to put a person in front of the run; from any folder.

        Where ``Capabilities.attach`` is true. It returns when the person leaves or the run has ended.

        Raises:
            BackendError: The run has ended, or nobody can attach to it.
        """
        raise BackendError("cannot attach", f"The backend {self.name} has no terminals", _TERMINAL)

    async def attended(self, ref: RunRef) -> float | None:
        """When a person was in front of the run last (wall clock; now, while one is); ``None``: not known.

        Raises:
            BackendError: The run has ended.
        """
        return None

    async def keyed(self, ref: RunRef) -> float | None:
        """When a person came to the run or pressed a key there last (wall clock); ``None``: not known.

        Raises:
            BackendError: The run has ended.
        """
        return None

    async def paste(self, ref: RunRef, text: str) -> None:
        """Put a text into the run's terminal as pasted: a program that tells both apart takes it for words,
        whatever is in it.

        Raises:
            BackendError: The run has ended, or has no terminal.
        """
        raise BackendError("cannot paste", f"The backend {self.name} has no terminals", _TERMINAL)

    async def press(self, ref: RunRef, keys: Sequence[str]) -> None:
        """Press keys in the run's terminal by the names tmux(1) has for them: ``Enter``, ``C-c``, ``Up``.

        Raises:
            BackendError: The run has ended, or has no terminal.
        """
        raise BackendError("cannot press keys", f"The backend {self.name} has no terminals", _TERMINAL)

    async def history(self, ref: RunRef, lines: int) -> str:
        """The text of the run's terminal, the last ``lines`` that scrolled away and the screen.

        Raises:
            BackendError: The run has no terminal, or nothing is kept of it.
        """
        raise BackendError("there is no screen", f"The backend {self.name} has no terminals", _TERMINAL)

    @abstractmethod
    def output(
        self, launch: Launch, offsets: Mapping[str, int] | None = None, *, follow: bool = False
    ) -> AsyncIterator[Chunk]:
        """The output of a run from the given offsets (default: the oldest kept), both streams.

        Offsets count from the first byte ever written. With ``follow`` it ends when the run has
        ended and everything was delivered. Works for ended runs as long as the output is kept.
        """

    @abstractmethod
    async def trim(self, launch: Launch) -> None:
        """Hold the kept output to ``spec.output``; the oldest goes, offsets stay valid."""

    @abstractmethod
    async def renice(self, ref: RunRef, nice: int) -> None:
        """Give the tree its share of the CPU where the system allows; a no-op elsewhere."""

    @abstractmethod
    async def forget(self, launch: Launch, ref: RunRef | None) -> None:
        """Remove what is left of an ended run outside its folder: cgroups, container, door."""

    async def run(self) -> None:
        """The backend's own background work, for as long as the kernel lives.

        The kernel runs this in its task group from the moment the backend is first used and cancels
        it before ``close``. Most backends have none and return at once.
        """
        return

    async def close(self) -> None:
        """The kernel leaves; runs go on."""
        return


@functools.cache
def _installed() -> dict[str, importlib.metadata.EntryPoint]:
    """All backends by name. Reading the metadata of every installed package takes milliseconds."""
    return {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}


def names() -> list[str]:
    """The names of all installed backends."""
    return sorted(_installed())


def load(name: str) -> type[Backend]:
    """Import a backend by its entry point; only now, so that unused ones cost nothing.

    Raises:
        UsageError: No backend of this name is installed.
        BackendError: It is installed but cannot be imported.
    """
    point = _installed().get(name)
    if point is None:
        raise UsageError(f"unknown backend {name}", f"Installed are {', '.join(names())}")
    try:
        cls = point.load()
    except ImportError as error:
        raise BackendError(f"backend {name} cannot be loaded", str(error)) from error
    if not (isinstance(cls, type) and issubclass(cls, Backend)):
        raise BackendError(f"backend {name} cannot be used", f"{point.value} is not a Backend")
    return cls
