"""What stands beside a conversation: mailboxes with how full they are, topics, and the bus in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..bus import BusPicture, latency, waited
from ..format import UNKNOWN, clean, cut, cut_middle, fit, level, tokens
from .paper import Row, counted, rule
from .sheet import under_cursor

if TYPE_CHECKING:
    from agenttop.core.api.bus import BoxRow, TopicRow

#: Cells of NEW, OF, OLDEST and DEAD, and of a gauge at least.
NEW, OF, OLDEST, DEAD, GAUGE = 6, 5, 8, 5, 5
#: From this width on the last line has the messages a second too.
SIDE_RATE = 46


def sorted_boxes(boxes: Sequence[BoxRow]) -> list[BoxRow]:
    """The fullest first; then those with dead letters, then by name."""
    return sorted(boxes, key=lambda box: (-box.unread, -box.dead, box.name))


def side(
    picture: BusPicture, now: float, width: int, height: int, chosen: str | None, cut_mark: str
) -> list[Row]:
    """Mailboxes above, topics below them, the sums at the bottom: ``height`` rows at most.

    ``chosen`` is the mailbox under the cursor.
    """
    boxes = sorted_boxes(picture.boxes)
    topics = sorted(picture.topics, key=lambda topic: (-topic.per_minute, -topic.subscribers, topic.topic))
    below = min(len(topics), max(3, height // 5)) + 2 if topics else 0
    room = max(1, height - 3 - below - 2)
    found = [rule("Mailboxes", width, _sums(boxes)), _heading(width)]
    found += _boxes(boxes, now, width, room, chosen, cut_mark)
    if not boxes:
        found.append([(" no mailbox yet", "muted")])
    if topics and len(found) + 4 <= height:
        left = height - len(found) - 4
        found += [[], rule("Topics", width)]
        found += [_topic(topic, width, cut_mark) for topic in topics[:left]]
        if len(topics) > left:
            found[-1] = [(f" and {len(topics) - left + 1} more topics", "muted")]
    last = _last(picture, width)
    return (
        [*found, *[[]] * (height - len(found) - 1), last][:height] if len(found) < height else found[:height]
    )


def _sums(boxes: Sequence[BoxRow]) -> str:
    unread, dead = sum(box.unread for box in boxes), sum(box.dead for box in boxes)
    return f"{tokens(unread)} unread, {tokens(dead)} dead" if boxes else ""


def _name_cells(width: int) -> int:
    return max(8, min(20, width - NEW - OF - OLDEST - DEAD - 1 - (GAUGE + 2 if width >= 38 else 0)))


def _gauge_cells(width: int) -> int:
    left = width - 1 - _name_cells(width) - NEW - OF - OLDEST - DEAD - 2
    return left if left >= GAUGE else 0


def _heading(width: int) -> Row:
    gauge = _gauge_cells(width)
    text = " " + "AGENT".ljust(_name_cells(width)) + "NEW".rjust(NEW) + "OF".rjust(OF)
    text += " " * (gauge + 2 if gauge else 0) + "OLDEST".rjust(OLDEST) + "DEAD".rjust(DEAD)
    return [(text[:width], "label")]


def _boxes(
    boxes: Sequence[BoxRow], now: float, width: int, room: int, chosen: str | None, mark: str
) -> list[Row]:
    place = next((n for n, box in enumerate(boxes) if box.agent == chosen), 0)
    fits = len(boxes) <= room
    count = room if fits else max(1, room - 1)
    top = max(0, min(place - count + 1, len(boxes) - count)) if chosen is not None else 0
    found: list[Row] = []
    for box in boxes[top : top + count]:
        row = _box(box, now, width, mark)
        found.append(under_cursor(row, width) if box.agent == chosen else row)
    if not fits:
        found.append([(f" and {len(boxes) - count} more", "muted")])
    if boxes:
        found.append(_total(boxes, now, width))
    return found


def _box(box: BoxRow, now: float, width: int, mark: str) -> Row:
    cells, gauge = _name_cells(width), _gauge_cells(width)
    name = fit(cut_middle(clean(box.name), cells - 1, mark), cells)
    full = box.limit and box.unread >= box.limit
    row: Row = [
        (f" {name}", "accent" if box.name[:1] == "@" else "fg"),
        (tokens(box.unread).rjust(NEW), "bad bold" if full else "bright" if box.unread else "muted"),
        (tokens(box.limit).rjust(OF), "muted"),
    ]
    if gauge:
        row += [("  ", ""), *_gauge(box.unread, box.limit, gauge)]
    oldest = waited(now - box.oldest) if box.oldest is not None else UNKNOWN
    row.append((oldest.rjust(OLDEST), "fg" if box.oldest is not None else "muted"))
    row.append((tokens(box.dead).rjust(DEAD), "bad bold" if box.dead else "muted"))
    return row


def _gauge(unread: int, limit: int, cells: int) -> Row:
    share = unread / limit if limit else 0.0
    full = min(cells, max(1 if unread else 0, round(cells * share)))
    if full == cells and share < 1:
        full -= 1  # it is full only when it is
    return [
        (text, ink)
        for text, ink in (("━" * full, level(100 * share)), ("─" * (cells - full), "rule"))
        if text
    ]


def _total(boxes: Sequence[BoxRow], now: float, width: int) -> Row:
    oldest = min((box.oldest for box in boxes if box.oldest is not None), default=None)
    unread, dead = sum(box.unread for box in boxes), sum(box.dead for box in boxes)
    gauge = _gauge_cells(width)
    return [
        (f" all {len(boxes)}".ljust(_name_cells(width) + 1), "label"),
        (tokens(unread).rjust(NEW), "bright bold"),
        (" " * (OF + (gauge + 2 if gauge else 0)), ""),
        ((waited(now - oldest) if oldest is not None else UNKNOWN).rjust(OLDEST), "fg"),
        (tokens(dead).rjust(DEAD), "bad bold" if dead else "muted"),
    ]  # fmt: skip


def _topic(topic: TopicRow, width: int, mark: str) -> Row:
    name = topic.topic if topic.topic[:1] == "#" else f"#{topic.topic}"
    cells = max(8, min(28, width - 27))
    rate = f"{topic.per_minute:.1f}/min" if topic.per_minute < 100 else f"{tokens(topic.per_minute)}/min"
    who = counted(topic.subscribers, "subscriber")
    return [
        (" " + fit(cut(clean(name), cells - 1, mark), cells), "link"),
        (who.ljust(15), "fg" if topic.subscribers else "warn"), (rate.rjust(10), "muted"),
    ]  # fmt: skip


def _last(picture: BusPicture, width: int) -> Row:
    sums = picture.sums
    if sums is None:
        return []
    row: Row = [(" last hour ", "label"), (f"{sums.hour:,}", "bright bold"), (" sent", "fg")]
    if sums.per_second >= 0.05 and width >= SIDE_RATE:
        row.append(
            (f"  {sums.per_second:,.1f}/s" if sums.per_second < 100 else f"  {sums.per_second:,.0f}/s", "fg")
        )
    if sums.p95 is not None:
        row.append((f"  p95 {latency(sums.p95)}", "fg"))
    dead = f"  {tokens(sums.dead)} dead"
    return [*row, (dead, "bad" if sums.dead else "good")]
