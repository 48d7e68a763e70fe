"""``agenttop ps``: the fleet as a table or as JSON."""

from __future__ import annotations

from typing import Annotated

import typer

from .listing import print_agents
from .options import Json


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
    print_agents(all=all, quiet=quiet, as_json=as_json, filters=filters or ())
