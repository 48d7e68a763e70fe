"""What a question to a person says, and the answers there are: rows as data, for the approval dialog."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..budgets import Amounts, Need, amounts, covering
from ..format import age, clean, level, model, tokens
from .paper import Piece, Row, column, counted, rule, wrapped

if TYPE_CHECKING:
    from agenttop.core.api import ApprovalInfo, BudgetInfo, CallInfo

LABELS = 14


class Asked(NamedTuple):
    """One question with everything known about it."""

    question: ApprovalInfo
    budgets: Sequence[BudgetInfo]
    calls: Sequence[CallInfo]
    """The agent's last calls, the held one among them."""
    task: str
    more: Need
    """By how much an extension would be."""

    @property
    def info(self) -> BudgetInfo | None:
        """The budget that asks."""
        return next((one for one in self.budgets if one.budget.name == self.question.budget), None)


class Choice(NamedTuple):
    """One of the things that can be done."""

    id: str
    key: str
    words: str
    note: str
    ink: str = "bright"


# --- the question ------------------------------------------------------------------------------


def listed(questions: Sequence[ApprovalInfo], at: str, now: float, width: int, most: int) -> list[Row]:
    """All open questions, a window around the one that is shown; nothing where there is only one."""
    if len(questions) < 2:
        return []
    place = next((n for n, one in enumerate(questions) if one.approval == at), 0)
    top = max(0, min(place - most // 2, len(questions) - most))
    rows: list[Row] = [rule(f"{len(questions)} wait for you", width, f"{place + 1} of {len(questions)}")]
    for one in questions[top : top + most]:
        chosen = one.approval == at
        colour = "bright bold" if chosen else "muted"
        rows.append([
            ("▌" if chosen else " ", "state-needs-you"), column(one.name, 20, colour),
            column(one.about, 10, colour), column(model(one.model) if one.model else "-", 16, colour),
            (age(now - one.since), colour),
        ])  # fmt: skip
    return [*rows, []]


def rows(asked: Asked, width: int) -> list[Row]:
    """The question in words, then what it is about, fact by fact."""
    question = asked.question
    found = [*wrapped(question.question, width - 2, "fg", 1), []]
    if question.about == "budget":
        if asked.info is not None:
            found += _breach(asked.info, question, max(10, min(60, width - 30)))
        found.append(_figures(asked))
    return [*found, *_facts(asked)]


def _label(text: str) -> Piece:
    return (f" {text}".ljust(LABELS), "label")


def _needed(question: ApprovalInfo, of: Amounts) -> float:
    return (question.needed_usd if of.usd else question.needed_tokens) or 0.0


def _breach(info: BudgetInfo, question: ApprovalInfo, cells: int) -> list[Row]:
    """The bar: spent, then the held call's worst case dashed, with the limit marked; figures below."""
    of = amounts(info)
    needed, taken = _needed(question, of), of.spent + of.reserved
    whole = max(of.limit, taken + needed) * 1.06 or 1.0
    spent = min(cells, round(cells * taken / whole))
    call = min(cells, max(spent + 1, round(cells * (taken + needed) / whole)))
    mark = min(cells - 1, round(cells * of.limit / whole))
    colour = level(max(70, of.used))
    bar: Row = []
    for start, end, char, ink in (
        (0, spent, "━", colour),
        (spent, call, "╍", "bad"),
        (call, cells, "─", "rule"),
    ):
        if start <= mark < end:
            bar += [(char * (mark - start), ink), ("┃", "bright bold"), (char * (end - mark - 1), ink)]
        else:
            bar.append((char * (end - start), ink))
    limit = f"limit {of.say(of.limit)}"
    below = f"spent {of.say(of.spent)}" + (f", {of.say(of.reserved)} reserved" if of.reserved else "")
    gap = max(2, min(mark - len(limit) // 2, cells - len(limit)) - len(below))
    return [
        [_label(clean(info.budget.name)[: LABELS - 3]), *(piece for piece in bar if piece[0]),
         (f"  {of.used}% spent", f"{level(of.used)} bold")],
        [_label(""), (below, colour), (" " * gap, ""), (limit, "bright")],
        [],
    ]  # fmt: skip


def _figures(asked: Asked) -> Row:
    """Both figures, and what the call will likely cost going by the last ones."""
    question = asked.question
    if question.needed_usd is None:
        left = tokens(max(0, question.left_tokens or 0))
        needed = f"at most {tokens(question.needed_tokens)} tokens"
        return [_label("this call"), (needed, "bad bold"), (f"   left {left}", "bright")]
    needed, left = per_call(question.needed_usd), per_call(max(0.0, question.left_usd or 0.0))
    row: Row = [_label("this call"), (f"at most {needed}", "bad bold"), (f"   left {left}", "bright")]
    costs = [call.cost_usd for call in asked.calls if call.state == "settled" and call.cost_usd]
    if costs:
        spread = f"  (last {counted(len(costs), 'call')}: {per_call(min(costs))} to {per_call(max(costs))})"
        row += [(f"   ~{per_call(sum(costs) / len(costs))} likely", "num-estimated"), (spread, "muted")]
    return row


def per_call(usd: float) -> str:
    """``0.31``; below ten cents with three decimals."""
    return f"{usd:.2f}" if usd >= 0.1 or not usd else f"{usd:.3f}"


def _facts(asked: Asked) -> list[Row]:
    question = asked.question
    held = next((call for call in asked.calls if call.call == question.call), None)
    about = [clean(question.provider or ""), clean(question.model or "")]
    if held is not None and held.input:
        about.append(f"{tokens(held.input)} in context")
    found: list[Row] = [[_label("goes to"), (", ".join(part for part in about if part) or "-", "fg")]]
    if asked.task:
        found.append([_label("pays for"), (clean(asked.task), "fg")])
    others = [one for one in covering(asked.budgets, question.agent) if one.budget.name != question.budget]
    if others:
        said = [(clean(one.budget.name), amounts(one)) for one in others[:2]]
        text = "   ".join(f"{name} {of.say(of.spent)}/{of.say(of.limit)}" for name, of in said)
        text += f"   and {len(others) - 2} more" if len(others) > 2 else ""
        tight = sum(of.left < _needed(question, of) for of in map(amounts, others))
        note = f"   {counted(tight, 'has', 'have')} no room" if tight else "   all have room"
        found.append([_label("also limits"), (text, "fg"), (note, "warn" if tight else "muted")])
    if not question.held:
        text = "its client hung up meanwhile; the answer resumes the agent"
        found.append([_label("gave up"), (text, "warn")])
    return found


# --- the answers -------------------------------------------------------------------------------


def choices(asked: Asked, *, ascii: bool = False) -> list[Choice]:
    """What can be done with it, the suggestion first."""
    question = asked.question
    always = [
        Choice("deny", "n", "Deny it", "a refusal its client understands; it may stop"),
        Choice("freeze", "f", "Freeze", "until you resume it; the call stays held"),
        Choice("kill", "x", "Kill…", "shows first what would die", "bad bold"),
    ]
    if question.about == "runaway":
        return [Choice("allow", "a", "Allow it", "these calls are meant: it goes on"), *always]
    over = (question.needed_usd or 0.0) - max(0.0, question.left_usd or 0.0)
    note = f"up to {per_call(over)} over the limit; " if question.needed_usd is not None and over > 0 else ""
    once = Choice("once", "1", "Let one call through", f"{note}asks again next time")
    if asked.info is None or not (asked.more.usd or asked.more.tokens):
        return [once, *always]
    arrows = ("<", ">") if ascii else ("‹", "›")
    words = f"Extend by  {arrows[0]} +{said(asked.more)} {arrows[1]}"
    return [Choice("extend", "e", words, _extended(asked.info, asked.more)), once, *always]


def said(more: Need) -> str:
    """``2.00``, ``50k tokens``, or both."""
    parts = [f"{more.usd:.2f}"] if more.usd else []
    return " and ".join([*parts, *([f"{tokens(more.tokens)} tokens"] if more.tokens else [])])


def _extended(info: BudgetInfo, more: Need) -> str:
    """What an extension gives: the new limit, and how much longer that is at this pace."""
    of = amounts(info)
    amount = more.usd if of.usd else more.tokens
    text = f"to {of.say(of.limit + amount)}"
    if not of.burn:
        return text
    seconds = amount / of.burn * (3600 if of.usd else 60)
    return f"{text}; at {of.pace()}{'/h' if of.usd else ''} that is {age(seconds)} more"


def choice_rows(offered: Sequence[Choice], at: int, width: int) -> list[Row]:
    """The answers with their keys, the chosen one under a bar."""
    found: list[Row] = []
    for number, choice in enumerate(offered):
        words = f"  {choice.key}  {choice.words}".ljust(32)
        if number == at:
            found.append([((words + choice.note)[:width].ljust(width), "cursor-fg/cursor-bg bold")])
        else:
            found.append([(words[:5], "label bold"), (words[5:], choice.ink), (choice.note, "muted")])
    return found
