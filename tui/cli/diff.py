"""``agenttop diff``: what an agent changed, as git shows it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from agenttop.core.errors import AgentTopError, UsageError
from agenttop.core.paths import Paths
from agenttop.core.workspaces.git import LOCAL, Git
from agenttop.core.workspaces.patch import against, compared, untracked

from ..format import clean
from . import printing
from .kernel_call import call, chosen_hosts
from .options import Ref

if TYPE_CHECKING:
    from agenttop.core.api import WorkspaceInfo

#: Seconds that finding the new files may take.
SECONDS = 60.0

#: How git ends when its reader, a pager perhaps, has left.
_LEFT = (128 + signal.SIGPIPE, -signal.SIGPIPE)


def diff(
    ref: Ref,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[-- PATH...]", help="Only these, from its folder.")
    ] = None,
    stat: Annotated[bool, typer.Option("--stat", help="Files and how many lines, not the lines.")] = False,
) -> None:
    """Print what an agent changed since it began. In commits or not, new files too.

    git prints it, with your own settings: on a terminal in its pager and in colours.
    """
    if chosen_hosts():
        raise typer.Exit(_from_afar(ref, plain=not (stat or paths)))
    found = call(lambda client: client.workspace(ref))
    if found.repository is None:
        raise _none(ref, found)
    git = Git(SECONDS)
    new = untracked(found.folder, git)
    with compared(found.folder, new, Paths.from_environ().worktrees, git) as env:
        arguments = [
            *(["--stat"] if stat else []),
            against(found.folder, found.base, git),
            "--",
            *(paths or []),
        ]
        raise typer.Exit(_show(found, arguments, env))


def _from_afar(ref: str, *, plain: bool) -> int:
    """The patch as the kernel on the other machine has it; the files are there."""
    if not plain:
        raise UsageError(
            "only the whole diff comes from another machine", hint="Leave out --stat and the paths"
        )
    found = call(lambda client: client.workspace(ref, "diff"))
    if found.repository is None:
        raise _none(ref, found)
    sys.stdout.write(text_of(found, harmless=sys.stdout.isatty()))
    if found.diff_cut:
        printing.note("it goes on; run agenttop diff on that machine to see all of it")
    return 0


def text_of(found: WorkspaceInfo, *, harmless: bool) -> str:
    """The patch; for a terminal without what would move its cursor: agents write files as they like."""
    if not harmless:
        return found.diff
    return "".join(clean(line.expandtabs()) + "\n" for line in found.diff.splitlines())


def _none(ref: str, found: WorkspaceInfo) -> AgentTopError:
    why = found.problem or f"{found.folder} is in no git repository"
    return AgentTopError(f"there is no diff of {ref}", why[0].upper() + why[1:])


def _show(found: WorkspaceInfo, arguments: Sequence[str], env: Mapping[str, str]) -> int:
    # Where the caller stands (a git hook, another worktree) is not where the agent works.
    here = {name: value for name, value in os.environ.items() if name not in LOCAL}
    command = ["git", "-C", found.folder, "diff", *arguments]
    # Ctrl-C is the pager's; a handler, and not SIG_IGN, which git would inherit.
    before = signal.signal(signal.SIGINT, lambda signum, frame: None)
    try:
        ended = subprocess.run(command, env={**here, "GIT_OPTIONAL_LOCKS": "0", **env}, check=False)
    finally:
        signal.signal(signal.SIGINT, before)
    return 0 if ended.returncode in _LEFT else min(1, abs(ended.returncode))
