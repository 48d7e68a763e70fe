"""The details' pages that are one list: events, the spec, and what later versions bring."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from agenttop.core.api import AgentDetail, AgentInfo, BudgetInfo, EventInfo

from ..budgets import amounts, lasts, window
from ..format import UNKNOWN, clean, clock, size, uptime
from .budget_table import bar
from .gauge import Live
from .paper import Row, column, rule, wrapped

#: Where a later version puts something, and what one can do until then.
LATER = {
    "Mail": ("mailbox", "Mail comes with the bus, in a later version."),
    "Memory": ("memory", "Memory tiers come in a later version."),
}


def ending(info: AgentInfo) -> str:
    """Why there is no process, and what it said last if it failed."""
    last = f": {clean(info.last_line)}" if info.last_line else ""
    return f"{_end(info)}{last}"


def _end(info: AgentInfo) -> str:
    if info.exit_signal is not None:
        return f"ended by signal {info.exit_signal}"
    if info.exit_code is not None:
        return f"exit {info.exit_code}"
    return clean(info.detail) or clean(info.state)


def later(width: int) -> list[Row]:
    """What the overview has no data for yet: a ``-`` is honest, an empty gauge is not."""
    rows: list[Row] = []
    for title in ("Memory", "Mail"):
        rows += [rule(title, width), [(" -", "muted")]]
    return rows


def budget_rows(
    infos: Sequence[BudgetInfo], width: int, most: int = 4, *, observed: bool = False
) -> list[Row]:
    """``api  ━━━━───  3.54/8.00  lasts 1h14  ask``: the budgets that cover an agent, the tightest first."""
    side = f"{len(infos)} cover it, 5 for all" if len(infos) > 1 else "5 for all"
    found: list[Row] = [rule("Budgets", width, side)]
    if observed:
        return [*found, [(" observed: its calls do not pass the gateway", "muted")]]
    if not infos:
        return [*found, [(" no budget covers it: b makes one", "muted")]]
    cells = max(6, width - 55)
    for info in infos[:most]:
        of = amounts(info)
        text = f"{of.say(of.spent)}/{of.say(of.limit)}"
        left = lasts(info)
        said = "holds it now" if left == "now" else f"lasts {left}" if left != UNKNOWN else ""
        found.append([
            (" ", ""), column(info.budget.name, 14, "label"), column(window(info), 6, "muted"),
            *bar(of, cells), (text.rjust(15), "fg"), ("  ", ""),
            column(said, 13, "state-needs-you bold" if left == "now" else "muted"),
            (info.budget.action, "muted"),
        ])  # fmt: skip
    if len(infos) > most:
        found.append([(f" and {len(infos) - most} more", "muted")])
    return found


def rows(tab: str, live: Live, events: Sequence[EventInfo], width: int) -> list[Row]:
    """One page."""
    if tab == "Events":
        return event_rows(events)
    if tab == "Spec":
        return spec_rows(live, width)
    what, text = LATER.get(tab, (tab.lower(), ""))
    return [[], [(f" {what.ljust(12)}", "label"), ("-", "muted")], [], [(f" {text}", "muted")]]


def event_rows(events: Sequence[EventInfo]) -> list[Row]:
    """Journal rows, the newest first."""
    found: list[Row] = [
        [(f" {event.seq:>8} ", "muted"), (f"{clock(event.ts)}  ", "muted"), (f"{event.kind:<18} ", "label"),
         (clean(event.text), "fg")]
        for event in reversed(events)
    ]  # fmt: skip
    return found or [[(" no event yet", "muted")]]


def spec_rows(live: Live, width: int) -> list[Row]:
    """What it was started from, with everything that is not a default, then its runs."""
    spec, detail = live.detail.spec, live.detail
    if spec is None:
        return observed_rows(detail, width)
    found: list[Row] = []
    command = shlex.join(detail.info.command or spec.command)
    found += _fact("command", command or "-", width)
    found += _fact("folder", detail.info.cwd or spec.cwd or "-", width)
    found += _fact("output", detail.folder or "-", width)
    for name, value in spec.model_dump(exclude_defaults=True, mode="json").items():
        if name not in ("command", "cwd", "name"):
            found += _fact(name, _text(name, value), width)
    if detail.runs:
        found.append(rule("Runs", width))
        found += [_run(run, live.now) for run in reversed(detail.runs)]
    return found


def observed_rows(detail: AgentDetail, width: int) -> list[Row]:
    """What is known of an agent that somebody else started; estimates are marked ``~``."""
    info, known = detail.info, detail.observed
    found: list[Row] = [[(" observed: not started by agenttop; its transcript tells what is shown", "muted")]]
    if known is None:
        return found
    likely = "" if known.session_exact else "~"
    facts = {
        "program": known.title,
        "command": shlex.join(info.command),
        "folder": info.cwd,
        "branch": known.branch,
        "session": f"{likely}{known.session}" if known.session else None,
        "transcript": f"{likely}{known.transcript}" if known.transcript else None,
        "context": f"{info.context_tokens:,} of {info.context_limit or UNKNOWN} tokens"
        if info.context_tokens is not None
        else None,
        "state": info.state + (f" ({info.reason})" if info.reason else "")
        + ("" if known.state_certain else ", inferred"),
        "last tool": known.tool,
        "last call": clock(known.last_call) if known.last_call is not None else None,
        "asked": known.prompt,
        "terminal": "yes" if known.terminal else "no",
    }  # fmt: skip
    for name, value in facts.items():
        found += _fact(name, clean(str(value)) if value else UNKNOWN, width)
    if known.not_permitted:
        found += _fact("not permitted", "; ".join(known.not_permitted), width)
    if known.subagents:
        found.append(rule("Subagents", width))
        found += [[(f" {clean(name)}", "fg")] for name in known.subagents]
    return found


def _text(name: str, value: Any) -> str:
    if isinstance(value, dict):
        if name == "limits" and value.get("memory"):
            value = {**value, "memory": size(value["memory"])}
        return "  ".join(f"{key}={part}" for key, part in value.items()) or "-"
    if isinstance(value, list):
        return "  ".join(str(part) for part in value)
    return str(value)


def _fact(name: str, text: str, width: int) -> list[Row]:
    lines = wrapped(text, max(10, width - 16), "fg", 15)
    return [[(f" {clean(name):<14}", "label"), *lines[0][1:]], *lines[1:]]


def _run(run: dict[str, Any], now: float) -> Row:
    """``run 4  05:33:51  6s  exit 1  pid 4211``: when, how long, how it ended, and what it was."""
    begun, ended = run.get("starting"), run.get("ended")
    when = clock(begun) if begun is not None else UNKNOWN
    lasted = uptime((ended if ended is not None else now) - begun) if begun is not None else UNKNOWN
    if run.get("signal") is not None:
        how = f"signal {run['signal']}"
    elif run.get("code") is not None:
        how = f"exit {run['code']}"
    else:
        how = "runs" if ended is None else str(run.get("cause") or "ended")
    ref = run.get("ref") or {}
    facts = [f"pid {ref['pid']}"] if ref.get("pid") else []
    facts += [str(ref["name"])] if ref.get("name") else []
    facts += [str(run["detail"])] if run.get("detail") else []
    return [
        (f" run {run.get('number', '?')!s:<9} ", "label"), (f"{when}  {lasted:>8}  ", "muted"),
        (f"{clean(how):<10}", "fg"), (clean("  ".join(facts)), "muted"),
    ]  # fmt: skip
