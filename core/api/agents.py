"""Agents: what is asked of them, and what is told of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from ..agents.spec import AgentSpec, Name, Text
from ..agents.states import Pause
from ..budget.budget import Budget
from .model import Model
from .money import CallInfo
from .target import Target


class RunRequest(Model):
    """Start one agent. ``spec.name`` may be a proposal: see ``name_given``."""

    spec: AgentSpec
    name_given: bool = True
    """False: the name was made up; a taken name gets a number instead of an error."""
    environ: dict[str, str] = Field(default_factory=dict)
    """The caller's environment; the kernel drops provider keys and keeps the rest in a 0600 file."""
    host: str = ""
    """Which of several hosts; kernels do not look at it."""


class FleetRequest(Model):
    """Bring a declared fleet up. ``fleet`` names it (the file's absolute path)."""

    fleet: str
    specs: list[AgentSpec]
    environ: dict[str, str] = Field(default_factory=dict)
    prune: bool = False
    """Also stop and remove agents this fleet declared before and does not any more."""
    budgets: list[Budget] = Field(default_factory=list, max_length=10_000)
    """The budgets it declares; those it declared before and does not any more are removed."""


class PauseRequest(Target):
    """Freeze or hold."""

    how: Pause = Pause.FREEZE


class ForkRequest(Model):
    """Begin a new agent in the conversation of another, which goes on by itself."""

    ref: Text
    name: Name | None = None
    """``None``: the other's name with a number."""
    prompt: Text | None = Field(default=None, max_length=131_072)
    """What the new one is told first; in a terminal it may be nothing."""


class StopRequest(Target):
    """Stop (TERM, grace, KILL) or kill. ``grace`` of ``None`` is the spec's own; 0 is KILL at once."""

    how: Literal["stop", "kill"] = "stop"
    grace: float | None = Field(default=None, ge=0, le=86_400)


class SignalRequest(Target):
    """Send one signal to the main program."""

    signal: int = Field(ge=1, le=64)


class NiceRequest(Target):
    """Set nice, or change it by ``delta``."""

    nice: int | None = Field(default=None, ge=-20, le=19)
    delta: int | None = Field(default=None, ge=-39, le=39)


class RemoveRequest(Target):
    """Take ended agents off the table, with their output; ``force`` kills live ones first."""

    force: bool = False
    discard: bool = False
    """Also delete work in their worktrees that is in no commit; without it such a worktree stays."""


class Tokens(Model):
    """Disjoint buckets of a meter."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0


class AgentInfo(Model):
    """One agent as ``ps --json`` and ``inspect`` print it. Field names do not move."""

    model_config = ConfigDict(extra="allow")

    id: str
    name: str
    state: str
    reason: str | None = None
    backend: str
    template: str | None = None
    owner: str
    parent: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    nice: int = 0
    model: str | None = None
    pid: int | None = None
    pids: list[int] = Field(default_factory=list)
    tokens: Tokens = Tokens()
    cost_usd: float | None = None
    cost_exact: bool = True
    """False where a part was estimated."""
    unpriced: bool = False
    """True where a part has no known price: ``cost_usd`` is then a lower bound."""
    calls: int = 0
    context_tokens: int | None = None
    context_limit: int | None = None
    run: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    observed: bool = False
    detail: str = ""
    since: float | None = None
    frozen: list[int] | None = None
    """``[frozen, total]`` while frozen."""
    held_calls: int = 0
    cpu_percent: float | None = None
    memory: int | None = None
    task: str | None = None
    permissions: str | None = None
    """What a template's program may do unasked: ``ask``, ``auto``."""
    command: list[str] = Field(default_factory=list)
    cwd: str | None = None
    notes: list[str] = Field(default_factory=list)
    """Of an agent that was just started: what whoever started it should know."""
    fleet: str | None = None
    restarts: int = 0
    last_line: str = ""
    """What one in ``error`` said last, as far as one line tells it."""
    paused_by: str | None = None
    """Who froze it; ``idle``: it had nothing to do, and is woken by whoever needs it."""
    forked_from: str | None = None
    """The agent in whose conversation it began."""
    progress: str = ""
    """What it says of how far its run is; hostile."""
    unread: int | None = None
    """Unacknowledged mail; ``None``: it has no mailbox."""
    dead_letters: int = 0


