"""``agenttop halt`` and ``agenttop unhalt``: the kill switch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from . import printing
from .kernel_call import call
from .options import Json

if TYPE_CHECKING:
    from agenttop.core.api import HaltInfo


def halt(as_json: Json = False) -> None:
    """Hold every model call and freeze every agent, at once. Nothing is lost: unhalt undoes it."""
    _tell(call(lambda client: client.halt()), as_json)


def unhalt(as_json: Json = False) -> None:
    """Undo halt: thaw what it froze, let calls go. What was paused before stays paused."""
    _tell(call(lambda client: client.unhalt()), as_json)


def _tell(info: HaltInfo, as_json: bool) -> None:
    status = printing.status(info.frozen)
    if as_json:
        printing.json(info.model_dump(mode="json"))
        raise typer.Exit(status)
    printing.outcomes([outcome for outcome in info.frozen if outcome.error is not None])
    done = sum(outcome.error is None for outcome in info.frozen)
    agents = f"{done} agent{'s' * (done != 1)}"
    if info.halted:
        printing.line(
            f"halted: {agents} frozen in {info.seconds:.2f} s, "
            f"no call is forwarded since {info.calls_seconds * 1000:.0f} ms, {info.calls_held} held"
        )
    else:
        printing.line(f"unhalted: {agents} thawed in {info.seconds:.2f} s")
    raise typer.Exit(status)
