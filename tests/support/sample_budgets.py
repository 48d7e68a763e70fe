"""The sample's money: budgets that cover each other, a held call, providers in every condition.

A mixin of ``SampleClient``. Its verbs change the canned figures in the plainest way, as the rest does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from agenttop.core.api import (
    AnswerRequest,
    ApprovalInfo,
    BudgetInfo,
    BudgetRequest,
    CallInfo,
    CallsRequest,
    ExtendRequest,
    HaltInfo,
    Header,
    LimitInfo,
    Outcome,
    ProviderInfo,
    Row,
    UsageRequest,
    UsageRow,
)
from agenttop.core.budget.budget import Budget
from agenttop.core.clock import ManualClock
from agenttop.core.errors import UsageError

NOW = ManualClock().time()
K, M = 1_000, 1_000_000
HOUR = 3600.0
MIDNIGHT = NOW - 14 * HOUR - 6 * 60 - 21
"""UTC, the beginning of the pictures' day."""

CHECKOUT = ["a1f3", "b20c", "b7e4", "c913", "d08a", "e5d1"]
EVERYBODY = [*CHECKOUT, "f4b2", "0c77", "17de", "2b9a", "39c6"]


def budget(name: str, scope: str, target: str, limit: float, window: str = "day", **given: Any) -> BudgetInfo:
    """A budget of ``limit`` USD, or tokens where ``spent_tokens`` is given, and what follows from it."""
    action, in_tokens = given.pop("action", "ask"), "spent_tokens" in given
    fields: dict[str, Any] = {"tokens": int(limit)} if in_tokens else {"usd": Decimal(str(limit))}
    declared = Budget(name=name, scope=scope, target=target, window=window, action=action, **fields)  # type: ignore[arg-type]
    info = BudgetInfo(
        budget=declared,
        limit_usd=None if in_tokens else limit,
        limit_tokens=int(limit) if in_tokens else None,
        window_start=MIDNIGHT if window == "day" else NOW - 2 * HOUR,
        window_end=MIDNIGHT + 24 * HOUR if window == "day" else None,
        **given,
    )
    if in_tokens:
        info.used = info.spent_tokens / limit
        left, burn = limit - info.spent_tokens, (info.burn_tokens_minute or 0) / 60
    else:
        info.used = info.spent_usd / limit
        left, burn = limit - info.spent_usd - info.reserved_usd, (info.burn_usd_hour or 0) / HOUR
    info.seconds_left = max(0.0, left / burn) if burn else None
    return info


def budgets() -> list[BudgetInfo]:
    """As the picture has them, except that an agent's budget covers its subtree too."""
    return [
        budget("fleet", "fleet", "", 50, spent_usd=23.41, reserved_usd=0.87, burn_usd_hour=15.55,
               agents=EVERYBODY, next_agent="a1f3", unpriced=14),
        budget("checkout", "label", "team=checkout", 30, spent_usd=16.85, reserved_usd=0.86,
               burn_usd_hour=15.19, agents=CHECKOUT, next_agent="a1f3", parent="fleet"),
        budget("lead", "agent", "a1f3", 25, spent_usd=16.85, reserved_usd=0.86, burn_usd_hour=15.19,
               agents=CHECKOUT, next_agent="a1f3", parent="checkout", target_name="lead"),
        budget("api", "agent", "b20c", 8, spent_usd=4.50, burn_usd_hour=5.41, agents=["b20c", "b7e4"],
               next_agent="b20c", parent="lead", target_name="api"),
        budget("api-tests", "agent", "b7e4", 3, "task", spent_usd=0.96, burn_usd_hour=1.80,
               agents=["b7e4"], next_agent="b7e4", parent="api", target_name="api-tests"),
        budget("ui", "agent", "c913", 6, "task", spent_usd=1.94, burn_usd_hour=3.98, agents=["c913"],
               next_agent="c913", parent="lead", target_name="ui", exact=False),
        budget("docs", "agent", "d08a", 4, "task", spent_usd=1.02, agents=["d08a"], parent="lead",
               target_name="docs"),
        budget("review", "agent", "e5d1", 4, "task", spent_usd=0.99, agents=["e5d1"], parent="lead",
               target_name="review"),
        budget("db", "label", "team=db", 10, spent_usd=2.88, agents=["f4b2"], parent="fleet"),
        budget("migrate", "agent", "f4b2", 3, "task", spent_usd=2.88, agents=["f4b2"], next_agent="f4b2",
               held=1, warned=True, parent="db", target_name="migrate", burn_usd_hour=1.63),
        budget("triage", "agent", "0c77", 2, spent_usd=0.32, reserved_usd=0.01, burn_usd_hour=0.36,
               agents=["0c77"], next_agent="0c77", parent="fleet", target_name="triage"),
        budget("nightly", "agent", "2b9a", 5, "task", spent_usd=1.50, agents=["2b9a"], parent="fleet",
               target_name="nightly", action="freeze"),
        budget("scrape", "template", "python", 1, "total", spent_usd=0.05, agents=["0c77", "17de"],
               parent="fleet", action="deny"),
        budget("embed", "agent", "17de", 5 * M, spent_tokens=round(2.1 * M), burn_tokens_minute=27_000.0,
               agents=["17de"], next_agent="17de", parent="fleet", target_name="embed", unpriced=14),
    ]  # fmt: skip


