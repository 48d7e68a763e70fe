"""Pane 6: the journal, row by row, followed or scrolled, searched and filtered."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar

from textual.strip import Strip
from textual.widget import Widget
from textual.worker import Worker

from agenttop.core.errors import AgentTopError
from agenttop.core.streams import closing

from .. import keys
from ..lines import Lines, Part, strip
from ..verbs import sentences
from ..widgets.events_strip import event_line
from .pane import PaneScreen

if TYPE_CHECKING:
    from agenttop.core.api import EventInfo

#: Rows kept in the pane, and rows read when it opens.
KEEP, FIRST = 10_000, 1_000
#: Seconds between two repaints while events pour in.
PACE = 0.2


class EventList(Lines):
    """Heading and events; the cursor is a row of the journal, so nothing moves under it."""

    DEFAULT_CSS = "EventList { height: 1fr; }"

    def __init__(self) -> None:
        super().__init__(id="event-list")
        self.events: deque[EventInfo] = deque(maxlen=KEEP)
        self.shown: list[EventInfo] = []
        self.at = 0
        self.following = True
        self.filter = ""

    def add(self, events: list[EventInfo]) -> None:
        """More events, newest last."""
        full = len(self.events) + len(events) > KEEP
        self.events.extend(events)
        if full:
            self.select()
        else:
            self.shown += [event for event in events if self._accepts(event)]
        if self.following:
            self.at = max(0, len(self.shown) - 1)
        self.redraw()

    def select(self) -> None:
        """Apply the filter anew; the cursor stays on its event if that is still shown."""
        seq = self.shown[self.at].seq if self.at < len(self.shown) else None
        self.shown = [event for event in self.events if self._accepts(event)]
        last = max(0, len(self.shown) - 1)
        self.at = next((n for n, event in enumerate(self.shown) if event.seq == seq), last)

    def _accepts(self, event: EventInfo) -> bool:
        return bool(event.text) and says(event, self.filter)

    def move(self, to: int) -> None:
        """Put the cursor on a row; on the last one it follows."""
        self.at = max(0, min(len(self.shown) - 1, to))
        self.following = self.at >= len(self.shown) - 1
        self.redraw()

    def find(self, text: str) -> bool:
        """Go back to the nearest event that says ``text``."""
        total = len(self.shown)
        for back in range(total):
            number = (self.at - back) % total
            if says(self.shown[number], text):
                self.move(number)
                return True
        return not text

    def build(self, width: int, height: int) -> list[Strip]:
        """The heading and a window of events around the cursor."""
        look, model = self.shell.look, self.shell.model
        head = look.palette("head-fg", "head-bg")
        note = "following" if self.following else f"{len(self.shown) - 1 - self.at} below, f follow"
        title = f" TIME      AGENT        WHAT{'   filter ' + self.filter if self.filter else ''}"
        parts: list[Part] = [(title.ljust(max(0, width - len(note) - 1)), head), (note + " ", head)]
        lines = [strip(parts, width, head, look.glyphs.mark)]
        room = height - 1
        top = (
            max(0, min(self.at - room // 2, len(self.shown) - room))
            if not self.following
            else max(0, len(self.shown) - room)
        )
        for number, event in enumerate(self.shown[top : top + room], top):
            on = "cursor-bg" if number == self.at and not self.following else "bg"
            lines.append(event_line(event, model, look, width, on=on))
        blank = strip([], width, look.palette("fg"))
        return lines + [blank] * (height - len(lines))


def says(event: EventInfo, text: str) -> bool:
    """Whether every word of ``text`` occurs in an event."""
    there = f"{event.kind} {event.name or ''} {event.agent or ''} {event.text}".lower()
    return all(word in there for word in text.lower().split())


class EventsScreen(PaneScreen):
    """The journal's newest rows, and every one that follows."""

    PANE: ClassVar[str] = keys.EVENTS
    NUMBER: ClassVar[int] = 6

    def __init__(self) -> None:
        super().__init__()
        self._pending: list[EventInfo] = []
        self._worker: Worker[None] | None = None

    def body(self) -> list[Widget]:
        """The list."""
        return [EventList()]

    @property
    def list(self) -> EventList:
        """The list."""
        return self.query_one(EventList)

    def on_mount(self) -> None:
        """Read what was, then follow."""
        super().on_mount()
        self._worker = self.run_worker(self._follow(), group="journal")
        self.set_interval(PACE, self._flush)

    def updated(self) -> None:
        """A kernel that came back is followed again."""
        super().updated()
        if self._worker is not None and self._worker.is_finished and self.shell.client is not None:
            self._worker = self.run_worker(self._follow(), group="journal")

    async def _follow(self) -> None:
        client = self.shell.client
        if client is None:
            return
        try:
            since = self.list.events[-1].seq if self.list.events else 0
            if not since:
                first = await client.last_events(FIRST)
                self.list.add(first)
                since = first[-1].seq if first else 0
            async with closing(client.events(since=since, follow=True)) as events:
                async for event in events:
                    self._pending.append(event)
        except AgentTopError as error:
            if not self.shell.lost:
                self.shell.toast(*sentences(error), "error")

    def _flush(self) -> None:
        if self._pending:
            pending, self._pending = self._pending[-KEEP:], []
            self.list.add(pending)

    # --- keys ----------------------------------------------------------------------------------

    def do_move_up(self) -> None:
        """One row up."""
        self.list.move(self.list.at - 1)

    def do_move_down(self) -> None:
        """One row down."""
        self.list.move(self.list.at + 1)

    def do_move_page_up(self) -> None:
        """A page up."""
        self.list.move(self.list.at - max(1, self.list.size.height - 2))

    def do_move_page_down(self) -> None:
        """A page down."""
        self.list.move(self.list.at + max(1, self.list.size.height - 2))

    def do_move_home(self) -> None:
        """The oldest that is kept."""
        self.list.move(0)

    def do_move_end(self) -> None:
        """The newest."""
        self.list.move(len(self.list.shown))

    def do_events_follow(self) -> None:
        """Follow the newest, or stand still here."""
        if self.list.following:
            self.list.following = False
            self.list.redraw()
        else:
            self.do_move_end()

    def do_look_search(self) -> None:
        """Back to the nearest event that says something."""
        before = self.list.at

        def done(text: str | None) -> None:
            if text is None:
                self.list.move(before)

        self.ask("Search:", "", lambda text: self.list.find(text), done)

    def do_look_filter(self) -> None:
        """Only events that say something."""
        before = self.list.filter

        def changed(text: str) -> bool:
            self.list.filter = text
            self.list.select()
            self.list.redraw()
            return bool(self.list.shown) or not text

        def done(text: str | None) -> None:
            changed(before if text is None else text)

        self.ask("Filter:", before, changed, done)

    def do_app_back(self) -> None:
        """Clear the filter, then go back to the fleet."""
        if self.shell.toasts:
            self.shell.clear_toasts()
        elif self.list.filter:
            self.list.filter = ""
            self.list.select()
            self.list.redraw()
        else:
            self.shell.pop_screen()
