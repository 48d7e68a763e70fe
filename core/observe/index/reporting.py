"""What the keeper told, as people and clients get it: prices put to the sums, findings put into words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...api import CheckInfo, TranscriptReport, TranscriptRequest, TranscriptUsage
from ...journal.events import Usage
from ..contract import Oddities
from ..pricing import Pricing
from .costs import cost
from .summing import Group

#: Unknown kinds of lines that are named, of each CLI.
_KINDS = 8
#: Folders that are named, of each CLI; each managed agent may have one of its own.
_FOLDERS = 6
_MOMENTS = frozenset({"day", "week", "month"})


def report(told: Mapping[str, Any], request: TranscriptRequest, pricing: Pricing) -> TranscriptReport:
    """The answer to a request; blocks a moment.

    Args:
        told: What ``observe.index.keeper`` answered.
    """
    rows: dict[tuple[str, ...], TranscriptUsage] = {}
    total = TranscriptUsage(keys=[])
    for values in told["groups"]:
        group = Group(*values)
        keys = tuple(group.keys)
        if (row := rows.get(keys)) is None:
            row = rows[keys] = TranscriptUsage(keys=group.keys)
        usd = cost(pricing, group.kind, group.model, Usage(*group[5:]), group.band)
        _add(row, group, usd)
        _add(total, group, usd)
    if not total.calls:
        total.cost_usd = 0.0
    return TranscriptReport(
        rows=_in_order(rows, request.by), total=total, files=told["files"], problems=told["problems"]
    )


def _add(row: TranscriptUsage, group: Group, usd: float | None) -> None:
    row.calls += group.calls
    row.input += group.input
    row.cache_read += group.cache_read
    row.cache_write += group.cache_write_5m + group.cache_write_1h
    row.output += group.output
    row.reasoning += group.reasoning
    if usd is None:
        row.unpriced += group.calls
    else:
        row.cost_usd = (row.cost_usd or 0.0) + usd


def _in_order(rows: Mapping[tuple[str, ...], TranscriptUsage], by: list[Any]) -> list[TranscriptUsage]:
    """Times in their order; within one of them, or where none was asked for, the most expensive first."""
    times = [place for place, key in enumerate(by) if key in _MOMENTS]

    def order(item: tuple[tuple[str, ...], TranscriptUsage]) -> tuple[Any, ...]:
        keys, row = item
        tokens = row.input + row.cache_read + row.cache_write + row.output
        return ([keys[place] for place in times], -(row.cost_usd or 0.0), -tokens, keys)

    return [row for _, row in sorted(rows.items(), key=order)]


# --- doctor --agents -------------------------------------------------------------------------------


def checks(
    told: Mapping[str, Any],
    titles: Mapping[str, str],
    failed: Mapping[str, str],
    live: Mapping[str, Oddities],
) -> list[CheckInfo]:
    """A group of lines for each CLI.

    Args:
        told: What ``observe.index.keeper`` found, by observer.
        titles: What the CLIs call themselves, by observer.
        failed: Observers that cannot be used, and why.
        live: What the readers of running sessions did not understand, by observer.
    """
    lines: list[CheckInfo] = []
    for name in dict.fromkeys([*titles, *told, *live]):
        group = titles.get(name, name)
        if name in told:
            lines += _history(group, told[name])
        if name in live:
            lines += _sessions(group, live[name])
    lines += [
        CheckInfo(
            group=name,
            name="reader",
            level="warn",
            found=f"it cannot be used: {why}",
            hint="Remove or repair the package that brings it",
        )
        for name, why in failed.items()
    ]
    return lines


def _history(group: str, found: Mapping[str, Any]) -> list[CheckInfo]:
    lines = []
    there = [path for path, exists in found["roots"] if exists]
    if not (there or found["files"]):
        looked = ", ".join(path for path, _ in found["roots"])
        return [CheckInfo(group=group, name="transcripts", level="ok", found=f"none in {looked}")]
    lines += [CheckInfo(group=group, name="folder", level="ok", found=path) for path in there[:_FOLDERS]]
    if more := len(there[_FOLDERS:]):
        lines.append(
            CheckInfo(group=group, name="folders", level="ok", found=f"{more:,} more, of managed agents")
        )
    gone = f", {_many(found['gone'], 'of them deleted', 'of them deleted')}" if found["gone"] else ""
    lines.append(
        CheckInfo(
            group=group,
            name="transcripts",
            level="ok",
            found=f"{_many(found['files'], 'file')}, {_size(found['bytes'])},"
            f" {_many(found['sessions'], 'session')}{gone}",
        )
    )
    for path, odd, long, error in found["named"]:
        said = [error] if error else []
        said += [f"{_many(odd, 'line')} not understood"] if odd else []
        said += [f"{_many(long, 'line')} passed over because of the length"] if long else []
        lines.append(
            CheckInfo(group=group, name=path, level="warn", found=", ".join(said), hint=_hint(error))
        )
    if found["more"]:
        lines.append(
            CheckInfo(
                group=group,
                name="more",
                level="warn",
                found=f"{_many(found['more'], 'file')} with such lines",
            )
        )
    return lines


def _sessions(group: str, found: Oddities) -> list[CheckInfo]:
    lines = []
    if found.unknown:
        kinds = [f"{kind} ({count}×)" for kind, count in found.unknown.most_common(_KINDS)]
        more = len(found.unknown) - len(kinds)
        kinds += [f"{more} more"] if more > 0 else []
        lines.append(
            CheckInfo(
                group=group, name="unknown kinds of lines", level="warn", found=", ".join(kinds), hint=_NEW
            )
        )
    for count, what in (
        (found.unreadable, "not understood"),
        (found.long, "passed over because of the length"),
    ):
        if count:
            lines.append(
                CheckInfo(
                    group=group,
                    name="running sessions",
                    level="warn",
                    found=f"{_many(count, 'line')} {what}",
                    hint=_NEW if count == found.unreadable else "",
                )
            )
    lines += [
        CheckInfo(group=group, name=path, level="warn", found=why, hint=_hint(why))
        for path, why in sorted(found.problems.items())
    ]
    return lines


_NEW = "Its form may be newer than this agenttop; figures are right for what was understood"


def _hint(error: str) -> str:
    return "Let this user read it, or the calls in it are not counted" if error == "Permission denied" else ""


def _many(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _size(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
