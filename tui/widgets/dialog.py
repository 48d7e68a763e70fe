"""``Dialog``: a box over the screen with a title, a body and chips for its keys.

Everything is done with keys; the bottom line says which. A dialog never pops up by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar, cast

from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.containers import Vertical
from textual.events import Resize
from textual.geometry import Region
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widget import Widget

from agenttop.core.errors import KernelUnreachable

from .paper import Ink, Paper, Row, ends, ink_of, length

if TYPE_CHECKING:
    from agenttop.core.client import KernelClient

    from ..app import AgentTopApp

Result = TypeVar("Result")

#: How much of the theme's ground lies over the screen beneath a dialog.
VEIL = 0.78


def client_of(app: AgentTopApp) -> KernelClient:
    """The app's connection.

    Raises:
        KernelUnreachable: There is none now.
    """
    if app.client is None:
        raise KernelUnreachable("no kernel answers", "Nothing was done", "Try again when it is back")
    return app.client


class Chip(NamedTuple):
    """A key and what it does here; ``ink`` of the words, ``off`` for a key that does nothing now."""

    key: str
    text: str
    ink: str = "fg"
    off: bool = False


class Frame(Vertical):
    """The box: its title and a phrase at the right stand in the upper edge."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.title_row: Row = []
        self.side = ""
        self.edge = "accent"

    def render_lines(self, crop: Region) -> list[Strip]:
        """The box as CSS draws it, with its upper edge replaced."""
        strips = super().render_lines(crop)
        if crop.y <= 0 < crop.bottom and strips:
            strips[-crop.y] = self._edge().crop(crop.x, crop.right)
        return strips

    def _edge(self) -> Strip:
        ink = ink_of(self.app)
        width = self.outer_size.width
        left: Row = [("╭─ ", self.edge), *self.title_row, (" ", self.edge)]
        right: Row = (
            [(" " + self.side + " ", "muted"), ("─╮", self.edge)] if self.side else [("─╮", self.edge)]
        )
        if length(left) + length(right) >= width:
            right = [("─╮", self.edge)]
        row = ends(left, right, width, ("─", self.edge))
        if ink.ascii:
            row = [(text.replace("╭", "+").replace("╮", "+"), style) for text, style in row]
        strip = ink.strip(row, width)
        if strip.cell_length == width and length(row) > width:
            corner = Strip([Segment("+" if ink.ascii else "╮", ink.style(self.edge))])
            strip = Strip.join([strip.crop(0, width - 1), corner])
        return strip