class Outcome(Model):
    """What a verb did to one agent: one line of output, or one error."""

    ref: str
    id: str | None = None
    name: str | None = None
    done: str = ""
    """Past tense, for a person: ``frozen 5/5``, ``killed 3/3``, ``unchanged``."""
    error: dict[str, str] | None = None
    exit_code: int = 0
    """The exit status this outcome asks for on a command line."""
    notes: list[str] = Field(default_factory=list)
    """What one should know beside it, a sentence each."""
    proof: dict[str, Any] | None = None


class ProcessInfo(Model):
    """One process of a tree, for the details pane and the kill preview."""

    pid: int
    ppid: int
    state: str
    cpu_seconds: float
    memory: int
    command: str


class LastLine(Model):
    """One of the last lines of a run, without control characters."""

    stream: Literal["out", "err", "screen"]
    text: str


class ObservedInfo(Model):
    """What is known of an agent that somebody else started, beside what every agent has."""

    title: str
    """The CLI's own name."""
    session: str | None = None
    """The CLI's id of its conversation."""
    session_exact: bool = False
    """False: the likeliest one, by folder and time."""
    transcript: str | None = None
    branch: str | None = None
    tool: str | None = None
    """The last tool used."""
    prompt: str | None = None
    """The beginning of what its person last asked."""
    state_certain: bool = True
    """False: the state is inferred from what is missing."""
    last_call: float | None = None
    terminal: bool = False
    """Somebody may sit in front of it."""
    not_permitted: list[str] = Field(default_factory=list)
    """What this user may not see of it, or do to it."""
    subagents: list[str] = Field(default_factory=list)
    """Names of those that are rows of their own."""


class AgentDetail(Model):
    """Everything ``inspect`` and the details pane show."""

    info: AgentInfo
    spec: AgentSpec | None
    """``None``: it is observed, and was started from no declaration of ours."""
    observed: ObservedInfo | None = None
    children: list[str] = Field(default_factory=list)
    processes: list[ProcessInfo] = Field(default_factory=list)
    calls: list[CallInfo] = Field(default_factory=list)
    calls_today: int = 0
    calls_hour: int = 0
    runs: list[dict[str, Any]] = Field(default_factory=list)
    mechanism: str = ""
    """How this run would be frozen: ``cgroup2``, ``cgroup1``, ``signal``, ``docker``."""
    folder: str = ""
    last_lines: list[LastLine] = Field(default_factory=list)
    """Of one that ended in an error: the last of both streams, or of its terminal, oldest first."""


class KillPlan(Model):
    """What a kill of some agents would end and what it would leave; nothing has been sent."""

    agents: list[AgentInfo]
    processes: dict[str, list[ProcessInfo]]
    containers: dict[str, str] = Field(default_factory=dict)
    calls_in_flight: int = 0
    waiting_for_it: list[str] = Field(default_factory=list)
    untouched: int = 0
    grace: float = 10.0
    impossible: dict[str, str] = Field(default_factory=dict)
    """Choices that cannot be taken now, each with the reason."""


class TemplateInfo(Model):
    """A template the launch dialog offers."""

    name: str
    title: str
    ready: bool
    found: str = ""
    hint: str = ""
    backends: list[str] = Field(default_factory=list)
    """Where it can run; empty for anywhere."""
    model: str | None = None
    origin: str = ""
    """``built-in``, ``yours``, or the package it came with."""
    file: str = ""
    interactive: bool = False
    """Whether it can run in a terminal, with a person in front of it."""
    needs_prompt: bool = False
    """Headless; in a terminal it waits for what is typed."""
    prompt_in_terminal: bool = False
    """Whether it can be given one there, too."""
    resumes: bool = False
    """Whether a restart goes on with the conversation."""
    permissions: list[str] = Field(default_factory=list)
    """What ``permissions`` can be, headless: ``ask``, ``auto``; where it is not said it is ``auto``."""
    permissions_in_terminal: list[str] = Field(default_factory=list)
    """The same in a terminal; where it is not said it is ``ask``."""
    node: str = ""
    """The Node.js it would run on, where it needs one."""
    login: str = ""
    """The person's own login that ``share_login`` would lend, where there is one."""
    definition: str = ""
    """The template as TOML, with all it extends."""
