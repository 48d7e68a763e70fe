"""Colour themes: one TOML file each, usable from CSS and from rendered lines alike.

``load`` gives the data of one theme, ``textual_theme`` what Textual registers (every colour is a CSS
variable of the same name), ``Palette`` the Rich styles that widgets put into their lines.
"""

from __future__ import annotations

from .loader import MONO, NAMES, ThemeData, load, textual_theme
from .palette import Palette

__all__ = ["MONO", "NAMES", "Palette", "ThemeData", "load", "textual_theme"]
