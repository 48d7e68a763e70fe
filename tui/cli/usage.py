"""``agenttop usage``: what the agents on this machine have used so far, by their own transcripts."""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any

import typer

from agenttop.core.errors import UsageError

from .. import format as f
from . import printing
from .kernel_call import ask
from .options import Json

KEYS = ("day", "week", "month", "project", "model", "agent", "session")
_FIGURES = ("CALLS", "IN", "CACHE R", "CACHE W", "OUT", "COST")
#: Cells that a name keeps, however narrow the terminal.
_LEAST = 8
_ZONES = "/zoneinfo/"
#: Variables by which the CLIs are told where to keep their transcripts.
_PLACES = re.compile(r"HOME|\w+_(?:HOME|DIR|ROOT|FILE|DB|LOG)")
#: Seconds of silence after which somebody who looks on is told why.
_SILENCE = 1.0


def usage(
    by: Annotated[
        str, typer.Option("--by", "-b", metavar="KEYS", help="One or more of " + ",".join(KEYS) + ".")
    ] = "day",
    since: Annotated[
        str | None,
        typer.Option(metavar="DAY", help="First day: 2026-11-01, today, yesterday, or 7d (days ago)."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="DAY", help="Last day, likewise.")] = None,
    agent: Annotated[
        list[str] | None,
        typer.Option("--agent", "-a", metavar="CLI", help="Only this CLI, such as claude; repeatable."),
    ] = None,
    project: Annotated[
        list[str] | None,
        typer.Option(
            "--project",
            "-p",
            metavar="FOLDER",
            help="Only this folder and all below it, or folders of this name; repeatable.",
        ),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(
            "--timezone", "-z", metavar="ZONE", help="Whose days, such as Europe/Berlin; else yours."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Sum up what agent CLIs used so far. Launched here or not, as their own transcripts tell it."""
    keys = _keys(by)
    _refuse_empty(agent=agent, project=project, timezone=timezone)
    zone = timezone or local_zone()
    first, end = _moment(since, zone, 0), _moment(until, zone, 1)
    if first is not None and end is not None and first >= end:
        raise UsageError(
            f"the time begins after its end: {since} to {until}", hint="Say --since FIRST --until LAST"
        )
    told = _told(
        {
            "by": keys,
            "agents": agent or [],
            "projects": [path for one in project or [] for path in _project(one)],
            "since": first,
            "until": end,
            "timezone": zone,
            "environ": _places(),
        }
    )
    if as_json:
        printing.json(document(told, keys, zone))
        return
    if told["rows"]:
        table(told, keys)
    else:
        printing.note("no calls. `agenttop doctor --agents` says where transcripts are looked for")
    if told["problems"]:
        count = (
            f"{told['problems']:,} {'line or file was' if told['problems'] == 1 else 'lines or files were'}"
        )
        printing.note(f"{count} not understood: `agenttop doctor --agents`")


def _told(request: Mapping[str, Any]) -> Any:
    """The kernel's answer; the first one may take a while, and then it is said why."""
    patient = threading.Timer(_SILENCE, printing.note, ["reading what is new in the transcripts…"])
    if sys.stderr.isatty():
        patient.start()
    try:
        return ask("/v1/transcripts", request, patient=True)
    finally:
        patient.cancel()


def _refuse_empty(**options: str | Sequence[str] | None) -> None:
    """What a script has left empty would else mean all, or nothing."""
    for name, said in options.items():
        if said == "" or (
            said and "" in [word.strip() for word in ([said] if isinstance(said, str) else said)]
        ):
            raise UsageError(f"--{name} is empty", hint="Give it a value, or leave it out")


def _keys(text: str) -> list[str]:
    keys = [word.strip().lower() for word in text.split(",") if word.strip()]
    for key in keys:
        if key not in KEYS:
            raise UsageError(f"{key} is nothing to sum by", hint=f"Take {', '.join(KEYS)}")
    if not keys or len(set(keys)) < len(keys) or len(keys) > 5:
        raise UsageError(
            f"--by {text} cannot be", "It is one to five keys, each once", f"Take {', '.join(KEYS)}"
        )
    return keys


def _project(text: str) -> list[str]:
    """A folder, as it is called and as it is; or, without a slash, a name."""
    if "/" in text or text in (".", "..", "~"):
        path = os.path.abspath(os.path.expanduser(text))
        return [path, os.path.realpath(path)]
    return [text]


def local_zone() -> str | None:
    """The IANA name of this process's time zone, as far as it has one."""
    if (name := os.environ.get("TZ", "").lstrip(":")) and not name.startswith("/"):
        return name if _known(name) else None
    _, found, name = os.path.realpath(os.environ.get("TZ", "").lstrip(":") or "/etc/localtime").partition(
        _ZONES
    )
    return name if found and _known(name) else None


def _known(name: str) -> bool:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _moment(text: str | None, zone: str | None, after: int) -> float | None:
    """The beginning of a day, or of the one ``after`` it, in seconds since the epoch.

    Raises:
        UsageError: It is no day, or the zone is not known.
    """
    if text is None:
        return None
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        place = ZoneInfo(zone) if zone else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(
            f"the time zone {zone} is not known here", hint="Take an IANA name such as Europe/Berlin"
        ) from None
    day = _day(text, datetime.now(place).date())
    try:
        day += timedelta(days=after)
        return datetime(day.year, day.month, day.day, tzinfo=place).timestamp()
    except (ValueError, OverflowError, OSError):  # the first and the last days of the calendar
        raise _no_day(text) from None


def _day(text: str, today: date) -> date:
    word = text.strip().lower()
    if word in ("today", "yesterday"):
        return today - timedelta(days=word == "yesterday")
    try:
        if (ago := re.fullmatch(r"(\d{1,6})d", word)) is not None:
            return today - timedelta(days=int(ago[1]))
        return date.fromisoformat(word)
    except (ValueError, OverflowError):
        raise _no_day(text) from None


def _no_day(text: str) -> UsageError:
    return UsageError(f"{text!r} is not a day", hint="Take 2026-11-01, today, yesterday or 7d")


def _places() -> dict[str, str]:
    """Where this person's CLIs keep things, as the environment says; the kernel's may be another."""
    found = [(name, value) for name, value in sorted(os.environ.items()) if _PLACES.fullmatch(name)]
    return dict(found[:100])


def document(told: Mapping[str, Any], keys: Sequence[str], zone: str | None) -> dict[str, Any]:
    """The answer as ``--json`` prints it; these names do not change."""

    def named(row: Mapping[str, Any]) -> dict[str, Any]:
        values = dict(row)
        return {**dict(zip(keys, values.pop("keys"), strict=False)), **values}

    return {
        "by": list(keys),
        "timezone": zone,
        "rows": [named(row) for row in told["rows"]],
        "total": named(told["total"]),
        "files": told["files"],
        "problems": told["problems"],
    }


def table(told: Mapping[str, Any], keys: Sequence[str]) -> None:
    """The answer for a person: as wide as it is in a pipe, within the edge in a terminal."""
    rows = [[*_shown(keys, row["keys"]), *_figures(row)] for row in told["rows"]]
    total = ["total", *[""] * (len(keys) - 1), *_figures(told["total"])]
    header = [*[key.upper() for key in keys], *_FIGURES]
    if sys.stdout.isatty():
        _narrow([header, *rows, total], keys, shutil.get_terminal_size().columns)
    printing.table(header, [*rows, total], right=_FIGURES)


def _shown(keys: Sequence[str], values: Sequence[str]) -> list[str]:
    return [
        f.clean(f.model(value) if key == "model" and value else _homely(value) if key == "project" else value)
        or f.UNKNOWN
        for key, value in zip(keys, values, strict=True)
    ]


def _homely(path: str) -> str:
    home = os.path.expanduser("~")
    return f"~{path[len(home) :]}" if path == home or path.startswith(f"{home}/") else path


def _figures(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['calls']:,}",
        *[f.tokens(row[name]) for name in ("input", "cache_read", "cache_write", "output")],
        _cost(row),
    ]


def _cost(row: Mapping[str, Any]) -> str:
    """USD; ``+`` behind a sum that lacks calls without a known price."""
    if row["cost_usd"] is None:
        return "unpriced" if row["unpriced"] else f.UNKNOWN
    text = f.money(row["cost_usd"], 9)
    return f"{text}+" if row["unpriced"] else text


def _narrow(rows: list[list[str]], keys: Sequence[str], edge: int) -> None:
    """Shorten the longest of projects, models and sessions until the lines fit."""
    widths = [max(f.width(row[place]) for row in rows) for place in range(len(rows[0]))]
    over = sum(widths) + 2 * (len(widths) - 1) - edge
    for place in sorted(range(len(keys)), key=lambda place: -widths[place]):
        if over <= 0 or keys[place] in ("day", "week", "month"):
            continue
        cells = max(_LEAST, widths[place] - over)
        over -= widths[place] - cells
        shorten = _tail if keys[place] == "project" else f.cut_middle
        for row in rows[1:]:
            row[place] = shorten(row[place], cells)


def _tail(text: str, cells: int) -> str:
    """The end of a path, which is what tells projects apart."""
    return f.cut(text[::-1], cells)[::-1]
