"""Pane 3: the messages between agents as they go, the cursor's conversation, mailboxes and topics."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Horizontal
from textual.widget import Widget

from .. import keys
from ..bus import BusPicture, ended, says
from ..bus_watch import BusWatch
from ..format import age, clean
from ..format import clock as at
from ..lines import Part
from ..look import colour
from ..widgets import bus_graph, bus_side, sequence
from ..widgets.dead_list import dead_rows
from ..widgets.header import height as header_height
from ..widgets.notice import Notice
from ..widgets.paper import Row, counted, rule
from ..widgets.sequence import Doing
from ..widgets.sheet import Sheet
from ..widgets.trace_table import TraceTable
from .bus_acts import DEAD_EVERY, BusActs, DeadLetters

if TYPE_CHECKING:
    from agenttop.core.api.bus import MessageRow

#: The parts, in the order of ``Tab``.
TRACE, TALK, GRAPH, BOXES, DEAD = "trace", "talk", "graph", "boxes", "dead"
PARTS = (TRACE, TALK, GRAPH, BOXES, DEAD)
#: From these sizes on there is a lower half, it has mailboxes at its right, and the graph in its middle.
TALL, WIDE, WIDEST = 22, 100, 170
#: Cells of the mailboxes, and of the graph beside a conversation.
SIDE, SIDE_WIDE, MIDDLE = 42, 52, 62
#: Seconds between two paintings of what lies below the trace; while messages pour in, of it and of the trace.
CALM, BUSY_CALM, BUSY_PACE = 0.5, 1.0, 0.5
#: Messages a second from which they pour: nobody reads them line by line.
POURING = 50.0


class BusScreen(BusActs):
    """The bus of one kernel."""

    PANE: ClassVar[str] = keys.BUS
    NUMBER: ClassVar[int] = 3
    DEFAULT_CSS = """
    BusScreen #lower { height: 0; }
    BusScreen #left { width: 1fr; }
    BusScreen #middle { width: 62; }
    BusScreen #side { width: 42; }
    BusScreen .bar { width: 1; }
    BusScreen #sentence { height: 1; }
    """

    def __init__(self, part: str = TRACE) -> None:
        super().__init__(id="bus")
        self.picture = BusPicture()
        self.feed = BusWatch(self.picture, lambda: self.shell.client, self._changed)
        self.letters = DeadLetters()
        self.part = part
        self.box: str | None = None
        self.search = ""
        self._talk_seq: int | None = None
        self._scrolled: int | None = None
        """First line of the conversation on screen; ``None``: the end of it."""
        self._calm_until = self._trace_until = 0.0
        self._unpainted = False
        self._laid: object = None
        self._stood_at = 0.0

    def body(self) -> list[Widget]:
        """The trace, the notice, what lies below, and the wait-for graph in a sentence."""
        table = TraceTable(self.picture)
        return [
            table, Notice(),
            Horizontal(
                Sheet(id="left"), Sheet(id="bar"), Sheet(id="middle"), Sheet(id="bar2"), Sheet(id="side"),
                id="lower",
            ),
            Sheet(id="sentence"),
        ]  # fmt: skip

    # Textual calls the base class's handler too.
    def on_mount(self) -> None:
        """Begin to watch."""
        self.query_one(Notice).display = False
        for name in ("bar", "bar2"):
            self.query_one(f"#{name}").add_class("bar")
        if len(hosts := self.hosts()) > 1:
            current = self.shell.model.current
            self.feed.host = current.host if current is not None and current.host else hosts[0]
        self.run_worker(self.feed.run(), group="bus")
        self.run_worker(self.feed.run_talk(), group="bus-talk")
        self.set_interval(DEAD_EVERY, self._look_for_dead)

    def _whole(self) -> bool:
        """False once the screen is being taken apart; who waited for something meanwhile looks first."""
        return self.app.is_running and bool(self.query("#sentence"))

    @property
    def table(self) -> TraceTable:
        """The trace."""
        return self.query_one("#trace", TraceTable)

    @property
    def now(self) -> float:
        """The moment that ages are counted to."""
        if self.picture.standing:
            return self._stood_at
        return self.shell.seen_at if self.shell.lost else self.shell.clock.time()

    # --- layout --------------------------------------------------------------------------------

    def _body(self) -> int:
        """Lines between tabs and sentence."""
        tall = self.app.size.height
        return tall - header_height(tall) - (1 if tall >= 14 else 0) - 2 - self.query_one(Notice).needed

    def shown(self) -> dict[str, str]:
        """Which part is in which place: ``trace``, ``left``, ``middle``, ``side``."""
        width, part = self.app.size.width, self.part
        if self._body() < TALL:
            return {TRACE: TRACE} if part == TRACE else {"left": part}
        below = TALK if part == TRACE else part
        if width < WIDE:
            return {TRACE: TRACE, "left": below}
        found = {TRACE: TRACE, "left": TALK if below == BOXES else below, "side": BOXES}
        if width >= WIDEST:
            found["middle"] = GRAPH
            found["left"] = TALK if found["left"] == GRAPH else found["left"]
        return found

    def _arrange(self) -> None:
        shown, body, width = self.shown(), self._body(), self.app.size.width
        notice = self.query_one(Notice)
        laid = (tuple(sorted(shown.items())), body, width, notice.needed)
        if laid == self._laid:
            return
        self._laid = laid
        notice.display = notice.needed
        self.table.display = TRACE in shown
        for name in ("left", "middle", "side"):
            self.query_one(f"#{name}").display = name in shown
        self.query_one("#bar").display = "side" in shown
        self.query_one("#bar2").display = "middle" in shown
        lower = self.query_one("#lower")
        lower.display = "left" in shown
        lower.styles.height = body - (max(6, body * 2 // 5) if TRACE in shown else 0)
        self.query_one("#side").styles.width = SIDE_WIDE if width >= WIDEST else SIDE
        self.query_one("#middle").styles.width = MIDDLE
        self.call_after_refresh(self._paint)

    # --- what is shown -------------------------------------------------------------------------

    def _changed(self) -> bool:
        """Something came; whether there is still anybody to show it to."""
        if not self._whole():
            return False
        if self.shell.pane is not self:
            return True
        if self.picture.trace.missed and self.table.following and not self.picture.standing:
            self.picture.trace.clear()
            self.feed.again()
        clock = time.monotonic()
        pours = self.picture.sums is not None and self.picture.sums.per_second > POURING
        if clock >= self._trace_until:
            self._trace_until = clock + (BUSY_PACE if pours else 0.0)
            self._paint_trace()
        if clock >= self._calm_until:
            self._calm_until = clock + (BUSY_CALM if pours else CALM)
            self._paint_lower()
            self._unpainted = False
        elif not self._unpainted and not pours:
            self._unpainted = True  # the last change of a few is not forgotten
            self.set_timer(CALM, self._paint_rest)
        return True

    def _paint_rest(self) -> None:
        if self._unpainted and self._whole():
            self._unpainted = False
            self._paint_lower()

    def updated(self) -> None:
        """The fleet changed, a second went by, or the pane has another size."""
        if not self._whole():
            return  # not composed yet, or being taken away
        super().updated()
        self._arrange()
        self.query_one(Notice).redraw()
        self._paint()

    def _paint(self) -> None:
        if self._whole():
            self._paint_trace()
            self._paint_lower()
            if self.shell.toasts:
                self.show_toasts()

    def _paint_trace(self) -> None:
        table = self.table
        table.now, table.focused, table.said = self.now, self.part == TRACE, self._said()
        table.why_empty = self._why_empty()
        if table.display:
            table.redraw()
        sheet = self.query_one("#sentence", Sheet)
        sheet.show([self._stale(bus_graph.sentence(self.picture, self.now))])

    def _said(self) -> str:
        parts = []
        if self.picture.standing:
            new = f"{self.picture.new:,} new" if self.picture.new else "nothing new"
            parts.append(f"STANDS, {new}, Z goes on")
        elif not self.table.following:
            newer = self.table.newer
            missed = "more than " if self.picture.trace.missed else ""
            parts.append(
                f"{missed}{newer + self.picture.trace.missed:,} newer, f follows" if newer else "f follows"
            )
        if self.feed.text:
            parts.append(f"filter {clean(self.feed.text)}")
        if self.feed.host:
            parts.append(f"on {clean(self.feed.host)}, o others")
        return "  ".join(parts)

    def _why_empty(self) -> Part | None:
        look = self.shell.look
        if self.feed.problem:
            return (f" {clean(self.feed.problem)}", look.palette("bad"))
        if not self.picture.known:
            return (" asking the kernel", look.palette("muted"))
        if self.feed.text:
            return (" no message has this in it", look.palette("muted"))
        said = "no message yet: m writes the first one; agents use their tools send and ask, or agenttop send"
        return (f" {said}", look.palette("muted"))

    def _paint_lower(self) -> None:
        for place, part in self.shown().items():
            if place == TRACE:
                continue
            sheet = self.query_one(f"#{place}", Sheet)
            if sheet.display and sheet.size.width and sheet.size.height:
                paint: Callable[[Sheet], None] = getattr(self, f"_paint_{part}")
                paint(sheet)
        for name in ("bar", "bar2"):
            bar = self.query_one(f"#{name}", Sheet)
            if bar.display:
                top = "┬" if self.shell.look.unicode else "-"
                bar.show([[(top if not n else "│", "rule")] for n in range(bar.size.height)])

    def _stale(self, row: Row) -> Row:
        """A row as last seen, while no kernel answers."""
        return [(text, "num-stale italic") for text, _ in row] if self.shell.lost else row

    def _show(self, sheet: Sheet, rows: list[Row], fixed: int) -> None:
        sheet.show([self._stale(row) for row in rows], fixed=fixed)

    def _mark(self, row: Row, part: str) -> Row:
        """The rule of the part that has the keys."""
        return [("▌ ", "accent"), *row[1:]] if self.part == part and row else row

    # --- the conversation ----------------------------------------------------------------------

    def chosen(self) -> MessageRow | None:
        """The message whose conversation is shown: the cursor's."""
        row = self.table.current
        if row is None and self.table.cursor is None:
            return None
        return row

    def conversation(self, chosen: MessageRow) -> list[MessageRow]:
        """Its messages: those of the trace, and what the kernel has besides."""
        here = {row.seq: row for row in self.picture.trace.talk(chosen.trace)} if chosen.trace else {}
        here[chosen.seq] = chosen
        if self.feed.talk_of == chosen.trace:
            here |= self.feed.talk.rows
        return [here[seq] for seq in sorted(here)]

    def _paint_talk(self, sheet: Sheet) -> None:
        width, tall = sheet.size.width, sheet.size.height
        chosen = self.chosen()
        if chosen is None:
            self._show(sheet, [self._mark(rule("Conversation", width), TALK)], 1)
            return
        if not self.picture.standing:
            self.feed.listen(chosen.trace)
        if chosen.seq != self._talk_seq:
            self._talk_seq, self._scrolled = chosen.seq, None
        messages = self.conversation(chosen)
        doing = self.doing({name for row in messages for name in (row.sender, row.to)})
        ascii = not self.shell.look.unicode
        drawn = sequence.diagram(messages, chosen, self.now, width, tall - 2, doing, ascii=ascii)
        waits = [row for row in messages if row.kind == "request" and not ended(row)]
        agents = len(sequence.members(messages))
        said = f"{counted(agents, 'party', 'parties')}, {counted(len(messages), 'message')}"
        if waits:
            said += f"; {clean(waits[-1].sender)} waits for {clean(waits[-1].to)}"
        head = rule(f"Conversation {messages[0].seq}", width, said)
        room = max(1, tall - 2)
        most = max(0, len(drawn.rows) - room)
        if self._scrolled is None:
            top = max(0, min(most, drawn.at - room // 2)) if drawn.at < most else most
        else:
            top = self._scrolled = max(0, min(most, self._scrolled))
        sheet.top = top
        self._show(sheet, [self._mark(head, TALK), drawn.names, *drawn.rows], 2)

    def doing(self, names: set[str]) -> dict[str, Doing]:
        """What these agents do, by name."""
        found: dict[str, Doing] = {}
        clock = self.shell.clock
        for row in self.shell.model.rows.values():
            if row.name not in names or (row.host != self.feed.host and self.feed.host):
                continue
            word = {"hold": "held", "freeze": "frozen"}.get(row.pause or "", row.state)
            detail = clean(row.detail)
            text = {
                "executing": f"in {detail or 'a tool'} since {at(row.since)}",
                "planning": f"in a model call since {at(row.since)}",
                "waiting": f"waits since {at(row.since)}: {detail}",
            }.get(word, f"{word} since {at(row.since)}")
            busy = word in ("executing", "planning", "frozen", "held", "error", "terminated")
            ago = age(max(0.0, (self.now if self.shell.lost else clock.time()) - row.since))
            short = (f"{detail or word} {ago}" if word in ("executing", "planning") else word) if busy else ""
            found[row.name] = Doing(text, colour(row.state, row.pause, row.reason), short)
        return found

    # --- the other parts -----------------------------------------------------------------------

    def _paint_graph(self, sheet: Sheet) -> None:
        width, tall = sheet.size.width, sheet.size.height
        rows = bus_graph.graph(self.picture, self.now, width, tall, self.shell.look.glyphs.mark)
        self._show(sheet, [self._mark(rows[0], GRAPH), *rows[1:]], 1)

    def _paint_boxes(self, sheet: Sheet) -> None:
        chosen = self._chosen_box() if self.part == BOXES else None
        width, tall = sheet.size.width, sheet.size.height
        rows = bus_side.side(self.picture, self.now, width, tall, chosen, self.shell.look.glyphs.mark)
        self._show(sheet, [self._mark(rows[0], BOXES), *rows[1:]], 1)

    def _paint_dead(self, sheet: Sheet) -> None:
        letters = self.letters
        mark = self.shell.look.glyphs.mark
        place = letters.at if self.part == DEAD else -1
        rows = dead_rows(letters.found, letters.problem, place, self.now, sheet.size.width, mark)
        self._show(sheet, [self._mark(rows[0], DEAD), *rows[1:]], 2)
        sheet.bring(letters.at)

    def cursor_y(self) -> int | None:
        """The screen line of the cursor's row."""
        table = self.table
        return table.region.y + table.line_on_screen() if table.display and self.part == TRACE else None

    def on_resize(self) -> None:
        """Room comes and goes."""
        self.updated()

    # --- keys: moving --------------------------------------------------------------------------

    def _go(self, by: int) -> None:
        if self.part == TRACE:
            self.table.go(self.table.place + by)
            self._paint_trace()  # the key is answered at once, what depends on it follows
            self.call_after_refresh(self._paint)
            return
        if self.part == BOXES:
            boxes = [box.agent for box in bus_side.sorted_boxes(self.picture.boxes)]
            if boxes:
                at = boxes.index(self._chosen_box() or boxes[0])
                self.box = boxes[max(0, min(len(boxes) - 1, at + by))]
        elif self.part == DEAD:
            self.letters.go(by)
        elif self.part == TALK:
            self._scrolled = max(0, self.query_one("#left", Sheet).top + by)
        else:
            place = next(place for place, part in self.shown().items() if part == GRAPH)
            self.query_one(f"#{place}", Sheet).scroll(by)
        self._paint()

    def _page(self) -> int:
        if self.part == TRACE:
            return max(1, self.table.size.height - 2)
        return max(1, self.query_one("#left", Sheet).size.height - 3)

    def _chosen_box(self) -> str | None:
        boxes = bus_side.sorted_boxes(self.picture.boxes)
        if self.box not in {box.agent for box in boxes}:
            self.box = boxes[0].agent if boxes else None
        return self.box

    def do_move_up(self) -> None:
        """One row up."""
        self._go(-1)

    def do_move_down(self) -> None:
        """One row down."""
        self._go(1)

    def do_move_page_up(self) -> None:
        """A page up."""
        self._go(-self._page())

    def do_move_page_down(self) -> None:
        """A page down."""
        self._go(self._page())

    def do_bus_newest(self) -> None:
        """The newest message; the first row of another part."""
        self._go(-1_000_000)

    def do_move_end(self) -> None:
        """The oldest message that is kept; the last row of another part."""
        self._go(1_000_000)

    def do_bus_part(self) -> None:
        """The next part."""
        self._turn(1)

    def do_bus_part_before(self) -> None:
        """The part before."""
        self._turn(-1)

    def _turn(self, step: int) -> None:
        self.to_part(PARTS[(PARTS.index(self.part) + step) % len(PARTS)])

    def to_part(self, part: str) -> None:
        """Give the keys to a part, and room if it has none."""
        self.part = part
        if part == DEAD:
            self._look_for_dead()
        self.updated()

    def do_bus_graph(self) -> None:
        """Who waits for whom and who talks to whom, or back to the trace."""
        self.to_part(TRACE if self.part == GRAPH else GRAPH)

    def do_bus_dead(self) -> None:
        """Dead letters, or back to the trace."""
        self.to_part(TRACE if self.part == DEAD else DEAD)

    # --- keys: looking -------------------------------------------------------------------------

    def do_events_follow(self) -> None:
        """Follow the newest, or stay on this message."""
        if self.table.following:
            self.table.stay()
        else:
            self.table.follow()
            self._changed()
        self._paint()

    def do_look_freeze(self) -> None:
        """Let the display stand still; what comes is kept and counted."""
        self._stood_at = self.now
        self.picture.stand(not self.picture.standing)
        self._changed()
        self._paint()

    def do_look_search(self) -> None:
        """Back to the nearest message that says something."""
        before = None if self.table.following else self.table.cursor
        start = self.table.place

        def found(text: str) -> bool:
            trace = self.picture.trace
            total = len(trace.order)
            for step in range(total):
                line = (start + step) % total
                if says(trace.rows[trace.order[-1 - line]], text):
                    self.table.go(line)
                    self._paint()
                    return True
            return not text

        def done(text: str | None) -> None:
            if text is None:
                self.table.go(self.table._line_of(before)) if before is not None else self.table.follow()
                self._paint()
            else:
                self.search = text

        self.part = TRACE
        self.updated()
        self.ask("Search:", self.search, found, done)

    def do_look_filter(self) -> None:
        """Only messages with this in sender, receiver, type or text."""
        before = self.feed.text

        def changed(text: str) -> bool:
            self.feed.filter(text.strip())
            self._paint()
            return True

        def done(text: str | None) -> None:
            changed(before if text is None else text)

        self.part = TRACE
        self.updated()
        self.ask("Filter:", before, changed, done)

    def do_bus_host(self) -> None:
        """The bus of the next host."""
        hosts = self.hosts()
        if len(hosts) < 2:
            self.shell.toast("One host only", "there is no other bus to look at", "info")
            return
        at = hosts.index(self.feed.host) if self.feed.host in hosts else -1
        self.feed.on(hosts[(at + 1) % len(hosts)])
        self.letters.forget()
        self.table.follow()
        self._paint()

    def hosts(self) -> list[str]:
        """The hosts there are, if there are several."""
        header = self.shell.model.header
        return [host.name for host in header.hosts] if header is not None and len(header.hosts) > 1 else []

    def do_app_back(self) -> None:
        """Toasts, the part, standing still, the filter; then the fleet."""
        if self.shell.toasts:
            self.shell.clear_toasts()
        elif self.part != TRACE:
            self.to_part(TRACE)
        elif self.picture.standing:
            self.do_look_freeze()
        elif self.feed.text:
            self.feed.filter("")
            self._paint()
        else:
            self.shell.pop_screen()
