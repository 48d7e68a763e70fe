"""What an empty fleet shows: what was found on this machine, and what to press."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from textual.strip import Strip

from agenttop.core.errors import AgentTopError

from .. import format as f
from ..lines import Lines, Part, strip

if TYPE_CHECKING:
    from agenttop.core.api import CheckInfo, TemplateInfo

_MARKS = {"ok": "good", "warn": "warn", "missing": "muted"}


class Empty(Lines):
    """Stands in the table's place while there is no agent."""

    DEFAULT_CSS = "Empty { height: 1fr; }"

    def __init__(self) -> None:
        super().__init__(id="empty")
        self._templates: list[TemplateInfo] = []
        self._checks: list[CheckInfo] = []
        self._asked = False
        self._fleet_file = False

    def look_around(self) -> None:
        """Ask the kernel, once, what could be started here."""
        self._fleet_file = os.path.exists("fleet.toml")
        if not self._asked and self.shell.client is not None:
            self._asked = True
            self.run_worker(self._ask(), group="empty")
        self.redraw()

    async def _ask(self) -> None:
        client = self.shell.client
        if client is None:
            return
        try:
            self._templates = await client.templates()
            self._checks = await client.checks()
        except AgentTopError as error:
            from ..verbs import sentences

            self._asked = False
            self.shell.toast(*sentences(error), "warn")
        self.redraw()

    def build(self, width: int, height: int) -> list[Strip]:
        """What to do first, then what was found, then the command line."""
        look = self.shell.look
        palette = look.palette
        fill = palette("fg")
        lines: list[list[Part]] = [
            [],
            [("    No agents yet. ", palette("bright", bold=True)),
             ("Nothing is running here that agenttop knows, either.", palette("muted"))],
            [],
            *self._actions(),
            [],
        ]  # fmt: skip
        found = self._found()
        last: list[list[Part]] = [
            [],
            [("    From any terminal", palette("label"))],
            [("      agenttop run --name hello -- sh -c 'while :; do date; sleep 1; done'", palette("fg"))],
        ]
        room = height - len(lines) - len(last) - 1
        if found and room > 0:
            lines += [[("    Found on this machine", palette("label"))], *found[:room]]
        lines += last
        strips = [strip(line, width, fill, look.glyphs.mark) for line in lines[:height]]
        return strips + [strip([], width, fill)] * (height - len(strips))

    def _actions(self) -> list[list[Part]]:
        palette = self.shell.look.palette
        there = self._fleet_file
        rows = (
            ("n", "New agent", "pick a template, say what to do", True),
            (
                ":up",
                "Start a fleet file",
                "fleet.toml in this folder" + ("" if there else " was not found"),
                there,
            ),
            ("F1", "Help", "keys, states, how to read a row", True),
        )
        return [
            [(f"      {key:<5}", palette("accent", bold=True)),
             (f"{name:<20}", palette("bright" if can else "muted")), (text, palette("muted"))]
            for key, name, text, can in rows
        ]  # fmt: skip

    def _found(self) -> list[list[Part]]:
        rows: list[tuple[str, str, str, str]] = []
        for template in self._templates:
            if template.ready:
                level, text = "ok", "ready"
            elif template.found:
                level, text = "warn", template.hint
            else:
                level, text = "missing", template.hint or "not found on PATH"
            rows.append((template.name, template.found, level, text))
        rows += [
            (check.name, "", check.level, check.found if check.level == "ok" else check.hint or check.found)
            for check in self._checks
        ]
        return [self._found_line(*row) for row in sorted(rows, key=lambda row: row[2] == "missing")]

    def _found_line(self, name: str, version: str, level: str, text: str) -> list[Part]:
        look = self.shell.look
        palette = look.palette
        mark = look.glyphs.ok if level == "ok" else "!" if level == "warn" else look.glyphs.dot
        tone = "fg" if level == "ok" else _MARKS[level]
        return [
            (
                f"      {f.fit(look.plain(f.clean(name)), 12)} ",
                palette("bright" if level != "missing" else "muted"),
            ),
            (f.fit(look.plain(f.clean(version)), 12, look.glyphs.mark) + " ", palette("muted")),
            (f"{mark:<2}", palette(_MARKS[level])),
            (look.plain(f.clean(text)), palette(tone)),
        ]
