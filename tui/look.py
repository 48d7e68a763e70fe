"""How this terminal can be drawn on: colours, characters, and the two together as a ``Look``."""

from __future__ import annotations

import locale
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from agenttop.core.agents.states import LETTERS
from agenttop.themes import MONO, NAMES, Palette, load

from .format import cut, cut_middle

_ENDED_BY_A_PERSON = frozenset(("input", "approval", "budget"))


class Glyphs(NamedTuple):
    """The characters beyond letters and digits; two sets, with and without Unicode."""

    mark: str
    tag: str
    down: str
    up: str
    tee: str
    corner: str
    pipe: str
    rule: str
    vertical: str
    at_least: str
    dot: str
    full: str
    empty: str
    ok: str
    box: str
    """Corners and sides of a dialog: top left, top right, bottom left, bottom right, ─, │."""
    bullet: str
    arrows: str


UNICODE = Glyphs("…", "•", "▽", "△", "├─", "└─", "│ ", "─", "│", "≥", "·", "━", "━", "✓", "╭╮╰╯─│", "▌", "↑↓")
ASCII = Glyphs(">", "*", "v", "^", "|-", "`-", "| ", "-", "|", ">=", "-", "#", ".", "ok", "++++-|", ">", "^v")


@dataclass(frozen=True, eq=False)
class Look:
    """Palette and characters. A new one is made when the theme changes; widgets cache by identity."""

    palette: Palette
    glyphs: Glyphs

    @property
    def unicode(self) -> bool:
        """Whether characters beyond ASCII may be drawn."""
        return self.glyphs is UNICODE

    @property
    def mono(self) -> bool:
        """Whether only bold, reverse and underline may be used."""
        return self.palette.mono

    def plain(self, text: str) -> str:
        """``text`` with nothing this terminal cannot draw."""
        return text if self.unicode or text.isascii() else text.encode("ascii", "replace").decode()

    def cut(self, text: str, cells: int) -> str:
        """Cut at the end."""
        return cut(self.plain(text), cells, self.glyphs.mark)

    def cut_middle(self, text: str, cells: int) -> str:
        """Cut in the middle, the tail kept."""
        return cut_middle(self.plain(text), cells, self.glyphs.mark)


def look(theme: str, *, ascii: bool = False) -> Look:
    """The look of a theme.

    Raises:
        UsageError: There is no such theme.
    """
    return Look(Palette(load(theme)), ASCII if ascii else UNICODE)


def wants_ascii(environ: Mapping[str, str]) -> bool:
    """Whether this terminal cannot be trusted with Unicode: a Linux console, or a locale without UTF-8."""
    if environ.get("TERM", "") in ("linux", "dumb", "vt100", "vt220"):
        return True
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        if value := environ.get(name):
            return "utf" not in value.lower()
    return "utf" not in locale.getpreferredencoding(False).lower()


def wanted_theme(environ: Mapping[str, str], chosen: str | None) -> str:
    """The theme to start with: no colour where asked for, the terminal's own colours where it has 16."""
    if "NO_COLOR" in environ or environ.get("TERM") in ("dumb", "vt100", "vt220"):
        return MONO
    if chosen:
        return chosen
    deep = environ.get("COLORTERM", "").lower() in ("truecolor", "24bit")
    deep = deep or any(
        part in environ.get("TERM", "") for part in ("256", "direct", "kitty", "alacritty", "ghostty")
    )
    return NAMES[0] if deep else "ansi"


def letter(state: str, pause: str | None) -> str:
    """The state letter: ``F`` frozen and ``H`` held lie over the state beneath."""
    if pause:
        return "H" if pause == "hold" else "F"
    return LETTERS.get(state, "?")  # type: ignore[call-overload,no-any-return]


def colour(state: str, pause: str | None, reason: str | None) -> str:
    """The theme variable of a state."""
    if pause:
        return "state-paused"
    if state == "waiting":
        return "state-needs-you" if reason in _ENDED_BY_A_PERSON else "state-waiting"
    return f"state-{state}" if state in _STATES else "fg"


_STATES = frozenset(str(state) for state in LETTERS)
