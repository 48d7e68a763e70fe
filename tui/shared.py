"""Telling once when agents begin to work in one folder, as the journal's newest rows say it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .format import clean

if TYPE_CHECKING:
    from agenttop.core.api import EventInfo

    from .app import AgentTopApp


class SharedFolders:
    """What was there when the screen opened is not told: it is in the events, and in the details."""

    def __init__(self, app: AgentTopApp) -> None:
        self._app = app
        self._seen: int | None = None

    def told(self, events: Sequence[EventInfo]) -> None:
        """Look at the newest events, which may be the same as before."""
        newest = max((event.seq for event in events), default=0)
        if self._seen is not None:
            for event in events:
                if event.kind == "FolderShared" and event.seq > self._seen:
                    self._app.toast(clean(event.name or "One folder"), clean(event.text), "warn")
        self._seen = max(newest, self._seen or 0)
