"""What all panes share: header, tabs, footer, keys and toasts around a body."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget

from .. import keys
from ..widgets.footer import Footer, Prompt
from ..widgets.header import Header, height
from ..widgets.tabs import Tabs
from ..widgets.toast import Toasts

if TYPE_CHECKING:
    from ..app import AgentTopApp


class PaneScreen(Screen[None]):
    """A pane: subclasses give the body, and a ``do_…`` method for each key that is theirs alone.

    A key is looked up in the key table; its id's method is called here, else on the app.
    """

    DEFAULT_CSS = """
    PaneScreen { layers: default toasts; background: $bg; color: $fg; overflow: hidden; }
    """
    AUTO_FOCUS = ""
    """Nothing has the focus but a prompt while it is open: keys belong to the pane."""
    PANE: ClassVar[str] = keys.FLEET
    NUMBER: ClassVar[int] = 1

    @property
    def shell(self) -> AgentTopApp:
        """The app, with its own type."""
        return cast("AgentTopApp", self.app)

    def body(self) -> list[Widget]:
        """The widgets between tabs and footer."""
        return []

    def compose(self) -> ComposeResult:
        """Header, tabs, body, footer; the prompt takes the footer's place while it is open."""
        yield Header(id="header")
        yield Tabs(self.NUMBER)
        yield from self.body()
        yield Footer(self.PANE)
        yield Prompt()
        yield Toasts()

    # --- keys ----------------------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        """Do what the key table says."""
        table = self.shell.keys.lookup(self.PANE)
        key = next((table[name] for name in (event.key, *event.aliases) if name in table), None)
        if key is None:
            return
        event.stop()
        event.prevent_default()
        self.perform(key.id)

    def perform(self, name: str) -> None:
        """Do one thing by its id; what needs a kernel is refused while none answers."""
        shell = self.shell
        shell.model.touch()
        if shell.keys.by_id[name].acts and shell.lost:
            shell.toast("No kernel answers", "This can be done when it is back.", "warn")
            return
        method = "do_" + name.replace(".", "_")
        action: Callable[[], None] = getattr(self, method, None) or getattr(shell, method)
        action()

    def ask(
        self, label: str, text: str, changed: Callable[[str], bool], done: Callable[[str | None], None]
    ) -> None:
        """Let a line be typed in the footer's place."""
        footer, prompt = self.query_one(Footer), self.query_one(Prompt)
        footer.display = False

        def finish(answer: str | None) -> None:
            footer.display = True
            done(answer)

        prompt.ask(label, text, changed, finish)

    # --- what changes --------------------------------------------------------------------------

    def updated(self) -> None:
        """Rows or header changed: repaint what differs."""
        self.query_one(Header).redraw()
        self.query_one(Tabs).redraw()

    def ticked(self) -> None:
        """A second went by: ages and the clock move on."""
        self.updated()
        if self.shell.toasts:
            self.show_toasts()

    def restyled(self) -> None:
        """Another theme, or the kernel was lost or found: everything looks different."""
        for widget in self.query(Widget):
            redraw = getattr(widget, "redraw", None)
            if redraw is not None:
                redraw()
        self.updated()

    def show_toasts(self) -> None:
        """Lay out the toasts anew."""
        top = self.query_one(Header).size.height + 2
        self.query_one(Toasts).place(self.cursor_y(), top, self.size.height - 1, self.size.width)

    def cursor_y(self) -> int | None:
        """The screen line of the cursor's row, if there is one."""
        return None

    def on_mount(self) -> None:
        """Lay out and paint what is known already."""
        self._fit()
        self.updated()

    def on_resize(self) -> None:
        """The header's height follows the terminal's."""
        self._fit()

    def on_screen_resume(self) -> None:
        """Another screen lay over this one; catch up."""
        self.updated()
        self.show_toasts()

    def _fit(self) -> None:
        lines = self.app.size.height
        self.query_one(Header).styles.height = height(lines)
        self.query_one(Tabs).display = lines >= 14
