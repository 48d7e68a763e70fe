"""The kernel itself: who it is, what it finds, and its kill switch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .agents import Outcome
from .model import Model


class KernelStatus(Model):
    """``kernel status --json``."""

    pid: int
    version: str
    port: int
    agents: int
    started_at: float
    state_dir: str
    boot_id: str = ""
    embedded: bool = False
    seq: int = 0
    healthy: bool = True
    problem: str = ""
    """What ails the journal."""
    gateway_problem: str = ""
    """What ails the gateway's listeners or their holder."""
    mail_problem: str = ""
    """Why no mail is taken now, or that the store was damaged and put aside."""
    memory_problem: str = ""
    """Why nothing can be remembered now."""
    recall_dropped: dict[str, int] = Field(default_factory=dict)
    """Calls, mail and pieces of output that were not remembered since its start: they came too fast."""
    cpu_seconds: float = 0.0
    memory: int = 0
    missing_keys: list[str] = Field(default_factory=list)
    """Environment variables with provider keys that calls wait for."""


class HaltInfo(Model):
    """What the kill switch did."""

    halted: bool
    calls_held: int = 0
    frozen: list[Outcome] = Field(default_factory=list)
    calls_seconds: float = 0.0
    """Until the last call was held."""
    seconds: float = 0.0
    """Until the last process was frozen (or thawed)."""


class CheckInfo(Model):
    """One line of ``doctor``."""

    group: str
    name: str
    level: Literal["ok", "warn", "missing"]
    found: str
    hint: str = ""
