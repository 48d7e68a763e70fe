"""The recall tier of one agent: how much there is, the last hour, the newest entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..format import clean, clock, size, sparkline, tokens
from ..memory import Known, moved_from
from .memory_parts import Drawn, Part, padded, when
from .paper import Row

if TYPE_CHECKING:
    from agenttop.core.api.memory import EntryInfo

#: What an entry's role is called here, and its ink.
ROLES = {
    "assistant": ("said", "fg"), "user": ("user", "state-needs-you"), "system": ("sys", "muted"),
    "tool": ("tool", "good"), "output": ("out", "muted"), "message": ("mail", "link"),
    "working": ("moved", "warn"),
}  # fmt: skip
#: Characters of the lightest to the heaviest minute where there is no braille.
_STEPS = " .:=#"


def role(name: str) -> tuple[str, str]:
    """A role's word and ink."""
    return ROLES.get(name, (clean(name)[:5], "fg"))


def spark(values: tuple[int, ...], cells: int, *, ascii: bool) -> str:
    """An hour's minutes in ``cells``, two a cell."""
    if not ascii:
        return sparkline(values, cells)
    padded_values = (0,) * (2 * cells - len(values)) + values[-2 * cells :]
    sums = [a + b for a, b in zip(padded_values[::2], padded_values[1::2], strict=True)]
    peak = max(sums, default=0) or 1
    return "".join(_STEPS[0 if not value else max(1, round(4 * value / peak))] for value in sums)


class RecallPart(Part):
    """``RECALL``: everything said to and by the agent."""

    def __init__(self) -> None:
        super().__init__("RECALL")
        self.known: Known | None = None

    @property
    def entries(self) -> list[EntryInfo]:
        """The entries known, newest first."""
        return (self.known.entries if self.known is not None else None) or []

    @property
    def keys(self) -> list[str]:
        """The entries' ids."""
        return [str(entry.id) for entry in self.entries]

    @property
    def chosen(self) -> EntryInfo | None:
        """The entry under the cursor."""
        place = self.place
        return self.entries[place] if self.entries else None

    def draw(self, drawn: Drawn) -> list[Row]:
        """Title, sums, the last hour, entries, and how many are older."""
        rows = [self.head(drawn, "its history")]
        fill = self.known.fill if self.known is not None else None
        if fill is None:
            return rows
        sums = [f"{fill.recall_entries:,} {'entry' if fill.recall_entries == 1 else 'entries'}"]
        sums += [f"{tokens(fill.recall_tokens)} tokens"] if fill.recall_tokens else []
        sums += [size(fill.recall_bytes)] if fill.recall_bytes else []
        rows.append([(" " + "  ".join(sums), "fg")])
        if drawn.height >= 8:
            rows.append(_hour(tuple(fill.recall_spark), drawn))
        if drawn.height >= 10:
            rows.append([])
        room = drawn.height - len(rows) - 1
        if self.entries:
            rows += self.rows_of(lambda n: _row(self.entries[n], drawn), room, drawn)
        else:
            rows.append([(" nothing was said yet", "muted")])
        rows += [[]] * (drawn.height - 1 - len(rows))
        older = fill.recall_entries - min(len(self.entries), self._top + room)
        bottom: Row = (
            [(f" {older:,} older".ljust(13), "muted"), ("/ search them", "muted")] if older > 0 else []
        )
        return [*rows[: drawn.height - 1], bottom]


def _hour(values: tuple[int, ...], drawn: Drawn) -> Row:
    cells = max(4, min(30, drawn.width - 15))
    text = spark(values, cells, ascii=drawn.ascii)
    return [
        (f" {clock(drawn.now - 3600)[:5]} ", "muted"),
        (text, "good"),
        (f" {clock(drawn.now)[:5]}", "muted"),
    ]


def _row(entry: EntryInfo, drawn: Drawn) -> Row:
    word, ink = role(entry.role)
    text = entry.text[: 4 * drawn.width]
    if entry.role == "working":
        name = moved_from(entry.source)
        text = f"{name} ← working: {text}" if name else text
    said = "warn" if entry.role == "working" else "fg"
    return [
        (" ", ""),
        padded(when(entry.at, drawn.now), 7, "muted"),
        padded(word, 6, ink),
        (clean(text), said),
    ]
