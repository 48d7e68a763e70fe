"""Agents' terminals: attaching to them, typing, and what they have shown."""

from __future__ import annotations

from pydantic import Field

from ..agents.spec import Text
from .model import Model


class AttachInfo(Model):
    """How a person gets in front of an agent, and out again."""

    name: str
    """Of the agent."""
    argv: list[str]
    """Run full-screen on the kernel's machine; it ends when the person leaves or the run has ended."""
    detach_key: str
    """By which the person leaves, as a person reads it: ``Ctrl-\\``."""
    id: str = ""
    """Of the agent."""
    run: int = 0
    """Which run of it."""
    seq: int = 0
    """The journal's last number when this was told: what becomes of the run is after it."""
    left: int = 0
    """The status ``argv`` ends with when the person left by the key; else the run has ended, or it failed."""


class PressRequest(Model):
    """Press keys in an agent's terminal, by tmux's names for them: ``Enter``, ``C-c``, ``Up``."""

    ref: Text
    keys: list[str] = Field(min_length=1, max_length=1_000)


class HistoryInfo(Model):
    """The text of an agent's terminal, oldest line first."""

    name: str
    lines: list[str]
    live: bool
    """False: what was on it when its run ended."""
