"""The table and JSON of ``agenttop ps``: no models, event loop or typer, because it must be quick."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agenttop.core.errors import UsageError

from .. import format as f
from . import printing
from .kernel_call import ask

Agent = Mapping[str, Any]

#: Command lines that need no parser: these words only.
WORDS = {"-a": "all", "--all": "all", "-q": "quiet", "--quiet": "quiet", "--json": "as_json"}


def print_agents(
    *, all: bool = False, quiet: bool = False, as_json: bool = False, filters: Sequence[str] = ()
) -> None:
    """Print the agents that pass all filters.

    Raises:
        UsageError: A filter that cannot be.
        AgentTopError: What the kernel said, or why there is none.
    """
    fits = [_filter(text) for text in filters]
    agents = ask(f"/v1/agents?all={str(all).lower()}&pids={str(not quiet).lower()}")
    chosen = [agent for agent in agents if all_of(fits, agent)]
    if as_json:
        printing.json(chosen)
    elif quiet:
        for agent in chosen:
            printing.line(f.clean(agent["id"]))
    else:
        now = time.time()
        printing.table(HEADER, [row(agent, now) for agent in chosen], right=RIGHT, drop=DROP)


def all_of(fits: list[Callable[[Agent], bool]], agent: Agent) -> bool:
    """Whether every filter lets ``agent`` through."""
    return not [fit for fit in fits if not fit(agent)]


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
    "IN",
    "CACHE",
    "OUT",
    "COST",
    "RUN",
    "TIME",
    "PIDS",
    "TASK",
)
RIGHT = ("NI", "IN", "CACHE", "OUT", "COST", "RUN", "TIME", "PIDS")
#: What a narrow terminal does without, the first one first.
DROP = ("PIDS", "RUN", "NI", "BACKEND", "TIME", "CACHE", "IN", "OUT", "MODEL")


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
        f.tokens(tokens["input"]),
        f.tokens(tokens["cache_read"] + tokens["cache_write"]),
        f.tokens(tokens["output"]),
        cost(agent),
        str(agent["run"] or f.UNKNOWN),
        _time(agent, now),
        str(len(agent["pids"]) or f.UNKNOWN),
        agent.get("last_line") or agent["task"] or " ".join(agent["command"]),
    ]


def state(agent: Agent) -> str:
    """``waiting (approval)``, ``paused (freeze)``, ``paused (idle)``, ``terminated (0)``, ``error (1)``."""
    reason = agent["reason"]
    if agent.get("paused_by") == "idle":
        reason = "idle"
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
