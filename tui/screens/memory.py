"""Pane 4: the three memory tiers of one agent side by side, what moved between them, a search over all."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import anyio
from textual import events
from textual.containers import Horizontal
from textual.timer import Timer
from textual.widget import Widget
from textual.worker import Worker

from agenttop.core.errors import AgentTopError, KernelUnreachable

from .. import keys
from ..format import clean, cut
from ..memory import MemoryReader, Whose
from ..widgets.header import height as header_height
from ..widgets.memory_archival import ArchivalPart
from ..widgets.memory_moves import MovesPart
from ..widgets.memory_parts import Drawn, Part, space
from ..widgets.memory_recall import RecallPart
from ..widgets.memory_search import SearchPart
from ..widgets.memory_working import WorkingPart
from ..widgets.notice import Notice
from ..widgets.paper import Row, ends, length
from ..widgets.sheet import Sheet
from .memory_acts import MemoryActs

if TYPE_CHECKING:
    from agenttop.core.api import Row as FleetRow
    from agenttop.core.client import KernelClient

#: Seconds between two looks.
EVERY = 1.5
#: From so many columns the tiers stand side by side, and from so many lines what lies below them too.
WIDE, TALL = 100, 20
TIERS = ("working", "recall", "archival")
BELOW = ("moves", "search")
PARTS = (*TIERS, *BELOW)


class MemoryScreen(MemoryActs):
    """The memory of one agent."""

    PANE: ClassVar[str] = keys.MEMORY
    NUMBER: ClassVar[int] = 4
    DEFAULT_CSS = """
    MemoryScreen #whose { height: 1; }
    MemoryScreen #tiers { height: 1fr; }
    MemoryScreen #below { height: 0; }
    MemoryScreen .bar { width: 1; }
    MemoryScreen #working, MemoryScreen #recall, MemoryScreen #archival { width: 1fr; }
    MemoryScreen #moves { width: 6fr; }
    MemoryScreen #search { width: 5fr; }
    """

    def __init__(self, ref: str = "") -> None:
        super().__init__(id="memory")
        self.ref = ref
        self.focus_on = "working"
        self.reader: MemoryReader | None = None
        self.problem = ""
        self.working, self.recall, self.archival = WorkingPart(), RecallPart(), ArchivalPart()
        self.moves, self.search = MovesPart(), SearchPart()
        self._wanted = anyio.Event()
        self._soon: Timer | None = None
        self._version = 0
        """Of what is known: it grows with every look that found something else."""
        self._painted: object = None

    def body(self) -> list[Widget]:
        """Whose it is, the notice, the tiers, and what lies below."""
        return [
            Sheet(id="whose"), Notice(),
            Horizontal(
                Sheet(id="working"), Sheet(id="bar-1"), Sheet(id="recall"), Sheet(id="bar-2"),
                Sheet(id="archival"),
                id="tiers",
            ),
            Horizontal(Sheet(id="moves"), Sheet(id="bar-3"), Sheet(id="search"), id="below"),
        ]  # fmt: skip

    # Textual calls the base class's handler too.
    def on_mount(self) -> None:
        """Begin to look."""
        for name in ("bar-1", "bar-2", "bar-3"):
            self.query_one(f"#{name}").add_class("bar")
        self.query_one(Notice).display = False
        self.run_worker(self._look(), group="memory")

    # --- whose ---------------------------------------------------------------------------------

    def agents(self) -> list[FleetRow]:
        """The agents there are, in the table's order."""
        model = self.shell.model
        listed = [model.rows[line.id] for line in model.lines if line.id in model.rows]
        return listed or list(model.rows.values())

    @property
    def whose(self) -> Whose | None:
        """The agent whose memory is shown: the one chosen here, else the cursor's, else the first."""
        rows = self.shell.model.rows
        row = rows.get(self.ref) or self.shell.model.current or next(iter(self.agents()), None)
        return Whose.of(row) if row is not None else None

    def _turn(self, whose: Whose | None) -> None:
        """Show another agent."""
        parts = (self.working, self.recall, self.archival, self.moves)
        self.reader = MemoryReader(whose) if whose is not None and not whose.observed else None
        for part in parts:
            part.known = self.reader.known if self.reader is not None else None
            part.at = ""
        self.archival.space = ""
        self.problem = ""
        if not self.search.search.everybody:
            self._search_later(0)

    def _check_whose(self) -> Whose | None:
        whose = self.whose
        shown = self.reader.known.whose if self.reader is not None else None
        if whose is None or whose.observed:
            if self.reader is not None:
                self._turn(whose)
        elif shown is None or shown.ref != whose.ref:
            self._turn(whose)
        if whose is not None:
            self.ref = whose.ref
        return whose

    # --- what is known -------------------------------------------------------------------------

    async def _look(self) -> None:
        """Ask while this pane or a dialog over it is open; its end is the pane's."""
        while True:
            client = self.shell.client
            if client is not None and self.shell.pane is self:  # not below another pane
                self._check_whose()
                if await self._ask(client):
                    self._version += 1
                if not self._whole():
                    return
                self.updated()
            self._wanted = anyio.Event()
            with anyio.move_on_after(EVERY):
                await self._wanted.wait()

    async def _ask(self, client: KernelClient) -> bool:
        """Look; whether anything is known anew."""
        reader = self.reader
        if reader is None:
            return False
        problem, changed = "", False
        try:
            changed = await reader.look(client)
        except KernelUnreachable as error:
            problem = error.what if error.code == "host_away" else "no kernel answers"
        except AgentTopError as error:
            problem = str(error)
        if reader is self.reader:
            self.problem = problem
        return changed

    def _whole(self) -> bool:
        """False once the screen is being taken apart; whoever waited for something meanwhile looks first."""
        return bool(self.query("#search"))

    def look_now(self) -> None:
        """Ask at once, and for everything: something was done."""
        if self.reader is not None:
            self.reader.stale()
        self._wanted.set()
        if self.search.search.query.strip():
            self._search_later(0)

    # --- layout --------------------------------------------------------------------------------

    @property
    def wide(self) -> bool:
        """Whether the tiers stand side by side."""
        return self.app.size.width >= WIDE

    def _room(self) -> int:
        """Lines for tiers and what lies below."""
        tall = self.app.size.height
        return tall - header_height(tall) - (1 if tall >= 14 else 0) - 2 - self.query_one(Notice).needed

    def shown(self) -> tuple[str, ...]:
        """The parts on screen."""
        if not self.wide:
            return (self.focus_on,)
        if self._room() >= TALL:
            return PARTS
        return BELOW if self.focus_on in BELOW else TIERS

    def _arrange(self) -> None:
        shown, room = self.shown(), self._room()
        whose = self.whose
        none = whose is None or whose.observed
        self.query_one(Notice).display = self.query_one(Notice).needed
        for name in PARTS:
            self.query_one(f"#{name}").display = name in shown and not (none and name != shown[0])
        several = len(shown) > 1 and not none
        self.query_one("#bar-1").display = self.query_one("#bar-2").display = several and "recall" in shown
        self.query_one("#bar-3").display = several and "moves" in shown
        tiers, below = self.query_one("#tiers"), self.query_one("#below")
        tiers.display = any(name in shown for name in TIERS)
        below.display = any(name in shown for name in BELOW) and not (none and tiers.display)
        if tiers.display and below.display:
            below.styles.height = max(8, room * 9 // 20)
        else:
            below.styles.height = "1fr"

    # --- what is shown -------------------------------------------------------------------------

    def updated(self) -> None:
        """Something is known anew, or the pane has another size."""
        if not self._whole():
            return  # not composed yet, or being taken away
        super().updated()
        self._arrange()
        self.query_one(Notice).redraw()
        shell = self.shell
        now = shell.seen_at if shell.lost else shell.clock.time()
        state = (
            self._version, self.ref, self.focus_on, now // 60, len(shell.model.rows), shell.lost,
            self.problem,
            shell.look, *(self.query_one(f"#{name}").size for name in PARTS),
        )  # fmt: skip
        if state != self._painted:  # rows of the fleet come each second, and change nothing here
            self._painted = state
            self.call_after_refresh(self.paint)

    def paint(self) -> None:
        """Draw all parts; only cells that changed are sent."""
        if not self._whole():
            return
        self._paint_whose()
        names = {Whose.of(row).id: row.name for row in self.shell.model.rows.values()}
        now = self.shell.seen_at if self.shell.lost else self.shell.clock.time()
        ascii = not self.shell.look.unicode
        for name in PARTS:
            sheet = self.query_one(f"#{name}", Sheet)
            if sheet.display and sheet.size.width and sheet.size.height:
                drawn = Drawn(sheet.size.width, sheet.size.height, now, names, ascii, name == self.focus_on)
                sheet.show(self._instead(drawn) or self.part(name).draw(drawn))
        for number in (1, 2, 3):
            bar = self.query_one(f"#bar-{number}", Sheet)
            joint = "┬" if self.shell.look.unicode else "+"
            bar.show([[(joint if not n else "│", "rule")] for n in range(bar.size.height)])
        if self.shell.toasts:
            self.show_toasts()

    def part(self, name: str) -> Part:
        """A part by its name."""
        found: Part = getattr(self, name)
        return found

    def _instead(self, drawn: Drawn) -> list[Row]:
        """What stands in the place of tiers that are not there."""
        whose = self.whose
        if whose is None:
            said = [
                ("no agent yet: ", "muted"),
                ("n", "key-fg bold"),
                (" on the fleet launches one", "muted"),
            ]
        elif whose.observed:
            name = clean(whose.name)
            said = [(f"{name} is observed: agenttop did not start it and keeps no memory for it.", "muted")]
        else:
            return []
        return [[], [("  ", ""), *said], [], [("  < > ", "key-fg bold"), ("another agent", "muted")]][
            : drawn.height
        ]

    def _paint_whose(self) -> None:
        sheet = self.query_one("#whose", Sheet)
        width, head = sheet.size.width, "head-fg/head-bg"
        whose = self.whose
        if whose is None:
            sheet.show([[(" MEMORY".ljust(width), head)]])
            return
        names = {Whose.of(row).id: row.name for row in self.shell.model.rows.values()}
        host = f" on {clean(whose.host)}" if whose.host else ""
        row: Row = [(f" {clean(whose.name)} {whose.id}{host}", f"{head} bold"), ("   ‹ › other agent", head)]
        known = self.reader.known if self.reader is not None else None
        if known is not None and known.spaces:
            usable = ", ".join(space(one.name, names) for one in known.spaces)
            row.append((f"    namespaces it may use: {usable}", head))
            if length(row) > width - 18 and not self.wide:
                row = [row[0], (f"   may use: {usable}", head)]
        side = self.problem or ("stale: no kernel answers" if self.shell.lost else "")
        if not self.wide and not side and not whose.observed:
            side = f"{PARTS.index(self.focus_on) + 1}/{len(PARTS)} Tab next"
        tail: Row = (
            [(f" {clean(side)} ", "badge-fg/state-waiting bold" if self.problem else head)] if side else []
        )
        if tail and length(row) + length(tail) >= width:
            text, ink = row[-1]
            row[-1] = (cut(text, max(0, width - length(row[:-1]) - length(tail) - 1)), ink)
        row = ends(row, tail, width, (" ", head)) if tail else row
        sheet.show([[*row, (" " * max(0, width - length(row)), head)]])

    def cursor_y(self) -> int | None:
        """The screen line of the cursor's row: the middle of its part, which no toast then covers."""
        return None

    def on_resize(self) -> None:
        """Room comes and goes."""
        self.updated()

    # --- keys that move ------------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        """While a search is typed the line has the keys; ``PaneScreen`` has them otherwise."""
        if self.search.typing and self.type_key(event):
            event.stop()
            event.prevent_default()

    def _to(self, place: int) -> None:
        part = self.part(self.focus_on)
        before = part.place
        part.move(place)
        if place > before and part.place >= len(part.keys) - 1:
            _: Worker[None] = self.run_worker(self._more, group="memory-more", exclusive=True)
        self.paint()

    async def _more(self) -> None:
        """Older entries, or further notes, where the list's end was reached."""
        client, reader = self.shell.client, self.reader
        if client is None or reader is None:
            return
        try:
            if self.focus_on == "recall":
                await reader.older(client)
            elif self.focus_on == "archival":
                await reader.more_notes(client)
        except AgentTopError as error:
            self.problem = str(error)
        self.paint()

    def do_move_up(self) -> None:
        """One row up."""
        self._to(self.part(self.focus_on).place - 1)

    def do_move_down(self) -> None:
        """One row down."""
        self._to(self.part(self.focus_on).place + 1)

    def _page(self) -> int:
        return max(1, self.query_one(f"#{self.focus_on}", Sheet).size.height - 5)

    def do_move_page_up(self) -> None:
        """A page up."""
        self._to(self.part(self.focus_on).place - self._page())

    def do_move_page_down(self) -> None:
        """A page down."""
        self._to(self.part(self.focus_on).place + self._page())

    def do_move_home(self) -> None:
        """The first."""
        self._to(0)

    def do_move_end(self) -> None:
        """The last that is known."""
        self._to(len(self.part(self.focus_on).keys))

    def do_memory_tier(self) -> None:
        """The next part."""
        self._focus(1)

    def do_memory_tier_before(self) -> None:
        """The part before."""
        self._focus(-1)

    def _focus(self, step: int) -> None:
        self.focus_part(PARTS[(PARTS.index(self.focus_on) + step) % len(PARTS)])

    def focus_part(self, name: str) -> None:
        """Let the cursor be in a part."""
        self.focus_on = name
        self.updated()

    def do_memory_agent_next(self) -> None:
        """The memory of the next agent of the table."""
        self._other(1)

    def do_memory_agent_before(self) -> None:
        """The memory of the agent before."""
        self._other(-1)

    def _other(self, step: int) -> None:
        ids = [row.id for row in self.agents()]
        if ids:
            at = ids.index(self.ref) if self.ref in ids else 0
            self.show_agent(ids[(at + step) % len(ids)])

    def show_agent(self, ref: str) -> None:
        """Show another agent's memory; the fleet's cursor goes with it."""
        self.ref = self.shell.model.cursor = ref
        self._check_whose()
        self.updated()
        self._wanted.set()

    def do_app_back(self) -> None:
        """Toasts, the search, the chosen namespace, then the fleet."""
        if self.shell.toasts:
            self.shell.clear_toasts()
        elif self.search.field.value:
            self.clear_search()
        elif self.archival.space:
            self.choose_space("")
        else:
            self.shell.pop_screen()

    def choose_space(self, name: str) -> None:
        """List the notes of one namespace; empty: of all."""
        if self.reader is not None:
            self.archival.space = name
            self.reader.choose(name)
            self._wanted.set()
            self.paint()
