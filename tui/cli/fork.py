"""``agenttop fork``: begin a new agent in the conversation of another."""

from __future__ import annotations

from typing import Annotated

import typer

from . import printing
from .kernel_call import call, checked
from .options import Json, Ref


def fork(
    ref: Ref,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Unique; the other's with a number if not given.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", "-p", help="What the new one is told first; in a terminal it may be nothing."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Begin a new agent in a copy of another's conversation. Prints its id and name."""
    from agenttop.core.api import ForkRequest

    request = checked(ForkRequest, ref=ref, name=name, prompt=prompt)
    info = call(lambda client: client.fork(request))
    if as_json:
        printing.json(info.model_dump())
    else:
        printing.line(f"{info.id} {info.name}")
