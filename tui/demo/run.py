"""``agenttop demo``: a live fleet in a temporary home, with a screen on it, and no trace afterwards."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from agenttop.core.errors import AgentTopError, UsageError
from agenttop.core.paths import Paths

from .stage import Options, Stage

OpenScreen = Callable[[Paths], int]
"""Opens the screen on the kernel of these paths, and returns its exit status when it was left."""


def demo(options: Options, open_screen: OpenScreen) -> int:
    """Set the stage, open the screen while the fleet comes up, and clean up behind both.

    Raises:
        AgentTopError: The demo could not be started, or something of it could not be removed.
    """
    stage = Stage(options)
    with stage:
        os.environ |= stage.marker  # whatever the screen starts belongs to the demo too
        stage.bring_up()
        status = open_screen(stage.paths)
    if stage.problems:
        raise AgentTopError("the demo left something behind", "; ".join(stage.problems), "Remove it by hand")
    return status


def without_screen(options: Options) -> int:
    """Run the demo for a script: one line of JSON once the fleet is up, then until SIGTERM, SIGINT or EOF.

    Raises:
        AgentTopError: As ``demo``, and when the fleet did not come up.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    stage = Stage(options)
    with stage:
        stage.bring_up()
        if stage.brought_up() != 0:
            raise AgentTopError(
                "the demo's fleet did not come up", stage.fleet_log.read_text().strip()[-2000:]
            )
        facts = {
            "home": str(stage.home),
            "provider": stage.provider_url,
            "truth": str(stage.truth_file),
            "image": stage.image,
            "said": stage.fleet_log.read_text().splitlines(),
        }
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
        with suppress(KeyboardInterrupt):
            sys.stdin.read()
    if stage.problems:
        raise AgentTopError("the demo left something behind", "; ".join(stage.problems), "Remove it by hand")
    return 0


def main(argv: Sequence[str] | None = None, open_screen: OpenScreen | None = None) -> int:
    """The command; ``open_screen`` is how the screen opens, else the application's own way.

    Raises:
        AgentTopError: See ``demo``; the command line prints it.
    """
    parser = argparse.ArgumentParser(prog="agenttop demo", description="A live fleet to look at.")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same replies (1)")
    parser.add_argument("--speed", default="1", help="a factor on the pace of life, or 'instant' (1)")
    parser.add_argument("--no-containers", action="store_true", help="leave Docker alone")
    parser.add_argument("--no-screen", action="store_true", help="print one line of JSON and wait for EOF")
    given = parser.parse_args(argv)
    options = Options(given.seed, check_speed(given.speed), not given.no_containers)
    if given.no_screen:
        return without_screen(options)
    return demo(options, open_screen or _application)


def check_speed(text: str) -> str:
    """``instant`` or a factor above 0, as it was written.

    Raises:
        UsageError: Anything else.
    """
    try:
        good = text == "instant" or float(text) > 0
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"speed {text!r} cannot be", "It is a factor above 0, or 'instant'")
    return text


def _application(paths: Paths) -> int:
    from agenttop.tui.cli.screen import open_screen

    return open_screen(paths)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except AgentTopError as error:
        sys.stderr.write(f"agenttop: {error}\n")
        raise SystemExit(error.exit_code) from error
