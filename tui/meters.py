"""htop's meters: a label, a bracketed bar of segments, and text lying over the bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .lines import Part
from .look import Look

#: What a bucket's bar is made of where there is no colour.
_MONO = {"tok-input": "|", "tok-cache-read": "c", "tok-cache-write": "w", "tok-output": "o"}


class Meter(NamedTuple):
    """One meter: parts as ``(theme variable, amount)``, and what full is."""

    label: str
    parts: tuple[tuple[str, float], ...]
    scale: float
    text: str
    quiet: bool = False
    """Nothing known or nothing there: the text is muted."""


def bar(parts: Sequence[tuple[str, float]], scale: float, cells: int) -> list[str]:
    """The variable each cell is drawn in, empty cells as ``""``.

    A part above zero gets at least one cell, and the bar never outgrows its bracket.
    """
    filled: list[str] = []
    total = 0.0
    for name, amount in parts:
        if amount <= 0 or scale <= 0:
            continue
        total += amount
        end = min(cells, round(cells * total / scale))
        filled += [name] * max(1, end - len(filled))
    if len(filled) > cells:
        filled = _squeeze(filled, cells)
    return filled + [""] * (cells - len(filled))


def _squeeze(filled: list[str], cells: int) -> list[str]:
    """Cut an overfull bar to ``cells``, taking from the longest part, so that none disappears."""
    counts: dict[str, int] = {}
    for name in filled:
        counts[name] = counts.get(name, 0) + 1
    while sum(counts.values()) > cells:
        longest = max(counts, key=lambda name: counts[name])
        if counts[longest] == 1:
            break
        counts[longest] -= 1
    return [name for name, count in counts.items() for _ in range(count)][:cells]


def parts(meter: Meter, cells: int, look: Look, *, stale: bool = False, width: int = 4) -> list[Part]:
    """The meter in ``cells`` cells, brackets included; ``width`` is the label's."""
    palette = look.palette
    inner = cells - width - 2
    if inner < 1:
        return [(look.cut(meter.label, cells), palette("label"))]
    text = look.cut(meter.text, inner)
    colours = bar(meter.parts, meter.scale, inner)
    offset = inner - len(text)
    label, bracket = ("muted", "muted") if stale else ("label", "bracket")
    out: list[Part] = [
        (meter.label[: width - 1].ljust(width), palette(label)),
        ("[", palette(bracket, bold=not stale)),
    ]
    for place, name in enumerate(colours):
        over = text[place - offset] if place >= offset else ""
        out.append(_cell(name, over, look, meter.quiet, stale))
    out.append(("]", palette(bracket, bold=not stale)))
    return _merged(out)


def _cell(name: str, over: str, look: Look, quiet: bool, stale: bool) -> Part:
    palette = look.palette
    covered = bool(over)
    if stale:
        return (over or ("|" if name else " "), palette("num-stale"))
    if name and not covered:
        return (_MONO.get(name, "|") if look.mono else "|", palette(name))
    if not covered:
        return " ", palette("fg")
    if name:
        return over, palette(name, bold=True, underline=look.mono)
    return over, palette("muted") if quiet else palette("bright", bold=True)


def _merged(parts: list[Part]) -> list[Part]:
    out: list[Part] = []
    for text, style in parts:
        if out and out[-1][1] is style:
            out[-1] = (out[-1][0] + text, style)
        else:
            out.append((text, style))
    return out
