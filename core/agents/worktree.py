"""The record of an agent's own worktree, as the fold keeps it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Worktree:
    """A git worktree and branch made for one agent. Planned in the journal before git is asked for it."""

    path: str
    """The worktree's top folder, below the state folder."""
    folder: str
    """Where the agent works: ``path``, or the subfolder of it that it was started for."""
    repository: str
    """The repository's own directory: ``.git``, or the bare repository."""
    branch: str
    base: str
    """The commit it began at."""
    ours: bool = True
    """The branch was made for it; one that was there before is never deleted."""
    made: bool = False
    """git has made it: from here on somebody may have worked there."""
