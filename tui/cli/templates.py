"""``agenttop templates``: what agents can be started from, and what is missing for the rest."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from agenttop.core.errors import ConfigError, UsageError

from . import printing
from .kernel_call import ask
from .options import Json

templates = typer.Typer(help="List the templates, or show one.", invoke_without_command=True)

_HEADER = ("NAME", "TITLE", "FROM", "BACKENDS", "READY")


@templates.callback()
def listed(context: typer.Context, as_json: Json = False) -> None:
    """List the templates: where each comes from, where it runs, what it lacks."""
    if context.invoked_subcommand is None:
        _list(as_json)


@templates.command("list")
def list_(as_json: Json = False) -> None:
    """List the templates: where each comes from, where it runs, what it lacks."""
    _list(as_json)


@templates.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the template.")], as_json: Json = False
) -> None:
    """Print a template as TOML, with all it extends: a start for one of your own."""
    found = {info["name"]: info for info in ask("/v1/templates", patient=True)}
    info = found.get(name)
    if info is None:
        close = difflib.get_close_matches(name, found, 1)
        hint = f"Did you mean {close[0]}?" if close else f"There are {', '.join(found)}"
        raise UsageError(f"there is no template {name or repr(name)}", hint=hint)
    if not info["definition"]:
        raise ConfigError(info["hint"])
    if as_json:
        printing.json(info)
        return
    printing.line(f"# {name}, {info['origin']}: {info['file']}")
    printing.line(info["definition"].rstrip("\n"))


def _list(as_json: bool) -> None:
    found = ask("/v1/templates", patient=True)
    if as_json:
        printing.json(found)
        return
    printing.table(_HEADER, [row(info) for info in found], drop=("FROM", "BACKENDS"), whole=True)


def row(info: Mapping[str, Any]) -> list[str]:
    """One line of the table."""
    return [
        info["name"],
        info["title"],
        info["origin"],
        ",".join(info["backends"]) or "any",
        _ready(info),
    ]


def _ready(info: Mapping[str, Any]) -> str:
    if info["ready"]:
        return f"yes, but {info['hint']}" if info["hint"] else "yes"
    return f"no: {info['hint']}" if info["hint"] else "no"
