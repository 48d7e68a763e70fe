"""``agenttop up`` and ``down``: declared fleets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import printing
from .control import Grace
from .kernel_call import call, checked
from .options import Json, Yes
from .surroundings import elsewhere, environment

File = Annotated[Path, typer.Option("--file", "-f", help="The fleet file.")]


def up(
    file: File = Path("fleet.toml"),
    prune: Annotated[
        bool, typer.Option("--prune", help="Stop and remove agents it declares no more.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring up what a fleet file declares, or change what differs."""
    from agenttop.core import fleetfile
    from agenttop.core.api import FleetRequest

    fleet = fleetfile.load(file)
    specs = fleet.specs
    if elsewhere():
        # The file's own folder, where none is named, is a folder of this machine.
        here = str(fleet.path.parent)
        specs = [spec.model_copy(update={"cwd": None}) if spec.cwd == here else spec for spec in specs]
    request = checked(
        FleetRequest,
        fleet=str(fleet.path),
        specs=specs,
        environ=environment(),
        prune=prune,
        budgets=fleet.budgets,
    )
    raise typer.Exit(printing.outcomes(call(lambda client: client.up(request)), as_json=as_json))


def down(
    file: File = Path("fleet.toml"), grace: Grace = None, yes: Yes = False, as_json: Json = False
) -> None:
    """Stop and remove what a fleet file declared. It need not exist any more."""
    fleet = str(file.absolute())
    raise typer.Exit(printing.outcomes(call(lambda client: client.down(fleet, grace)), as_json=as_json))
