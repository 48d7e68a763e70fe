"""The typer application, built from as few modules as the command line needs."""

from __future__ import annotations

import importlib
import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from agenttop.core.errors import AgentTopError, UsageError

from .kernel_call import all_answered, choose_hosts

#: Command → the module below this package that defines it (as a function of that name), in the order of help.
COMMANDS: dict[str, str] = {
    "demo": "demo",
    "run": "run",
    "up": "fleet",
    "down": "fleet",
    "ps": "ps",
    "top": "top",
    "pause": "control",
    "resume": "control",
    "hold": "control",
    "stop": "control",
    "kill": "control",
    "restart": "control",
    "fork": "fork",
    "nice": "control",
    "wait": "look",
    "inspect": "look",
    "diff": "diff",
    "rm": "control",
    "prune": "control",
    "logs": "logs",
    "attach": "terminals",
    "send-keys": "terminals",
    "history": "terminals",
    "send": "mail",
    "ask": "mail",
    "reply": "mail",
    "inbox": "mail",
    "ack": "mail",
    "publish": "mail",
    "subscribe": "mail",
    "unsubscribe": "mail",
    "topic": "mail",
    "bus": "bus",
    "mem": "mem",
    "whoami": "selves",
    "agents": "selves",
    "progress": "selves",
    "mcp": "mcp",
    "budget": "budget",
    "calls": "calls",
    "usage": "usage",
    "approve": "approvals",
    "deny": "approvals",
    "providers": "calls",
    "halt": "halt",
    "unhalt": "halt",
    "events": "events",
    "templates": "templates",
    "kernel": "kernel",
    "doctor": "doctor",
    "completion": "completion",
}

_SETTINGS: dict[str, dict[str, Any]] = {
    # So that `nice -5 api` and `run -- cmd --flag` mean what they say.
    "nice": {"ignore_unknown_options": True},
}


class _InOrder(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in COMMANDS if name in self.commands]


def build(only: str | None = None) -> typer.Typer:
    """The application with all commands, or with ``only`` that one."""
    app = typer.Typer(
        name="agenttop",
        help="htop for AI agents. Without a command: the screen.",
        cls=_InOrder,
        add_completion=False,
        invoke_without_command=True,
        no_args_is_help=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_screen)
    for name, where in COMMANDS.items():
        if only in (None, name):
            module = importlib.import_module(f".{where}", __package__)
            found = getattr(module, name.replace("-", "_"))
            if isinstance(found, typer.Typer):
                app.add_typer(found, name=name)
            else:
                app.command(name, context_settings=_SETTINGS.get(name))(found)
    return app


def _screen(
    context: typer.Context,
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="USER@HOST",
            help="The kernel of that machine, over ssh; again for more, `local` for this one.",
        ),
    ] = None,
    embedded: Annotated[bool, typer.Option("--embedded", help="Run the kernel inside this process.")] = False,
    mouse: Annotated[bool, typer.Option("--mouse", help="Let the screen take the mouse.")] = False,
    theme: Annotated[str | None, typer.Option(metavar="NAME", help="Colours of the screen.")] = None,
    ascii: Annotated[bool, typer.Option("--ascii", help="Draw with ASCII only.")] = False,
    window: Annotated[
        str | None, typer.Option(metavar="SPAN", help="What sums cover: run, hour, today or total.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    if version:
        from agenttop.core import __version__

        typer.echo(f"agenttop {__version__}")
        raise typer.Exit
    choose_hosts(host or ())
    if host and context.invoked_subcommand is not None:
        _refuse_here(context.invoked_subcommand)
    if context.invoked_subcommand is None:
        from .screen import open_screen

        raise typer.Exit(
            open_screen(embedded=embedded, mouse=mouse, theme=theme, ascii=ascii or None, window=window)
        )


def _refuse_here(command: str) -> None:
    from .hosts import HERE

    if command in HERE:
        raise UsageError(
            f"`agenttop {command}` has nothing to do with other machines", hint="Leave --host out"
        )


#: Options of the screen's before a command, that have a value.
_VALUED = ("--host", "--theme", "--window")


def _over_there(arguments: list[str]) -> int | None:
    """Run a command that is about its machine on the host it names; ``None``: this is none."""
    hosts, rest = [], list(arguments)
    while rest and rest[0].startswith("--"):
        name, equals, value = rest.pop(0).partition("=")
        if name in _VALUED and not equals and rest:
            value = rest.pop(0)
        if name == "--host":
            hosts.append(value)
    if not hosts or not rest or rest[0] not in ("kernel", "doctor") or {"-h", "--help"} & set(rest):
        return None
    from .hosts import run_there

    return run_there(hosts, rest)


def run(arguments: list[str]) -> int:
    """Run one command; gives its exit status.

    Raises:
        AgentTopError: What failed, with the exit status it asks for.
    """
    choose_hosts(())
    if arguments[:1] and arguments[0].startswith("--") and (status := _over_there(arguments)) is not None:
        return status
    only = arguments[0] if arguments and arguments[0] in COMMANDS else None
    if "_AGENTTOP_COMPLETE" in os.environ:
        only = None
        _know_shells()
    command = typer.main.get_command(build(only))
    try:
        status = command.main(arguments, prog_name="agenttop", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except typer.TyperException as error:
        raise _usage(error) from error
    except SystemExit as leaving:
        # typer turns a pipe without a reader into a silent status 1.
        if isinstance(leaving.__context__, BrokenPipeError):
            raise leaving.__context__ from None
        raise
    return status if isinstance(status, int) and status else int(not all_answered())


def _know_shells() -> None:
    """Teach typer the shells' ways to ask for completions."""
    from typer._completion_classes import completion_init

    completion_init()


def _usage(error: typer.TyperException) -> AgentTopError:
    """typer's complaint in our form and with our exit status."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "agenttop"
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    return UsageError(message, hint=f"See `{path} --help`")
