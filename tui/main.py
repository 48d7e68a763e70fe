"""The ``agenttop`` command. What is asked for decides what is imported: a screen, or one command."""

from __future__ import annotations

import os
import sys

from agenttop.core.errors import AgentTopError


def main() -> int:
    """Run the screen (no arguments) or a command; gives the exit status.

    0 done, 1 failed, 2 usage, 3 no such agent, 130 interrupted, 141 nobody reads standard output.
    """
    try:
        status = _dispatch(sys.argv[1:])
        sys.stdout.flush()
    except AgentTopError as error:
        complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Python flushes once more at exit and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    return status


def _dispatch(arguments: list[str]) -> int:
    completing = "_AGENTTOP_COMPLETE" in os.environ
    if arguments == ["--version"]:
        from agenttop.core import __version__

        sys.stdout.write(f"agenttop {__version__}\n")
        return 0
    if not arguments and not completing:
        from .cli.screen import open_screen

        return open_screen()
    if arguments == ["kernel", "bridge"]:
        # Every call of a host waits for it.
        from agenttop.core.hosts import bridge

        return bridge.main()
    if arguments[:1] == ["ps"] and not completing:
        # The one command that is run again and again; typer would be a third of its time.
        from .cli.listing import WORDS, print_agents

        if all(word in WORDS for word in arguments[1:]):
            said = {WORDS[word] for word in arguments[1:]}
            print_agents(all="all" in said, quiet="quiet" in said, as_json="as_json" in said)
            return 0
    if not completing:
        from .cli import swift

        if (command := swift.read(arguments)) is not None:
            command()
            return 0
    from .cli.app import run

    return run(arguments)


def complain(error: AgentTopError) -> None:
    """``agenttop: what. Why. What to do.`` on stderr, harmless whatever it quotes."""
    from .format import clean

    sys.stderr.write(f"agenttop: {clean(str(error))}\n")


if __name__ == "__main__":
    sys.exit(main())
