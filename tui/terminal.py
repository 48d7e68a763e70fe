"""The terminal under the screen: what is written to it is kept small, and counted.

Textual repaints a changed region from the beginning of its widget's line, and gives every stretch of
text its whole style. Over a slow line both are felt; here a region is written from its first changed
cell, and of a style only what differs from the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.driver import Driver
from textual.strip import Strip

_SYSTEMS = {
    "standard": ColorSystem.STANDARD, "256": ColorSystem.EIGHT_BIT, "truecolor": ColorSystem.TRUECOLOR,
    "windows": ColorSystem.WINDOWS,
}  # fmt: skip


def metered(
    base: type[Driver], count: Callable[[int], None], away: Callable[[], bool] = lambda: False
) -> type[Driver]:
    """``base``, telling ``count`` the bytes of every write; while ``away`` the terminal is another's."""

    class MeteredDriver(base):  # type: ignore[misc,valid-type]
        """A driver that counts what it writes."""

        def write(self, data: str) -> None:
            """Write and count."""
            if away():
                return
            count(len(data) if data.isascii() else len(data.encode("utf-8", "replace")))
            super().write(data)

    return MeteredDriver


class _Codes(NamedTuple):
    """A style's SGR parameters (ECMA-48), apart: what is not set is empty."""

    attributes: str
    fg: str
    bg: str


_PLAIN = _Codes("", "", "")


@lru_cache(maxsize=4096)
def _codes(style: Style, system: ColorSystem | None) -> _Codes:
    start = style.render("x", color_system=system)
    if not start.startswith("\x1b["):
        return _PLAIN
    queue = iter(start[2 : start.index("m")].split(";"))
    attributes: list[str] = []
    fg = bg = ""
    for code in queue:
        number = int(code or 0)
        if number in (38, 48):
            kind = next(queue)
            colour = ";".join([code, kind, *(next(queue) for _ in range(3 if kind == "2" else 1))])
        else:
            colour = code
        if number == 38 or 30 <= number <= 39 or 90 <= number <= 97:
            fg = colour
        elif number == 48 or 40 <= number <= 49 or 100 <= number <= 107:
            bg = colour
        else:
            attributes.append(code)
    return _Codes(";".join(attributes), fg, bg)


def _change(old: _Codes, new: _Codes) -> str:
    """The SGR sequence that leads from one style to the next."""
    if old == new:
        return ""
    if old.attributes != new.attributes or (old.fg and not new.fg) or (old.bg and not new.bg):
        return "\x1b[" + ";".join(part for part in ("0", *new) if part) + "m"
    parts = [part for part, before in ((new.fg, old.fg), (new.bg, old.bg)) if part != before]
    return "\x1b[" + ";".join(parts) + "m"


class _Writer:
    """Collects one update, remembering the style the terminal is in."""

    def __init__(self, system: ColorSystem | None) -> None:
        self._system = system
        self._out: list[str] = []
        self._now = _PLAIN

    def put(self, x: int, y: int, strip: Iterable[Segment]) -> None:
        """Text at a place."""
        out, system = self._out, self._system
        out.append(f"\x1b[{y + 1};{x + 1}H")
        for text, style, control in strip:
            if control or not text:
                continue
            codes = _codes(style, system) if style is not None else _PLAIN
            if codes is not self._now:
                out.append(_change(self._now, codes))
                self._now = codes
            out.append(text)

    def text(self) -> str:
        """What to send; the terminal is left in its plain style."""
        return "".join(self._out) + ("\x1b[0m" if self._now != _PLAIN else "")


class ThriftyChops(ChopsUpdate):
    """Changed spans, each from its first cell to its last."""

    def render_segments(self, console: Console) -> str:
        """What to send."""
        writer = _Writer(_SYSTEMS.get(console.color_system or ""))
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                if strip is None or x >= x2 or end <= x1:
                    continue
                start, stop = max(x, x1), min(end, x2)
                part: Strip = strip if (start, stop) == (x, end) else strip.crop(start - x, stop - x)
                writer.put(start, y, part)
        return writer.text()


class ThriftyLayout(LayoutUpdate):
    """A whole region."""

    def render_segments(self, console: Console) -> str:
        """What to send."""
        writer = _Writer(_SYSTEMS.get(console.color_system or ""))
        x = self.region.x
        for y, line in enumerate(self.strips, self.region.y):
            writer.put(x, y, (segment for strip in line for segment in strip))
        return writer.text()


def thrifty(update: Any) -> Any:
    """The same update, written with fewer bytes; anything else as it is."""
    if type(update) is ChopsUpdate:
        return ThriftyChops(update.chops, update.spans, update.chop_ends)
    if type(update) is LayoutUpdate:
        return ThriftyLayout(update.strips, update.region)
    return update
