"""What a reader of one agent CLI is: which processes are it, where they write, what that says.

One small module per CLI implements ``Observer``; third parties add theirs under the entry point group
``agenttop.observers``. An observer only reads. It never starts a process, never writes below a CLI's
folders, and takes everything it reads for hostile: names and texts are handed on unsanitised, to be
sanitised where they are shown.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ..agents.states import State, Waiting
from ..journal.events import Usage
from .index.history import Root
from .timeline import Timeline

#: The entry point group; each name is a CLI's, each value a class that is made without arguments.
ENTRY_POINTS = "agenttop.observers"


#: So many unknown kinds of lines are told apart, and so much of their names is kept.
_MOST_KINDS, _LONGEST_KIND = 64, 80
_OTHERS = "others"


class Found(NamedTuple):
    """One process, as far as this user may look at it. ``None``: not permitted, or not known."""

    pid: int
    start_time: int
    """Clock ticks since boot; with the pid it names one process for ever."""
    ppid: int
    uid: int
    comm: str
    argv: tuple[str, ...]
    exe: str | None
    cwd: str | None
    environ: Mapping[str, str] | None
    home: str | None
    """Its user's home: ``HOME`` of its environment, else the account's."""
    started: float
    """Wall-clock seconds."""
    terminal: bool
    """Whether it has a controlling terminal: somebody may sit there."""
    inner_pid: int
    """Its pid in its own container; the same as ``pid`` outside of one."""
    root: str
    """What to put before its paths to open them from here: empty, or ``/proc/PID/root``."""

    @property
    def key(self) -> tuple[int, int]:
        """Pid and start time."""
        return self.pid, self.start_time

    def setting(self, name: str) -> str:
        """One variable of its environment, or empty."""
        return (self.environ or {}).get(name, "")


class Session(NamedTuple):
    """The conversation that a process leads."""

    id: str
    path: str
    """Its transcript; need not exist yet."""
    exact: bool
    """False: the likeliest one, by folder and time; shown as an estimate."""
    beside: str = ""
    """A file in which the CLI itself says what its process does; empty: it has none."""


class Child(NamedTuple):
    """A subagent: an agent without a process of its own."""

    id: str
    name: str
    """Its type or task, in the CLI's words."""
    view: View


class View(NamedTuple):
    """What a transcript says of its agent now. ``None`` is not known."""

    session: str | None
    state: State
    reason: Waiting | None
    detail: str
    """The tool at work, the question asked, the error."""
    since: float | None
    """When this state began, wall-clock seconds."""
    certain: bool
    """False where the state is inferred from what is missing (a permission prompt leaves no trace)."""
    model: str | None
    cwd: str | None
    branch: str | None
    context: int | None
    """Tokens in the model's context after the last call."""
    context_limit: int | None
    usage: Usage
    """All calls of this transcript, each once; subagents not included."""
    usages: Mapping[str, Usage]
    """The same by model, to be priced."""
    minutes: Mapping[int, int]
    """Tokens by minute since the epoch, of the half hour before the last call."""
    calls: int
    last_call: float | None
    tool: str | None
    """The last tool used."""
    prompt: str
    """The beginning of what a person last asked."""
    children: tuple[Child, ...] = ()
    timeline: Timeline | None = None
    """The same sums since any time; ``None``: it is not told when they were used."""


class Kinds(Counter[str]):
    """Kinds of lines, and how often each came; of what a stranger may call them only so much is kept."""

    def __setitem__(self, kind: str, count: int) -> None:
        if len(kind) > _LONGEST_KIND:
            kind = kind[:_LONGEST_KIND]
            count += self[kind]
        if kind not in self and len(self) >= _MOST_KINDS:
            kind, count = _OTHERS, self[_OTHERS] + 1
        super().__setitem__(kind, count)


@dataclass
class Oddities:
    """What readers met and did not understand; ``doctor --agents`` shows it.

    Attributes:
        unknown: Kinds of lines that no rule knows, and how often each came.
        unreadable: Lines that are not what they should be.
        long: Lines passed over because of their length.
        problems: Files and folders that could not be read, each with the reason.
    """

    unknown: Counter[str] = field(default_factory=lambda: Kinds())
    unreadable: int = 0
    long: int = 0
    problems: dict[str, str] = field(default_factory=dict)

    def add(self, other: Oddities) -> None:
        """Take another reader's oddities in."""
        self.unknown.update(other.unknown)
        self.unreadable += other.unreadable
        self.long += other.long
        self.problems.update(other.problems)


class Tail(Protocol):
    """Follows the transcript of one session; blocks while it reads, so call it off the event loop."""

    @property
    def oddities(self) -> Oddities:
        """What was not understood so far."""

    def refresh(self) -> bool:
        """Read what is new; whether anything was."""

    def view(self, now: float, process: Activity | None = None) -> View:
        """What is known now. Never reads a file.

        Args:
            now: Wall-clock seconds.
            process: What its process does; ``None`` for a session without one.
        """


class Activity(NamedTuple):
    """What is known of an agent's process beside its transcript."""

    terminal: bool
    children: int
    """Live processes below it that are not part of the CLI itself, nor its long-lived servers."""


class Observer(Protocol):
    """Reads one CLI."""

    name: str
    """As templates have it: ``claude``."""
    title: str

    def recognise(self, process: Found) -> bool:
        """Whether this process is the CLI, shims and workers included.

        Asked of every new process of the machine: only ``pid``, ``comm`` and ``argv`` have been read.
        """

    def roots(self, environ: Mapping[str, str], home: str) -> list[Root]:
        """Where this user's transcripts lie."""

    def join(self, processes: Sequence[Found]) -> dict[tuple[int, int], Session]:
        """The session of each of this CLI's processes, by pid and start time.

        All at once, because two agents in one folder must not both get its newest transcript.
        Absent: not known.
        """

    def tail(self, session: Session) -> Tail:
        """Begin to follow a session."""


#: Those that come with agenttop, by name → where they are.
BUILT_IN = {
    "aider": "agenttop.core.observe.readers.aider:AiderObserver",
    "claude": "agenttop.core.observe.readers.claude:ClaudeObserver",
    "codex": "agenttop.core.observe.readers.codex:CodexObserver",
    "copilot": "agenttop.core.observe.readers.copilot:CopilotObserver",
    "gemini": "agenttop.core.observe.readers.gemini:GeminiObserver",
    "goose": "agenttop.core.observe.readers.goose:GooseObserver",
    "opencode": "agenttop.core.observe.readers.opencode:OpenCodeObserver",
    "qwen": "agenttop.core.observe.readers.qwen:QwenObserver",
}


def observers(only: Iterable[str] | None = None) -> tuple[dict[str, Observer], dict[str, str]]:
    """All observers by name, and for those that could not be imported the reason."""
    points = {
        name: importlib.metadata.EntryPoint(name, value, ENTRY_POINTS) for name, value in BUILT_IN.items()
    }
    points |= {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    made: dict[str, Observer] = {}
    failed: dict[str, str] = {}
    for name, point in points.items():
        if only is not None and name not in only:
            continue
        try:
            made[name] = point.load()()
        except Exception as error:  # noqa: BLE001 (somebody else's code must not hide the others' agents)
            failed[name] = f"{type(error).__name__}: {error}"
    return made, failed
