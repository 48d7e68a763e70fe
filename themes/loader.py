"""TOML → ``ThemeData`` → ``textual.theme.Theme``."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from agenttop.core.errors import UsageError

if TYPE_CHECKING:
    from textual.theme import Theme

NAMES = ("htop", "dusk", "paper", "ansi")
"""The themes that come with agenttop; the first is the default."""

MONO = "mono"
"""Not a theme of its own but every theme without colour: bold, reverse and underline only."""

_FOLDER = Path(__file__).parent
_ANSI = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_ANSI_NAMES = frozenset(("default", "dim", *_ANSI, *(f"bright_{name}" for name in _ANSI)))
_HEX = re.compile(r"#[0-9a-f]{6}")


@dataclass(frozen=True, slots=True)
class ThemeData:
    """One theme: a colour (``#rrggbb``, or an ANSI name where ``ansi``) for each variable."""

    name: str
    title: str
    dark: bool
    ansi: bool
    colours: dict[str, str]

    def css(self, variable: str) -> str:
        """The colour as Textual's CSS wants it."""
        value = self.colours[variable]
        if not self.ansi:
            return value
        return "ansi_default" if value in ("default", "dim") else f"ansi_{value}"


def parse(name: str, text: str) -> ThemeData:
    """Read one theme file.

    Raises:
        UsageError: It is not TOML, or a colour is not one; the message names theme and variable.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"theme {name} cannot be read", str(error)) from error
    ansi = bool(table.get("ansi", False))
    colours = table.get("colours", {})
    for variable, value in colours.items():
        known = value in _ANSI_NAMES if ansi else isinstance(value, str) and _HEX.fullmatch(value)
        if not known:
            raise UsageError(f"theme {name}: {variable} is {value!r}", "That is not a colour")
    return ThemeData(name, str(table.get("title", name)), bool(table.get("dark", True)), ansi, dict(colours))


@cache
def load(name: str) -> ThemeData:
    """The theme of this name; ``mono`` is ``ansi`` with every colour taken away.

    Raises:
        UsageError: There is no such theme.
    """
    if name == MONO:
        base = load("ansi")
        return replace(base, name=MONO, colours=dict.fromkeys(base.colours, "default"))
    if name not in NAMES:
        raise UsageError(f"unknown theme {name}", f"There are {', '.join(NAMES)} and {MONO}")
    return parse(name, (_FOLDER / f"{name}.toml").read_text("utf-8"))


def textual_theme(data: ThemeData) -> Theme:
    """The theme as Textual registers it; all its colours are CSS variables."""
    from textual.theme import Theme

    css = data.css
    variables = {name: css(name) for name in data.colours}
    variables |= {
        "block-cursor-background": css("cursor-bg"),
        "block-cursor-foreground": css("cursor-fg"),
        "block-cursor-text-style": "none",
        "border": css("accent"),
        "border-blurred": css("rule"),
        "footer-key-foreground": css("key-fg"),
        "input-cursor-background": css("fg"),
        "input-cursor-foreground": css("bg"),
        "input-selection-background": css("blur-bg"),
        "scrollbar": css("rule"),
        "scrollbar-background": css("bg"),
    }
    if data.ansi:
        variables |= {"ansi-background": "ansi_black", "ansi-foreground": "ansi_white"}
    return Theme(
        name=data.name,
        primary=css("accent"),
        secondary=css("link"),
        warning=css("warn"),
        error=css("bad"),
        success=css("good"),
        accent=css("accent"),
        foreground=css("fg"),
        background=css("bg"),
        surface=css("surface"),
        panel=css("panel"),
        dark=data.dark,
        ansi=data.ansi,
        variables=variables,
    )
