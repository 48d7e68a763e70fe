"""In front of an agent's terminal: running what the kernel gave, so that the person's own is left as it was.

The client (tmux) puts the terminal back when it ends, and it ends when we do: also by a ``kill -9``, after
which it would else go on reading the keys that are meant for the shell. Where tmux itself was killed, we do.
"""

from __future__ import annotations

import contextlib
import os
import sys
import termios
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from agenttop.core.errors import AgentTopError, Conflict, from_dict

from .format import clean
from .keys import shown
from .model import ENDED
from .verbs import sentences

if TYPE_CHECKING:
    from agenttop.core.api import AttachInfo, EventInfo, Row
    from agenttop.core.client import KernelClient

    from .app import AgentTopApp

#: The backend whose agents have terminals.
TERMINAL = "terminal"
#: Seconds until the journal tells of the end of a run whose terminal has gone.
TOLD = 10.0

#: A program that is told of its parent's death (prctl(2), PR_SET_PDEATHSIG with SIGTERM) becomes ARGV.
_GUARDED = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


#: Takes back what a client had asked of the terminal: the mouse, word of its focus, marks around what is
#: pasted, other keys, a screen of its own, no cursor, colours and line drawing.
_PLAIN = (
    b"\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[?1l\x1b>\x1b[>4m"
    b"\x1b[r\x1b[?1049l\x1b[?25h\x1b[m\x1b(B"
)


@contextlib.contextmanager
def left_as_found() -> Iterator[None]:
    """Put this terminal back as it was, if the client inside did not live to do that."""
    before = termios.tcgetattr(0)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error, OSError):  # the terminal has gone
            if termios.tcgetattr(0) != before:
                os.write(1, _PLAIN)
                termios.tcsetattr(0, termios.TCSAFLUSH, before)


def guarded(argv: Sequence[str]) -> list[str]:
    """``argv`` as this thread's child that does not outlive it."""
    return [sys.executable, "-I", "-S", "-c", _GUARDED, str(os.getpid()), *argv]


def refusal() -> str:
    """Why nobody can be put in front of anything here; empty where it can be done."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "This is no terminal: stdin and stdout must be one"
    if os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return f"This terminal cannot draw: TERM is {os.environ.get('TERM') or 'not set'}"
    return ""


async def exit_of(client: KernelClient, info: AttachInfo) -> EventInfo:
    """The journal's row about the end of the run that ``info`` led to; waits for it."""
    events = client.events(since=info.seq, follow=True, refs=[info.id], kinds=["RunExited"])
    async with aclosing(cast("AsyncGenerator[EventInfo, None]", events)) as found:
        async for event in found:
            if event.body.get("run") == info.run:
                return event
    raise AgentTopError(f"what became of {info.name} is not known", "The journal's rows ended")


class Attaching:
    """The way from the screen to an agent's terminal and back."""

    def __init__(self, app: AgentTopApp) -> None:
        self._app = app
        self.away = False
        """Whether the terminal is an agent's: nothing of the screen's is written."""

    def impossible(self, row: Row) -> str:
        """Why nobody can attach to this agent now; empty if somebody can."""
        if row.attach:
            return ""
        if row.observed:
            return "observed: not our terminal"
        if row.backend == TERMINAL:
            return "ended: l shows its end" if row.state in ENDED else "it has no run now"
        return f"no terminal: {clean(row.backend)}"

    @property
    def key(self) -> str:
        """The key for it, as people write it."""
        keys = self._app.keys.by_id["agent.attach"].keys
        return shown(keys[0]) if keys else ":attach"

    def attach(self, row: Row) -> None:
        """Get in front of it, at once; what is in the way is told."""
        if self.away:
            return
        if why := self.impossible(row):
            self._app.toast(f"Cannot attach to {clean(row.name)}", why, "warn")
            return
        self.enter(row.id)

    def enter(self, ref: str) -> None:
        """Get in front of what was started a moment ago, though it may not be on the table yet."""
        self._app.run_worker(self._enter(ref), group="attach", exclusive=True)

    async def _enter(self, ref: str) -> None:
        import anyio

        app = self._app
        client = app.client
        if client is None:
            app.toast("No kernel answers", "nobody can be reached", "error")
            return
        try:
            info = await client.attach(ref)
            status = await self._away(info)
            if status == info.left:
                return
            if status != 0:
                raise AgentTopError(
                    f"The way to {clean(info.name)} was lost", f"Its terminal's client ended with {status}"
                )
            with anyio.fail_after(TOLD):
                told = await exit_of(client, info)
        except Conflict as error:
            row = app.model.rows.get(ref)
            if row is not None and row.pause == "freeze":
                self._ask(row)
            else:
                app.toast(*sentences(error), "error")
        except AgentTopError as error:
            app.toast(*sentences(error), "error")
        except TimeoutError:
            app.toast("Detached", "by somebody else; the agent runs on")
        else:
            bad = told.body.get("code") != 0
            app.toast(f"{clean(info.name)} ended", clean(told.text), "error" if bad else "good")

    async def _away(self, info: AttachInfo) -> int:
        """Give the terminal to the agent until its client ends; the status of that."""
        from textual.app import SuspendNotSupported

        if why := refusal():
            raise AgentTopError(f"cannot attach to {clean(info.name)}", why)
        try:
            with self._app.suspend():
                self.away = True
                try:
                    with left_as_found():
                        return await _run(guarded(info.argv))
                finally:
                    self.away = False
        except SuspendNotSupported as error:
            raise AgentTopError(f"cannot attach to {clean(info.name)}", str(error)) from error

    def _ask(self, row: Row) -> None:
        from .screens.thaw import ThawScreen

        self._app.push_screen(ThawScreen(row))

    def resume(self, row: Row) -> None:
        """Resume a frozen agent, then attach to it."""
        self._app.run_worker(self._resume(row), group="attach", exclusive=True)

    async def _resume(self, row: Row) -> None:
        from agenttop.core.api import Target

        client = self._app.client
        if client is None:
            self._app.toast("No kernel answers", "nothing was done", "error")
            return
        try:
            (outcome,) = await client.resume(Target(refs=[row.id]))
        except AgentTopError as error:
            self._app.toast(*sentences(error), "error")
            return
        if outcome.error is not None:
            self._app.toast(*sentences(from_dict(outcome.error)), "error")
            return
        await self._enter(row.id)


async def _run(argv: Sequence[str]) -> int:
    """Run in this terminal; if we have to leave first, so has it."""
    import anyio

    process = await anyio.open_process(argv, stdin=None, stdout=None, stderr=None)
    try:
        return await process.wait()
    except BaseException:
        with anyio.CancelScope(shield=True), contextlib.suppress(ProcessLookupError):
            process.terminate()
            await process.wait()
        raise
