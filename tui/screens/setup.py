"""Setup: columns chosen and ordered, colours, order, window; seen at once, kept by ``Enter``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from agenttop.core.api import WINDOWS
from agenttop.themes import MONO, NAMES

from ..columns import BY_ID, COLUMNS, layout
from ..settings import Settings
from ..widgets.dialog import Chip, Dialog
from ..widgets.paper import Paper, Row, rule, wrapped

#: From this width on choices and columns stand side by side.
TWO_COLUMNS = 96
CHOICES = 44
REFRESH = (0.5, 1.0, 2.0, 5.0)
#: Choices that the running terminal cannot change any more.
NEXT_START = frozenset(("mouse", "ascii", "refresh"))

#: Choices about agents that wait for their person, as ``[notify]`` calls them.
NOTIFY = {"bell": "bell", "osc": "osc", "mark": "header"}

_NOTES = {
    "bell": "when one needs you",
    "osc": "OSC 9 and OSC 777",
    "mark": "in the header",
    **dict.fromkeys(NEXT_START, "next start"),
}
_TEXT = {
    "theme": "Theme",
    "window": "Sums cover",
    "sort": "Order by",
    "largest": "Largest first",
    "tree": "Tree",
    "show_ended": "Ended agents",
    "inspector": "Inspector",
    "events": "Events",
    "split": "Split pane",
    "bell": "Bell",
    "osc": "Notification",
    "mark": "Need you",
    "mouse": "Mouse",
    "ascii": "ASCII only",
    "refresh": "Refresh, s",
}


def options(name: str) -> tuple[object, ...]:
    """The values a choice goes through."""
    match name:
        case "theme":
            return ("", *NAMES)
        case "window":
            return WINDOWS
        case "sort":
            return tuple(column.id for column in COLUMNS if column.sort is not None)
        case "refresh":
            return REFRESH
        case _:
            return (False, True)


def shown(name: str, value: object) -> str:
    """A value as the form shows it."""
    if name == "theme":
        return str(value) or "automatic"
    if name == "sort":
        return BY_ID[str(value)].title if value in BY_ID else str(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def column_order(chosen: Sequence[str]) -> list[str]:
    """All columns: the chosen ones in their order, each other one behind its neighbour of the table."""
    order = [name for name in chosen if name in BY_ID]
    for place, column in enumerate(COLUMNS):
        if column.id not in order:
            before = [COLUMNS[n].id for n in range(place) if COLUMNS[n].id in order]
            order.insert(order.index(before[-1]) + 1 if before else 0, column.id)
    return order


class SetupScreen(Dialog[None]):
    """Every change is seen on the fleet beneath; ``Esc`` takes all of them back."""

    WIDTH = 110
    veil = False
    DEFAULT_CSS = """
    SetupScreen { align: center bottom; }
    SetupScreen #columns { width: 1fr; height: 1fr; }
    SetupScreen #choices { width: 46; }
    SetupScreen.-narrow #choices { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", "move(-8)", show=False),
        Binding("pagedown", "move(8)", show=False),
        Binding("tab", "side", show=False, priority=True),
        Binding("shift+tab", "side", show=False, priority=True),
        Binding("left", "change(-1)", show=False),
        Binding("right", "change(1)", show=False),
        Binding("space", "change(1)", show=False),
        Binding("minus", "shift(-1)", show=False),
        Binding("plus", "shift(1)", show=False),
        Binding("equals_sign", "shift(1)", show=False),
        Binding("a", "automatic", show=False),
        Binding("enter", "save", show=False, priority=True),
        Binding("f2", "close", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.before = Settings()
        self.settings = Settings()
        self.order: list[str] = []
        self.on: set[str] = set()
        self.automatic = True
        self.at = 0

    def body(self) -> Iterable[Widget]:
        """Choices, and columns."""
        with Horizontal(id="sides"):
            yield Paper(id="choices")
            yield Paper(id="columns")

    def on_mount(self) -> None:
        """Begin with what is in force."""
        shell, model = self.shell, self.shell.model
        self.before = replace(
            shell.settings, sort=model.sort, largest=model.largest, tree=model.tree,
            window=model.window, show_ended=model.show_ended,
        )  # fmt: skip
        self.settings = self.before
        self._columns_of(self.settings.columns)
        self._show()

    def _columns_of(self, chosen: Sequence[str]) -> None:
        self.automatic = not chosen
        self.order = column_order(chosen)
        places = layout(self.app.size.width, chosen)
        self.on = set(chosen) or {place.column.id for place in places}

    # --- what is shown ------------------------------------------------------------------------

    @property
    def items(self) -> list[str]:
        """What the cursor goes through: choices, then columns."""
        return [*_TEXT, *self.order]

    @property
    def on_columns(self) -> bool:
        """Whether the cursor is on a column."""
        return self.at >= len(_TEXT)

    @property
    def narrow(self) -> bool:
        """Whether everything stands in one list."""
        return self.size.width < TWO_COLUMNS

    def _show(self) -> None:
        kept = str(self.shell.paths.screen_file) if self.shell.paths is not None else "not kept: no folder"
        self.head("Setup", kept)
        self.set_class(self.narrow, "-narrow")
        choices = [self._choice(name, place) for place, name in enumerate(_TEXT)]
        columns = [self._column(name, place + len(_TEXT)) for place, name in enumerate(self.order)]
        title = "Columns: what fits the width" if self.automatic else f"Columns: {len(self.on)} chosen"
        left, right = self.query_one("#choices", Paper), self.query_one("#columns", Paper)
        preview = self._preview()
        if self.narrow:
            head: list[Row] = [rule(title, self.inner_width)]
            right.show([*choices, *head, *columns, *preview])
            right.bring(self.at + (1 if self.on_columns else 0))
        else:
            left.show([*choices, [], *preview])
            right.show([rule(title, self.inner_width - 46), *columns])
            if self.on_columns:
                right.bring(self.at - len(_TEXT) + 1)
        super().fit()

    def _choice(self, name: str, place: int) -> Row:
        value = shown(name, getattr(self.settings, name))
        note = f"  {_NOTES[name]}" if name in _NOTES else ""
        if NOTIFY.get(name) in self.shell.silenced:
            note = "  off in config"
        return self._line(f" {_TEXT[name]:<14}", f"< {value} >", note, place, True)

    def _column(self, name: str, place: int) -> Row:
        column, on = BY_ID[name], name in self.on
        return self._line(f" [{'x' if on else ' '}] {column.title:<12}", "", f" {column.text}", place, on)

    def _line(self, label: str, value: str, note: str, place: int, on: bool) -> Row:
        width = self.inner_width if self.narrow else CHOICES if place < len(_TEXT) else self.inner_width - 46
        if place == self.at:
            text = f"▌{label}{value}{note}"
            return [(text[:width].ljust(width), "cursor-fg/cursor-bg bold")]
        ink = "label" if place < len(_TEXT) else "bright" if on else "muted"
        return [(" ", ""), (label, ink), (value, "bright"), (note, "muted")]

    def _preview(self) -> list[Row]:
        names = " ".join(BY_ID[name].title for name in self.order if name in self.on)
        return [[(" In this order", "label")], *wrapped(names, CHOICES - 3, "muted", 1)]

    def body_height(self, width: int) -> int:
        """As high as the higher side; the fleet above stays in sight where there is room."""
        sides = [len(paper.rows) for paper in self.query(Paper) if paper.display]
        return min(max(sides, default=3), max(8, self.size.height - 14))

    def fit(self) -> None:
        """Another width, another layout."""
        super().fit()
        if self.order:
            self._show()

    def chips(self) -> Sequence[Chip]:
        """What the keys do where the cursor is."""
        arrows = "Lt/Rt" if self.ink.ascii else "←→"
        change = (
            (Chip("Space", "On, off"), Chip("- +", "Move")) if self.on_columns else (Chip(arrows, "Change"),)
        )
        return (
            Chip("Enter", "Keep", "good bold"), *change, Chip("a", "Automatic columns"),
            Chip("Tab", "Other side"), Chip("Esc", "Take back"),
        )  # fmt: skip

    # --- keys ---------------------------------------------------------------------------------

    def action_move(self, step: int) -> None:
        """The next choice or column."""
        self.at = max(0, min(len(self.items) - 1, self.at + step))
        self._show()

    def action_side(self) -> None:
        """From the choices to the columns and back."""
        self.at = 0 if self.on_columns else len(_TEXT)
        self._show()

    def action_change(self, step: int) -> None:
        """The next value of a choice; a column on or off."""
        name = self.items[self.at]
        if self.on_columns:
            self._toggle(name)
        else:
            values = options(name)
            now = getattr(self.settings, name)
            at = values.index(now) if now in values else 0
            self.settings = replace(self.settings, **{name: values[(at + step) % len(values)]})  # type: ignore[arg-type]
        self._apply(self.settings)

    def _toggle(self, name: str) -> None:
        if name in self.on and len(self.on) > 1:
            self.on.discard(name)
        else:
            self.on.add(name)
        self._chose()

    def _chose(self) -> None:
        self.automatic = False
        self.settings = replace(self.settings, columns=tuple(name for name in self.order if name in self.on))

    def action_shift(self, step: int) -> None:
        """Move the column under the cursor."""
        if not self.on_columns:
            return
        place = self.at - len(_TEXT)
        to = place + step
        if 0 <= to < len(self.order):
            self.order.insert(to, self.order.pop(place))
            self.at += step
            self._chose()
            self._apply(self.settings)

    def action_automatic(self) -> None:
        """Let the width choose the columns again."""
        self.settings = replace(self.settings, columns=())
        self._columns_of(())
        self._apply(self.settings)

    def _apply(self, settings: Settings) -> None:
        """Show the fleet beneath with these choices; nothing is kept yet."""
        shell = self.shell
        model = shell.model
        shell.fleet.table.choose(settings.columns)
        model.sort, model.largest, model.tree = settings.sort, settings.largest, settings.tree
        model.show_ended = settings.show_ended
        model.reorder()
        if settings.window != model.window:
            shell.rewatch(settings.window)
        if (
            settings.theme
            and settings.theme != shell.look.palette.data.name
            and shell.look.palette.data.name != MONO
        ):
            shell.use_theme(settings.theme)
        shell.settings = settings
        shell.fleet.updated()
        self._show()
        self.refresh()

    def action_save(self) -> None:
        """Keep it."""
        chosen = {name: getattr(self.settings, name) for name in (*_TEXT, "columns")}
        self.shell.settings = self.before
        self.shell.change(**chosen)
        self.dismiss(None)

    def action_close(self) -> None:
        """Take everything back."""
        self._apply(self.before)
        self.dismiss(None)
