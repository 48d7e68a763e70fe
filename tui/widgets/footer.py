"""The function-key bar, made from the key table; while something is typed it is the prompt."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.strip import Strip

from .. import format as f
from ..keys import Key, shown
from ..lines import Lines, Part, strip

#: What goes first where not even the ten function keys have room.
FIRST = ("app.help", "app.quit", "app.back", "agent.kill", "look.search", "agent.details")

#: In 80 cells there are the ten function keys; letters follow from here.
LETTERS_FROM = 118


#: What gives its place to the key that attaches where there is no room for both.
NICE = ("agent.nice_down", "agent.nice_up")


class Footer(Lines):
    """One line of keys for ``pane``."""

    def __init__(self, pane: str) -> None:
        super().__init__(id="footer")
        self.pane = pane
        self._attachable = False

    def offer_attach(self, attach: bool) -> None:
        """Whether the agent here has a terminal: only then is a place taken by that key."""
        if attach != self._attachable:
            self._attachable = attach
            self.redraw()

    def build(self, width: int, height: int) -> list[Strip]:
        """As many keys as there is room for; function keys get equal places."""
        look = self.shell.look
        palette = look.palette
        key_style = palette("key-fg", "key-bg", bold=True)
        act = palette("act-fg", "act-bg")
        line: list[Part] = []
        left = width
        for key in self._keys(width):
            name = shown(key.keys[0])
            function = name[0] == "F" and name[1:].isdigit()
            if not function and width < LETTERS_FROM and self.pane == "fleet" and not self.shell.lost:
                continue
            label = key.label.ljust(6) if function and not self.shell.lost else key.label + " "
            if len(name) + len(label) > left:
                label = key.label
                if len(name) + len(label) > left:
                    break
            line += [(name, key_style), (label, act)]
            left -= len(name) + len(label)
        return [strip(line, width, act)]

    def _keys(self, width: int) -> list[Key]:
        """What is offered: all that fits is seen to first, in the table's order where there is room."""
        keys = self.shell.keys.footer(self.pane, acting=not self.shell.lost)
        narrow = NICE if self._attachable and self.pane == "details" and width < LETTERS_FROM else ()
        away = (*narrow, *(() if self._attachable else ("agent.attach",)))
        keys = [key for key in keys if key.id not in away]
        if width >= 80:
            return keys
        return sorted(keys, key=lambda key: FIRST.index(key.id) if key.id in FIRST else len(FIRST))


class Prompt(Lines, can_focus=True):
    """A line to type into, in the footer's place: search and filter.

    ``changed`` is called at every key, ``done`` once with the text, or ``None`` after ``Esc``.
    """

    def __init__(self) -> None:
        super().__init__(id="prompt")
        self.display = False
        self.text = ""
        self._label = ""
        self._at = 0
        self._changed: Callable[[str], bool] = lambda _: True
        self._done: Callable[[str | None], None] = lambda _: None
        self._found = True

    def ask(
        self, label: str, text: str, changed: Callable[[str], bool], done: Callable[[str | None], None]
    ) -> None:
        """Begin. ``changed`` tells whether anything was found."""
        self._label, self.text, self._at = label, text, len(text)
        self._changed, self._done, self._found = changed, done, True
        self.display = True
        self.screen.set_focus(self)
        self.redraw()

    def build(self, width: int, height: int) -> list[Strip]:
        """Label, text, and the place of the cursor in reverse."""
        palette = self.shell.look.palette
        before, under, after = (
            self.text[: self._at],
            self.text[self._at : self._at + 1] or " ",
            self.text[self._at + 1 :],
        )
        room = max(4, width - len(self._label) - 24)
        before = before[-room:]
        style = palette("bright" if self._found else "bad", bold=True)
        parts: list[Part] = [
            (f"{self._label} ", palette("label", bold=True)), (before, style),
            (under, palette("cursor-fg", "cursor-bg")),
            (after, style), ("   Enter", palette("key-fg", bold=True)), (" done ", palette("muted")),
            (" Esc", palette("key-fg", bold=True)), (" cancel", palette("muted")),
        ]  # fmt: skip
        return [strip(parts, width, palette("fg"))]

    def on_paste(self, event: events.Paste) -> None:
        """Pasted text, as one harmless line."""
        event.stop()
        self._insert(f.clean(event.text))

    def on_key(self, event: events.Key) -> None:
        """Every key belongs to the prompt while it is open."""
        event.stop()
        event.prevent_default()
        match event.key:
            case "escape" | "ctrl+c":
                self._close(None)
            case "enter":
                self._close(self.text)
            case "left":
                self._move(-1)
            case "right":
                self._move(1)
            case "home" | "ctrl+a":
                self._move(-len(self.text))
            case "end" | "ctrl+e":
                self._move(len(self.text))
            case "backspace" | "ctrl+h":
                self._remove(self._at - 1)
            case "delete":
                self._remove(self._at)
            case "ctrl+u":
                self.text, self._at = self.text[self._at :], 0
                self._tell()
            case _ if event.is_printable and event.character:
                self._insert(event.character)

    def _move(self, by: int) -> None:
        self._at = max(0, min(len(self.text), self._at + by))
        self.redraw()

    def _insert(self, text: str) -> None:
        self.text = (self.text[: self._at] + text + self.text[self._at :])[:500]
        self._at = min(len(self.text), self._at + len(text))
        self._tell()

    def _remove(self, at: int) -> None:
        if 0 <= at < len(self.text):
            self.text = self.text[:at] + self.text[at + 1 :]
            self._at = at
            self._tell()

    def _tell(self) -> None:
        self._found = self._changed(self.text)
        self.redraw()

    def _close(self, text: str | None) -> None:
        self.display = False
        self.screen.set_focus(None)
        self._done(text)