HELD = CallInfo(
    call="c9", started=NOW - 252, provider="openai", model="gpt-5.1-codex", input=231 * K, state="held",
    agent="f4b2", name="migrate", run=1, reason="budget", reserved_usd=0.31,
    detail="budget migrate: 0.31 at most, 0.12 left", queued_seconds=252.0,
)  # fmt: skip


def approvals() -> list[ApprovalInfo]:
    """One question: the budget of ``migrate``."""
    return [
        ApprovalInfo(
            approval="ap1", agent="f4b2", name="migrate", about="budget", since=NOW - 252, call="c9",
            question="The next call could go over budget migrate, so it is held. Nothing was refused.",
            budget="migrate", needed_usd=0.31, left_usd=0.12, model="gpt-5.1-codex", provider="openai",
        )
    ]  # fmt: skip


def runaway() -> ApprovalInfo:
    """A second question, about an agent that repeats itself."""
    return ApprovalInfo(
        approval="ap2", agent="c913", name="ui", about="runaway", since=NOW - 21, call="c12",
        question="ui made 9 nearly identical calls in 40 s. The next one is held.",
        model="gpt-5.1-codex", provider="openai",
    )  # fmt: skip


def model_calls() -> list[CallInfo]:
    """Calls of every kind: exact, estimated, unpriced, absorbed, failed, running and held."""
    calls: list[tuple[int, int, int, int, int, float, float | None, dict[str, Any]]] = [
        (690, 240, 60_000, 2_100, 846, 12.7, 0.051, {"ended_in": "Edit"}),
        (512, 180, 71_000, 0, 420, 8.1, 0.042, {"exact": False, "outcome": "cut by the client"}),
        (421, 1_200, 0, 83_000, 911, 21.0, None, {"model": "local/qwen3-30b", "ended_in": "Read"}),
        (340, 0, 0, 0, 0, 0.4, 0.0, {"outcome": "error", "status": 529, "error": "overloaded"}),
        (301, 1_200, 88_000, 11_000, 1_300, 18.4, 0.091,
         {"ended_in": "Edit", "attempts": 3, "queued_seconds": 4.1, "first_token_seconds": 1.9}),
        (270, 77, 99_000, 610, 133, 3.2, 0.034, {"ended_in": "Read", "first_token_seconds": 0.8}),
    ]  # fmt: skip
    found = []
    for number, (ago, fresh, read, write, out, seconds, usd, more) in enumerate(calls):
        fields: dict[str, Any] = {
            "call": f"m{number}", "started": NOW - ago, "provider": "openai", "model": "gpt-5.1-codex",
            "input": fresh, "cache_read": read, "cache_write": write, "output": out, "seconds": seconds,
            "cost_usd": usd, "outcome": "ok", "status": 200, "agent": "f4b2", "name": "migrate", "run": 1,
        }  # fmt: skip
        found.append(CallInfo(**(fields | more)))
    return [*found, HELD]


