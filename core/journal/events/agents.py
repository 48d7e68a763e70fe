"""What happens to the kernel, to agents and to where they work."""

from __future__ import annotations

from typing import NamedTuple

from ...agents.spec import AgentSpec
from .event import AgentEvent, Event


class KernelStarted(Event):
    """A kernel took this state directory. ``boot_id`` tells reboots apart."""

    version: str
    pid: int
    boot_id: str


class KernelStopped(Event):
    """The kernel left in an orderly way."""

    reason: str = ""


# --- agents ------------------------------------------------------------------------------------


class Origin(NamedTuple):
    """The conversation a fork began in: whose it was, and the client's own id of it."""

    agent: str
    session: str


class AgentCreated(AgentEvent):
    """A new agent. Its environment lies beside the journal in a 0600 file, not in here."""

    spec: AgentSpec
    owner: str
    fleet: str | None = None
    """The fleet file that declared it, if one did."""
    origin: Origin | None = None
    """Where it was forked from."""


class AgentChanged(AgentEvent):
    """The declaration of an agent was replaced; its next run uses it."""

    spec: AgentSpec
    by: str = ""


class AgentRemoved(AgentEvent):
    """An ended agent was taken off the table."""

    by: str = ""


class WorktreePlanned(AgentEvent):
    """Where the agent's own worktree will be and on which branch: durable before git is asked for it."""

    path: str
    folder: str
    repository: str
    branch: str
    base: str
    ours: bool = True
    """The branch was made for it."""


class WorktreeMade(AgentEvent):
    """The planned worktree is there; from here on somebody may have worked in it."""

    path: str
    branch: str


class WorktreeLeft(AgentEvent):
    """What became of the worktree of a removed agent. ``kept`` is why it stays; empty: it is gone."""

    path: str
    branch: str
    repository: str
    kept: str = ""
    branch_kept: bool = False


class FolderShared(Event):
    """Agents work on the same files of a git working tree: ``agent``, which began there, and others.

    Without ``agent`` several began at once, and ``names`` has all.
    """

    folder: str
    names: list[str]
    """A few of them."""
    count: int
    """How many they are."""


class NiceChanged(AgentEvent):
    """The scheduling priority was set."""

    nice: int
    by: str = ""
