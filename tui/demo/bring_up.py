"""``python -m agenttop.tui.demo.bring_up``: start the demo's kernel and its fleet."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio

from agenttop.core.api import FleetRequest, Outcome
from agenttop.core.connect import connect
from agenttop.core.errors import AgentTopError
from agenttop.core.paths import Paths

from . import box, fleet
from .cleanup import record_cgroups
from .stage import Options


async def bring_up(home: Path, options: Options) -> list[Outcome]:
    """Start the kernel if need be and the whole fleet; containers only where Docker can.

    Raises:
        AgentTopError: No kernel, or it refused.
    """
    image: str | None = None
    if options.containers:
        try:
            image = box.image_name(home)
            (home / box.IMPORTING).touch()
            await anyio.to_thread.run_sync(box.build, image)
            (home / box.IMPORTING).unlink()
        except (box.DockerSaid, OSError) as error:
            image = None
            sys.stdout.write(f"no containers in this demo: {error}\n")
    work = home / "work"
    work.mkdir(exist_ok=True)
    specs = fleet.specs(seed=options.seed, speed=options.speed, home=str(home), cwd=str(work), image=image)
    async with await connect(Paths.from_environ({"AGENTTOP_HOME": str(home)}), start=True) as client:
        request = FleetRequest(fleet=str(home / "fleet.toml"), specs=specs, environ=fleet.environ())
        outcomes = await client.up(request)
    await anyio.to_thread.run_sync(record_cgroups, home)
    return outcomes


def main(argv: Sequence[str] | None = None) -> int:
    """Bring the fleet up; prints one line per agent. Exit status 1 if any could not be started."""
    parser = argparse.ArgumentParser(prog="python -m agenttop.tui.demo.bring_up", description=__doc__)
    parser.add_argument("--options", default="{}")
    given = parser.parse_args(argv)
    home = Path(os.environ["AGENTTOP_HOME"])
    try:
        outcomes = anyio.run(bring_up, home, Options(**json.loads(given.options)))
    except AgentTopError as error:
        sys.stdout.write(f"agenttop: {error}\n")
        return 1
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in outcomes:
        why = (outcome.error or {}).get("what", "")
        sys.stdout.write(f"{outcome.name or outcome.ref}: {outcome.done or why}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
