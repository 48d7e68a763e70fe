"""Who is stopped next: the budgets in the order in which they are used up at the present pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..budgets import amounts, lasts, next_stopped, stopped, window
from ..format import clean
from .paper import Row, column, rule

if TYPE_CHECKING:
    from agenttop.core.api import BudgetInfo

#: Cells without and with the agent that spends most.
CELLS, WITH_AGENT = 42, 54


def rows(
    infos: Sequence[BudgetInfo],
    names: Mapping[str, str],
    observed: tuple[int, float],
    width: int,
    height: int,
) -> list[Row]:
    """Rule, heading, the budgets, and at the bottom what no budget can stop.

    ``names`` are the agents' by id; ``observed`` is how many agents that is, and what they cost (USD).
    """
    who = width >= WITH_AGENT
    found: list[Row] = [rule("Next to be stopped", width)]
    found.append([("    BUDGET          PER      LEFT     IN" + ("  AGENT" if who else ""), "label")])
    tail = _unlimited(*observed)
    soon = next_stopped(infos)
    for number, info in enumerate(soon[: max(1, height - 2 - len(tail))], 1):
        row = _row(number, info)
        if who and info.next_agent is not None:
            row.append((f"  {clean(names.get(info.next_agent, info.next_agent))}", "muted"))
        found.append(row)
    if not soon:
        found.append([("    none at this pace", "muted")])
    return [*found, *[[]] * (height - len(found) - len(tail)), *tail][:height]


def _row(number: int, info: BudgetInfo) -> Row:
    of, hot = amounts(info), stopped(info)
    colour = "state-needs-you bold" if hot else "fg"
    return [
        (f"{number:>2}  ", "muted"), column(info.budget.name, 16, colour), column(window(info), 5, "muted"),
        (of.say(of.left, 7).rjust(8), "bad bold" if hot else "fg"), (lasts(info).rjust(7), colour),
    ]  # fmt: skip


def _unlimited(agents: int, cost: float) -> list[Row]:
    if not agents:
        return []
    text = f"~{cost:.2f} by {agents}, limited by nobody"
    return [[(" Observed  ", "label"), (text, "muted")]]
