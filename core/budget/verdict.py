"""Whether a call's worst case fits into the budgets that cover its agent, and which one it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from .amount import dollars, said
from .short import Action
from .state import Account, BudgetState, Figures
from .worst import Need

if TYPE_CHECKING:
    from ..agents.agent import Fleet

Unpriced = Literal["pass", "ask", "deny"]
"""What becomes of a call without a known price under a budget in USD."""

Place = tuple[str, str]
"""An account: its budget's name, and its key there."""

_NOTHING = Account()

#: The harder action counts where a call does not fit several budgets.
_HARDNESS: dict[Action, int] = {"ask": 0, "freeze": 1, "deny": 2, "kill": 3}


class Short(NamedTuple):
    """A budget that a call does not fit.

    ``alone``: nor would it if no other call ran; else it fits once others are settled.
    """

    place: Place
    alone: bool
    action: Action
    unpriced: bool
    left: Figures
    """Limit less what is spent; without other calls' reservations. Of an absent limit: 0."""
    usd: int | None
    tokens: int | None
    """The limits."""


def shortages(
    fleet: Fleet, agent: str, need: Need, now: float, unpriced: Unpriced, behind: Callable[[Place], bool]
) -> Iterator[Short]:
    """Every budget that this call does not fit now.

    Args:
        behind: Whether other calls wait for room in an account before this one.
    """
    needed = need.usd or 0
    for state, key in fleet.cover.places(fleet, agent):
        account = state.accounts.get(key) or _NOTHING
        usd, tokens = state.limit(account, now)
        spent_usd, spent_tokens = state.spent(account, now)
        left_usd, left_tokens = (usd or 0) - spent_usd, (tokens or 0) - spent_tokens
        place = (state.budget.name, key)
        missing = need.usd is None and usd is not None and unpriced != "pass"
        if (
            missing
            or (usd is not None and needed > left_usd)
            or (tokens is not None and need.tokens > left_tokens)
        ):
            action: Action = "deny" if missing and unpriced == "deny" else state.budget.action
            yield Short(place, True, action, missing, Figures(left_usd, left_tokens), usd, tokens)
        elif (
            (usd is not None and needed > left_usd - account.reserved_usd)
            or (tokens is not None and need.tokens > left_tokens - account.reserved_tokens)
            or behind(place)
        ):
            action = state.budget.action
            yield Short(place, False, action, False, Figures(left_usd, left_tokens), usd, tokens)


def worst(found: list[Short]) -> Short:
    """The one that decides: the hardest action of those that waiting for other calls does not help."""
    alone = [short for short in found if short.alone]
    return max(alone, key=lambda short: _HARDNESS[short.action]) if alone else found[0]


def in_words(short: Short, need: Need, state: BudgetState, model: str | None) -> str:
    """What a person, and the agent's own output, are told."""
    name = short.place[0]
    if short.unpriced:
        called = "this call" if model is None else model[:100]  # its name comes from the client
        return f"budget {name}: no price is known for {called if called.isprintable() else ascii(called)}"
    parts = []
    if short.usd is not None and need.usd is not None:
        left = said(dollars(max(0, short.left.usd)))
        parts.append(f"needs up to {said(dollars(need.usd))}, {left} of {said(dollars(short.usd))} left")
    if short.tokens is not None and (short.usd is None or need.tokens > short.left.tokens):
        parts.append(
            f"needs up to {need.tokens:,} tokens, {max(0, short.left.tokens):,} of {short.tokens:,} left"
        )
    window = state.budget.window
    when = "" if window == "total" else f" for this {window}"
    return f"budget {name}: this call {'; '.join(parts)}{when}"
