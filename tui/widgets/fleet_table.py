"""The fleet table: one line per agent, painted line by line and only where something changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from rich.segment import Segment
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from .. import format as f
from ..cells import Face, RowPainter
from ..columns import Place, layout
from ..hostline import host_line
from ..lines import dirty, ready
from ..look import Look

if TYPE_CHECKING:
    from textual.events import Click

    from agenttop.core.api import Row

    from ..app import AgentTopApp
    from ..forest import Line
    from ..model import FleetModel


class _Painted(NamedTuple):
    row: Row
    face: Face
    strip: Strip


class FleetTable(ScrollView):
    """Rows of the app's model below a heading.

    Each agent's line is cached with the row and the face it was painted from; a tick compares what
    is visible with what was shown and repaints the cells that differ. The offset follows the cursor,
    and the cursor follows its agent.
    """

    DEFAULT_CSS = """
    FleetTable { height: 1fr; scrollbar-size: 0 0; overflow-x: hidden; }
    """

    class Scrolled(Message):
        """The visible part of the table moved."""

    def __init__(self) -> None:
        super().__init__(id="table")
        self.chosen: tuple[str, ...] = ()
        self._painter: RowPainter | None = None
        self._cache: dict[str, _Painted] = {}
        self._shown: list[Strip] = []
        self._top = 0
        self._head: tuple[tuple[RowPainter, str, bool], Strip] | None = None

    @property
    def shell(self) -> AgentTopApp:
        """The app, with its own type."""
        return cast("AgentTopApp", self.app)

    @property
    def _model(self) -> FleetModel:
        return self.shell.model

    @property
    def rows_visible(self) -> int:
        """Lines for agents on screen."""
        return max(0, self.size.height - 1)

    @property
    def line_of_cursor(self) -> int:
        """The cursor's line within this widget."""
        return self._model.place - self._top + 1

    @property
    def places(self) -> tuple[Place, ...]:
        """The columns as they stand on the line."""
        return self.painter.places

    @property
    def painter(self) -> RowPainter:
        """The painter for this width, look and choice of columns."""
        look, width = self.shell.look, self.size.width
        painter = self._painter
        if painter is None or painter.look is not look or painter.width != width:
            painter = self._painter = RowPainter(look, layout(width, self.chosen), width)
            self._cache.clear()
        return painter

    def choose(self, columns: tuple[str, ...]) -> None:
        """Show these columns in this order; none means what fits the width."""
        self.chosen = columns
        self._painter = None
        self.repaint()

    # --- lines ---------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One line, as Textual asks for it."""
        if y < len(self._shown):
            return self._shown[y]
        return self._blank()

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines of a region, as Textual asks for them."""
        return ready(self, self.shell.look, crop)

    def _blank(self) -> Strip:
        return Strip.blank(self.size.width, self.shell.look.palette("fg"))

    def repaint(self) -> None:
        """Compare every visible line with what is on screen and repaint what differs."""
        width, height = self.size
        if not width or not height:
            return
        self._follow()
        lines = self._build(height)
        old, self._shown = self._shown, lines
        if len(old) != len(lines) or old[0].cell_length != width:
            self.refresh()
            return
        if regions := dirty(old, lines):
            self.refresh(*regions)

    def _follow(self) -> None:
        """Scroll just so far that the cursor's line is visible."""
        rows, total = self.rows_visible, len(self._model.lines)
        size = Size(self.size.width, total + 1)
        if self.virtual_size != size:
            self.virtual_size = size
        place = self._model.place
        top = min(self._top, max(0, total - rows))
        top = max(min(top, place), place - rows + 1, 0)
        if rows > 1 and 0 < top == place and self._model.lines[top - 1].host:
            top -= 1  # the heading of the first row's host
        if top != self._top:
            self._top = top
            self.post_message(self.Scrolled())

    def _build(self, height: int) -> list[Strip]:
        model = self._model
        visible = model.lines[self._top : self._top + height - 1]
        lines = [self._heading(), *self._rows(visible)]
        if len(self._cache) > 2 * height + 50:
            keep = {line.id for line in visible}
            self._cache = {key: painted for key, painted in self._cache.items() if key in keep}
        if len(lines) < height:
            lines += [self._blank()] * (height - len(lines))
        return lines

    def _rows(self, visible: list[Line]) -> list[Strip]:
        """The agents' lines; what is the same for all of them is asked for once."""
        shell, painter, cache = self.shell, self.painter, self._cache
        model, lost = shell.model, shell.lost
        now = shell.seen_at if model.standing or lost else shell.clock.time()
        on_cursor = "blur" if lost else "cursor"
        strips: list[Strip] = []
        for line in visible:
            key, tree = line
            row = model.row(key)
            if row is None:
                heading = line.host
                strips.append(
                    host_line(heading, model, shell.look, self.size.width, now) if heading else self._blank()
                )
                continue
            uptime = f.UNKNOWN
            if painter.wants_uptime and row.started is not None:
                uptime = f.uptime((row.ended or now) - row.started)
            age = f.age(now - (row.since if row.stale is None else row.stale))
            cursor = on_cursor if key == model.cursor else ""
            face = Face(tree, age, uptime, cursor, key in model.tags, model.glow(key), lost)
            painted = cache.get(key)
            if painted is None or painted.face != face or (painted.row is not row and painted.row != row):
                painted = cache[key] = _Painted(row, face, painter.paint(row, face))
            strips.append(painted.strip)
        return strips

    def _heading(self) -> Strip:
        key = (self.painter, self._model.sort, self._model.largest)
        if self._head is None or self._head[0] != key:
            self._head = (key, self._paint_heading(self.shell.look))
        return self._head[1]

    def _paint_heading(self, look: Look) -> Strip:
        head = look.palette("head-fg", "head-bg")
        sort = look.palette("sort-fg", "sort-bg", bold=True)
        segments: list[Segment] = []
        x = 0
        for place in self.places:
            column = place.column
            chosen = column.id == self._model.sort
            arrow = (look.glyphs.down if self._model.largest else look.glyphs.up) if chosen else ""
            title = arrow + column.title if column.right or not arrow else column.title + arrow
            # An arrow that does not fit borrows the gap beside its column.
            cells = min(max(place.cells, len(title)), place.cells + 1)
            start = place.x - (cells - place.cells) if column.right else place.x
            text = title[:cells].rjust(cells) if column.right else title[:cells].ljust(cells)
            segments.append(Segment(" " * (start - x), head))
            segments.append(Segment(text, sort if chosen else head))
            x = start + cells
        segments.append(Segment(" " * max(0, self.size.width - x), head))
        return Strip([segment for segment in segments if segment.text], self.size.width)

    # --- events --------------------------------------------------------------------------------

    def on_resize(self) -> None:
        """Other columns, other lines."""
        self._shown = []
        self.repaint()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """The wheel (``--mouse``) moves the cursor, which moves the table; nothing else scrolls."""

    def on_mouse_scroll_down(self, event: Message) -> None:
        """Three rows down."""
        event.stop()
        self._step(3)

    def on_mouse_scroll_up(self, event: Message) -> None:
        """Three rows up."""
        event.stop()
        self._step(-3)

    def on_click(self, event: Click) -> None:
        """A click puts the cursor on a row, or sorts by a column."""
        if event.y == 0:
            hit = [place for place in self.places if place.x <= event.x <= place.x + place.cells]
            if hit:
                self.shell.fleet.sort_by(hit[0].column.id)
            return
        self._model.move(self._top + event.y - 1)
        self._step(0)

    def _step(self, by: int) -> None:
        self._model.touch()
        if by:
            self._model.move(self._model.place + by)
        self.repaint()
        self.post_message(self.Scrolled())
