"""Attaching to a frozen agent: it would neither draw nor read, so it is asked whether to resume it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from ..format import clean
from ..widgets.dialog import Chip, Dialog
from ..widgets.paper import Paper, Row

if TYPE_CHECKING:
    from agenttop.core.api import Row as FleetRow


class ThawScreen(Dialog[None]):
    """Resume and attach, or only look."""

    WIDTH = 64
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "enter", show=False),
        Binding("l", "look", show=False),
    ]

    def __init__(self, row: FleetRow) -> None:
        super().__init__()
        self.row = row

    def on_mount(self) -> None:
        """The question."""
        self.head(f"{clean(self.row.name)} is frozen", clean(self.row.detail))
        rows: list[Row] = [
            [("Frozen, it would neither draw nor read what you type.", "bright")],
            [],
            [("It goes on where it was stopped, in the middle of a word.", "muted")],
        ]
        self.query_one("#paper", Paper).show(rows)
        self.fit()

    def chips(self) -> Sequence[Chip]:
        """What can be done."""
        return (Chip("Enter", "Resume and attach", "good bold"), Chip("l", "Look"), Chip("Esc", "Cancel"))

    def action_enter(self) -> None:
        """Resume it and get in front of it."""
        shell = self.shell
        self.dismiss(None)
        shell.attaching.resume(self.row)

    def action_look(self) -> None:
        """Its screen as it stands, in the log."""
        shell = self.shell
        self.dismiss(None)
        shell.open_details(self.row.id, zoom=True)
