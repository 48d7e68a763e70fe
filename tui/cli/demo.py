"""``agenttop demo``: a live fleet in a temporary home."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    seed: Annotated[int, typer.Option(help="The same seed gives the same replies.")] = 1,
    speed: Annotated[str, typer.Option(help="A factor on the pace of life, or 'instant'.")] = "1",
    no_containers: Annotated[bool, typer.Option("--no-containers", help="Leave Docker alone.")] = False,
    no_screen: Annotated[
        bool, typer.Option("--no-screen", help="Print one line of JSON and wait for EOF.")
    ] = False,
) -> None:
    """Show a fleet at work. Real processes, a bundled provider, and nothing left behind."""
    from ..demo.run import main

    arguments = ["--seed", str(seed), "--speed", speed]
    arguments += ["--no-containers"] * no_containers + ["--no-screen"] * no_screen
    raise typer.Exit(main(arguments))
