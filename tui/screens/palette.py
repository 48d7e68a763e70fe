"""The command line and palette: everything there is to do, found by some of its letters.

Rows come from the key table and the commands, each on a target; what cannot be done now is greyed and
says why. A line that is a whole command is run as typed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widget import Widget

from agenttop.core.api import Row as FleetRow
from agenttop.core.errors import AgentTopError

from .. import commands
from ..commands import BY_NAME, COMMANDS
from ..format import clean, clock
from ..keys import Key, shown
from ..verbs import sentences
from ..widgets.dialog import Chip, Dialog
from ..widgets.fields import Text
from ..widgets.paper import Paper, Row, counted, ends, rule

#: Commands remembered, and shown.
KEPT, SHOWN = 20, 3
WORDS, TARGET = 18, 14
#: Commands on nothing that no key does as well.
KEYLESS = ("providers", "halt", "unhalt")


@dataclass(frozen=True)
class Entry:
    """One row of the palette."""

    words: str
    target: str
    note: str
    key: str
    act: Callable[[], None]
    line: str = ""
    """The same as a typed command, if there is one."""
    why: str = ""
    """Why it cannot be done now."""
    other: bool = False
    """On another agent than the cursor's: listed once something is typed."""


def score(needle: str, text: str) -> int | None:
    """How well it fits: 0 beginning, 1 beginning of a word, 2 inside, 3 and up scattered, ``None`` not."""
    needle, text = needle.lower(), text.lower()
    if not needle or text.startswith(needle):
        return 0
    if f" {needle}" in text:
        return 1
    if needle in text:
        return 2
    position, gaps = -1, 0
    for char in needle:
        found = text.find(char, position + 1)
        if found < 0:
            return None
        gaps += found - position - 1
        position = found
    return 3 + gaps


def marked(text: str, needle: str, ink: str) -> Row:
    """``text`` with the letters that were typed in the warning colour."""
    row: Row = []
    at = text.lower().find(needle.lower()) if needle else -1
    if at >= 0:
        row = [(text[:at], ink), (text[at : at + len(needle)], "warn bold"), (text[at + len(needle) :], ink)]
        return [piece for piece in row if piece[0]]
    left = needle.lower()
    for char in text:
        hit = bool(left) and char.lower() == left[0]
        left = left[1:] if hit else left
        row.append((char, "warn bold" if hit else ink))
    return row if not left else [(text, ink)]


def _key_of(key: Key) -> str:
    return shown(key.keys[0]) if key.keys else ""


