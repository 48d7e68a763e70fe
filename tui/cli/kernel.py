"""``agenttop kernel``: the kernel itself. These commands speak to kernels of other versions too."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from agenttop.core import quick
from agenttop.core.errors import AgentTopError, KernelUnreachable
from agenttop.core.paths import Paths

from .. import format as f
from . import printing
from .options import Json, Yes

kernel = typer.Typer(help="Look at, restart or stop the kernel; its agents run on.", no_args_is_help=True)

LEAVE = 30.0
"""Seconds a kernel may take to leave."""


def _ask(target: str, body: Any = None) -> Any:
    return quick.ask(Paths.from_environ().socket, target, body, any_version=True)


@kernel.command()
def status(as_json: Json = False) -> None:
    """Show which kernel runs here; fails when none does, and starts none."""
    found = _ask("/v1/status")
    if as_json:
        printing.json(found)
        return
    now = time.time()
    printing.line(
        f"kernel    {found['version']}, pid {found['pid']}, up {f.uptime(now - found['started_at'])}"
    )
    printing.line(f"agents    {found['agents']}")
    ails = f.clean(found.get("gateway_problem", ""))
    printing.line(f"gateway   127.0.0.1:{found['port']}{', ' if ails else ''}{ails}")
    printing.line(f"state     {found['state_dir']}")
    printing.line(f"journal   {found['seq']} rows, {f.clean(found['problem']) or 'healthy'}")
    printing.line(f"mail      {f.clean(found.get('mail_problem', '')) or 'healthy'}")
    printing.line(f"memory    {_memory(found)}")
    printing.line(f"uses      {f.size(found['memory'])} of memory, {found['cpu_seconds']:.1f} s of CPU")


def _memory(found: dict[str, Any]) -> str:
    """How recall fares; a kernel of another version may say nothing of it."""
    lost = ", ".join(
        f"{count} {f.clean(source)}" for source, count in found.get("recall_dropped", {}).items()
    )
    ails = f.clean(found.get("memory_problem", "")) or "healthy"
    return f"{ails}, {lost} not remembered: they came too fast" if lost else ails


@kernel.command()
def stop(
    agents: Annotated[bool, typer.Option("--agents", help="Stop all managed agents first.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Stop the kernel. The agents run on, and the next kernel finds them again."""
    paths = Paths.from_environ()
    before = _ask("/v1/status")
    if agents:
        if before["agents"]:
            printing.confirm(f"stop {before['agents']} agents?", yes)
        _stop_agents()
    _leave(paths, restart=False)
    _tell({"stopped": before["pid"]}, f"kernel {before['pid']} stopped", as_json)


def _stop_agents() -> None:
    """Stop all, and leave the kernel running if something of them survived."""
    outcomes = _ask("/v1/stop", {"all": True})
    failed = [outcome for outcome in outcomes if outcome["error"] or outcome["exit_code"]]
    if failed:
        names = ", ".join(str(outcome["name"]) for outcome in failed)
        raise AgentTopError(
            "the kernel was not stopped", f"Some agents did not end: {names}", "Kill them first"
        )


@kernel.command()
def restart(as_json: Json = False) -> None:
    """Start a new kernel in place of the one that runs: how one upgrades. The agents run on."""
    from agenttop.core.connect import start_kernel

    paths = Paths.from_environ()
    try:
        _leave(paths, restart=True)
    except KernelUnreachable:
        printing.note("no kernel ran")
    start_kernel(paths)
    found = _ask("/v1/status")
    _tell({"pid": found["pid"]}, f"kernel {found['pid']} started", as_json)


def _tell(document: Any, text: str, as_json: bool) -> None:
    if as_json:
        printing.json(document)
    else:
        printing.line(text)


def _leave(paths: Paths, *, restart: bool) -> None:
    """Ask the kernel to leave and wait until its lock is free."""
    from agenttop.core import lock

    _ask("/v1/shutdown", {"restart": restart})
    deadline = time.monotonic() + LEAVE
    while lock.holder_of(paths.lock) is not None:
        if time.monotonic() > deadline:
            raise AgentTopError("the kernel does not leave", f"{LEAVE:g} s are over", f"See {paths.log}")
        time.sleep(0.02)


@kernel.command(hidden=True)
def bridge() -> None:
    """Carry connections to the kernel over standard input and output: what --host runs over there."""
    from agenttop.core.hosts import bridge as found

    raise typer.Exit(found.main())


@kernel.command()
def log(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it is written.")] = False,
    tail: Annotated[int, typer.Option("--tail", "-n", min=0, help="So many lines.")] = 200,
) -> None:
    """Print the kernel's log."""
    path = Paths.from_environ().log
    try:
        lines = path.read_text("utf-8", "backslashreplace").splitlines()
    except FileNotFoundError:
        raise AgentTopError("there is no log", f"{path} is not there", "No kernel ran here yet") from None
    for text in lines[len(lines) - min(tail, len(lines)) :]:
        printing.line(f.clean(text))
    if follow:
        _follow(path)


def _follow(path: Path) -> None:
    """Print what is added, across rotations."""
    place, inode = path.stat().st_size, path.stat().st_ino
    while True:
        sys.stdout.flush()
        time.sleep(0.25)
        found = path.stat() if path.exists() else None
        if found is None:
            continue
        if found.st_ino != inode or found.st_size < place:
            place, inode = 0, found.st_ino
        if found.st_size > place:
            with path.open("rb") as file:
                file.seek(place)
                data = file.read()
            # Only whole lines; the rest comes with the next look.
            whole = data[: data.rfind(b"\n") + 1]
            place += len(whole)
            for text in whole.decode("utf-8", "backslashreplace").splitlines():
                printing.line(f.clean(text))
