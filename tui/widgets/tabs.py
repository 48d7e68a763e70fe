"""The line of panes, and on its right what the table is ordered by, its window, host and time."""

from __future__ import annotations

import socket
from functools import cache

from textual.strip import Strip

from .. import format as f
from ..columns import BY_ID
from ..lines import Lines, Part, strip

PANES = ("Fleet", "Tasks", "Bus", "Memory", "Budgets", "Events", "Metrics")
#: Panes this version has; the others are muted and say so when asked for.
THERE = frozenset((1, 3, 4, 5, 6))


class Tabs(Lines):
    """One line. ``active`` is the number of the pane that is open."""

    def __init__(self, active: int) -> None:
        super().__init__(id="tabs")
        self.active = active

    def build(self, width: int, height: int) -> list[Strip]:
        """The line for this width."""
        look = self.shell.look
        palette = look.palette
        left: list[Part] = []
        taken = 0
        for number, name in enumerate(PANES, 1):
            if number == self.active:
                tab: list[Part] = [(f" {number} {name} ", palette("head-fg", "head-bg", bold=True))]
            else:
                there = number in THERE
                header = self.shell.model.header
                asked = number == 5 and header is not None and header.approvals
                mark = "state-needs-you" if asked else "accent" if there else "muted"
                tab = [
                    (f" {number}", palette(mark, bold=bool(asked))),
                    (f" {name} ", palette("fg" if there else "muted")),
                ]
            left += tab
            taken += len(name) + 4
        right = self._right(width - taken)
        used = sum(f.width(text) for text, _ in right)
        if used + taken > width:
            return [strip(left, width, palette("fg"), look.glyphs.mark)]
        return [strip([*left, (" " * (width - taken - used), palette("fg")), *right], width, palette("fg"))]

    def _right(self, room: int) -> list[Part]:
        palette, model = self.shell.look.palette, self.shell.model
        clock: list[Part] = [(f.clock(self.shell.clock.time()) + " ", palette("muted"))]
        flags: list[Part] = []
        if model.standing:
            flags += [(" STANDS ", palette("badge-fg", "state-waiting", bold=True)), ("  ", palette("fg"))]
        if model.needs_only:
            flags += [("!", palette("state-needs-you", bold=True)), ("  ", palette("fg"))]
        if model.tags:
            flags += [(f"{len(model.tags)} tagged", palette("tag")), ("  ", palette("fg"))]
        if model.only is not None:
            flags += [("budget ", palette("label")), (self.shell.look.cut(f.clean(model.only_name), 16),
                       palette("fg")), ("  ", palette("fg"))]  # fmt: skip
        if model.filter:
            flags += [("filter ", palette("label")), (self.shell.look.cut(model.filter, 16), palette("fg")),
                      ("  ", palette("fg"))]  # fmt: skip
        order: list[Part] = [
            ("tree " if model.tree else "by ", palette("label")), (BY_ID[model.sort].title, palette("fg")),
            ("  window ", palette("label")), (model.window, palette("fg")), ("  ", palette("fg")),
        ]  # fmt: skip
        hosts = model.header.hosts if model.header is not None else ()
        where = _host() if not hosts else f.clean(hosts[0].name) if len(hosts) == 1 else f"{len(hosts)} hosts"
        host: list[Part] = [(where + " ", palette("bright", bold=True))]
        if self.active != 1:
            order = flags = []
        for parts in ([*flags, *order, *host, *clock], [*flags, *host, *clock], [*flags, *clock], flags):
            if sum(f.width(text) for text, _ in parts) <= room:
                return parts
        return clock


@cache
def _host() -> str:
    return f.clean(socket.gethostname().split(".")[0])
