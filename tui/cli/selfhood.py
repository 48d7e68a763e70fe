"""What an agent asks about itself and others, without typer: ``whoami agents progress`` (``selves.py``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import format as f
from . import printing
from .syscall import ask as call


def whoami(*, as_json: bool = False) -> None:
    """Print who asks."""
    found = call("whoami")
    if as_json:
        printing.json(found)
        return
    facts = {
        "name": found["name"],
        "id": found["id"],
        "team": found["team"],
        "parent": found["parent"],
        "children": ", ".join(found["children"]),
        "owner": found["owner"],
        "run": found["run"],
        "unread": found["unread"],
        "subscribed": ", ".join(found["subscriptions"]),
        "namespaces": ", ".join(found["namespaces"]),
        "cost": None if found["cost_usd"] is None else f.money(found["cost_usd"], 9),
    }
    for name, value in facts.items():
        if value not in (None, ""):
            printing.line(f"{name:<11} {f.clean(str(value))}")
    for budget in found["budgets"]:
        printing.line(f"{'budget':<11} {f.clean(_budget(budget))}")


def _budget(budget: Mapping[str, Any]) -> str:
    left = []
    if budget["usd_limit"] is not None:
        left.append(f"{f.money(budget['usd_left'], 9)} of {f.money(budget['usd_limit'], 9)} USD left")
    if budget["tokens_limit"] is not None:
        tokens = f"{f.tokens(budget['tokens_left'])} of {f.tokens(budget['tokens_limit'])}"
        left.append(f"{tokens} tokens left")
    return f"{budget['name']}: {', '.join(left)} ({budget['window']}), then {budget['breach']}"


def agents(*, all: bool = False, as_json: bool = False) -> None:
    """Print who is there."""
    found = call("agents", all=all or None)
    if as_json:
        printing.json(found)
        return
    rows = [
        [
            peer["id"],
            peer["name"],
            f"{peer['state']} ({peer['reason']})" if peer["reason"] else peer["state"],
            peer["team"] or f.UNKNOWN,
            "yes" if peer["reads_mail"] else "no",
            str(peer["unread"]),
            peer["progress"] or peer["task"],
        ]
        for peer in found
    ]
    header = ("ID", "NAME", "STATE", "TEAM", "MAIL", "UNREAD", "TASK")
    printing.table(header, rows, right=("UNREAD",), drop=("ID", "TEAM", "UNREAD"))


def progress(text: str = "", *, percent: float | None = None) -> None:
    """Tell how far one is."""
    call("progress", text=text, percent=percent)
