"""Journal rows as lines: the strip below the table, and what the Events pane is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.strip import Strip

from .. import format as f
from ..lines import Lines, Part, strip
from ..look import Look, colour
from .inspector import rule

if TYPE_CHECKING:
    from agenttop.core.api import EventInfo

    from ..model import FleetModel

NAME_CELLS = 12


def event_line(event: EventInfo, model: FleetModel, look: Look, width: int, *, on: str = "bg") -> Strip:
    """``14:06:02  lead  call sent …``; the name has the colour of its agent's state now."""
    palette = look.palette
    row = model.rows.get(event.agent) if event.agent else None
    name = look.cut_middle(
        f.clean(event.name or (event.agent or "kernel")), NAME_CELLS - 2 if width < 60 else NAME_CELLS
    )
    fg = colour(row.state, row.pause, row.reason) if row is not None else "muted" if event.agent else "accent"
    flat = "cursor-fg" if on == "cursor-bg" else ""
    parts: list[Part] = [
        (f" {f.clock(event.ts)}  ", palette(flat or "muted", on)),
        (f.fit(name, NAME_CELLS) + " ", palette(flat or fg, on)),
        (look.plain(f.clean(event.text or event.kind)), palette(flat or "fg", on)),
    ]
    return strip(parts, width, palette(flat or "fg", on), look.glyphs.mark)


class EventsStrip(Lines):
    """The newest events, oldest first, below a rule."""

    DEFAULT_CSS = "EventsStrip { height: 6; }"

    def __init__(self) -> None:
        super().__init__(id="events")
        self.events: list[EventInfo] = []

    def show(self, events: list[EventInfo]) -> None:
        """Show these, the newest last."""
        self.events = events
        self.redraw()

    def build(self, width: int, height: int) -> list[Strip]:
        """The rule and as many events as there are lines."""
        look = self.shell.look
        lines = [rule("Events", "6 Events for all", width, look)]
        lines += [event_line(event, self.shell.model, look, width) for event in self.events[-(height - 1) :]]
        blank = strip([], width, look.palette("fg"))
        return lines[:height] + [blank] * (height - len(lines))
