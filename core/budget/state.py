"""What the fold knows of budgets, reservations and approvals: plain records, moved on by events only.

Money is in billionths of a dollar (``amount``). Times are the journal's, which never go backwards, so
that a window that has ended does not come back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from .amount import nanos
from .budget import Budget
from .window import Rolling, bounds, rolling

Source = Literal["person", "config", "fleet", "spec"]


class Figures(NamedTuple):
    """Money and tokens together."""

    usd: int
    tokens: int


class Slot(NamedTuple):
    """What was used in one slot of a rolling window; ``start`` in wall-clock seconds."""

    start: float
    usd: int
    tokens: int


class Pass(NamedTuple):
    """One call of an agent may go although its budgets, or its likeness to others, would stop it."""

    approval: str
    about: Literal["budget", "runaway"]
    budget: str | None


class Extension(NamedTuple):
    """What a person added to a limit; ``until`` a wall-clock second, ``None`` for good."""

    usd: int
    tokens: int
    until: float | None = None


@dataclass(slots=True)
class Account:
    """What one window of a budget has used, and what is reserved in it.

    ``start`` and ``end`` are those of the present window; ``end`` is ``None`` where nothing but an event
    ends it. ``slots`` are kept for rolling windows only.
    """

    start: float | None = None
    end: float | None = None
    usd: int = 0
    tokens: int = 0
    reserved_usd: int = 0
    reserved_tokens: int = 0
    slots: list[Slot] = field(default_factory=list)
    extensions: list[Extension] = field(default_factory=list)
    unpriced: int = 0
    estimated: int = 0
    warned: float | None = None
    """When it was said that the soft threshold is passed."""

    def clear(self) -> None:
        """A new window: nothing is used. What is reserved stays so until its calls are settled."""
        self.usd = self.tokens = self.unpriced = self.estimated = 0
        self.warned = None
        self.slots = []


@dataclass(slots=True)
class BudgetState:
    """One budget: its limit, and its accounts.

    There is one account, under the key ``""``; only a budget per task on several agents has one for
    each agent, under its id.
    """

    budget: Budget
    source: Source
    since: float
    by: str = ""
    accounts: dict[str, Account] = field(default_factory=dict)
    usd: int | None = field(init=False)
    """The limit in billionths, before extensions."""
    tokens: int | None = field(init=False)
    per_agent: bool = field(init=False)
    """Whether each agent has an account of its own."""
    rolling: Rolling | None = field(init=False)

    def __post_init__(self) -> None:
        """Work out what every call asks for."""
        budget = self.budget
        self.usd = None if budget.usd is None else nanos(budget.usd)
        self.tokens = budget.tokens
        self.per_agent = budget.window == "task" and budget.scope != "agent"
        self.rolling = rolling(budget)

    def account(self, agent: str, ts: float) -> Account:
        """The account that counts for this agent, made if need be."""
        key = agent if self.per_agent else ""
        if (account := self.accounts.get(key)) is None:
            start, end = bounds(self.budget, ts)
            account = self.accounts[key] = Account(ts if start is None else start, end)
        return account

    def look(self, agent: str) -> Account | None:
        """The same account, or ``None`` if nothing was counted in it."""
        return self.accounts.get(agent if self.per_agent else "")

    def limit(self, account: Account | None, now: float) -> tuple[int | None, int | None]:
        """The limits at ``now``, the account's extensions included."""
        usd, tokens = self.usd, self.tokens
        if account is None or not account.extensions:
            return usd, tokens
        for extension in account.extensions:
            if extension.until is None or extension.until > now:
                usd = usd if usd is None else usd + extension.usd
                tokens = tokens if tokens is None else tokens + extension.tokens
        return usd, tokens

    def roll(self, account: Account, ts: float) -> bool:
        """Move an account on to ``ts``; true if a calendar window ended."""
        if account.end is not None:
            if ts < account.end:
                return False
            account.clear()
            account.start, account.end = bounds(self.budget, ts)
            account.extensions = [e for e in account.extensions if e.until is None or e.until > ts]
            return True
        if account.slots and (account.warned is not None or self._is_old(account.slots[0], ts)):
            self._drop(account, ts)
        return False

    def _drop(self, account: Account, ts: float) -> None:
        gone = 0
        for slot in self._old(account, ts):
            account.usd -= slot.usd
            account.tokens -= slot.tokens
            gone += 1
        if gone:
            account.slots = account.slots[gone:]
            account.extensions = [e for e in account.extensions if e.until is None or e.until > ts]
        window = self.rolling
        if window and account.warned is not None and account.warned + window.length <= ts:
            account.warned = None

    def _is_old(self, slot: Slot, now: float) -> bool:
        window = self.rolling
        return window is not None and slot.start + window.slot + window.length <= now

    def _old(self, account: Account, now: float) -> Iterator[Slot]:
        """Slots that lie wholly outside a rolling window: money comes back late rather than early."""
        if (window := self.rolling) is None:
            return
        for slot in account.slots:
            if slot.start + window.slot + window.length > now:
                return
            yield slot

    def spent(self, account: Account, now: float) -> Figures:
        """What the window at ``now`` has used. Changes nothing."""
        if account.end is not None and now >= account.end:
            return Figures(0, 0)
        usd, tokens = account.usd, account.tokens
        if account.slots and self._is_old(account.slots[0], now):
            for slot in self._old(account, now):
                usd -= slot.usd
                tokens -= slot.tokens
        return Figures(usd, tokens)

    def add(self, account: Account, ts: float, usd: int, tokens: int) -> None:
        """Count what was used at ``ts``; the account was rolled to there before."""
        account.usd += usd
        account.tokens += tokens
        if (window := self.rolling) is None:
            return
        start = ts // window.slot * window.slot
        if account.slots and account.slots[-1].start >= start:
            last = account.slots[-1]
            account.slots[-1] = Slot(last.start, last.usd + usd, last.tokens + tokens)
        else:
            account.slots.append(Slot(start, usd, tokens))

    def next_return(self, account: Account, now: float) -> float | None:
        """When money comes back by itself, after ``now``; ``None``: it does not."""
        if account.end is not None:
            return account.end if account.end > now else bounds(self.budget, now)[1]
        window = self.rolling
        if window is None:
            return None
        return next(
            (end for slot in account.slots if (end := slot.start + window.slot + window.length) > now), None
        )

    def used(self, account: Account, now: float) -> float:
        """The fraction of the limit that is spent: of the tighter one of money and tokens."""
        spent, (usd, tokens) = self.spent(account, now), self.limit(account, now)
        return max(
            spent.usd / usd if usd else 0.0,
            spent.tokens / tokens if tokens else 0.0,
        )


@dataclass(slots=True)
class Reservation:
    """The worst case of a call that runs; ``usd`` is ``None`` where no price is known."""

    agent: str
    usd: int | None
    tokens: int
    accounts: list[tuple[str, str]] = field(default_factory=list)
    """Where it is held: names of budgets, and the accounts' keys."""


class Approval(NamedTuple):
    """An open question to a person."""

    id: str
    agent: str
    call: str
    about: Literal["budget", "runaway"]
    since: float
    budget: str | None = None
    question: str = ""
    needed_usd: float | None = None
    left_usd: float | None = None
    needed_tokens: int | None = None
    left_tokens: int | None = None


@dataclass(slots=True)
class Kin:
    """The family of an agent that has a parent or children, kept beyond its removal while it has some."""

    parent: str | None = None
    children: int = 0
    gone: bool = False
