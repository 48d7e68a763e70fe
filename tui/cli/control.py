"""What is done to agents that exist: pause, resume, hold, stop, kill, restart, nice, rm, prune."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agenttop.core.errors import UsageError

from . import printing
from .kernel_call import call, checked
from .options import All, Children, Json, OptionalRefs, Refs, Yes

if TYPE_CHECKING:
    from agenttop.core.api import Outcome
    from agenttop.core.client import KernelClient

    Verb = Callable[["KernelClient"], Awaitable["list[Outcome]"]]

Grace = Annotated[
    float | None,
    typer.Option("--grace", "-t", min=0, help="Seconds between TERM and KILL (the agent's own)."),
]


def _do(verb: Verb, as_json: bool) -> None:
    raise typer.Exit(printing.outcomes(call(verb), as_json=as_json))


def _target(refs: list[str] | None, all: bool, children: bool = False) -> dict[str, Any]:
    if bool(refs) == all:
        raise UsageError(
            "agents are named or all are meant, not both" if all else "no agent is named",
            hint="Give names, ids or id prefixes, or --all",
        )
    return {"refs": refs or [], "all": all, "children": children}


def pause(
    refs: OptionalRefs = None, all: All = False, children: Children = False, as_json: Json = False
) -> None:
    """Freeze agents. Every process of their trees is stopped, and that is proven."""
    from agenttop.core.api import PauseRequest

    request = checked(PauseRequest, **_target(refs, all, children))
    _do(lambda client: client.pause(request), as_json)


def hold(
    refs: OptionalRefs = None, all: All = False, children: Children = False, as_json: Json = False
) -> None:
    """Keep agents' next model call waiting. Their processes run on."""
    from agenttop.core.agents.states import Pause
    from agenttop.core.api import PauseRequest

    request = checked(PauseRequest, how=Pause.HOLD, **_target(refs, all, children))
    _do(lambda client: client.pause(request), as_json)


def resume(
    refs: OptionalRefs = None, all: All = False, children: Children = False, as_json: Json = False
) -> None:
    """Undo pause and hold."""
    from agenttop.core.api import Target

    request = checked(Target, **_target(refs, all, children))
    _do(lambda client: client.resume(request), as_json)


def stop(
    refs: OptionalRefs = None,
    all: All = False,
    children: Children = False,
    grace: Grace = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """End agents: TERM, and KILL after a grace. To the whole tree, with proof that nothing is left."""
    _end("stop", refs, all, children, grace, yes, as_json)


def kill(
    refs: OptionalRefs = None,
    all: All = False,
    children: Children = False,
    grace: Grace = None,
    signal: Annotated[
        str | None,
        typer.Option("--signal", "-s", help="Send this to the main program instead: INT, HUP, 10…"),
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Kill agents' whole trees at once, and prove it."""
    if signal is None:
        _end("kill", refs, all, children, grace, yes, as_json)
        return
    from agenttop.core.api import SignalRequest

    request = checked(SignalRequest, signal=_signal(signal), **_target(refs, all, children))
    _do(lambda client: client.signal(request), as_json)


def _end(
    how: str, refs: list[str] | None, all: bool, children: bool, grace: float | None, yes: bool, as_json: bool
) -> None:
    from agenttop.core.api import StopRequest, Target

    target = _target(refs, all, children)
    if all and not yes:
        plan = call(lambda client: client.kill_plan(Target(**target)))
        if not plan.agents:
            return
        processes = sum(map(len, plan.processes.values()))
        agents = f"{len(plan.agents)} agent{'s' * (len(plan.agents) != 1)}"
        printing.confirm(f"{how} {agents} ({processes} processes)?", yes)
    request = checked(StopRequest, how=how, grace=grace, **target)
    _do(lambda client: client.stop(request), as_json)


def _signal(text: str) -> int:
    import signal

    if text.isdigit():
        return int(text)
    name = text.upper()
    try:
        return int(signal.Signals[name if name.startswith("SIG") else f"SIG{name}"])
    except KeyError:
        raise UsageError(f"there is no signal {text}", hint="Take a name such as INT, or a number") from None


def restart(
    refs: OptionalRefs = None, all: All = False, children: Children = False, as_json: Json = False
) -> None:
    """Stop what runs, then start a new run of each agent."""
    from agenttop.core.api import Target

    request = checked(Target, **_target(refs, all, children))
    _do(lambda client: client.restart(request), as_json)


def nice(
    value: Annotated[int, typer.Argument(help="-20 (goes first) to 19 (goes last).", metavar="NICE")],
    refs: Refs,
    by: Annotated[bool, typer.Option("--by", help="Add NICE to what they have.")] = False,
    as_json: Json = False,
) -> None:
    """Set agents' scheduling priority."""
    from agenttop.core.api import NiceRequest

    request = checked(NiceRequest, refs=refs, **{"delta" if by else "nice": value})
    _do(lambda client: client.nice(request), as_json)


def rm(
    refs: Refs,
    force: Annotated[bool, typer.Option("--force", "-f", help="Kill live ones first.")] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Delete also the work in their worktrees that is in no commit.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take away ended agents, and their output on the disk.

    A worktree goes only if nothing would be lost with it; else it stays, and where is said.
    """
    from agenttop.core.api import RemoveRequest

    request = checked(RemoveRequest, refs=refs, force=force, discard=discard)
    if discard and not yes:
        _say_losses(refs)
    if force or discard:
        verbs = "kill and remove" if force else "remove"
        work = " with the work in their worktrees" if discard else ""
        printing.confirm(f"{verbs} {', '.join(refs)}{work}?", yes)
    _do(lambda client: client.remove(request), as_json)


def _say_losses(refs: list[str]) -> None:
    """List on stderr what deleting the agents' worktrees would lose, before that is asked."""
    from agenttop.core.api import WorkspaceInfo

    async def look(client: KernelClient) -> list[WorkspaceInfo]:
        return [await client.workspace(ref, "losses") for ref in refs]

    for ref, found in zip(refs, call(look), strict=True):
        if found.losses:
            printing.notes([f"this would be lost with the worktree of {ref}, {found.folder}:"])
            printing.notes(f"  {line}" for line in found.losses)


def prune(yes: Yes = False, as_json: Json = False) -> None:
    """Take away all ended agents, and their output on the disk."""
    printing.confirm("remove all ended agents and their output?", yes)
    _do(lambda client: client.prune(), as_json)
