"""No kernel answers: what that means, why, and what happens next. The last snapshot stays readable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from ..format import age, clean, clock
from ..widgets.dialog import Chip, Dialog
from ..widgets.paper import Paper, Row, counted, wrapped


class UnreachableScreen(Dialog[None]):
    """Stands in the lower half, so that the table above can be read. Closes when the kernel is back."""

    WIDTH = 96
    MARGIN = 1  # the footer
    veil = False  # the table beneath is what one wants to read
    DEFAULT_CSS = """
    UnreachableScreen { align: center bottom; }
    UnreachableScreen #frame { margin: 0 0 1 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "try", show=False),
        Binding("l", "log", show=False),
        Binding("f10", "quit", show=False),
        Binding("q", "quit", show=False),
    ]

    def on_mount(self) -> None:
        """Say it now and every second."""
        self._show()
        self.set_interval(1.0, self._tick)

    def _tick(self) -> None:
        if self.shell.trouble is None:
            if self.is_current:
                self.dismiss(None)
            return
        self._show()

    def _show(self) -> None:
        trouble = self.shell.trouble
        if trouble is None:
            return
        now = self.shell.clock.time()
        self.head("Kernel unreachable", f"for {age(now - trouble.since)}", "bad")
        self.query_one("#paper", Paper).show(self._rows(self.inner_width, now))
        super().fit()

    def _rows(self, width: int, now: float) -> list[Row]:
        trouble, model = self.shell.trouble, self.shell.model
        assert trouble is not None
        live = sum(
            1 for row in model.rows.values() if row.state not in ("error", "terminated") and not row.observed
        )
        rows: list[Row] = [[]]
        if model.known:
            when = clock(self.shell.seen_at)
            said = f"{_sentence(trouble.error.what)} The screen shows the snapshot of {when}"
            rows += wrapped(f"{said} (event {model.seq:,}).", width - 3, "fg", 2)
            rows += wrapped(
                "The agents run on. Their model calls wait until the kernel is back.", width - 3, "fg", 2
            )
        else:
            rows += wrapped(_sentence(trouble.error.what), width - 3, "fg", 2)
        rows.append([])
        rows += _said("Why", trouble.error.why or "it did not say", width, "fg")
        if trouble.error.hint:
            rows += _said("Do", trouble.error.hint, width, "fg")
        if trouble.next_try is None:
            text = f"gave up after {counted(trouble.attempt, 'try', 'tries')}; r tries again"
        else:
            left = max(0, round(trouble.next_try - now))
            text = f"try {trouble.attempt + 1} in {left} s"
            if live:
                text += f"; a new kernel adopts {counted(live, 'live run')}"
        return [*rows, *_said("Next", text, width, "warn")]

    def fit(self) -> None:
        """The sentences break elsewhere."""
        super().fit()
        if self.is_mounted:
            self._show()

    def chips(self) -> Sequence[Chip]:
        """What can be done without a kernel."""
        return (
            Chip("r", "Try now"),
            Chip("l", "Kernel log", off=self.shell.paths is None),
            Chip("Esc", "Look around, read only"),
            Chip("F10", "Quit"),
        )

    def action_try(self) -> None:
        """Do not wait."""
        self.shell.try_now()

    def action_log(self) -> None:
        """What the kernel wrote last."""
        if self.shell.paths is not None:
            from .logs import FileScreen

            self.app.push_screen(FileScreen(self.shell.paths.log, "Kernel log"))

    def action_quit(self) -> None:
        """Leave; the agents run on."""
        self.app.exit(0)


def _sentence(text: str) -> str:
    text = clean(text).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def _said(label: str, text: str, width: int, ink: str) -> list[Row]:
    lines = wrapped(text, max(10, width - 10), ink, 8)
    return [[(f"  {label:<6}", "label"), *lines[0][1:]], *lines[1:]]
