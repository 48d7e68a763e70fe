"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer


def complete_agents(incomplete: str) -> list[str]:
    """Names of agents for the shell; none when no kernel answers, because a shell cannot show why."""
    from agenttop.core import quick
    from agenttop.core.errors import AgentTopError
    from agenttop.core.paths import Paths

    try:
        found = quick.ask(Paths.from_environ().socket, "/v1/agents?all=true&pids=false")
    except AgentTopError:
        return []
    return [agent["name"] for agent in found if agent["name"].startswith(incomplete)]


Ref = Annotated[
    str,
    typer.Argument(metavar="AGENT", help="Name, id or id prefix.", autocompletion=complete_agents),
]
Refs = Annotated[
    list[str],
    typer.Argument(metavar="AGENT...", help="Names, ids or id prefixes.", autocompletion=complete_agents),
]
OptionalRefs = Annotated[
    list[str] | None,
    typer.Argument(metavar="[AGENT...]", help="Names, ids or id prefixes.", autocompletion=complete_agents),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Answer every question with yes.")]
All = Annotated[bool, typer.Option("--all", "-a", help="All managed agents; observed ones are named.")]
Children = Annotated[bool, typer.Option("--children", help="Their children, grandchildren… too.")]
