"""All lanes together: what the gateway's desk asks before and after each call."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio

from ...api import ProviderInfo
from ...clock import Clock
from ..providers import Provider
from .waiter import Verdict, Waiter, Waits

Moved = Callable[[str, str, str], None]
"""A breaker moved: provider, ``closed``, ``open`` or ``half-open``, and why."""


class Lanes:
    """The lanes of all providers. Runs on one event loop.

    For one call::

        provider = await lanes.enter(waiter, waits)      # its turn; may be cancelled
        verdict = lanes.answered(call, provider, status, headers)
        lanes.lost(call, provider, why)                  # instead: no answer; enter again, or leave
        lanes.leave(call, tokens)                        # once, however it ended

    Args:
        providers: By name.
        clock: Pacing is by its monotonic time.
        moved: Called when a provider's breaker moved.
        seed: Of the jitter in back-offs.
    """

    def __init__(
        self, providers: Mapping[str, Provider], clock: Clock, *, moved: Moved, seed: int | None = None
    ) -> None:
        self._providers = providers

    async def enter(self, waiter: Waiter, waits: Waits) -> str:
        """Wait for the call's turn; the provider it goes to.

        Entering again (after ``again`` or ``lost``) puts the call before its agent's others. When
        cancelled the call is forgotten, as after ``leave(call, None)``.

        Args:
            waiter: The call.
            waits: Called when it really has to wait, and again when the reason becomes another.
        """
        return waiter.provider

    def answered(self, call: str, provider: str, status: int, headers: Mapping[bytes, bytes]) -> Verdict:
        """Learn from an answer's head (lower-case names). ``again``: 429 or 529, ask for another turn."""
        return "pass"

    def lost(self, call: str, provider: str, why: str) -> None:
        """The provider was not reached, said nothing for too long, or cut its answer."""

    def leave(self, call: str, tokens: int | None) -> None:
        """The call is over: settled, refused or cancelled. Safe to call twice.

        Args:
            call: Its id; one that is not known is ignored.
            tokens: What it really used, input and output; ``None`` if nothing.
        """

    def renice(self, agent: str, nice: int) -> None:
        """An agent's nice changed: its waiting calls are weighted by the new one from now on."""

    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return 0

    def providers(self) -> list[ProviderInfo]:
        """Every provider as it stands; ``key`` is not known here (``present`` or ``clients``)."""
        return []

    def limit(self, provider: str) -> float | None:
        """Tokens a minute this provider takes, configured or learned; ``None`` where that is not known."""
        return None

    def demand(self) -> float | None:
        """Tokens of the calls that run or wait, over what the provider takes in a minute: the load.

        Of several providers the tightest one's; ``None`` where no token limit is known.
        """
        return None

    def tick(self) -> float | None:
        """Do what is due; seconds until something is again, ``None`` if only an event can change things."""
        return None

    async def run(self) -> None:
        """The timers; one task, owned by the kernel."""
        await anyio.sleep_forever()
