"""Looking at agents: ``wait``, ``inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agenttop.core.errors import AgentTopError

from ..main import complain
from . import printing
from .kernel_call import call
from .options import Json, Refs

if TYPE_CHECKING:
    from agenttop.core.api import AgentInfo
    from agenttop.core.client import KernelClient


def wait(
    refs: Refs,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds; then fail.")] = None,
    as_json: Json = False,
) -> None:
    """Wait until agents have ended, and print their exit codes."""
    try:
        ended = call(lambda client: client.wait(refs, timeout))
    except TimeoutError as error:
        raise AgentTopError(f"{', '.join(refs)} did not end", f"{timeout:g} s are over") from error
    if as_json:
        printing.json([info.model_dump() for info in ended])
        return
    for info in ended:
        printing.line(str(exit_status(info)))


def exit_status(info: AgentInfo) -> int:
    """An agent's end as a shell tells it: its code, 128 + signal, or 1 where nobody knows."""
    if info.exit_code is not None:
        return info.exit_code
    return 128 + info.exit_signal if info.exit_signal is not None else 1


def inspect(refs: Refs, as_json: Json = True) -> None:
    """Print everything about agents, as a JSON array."""

    async def look(client: KernelClient) -> tuple[list[dict[str, Any]], list[AgentTopError]]:
        found: list[dict[str, Any]] = []
        errors: list[AgentTopError] = []
        for ref in refs:
            try:
                detail = (await client.inspect(ref)).model_dump(mode="json")
                workspace = (await client.workspace(ref)).model_dump(
                    mode="json", exclude={"diff", "diff_cut", "losses"}
                )
                found.append({**detail, "workspace": workspace})
            except AgentTopError as error:
                errors.append(error)
        return found, errors

    found, errors = call(look)
    printing.json(found)
    for error in errors:
        complain(error)
    if errors:
        raise typer.Exit(max(error.exit_code for error in errors))
