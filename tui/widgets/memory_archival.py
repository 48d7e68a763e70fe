"""The archival tier: the namespaces an agent may use, and the notes in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..memory import Known
from .memory_parts import Drawn, Group, Part, bar, padded, space, when, who
from .paper import Row, counted

if TYPE_CHECKING:
    from agenttop.core.api.memory import NoteInfo, SpaceInfo

#: Cells of the columns after the key.
VERSION, BY, WHEN = 4, 8, 6
#: From so many cells on there is the namespace of each note, in so many.
ROOMY, SPACE = 60, 15


class ArchivalPart(Part):
    """``ARCHIVAL``: notes that are shared and kept."""

    def __init__(self) -> None:
        super().__init__("ARCHIVAL")
        self.known: Known | None = None
        self.space = ""

    @property
    def notes(self) -> list[NoteInfo]:
        """The notes known."""
        return (self.known.notes if self.known is not None else None) or []

    @property
    def spaces(self) -> list[SpaceInfo]:
        """The namespaces the agent may use."""
        return self.known.spaces if self.known is not None else []

    @property
    def keys(self) -> list[str]:
        """Namespaces, then notes."""
        return [*(f"space:{one.name}" for one in self.spaces), *(_key(note) for note in self.notes)]

    @property
    def at_space(self) -> str:
        """The namespace under the cursor, if it is on one."""
        place = self.place
        return self.spaces[place].name if place < len(self.spaces) else ""

    @property
    def chosen(self) -> NoteInfo | None:
        """The note under the cursor, if it is on one."""
        place = self.place - len(self.spaces)
        return self.notes[place] if 0 <= place < len(self.notes) else None

    def draw(self, drawn: Drawn) -> list[Row]:
        """Title, sums, namespaces, notes, and how many are not shown."""
        rows = [self.head(drawn, "shared, kept")]
        if self.known is None or self.known.notes is None:
            return rows
        total = sum(one.notes for one in self.spaces)
        summed: Row = [(f" {counted(total, 'note')}", "fg")]
        if self.known.embeddings:
            summed.append((f"  embeddings: {self.known.embeddings}", "fg"))
        rows.append([padded("".join(text for text, _ in summed), drawn.width, "fg")])
        if drawn.height >= 10:
            rows.append([])
        room = drawn.height - len(rows) - 1
        groups = self._groups(total, drawn)
        rows += self.listed(groups, room, drawn)
        rows += [[]] * (drawn.height - 1 - len(rows))
        seen = max(0, self._top + room - len(self.spaces) - 2)
        more = self.known.notes_total - min(len(self.notes), seen)
        bottom: Row = [(f" {more:,} more", "muted")] if more > 0 else []
        if self.space:
            bottom = [*(bottom or [(" ", "")]), ("  Esc all namespaces", "muted")]
        return [*rows[: drawn.height - 1], bottom]

    def _groups(self, total: int, drawn: Drawn) -> list[Group]:
        groups = [Group(f"space:{one.name}", [self._space(one, total, drawn)]) for one in self.spaces]
        roomy: list[Row] = [[]] if drawn.height >= 10 else []
        if self.notes:
            groups.append(Group("", [*roomy, _heading(drawn.width)]))
        else:
            said = f"no note in {space(self.space, drawn.names)}" if self.space else "no note: n writes one"
            groups.append(Group("", [*roomy, [(f" {said}", "muted")]]))
        return groups + [Group(_key(note), [_row(note, drawn)]) for note in self.notes]

    def _space(self, one: SpaceInfo, total: int, drawn: Drawn) -> Row:
        name = max(12, min(20, drawn.width // 2))
        gauge = drawn.width - name - 14
        ink = "link bold" if one.name == self.space else "link"
        return [
            (" ", ""), padded(space(one.name, drawn.names), name, ink), (" ", ""),
            *(bar(one.notes, total, min(gauge, 16), ascii=drawn.ascii, ink="good") if gauge >= 4 else []),
            padded(f"{one.notes:,}", 6, "fg", right=True),
            padded("rw" if one.write else "r", 4, "muted", right=True),
        ]  # fmt: skip


def _key(note: NoteInfo) -> str:
    return f"note:{note.namespace}/{note.key}"


def _columns(width: int) -> tuple[int, int, int]:
    """Cells of key, namespace and author; the last two go where there is no room."""
    by = BY + 4 if width >= ROOMY else BY if width >= 36 else 0
    inside = SPACE if width >= ROOMY else 0
    taken = 1 + VERSION + 1 + (by + 1 if by else 0) + (inside + 1 if inside else 0) + WHEN + 1
    return max(8, width - taken), inside, by


def _heading(width: int) -> Row:
    key, inside, by = _columns(width)
    row: Row = [(" ", ""), padded("KEY", key, "label")]
    row += [padded("IN", inside + 1, "label")] if inside else []
    row += [padded("VER", VERSION, "label", right=True), (" ", "")]
    row += [(" ", ""), padded("BY", by, "label")] if by else []
    return [*row, padded("WHEN", WHEN, "label", right=True)]


def _row(note: NoteInfo, drawn: Drawn) -> Row:
    key, inside, by = _columns(drawn.width)
    row: Row = [(" ", ""), padded(note.key, key - 1, "link" if note.file else "bright"), (" ", "")]
    row += [padded(space(note.namespace, drawn.names), inside, "link"), (" ", "")] if inside else []
    row += [padded(f"v{note.version}", VERSION, "muted", right=True), (" ", "")]
    row += [(" ", ""), padded(who(note.by, drawn.names, note.by_name), by, "fg")] if by else []
    return [*row, padded(when(note.at, drawn.now), WHEN, "muted", right=True)]
