"""htop's meters: a label, a bracketed bar of segments, and text lying over the bar."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from rich.style import Style

from .lines import Part
from .look import Look

#: What a bucket's bar is made of where there is no colour.
_MONO = {"tok-input": "|", "tok-cache-read": "c", "tok-cache-write": "w", "tok-output": "o"}

#: A stretch of a bar: the theme variable, and how many cells.
Stretch = tuple[str, int]


class Meter(NamedTuple):
    """One meter: parts as ``(theme variable, amount)``, and what full is."""

    label: str
    parts: tuple[tuple[str, float], ...]
    scale: float
    text: str
    quiet: bool = False
    """Nothing known or nothing there: the text is muted."""


def bar(parts: Sequence[tuple[str, float]], scale: float, cells: int) -> tuple[Stretch, ...]:
    """The stretches a bar is filled with, from the left.

    A part above zero gets at least one cell, and the bar never outgrows its bracket.
    """
    counts: list[list[str | int]] = []
    total, filled = 0.0, 0
    for name, amount in parts:
        if amount <= 0 or scale <= 0:
            continue
        total += amount
        count = max(1, round(cells * min(1.0, total / scale)) - filled)
        counts.append([name, count])
        filled += count
    while filled > cells and counts:
        # Take from the longest, so that no part disappears.
        longest = max(counts, key=lambda pair: pair[1])
        longest[1] = int(longest[1]) - 1
        filled -= 1
    return tuple((str(name), int(count)) for name, count in counts if count)


def parts(meter: Meter, cells: int, look: Look, *, stale: bool = False, width: int = 4) -> tuple[Part, ...]:
    """The meter in ``cells`` cells, brackets included; ``width`` is the label's."""
    inner = cells - width - 2
    if inner < 1:
        return ((look.cut(meter.label, cells), look.palette("label")),)
    text = look.cut(meter.text, inner)
    label = meter.label[: width - 1].ljust(width)
    return _drawn(label, bar(meter.parts, meter.scale, inner), text, inner, meter.quiet, look, stale)


@lru_cache(maxsize=256)
def _drawn(
    label: str, filled: tuple[Stretch, ...], text: str, inner: int, quiet: bool, look: Look, stale: bool
) -> tuple[Part, ...]:
    """The finished meter. Amounts change all the time, what is seen of them seldom: hence the cache."""
    palette = look.palette
    bracket = palette("muted" if stale else "bracket", bold=not stale)
    out: list[Part] = [(label, palette("muted" if stale else "label")), ("[", bracket)]
    offset, x = inner - len(text), 0
    for name, count in [*filled, ("", inner - sum(count for _, count in filled))]:
        end = x + count
        if x < offset:
            out.append(_bar_cells(name, min(end, offset) - x, look, stale))
        if end > offset:
            out.append((text[max(0, x - offset) : end - offset], _covered(name, look, quiet, stale)))
        x = end
    out.append(("]", bracket))
    return tuple(part for part in out if part[0])


def _bar_cells(name: str, count: int, look: Look, stale: bool) -> Part:
    palette = look.palette
    if not name:
        return " " * count, palette("fg")
    return (_MONO.get(name, "|") if look.mono else "|") * count, palette("num-stale" if stale else name)


def _covered(name: str, look: Look, quiet: bool, stale: bool) -> Style:
    """Text takes the colour of the bar beneath it, so that nothing of the bar is hidden."""
    palette = look.palette
    if stale:
        return palette("num-stale")
    if name:
        return palette(name, bold=True, underline=look.mono)
    return palette("muted") if quiet else palette("bright", bold=True)
