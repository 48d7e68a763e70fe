"""What an agent asks about itself and others: ``whoami``, ``agents``, ``progress``."""

from __future__ import annotations

from typing import Annotated

import typer

from . import selfhood
from .options import Json


def whoami(as_json: Json = False) -> None:
    """Print who you are to the kernel. Inside an agent: its name, team, mailbox and what it may spend."""
    selfhood.whoami(as_json=as_json)


def agents(
    all: Annotated[bool, typer.Option("--all", "-a", help="Ended agents too.")] = False, as_json: Json = False
) -> None:
    """List who can be sent mail. What agents are told of each other; people see more with `ps`."""
    selfhood.agents(all=all, as_json=as_json)


def progress(
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="A few words.")] = "",
    percent: Annotated[float | None, typer.Option("--percent", "-p", help="0 to 100.")] = None,
) -> None:
    """Tell how far you are; only inside an agent. It is shown in the agent's row."""
    selfhood.progress(text, percent=percent)
