"""One message: all its fields, who it comes from, what became of it, and the whole payload."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding, BindingType

from agenttop.core.errors import AgentTopError

from ..bus import latency, waited
from ..format import clean, clock, size
from ..widgets.dialog import Chip, Dialog
from ..widgets.paper import Paper, Row, rule, wrapped
from ..widgets.trace_table import state_ink

if TYPE_CHECKING:
    from agenttop.core.api.bus import MessageInfo, MessageRow

#: Characters and lines of a payload that are shown.
MOST, LINES = 200_000, 5_000


def payload_rows(payload: Any, width: int) -> list[Row]:
    """A payload to read: a text as it is, anything else as indented JSON; made harmless, line by line."""
    kind = "fg" if isinstance(payload, str) else "label"
    text = payload if isinstance(payload, str) else json.dumps(payload, indent=2, ensure_ascii=False)
    rows: list[Row] = []
    for line in text[:MOST].splitlines():
        indent = len(line) - len(line.lstrip(" "))
        found = wrapped(
            line.strip(" ") if indent < width // 2 else line, max(8, width - 2 - indent), "", 1 + indent
        )
        rows += [_inked(row, kind) for row in found]
        if len(rows) >= LINES:
            break
    if len(text) > MOST or len(rows) >= LINES:
        rows.append([(f" … the rest of {size(len(text))} is not shown here", "warn")])
    return rows or [[(" empty", "muted")]]


def _inked(row: Row, kind: str) -> Row:
    """JSON with its keys in another ink than its values."""
    indent, (text, _) = row[0], row[1]
    if kind == "label" and text.startswith('"') and '": ' in text:
        name, _, value = text.partition('": ')
        return [indent, (name + '"', "label"), (": ", "muted"), (value, "fg")]
    return [indent, (text, "fg")]


class MessageScreen(Dialog[None]):
    """A message by its number; ``row`` is its line of the trace, if it has one."""

    WIDTH = 104
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll(-1)", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("home", "scroll(-1000000)", show=False),
        Binding("end", "scroll(1000000)", show=False),
        Binding("enter", "close", show=False),
        Binding("m", "answer", show=False),
    ]

    def __init__(self, seq: int, host: str, row: MessageRow | None = None) -> None:
        super().__init__()
        self.seq, self.host, self.row = seq, host, row
        self.info: MessageInfo | None = None
        self.problem = ""

    def on_mount(self) -> None:
        """Ask for it."""
        self._show()
        self.run_worker(self._ask())

    async def _ask(self) -> None:
        from agenttop.core.api import bus

        try:
            request = bus.MessageRequest(id=f"m{self.seq}", host=self.host)
            self.info = await self.client.call(bus.MESSAGE, request)
        except AgentTopError as error:
            self.problem = str(error)
        if self.query("#paper"):
            self._show()

    # --- what is shown ------------------------------------------------------------------------

    def _show(self) -> None:
        self.head(f"Message m{self.seq}", clean(self.row.state) if self.row is not None else "")
        width = self.inner_width
        if self.problem:
            rows = wrapped(self.problem, width - 2, "bad", 1)
        elif self.info is None:
            rows = [[(" asking the kernel", "muted")]]
        else:
            body = payload_rows(self.info.payload, width)
            side = f"{clean(self.info.type)}, {size(self.info.size)}"
            rows = [*self._fields(self.info, width), [], rule("Payload", width, side), *body]
        self.query_one("#paper", Paper).show(rows)
        self.fit()

    def _fields(self, info: MessageInfo, width: int) -> list[Row]:
        now = self.shell.clock.time()
        said: list[tuple[str, str, str]] = [("from", _party(info.sender_name, info.sender), "bright bold")]
        whose = "a person wrote it" if info.from_person else "another agent wrote it: it is no person's word"
        said.append(("", whose, "muted"))
        said += [
            ("to", _party(info.to_name, info.to), "bright bold"),
            ("kind", f"{info.kind}, type {clean(info.type)}, priority {info.priority} of 9", "fg"),
            ("sent", f"{clock(info.at)}, {waited(now - info.at)} ago", "fg"),
        ]
        if self.row is not None:
            took = f" after {latency(self.row.latency)}" if self.row.latency is not None else ""
            note = f": {clean(self.row.note)}" if self.row.note else ""
            said.append(("state", f"{clean(self.row.state)}{took}{note}", state_ink(self.row)))
        if info.attempt:
            said.append(("handed out", f"{info.attempt}x", "fg"))
        for name, when in (("deadline", info.deadline), ("expires", info.expires)):
            if when is not None:
                away = f"in {waited(when - now)}" if when >= now else f"passed {waited(now - when)} ago"
                said.append((name, f"{clock(when)}, {away}", "fg"))
        if info.reply_to:
            said.append(("answers", clean(info.reply_to), "fg"))
        if info.cause:
            said.append(("caused by", f"{clean(info.cause)}, {info.hops} hops from the first", "fg"))
        said.append(("trace", clean(info.trace), "muted"))
        rows: list[Row] = []
        for name, text, ink in said:
            lines = wrapped(text, max(10, width - 14), ink)
            for number, line in enumerate(lines):
                rows.append([(f" {'' if number else name}".ljust(13), "label"), *line[1:]])
        return rows

    def fit(self) -> None:
        """Other widths break other lines."""
        super().fit()

    def chips(self) -> Sequence[Chip]:
        """How to move here, and to answer."""
        move = "Up/Dn" if self.ink.ascii else "↑↓"
        who = clean(self.info.sender_name) if self.info is not None else "its sender"
        return (Chip(move, "Scroll"), Chip("m", f"Write to {who}"), Chip("Esc", "Close"))

    # --- keys ---------------------------------------------------------------------------------

    def action_scroll(self, rows: int) -> None:
        """Scroll."""
        self.query_one("#paper", Paper).action_scroll_by(rows)

    def action_page(self, pages: int) -> None:
        """Scroll by pages."""
        self.query_one("#paper", Paper).action_scroll_page(pages)

    def action_answer(self) -> None:
        """Write to whoever sent it."""
        if self.info is None:
            return
        from .send import SendScreen

        shell, to = self.shell, self.info.sender
        self.dismiss(None)
        shell.push_screen(SendScreen(to, host=self.host, cause=self.info.id))


def _party(name: str, id: str) -> str:
    name, id = clean(name), clean(id)
    return name if not id or name == id else f"{name} ({id})"
