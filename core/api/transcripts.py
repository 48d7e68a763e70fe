"""What the agent CLIs' own transcripts on this machine say of the past."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .model import Model

TranscriptKey = Literal["day", "week", "month", "project", "model", "agent", "session"]
"""``agent`` is the CLI (``claude``), ``project`` the folder it worked in."""


class TranscriptRequest(Model):
    """Sums over the calls in transcripts, by any keys; days are those of ``timezone``."""

    by: list[TranscriptKey] = Field(default=["day"], max_length=5)
    agents: list[str] = Field(default_factory=list, max_length=100)
    """CLIs to count; empty: all."""
    projects: list[str] = Field(default_factory=list, max_length=1_000)
    """Folders to count, with all below them, or the last parts of their paths; empty: all."""
    since: float | None = None
    until: float | None = None
    timezone: str | None = None
    """IANA name; ``None``: the machine's."""
    environ: dict[str, str] = Field(default_factory=dict, max_length=100)
    """Variables of whoever asks that say where transcripts lie (``CLAUDE_CONFIG_DIR``); read, too."""


class TranscriptUsage(Model):
    """Sums of calls under one combination of keys, in the order they were asked for."""

    keys: list[str]
    calls: int = 0
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    """Reasoning included."""
    reasoning: int = 0
    cost_usd: float | None = None
    unpriced: int = 0
    """Calls without a known price; they count tokens only."""


class TranscriptReport(Model):
    """The answer, and how complete it is."""

    rows: list[TranscriptUsage]
    total: TranscriptUsage
    files: int
    """Transcripts known."""
    problems: int
    """Files and lines that were not understood; ``doctor --agents`` names them."""
