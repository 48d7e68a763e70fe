"""Rich styles for rendered lines, made once per theme."""

from __future__ import annotations

from rich.color import Color
from rich.style import Style

from .loader import MONO, ThemeData

#: How pairs that mean something are told apart without colour.
_MONO_REVERSE = frozenset(
    ("head-bg", "cursor-bg", "act-bg", "state-needs-you", "state-waiting", "bad", "warn")
)
_MONO_UNDERLINE = frozenset(("sort-bg", "blur-bg"))


class Palette:
    """Styles by the theme's variable names.

    ``palette("state-planning", bold=True)`` is a Rich style with that foreground on the theme's
    background; ``on`` names another background. Without colour (``mono``) backgrounds become
    reverse video, and only bold, italic, reverse and underline remain.
    """

    def __init__(self, data: ThemeData) -> None:
        self.data = data
        self.mono = data.name == MONO
        self._styles: dict[tuple[str, str, bool, bool, bool], Style] = {}

    def __call__(
        self,
        fg: str = "fg",
        on: str = "bg",
        *,
        bold: bool = False,
        italic: bool = False,
        underline: bool = False,
    ) -> Style:
        """The style of text in ``fg`` on ``on``, both names of the theme's variables."""
        key = (fg, on, bold, italic, underline)
        style = self._styles.get(key)
        if style is None:
            style = self._styles[key] = self._make(*key)
        return style

    def _make(self, fg: str, on: str, bold: bool, italic: bool, underline: bool) -> Style:
        if self.mono:
            return Style(
                bold=bold or None,
                italic=italic or None,
                underline=(underline or on in _MONO_UNDERLINE) or None,
                reverse=(on in _MONO_REVERSE or on == "sort-bg") or None,
            )
        front, back = self.data.colours[fg], self.data.colours[on]
        return Style(
            color=_colour(front),
            bgcolor=_colour(back),
            dim=(front == "dim") or None,
            bold=bold or None,
            italic=italic or None,
            underline=underline or None,
        )


def _colour(value: str) -> Color:
    return Color.parse("default" if value == "dim" else value)