def providers() -> list[ProviderInfo]:
    """Four: well, at its limit, broken, and without a key."""
    return [
        ProviderInfo(
            name="anthropic", protocol="anthropic", base_url="https://api.anthropic.com", auth="key",
            running=3, calls_minute=41,
            limits=[LimitInfo(what="tokens", limit=400 * K, left=147 * K, resets_at=NOW + 21,
                              source="learned"),
                    LimitInfo(what="requests", limit=50, left=9, resets_at=NOW + 21, source="learned"),
                    LimitInfo(what="concurrency", limit=8, left=5)],
            models={"claude-opus-4-5": [LimitInfo(what="output_tokens", limit=80 * K, left=75 * K)]},
        ),
        ProviderInfo(
            name="openai", protocol="openai-responses", base_url="https://api.openai.com/v1", auth="key",
            breaker="half-open", breaker_why="5 of 6 calls failed: 529 overloaded", retry_at=NOW + 4,
            running=1, waiting=12, fallback="local", calls_minute=8, errors_minute=5,
            limits=[LimitInfo(what="tokens", limit=800 * K, left=622 * K, source="learned")],
        ),
        ProviderInfo(
            name="local", protocol="openai-chat", base_url="http://127.0.0.1:11434/v1", auth="none",
            running=1, calls_minute=6, limits=[LimitInfo(what="concurrency", limit=2, left=1)],
        ),
        ProviderInfo(
            name="gemini", protocol="gemini", base_url="https://generativelanguage.googleapis.com",
            auth="key", key="missing", breaker="open", breaker_why="no key", waiting=0,
        ),
    ]  # fmt: skip


