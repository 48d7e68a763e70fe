"""Pane 1: the table, and below it whatever there is room for."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.widget import Widget

from .. import keys
from ..columns import BY_ID
from ..model import WINDOWS, asks
from ..widgets.empty import Empty
from ..widgets.events_strip import EventsStrip
from ..widgets.fleet_table import FleetTable
from ..widgets.footer import Footer
from ..widgets.header import height as header_height
from ..widgets.inspector import Inspector
from ..widgets.notice import Notice
from .pane import PaneScreen

if TYPE_CHECKING:
    from agenttop.core.api import EventInfo

#: Free lines below the rows from which each of these is shown. Rows always win.
INSPECTOR, EVENTS, SPLIT, SPLIT_WIDTH = 3, 6, 20, 160


class FleetScreen(PaneScreen):
    """The fleet and what acts on it."""

    PANE: ClassVar[str] = keys.FLEET
    NUMBER: ClassVar[int] = 1

    def __init__(self) -> None:
        super().__init__(id="fleet")
        self._panels = ""

    def body(self) -> list[Widget]:
        """The table, the notice, and the panels that take turns below."""
        table = FleetTable()
        table.chosen = self.shell.settings.columns
        return [table, Empty(), Notice(), Inspector(), EventsStrip()]

    @property
    def table(self) -> FleetTable:
        """The table."""
        return self.query_one(FleetTable)

    # --- layout --------------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Everything below the table stays away until there is something to show."""
        for widget in self.query("Empty, Notice, Inspector, EventsStrip"):
            widget.display = False
        super().on_mount()

    def on_resize(self) -> None:
        """Room comes and goes."""
        super().on_resize()
        self._arrange()

    def _free(self) -> int:
        """Lines left between the last row and the footer."""
        lines = self.app.size.height
        tabs = 1 if lines >= 14 else 0
        notice = 1 if self.query_one(Notice).needed else 0
        return lines - header_height(lines) - tabs - 1 - len(self.shell.model.lines) - notice - 1

    def _wanted(self) -> tuple[str, int]:
        """Which panel there is room for, and its height."""
        settings, free = self.shell.settings, self._free()
        if not self.shell.model.known or not self.shell.model.rows:
            return "", 0
        if settings.split and free >= SPLIT and self.app.size.width >= SPLIT_WIDTH:
            return "split", free - 1
        if settings.events and free >= EVENTS:
            return "events", free - 1 if free > EVENTS else free
        if settings.inspector and free >= INSPECTOR:
            return "inspector", 3
        return "", 0

    def _arrange(self) -> None:
        """Give the space below the rows to what fits there."""
        if not self.app.is_running:  # leaving: the parts go one by one
            return
        model = self.shell.model
        empty = model.known and not model.rows
        panel, tall = self._wanted()
        notice = self.query_one(Notice)
        state = f"{panel} {tall} {empty} {notice.needed}"
        if state == self._panels:
            return
        self._panels = state
        notice.display = notice.needed
        self.query_one(Empty).display = empty
        self.table.styles.height = 1 if empty else "1fr"
        self.query_one(Inspector).display = panel == "inspector"
        strip = self.query_one(EventsStrip)
        strip.display = panel == "events"
        strip.styles.height = max(1, tall)
        self._show_split(panel == "split", tall)
        if empty:
            self.query_one(Empty).look_around()
        self.shell.follow_events(tall if panel == "events" else 0)

    def _show_split(self, shown: bool, tall: int) -> None:
        found = self.query("#split")
        if shown and not found:
            from ..widgets.split import Split

            fresh = Split()
            fresh.styles.height = tall
            self.mount(fresh, before="#footer")
        for split in found:
            split.display = shown
            split.styles.height = max(1, tall)

    def updated(self) -> None:
        """New rows or another order."""
        self._arrange()
        self.table.repaint()
        super().updated()
        self.query_one(Notice).redraw()
        self._follow_cursor()

    def show_events(self, events: list[EventInfo]) -> None:
        """The newest events, for the strip."""
        self.query_one(EventsStrip).show(events)

    @on(FleetTable.Scrolled)
    def _follow_cursor(self) -> None:
        if self._panels.startswith("inspector"):
            self.query_one(Inspector).redraw()
        current = self.shell.model.current
        self.query_one(Footer).offer_attach(current is not None and current.attach)
        for split in self.query("#split"):
            split.follow()  # type: ignore[attr-defined]  # a Split: imported when it is first shown
        if self.shell.toasts:
            self.show_toasts()

    def cursor_y(self) -> int | None:
        """The screen line the cursor's row is on."""
        table = self.table
        return table.region.y + table.line_of_cursor if self.shell.model.cursor is not None else None

    # --- moving --------------------------------------------------------------------------------

    def _moved(self) -> None:
        self.table.repaint()
        self._follow_cursor()

    def _to(self, line: int) -> None:
        self.shell.model.move(line)
        self._moved()

    def do_move_up(self) -> None:
        """One row up."""
        self._to(self.shell.model.place - 1)

    def do_move_down(self) -> None:
        """One row down."""
        self._to(self.shell.model.place + 1)

    def do_move_page_up(self) -> None:
        """A table's height up."""
        self._to(self.shell.model.place - max(1, self.table.rows_visible - 1))

    def do_move_page_down(self) -> None:
        """A table's height down."""
        self._to(self.shell.model.place + max(1, self.table.rows_visible - 1))

    def do_move_home(self) -> None:
        """The first row."""
        self._to(0)

    def do_move_end(self) -> None:
        """The last row."""
        self._to(len(self.shell.model.lines))

    # --- looking -------------------------------------------------------------------------------

    def do_agent_details(self) -> None:
        """What the cursor's row asks, if it asks anything; else everything about it."""
        row = self.shell.model.current
        if row is not None and asks(row) and not self.shell.lost:
            self.shell.open_questions(agent=row.id, otherwise_details=True)
        elif row is not None:
            self.shell.open_details(row.id)

    def do_look_search(self) -> None:
        """Move to rows as a word is typed; Enter keeps the place, Esc goes back."""
        model = self.shell.model
        before = model.cursor

        def changed(text: str) -> bool:
            model.touch()
            found = not text or model.find(text)
            self._moved()
            return found

        def done(text: str | None) -> None:
            if text is None:
                model.cursor = before
            else:
                model.search = text
            self._moved()

        self.ask("Search:", "", changed, done)

    def do_look_filter(self) -> None:
        """Show only rows that match; Esc puts the old filter back."""
        model = self.shell.model
        before = model.filter

        def changed(text: str) -> bool:
            model.filter = text
            self._reordered()
            return bool(model.lines) or not text

        def done(text: str | None) -> None:
            changed(before if text is None else text)

        self.ask("Filter:", before, changed, done)

    def _reordered(self) -> None:
        self.shell.model.reorder()
        self.updated()

    def do_look_tree(self) -> None:
        """Tree or list."""
        self.shell.model.tree = not self.shell.model.tree
        self._reordered()

    def do_look_needs(self) -> None:
        """What the cursor's row asks; else only what needs a person, or all again."""
        model = self.shell.model
        if model.current is not None and asks(model.current) and not self.shell.lost:
            self.shell.open_questions(agent=model.current.id)
            return
        model.needs_only = not model.needs_only
        if model.needs_only and not model.needing_you:
            model.needs_only = False
            self.shell.toast("Nobody needs you", "no agent waits for input, approval or budget", "good")
        self._reordered()

    def do_look_reverse(self) -> None:
        """The other way round."""
        self.shell.model.largest = not self.shell.model.largest
        self._reordered()

    def sort_by(self, column: str) -> None:
        """Sort by a column; by the same one again turns the order round."""
        model = self.shell.model
        model.largest = not model.largest if model.sort == column else BY_ID[column].largest
        model.sort = column
        self._reordered()

    def do_look_sort(self) -> None:
        """Choose the column from a list."""
        from .sort import SortScreen

        def chosen(column: str | None) -> None:
            if column is not None:
                self.sort_by(column)

        self.app.push_screen(SortScreen(), chosen)

    def _sort_beside(self, by: int) -> None:
        shown = [place.column for place in self.table.places if place.column.sort is not None]
        at = next((n for n, column in enumerate(shown) if column.id == self.shell.model.sort), 0)
        column = shown[(at + by) % len(shown)]
        self.shell.model.sort = column.id
        self.shell.model.largest = column.largest
        self._reordered()

    def do_look_sort_left(self) -> None:
        """Sort by the column on the left."""
        self._sort_beside(-1)

    def do_look_sort_right(self) -> None:
        """Sort by the column on the right."""
        self._sort_beside(1)

    def do_look_window(self) -> None:
        """The next window of the sums."""
        window = WINDOWS[(WINDOWS.index(self.shell.model.window) + 1) % len(WINDOWS)]
        self.shell.rewatch(window)

    def do_look_split(self) -> None:
        """Split pane on or off, where there is room for one."""
        if self.app.size.width < SPLIT_WIDTH or self._free() < SPLIT:
            self.shell.toast(
                "No room to split", f"needs {SPLIT_WIDTH} columns and {SPLIT} free lines", "warn"
            )
            return
        self.shell.change(split=not self.shell.settings.split)
        self._rearranged()

    def do_look_inspector(self) -> None:
        """Inspector on or off; where events take its place, it takes theirs."""
        settings = self.shell.settings
        if self._panels.startswith("events"):
            self.shell.change(inspector=True, events=False)
        elif self._panels.startswith("inspector") and self._free() >= EVENTS:
            self.shell.change(events=True)
        elif self._panels.startswith("split"):
            self.shell.change(split=False, inspector=True, events=False)
        elif not settings.inspector and self._free() < INSPECTOR:
            self.shell.change(inspector=True)
            self.shell.toast(
                "No room for the inspector", f"it needs {INSPECTOR} free lines; Enter has it all", "warn"
            )
        else:
            self.shell.change(inspector=not settings.inspector)
        self._rearranged()

    def _rearranged(self) -> None:
        self._panels = ""
        self.updated()

    def do_look_freeze(self) -> None:
        """The display stands still, or goes on."""
        model = self.shell.model
        self.shell.seen_at = self.shell.clock.time()
        model.stand(not model.standing)
        self.updated()

    def do_app_back(self) -> None:
        """Clear one thing after another: toasts, filter, tags."""
        model = self.shell.model
        if self.shell.toasts:
            self.shell.clear_toasts()
        elif model.standing:
            self.do_look_freeze()
        elif model.filter or model.needs_only or model.only is not None:
            model.filter, model.needs_only, model.only = "", False, None
            self._reordered()
        elif model.tags:
            self.do_tag_none()

    # --- tags ----------------------------------------------------------------------------------

    def do_tag_toggle(self) -> None:
        """Tag the row and go to the next."""
        model = self.shell.model
        if model.cursor is not None:
            model.toggle_tags([model.cursor])
            self._to(model.place + 1)
            self.updated()

    def do_tag_children(self) -> None:
        """Tag the row with everything below it."""
        model = self.shell.model
        if model.cursor is not None:
            model.toggle_tags(model.children(model.cursor))
            self.updated()

    def do_tag_none(self) -> None:
        """No tags."""
        self.shell.model.tags.clear()
        self.updated()
