"""The working tier of one agent: its blocks with how full they are, and their first lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..format import clean, percent, tokens
from ..memory import Known
from .memory_parts import Drawn, Group, Part, bar, padded, who
from .paper import Row, ends, wrapped

if TYPE_CHECKING:
    from agenttop.core.api.memory import BlockInfo

#: Lines of one block's text at most, however much room there is, and characters that are looked at for them.
LINES, LOOKED = 12, 4_000


class WorkingPart(Part):
    """``WORKING``: what is in the agent's context now."""

    def __init__(self) -> None:
        super().__init__("WORKING")
        self.known: Known | None = None

    @property
    def blocks(self) -> list[BlockInfo]:
        """The blocks known."""
        return (self.known.blocks if self.known is not None else None) or []

    @property
    def keys(self) -> list[str]:
        """The blocks' names."""
        return [block.name for block in self.blocks]

    @property
    def chosen(self) -> BlockInfo | None:
        """The block under the cursor."""
        place = self.place
        return self.blocks[place] if self.blocks else None

    def draw(self, drawn: Drawn) -> list[Row]:
        """Title, sum, blocks, and what is free."""
        rows = [self.head(drawn, "in context")]
        fill = self.known.fill if self.known is not None else None
        if fill is None:
            return rows
        roomy = drawn.height >= 10
        rows.append(_sum(fill.working_tokens, fill.working_limit, drawn))
        if roomy:
            rows.append([])
        room = drawn.height - len(rows) - 1
        if self.blocks:
            rows += self.listed(self._groups(room, drawn), room, drawn)
        else:
            rows += wrapped(
                "no block: n makes one; its agent is given it at start", drawn.width - 2, "muted", 1
            )
        rows += [[]] * (drawn.height - 1 - len(rows))
        free = max(0, fill.working_limit - fill.working_tokens)
        return [*rows[: drawn.height - 1], [(f" {tokens(free)} free for promotions", "muted")]]

    def _groups(self, room: int, drawn: Drawn) -> list[Group]:
        texts = [_lines(block.text, drawn.width - 4) for block in self.blocks]
        shares = _share([len(text) for text in texts], room - 2 * len(texts) + 1)
        names = max((len(clean(block.name)) for block in self.blocks), default=0)
        found = []
        for block, text, share in zip(self.blocks, texts, shares, strict=True):
            body: list[Row] = [[("   ", ""), (line, "muted")] for line in text[:share]]
            if share and len(text) > share:
                body[-1] = ends(body[-1], [("…", "muted"), (" ", "")], drawn.width)
            gap: list[Row] = [[]] if room >= 2 * len(texts) else []
            found.append(Group(block.name, [_heading(block, names, drawn), *body, *gap]))
        return found


def _sum(used: int, limit: int, drawn: Drawn) -> Row:
    share = percent(used, limit)
    text = f"{tokens(used)}/{tokens(limit)} {share if share is not None else '-'}%"
    cells = max(0, min(40, drawn.width - len(text) - 4))
    return [(" ", ""), *bar(used, limit, cells, ascii=drawn.ascii), (" ", ""), (text, "bright bold")]


def _heading(block: BlockInfo, names: int, drawn: Drawn) -> Row:
    width = drawn.width
    share = percent(block.tokens, block.limit) or 0
    text = f"{tokens(block.tokens)}/{tokens(block.limit)}"
    changed = "" if block.changed_by == block.agent else f"by {who(block.changed_by, drawn.names)}"
    mark = "pinned" if block.pinned else changed
    name = max(6, min(names, width // 3))
    room = width - 3 - name - len(text) - 1
    marked = min(len(mark), 8) if room >= 14 + min(len(mark), 8) else 0
    gauge = max(0, min(24, room - marked - (2 if marked else 1)))
    left: Row = [
        (" ", ""), padded(block.name, name, "bright bold"), (" ", ""),
        *(bar(block.tokens, block.limit, gauge, ascii=drawn.ascii) if gauge >= 4 else []),
        (" ", ""), (text, "bad bold" if share >= 90 else "fg"),
    ]  # fmt: skip
    return ends(left, [padded(mark, marked, "muted", right=True), (" ", "")], width) if marked else left


def _lines(text: str, width: int) -> list[str]:
    """The first lines of a text, wrapped."""
    found: list[str] = []
    for line in text[:LOOKED].splitlines():
        if not line.strip():
            continue
        found += [row[-1][0] for row in wrapped(line.strip(), max(8, width))]
        if len(found) > LINES:
            break
    return found


def _share(wanted: list[int], room: int) -> list[int]:
    """How many lines each gets: one after the other, until there is no more room."""
    given = [0] * len(wanted)
    while room > 0:
        before = room
        for number, most in enumerate(wanted):
            if room > 0 and given[number] < min(most, LINES):
                given[number] += 1
                room -= 1
        if room == before:
            break
    return given
