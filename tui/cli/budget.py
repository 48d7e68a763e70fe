"""``agenttop budget``: limits on tokens and money, and what they have used."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agenttop.core.errors import UsageError

from .. import format as f
from . import amounts, printing
from .kernel_call import ask, call, checked
from .options import Json, Yes

if TYPE_CHECKING:
    from collections.abc import Mapping

budget = typer.Typer(help="Look at, set, extend or remove budgets.", invoke_without_command=True)

_HEADER = ("NAME", "COVERS", "WINDOW", "SPENT", "RESERVED", "LIMIT", "USED", "LEFT", "ACTION", "HELD")
_RIGHT = ("SPENT", "RESERVED", "LIMIT", "USED", "LEFT", "HELD")

BudgetName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the budget.")]


@budget.callback()
def listed(context: typer.Context, as_json: Json = False) -> None:
    """Show every budget as it stands now."""
    if context.invoked_subcommand is None:
        _list(as_json)


@budget.command("list")
def list_(as_json: Json = False) -> None:
    """Show every budget as it stands now."""
    _list(as_json)


def _list(as_json: bool) -> None:
    found = ask("/v1/budgets")
    if as_json:
        printing.json(found)
        return
    printing.table(_HEADER, [row(info) for info in found], right=_RIGHT)


def row(info: Mapping[str, Any]) -> list[str]:
    """One line of the table."""
    declared = info["budget"]
    money = declared["usd"] is not None
    window = ("rolling " if declared["rolling"] else "") + declared["window"]
    return [
        declared["name"],
        covers(info),
        window,
        _amount(info["spent_usd"] if money else info["spent_tokens"], money, info["exact"]),
        _amount(info["reserved_usd"] if money else info["reserved_tokens"], money),
        _amount(info["limit_usd"] if money else info["limit_tokens"], money),
        f"{info['used']:.0%}",
        _left(info["seconds_left"], info["window_end"]),
        declared["action"],
        str(info["held"] or f.UNKNOWN),
    ]


def covers(info: Mapping[str, Any]) -> str:
    """``agent api``, ``label team=api``, ``fleet``."""
    scope, target = info["budget"]["scope"], info["budget"]["target"]
    return f"{scope} {info['target_name'] or target}".rstrip()


def _amount(value: float | None, money: bool, exact: bool = True) -> str:
    if value is None:
        return f.UNKNOWN
    return f.money(value, 9, exact=exact) if money else f.tokens(value)


def _left(seconds: float | None, window_end: float | None) -> str:
    """How long it lasts at this rate, if it does not last to the end of its window."""
    if seconds is not None:
        return f.age(seconds)
    return f"to {f.clock(window_end)}" if window_end and window_end > time.time() else f.UNKNOWN


@budget.command("set")
def set_(
    name: BudgetName,
    limit: Annotated[
        str | None, typer.Argument(metavar="[LIMIT]", help="Such as '$5/day' or '2M tokens/hour deny'.")
    ] = None,
    usd: Annotated[float | None, typer.Option(min=0, help="Limit in US dollars.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Limit in tokens, such as 500k.")] = None,
    window: Annotated[str | None, typer.Option(help="task, hour, day or total.")] = None,
    rolling: Annotated[
        bool, typer.Option("--rolling", help="The last 60 minutes or 24 hours, not the calendar's.")
    ] = False,
    zone: Annotated[str, typer.Option(help="Time zone of calendar windows, such as Europe/Berlin.")] = "",
    agent: Annotated[str | None, typer.Option(help="Cover this agent and all its children.")] = None,
    template: Annotated[str | None, typer.Option(help="Cover all agents of a template.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Cover agents with KEY=VALUE.")] = None,
    owner: Annotated[str | None, typer.Option(help="Cover all agents of an owner.")] = None,
    action: Annotated[str | None, typer.Option(help="At the limit: ask, deny, freeze or kill.")] = None,
    soft: Annotated[int | None, typer.Option(min=1, max=100, help="Warn at so many per cent (80).")] = None,
    as_json: Json = False,
) -> None:
    """Make a budget, or replace it. It covers the whole fleet unless something else is named."""
    from agenttop.core.api import BudgetRequest
    from agenttop.core.budget.budget import Budget
    from agenttop.core.budget.short import parse_short

    fields: dict[str, Any] = {}
    if limit is not None:
        try:
            parsed = parse_short(limit)
        except ValueError as error:
            raise UsageError(str(error)) from error
        fields = dict(parsed) if isinstance(parsed, dict) else {}
    given = {
        "usd": usd,
        "tokens": amounts.tokens(tokens) if tokens else None,
        "window": window,
        "action": action,
    }
    fields |= {key: value for key, value in given.items() if value is not None}
    if soft is not None:
        fields["soft"] = soft / 100
    fields |= {"name": name, "rolling": rolling, "zone": zone} | _scope(agent, template, label, owner)
    request = BudgetRequest(budget=checked(Budget, **fields))
    info = call(lambda client: client.set_budget(request))
    _told(info.model_dump(mode="json"), "set", as_json)


def _scope(
    agent: str | None, template: str | None, label: list[str] | None, owner: str | None
) -> dict[str, str]:
    targets = {"agent": agent, "template": template, "label": ",".join(label or ()), "owner": owner}
    chosen = {scope: target for scope, target in targets.items() if target}
    if len(chosen) > 1:
        raise UsageError(
            "a budget covers one thing", f"{', '.join(chosen)} were named", "Set one budget for each"
        )
    for scope, target in chosen.items():
        return {"scope": scope, "target": target}
    return {"scope": "fleet", "target": ""}


@budget.command()
def extend(
    name: BudgetName,
    by: Annotated[str, typer.Argument(metavar="AMOUNT", help="Such as '$2' or 500k (tokens).")],
    as_json: Json = False,
) -> None:
    """Add to a budget's limit until its present window ends; calls it held go on."""
    from agenttop.core.api import ExtendRequest

    dollars = by.startswith("$")
    field = {"usd": float(amounts.amount(by[1:]))} if dollars else {"tokens": amounts.tokens(by)}
    request = checked(ExtendRequest, name=name, **field)
    info = call(lambda client: client.extend_budget(request))
    _told(info.model_dump(mode="json"), "extended", as_json)


@budget.command()
def rm(name: BudgetName, yes: Yes = False, as_json: Json = False) -> None:
    """Take a budget away; calls it held go on."""
    printing.confirm(f"remove the budget {name}?", yes)
    call(lambda client: client.remove_budget(name))
    if as_json:
        printing.json({"removed": name})
    else:
        printing.line(f.clean(f"{name} removed"))


def _told(info: dict[str, Any], done: str, as_json: bool) -> None:
    if as_json:
        printing.json(info)
        return
    values = dict(zip(_HEADER, row(info), strict=True))
    printing.line(
        f.clean(
            f"{values['NAME']} {done}: {values['SPENT']} of {values['LIMIT']} used, "
            f"{values['COVERS']}, {values['WINDOW']}, then {values['ACTION']}"
        )
    )
