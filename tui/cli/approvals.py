"""``agenttop approve`` and ``agenttop deny``: what waits for a person."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from agenttop.core.errors import UsageError

from .. import format as f
from . import printing
from .amounts import amount, tokens
from .kernel_call import ask, call, checked
from .options import All, Json, OptionalRefs

_HEADER = ("APPROVAL", "AGENT", "ABOUT", "SINCE", "NEEDED", "LEFT", "QUESTION")
_RIGHT = ("SINCE", "NEEDED", "LEFT")


def approve(
    refs: OptionalRefs = None,
    all: All = False,
    extend: Annotated[
        str | None, typer.Option(help="Add '$2' or 500k (tokens) to the budget, instead of one call.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Let a held call through. Exactly one, or with --extend what a larger budget allows.

    Without an agent: list what waits for a decision.
    """
    if not refs and not all:
        if extend is not None:
            raise UsageError("no agent is named", hint="Give a name, an id, an approval, or --all")
        _list(as_json)
        return
    fields: dict[str, Any] = {"answer": "once"}
    if extend is not None:
        dollars = extend.startswith("$")
        by = {"usd": float(amount(extend[1:]))} if dollars else {"tokens": tokens(extend)}
        fields = {"answer": "extend", **by}
    _answer(refs, all, fields, as_json)


def deny(refs: OptionalRefs = None, all: All = False, as_json: Json = False) -> None:
    """Refuse calls that wait for a decision. Their clients stop and say why."""
    if not refs and not all:
        raise UsageError("no agent is named", hint="Give a name, an id, an approval, or --all")
    _answer(refs, all, {"answer": "deny"}, as_json)


def _answer(refs: list[str] | None, all: bool, fields: dict[str, Any], as_json: bool) -> None:
    from agenttop.core.api import AnswerRequest

    if refs and all:
        raise UsageError("agents are named or all are meant, not both")
    request = checked(AnswerRequest, refs=refs or [], all=all, **fields)
    raise typer.Exit(printing.outcomes(call(lambda client: client.answer(request)), as_json=as_json))


def _list(as_json: bool) -> None:
    found = ask("/v1/approvals")
    if as_json:
        printing.json(found)
        return
    now = time.time()
    printing.table(_HEADER, [_row(info, now) for info in found], right=_RIGHT)


def _row(info: Mapping[str, Any], now: float) -> list[str]:
    return [
        info["approval"],
        info["name"],
        info["about"] if info["budget"] is None else f"{info['about']} {info['budget']}",
        f.age(now - info["since"]),
        _figure(info, "needed"),
        _figure(info, "left"),
        info["question"],
    ]


def _figure(info: Mapping[str, Any], which: str) -> str:
    if (usd := info[f"{which}_usd"]) is not None:
        return f.money(usd, 9)
    return f.tokens(info[f"{which}_tokens"]) if info[f"{which}_tokens"] is not None else f.UNKNOWN
