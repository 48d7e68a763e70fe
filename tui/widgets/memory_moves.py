"""What went from tier to tier: when, from where to where, why, and how many tokens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..format import clean, tokens
from ..memory import PAGE, Known
from .memory_parts import Drawn, Part, padded, when
from .paper import Row

if TYPE_CHECKING:
    from agenttop.core.api.memory import MoveInfo

#: Cells before what moved.
BEFORE = 29


def kind(move: MoveInfo) -> tuple[str, str]:
    """What a movement is called, and its ink."""
    if not move.target:
        return "gone", "muted"
    if move.target == "archival":
        return "archived", "good"
    return ("promoted", "link") if move.target == "working" else ("moved out", "warn")


def sentence(move: MoveInfo) -> str:
    """What moved and why, the name once."""
    what, why = clean(move.what), clean(move.why)
    if not why:
        return f"{kind(move)[0]}: {what}"
    return why if what and what in why else f"{what}: {why}"


class MovesPart(Part):
    """``Movements``: the newest first."""

    def __init__(self) -> None:
        super().__init__("Movements")
        self.known: Known | None = None

    @property
    def moves(self) -> list[MoveInfo]:
        """The movements known."""
        return (self.known.moves if self.known is not None else None) or []

    @property
    def keys(self) -> list[str]:
        """The movements' ids."""
        return [str(move.id) for move in self.moves]

    @property
    def chosen(self) -> MoveInfo | None:
        """The movement under the cursor."""
        place = self.place
        return self.moves[place] if self.moves else None

    def draw(self, drawn: Drawn) -> list[Row]:
        """Title and movements."""
        day = time.localtime(drawn.now)[:3]
        today = sum(time.localtime(move.at)[:3] == day for move in self.moves)
        more = "+" if today >= PAGE else ""
        rows = [self.head(drawn, f"{today}{more} today")]
        if not self.moves and self.known is not None and self.known.moves is not None:
            rows.append([(" nothing moved yet", "muted")])
        return [*rows, *self.rows_of(lambda n: _row(self.moves[n], drawn), drawn.height - 1, drawn)]


def _row(move: MoveInfo, drawn: Drawn) -> Row:
    ink = kind(move)[1]
    narrow = drawn.width < 56
    source, target = (move.source[:4], move.target[:4]) if narrow else (move.source, move.target)
    cells = 4 if narrow else 8
    text = sentence(move)
    count = tokens(move.tokens)
    rest = drawn.width - 8 - 2 * cells - 4 - 6
    return [
        (" ", ""), padded(when(move.at, drawn.now), 7, "muted"), padded(source, cells, "fg", right=True),
        (" → ", ink), padded(target or "-", cells + 1, "fg"), padded(text, rest, ink),
        padded(count, 5, "muted", right=True),
    ]  # fmt: skip
