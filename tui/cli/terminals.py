"""Agents' terminals from the command line: ``attach``, ``send-keys``, ``history``."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from agenttop.core.errors import AgentTopError, UsageError

from ..attaching import TOLD, exit_of, guarded, left_as_found, refusal
from ..format import clean
from . import printing
from .kernel_call import call, checked
from .options import Json, Ref
from .surroundings import around

if TYPE_CHECKING:
    from agenttop.core.api import AttachInfo, HistoryInfo
    from agenttop.core.client import KernelClient

#: Lines of the last screen that are shown again when the run has failed: they went with its terminal.
LAST = 20
#: As much as is kept of a terminal, and more.
ALL = 1_000_000


def attach(
    ref: Ref,
    resume: Annotated[
        bool, typer.Option("--resume", help="If it is frozen or held, resume it first.")
    ] = False,
) -> None:
    """Get in front of an agent's terminal. The detach key (Ctrl-\\, if not configured) leads back.

    The agent runs on after that. If it ends meanwhile its status is ours, and if it failed we show its end.
    Another person may be attached too; the size is that of whoever typed last.
    """
    able_to_attach()
    raise typer.Exit(enter(ref, resume=resume))


def able_to_attach() -> None:
    """Raises ``UsageError`` where no person can be put in front of an agent."""
    if why := refusal():
        raise UsageError("cannot attach", why, "Use `agenttop send-keys` and `agenttop history` in scripts")


def enter(ref: str, *, resume: bool = False) -> int:
    """Attach until the person leaves (0) or the run has ended (its status)."""

    async def ask(client: KernelClient) -> AttachInfo:
        from agenttop.core.api import Target

        if resume:
            from agenttop.core.errors import from_dict

            for outcome in await client.resume(Target(refs=[ref])):
                if outcome.error is not None:
                    raise from_dict(outcome.error)
        return await client.attach(ref)

    info = call(ask)
    if info.id and info.id == around():
        raise UsageError(f"cannot attach to {info.name}", "This is its own terminal")
    printing.note(f"attached to {info.name} ({info.id}); {info.detach_key} leads back")
    with left_as_found():
        status = subprocess.run(guarded(info.argv), check=False).returncode
    if status == info.left:
        printing.note(f"{info.name} ({info.id}) runs on; `agenttop attach {info.name}` goes back to it")
        return 0
    if status != 0:
        raise AgentTopError(
            f"the way to {info.name} was lost",
            f"Its terminal's client ended with status {status}",
            f"`agenttop inspect {info.name}` tells how it is",
        )
    return call(lambda client: _ended(client, info))


async def _ended(client: KernelClient, info: AttachInfo) -> int:
    """Tell the end of the run that a person was in front of; gives its status."""
    import anyio

    from agenttop.core.errors import BackendError, NoSuchAgent

    try:
        with anyio.fail_after(TOLD):
            told = await exit_of(client, info)
        last = (await client.history(info.id, 0)).lines[-LAST:]
    except TimeoutError:  # somebody else detached us
        printing.note(f"{info.name} ({info.id}) runs on")
        return 0
    except NoSuchAgent:
        printing.note(f"{info.name} ({info.id}) was removed")
        return 1
    except BackendError:
        last = []
    code, signal = told.body.get("code"), told.body.get("signal")
    if code == 0:
        printing.note(f"{info.name}: {told.text}; `agenttop history {info.name}` has its last screen")
        return 0
    for text in last:
        printing.line(clean(text))
    sys.stdout.flush()
    printing.note(f"{info.name}: {told.text}")
    return code if code is not None else 128 + signal if signal is not None else 1


def send_keys(
    ref: Ref,
    keys: Annotated[
        list[str] | None, typer.Argument(help="Keys by tmux's names, other words as they are; - for stdin.")
    ] = None,
    literal: Annotated[
        bool, typer.Option("--literal", "-l", help="Type the words letter by letter, key names too.")
    ] = False,
) -> None:
    """Type into an agent's terminal. As tmux's command of this name does.

    agenttop send-keys api "run the tests" Enter; Escape, C-c, Up, PageUp, F5, M-x are keys too.
    With - alone, all of stdin is typed, as it is: it is seen in no command line and may be long.
    """
    if not keys:
        raise UsageError("nothing to type", hint="Name keys, or - to read stdin")
    if keys == ["-"] and not literal:
        text: bytes | None = sys.stdin.buffer.read()
    else:
        text = "".join(keys).encode("utf-8", "surrogateescape") if literal else None

    async def send(client: KernelClient) -> None:
        from agenttop.core.api import PressRequest

        if text is None:
            await client.press(checked(PressRequest, ref=ref, keys=keys))
        else:
            await client.history(ref, 0)  # refuses what has no terminal, which may have a stdin
            if text:
                await client.write(ref, text)

    call(send)


def history(
    ref: Ref,
    lines: Annotated[
        int | None, typer.Option("--lines", "-n", min=0, help="Only the last so many; default: all.")
    ] = None,
    grep: Annotated[
        str | None,
        typer.Option("--grep", "-g", help="Only lines with this pattern; small letters fit large ones."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the text of an agent's terminal. What scrolled away, then the screen.

    It is what a person would have read there, without colours and cursor movement. It works after the
    agent's end too, for the last thousand lines. With --grep the status is 1 if nothing was found.
    """
    pattern = _pattern(grep) if grep is not None else None
    info: HistoryInfo = call(lambda client: client.history(ref, ALL if lines is None or pattern else lines))
    found = [text for text in info.lines if pattern is None or pattern.search(text)]
    if lines is not None:
        found = found[-lines:] if lines else []
    if as_json:
        printing.json(info.model_copy(update={"lines": found}).model_dump())
    else:
        for text in found:
            printing.line(clean(text) if sys.stdout.isatty() else text)
    if pattern is not None and not found:
        raise typer.Exit(1)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.IGNORECASE if text == text.lower() else 0)
    except re.error as error:
        raise UsageError(f"{text} is no pattern", str(error), r"Write \( for a bracket as such") from error
