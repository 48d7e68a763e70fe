"""The bus as the screen shows it: the trace, mailboxes, topics, who waits for whom.

It knows nothing of widgets. Changes of ``bus.watch`` go in, and a person's choices; what comes out is
what the Bus pane paints. Everything in it was written by agents and is hostile.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .format import age

if TYPE_CHECKING:
    from agenttop.core.api.bus import BoxRow, BusChange, BusSums, MessageRow, PairRow, TopicRow, WaitRow

#: Rows kept while the newest are followed, and while somebody reads further down or all stands still.
KEEP, HELD = 2_000, 20_000
#: So many rows more than ``KEEP`` before the oldest go: dropping them one by one would cost more.
SLACK = 500


class Trace:
    """Messages by number, the oldest first in ``order``.

    Attributes:
        holding: Nothing is dropped, since somebody reads here: it grows to ``HELD`` and takes no more then.
        missed: How many new rows were not taken.
    """

    def __init__(self) -> None:
        self.rows: dict[int, MessageRow] = {}
        self.order: list[int] = []
        self._talks: dict[str, list[int]] = {}
        self.holding = False
        self.missed = 0

    def take(self, rows: Iterable[MessageRow]) -> int:
        """New and changed rows; how many of them are new."""
        fresh = 0
        known, order = self.rows, self.order
        for row in rows:
            seq = row.seq
            if seq in known:
                known[seq] = row
                continue
            if len(order) >= HELD:
                self.missed += 1
                continue
            if not order or seq > order[-1]:
                order.append(seq)
            else:
                insort(order, seq)
            known[seq] = row
            self._talks.setdefault(row.trace, []).append(seq)
            fresh += 1
        if not self.holding and len(order) > KEEP + SLACK:
            self._drop(len(order) - KEEP)
        return fresh

    def _drop(self, count: int) -> None:
        for seq in self.order[:count]:
            trace = self.rows.pop(seq).trace
            talk = self._talks[trace]
            talk.remove(seq)
            if not talk:
                del self._talks[trace]
        del self.order[:count]

    def replace(self, rows: Iterable[MessageRow]) -> None:
        """A whole picture; what is kept stays only if no row can be missing between the two."""
        rows = list(rows)
        if not rows or not self.order or rows[0].seq > self.order[-1]:
            self.clear()
        self.take(rows)

    def clear(self) -> None:
        """Forget all."""
        self.rows, self.order, self._talks, self.missed = {}, [], {}, 0

    def select(self, text: str) -> None:
        """Keep only what fits a filter; the kernel sends the rest again when it is widened."""
        kept = [self.rows[seq] for seq in self.order if fits(self.rows[seq], text)]
        self.clear()
        self.take(kept)

    def talk(self, trace: str) -> list[MessageRow]:
        """The kept messages of one conversation, oldest first."""
        return [self.rows[seq] for seq in sorted(self._talks.get(trace, ()))]


class BusPicture:
    """Everything the pane shows of one kernel's bus.

    Attributes:
        standing: The display stands still: what comes is kept aside, and counted in ``new``.
        whole: The next change is a whole picture, the first one of a new watch.
        at: When it was true, wall clock.
    """

    def __init__(self) -> None:
        self.trace = Trace()
        self.boxes: tuple[BoxRow, ...] = ()
        self.topics: tuple[TopicRow, ...] = ()
        self.waits: tuple[WaitRow, ...] = ()
        self.rings: tuple[tuple[str, ...], ...] = ()
        self.pairs: tuple[PairRow, ...] = ()
        self.sums: BusSums | None = None
        self.standing = False
        self.whole = True
        self.new = 0
        self.at = 0.0
        self._aside: list[BusChange] = []
        self._aside_seqs: set[int] = set()

    @property
    def known(self) -> bool:
        """Whether the kernel has told anything yet."""
        return self.sums is not None

    @property
    def empty(self) -> bool:
        """Whether nothing was ever sent here, as far as is known."""
        return not self.trace.order and not self.pairs

    def apply(self, change: BusChange) -> None:
        """One change."""
        if self.standing:
            self._put_aside(change)
            return
        if self.whole:
            self.whole = False
            self.trace.replace(change.rows)
        else:
            self.trace.take(change.rows)
        self.at = change.time
        self.boxes = self.boxes if change.boxes is None else change.boxes
        self.topics = self.topics if change.topics is None else change.topics
        self.waits = self.waits if change.waits is None else change.waits
        self.rings = self.rings if change.rings is None else change.rings
        self.pairs = self.pairs if change.pairs is None else change.pairs
        self.sums = change.sums

    def _put_aside(self, change: BusChange) -> None:
        known, aside = self.trace.rows, self._aside_seqs
        kept = [row for row in change.rows if row.seq in known or row.seq in aside or len(aside) < HELD]
        fresh = {row.seq for row in change.rows if row.seq not in known} - aside
        self.new += len(fresh)
        aside.update(row.seq for row in kept if row.seq not in known)
        self.trace.missed += len(change.rows) - len(kept)
        self._aside.append(change._replace(rows=tuple(kept)))
        if len(self._aside) > 500:  # five a second, and nothing new in most of them
            self._aside = [_merged(self._aside)]

    def stand(self, standing: bool) -> None:
        """Let the display stand still, or show what came meanwhile."""
        self.standing = standing
        if not standing:
            changes, self._aside, self._aside_seqs, self.new = self._aside, [], set(), 0
            for change in changes:
                self.apply(change)

    def begin(self) -> None:
        """A new watch begins; its first change is a whole picture."""
        self.whole = True

    def forget(self) -> None:
        """Another kernel is looked at."""
        standing, holding = self.standing, self.trace.holding
        self.__init__()  # type: ignore[misc]  # everything anew, by the one list of what there is
        self.standing, self.trace.holding = standing, holding


def _merged(changes: list[BusChange]) -> BusChange:
    """Several changes as one."""
    rows: dict[int, MessageRow] = {}
    last = changes[-1]
    for change in changes:
        rows |= {row.seq: row for row in change.rows}
        last = change._replace(
            boxes=last.boxes if change.boxes is None else change.boxes,
            topics=last.topics if change.topics is None else change.topics,
            waits=last.waits if change.waits is None else change.waits,
            rings=last.rings if change.rings is None else change.rings,
            pairs=last.pairs if change.pairs is None else change.pairs,
        )
    return last._replace(rows=tuple(sorted(rows.values())))


def fits(row: MessageRow, text: str) -> bool:
    """Whether a message has ``text`` in sender, receiver, type or beginning."""
    return text.lower() in f"{row.sender} {row.to} {row.type} {row.text}".lower()


def says(row: MessageRow, text: str) -> bool:
    """Whether every word of ``text`` occurs in a line of the trace."""
    there = f"{row.seq} {row.sender} {row.to} {row.kind} {row.type} {row.state} {row.text} {row.note}".lower()
    return all(word in there for word in text.lower().split())


def ended(row: MessageRow) -> bool:
    """Whether nothing more happens to a message."""
    if row.state in ("acked", "replied", "dead", "closed"):
        return True
    done, _, of = row.state.partition(" ")[2].partition("/")
    return bool(of) and done == of


def partly(row: MessageRow) -> bool:
    """Whether some of several receivers have acknowledged."""
    return "/" in row.state and not ended(row)


def latency(seconds: float) -> str:
    """``4ms 0.8s 41s 2m03``: how long something took."""
    if seconds < 0.0995:
        return f"{max(0, round(seconds * 1000))}ms"
    return f"{seconds:.1f}s" if seconds < 9.95 else waited(seconds)


def waited(seconds: float) -> str:
    """``41s 2m03 1h14``: an age of something that a person waits for."""
    whole = max(0, int(seconds))
    return f"{whole // 60}m{whole % 60:02d}" if 60 <= whole < 3600 else age(whole)


def name_of(message: int) -> str:
    """A message's id from its number."""
    return f"m{message}"
