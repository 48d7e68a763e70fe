"""Dead letters: which mailbox did not get what, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..bus import waited
from ..format import clean, cut_middle, fit
from .paper import Row, counted, rule
from .sheet import under_cursor

if TYPE_CHECKING:
    from agenttop.core.api.bus import DeadInfo


def dead_rows(
    letters: Sequence[DeadInfo] | None, problem: str, place: int, now: float, width: int, mark: str
) -> list[Row]:
    """Rule, heading and one row a letter; the one at ``place`` under the cursor's bar."""
    side = "r put back, x throw away" if letters else ""
    found: list[Row] = [
        rule(counted(len(letters), "dead letter") if letters else "Dead letters", width, side)
    ]
    wide = width >= 66
    name, why = (14, 24) if wide else (10, 18)
    head = " " + "MESSAGE".ljust(10) + "FROM".ljust(name) + "TO".ljust(name)
    head += ("AGE".rjust(6) + "TRIES".rjust(6) if wide else "") + "  " + "WHY".ljust(why) + "TEXT"
    found.append([(head[:width], "label")])
    if letters is None or problem:
        return [*found, [(f" {problem or 'asking the kernel'}", "bad" if problem else "muted")]]
    if not letters:
        return [*found, [(" none: every message was delivered, or waits to be", "good")]]
    for number, letter in enumerate(letters):
        message = letter.message
        row: Row = [
            (" " + fit(message.id, 10), "muted"),
            (fit(cut_middle(clean(message.sender_name), name - 1, mark), name), "bright"),
            (fit(cut_middle(clean(letter.name), name - 1, mark), name), "bright"),
        ]
        if wide:
            row += [(waited(now - message.at).rjust(6), "fg"), (f"{letter.attempts}x".rjust(6), "fg")]
        row += [("  ", ""), (fit(cut_middle(clean(letter.reason), why - 1, mark), why), "bad"),
                (clean(beginning(message.payload)), "fg")]  # fmt: skip
        found.append(under_cursor(row, width) if number == place else row)
    return found


def beginning(payload: object) -> str:
    """A payload in one line: a text as it is, anything else as JSON."""
    import json

    return payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)[:2_000]
