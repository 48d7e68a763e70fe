"""How values look in few cells, and how hostile text is made harmless.

Numbers follow one rule set: one decimal below ten and none above, decimal ``k`` for tokens, binary
units for bytes, ages in seconds below a minute and in minutes from there.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache

UNKNOWN = "-"

_UNITS = ("", "k", "M", "G", "T", "P")
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS, SOS, PM, APC with their text
    r"|\x9b[0-?]*[ -/]*[@-~]"  # CSI as one C1 character
    r"|\x1b[ -/]*[0-~]?"  # what is left of an escape sequence
)
_SPACES = re.compile(r"[\t\n\r\v\f\x1c-\x1f\x85\u2028\u2029]+")
_HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x9f"  # C0 and C1
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"  # zero width, bidi
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_SURROGATES = re.compile("[\ud800-\udfff]")
_MARKS = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20f0\ufe20-\ufe2f]"
_STACKED = re.compile(f"({_MARKS}{{2}}){_MARKS}+")


def clean(text: str) -> str:
    """One line that can do no harm: no control or escape sequences, no bidi or zero-width characters.

    Line breaks and tabs become one space; what cannot be encoded becomes ``?``.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _ESCAPES.sub("", text)
    text = _SPACES.sub(" ", text)
    text = _HIDDEN.sub("", text)
    text = _STACKED.sub(r"\1", text)
    return _SURROGATES.sub("?", text)


def width(text: str) -> int:
    """Cells that ``text`` takes."""
    if text.isascii():
        return len(text)
    # Imported here: `agenttop ps` uses this module and must not pay for rich.
    from rich.cells import cell_len

    return cell_len(text)


def fit(text: str, cells: int, mark: str = "…") -> str:
    """``text`` in exactly ``cells`` cells: padded, or cut at the end with ``mark``."""
    taken = width(text)
    if taken <= cells:
        return text + " " * (cells - taken)
    return cut(text, cells, mark)


def cut(text: str, cells: int, mark: str = "…") -> str:
    """``text`` in at most ``cells`` cells, cut at the end with ``mark``."""
    if width(text) <= cells:
        return text
    if cells <= 0:
        return ""
    if text.isascii():
        return text[: cells - 1] + mark
    from rich.cells import set_cell_size

    return set_cell_size(text, cells - 1) + mark


def cut_middle(text: str, cells: int, mark: str = "…") -> str:
    """``text`` in at most ``cells`` cells, cut in the middle, the tail kept."""
    if width(text) <= cells:
        return text
    if cells < 3:
        return cut(text, cells, mark)
    tail = max(1, (cells - 1) // 3)
    head = cells - 1 - tail
    if text.isascii():
        return text[:head] + mark + text[-tail:]
    from rich.cells import chop_cells, set_cell_size

    pieces = chop_cells(text[::-1], tail)
    return set_cell_size(text, head) + mark + (pieces[0][::-1] if pieces else "")


def tokens(value: float | None) -> str:
    """``812 9.8k 41k 6.8M``: at most four cells."""
    if value is None:
        return UNKNOWN
    number = float(value)
    for unit in _UNITS:
        if unit == "":
            if round(number) < 1000:
                return str(round(number))
        elif number < 9.95:
            return f"{number:.1f}{unit}"
        elif round(number) < 1000:
            return f"{round(number)}{unit}"
        number /= 1000
    return "lots"


def size(value: float | None) -> str:
    """Bytes in binary units: ``604M 1.2G``, at most five cells."""
    if value is None:
        return UNKNOWN
    number = float(value)
    for unit in ("B", "K", "M", "G", "T"):
        if unit == "B" or number >= 9.95:
            if round(number) < 1000 or (unit == "T"):
                return f"{round(number)}{unit}"
        elif number < 9.95:
            return f"{number:.1f}{unit}"
        number /= 1024
    return "lots"


def money(value: float | None, cells: int = 5, *, exact: bool = True, mark: str = "~") -> str:
    """USD with two decimals and no ``$``; drops decimals, never digits, to fit ``cells``."""
    if value is None:
        return UNKNOWN
    sign = "" if exact else mark
    for decimals in (2, 1, 0):
        text = f"{sign}{value:.{decimals}f}"
        if len(text) <= cells:
            return text
    return f"{sign}{value:.0f}"


def percent(part: float | None, whole: float | None) -> int | None:
    """Whole per cent of ``whole``, or ``None`` where either is not known."""
    if part is None or not whole:
        return None
    return round(100 * part / whole)


def level(used: float) -> str:
    """The colour of so many per cent of a limit: ``good``, ``warn`` from 70, ``bad`` from 90."""
    return "good" if used < 70 else "warn" if used < 90 else "bad"


def age(seconds: float) -> str:
    """``3s 41s 2m 1h14 3d04:11``: one step a second below a minute, then a minute."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02d}"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02d}:{minutes:02d}"


def uptime(seconds: float) -> str:
    """``2:58:10``, ``3d04:11``: at most eight cells.

    From the first minute on it goes in steps of ten seconds, so that a table of runs does not change
    in every row at every second.
    """
    whole = max(0, int(seconds))
    if whole >= 60:
        whole -= whole % 10
    if whole < 86400:
        return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    days, rest = divmod(whole, 86400)
    return f"{days}d{rest // 3600:02d}:{rest // 60 % 60:02d}" if days < 1000 else f"{days}d"


def clock(when: float) -> str:
    """The local time of day, ``14:06:21``."""
    return time.strftime("%H:%M:%S", time.localtime(when))


@lru_cache(maxsize=512)
def model(name: str) -> str:
    """A model without vendor and date: ``anthropic/claude-sonnet-4-5-20250929`` → ``sonnet-4.5``."""
    short = clean(name).rsplit("/", 1)[-1].rsplit(":", 1)[0] or clean(name)
    short = re.sub(r"[-@](?:20\d{6}|20\d\d-\d\d-\d\d|latest)$", "", short)
    short = re.sub(r"^(?:[a-z]{2}\.)?(?:anthropic\.)?claude-", "", short)
    short = re.sub(r"(?<=[a-z]-)(\d)-(\d{1,2})$", r"\1.\2", short)
    return re.sub(r"^(\d)-(\d)-([a-z]+)$", r"\3-\1.\2", short)


@lru_cache(maxsize=2048)
def sparkline(values: tuple[int, ...], cells: int = 10) -> str:
    """Braille bars, two values a cell, scaled to their own maximum; a value above zero shows a dot."""
    peak = max(values, default=0)
    if not peak:
        return " " * cells
    padded = (0,) * (cells * 2 - len(values)) + tuple(values[-cells * 2 :])
    heights = [0 if value <= 0 else max(1, round(4 * value / peak)) for value in padded]
    return "".join(
        chr(0x2800 + _LEFT[a] + _RIGHT[b]) for a, b in zip(heights[::2], heights[1::2], strict=True)
    )


_LEFT = (0, 0x40, 0x44, 0x46, 0x47)
_RIGHT = (0, 0x80, 0xA0, 0xB0, 0xB8)
