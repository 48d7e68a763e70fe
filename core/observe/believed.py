"""What of a reader's view can be believed.

An agent can write anything into its own transcript, and readers hand on what stands there. Rows, sums and
screens count on texts that are texts of a bearable length, and on numbers that fit: what is none is not
known. Escape sequences stay, they are made harmless where they are shown.
"""

from __future__ import annotations

from typing import Any

from .contract import Child, View

#: So many characters are kept of a name, of a longer text, and of a folder (PATH_MAX).
NAME, TEXT, FOLDER = 200, 1_000, 4_096
#: Subagents of one agent that are shown, the last ones.
CHILDREN = 64
#: The largest number that every program that reads JSON has exactly.
_LARGEST = (1 << 53) - 1
#: The end of the year 9999, wall-clock seconds.
_LAST = 253_402_300_799.0


def believed(view: View) -> View:
    """The same view; ``None`` or empty where it has something that cannot be."""
    return view._replace(
        session=_text(view.session, NAME),
        detail=_text(view.detail, TEXT) or "",
        since=_moment(view.since),
        model=_text(view.model, NAME),
        cwd=_text(view.cwd, FOLDER),
        branch=_text(view.branch, NAME),
        context=_count(view.context),
        context_limit=_count(view.context_limit),
        last_call=_moment(view.last_call),
        tool=_text(view.tool, NAME),
        prompt=_text(view.prompt, TEXT) or "",
        children=tuple(_child(child) for child in view.children[-CHILDREN:]),
    )


def encodable(text: str) -> str:
    """A text that can be written down: a file's name may hold bytes that are none."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _child(child: Child) -> Child:
    # A subagent's own subagents are shown nowhere.
    view = believed(child.view._replace(children=()))
    return Child(_text(child.id, NAME) or "?", _text(child.name, NAME) or "?", view)


def _text(value: Any, most: int) -> str | None:
    return encodable(value[:most]) if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= _LARGEST else None


def _moment(value: Any) -> float | None:
    return value if type(value) in (int, float) and 0 <= value <= _LAST else None
