"""What an agent is started from: ``AgentSpec`` and its parts.

Sizes are bytes, times are seconds. Unknown fields are errors: a misspelt limit must not be a limit
that silently does not act.
"""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ..budget.short import ShortBudget, parse_short
from ..workspaces import branches

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,62}")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def check_name(name: str) -> str:
    """A name usable in a path, a hostname-like label and on one terminal line.

    Raises:
        ValueError: With the rule, for anything else (newlines and escapes included).
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            "a name has letters, digits, '_', '.' and '-', starts with a letter or digit, at most 63"
        )
    return name


def parse_size(value: object) -> object:
    """``"512M"`` → bytes (binary units); numbers pass through."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if not match:
            raise ValueError(f"{value!r} is not a size such as 512M or 2G")
        return int(float(match[1]) * _UNITS[match[2].lower()])
    return value


def parse_duration(value: object) -> object:
    """``"1h"`` → seconds; numbers pass through."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if not match:
            raise ValueError(f"{value!r} is not a duration such as 10s, 5m or 1h")
        return float(match[1]) * _SECONDS[match[2]]
    return value


def _one_line(text: str) -> str:
    if any(unicodedata.category(char) == "Cc" and char not in "\n\t" for char in text):
        raise ValueError("control characters are not allowed here")
    return text


def _check_label(key: str) -> str:
    if not LABEL.fullmatch(key):
        raise ValueError("a label key has letters, digits, '_', '.', '/' and '-'")
    return key


Name = Annotated[str, AfterValidator(check_name)]
Text = Annotated[str, AfterValidator(_one_line)]
LabelKey = Annotated[str, AfterValidator(_check_label)]
Bytes = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
Seconds = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, le=10 * 365 * 86400)]
Nice = Annotated[int, Field(ge=-20, le=19)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RestartMode(StrEnum):
    """When an ended run is followed by another."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


class Restart(_Part):
    """The restart policy: exponential back-off, and when to give up.

    A run counts as started after ``start_seconds``; from then on failures are counted from zero.
    After ``max_restarts`` failures in a row the agent ends in ``error``.
    """

    policy: RestartMode = RestartMode.NEVER
    start_seconds: Seconds = 1.0
    max_restarts: int = Field(default=5, ge=0, le=1_000_000)
    backoff: Seconds = 1.0
    backoff_max: Seconds = 60.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after the ``failures``-th failure in a row (1-based)."""
        return float(min(self.backoff_max, self.backoff * 2 ** min(max(failures, 1) - 1, 32)))


def _never(value: object) -> object:
    return 0 if value == "never" else parse_duration(value)


class Idle(_Part):
    """What becomes of an agent that has nothing to do."""

    freeze_after: Annotated[float, BeforeValidator(_never), Field(ge=0, le=10 * 365 * 86400)] | None = None
    """Frozen after so many seconds of it, until it is needed; 0 (``"never"``) is not at all, and ``None``
    what the configuration says."""


class Limits(_Part):
    """What the operating system holds the whole process tree to; ``None`` is no limit."""

    memory: Annotated[Bytes, Field(ge=1 << 20)] | None = None
    cpus: Annotated[float, Field(gt=0, le=4096)] | None = None
    pids: Annotated[int, Field(ge=2, le=4_194_304)] | None = None


class OutputLimits(_Part):
    """How much output of a run is kept; the oldest goes first."""

    bytes: Bytes = 64 << 20
    age: Seconds = 14 * 86400.0


class Mount(_Part):
    """A host folder inside a container."""

    source: str
    target: str
    read_only: bool = True

    @model_validator(mode="after")
    def _absolute(self) -> Mount:
        if not PurePosixPath(self.target).is_absolute() or ".." in PurePosixPath(self.target).parts:
            raise ValueError("a mount target is an absolute path without '..'")
        return self


Network = Literal["gateway", "open", "none"]

Queue = Literal["interactive", "batch"]
"""The scheduling class of an agent's calls: batch calls go only when no interactive one waits."""


