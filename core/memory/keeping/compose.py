"""Puts the memory of a kernel together, as its ``config.toml`` wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..memory import Memory
from ..names import access_by_teams
from .house import House
from .keeper import Keeper
from .models import GatewayEmbedder, GatewaySummariser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ...kernel import Kernel


def compose(kernel: Kernel, teams: Callable[[str], Iterable[str]], owner: str) -> tuple[Memory, Keeper]:
    """The memory, whose file is opened when it is first needed, and its keeper, for the kernel to run.

    Args:
        teams: The teams an agent is in.
        owner: Whose kernel this is.
    """
    chosen = kernel.config.memory
    house = House(
        kernel.books,
        lambda agent: kernel.identity.secret(agent),  # the gateway is made later
        lambda: kernel.doors.port,
        kernel.config.providers,
        owner,
    )
    memory = Memory(
        kernel.paths.memory,
        kernel.clock,
        access_by_teams(teams),
        limits=chosen.limits(),
        embedder=GatewayEmbedder(house, chosen.embeddings) if chosen.embeddings else None,
        summarise=GatewaySummariser(house, chosen.summaries) if chosen.summaries else None,
        lazy=True,
    )
    return memory, Keeper(memory, kernel.books, kernel.clock, chosen.retention)
