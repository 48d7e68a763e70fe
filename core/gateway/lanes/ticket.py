"""What a lane knows of one call that waits or runs in it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import anyio

from ...agents.states import Waiting
from .fair import Place
from .gate import Gate, Pass

if TYPE_CHECKING:
    from .lane import Lane

Kind = Literal["limit", "closed", "probe", "broken", "lost"]


class Why(NamedTuple):
    """Why a call waits, as a person is told; ``end`` is when that may be over (monotonic)."""

    kind: Kind
    reason: Waiting
    detail: str
    end: float | None = None


@dataclass(slots=True, eq=False)
class Ticket(Place):
    """One call from its first ``enter`` until it leaves."""

    model: str | None = None
    home: str = ""
    """The provider it asked for."""
    account: str = ""
    """Whose credentials it brings; empty where the provider key is the kernel's."""
    may_use: Collection[str] | None = None
    """Providers; ``None`` is all."""
    lane: Lane | None = None
    """Where it waits or runs; ``None`` while its answer was taken back."""
    running: bool = False
    answered: bool = False
    losses: int = 0
    not_before: float = 0.0
    granted: str | None = None
    why: Why | None = None
    changed: anyio.Event | None = None
    passes: list[tuple[Gate, Pass]] = field(default_factory=list)

    def tell(self, why: Why | None) -> None:
        """Note why it waits and wake whoever waits."""
        if why != self.why:
            self.why = why
            self.wake()

    def wake(self) -> None:
        """Let whoever waits look again."""
        if self.changed is not None:
            self.changed.set()
