"""``agenttop calls`` and ``agenttop providers``: model calls one by one, and where they go."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from .. import format as f
from . import printing
from .kernel_call import ask
from .options import Json, OptionalRefs

_HEADER = (
    "TIME", "AGENT", "MODEL", "IN", "CACHE", "OUT", "COST", "QUEUED", "FIRST", "TOOK", "STATUS", "ENDED",
)  # fmt: skip
_RIGHT = ("IN", "CACHE", "OUT", "COST", "QUEUED", "FIRST", "TOOK")


def calls(
    refs: OptionalRefs = None,
    count: Annotated[int, typer.Option("--tail", "-n", min=1, max=100_000, help="So many.")] = 50,
    held: Annotated[bool, typer.Option("--held", help="Only those the gateway keeps now.")] = False,
    as_json: Json = False,
) -> None:
    """List model calls, newest last. What each used, cost, and waited for."""
    found = ask("/v1/calls", {"refs": refs or [], "limit": count, "held": held})
    if as_json:
        printing.json(found)
        return
    printing.table(_HEADER, [row(call) for call in found], right=_RIGHT, drop=("QUEUED", "FIRST"))


def row(call: Mapping[str, Any]) -> list[str]:
    """One line of the table."""
    settled = call["state"] == "settled"
    return [
        time.strftime("%H:%M:%S", time.localtime(call["started"])),
        call["name"] or call["agent"],
        f.model(call["model"]) if call["model"] else f.UNKNOWN,
        f.tokens(call["input"]),
        f.tokens(call["cache_read"] + call["cache_write"]),
        f.tokens(call["output"]),
        _cost(call, settled),
        _seconds(call["queued_seconds"] or None),
        _seconds(call["first_token_seconds"]),
        _seconds(call["seconds"]),
        str(call["status"] or f.UNKNOWN) if settled else call["state"],
        _end(call, settled),
    ]


def _cost(call: Mapping[str, Any], settled: bool) -> str:
    if call["cost_usd"] is not None:
        return f.money(call["cost_usd"], 9, exact=call["exact"])
    return "unpriced" if settled and call["input"] + call["output"] else f.UNKNOWN


def _seconds(value: float | None) -> str:
    return f.UNKNOWN if value is None else f"{value:.1f}s"


def _end(call: Mapping[str, Any], settled: bool) -> str:
    if not settled:
        why, more = call["reason"], call["detail"]
        return (more if more.startswith(why) else f"{why} {more}".strip()) or f.UNKNOWN
    if call["outcome"] == "ok":
        return call["ended_in"] or "ok"
    return ": ".join(filter(None, (call["outcome"], call["error"])))


_PROVIDER_HEADER = ("NAME", "PROTOCOL", "KEY", "BREAKER", "RUNNING", "WAITING", "LIMITS", "URL")


def providers(as_json: Json = False) -> None:
    """Show where model calls go. Key, breaker, limits, who runs and who waits."""
    found = ask("/v1/providers")
    if as_json:
        printing.json(found)
        return
    rows = [
        [
            info["name"],
            info["protocol"],
            info["key"],
            _breaker(info),
            str(info["running"]),
            str(info["waiting"]),
            ", ".join(_limit(limit) for limit in info["limits"]) or f.UNKNOWN,
            info["base_url"],
        ]
        for info in found
    ]
    printing.table(_PROVIDER_HEADER, rows, right=("RUNNING", "WAITING"))


def _breaker(info: Mapping[str, Any]) -> str:
    if info["retry_at"] is not None and info["retry_at"] > time.time():
        return f"{info['breaker']} until {f.clock(info['retry_at'])}"
    return str(info["breaker"])


def _limit(limit: Mapping[str, Any]) -> str:
    left = "" if limit["left"] is None else f"{f.tokens(limit['left'])} of "
    what = {"concurrency": "at once", "requests": "calls/min"}.get(limit["what"], f"{limit['what']}/min")
    learned = " (learned)" if limit["source"] == "learned" else ""
    return f"{left}{f.tokens(limit['limit'])} {what.replace('_', ' ')}{learned}"
