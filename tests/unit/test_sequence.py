"""The sequence diagram of a conversation."""

from __future__ import annotations

import pytest

from agenttop.core.api.bus import MessageRow
from agenttop.tui.widgets.sequence import diagram


def asked(sender: str, to: str) -> MessageRow:
    return MessageRow(
        7, 0.0, sender, to, "request", "text", 9, "accepted", None, "safe?", "", 60.0, "t", None
    )


@pytest.mark.parametrize("width", [40, 60, 110])
@pytest.mark.parametrize("sender", ["bo", "a-longer-name"])
def test_who_waits_is_told_beside_what_became_of_the_question(width: int, sender: str) -> None:
    shown = diagram([asked(sender, "api")], None, 41.0, width, 20, {})
    lines = ["".join(part for part, _ in row) for row in shown.rows]
    (line,) = [line for line in lines if "waits" in line]
    assert "waits 41s" in line
    assert "not delivered yet" in line
