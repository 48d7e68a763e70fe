"""``agenttop ps``: the fleet as a table or as JSON. Imports neither models nor an event loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from agenttop.core.errors import UsageError

from .. import format as f
from . import printing
from .kernel_call import ask
from .options import Json

Agent = Mapping[str, Any]


def ps(
    all: Annotated[bool, typer.Option("--all", "-a", help="Ended agents too.")] = False,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", "-f", help="state=, reason=, backend=, template=, owner=, name=, label=KEY[=VALUE]"
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Ids only.")] = False,
    as_json: Json = False,
) -> None:
    """List the agents."""
    fits = [_filter(text) for text in filters or ()]
    # Process ids cost a scan; only JSON shows them all, the table shows how many.
    agents = ask(f"/v1/agents?all={str(all).lower()}&pids={str(not quiet).lower()}")
    chosen = [agent for agent in agents if all_of(fits, agent)]
    if as_json:
        printing.json(chosen)
    elif quiet:
        for agent in chosen:
            printing.line(agent["id"])
    else:
        printing.table(HEADER, [row(agent, time.time()) for agent in chosen], right=RIGHT)


def all_of(fits: list[Callable[[Agent], bool]], agent: Agent) -> bool:
    """Whether every filter lets ``agent`` through."""
    return all(fit(agent) for fit in fits)


_FIELDS = ("state", "reason", "backend", "template", "owner", "name", "id", "model", "parent", "fleet")


def _filter(text: str) -> Callable[[Agent], bool]:
    key, equals, value = text.partition("=")
    if key == "label" and equals:
        label, has_value, wanted = value.partition("=")
        if has_value:
            return lambda agent: agent["labels"].get(label) == wanted
        return lambda agent: label in agent["labels"]
    if key not in _FIELDS or not equals:
        raise UsageError(
            f"{text} is not a filter", hint=f"Take label=KEY[=VALUE], or one of {', '.join(_FIELDS)}"
        )
    return lambda agent: str(agent[key] or "") == value


HEADER = (
    "ID",
    "NAME",
    "STATE",
    "BACKEND",
    "MODEL",
    "NI",
    "PIDS",
    "IN",
    "CACHE",
    "OUT",
    "COST",
    "RUN",
    "TIME",
    "TASK",
)
RIGHT = ("NI", "PIDS", "IN", "CACHE", "OUT", "COST", "RUN", "TIME")


def row(agent: Agent, now: float) -> list[str]:
    """One line of the table, unpadded."""
    tokens = agent["tokens"]
    return [
        agent["id"],
        agent["name"],
        state(agent),
        agent["backend"],
        f.model(agent["model"]) if agent["model"] else f.UNKNOWN,
        str(agent["nice"]),
        str(len(agent["pids"])) if agent["pids"] else f.UNKNOWN,
        f.tokens(tokens["input"]),
        f.tokens(tokens["cache_read"] + tokens["cache_write"]),
        f.tokens(tokens["output"]),
        cost(agent),
        str(agent["run"] or f.UNKNOWN),
        _time(agent, now),
        agent["task"] or " ".join(agent["command"]),
    ]


def state(agent: Agent) -> str:
    """``waiting (approval)``, ``paused (freeze)``, ``terminated (0)``, ``error (1)``."""
    reason = agent["reason"]
    if agent["state"] in ("terminated", "error"):
        code, signal = agent["exit_code"], agent["exit_signal"]
        reason = f"signal {signal}" if signal is not None else code
    return f"{agent['state']} ({reason})" if reason is not None else str(agent["state"])


def cost(agent: Agent) -> str:
    """USD; ``~`` before an estimate, ``+`` behind a sum that lacks calls without a known price."""
    if agent["cost_usd"] is None:
        return "unpriced" if agent["unpriced"] else f.UNKNOWN
    text = f.money(agent["cost_usd"], 9, exact=agent["cost_exact"])
    return f"{text}+" if agent["unpriced"] else text


def _time(agent: Agent, now: float) -> str:
    if agent["started_at"] is None:
        return f.UNKNOWN
    return f.age((agent["ended_at"] or now) - agent["started_at"])
