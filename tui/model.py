"""The fleet as the screen shows it: rows by id, their order, the cursor, tags, search and filter.

It knows nothing of widgets. Updates go in (``apply``), a person's choices go in, and ``lines`` comes
out: which agent stands on which line of the table, with which tree lines before its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from .columns import BY_ID
from .forest import Forest, Line
from .format import clean

if TYPE_CHECKING:
    from agenttop.core.api import Delta, Header, Row, Snapshot

#: Seconds the order stands still after a key, as htop's five ticks do.
HOLD = 3.0
#: Seconds a new or an ended row stays highlighted.
GLOW = 5.0

WINDOWS = ("run", "hour", "today", "total")
ENDED = frozenset(("error", "terminated"))


class FleetModel:
    """Rows, order, cursor and choices. ``now`` gives wall-clock seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.rows: dict[str, Row] = {}
        self.header: Header | None = None
        self.seq = 0
        self.window = "today"
        self.counts: dict[str, int] = {}
        self.needing = 0
        self.asking = 0
        """Those of them that wait for a decision about a call."""
        self.waiting: set[str] = set()
        """Agents that wait for a person: their input, approval or money."""
        self.observed_cost = 0.0
        self.stale: set[str] = set()
        self.hosts: dict[str, int] = {}
        """Host → how many of its agents are in the table, where several kernels are shown."""

        self.lines: list[Line] = []
        self._index: dict[str, int] = {}
        self.cursor: str | None = None
        self.tags: set[str] = set()
        self.tree = True
        self.sort = "cost"
        self.largest = True
        self.filter = ""
        self.only: frozenset[str] | None = None
        """Only these agents are shown: those that ``only_name``, a budget, covers."""
        self.only_name = ""
        self.search = ""
        self.needs_only = False
        self.show_ended = True
        self.standing = False
        """The display stands still (``Z``): updates are kept, the lines are not touched."""

        self._new: dict[str, float] = {}
        self._gone: dict[str, tuple[Row, float]] = {}
        self._ending: dict[str, float] = {}
        self._held_until = 0.0
        self._forest = Forest()
        self._placed: dict[str, Row] = {}
        """The rows the order was made from: accepted ones, and those that just went."""
        self._order_dirty = True
        """The order must be made anew: other rows, another parent, another choice."""
        self._moved: set[str] = set()
        """Rows whose sort value changed."""
        self._kept: dict[str, Row] | None = None
        self._kept_header: Header | None = None

    # --- what comes in -------------------------------------------------------------------------

    @property
    def known(self) -> bool:
        """Whether a snapshot has arrived."""
        return self.header is not None

    @property
    def needing_you(self) -> int:
        """What needs a person: agents that do, each open question counted once."""
        questions = self.header.approvals if self.header is not None else 0
        return self.needing - self.asking + max(questions, self.asking)

    @property
    def shown_header(self) -> Header | None:
        """The header that belongs to the shown rows."""
        return self._kept_header if self.standing else self.header

    def apply(self, update: Snapshot | Delta) -> None:
        """Take a snapshot (the whole table) or a delta (what changed)."""
        self.seq = update.seq
        if hasattr(update, "window"):
            self._snapshot(update)  # type: ignore[arg-type]  # told apart without importing the class
        else:
            self._delta(update)

    def _snapshot(self, snapshot: Snapshot) -> None:
        old, first = self.rows, not self.known
        self.header = snapshot.header
        self.window = snapshot.window
        self.rows = {row.id: row for row in snapshot.rows}
        now = self.now()
        if not first:
            self._new |= dict.fromkeys(self.rows.keys() - old.keys(), now + GLOW)
        self._gone = {key: gone for key, gone in self._gone.items() if key not in self.rows}
        self._count()
        self._order_dirty = True

    def _count(self) -> None:
        self.counts = {}
        self.needing = self.asking = 0
        self.observed_cost = 0.0
        self.stale = set()
        self.waiting = {row.id for row in self.rows.values() if waits(row)}
        for row in self.rows.values():
            self._tally(row, 1)

    def _tally(self, row: Row, sign: int) -> None:
        state = "paused" if row.pause else row.state
        self.counts[state] = self.counts.get(state, 0) + sign
        self.needing += sign * row.needs
        self.asking += sign * asks(row)
        if row.observed and row.cost:
            self.observed_cost += sign * row.cost
        if row.host:
            self.hosts[row.host] = self.hosts.get(row.host, 0) + sign
        if row.stale is not None:
            (self.stale.add if sign > 0 else self.stale.discard)(row.id)

    def _delta(self, delta: Delta) -> None:
        if delta.header is not None:
            self.header = delta.header
        now = self.now()
        value = BY_ID[self.sort].sort
        for row in delta.rows:
            old = self.rows.get(row.id)
            self.rows[row.id] = row
            (self.waiting.add if waits(row) else self.waiting.discard)(row.id)
            self._tally(row, 1)
            if old is None:
                self._new[row.id] = now + GLOW
                self._gone.pop(row.id, None)
                self._order_dirty = True
                continue
            self._tally(old, -1)
            if row.state in ENDED and old.state not in ENDED:
                self._ending[row.id] = now + GLOW
            if old.parent != row.parent or self._accepts(old) != self._accepts(row):
                self._order_dirty = True
            elif value is not None and value(old) != value(row):
                self._moved.add(row.id)
        for key in delta.gone:
            lost = self.rows.pop(key, None)
            if lost is not None:
                self._tally(lost, -1)
                self.waiting.discard(key)
                self._gone[key] = (lost, now + GLOW)
                self.tags.discard(key)
                self._order_dirty = True

    # --- what is shown -------------------------------------------------------------------------

    def row(self, key: str) -> Row | None:
        """The row to show for an id: as it is, as it was when it went, or as the display stood."""
        if self._kept is not None and key in self._kept:
            return self._kept[key]
        row = self.rows.get(key)
        if row is None and key in self._gone:
            return self._gone[key][0]
        return row

    @property
    def current(self) -> Row | None:
        """The row under the cursor."""
        return self.row(self.cursor) if self.cursor is not None else None

    def glow(self, key: str) -> str:
        """``new``, ``gone`` or nothing: how a row is highlighted for some seconds."""
        if not (self._new or self._gone or self._ending):
            return ""
        if key in self._gone or key in self._ending:
            return "gone"
        return "new" if key in self._new else ""

    def _expire(self) -> None:
        now = self.now()
        for table in (self._new, self._ending):
            for key in [key for key, until in table.items() if until <= now]:
                del table[key]
        for key in [key for key, (_, until) in self._gone.items() if until <= now]:
            del self._gone[key]
            self._order_dirty = True

    def touch(self) -> None:
        """A key was pressed: the order stands still for some seconds."""
        self._held_until = self.now() + HOLD

    def reorder(self) -> None:
        """The person changed what orders or selects the rows: it acts at once."""
        self._held_until = 0.0
        self._order_dirty = True
        self.refresh()

    def stand(self, still: bool) -> None:
        """Freeze or thaw the display; agents run on."""
        self.standing = still
        self._kept = dict(self.rows) if still else None
        self._kept_header = self.header if still else None
        if not still:
            self.reorder()

    def refresh(self) -> bool:
        """Bring ``lines`` up to date if the order may change now. True if they changed."""
        if self.standing:
            return False
        self._expire()
        if not (self._order_dirty or self._moved):
            return False
        if self.now() < self._held_until:
            return self._order_dirty and self._take(self._held_lines())
        lines = self._ordered()
        self._order_dirty = False
        self._moved.clear()
        return lines is not None and self._take(lines)

    def _take(self, lines: list[Line]) -> bool:
        changed = lines != self.lines
        if changed:
            self._place_cursor(lines)
            self.lines = lines
            self._index = {line.id: number for number, line in enumerate(lines)}
        return changed

    def _held_lines(self) -> list[Line]:
        there = [line for line in self.lines if line.host or line.id in self.rows or line.id in self._gone]
        known = {line.id for line in there}
        fresh = [row for key, row in self.rows.items() if key not in known and self._accepts(row)]
        if not self.hosts:
            return there + [Line(row.id) for row in fresh]
        for row in fresh:  # below the last of its host
            place = max((n for n, line in enumerate(there) if self._host_of(line) == row.host), default=-1)
            there.insert(place + 1 if place >= 0 else len(there), Line(row.id))
        return there

    def _host_of(self, line: Line) -> str:
        row = self.row(line.id)
        return line.host if row is None else row.host

    def _place_cursor(self, lines: list[Line]) -> None:
        """The cursor follows its agent; if that is gone, it stays near its place."""
        if any(line.id == self.cursor for line in lines):
            return
        place = self._index.get(self.cursor, 0) if self.cursor is not None else 0
        self.cursor = _row_near(lines, place, 1)

    def _accepts(self, row: Row) -> bool:
        if self.needs_only and not row.needs:
            return False
        if self.only is not None and row.id not in self.only:
            return False
        if not self.show_ended and row.state == "terminated":
            return False
        return not self.filter or matches(row, self.filter)

    def _ordered(self) -> list[Line] | None:
        """The lines in their order, or ``None`` if that is still what it was."""
        value = BY_ID[self.sort].sort
        if self._order_dirty:
            self._placed = {key: row for key, row in self.rows.items() if self._accepts(row)}
            self._placed |= {key: row for key, (row, _) in self._gone.items() if self._accepts(row)}
            hosts = [host.name for host in self.header.hosts] if self.header is not None else []
            self._forest.build(self._placed, value, largest=self.largest, tree=self.tree, hosts=hosts)
            return self._forest.lines()
        placed, rows = self._placed, self.rows
        changed = [key for key in self._moved if key in placed]
        for key in changed:
            placed[key] = rows[key]
        if not self._forest.resort(changed, placed, value, largest=self.largest):
            return None
        return self._forest.lines()

    # --- cursor, tags, search ------------------------------------------------------------------

    @property
    def place(self) -> int:
        """The cursor's line, 0 if there is none."""
        return self._index.get(self.cursor, 0) if self.cursor is not None else 0

    def move(self, to: int) -> None:
        """Put the cursor on an agent's line (clamped); a heading is passed in the direction of the move."""
        self.cursor = _row_near(self.lines, to, -1 if to < self.place else 1) or self.cursor

    def find(self, text: str, *, step: int = 0) -> bool:
        """Move the cursor to the next row that matches, beginning ``step`` lines on. False if none does."""
        total = len(self.lines)
        for offset in range(total):
            line = self.lines[(self.place + step + offset) % total]
            row = self.row(line.id)
            if row is not None and matches(row, text):
                self.cursor = line.id
                return True
        return False

    def children(self, key: str) -> list[str]:
        """An agent and everything below it."""
        below: dict[str, list[str]] = {}
        for row in self.rows.values():
            if row.parent is not None:
                below.setdefault(row.parent, []).append(row.id)
        found, queue = [key], [key]
        while queue:
            fresh = [child for child in below.get(queue.pop(), ()) if child not in found]
            found += fresh
            queue += fresh
        return found

    def toggle_tags(self, keys: Iterable[str]) -> None:
        """Tag these, or untag them when all of them are tagged."""
        chosen = set(keys)
        if chosen <= self.tags:
            self.tags -= chosen
        else:
            self.tags |= chosen

    def targets(self) -> list[Row]:
        """What a verb acts on: the tagged rows in table order, else the row under the cursor."""
        tagged = [line.id for line in self.lines if line.id in self.tags]
        tagged += sorted(self.tags - set(tagged))
        rows = [self.rows[key] for key in tagged if key in self.rows]
        if rows:
            return rows
        current = self.rows.get(self.cursor) if self.cursor is not None else None
        return [current] if current is not None else []


def _row_near(lines: Sequence[Line], place: int, step: int) -> str | None:
    """The agent's line at ``place`` (clamped), or the next that way, or the next the other way."""
    place = max(0, min(place, len(lines) - 1))
    for way in (step, -step):
        at = place
        while 0 <= at < len(lines):
            if not lines[at].host:
                return lines[at].id
            at += way
    return None


def asks(row: Row) -> bool:
    """Whether it waits for a decision of a person about a call."""
    return row.needs and row.state == "waiting" and row.reason in ("budget", "approval")


def waits(row: Row) -> bool:
    """Whether it waits for a person: an error does not, though somebody should look at it."""
    return row.needs and row.state not in ENDED


def matches(row: Row, text: str) -> bool:
    """Whether every word of ``text`` occurs in what the row says, whatever the case."""
    there = " ".join(
        (row.id, row.host, row.name, row.state, row.pause or "", row.reason or "", row.detail, row.backend,
         row.template or "", row.owner, row.labels, row.model or "", clean(row.task))
    ).lower()  # fmt: skip
    return all(word in there for word in text.lower().split())