Permission = Literal["ask", "auto"]
"""What an agent may do unasked: what its program's own rules allow, or everything."""


MailMode = Literal["read", "turn", "wake", "none"]
"""How mail comes to an agent: it reads its mailbox itself; it is told at its next turn; the same, and a
message begins that turn; nobody tells it."""


class AgentSpec(_Part):
    """The declaration an agent is started from.

    ``command`` is an argument vector, never a shell line. ``env`` is added to the environment the
    person called from. ``prompt`` is what the agent is told first and is shown as its task.
    """

    name: Name
    template: Name | None = None
    backend: Name = "subprocess"
    command: list[str] = Field(default_factory=list, max_length=4096)
    cwd: str | None = None
    worktree: bool = False
    """It works in a git worktree of its own, made of the repository that ``cwd`` is in."""
    branch: str | None = None
    """The worktree's branch; ``None``: ``agenttop/NAME``, with a number where that is taken."""
    base: Text | None = Field(default=None, min_length=1, max_length=1000)
    """What the branch begins at; ``None``: what is checked out in ``cwd``."""
    env: dict[str, str] = Field(default_factory=dict)
    prompt: Text | None = Field(default=None, max_length=131_072)
    model: str | None = Field(default=None, max_length=200)
    labels: dict[LabelKey, Annotated[Text, Field(max_length=253)]] = Field(default_factory=dict)
    parent: str | None = None
    nice: Nice = 0
    queue: Queue = "interactive"
    budget: Annotated[ShortBudget, BeforeValidator(parse_short)] | None = None
    """A budget on the agent and all its children: ``"$5/day"``, ``"2M tokens/hour deny"``, or a table."""
    providers: list[Name] | None = Field(default=None, max_length=100)
    """The providers it may use; ``None`` is all."""
    models: list[Annotated[str, Field(max_length=200)]] | None = Field(default=None, max_length=100)
    """The models it may ask for, as shell patterns (``claude-*``); ``None`` is all."""
    stdin: bool = False
    restart: Restart = Restart()
    stop_grace: Seconds = 10.0
    idle: Idle = Idle()
    limits: Limits = Limits()
    output: OutputLimits = OutputLimits()
    sandbox: bool = False
    pass_keys: list[str] = Field(default_factory=list)
    share_login: bool = False
    """Lend the person's own login to the template's program, in the agent's own configuration folder."""
    permissions: Permission | None = None
    """For a template's program; ``None``: it asks at a terminal, and headless it asks nobody."""
    mcp: bool | None = None
    """Whether a template's program is given the kernel's MCP tools; ``None``: it is, where it can be."""
    mail: MailMode | None = None
    """``None``: what its template says, else ``read``."""
    blocks: dict[Name, Annotated[str, Field(max_length=131_072)]] = Field(default_factory=dict, max_length=64)
    """Working memory it begins with: blocks by name, made once, before its first run."""
    # Containers only.
    image: str | None = None
    network: Network = "gateway"
    user: str | None = None
    mounts: list[Mount] = Field(default_factory=list)
    read_only: bool = True

    @model_validator(mode="after")
    def _sane(self) -> AgentSpec:
        for part in self.command:
            if "\0" in part:
                raise ValueError("a command cannot contain NUL bytes")
        for key, value in self.env.items():
            if not key or "=" in key or "\0" in key + value:
                raise ValueError(f"{key!r} cannot be an environment variable")
        if not self.worktree and (self.branch is not None or self.base is not None):
            raise ValueError("a branch and a base are those of a worktree: ask for one, too")
        if self.branch is not None and (problem := branches.problem(self.branch)):
            raise ValueError(f"branch {self.branch!r}: {problem}")
        if self.base is not None and self.base.startswith("-"):
            raise ValueError(f"base {self.base!r}: no commit is called so")
        if self.worktree and (self.backend == "docker" or self.sandbox):
            raise ValueError(
                "a worktree goes with neither docker nor a sandbox: the agent would have to write into the"
                " repository's own .git, and what it puts into hooks or settings there runs outside"
            )
        return self
