"""The head of the details pane: who this is and how it fares, with gauges for context, tokens and CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agenttop.core.api import AgentDetail, AgentInfo, CallInfo
from agenttop.core.api import Row as FleetRow

from ..format import age, clean, model, percent, size, tokens, uptime
from ..look import colour, letter
from ..meters import Meter
from .paper import Row, length, several


class Live(NamedTuple):
    """Everything the head shows, at one moment."""

    detail: AgentDetail
    row: FleetRow | None
    now: float
    cpu: Mapping[int, float | None]
    cores: int
    names: Mapping[str, str]
    """Names by id, for parents and children."""


def state_pieces(info: AgentInfo, row: FleetRow | None, now: float) -> Row:
    """``X executing Bash 41s`` in the colour of the state."""
    state, pause, reason = info.state, None, info.reason
    if row is not None:
        state, pause, reason = row.state, row.pause, row.reason
    elif info.state == "paused":
        pause = info.reason
    ink = colour(state, pause, reason)
    word = {"freeze": "frozen", "hold": "held"}.get(pause or "", state)
    said = [part for part in (reason if not pause else None, row.detail if row else info.detail) if part]
    since = row.since if row is not None else info.since
    pieces: Row = [(f"{letter(state, pause)} {word}", f"{ink} bold")]
    # A pause's detail begins with the word that stands there already: "frozen 4/4", "held".
    text = " ".join(dict.fromkeys(clean(part) for part in said)).removeprefix(word).strip()
    if since is not None:
        text = f"{text} {age(now - since)}".strip()
    return [*pieces, (f" {text}", ink)] if text else pieces


def identity(live: Live, width: int) -> Row:
    """The first line; what does not fit goes from the end."""
    info = live.detail.info
    groups: list[Row] = [
        [(clean(info.name), "bright bold"), (f" {info.id}", "muted")],
        state_pieces(info, live.row, live.now),
        [(clean(info.template or "custom"), "fg"), (f" {clean(info.backend)}", "muted")],
        [(model(info.model) if info.model else "no model yet", "fg" if info.model else "muted")],
        [("nice ", "label"), (str(info.nice), "fg")],
        [("owner ", "label"), (clean(info.owner), "fg")],
    ]
    if info.parent:
        groups.append([("parent ", "label"), (clean(live.names.get(info.parent, info.parent)), "fg")])
    if live.detail.children:
        word = "child " if len(live.detail.children) == 1 else "children "
        groups.append(
            [(word, "label"), (clean(several([live.names.get(c, c) for c in live.detail.children])), "fg")]
        )
    groups.append([("run ", "label"), (str(info.run or "-"), "fg")])
    if info.started_at is not None:
        end = info.ended_at if info.ended_at is not None else live.now
        groups.append(
            [("up " if info.ended_at is None else "ran ", "label"), (uptime(end - info.started_at), "fg")]
        )
    line: Row = [(" ", "")]
    for group in groups:
        if length(line) + length(group) > width:
            break
        line += [*group, ("   ", "")]
    return line[:-1]


def context_meter(live: Live) -> Meter:
    """Context in use, its cached part apart where the last call tells."""
    info = live.detail.info
    used, limit = info.context_tokens, info.context_limit
    if used is None:
        return Meter("CTX", (), 1, "no calls yet", True)
    last = next((call for call in reversed(live.detail.calls) if call.state == "settled"), None)
    cached = min(used, last.cache_read) if last else 0
    parts = (("tok-cache-read", float(cached)), ("tok-input", float(used - cached)))
    text = (
        f"{tokens(used)}/{tokens(limit)} in context"
        if limit
        else f"{tokens(used)} in context, limit not known"
    )
    return Meter("CTX", parts, float(limit or used or 1), text)


def budget_meter(live: Live) -> Meter:
    """The tightest budget, where there are budgets."""
    used = live.row.budget if live.row is not None else None
    if used is None:
        return Meter("BUD", (), 1, "observed" if live.detail.info.observed else "no budget covers it", True)
    return Meter(
        "BUD", (("good" if used < 70 else "warn" if used < 90 else "bad", float(used)),), 100, f"{used}%"
    )


def token_meter(live: Live) -> Meter:
    """The last minute's tokens by bucket; the scale is the highest of the last twenty."""
    row = live.row
    if row is None:
        return Meter("TOK", (), 1, "-", True)
    buckets = minute(live.detail.calls, live.now)
    total = sum(buckets.values())
    if total:
        parts = tuple((name, row.rate * amount / total) for name, amount in buckets.items())
    else:
        parts = (("tok-input", float(row.rate)),)
    peak = max((*row.spark, row.rate), default=0)
    mark = "" if row.rate_exact else "~"
    return Meter(
        "TOK", parts, float(peak or 1), f"{mark}{tokens(row.rate)} tok/min, peak {tokens(peak)}", not row.rate
    )


def minute(calls: Sequence[CallInfo], now: float) -> dict[str, int]:
    """Tokens by bucket of the calls that ran in the last minute."""
    recent = [call for call in calls if call.started + (call.seconds or now - call.started) >= now - 60]
    return {
        "tok-input": sum(call.input for call in recent),
        "tok-cache-read": sum(call.cache_read for call in recent),
        "tok-cache-write": sum(call.cache_write for call in recent),
        "tok-output": sum(call.output for call in recent),
    }


def cpu_meter(live: Live) -> Meter:
    """CPU of the tree, and its memory against the limit if it has one."""
    info, spec = live.detail.info, live.detail.spec
    limit = spec.limits.memory if spec is not None else None
    known = [value for value in live.cpu.values() if value is not None]
    share = sum(known) if known else (live.row.cpu if live.row is not None else info.cpu_percent)
    used = info.memory if live.row is None or live.row.memory is None else live.row.memory
    memory = size(used) + (f"/{size(limit)}" if limit else "")
    if share is None:
        return Meter("CPU", (), 1, f"- of {live.cores} cores, {memory}", True)
    over = percent(used, limit) or 0
    ink = "good" if over < 80 else "warn" if over < 90 else "bad"
    cores = f"{live.cores} core" + ("s" if live.cores != 1 else "")
    return Meter("CPU", ((ink, share),), 100.0 * max(1, live.cores), f"{share:.1f}% of {cores}, {memory}")
