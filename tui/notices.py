"""Calling a person to the terminal: its bell, and a desktop notification through it.

Notifications are OSC 9 (iTerm2, and who followed it) and OSC 777 (urxvt, and who followed it); where it is
known which of them a terminal takes, only that one is sent, or it would show two. Inside tmux and screen
they go in a passthrough sequence, which tmux hands on where its ``allow-passthrough`` is on.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .format import clean, cut
from .waits import Waits

if TYPE_CHECKING:
    from textual.timer import Timer

    from agenttop.core.api import Row

    from .app import AgentTopApp

BELL = "\a"

#: So much of a name is in a notification, and so many names.
NAME, NAMED = 40, 3

#: Terminals that would show an escape sequence they do not know.
_PLAIN = ("", "dumb", "linux", "cons25", "vt100", "vt220")

_TAKES = {
    "iTerm.app": "9", "WezTerm": "9", "ghostty": "9", "WarpTerminal": "9", "rio": "9",
}  # fmt: skip

_WORDS = {"input": "waits for input", "approval": "asks for your approval", "budget": "asks for money"}


def osc(text: str, environ: Mapping[str, str]) -> str:
    """The notification that this terminal takes, or nothing.

    Args:
        text: Whatever it is, nothing in it acts on the terminal or ends the notification.
        environ: By which the terminal is known.
    """
    term = environ.get("TERM", "")
    inside = "TMUX" in environ or "STY" in environ
    if term in _PLAIN and not inside:
        return ""
    # A semicolon parts the fields of OSC 777.
    said = clean(text).replace(";", ",")
    nine, triple = f"\x1b]9;agenttop: {said}{BELL}", f"\x1b]777;notify;agenttop;{said}{BELL}"
    known = "" if inside else _known(term, environ)
    both = {"9": nine, "777": triple}.get(known, nine + triple)
    if "TMUX" in environ:
        return "\x1bPtmux;" + both.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    return f"\x1bP{both}\x1b\\" if "STY" in environ else both


def _known(term: str, environ: Mapping[str, str]) -> str:
    if (program := environ.get("TERM_PROGRAM", "")) in _TAKES:
        return _TAKES[program]
    if term == "xterm-kitty":
        return "9"
    return "777" if term.startswith(("foot", "rxvt")) or "VTE_VERSION" in environ else ""


def sentence(rows: Sequence[Row]) -> str:
    """``api waits for input``; of several how many, and some names."""
    names = [cut(clean(row.name), NAME) for row in rows]
    if len(rows) == 1:
        return f"{names[0]} {_WORDS.get(rows[0].reason or '', 'waits for you')}"
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(rows)} agents wait for you: {', '.join(names[:NAMED])}{more}"


class Notices:
    """Tells of waits that begin while the screen is open."""

    def __init__(self, app: AgentTopApp, environ: Mapping[str, str]) -> None:
        self._app = app
        self._environ = environ
        self._waits = Waits()
        self._timer: Timer | None = None
        self._begun = False
        self._away = False
        """Another program has the terminal."""

    def look(self) -> None:
        """The table has changed, or it is time."""
        if not self._begun:
            self._begin()
        if self._away or self._app.lost:
            return
        now = time.monotonic()
        told = self._waits.look(self._app.model.waiting, now)
        rows = [row for key in told if (row := self._app.model.rows.get(key)) is not None]
        if rows:
            self._tell(sentence(rows))
        self._wait(now)

    def _begin(self) -> None:
        self._begun = True
        self._waits.known(self._app.model.waiting)
        self._app.app_suspend_signal.subscribe(self._app, self._left)
        self._app.app_resume_signal.subscribe(self._app, self._came_back)

    def _left(self, _: object) -> None:
        self._away = True

    def _came_back(self, _: object) -> None:
        self._away = False
        self.look()

    def _wait(self, now: float) -> None:
        due = self._waits.due()
        if due is not None and self._timer is None:
            self._timer = self._app.set_timer(max(0.05, due - now), self._late, name="notices")

    def _late(self) -> None:
        self._timer = None
        self.look()

    def _tell(self, text: str) -> None:
        settings = self._app.settings
        off = self._app.silenced
        data = osc(text, self._environ) if settings.osc and "osc" not in off else ""
        if settings.bell and "bell" not in off:
            data += BELL
        if data:
            self._app.call_to_terminal(data)


def at_terminal() -> bool:
    """Whether both what is written by Textual (stderr) and stdout are a person's terminal."""
    try:
        return os.isatty(sys.__stdout__.fileno()) and os.isatty(sys.__stderr__.fileno())  # type: ignore[union-attr]  # caught below
    except (AttributeError, OSError, ValueError):  # closed, or never there
        return False
