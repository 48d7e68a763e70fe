"""Who waits for whom, and who talks to whom: edges, rings, and a matrix of counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..bus import BusPicture, waited
from ..format import clean, cut, cut_middle, fit, tokens
from .paper import Row, rule

if TYPE_CHECKING:
    from agenttop.core.api.bus import PairRow

#: Cells of a column of the matrix, of the names before it, and of its sums.
CELL, NAMES, SUM = 7, 14, 7
#: How recent a pair's last message is, in seconds, and the ink of its count from there on.
RECENT = ((10.0, "good bold"), (60.0, "good"), (3600.0, "fg"))


def recency(seconds: float) -> str:
    """The ink of a count by how long ago its last message was."""
    return next((ink for most, ink in RECENT if seconds < most), "muted")


def sentence(picture: BusPicture, now: float) -> Row:
    """The result of the wait-for graph as one sentence."""
    row: Row = []
    if not picture.known:
        return row
    if picture.rings:
        more = len(picture.rings) - 1
        row = [(" DEADLOCK ", "badge-fg/bad bold"), *_ring(picture, picture.rings[0], now)]
        return [*row, (f"  and {more} more", "bad")] if more else row
    row = [(" No cycle in the wait-for graph.", "good")]
    if not picture.waits:
        return [*row, ("  Nobody waits for a reply.", "muted")]
    longest = min(picture.waits, key=lambda wait: wait.since)
    said = f"  longest wait: {clean(longest.asker)} for {clean(longest.asked)}, {waited(now - longest.since)}"
    return [*row, (said, "muted")]


def _ring(picture: BusPicture, ring: Sequence[str], now: float) -> Row:
    """``api → review → api wait for each other``, and since when."""
    row: Row = []
    for number, name in enumerate([*ring, *ring[:1]]):
        row += [(" → " if number else " ", "bad"), (clean(name), "bad bold")]
    inside = [wait.since for wait in picture.waits if wait.asker in ring and wait.asked in ring]
    since = f" since {waited(now - max(inside))}" if inside else ""
    return [*row, (f"  wait for each other{since}: one must answer, or be stopped", "bad")]


def graph(picture: BusPicture, now: float, width: int, height: int, mark: str) -> list[Row]:
    """Waits, rings and the matrix, as one list; it may be longer than ``height`` and is scrolled then."""
    found: list[Row] = [
        rule("Who waits for whom", width, f"{len(picture.waits)} waiting" if picture.waits else "")
    ]
    found += [[(" DEADLOCK ", "badge-fg/bad bold"), *_ring(picture, ring, now)] for ring in picture.rings]
    held = {name for ring in picture.rings for name in ring}
    waits = sorted(picture.waits, key=lambda wait: wait.since)
    most = max(4, height // 3)
    for wait in waits[:most]:
        row = picture.trace.rows.get(wait.request)
        ink = "bad bold" if wait.asker in held and wait.asked in held else "bright"
        away = wait.deadline - now
        left = f"deadline in {waited(away)}" if away >= 0 else "deadline passed"
        found.append([
            (" " + fit(cut_middle(clean(wait.asker), NAMES - 1, mark), NAMES), ink), ("→ ", "muted"),
            (fit(cut_middle(clean(wait.asked), NAMES - 1, mark), NAMES), ink),
            (waited(now - wait.since).rjust(6), "state-waiting bold"), (f"  {left}", "muted"),
            (f"  {clean(row.text)}" if row is not None else "", "fg"),
        ])  # fmt: skip
    if len(waits) > most:
        found.append([(f" and {len(waits) - most} more", "muted")])
    if not waits:
        found.append([(" nobody waits for a reply", "muted")])
    return [*found, [], *matrix(picture.pairs, now, width, mark)]


def matrix(pairs: Sequence[PairRow], now: float, width: int, mark: str) -> list[Row]:
    """Senders as rows, receivers as columns, counts coloured by how recent the last one is.

    The busiest come first; what has no room is counted.
    """
    title = rule("Who talks to whom", width, "since the kernel started")
    if not pairs:
        return [title, [(" nobody has written to anybody", "muted")]]
    sent: dict[str, int] = {}
    got: dict[str, int] = {}
    for pair in pairs:
        sent[pair.sender] = sent.get(pair.sender, 0) + pair.messages
        got[pair.to] = got.get(pair.to, 0) + pair.messages
    room = max(1, (width - 1 - NAMES - SUM) // CELL)
    columns = sorted(got, key=lambda name: (-got[name], name))
    shown = columns if len(columns) <= room else columns[: max(1, room - 1)]
    rest = set(columns) - set(shown)
    counts = {(pair.sender, pair.to): pair for pair in pairs}
    head: Row = [(" FROM \\ TO".ljust(NAMES + 1), "label")]
    head += [(cut_middle(clean(name), CELL - 1, mark).rjust(CELL), "link" if name[:1] in "#*" else "label")
             for name in shown]  # fmt: skip
    found: list[Row] = [
        title,
        [*head, (f"+{len(rest)}".rjust(CELL) if rest else "", "muted"), ("ALL".rjust(SUM), "label")],
    ]
    for name in sorted(sent, key=lambda name: (-sent[name], name)):
        row: Row = [
            (" " + fit(cut(clean(name), NAMES - 1, mark), NAMES), "accent" if name[:1] == "@" else "bright")
        ]
        for to in shown:
            found_pair = counts.get((name, to))
            if found_pair is None:
                row.append((".".rjust(CELL), "rule"))
            else:
                row.append((tokens(found_pair.messages).rjust(CELL), recency(now - found_pair.last)))
        if rest:
            others = sum(counts[name, to].messages for to in rest if (name, to) in counts)
            row.append((tokens(others).rjust(CELL) if others else ".".rjust(CELL), "muted"))
        found.append([*row, (tokens(sent[name]).rjust(SUM), "bright")])
    total: Row = [(" ALL".ljust(NAMES + 1), "label")]
    total += [(tokens(got[name]).rjust(CELL), "fg") for name in shown]
    if rest:
        total.append((tokens(sum(got[name] for name in rest)).rjust(CELL), "muted"))
    return [*found, [*total, (tokens(sum(sent.values())).rjust(SUM), "bright bold")]]
