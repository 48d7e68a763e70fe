"""A log file over the whole screen: the kernel's own, read when its kernel does not answer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from anyio.to_thread import run_sync
from textual import on
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widget import Widget

from agenttop.core.backend import Chunk

from ..widgets.dialog import Chip, Chips
from ..widgets.log_view import LogView
from ..widgets.paper import Paper, rule

#: Bytes read from the end.
TAIL = 512 << 10


def tail(path: Path, size: int = TAIL) -> tuple[int, bytes]:
    """The last ``size`` bytes of a file from a line's beginning, and where they begin.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        start = max(0, end - size)
        file.seek(start)
        data = file.read(size)
    if start:
        cut = data.find(b"\n") + 1
        return start + cut, data[cut:]
    return 0, data


class FileScreen(Screen[None]):
    """The end of a file, as a log."""

    DEFAULT_CSS = """
    FileScreen #rule { height: 1; }
    FileScreen #log { height: 1fr; }
    FileScreen Chips { dock: bottom; background: $bg; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", show=False),
        Binding("q", "close", show=False),
        Binding("r", "read", show=False),
    ]

    def __init__(self, path: Path, title: str) -> None:
        super().__init__()
        self.path = path
        self.name_shown = title

    def compose(self) -> Iterable[Widget]:
        """Title, log, keys."""
        yield Paper(ground="bg", id="rule")
        yield LogView(id="log")
        yield Chips((Chip("r", "Read again"), Chip("w", "Wrap"), Chip("Esc", "Back")))

    def on_mount(self) -> None:
        """Read it."""
        self.query_one(LogView).focus()
        self.action_read()

    def action_read(self) -> None:
        """Read the end of the file again."""
        self.run_worker(self._read(), exclusive=True)

    async def _read(self) -> None:
        log = self.query_one(LogView)
        log.clear()
        try:
            start, data = await run_sync(tail, self.path)
        except OSError as error:
            start, data = 0, f"It cannot be read: {error.strerror or error}.\n".encode()
        log.feed([Chunk("out", start, data)])
        log.action_follow()
        self._say()

    @on(LogView.Changed)
    def _say(self) -> None:
        paper = self.query_one("#rule", Paper)
        paper.show([rule(self.name_shown, self.app.size.width, str(self.path))])

    def action_close(self) -> None:
        """Back."""
        self.dismiss(None)
