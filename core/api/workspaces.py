"""Where an agent works, and what it has done there."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .model import Model


class WorkspaceInfo(Model):
    """An agent's folder as git sees it. ``None``: it is in no repository, or git could not tell."""

    folder: str
    worktree: bool = False
    """Whether the folder is a worktree of the agent's own, made by this kernel."""
    repository: str | None = None
    """The top folder of the repository (of the worktree, where it is one)."""
    branch: str | None = None
    base: str | None = None
    """The commit the agent began at."""
    commits: int | None = None
    """Made since then."""
    files: int | None = None
    """Changed since ``base``, committed or not, new ones too."""
    insertions: int | None = None
    deletions: int | None = None
    uncommitted: int | None = None
    """Files whose changes are in no commit."""
    shared_with: list[str] = Field(default_factory=list)
    """Names of other live agents, observed ones too, that work in the same folder."""
    problem: str = ""
    """Why git could not tell."""
    diff: str = ""
    """Where it was asked for: what differs from ``base`` as a patch, new files too."""
    diff_cut: bool = False
    """It is longer than what is given here."""
    losses: list[str] = Field(default_factory=list)
    """Where it was asked for: what deleting its worktree would lose, one thing each; ``new  notes.txt``."""


Detail = Literal["", "diff", "losses"]
"""What a look at a workspace gives beyond the sums."""