class SampleMoney:
    """The verbs about money, calls and providers, over the lists above."""

    rows: dict[str, Row]
    sums: Header
    calls: list[tuple[str, Any]]
    """Every verb with its request."""

    def __init__(self) -> None:
        self.budget_list = budgets() if self.rows else []
        self.approval_list = approvals() if self.rows else []
        self.provider_list = providers()
        self.call_list = model_calls() if self.rows else []
        self.looked: dict[str, int] = {}
        """How often each of the reading verbs was called."""

    def _alive(self) -> None:
        raise NotImplementedError

    def push(self, *rows: Row, sums: Header | None = None) -> None:
        raise NotImplementedError

    def _read(self, verb: str) -> None:
        self._alive()
        self.looked[verb] = self.looked.get(verb, 0) + 1

    def _budget(self, name: str) -> BudgetInfo:
        for info in self.budget_list:
            if info.budget.name == name:
                return info
        raise UsageError(f"no budget {name}", "", "agenttop budget lists them")

    def ask(self, *questions: ApprovalInfo) -> None:
        """Let more calls be held until a person has answered."""
        self.approval_list += questions
        self.push(sums=self.sums._replace(approvals=len(self.approval_list)))

    async def budgets(self) -> list[BudgetInfo]:
        self._read("budgets")
        return [info.model_copy() for info in self.budget_list]

    async def set_budget(self, request: BudgetRequest) -> BudgetInfo:
        self._alive()
        self.calls.append(("set_budget", request))
        wanted = request.budget
        target = next((r.id for r in self.rows.values() if wanted.target in (r.name, r.id)), wanted.target)
        kept = wanted.model_copy(update={"target": target if wanted.scope == "agent" else wanted.target})
        old = next((info for info in self.budget_list if info.budget.name == wanted.name), None)
        info = (old or BudgetInfo(budget=kept)).model_copy(
            update={"budget": kept, "limit_usd": None if kept.usd is None else float(kept.usd),
                    "limit_tokens": kept.tokens, "target_name": self.rows[target].name
                    if target in self.rows else ""}
        )  # fmt: skip
        self.budget_list = [*(b for b in self.budget_list if b is not old), info]
        return info

    async def extend_budget(self, request: ExtendRequest) -> BudgetInfo:
        self._alive()
        self.calls.append(("extend_budget", request))
        info = self._budget(request.name)
        if request.usd:
            if info.limit_usd is None:
                raise UsageError(f"budget {request.name} has no limit in usd")
            info.limit_usd += request.usd
        if request.tokens:
            info.limit_tokens = (info.limit_tokens or 0) + request.tokens
        return info

    async def remove_budget(self, name: str) -> None:
        self._alive()
        self.calls.append(("remove_budget", name))
        self.budget_list.remove(self._budget(name))

    async def approvals(self) -> list[ApprovalInfo]:
        self._read("approvals")
        return list(self.approval_list)

    async def answer(self, request: AnswerRequest) -> list[Outcome]:
        self._alive()
        self.calls.append(("answer", request))
        refs = set(request.refs)
        meant = [a for a in self.approval_list if request.all or {a.approval, a.agent, a.name} & refs]
        self.approval_list = [a for a in self.approval_list if a not in meant]
        done = {"once": "one call let through", "extend": "extended", "allow": "allowed", "deny": "denied",
                "kill": "killed"}[request.answer]  # fmt: skip
        freed = [
            self.rows[a.agent]._replace(state="planning", reason=None, detail="call", needs=False)
            for a in meant if a.agent in self.rows
        ]  # fmt: skip
        self.push(*freed, sums=self.sums._replace(approvals=len(self.approval_list)))
        return [Outcome(ref=a.approval, id=a.agent, name=a.name, done=done) for a in meant]

    async def model_calls(self, request: CallsRequest) -> list[CallInfo]:
        self._read("model_calls")
        found = [
            call for call in self.call_list
            if (not request.refs or {call.agent, call.name} & set(request.refs))
            and (not request.held or call.state == "held")
        ]  # fmt: skip
        return found[-request.limit :]

    async def usage(self, request: UsageRequest) -> list[UsageRow]:
        """Half a dollar to four, the later the more, in each step of time since ``since``."""
        self._read("usage")
        form = "%Y-%m-%d %H:%M" if request.by[0] == "minute" else "%Y-%m-%d %H:00"
        step = {"minute": 60.0, "hour": HOUR}.get(request.by[0], 24 * HOUR)
        begin, end = (request.since or MIDNIGHT) // step * step, request.until or NOW
        count = int((end - begin) // step) + 1
        share = len(request.refs) / (5 * len(EVERYBODY)) if request.refs else 1.0
        return [
            UsageRow(keys=[time.strftime(form, time.localtime(begin + n * step))], calls=4,
                     cost_usd=share * (0.4 + 2.6 * n / max(1, count - 1)),
                     input=40 * K, output=2 * K)
            for n in range(count)
        ]  # fmt: skip

    async def providers(self) -> list[ProviderInfo]:
        self._read("providers")
        return list(self.provider_list)

    def _live(self) -> Sequence[Row]:
        return [r for r in self.rows.values() if not r.observed and r.state not in ("error", "terminated")]

    async def halt(self) -> HaltInfo:
        self._alive()
        self.calls.append(("halt", None))
        stopped = [r._replace(pause="freeze", detail=f"frozen {r.pids}/{r.pids}") for r in self._live()]
        self.push(*stopped, sums=self.sums._replace(halted=True))
        return HaltInfo(
            halted=True, calls_held=4, calls_seconds=0.003, seconds=0.041,
            frozen=[Outcome(ref=r.id, id=r.id, name=r.name, done=r.detail) for r in stopped],
        )  # fmt: skip

    async def unhalt(self) -> HaltInfo:
        self._alive()
        self.calls.append(("unhalt", None))
        thawed = [r._replace(pause=None, detail="") for r in self._live()]
        self.push(*thawed, sums=self.sums._replace(halted=False))
        return HaltInfo(
            halted=False, seconds=0.017,
            frozen=[Outcome(ref=r.id, id=r.id, name=r.name, done="resumed") for r in thawed],
        )  # fmt: skip