class PaletteScreen(Dialog[None]):
    """``:`` and ``^P``."""

    WIDTH = 80
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "run", show=False, priority=True),
        Binding("tab", "complete", show=False, priority=True),
        Binding("up", "choose(-1)", show=False, priority=True),
        Binding("down", "choose(1)", show=False, priority=True),
        Binding("pageup", "choose(-6)", show=False),
        Binding("pagedown", "choose(6)", show=False),
    ]

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self.field = Text("line", ":", text)
        self.at = 0
        self.error = ""
        self._entries: list[Entry] = []
        self._found: list[Entry] = []

    def body(self) -> Iterable[Widget]:
        """The line, what fits, what was used last."""
        yield Paper(id="line")
        yield Paper(id="entries")
        yield Paper(id="last")

    DEFAULT_CSS = """
    PaletteScreen #line { height: 1; }
    PaletteScreen #entries { height: 1fr; }
    PaletteScreen.-roomy #line { margin: 0 0 1 0; }
    PaletteScreen #last { height: auto; }
    """

    def on_mount(self) -> None:
        """All there is."""
        self._entries = [*self._actions(), *self._typed()]
        self._show()

    # --- what there is ------------------------------------------------------------------------

    def _actions(self) -> Iterable[Entry]:
        """The key table: keys that act on agents, for the cursor's row and for the tagged ones."""
        shell = self.shell
        pane = shell.pane
        current = shell.model.current
        tagged = [row for row in shell.model.rows.values() if row.id in shell.model.tags]
        for key in shell.keys.pane(pane.PANE):
            if key.id.startswith(("move.", "app.palette", "app.command", "app.back")):
                continue
            verb = {
                "agent.pause": "pause",
                "agent.hold": "hold",
                "agent.kill": "kill",
                "agent.restart": "restart",
            }
            if key.id == "agent.attach" and current is not None:
                yield self._command("attach", current, BY_NAME["attach"].text, _key_of(key))
            elif key.id in verb:
                yield from self._on_rows(verb[key.id], key, current, tagged)
            else:
                yield self._key(key, current)

    def _key(self, key: Key, current: FleetRow | None) -> Entry:
        fleetwide = ("agent.new", "agent.freeze_all", "agent.answer")
        on_agent = key.id.startswith("agent.") and key.id not in fleetwide
        target = clean(current.name) if on_agent and current is not None else ""
        why = "no kernel answers" if key.acts and self.shell.lost else ""
        if on_agent and current is None:
            why = "the table is empty"
        if key.id.startswith("pane.") and "later" in key.text:
            why = "comes with a later version"
        name = key.id

        def act() -> None:
            self.shell.pane.perform(name)

        return Entry(
            key.label.lower().strip(), target, key.text, shown(key.keys[0]) if key.keys else "", act, why=why
        )

    def _on_rows(
        self, verb: str, key: Key, current: FleetRow | None, tagged: Sequence[FleetRow]
    ) -> Iterable[Entry]:
        text = {"pause": "freeze: stop {} in RAM, verified", "hold": "keep the next model call",
                "kill": "end {}; shows it first", "restart": "stop {}, start a new run"}[verb]  # fmt: skip
        verbs = [verb, "resume"] if verb == "pause" else [verb]
        if current is not None:
            for one in verbs:
                note = (
                    "undo freeze and hold"
                    if one == "resume"
                    else text.format(counted(current.pids or 0, "process", "processes"))
                )
                yield self._command(one, current, note, shown(key.keys[0]) if key.keys else "")
        if tagged:
            names = ", ".join(clean(row.name) for row in tagged[:4])
            line = f"{verb} {' '.join(row.name for row in tagged)}"
            why = "no kernel answers" if self.shell.lost else ""
            yield Entry(verb, f"tagged ({len(tagged)})", names, "", self._runs(line), line, why)

    def _typed(self) -> Iterable[Entry]:
        """Commands on every other agent, and those that take something else."""
        current = self.shell.model.current
        for command in COMMANDS:
            if command.takes == ("agents",):
                for row in self.shell.model.rows.values():
                    if current is None or row.id != current.id:
                        yield replace(self._command(command.name, row, command.text, ""), other=True)
            elif command.name in KEYLESS:
                yield Entry(command.name, "", command.text, "", self._runs(command.name), command.name,
                            "no kernel answers" if command.acts and self.shell.lost else "")  # fmt: skip
            elif command.takes:
                kinds = " ".join(command.takes)
                yield Entry(
                    command.name, kinds, command.text, "", self._begins(command.name), f"{command.name} "
                )

    def _command(self, verb: str, row: FleetRow, note: str, key: str) -> Entry:
        line = f"{verb} {row.name}"
        return Entry(
            verb,
            clean(row.name),
            note,
            key,
            self._runs(line),
            line,
            commands.impossible(self.shell, verb, row),
        )

    def _runs(self, line: str) -> Callable[[], None]:
        return lambda: self._run_line(line)

    def _begins(self, name: str) -> Callable[[], None]:
        def act() -> None:
            self.field = Text("line", ":", f"{name} ")
            self._show()

        return act

    # --- what is shown ------------------------------------------------------------------------

    @property
    def history(self) -> list[tuple[float, str]]:
        """What was used last, the newest first."""
        found: list[tuple[float, str]] = []
        for item in self.shell.settings.history:
            when, _, line = item.partition(" ")
            if when.isdigit() and line:
                found.append((float(when), clean(line)))
        return found

    def _match(self) -> list[Entry]:
        typed = self.field.value.strip()
        ranked = []
        for place, entry in enumerate(self._entries):
            if entry.other and not typed:
                continue
            fit = score(typed, f"{entry.words} {entry.target}")
            if fit is None and typed:
                inside = typed.lower() in entry.note.lower()
                fit = 100 if inside else None
            if fit is not None:
                ranked.append((bool(entry.why), fit, place, entry))
        ranked.sort(key=lambda item: item[:3])
        return [entry for *_, entry in ranked]

    def _show(self) -> None:
        current = self.shell.model.current
        side = f"on {clean(current.name)} {current.id}" if current is not None else ""
        self.head("Command", side)
        width = self.inner_width
        self.query_one("#line", Paper).show([self._line(width)])
        self._found = self._match()
        self.at = max(0, min(self.at, len(self._found) - 1))
        rows = [self._row(entry, place == self.at, width) for place, entry in enumerate(self._found)]
        command = BY_NAME.get(self.field.value.strip().partition(" ")[0])
        if not rows and command is not None:
            takes = " ".join(command.takes)
            rows = [
                [
                    (f" {command.name:<{WORDS}}", "bright"),
                    (f"{takes:<{TARGET}}", "fg"),
                    (command.text, "muted"),
                ]
            ]
        elif not rows:
            rows = [[(" nothing here is called that", "muted")]]
        entries = self.query_one("#entries", Paper)
        entries.show(rows)
        self.set_class(self.size.height >= 24, "-roomy")
        entries.bring(self.at)
        self.query_one("#last", Paper).show(self._last(width))
        super().fit()

    def _line(self, width: int) -> Row:
        before, under = self.field.value[: self.field.at], self.field.value[self.field.at : self.field.at + 1]
        after = self.field.value[self.field.at + 1 :]
        typed = "bright/blur-bg bold"
        row: Row = [("▌", "accent"), (": ", "label/blur-bg bold"), (before[-(width - 8) :], typed),
                    (under or " ", "cursor-fg/cursor-bg"), (after, typed)]  # fmt: skip
        used = sum(len(text) for text, _ in row)
        return [*row, (" " * max(0, width - used), "fg/blur-bg")]

    def _row(self, entry: Entry, chosen: bool, width: int) -> Row:
        words, target = entry.words[:WORDS], entry.target
        if len(target) > TARGET - 1:
            target = target[: TARGET - 2] + "…"
        note = f"not possible: {entry.why}" if entry.why else entry.note
        if chosen:
            text = f" {words:<{WORDS}}{target:<{TARGET}}{note}"
            key = f" {entry.key} " if entry.key else ""
            ink = "cursor-fg/cursor-bg"
            return [(text[: width - len(key)].ljust(width - len(key)), ink), (key, ink)]
        if entry.why:
            return [(f" {words:<{WORDS}}{target:<{TARGET}}{note}", "muted")]
        typed = self.field.value.strip()
        left: Row = [(" ", ""), *marked(words, typed, "bright"), (" " * (WORDS - len(words)), ""),
                     (f"{target:<{TARGET}}", "fg"), (note, "muted")]  # fmt: skip
        return ends(left, [(entry.key, "label bold"), (" ", "")], width) if entry.key else left

    def _last(self, width: int) -> list[Row]:
        if self.error:
            return [[], [(f" {self.error}", "bad bold")]]
        used = self.history[:SHOWN]
        if not used or self.size.height < 20:
            return []
        rows: list[Row] = [[], rule("Last used", width)]
        for when, line in used:
            rows.append(ends([(f" {line}", "fg")], [(clock(when)[:5], "muted"), (" ", "")], width))
        return rows

    def body_height(self, width: int) -> int:
        """Eight entries and what was used last, or what there is room for."""
        last = len(self.query_one("#last", Paper).rows)
        roomy = 1 if self.size.height >= 24 else 0
        return 1 + roomy + min(max(1, len(self._found)), max(4, min(12, self.size.height - 15))) + last

    def fit(self) -> None:
        """Rows are as wide as the box."""
        super().fit()
        if self._entries:
            self._show()

    def chips(self) -> Sequence[Chip]:
        """The keys here."""
        move = "Up/Dn" if self.ink.ascii else "↑↓"
        return (Chip("Enter", "Run"), Chip("Tab", "Complete"), Chip(move, "Choose"), Chip("Esc", "Close"))

    # --- keys ---------------------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        """Typing narrows the list."""
        if self.field.key(event.key):
            pass
        elif event.is_printable and event.character:
            self.field.insert(event.character)
        else:
            return
        event.stop()
        event.prevent_default()
        self.at, self.error = 0, ""
        self._show()

    def on_paste(self, event: events.Paste) -> None:
        """Pasted text, as one line."""
        event.stop()
        self.field.insert(clean(event.text))
        self._show()

    def action_choose(self, step: int) -> None:
        """Up and down the list."""
        self.at = max(0, min(len(self._found) - 1, self.at + step))
        self._show()

    def action_complete(self) -> None:
        """As much of the word as is certain; else the chosen row as a line."""
        line = commands.complete(self.shell, self.field.value.lstrip())
        if line == self.field.value and self._found and self._found[self.at].line:
            line = self._found[self.at].line
        self.field = Text("line", ":", line)
        self._show()

    def action_run(self) -> None:
        """A whole command as typed, else the chosen row."""
        typed = self.field.value.strip()
        first, _, rest = typed.partition(" ")
        whole = first in BY_NAME and bool(rest or not BY_NAME[first].takes)
        if whole and (not self._found or self._meant(typed)):
            self._run_line(typed)
        elif self._found:
            self._take(self._found[self.at])
        elif typed:
            self._run_line(typed)

    def _take(self, entry: Entry) -> None:
        if entry.why:
            self.error = f"{entry.words} {entry.target}: {entry.why}"
            self._show()
        elif entry.line:
            entry.act()
        else:
            self._close_and(entry.act)

    def _meant(self, line: str) -> bool:
        """Whether the agents a line names are there; else it was typed to narrow the list."""
        try:
            self._check(line)
        except AgentTopError:
            return False
        return True

    def _close_and(self, act: Callable[[], None]) -> None:
        shell = self.shell
        self.dismiss(None)
        shell.call_later(act)

    def _run_line(self, line: str) -> None:
        shell = self.shell
        verb = line.split()[0]
        if verb not in BY_NAME or (BY_NAME[verb].acts and shell.lost):
            self._refuse(line)
            return
        try:
            self._check(line)
        except AgentTopError as error:
            self.error = str(error)
            self._show()
            return
        self._remember(line)

        def act() -> None:
            try:
                commands.run(shell, line)
            except AgentTopError as error:
                shell.toast(*sentences(error), "error")

        self._close_and(act)

    def _refuse(self, line: str) -> None:
        try:
            commands.run(self.shell, line)
        except AgentTopError as error:
            self.error = str(error)
            self._show()

    def _check(self, line: str) -> None:
        """What can be known to be wrong before the palette closes."""
        verb, *words = line.split()
        if "agents" in BY_NAME[verb].takes or "agent" in BY_NAME[verb].takes:
            first = dict.fromkeys(("budget", "send", "fork"), words[:1])
            named = {"nice": words[1:], **first}.get(verb, words)
            for word in named:
                commands.find(self.shell, word)

    def _remember(self, line: str) -> None:
        if line.split()[0] == "send":
            return  # what is typed into an agent may be a secret
        now = int(self.shell.clock.time())
        kept = [item for item in self.shell.settings.history if item.partition(" ")[2] != line]
        self.shell.change(history=(f"{now} {clean(line)}", *kept)[:KEPT])
