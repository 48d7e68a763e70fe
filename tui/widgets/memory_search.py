"""A search over all tiers: the line to type it into, and what was found with the words marked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from ..format import clean
from ..memory import Search, split_title
from .fields import Text
from .memory_parts import Drawn, Group, Part, padded, space, when
from .memory_recall import role
from .paper import Row, counted

if TYPE_CHECKING:
    from agenttop.core.api.memory import HitInfo

TIERS = {"working": "tok-input", "recall": "good", "archival": "tok-cache-write"}
#: Cells of the tier before what was found there.
TIER = 10


def words(query: str) -> re.Pattern[str] | None:
    """What marks the words of a query in a text, whatever was typed."""
    found = sorted(set(re.findall(r"\w+", query)), key=len, reverse=True)
    return re.compile("|".join(re.escape(word) for word in found), re.IGNORECASE) if found else None


def marked(text: str, pattern: re.Pattern[str] | None, ink: str, cells: int) -> Row:
    """A part of ``text`` in at most ``cells`` with the first words found in sight, and all of them marked."""
    text = clean(text).strip()
    first = pattern.search(text) if pattern is not None else None
    if first is not None and cell_len(text[: first.end()]) > cells - 1:
        text = "…" + text[max(0, first.start() - cells // 3) :]
    if cell_len(text) > cells:
        text = set_cell_size(text, max(0, cells - 1)).rstrip() + "…"
    if pattern is None:
        return [(text, ink)]
    row: Row = []
    end = 0
    for match in pattern.finditer(text):
        row += [(text[end : match.start()], ink), (match[0], "warn bold")]
        end = match.end()
    return [piece for piece in [*row, (text[end:], ink)] if piece[0]]


class SearchPart(Part):
    """``Search  all tiers``: ``typing`` while the line has the keys."""

    def __init__(self) -> None:
        super().__init__("Search  all tiers")
        self.search = Search()
        self.field = Text("query", "/")
        self.typing = False

    @property
    def keys(self) -> list[str]:
        """One key a hit."""
        return [_key(hit) for hit in self.search.hits]

    @property
    def chosen(self) -> HitInfo | None:
        """The hit under the cursor."""
        place = self.place
        return self.search.hits[place] if self.search.hits else None

    def draw(self, drawn: Drawn) -> list[Row]:
        """Title, line, notes, hits."""
        search = self.search
        self.title = "Search  all agents" if search.everybody else "Search  all tiers"
        rows = [self.head(drawn, self._side()), self._line(drawn.width)]
        rows += [[]] if drawn.height >= 12 else []
        rows += self._notes(drawn.width)
        pattern = words(search.answered)
        groups = [Group(_key(hit), self._hit(hit, pattern, drawn)) for hit in search.hits]
        room = drawn.height - len(rows)
        if search.found is not None and not groups and not search.problem:
            rows.append([(" found nowhere", "muted")])
        return [*rows, *self.listed(groups, room, drawn)] if groups else rows

    def _side(self) -> str:
        search = self.search
        if search.busy and search.found is None:
            return "searching"
        if search.found is None:
            return ""
        ms = search.found.seconds * 1000
        took = f", {ms:.0f} ms" if ms >= 1 else ", <1 ms" if ms else ""
        return f"{counted(len(search.hits), 'hit')}{took}"

    def _line(self, width: int) -> Row:
        if not self.typing:
            if self.field.value:
                ink = "fg/surface field"
                return [(" ", ""), padded(f" / {self.field.value}", width - 3, ink), ("  ", "")]
            return [(" / ", "key-fg bold"), ("searches working, recall and archival", "muted")]
        typed = "bright/surface field"
        room = max(4, width - 8)
        before = clean(self.field.value[: self.field.at])[-room:]
        under = clean(self.field.value[self.field.at : self.field.at + 1]) or " "
        after = clean(self.field.value[self.field.at + 1 :])[: max(0, room - len(before))]
        row: Row = [(" ", ""), (" / ", "label/surface bold"), (before, typed), (under, "cursor-fg/cursor-bg"),
                    (after, typed)]  # fmt: skip
        used = sum(cell_len(text) for text, _ in row)
        return [*row, (" " * max(0, width - used - 2), typed), ("  ", "")]

    def _notes(self, width: int) -> list[Row]:
        search = self.search
        if search.problem:
            return [[(" ", ""), (clean(search.problem), "bad")]]
        if search.found is None:
            return []
        rows: list[Row] = []
        if search.found.loose and search.hits:
            rows.append([(" nothing has all the words; these have some of them", "warn")])
        if search.found.degraded:
            rows.append([(f" by words only: {clean(search.found.degraded)}", "warn")])
        return rows

    def _hit(self, hit: HitInfo, pattern: re.Pattern[str] | None, drawn: Drawn) -> list[Row]:
        title: Row
        if hit.tier == "recall":
            title = [(f"{when(hit.at, drawn.now)} ", "bright"), (role(hit.title)[0], role(hit.title)[1])]
        elif hit.tier == "archival":
            namespace, key = split_title(hit.title)
            at = f"  {space(namespace, drawn.names)}" if drawn.width >= 50 else ""
            title = [(clean(key), "bright"), (f" v{hit.version}" if hit.version else "", "fg"), (at, "muted")]
        else:
            title = [(clean(hit.title), "bright")]
        if self.search.everybody and hit.agent:
            title.append((f"  {clean(hit.name or hit.agent)}", "link"))
        if hit.meaning:
            title.append(("  by meaning", "muted"))
        room = drawn.width - TIER - 2
        return [
            [(" ", ""), padded(hit.tier, TIER, TIERS.get(hit.tier, "fg")), *title],
            [(" " * (TIER + 1), ""), *marked(hit.text, pattern, "muted", room)],
        ]


def _key(hit: HitInfo) -> str:
    return f"{hit.tier}:{hit.agent}:{hit.id if hit.id is not None else hit.title}"