class Chips(Widget):
    """The keys of a dialog, in as many lines as they need."""

    DEFAULT_CSS = "Chips { height: auto; background: transparent; }"

    def __init__(self, chips: Sequence[Chip] = (), *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.chips = list(chips)

    def show(self, chips: Sequence[Chip]) -> None:
        """Replace the chips."""
        if list(chips) != self.chips:
            self.chips = list(chips)
            self.refresh(layout=True)

    def lines(self, width: int) -> list[Row]:
        """The chips as rows of at most ``width`` cells."""
        rows: list[Row] = [[]]
        for chip in self.chips:
            key = "muted/panel" if chip.off else "act-fg/act-bg bold"
            piece: Row = [(f" {chip.key} ", key), (f" {chip.text}", "muted" if chip.off else chip.ink)]
            gap = 3 if rows[-1] else 0
            if rows[-1] and length(rows[-1]) + gap + length(piece) > width:
                rows.append([])
                gap = 0
            rows[-1] += [(" " * gap, ""), *piece] if gap else piece
        return rows

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        """As many lines as the chips need."""
        return len(self.lines(width))

    def render_line(self, y: int) -> Strip:
        """One line of chips."""
        ink = ink_of(self.app)
        rows = self.lines(self.size.width)
        return ink.strip(rows[y] if y < len(rows) else [], self.size.width)


class Dialog(ModalScreen[Result]):
    """Base of all dialogs. ``Esc`` closes it with ``None``.

    A subclass yields its body in ``body()``, says how high that wants to be in ``body_height()`` and
    calls ``fit()`` when that changed.
    """

    DEFAULT_CSS = """
    Dialog { align: center middle; overflow: hidden; }
    Dialog #frame { background: $surface; border: round $accent; padding: 0 1; height: auto; }
    Dialog.-ascii #frame { border: ascii $accent; }
    Dialog.-bad #frame { border: round $bad; }
    Dialog.-bad.-ascii #frame { border: ascii $bad; }
    Dialog.-good #frame { border: round $good; }
    Dialog.-good.-ascii #frame { border: ascii $good; }
    Dialog.-needs #frame { border: round $state-needs-you; }
    Dialog.-needs.-ascii #frame { border: ascii $state-needs-you; }
    Dialog #body { height: auto; background: transparent; }
    Dialog Chips { padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "Close", show=False)]

    #: How wide it wants to be; it gets what there is.
    WIDTH = 104
    #: ``accent``, ``bad``, ``good`` or ``state-needs-you``.
    edge = "accent"
    #: Lines left free below the box.
    MARGIN = 0
    #: Whether the screen beneath is dimmed.
    veil = True

    def compose(self) -> ComposeResult:
        """The box, the body in it, the chips below."""
        with Frame(id="frame"):
            with Vertical(id="body"):
                yield from self.body()
            yield Chips(self.chips(), id="chips")

    def body(self) -> Iterable[Widget]:
        """What stands between title and chips."""
        yield Paper(id="paper")

    def body_height(self, width: int) -> int:
        """How many rows the body wants at ``width`` cells."""
        return len(self.query_one("#paper", Paper).rows)

    def chips(self) -> Sequence[Chip]:
        """The keys of this dialog."""
        return (Chip("Esc", "Close"),)

    @property
    def shell(self) -> AgentTopApp:
        """The app, with its own type."""
        return cast("AgentTopApp", self.app)

    @property
    def client(self) -> KernelClient:
        """The connection there is now.

        Raises:
            KernelUnreachable: There is none.
        """
        return client_of(self.shell)

    @property
    def ink(self) -> Ink:
        """The theme's ink on the dialog's ground."""
        return ink_of(self.app)

    @property
    def inner_width(self) -> int:
        """Cells between the edges and their blanks."""
        return max(1, min(self.WIDTH, self.size.width) - 4)

    def head(self, title: str, side: str = "", edge: str = "accent", ink: str = "") -> None:
        """Set the title in the upper edge, the phrase at its right and the colour of the box."""
        frame = self.query_one("#frame", Frame)
        default = "bright bold" if edge == "accent" else f"{edge} bold"
        frame.title_row, frame.side, frame.edge = [(title, ink or default)], side, edge
        self.edge = edge
        self.set_class(edge == "bad", "-bad")
        self.set_class(edge == "good", "-good")
        self.set_class(edge == "state-needs-you", "-needs")
        self.set_class(self.ink.ascii, "-ascii")
        frame.refresh()

    # Textual calls the handlers of base classes too, after those of the class: no super() in them.
    def on_mount(self) -> None:
        """Take the size there is, and let the screen beneath shine through where colours can be mixed."""
        data = self.shell.look.palette.data
        if data.ansi or not self.veil:
            self.styles.background = Color(0, 0, 0, 0)
        else:
            self.styles.background = Color.parse(data.colours["bg"]).with_alpha(VEIL)
        self.fit()

    def on_resize(self, event: Resize) -> None:
        """Take the size there is now."""
        self.fit()

    def fit(self) -> None:
        """Make the box as high as its body wants, and no higher than the screen."""
        if not self.is_mounted or not self.size.width:
            return
        width = min(self.WIDTH, self.size.width)
        chips = self.query_one("#chips", Chips)
        chips.show(self.chips())
        lines = len(chips.lines(width - 6))
        room = max(1, self.size.height - 2 - lines - self.MARGIN)
        wanted = self.body_height(self.inner_width)
        gap = 1 if wanted + 1 <= room else 0
        self.query_one("#frame").styles.width = width
        self.query_one("#body").styles.height = min(wanted + gap, room)

    def action_close(self) -> None:
        """Close without doing anything."""
        self.dismiss(None)
