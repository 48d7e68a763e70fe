"""What pictures of the screen stand on, to be the same on every machine."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from agenttop.tui.widgets import tabs

from ..pilot.stage import StageClient


class StillClient(StageClient):
    """A table that does not change beneath a dialog: when it would is a matter of the machine's load."""

    def push(self, *rows: object, **given: object) -> None:
        """Tell nobody."""


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One time zone, host name and folder: they are part of the picture."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setattr(tabs, "_host", lambda: "devbox")
    monkeypatch.setenv("HOME", "/")
    monkeypatch.chdir("/")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
