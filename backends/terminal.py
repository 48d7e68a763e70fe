"""Agents in terminals of a private tmux server: for programs that want a person in front of them.

A run is what it is in ``subprocess``, the same wrapper in the same control groups, but for its input
and output, which are one terminal: one tmux session, whose output tmux also copies to the run's file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import anyio

from agenttop.core.backend import (
    Adoption,
    Backend,
    BackendContext,
    Capabilities,
    Check,
    Chunk,
    Exit,
    Launch,
    RunRef,
)
from agenttop.core.errors import AgentTopError, BackendError, BackendUnavailable

from . import begin, cgroups, keystrokes, output, proc, terminal_start, tmux
from . import terminal_files as files
from .runs import Run
from .subprocess import SWEEP_GRACE, SubprocessBackend
from .terminal_output import complete, silent, unmarked

#: The size of a terminal nobody has looked at yet.
COLUMNS, LINES = 120, 36
#: Lines of the last screen that are kept when a program has ended.
LAST_LINES = 1000
#: The longest piece of input at once; tmux holds all of it in memory until the program reads it.
LONGEST = 16 << 20
#: Without the wrapper's last word a terminal that was silent for so long has said it all.
SILENCE = 1.0
#: The same where tmux has seen its end: what is left is on its way to the file.
QUIET = 0.3
#: How long a terminal may take until its wrapper has said who it is.
_ENTER = 10.0
#: A server that leaves with its last session as another is made is asked again so often.
_TRIES = 5

#: Asked of a pane: whether its process has ended, and of what.
_DEAD = "#{pane_dead} #{pane_dead_signal} #{pane_dead_status}"
_KILLED = "its terminal server was killed: the program had no terminal any more"


log = logging.getLogger(__name__)


class TerminalBackend(SubprocessBackend):
    """See the contract; settings are ``detach_key``, ``history`` and those of ``SubprocessBackend``.

    A terminal always has a keyboard, whatever the spec says of stdin. What is written is typed; the end
    of input is Ctrl-D. Both streams are one, ``out``, as the terminal got it.
    """

    name: ClassVar[str] = "terminal"
    batch: ClassVar[int] = 1
    keyboard: ClassVar[bool] = True
    terminals: ClassVar[bool] = True
    left: ClassVar[int] = tmux.LEFT

    def __init__(self, context: BackendContext, *, boot_id: Callable[[], str] = proc.boot_id) -> None:
        super().__init__(context, boot_id=boot_id)
        self._server = tmux.Server(context.state.absolute() / "terminal", context.settings)
        self.detach_key = tmux.spoken(self._server.detach_key)
        self._typing: dict[str, anyio.Lock] = {}
        self._typed: dict[str, float] = {}
        """When something was typed last, by the monotonic clock."""

    def _choose(self) -> cgroups.Cgroups:
        # What is left over is for ``subprocess`` to remove, which shares these groups.
        return cgroups.choose(self.context.state, dict(self.context.settings))

    async def check(self) -> list[Check]:
        """Whether there is a tmux that will do."""
        try:
            path, version = await self._thread(tmux.find)
            await self._thread(self._server.prepare)
        except (AgentTopError, OSError) as error:
            hint = error.hint if isinstance(error, AgentTopError) else ""
            why = error.why if isinstance(error, AgentTopError) else str(error)
            return [Check("terminal", "missing", why or str(error), hint)]
        return [Check("terminal", "ok", f"{version}, {path}")]

    async def capabilities(self) -> Capabilities:
        """As ``subprocess``, and people can attach. Raises ``BackendUnavailable`` without tmux."""
        await self._thread(self._server.prepare)
        return (await super().capabilities())._replace(attach=True)

    # -- start and adopt

    async def start(self, launch: Launch) -> RunRef:
        """Make a session whose first process becomes the wrapper."""
        groups = await self._cgroups()
        await self._thread(self._server.prepare)
        made = await self._thread(partial(begin.prepare, launch, groups))
        try:
            argv = begin.wrapped(launch, made, groups, self._boot_id())
            await self._thread(partial(_write, launch, argv))
            # Once it was asked for it may exist; whoever waits for it must learn of it.
            with anyio.CancelScope(shield=True):
                run = await self._open(launch, made)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._thread(partial(terminal_start.take_back, launch.folder))
                await self._close_session(launch.marker)
                await self._thread(partial(cgroups.remove, list(made.values())))
            raise
        self._runs[launch.marker] = run
        if launch.spec.nice and not groups.limits >= {"cpus"}:
            with contextlib.suppress(BackendError):  # it has ended already
                await self.renice(run.ref, launch.spec.nice)
        return run.ref

    async def start_all(self, launches: Sequence[Launch]) -> list[RunRef | AgentTopError | OSError]:
        """One after the other."""
        return await Backend.start_all(self, launches)

    async def _open(self, launch: Launch, made: dict[str, str]) -> Run:
        said = await self._new_session(launch, guarded=not {"tree", "freezer"} & made.keys())
        server, pane = (int(part) for part in said.split())
        await self._thread(partial(files.note_server, launch.folder, server))
        end = time.monotonic() + _ENTER
        while (noted := await self._thread(partial(self._finder.noted, launch))) is None:
            if proc.stat(pane) is None and self._finder.noted(launch) is None:
                why = await self._screen(launch.marker)
                raise BackendError(f"cannot start {launch.command[0]}", why or "Its terminal closed at once")
            if time.monotonic() > end:
                raise BackendError(f"cannot start {launch.command[0]}", "Its terminal does not begin")
            await anyio.sleep(0.002)
        await self._thread(partial(terminal_start.take_back, launch.folder))
        return Run(
            launch.marker, launch.folder, noted.pid, noted.start_time, noted.boot, made, mark=launch.mark
        )

    async def _new_session(self, launch: Launch, *, guarded: bool) -> str:
        name = tmux.session(launch.marker)
        size = ("-x", str(COLUMNS), "-y", str(LINES))
        made = ("new-session", "-d", "-s", name, *size, "-P", "-F", "#{pid} #{pane_pid}")
        start = terminal_start.command(launch.folder, guarded=guarded)
        command = (*made, *start, ";", *self._copying(launch.folder, name))
        for _ in range(_TRIES - 1):
            with contextlib.suppress(tmux.NoServer):
                return await self._server(*command)
            await anyio.sleep(0.02)
        return await self._server(*command)

    def _copying(self, folder: Path, name: str) -> tuple[str, ...]:
        """The tmux command that copies what the terminal gets to the run's file, from now on."""
        path = os.path.relpath(folder / "out", self._server.folder)
        script = f"exec cat >>{shlex.quote(path)}".replace("#", "##").replace("%", "%%")
        # In both directions, though nothing comes back: else tmux does not notice the end of ``cat``.
        return ("pipe-pane", "-I", "-O", "-t", f"={name}:", script)

    async def adopt(self, launch: Launch, ref: RunRef | None) -> Adoption:
        """As ``subprocess``; a terminal that was asked for and has not begun never begins."""
        adoption = await super().adopt(launch, ref)
        if adoption.state == "never_started":
            if not await self._thread(partial(terminal_start.take_back, launch.folder)):
                return adoption
            adoption = await super().adopt(launch, ref)  # it may have been read just before
            if adoption.state == "never_started":
                await self._close_session(launch.marker)
        if adoption.state == "alive":
            await self._thread(partial(terminal_start.take_back, launch.folder))
            with contextlib.suppress(tmux.NoServer, tmux.NoSession):  # which ``wait`` tells of
                await self._copy_on(launch)
        return adoption

    async def _copy_on(self, launch: Launch) -> None:
        """Copy what the terminal gets, where somebody has ended the process that did."""
        name = tmux.session(launch.marker)
        said = await self._server("display-message", "-p", "-t", f"={name}:", "#{pid} #{pane_pipe}")
        server, copied = said.split()
        if files.server_of(launch.folder) is None:  # its kernel was killed before it could note that
            await self._thread(partial(files.note_server, launch.folder, int(server)))
        if copied == "0":
            await self._server(*self._copying(launch.folder, name))

    # -- the end

    async def _wrapper_end(self, run: Run) -> None:
        """Or the end of the terminal: what lived in it is then ended too."""
        server = files.server_of(run.folder)
        if server is None:
            await super()._wrapper_end(run)
            return
        failed: list[OSError] = []
        async with anyio.create_task_group() as tasks:

            async def first(end: Callable[[], Awaitable[None]]) -> None:
                try:
                    await end()
                except OSError as error:  # it cannot be watched; whoever waits asks again
                    failed.append(error)
                tasks.cancel_scope.cancel()

            tasks.start_soon(first, partial(super()._wrapper_end, run))
            tasks.start_soon(first, partial(self._terminal_end, run, server))
        if failed:
            raise failed[0]

    async def _terminal_end(self, run: Run, server: tuple[int, int]) -> None:
        await self._ends.wait(server)
        if run.wrapper() is None:
            return
        with anyio.CancelScope(shield=True):  # the wrapper's end, a part of this, is no reason to leave it
            await self._thread((run.folder / files.LOST).touch)
            await self._stop(run, SWEEP_GRACE, None)

    async def _end(self, run: Run) -> Exit:
        ended = await super()._end(run)
        if await self._thread((run.folder / files.LOST).exists):
            return ended._replace(detail=_KILLED)
        return ended

    async def _let_go(self, run: Run | None, marker: str, folder: Path) -> None:
        """Keep the last screen and close the session, when all it printed has been copied."""
        self._typing.pop(marker, None)
        self._typed.pop(marker, None)
        if not await self._thread((folder / "out").exists):
            return  # never started
        if await self._thread((folder / files.SCREEN).exists):
            await self._close_session(marker)
            return
        name = f"={tmux.session(marker)}:"
        try:
            if run is not None and run.wrapper() is None:
                await self._copied(run, name)
            last = await self._screen(marker, LAST_LINES)
            await self._thread(partial(files.keep_screen, folder, last))
            await self._close_session(marker)
        except (tmux.NoServer, tmux.NoSession):
            if run is not None and not await self._thread(partial(complete, folder, run.carried)):
                await self._thread((folder / files.LOST).touch)
        except BackendError as error:  # the run has ended whatever tmux says; ``forget`` tries again
            log.warning("%s: its terminal was not closed: %s", marker, error)

    async def _copied(self, run: Run, name: str) -> None:
        """Wait for the rest of the output, and learn what tmux saw of an end that left no status."""
        limit = SILENCE
        while not await self._thread(partial(complete, run.folder, run.carried)):
            if limit == SILENCE:
                said = await self._server("display-message", "-p", "-t", name, _DEAD)
                dead, _, how = said.strip("\n").partition(" ")
                if dead == "1":  # tmux has read all there was and passed it on
                    run.status, limit = files.wait_status(how), QUIET
            if await self._thread(partial(silent, run.folder, limit)):
                return
            await anyio.sleep(0.05)

    async def _close_session(self, marker: str) -> None:
        with contextlib.suppress(tmux.NoServer, tmux.NoSession, BackendUnavailable):
            await self._server("kill-session", "-t", f"={tmux.session(marker)}")

    def _is_over(self, launch: Launch) -> bool:
        if not super()._is_over(launch):
            return False
        run = self._runs.get(launch.marker)
        return (
            (run is not None and run.done.is_set())
            or complete(launch.folder, launch.mark)
            or silent(launch.folder, SILENCE)
        )

    # -- the terminal

    async def write(self, ref: RunRef, data: bytes | None) -> None:
        """Type ``data`` as it is; ``None`` types the end of input, after which nothing is typed.

        Raises:
            BackendError: The run or its terminal has ended, its input was ended, or it is too much at once.
        """
        run = await self._live(ref)
        if data is not None and len(data) > LONGEST:
            raise BackendError(f"cannot write to {run.marker}", f"More than {LONGEST >> 20} MB at once")
        async with self._typing.setdefault(run.marker, anyio.Lock()):
            if await self._thread((run.folder / files.CLOSED).exists):
                raise BackendError(f"cannot write to {run.marker}", "Its input was ended")
            if data is None:
                await self._type(run, b"\x04")
                await self._thread((run.folder / files.CLOSED).touch)
            elif data:
                await self._type(run, data)

    async def keyed(self, ref: RunRef) -> float | None:
        """When a person attached or pressed a key last; of a terminal nobody ever saw, when it was made.

        Raises:
            BackendError: The run or its terminal has ended.
        """
        run = await self._live(ref)
        target = f"={tmux.session(run.marker)}:"
        return float(await self._told(run, "display-message", "-p", "-t", target, "#{session_activity}"))

    async def paste(self, ref: RunRef, text: str) -> None:
        """Paste, in brackets where the program asked for them.

        Raises:
            As ``write``.
        """
        run = await self._live(ref)
        async with self._typing.setdefault(run.marker, anyio.Lock()):
            if await self._thread((run.folder / files.CLOSED).exists):
                raise BackendError(f"cannot write to {run.marker}", "Its input was ended")
            await self._type(run, text.encode("utf-8", "replace"), "-p")

    async def _type(self, run: Run, data: bytes, *how: str) -> None:
        # Pasted from a buffer: nothing of it is seen in a command line, it may be long, and it reaches
        # the program even while somebody scrolls.
        name = tmux.session(run.marker)
        await self._told(
            run,
            *("load-buffer", "-b", name, "-", ";"),
            *("paste-buffer", "-d", "-r", *how, "-b", name, "-t", f"={name}:"),
            data=data,
        )
        self._typed[run.marker] = time.monotonic()

    async def press(self, ref: RunRef, keys: Sequence[str]) -> None:
        """Press keys by the names tmux(1) has for them: ``Enter``, ``C-c``, ``Up``, ``a``.

        Raises:
            BackendError: The run or its terminal has ended.
        """
        run = await self._live(ref)
        if not keys:
            return
        target = f"={tmux.session(run.marker)}:"
        leave = ("if-shell", "-F", "-t", target, "#{pane_in_mode}", f"send-keys -t {target} -X cancel", ";")
        wait = keystrokes.fresh(self._typed.get(run.marker, 0.0)) and keystrokes.named(keys[0])
        for part in keystrokes.parts(keys):
            if wait:
                tty = await self._told(run, "display-message", "-p", "-t", target, "#{pane_tty}")
                await keystrokes.taken(tty.strip())
            await self._told(run, *leave, "send-keys", "-t", target, "--", *(_unsplit(key) for key in part))
            wait = True
        if not keystrokes.named(keys[-1]):
            self._typed[run.marker] = time.monotonic()

    async def _told(self, run: Run, *arguments: str, data: bytes | None = None) -> str:
        try:
            return await self._server(*arguments, data=data)
        except (tmux.NoServer, tmux.NoSession) as error:
            raise BackendError(f"{run.marker} has no terminal", _KILLED.capitalize()) from error

    async def attach_command(self, ref: RunRef) -> list[str]:
        """What a screen runs, full-screen, to put a person in front of the run; from any folder.

        It returns with the status ``left`` when the detach key was pressed, with 0 when the run has ended.

        Raises:
            BackendError: The run or its terminal has ended.
        """
        run = await self._live(ref)
        name = tmux.session(run.marker)
        await self._told(run, "has-session", "-t", f"={name}")
        return self._server.attaching(name)

    async def attended(self, ref: RunRef) -> float | None:
        """Now, while anybody is attached; else when one attached or typed last.

        Raises:
            BackendError: The run or its terminal has ended.
        """
        run = await self._live(ref)
        target, what = f"={tmux.session(run.marker)}:", "#{session_attached} #{session_activity}"
        attached, last = (await self._told(run, "display-message", "-p", "-t", target, what)).split()
        return self.context.clock.time() if int(attached) else float(last)

    async def history(self, ref: RunRef, lines: int = tmux.HISTORY) -> str:
        """The terminal's text, the last ``lines`` that scrolled away and the screen, without colours.

        Of an ended run the last screen, as long as the run's folder is kept.

        Raises:
            BackendError: There is nothing kept of it.
        """
        run = self._run(ref)
        try:
            return await self._screen(run.marker, lines)
        except (tmux.NoServer, tmux.NoSession) as error:
            kept = await self._thread(partial(files.kept_screen, run.folder))
            if kept is None:
                raise BackendError(f"{run.marker} has no terminal", _KILLED.capitalize()) from error
            return kept

    async def _screen(self, marker: str, lines: int = 0) -> str:
        target = f"={tmux.session(marker)}:"
        said = await self._server("capture-pane", "-p", "-J", "-S", str(-lines), "-t", target)
        return said.rstrip("\n") + "\n" if said.strip() else ""

    def output(
        self, launch: Launch, offsets: Mapping[str, int] | None = None, *, follow: bool = False
    ) -> AsyncIterator[Chunk]:
        """From the copy in the run's file."""
        over = partial(self._is_over, launch)
        return unmarked(output.read(launch.folder, offsets, follow=follow, ended=over), launch.mark)


def _write(launch: Launch, argv: Sequence[str]) -> None:
    (launch.folder / "out").touch(mode=0o600)
    terminal_start.write(launch.folder, terminal_start.environment(launch.env, launch.cwd, tmux.term()), argv)


def _unsplit(key: str) -> str:
    """A key as an argument: tmux takes a ``;`` at an argument's end for the end of the command."""
    return key[:-1] + "\\;" if key.endswith(";") else key
