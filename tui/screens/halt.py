"""The kill switch: asks once, holds every call and freezes every managed agent; the same key undoes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.binding import Binding, BindingType

from agenttop.core.errors import AgentTopError, from_dict

from ..format import clean
from ..keys import shown
from ..model import ENDED
from ..verbs import sentences
from ..widgets.dialog import Chip, Dialog
from ..widgets.paper import Paper, Row, counted, several, wrapped

if TYPE_CHECKING:
    from agenttop.core.api import HaltInfo, Outcome

#: So many failures are told one by one.
TOLD = 6


class HaltScreen(Dialog[None]):
    """Halts, or lets go what was halted; shows how long that took and what was not reached."""

    WIDTH = 76
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "act", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
    ]

    def __init__(self, *, undo: bool) -> None:
        super().__init__()
        self.undo = undo
        self.running = False
        self.done: HaltInfo | None = None

    def on_mount(self) -> None:
        """The question."""
        self._show()

    # --- what is shown ------------------------------------------------------------------------

    def _show(self) -> None:
        if self.done is not None:
            self._show_done(self.done)
        elif self.undo:
            self.head("Undo the kill switch", "nothing has been done yet", "good")
            self.query_one("#paper", Paper).show(self._undoing())
        else:
            self.head("Kill switch", "nothing has been done yet", "bad")
            self.query_one("#paper", Paper).show(self._halting())
        self.fit()

    def _halting(self) -> list[Row]:
        model = self.shell.model
        live = [row for row in model.rows.values() if row.state not in ENDED and not row.observed]
        stopped = [row for row in live if row.pause]
        observed = [row for row in model.rows.values() if row.observed]
        rows: list[Row] = [
            [
                (
                    f"Hold every model call and freeze {counted(len(live), 'agent')}, all in one stroke.",
                    "bright",
                )
            ],
            [],
            [
                ("calls     ", "label"),
                ("those on their way are finished and metered; no new one leaves", "fg"),
            ],
            [("agents    ", "label"), (several([row.name for row in live], 5) or "none is running", "fg")],
        ]
        if stopped:
            rows.append(
                [
                    ("paused    ", "label"),
                    (f"{counted(len(stopped), 'agent')} already, and stays so after", "fg"),
                ]
            )
        if observed:
            text = f"{counted(len(observed), 'observed agent')}: agenttop did not start them"
            rows.append([("not       ", "label"), (text, "muted")])
        return [*rows, [], [("Nothing is lost. The same key undoes it.", "muted")]]

    def _undoing(self) -> list[Row]:
        frozen = [row for row in self.shell.model.rows.values() if row.pause == "freeze"]
        return [
            [("Every call is held and every agent is frozen since the kill switch was used.", "bright")],
            [],
            [("agents    ", "label"), (several([row.name for row in frozen], 5) or "none is frozen", "fg")],
            [("          ", ""), ("what was paused before stays paused", "muted")],
            [("calls     ", "label"), ("held ones go on, in their order", "fg")],
        ]

    def _show_done(self, info: HaltInfo) -> None:
        good = [outcome for outcome in info.frozen if outcome.error is None]
        bad = [outcome for outcome in info.frozen if outcome.error is not None]
        verb = "frozen" if info.halted else "running again"
        title = "Halted" if info.halted else "Running again"
        if bad:
            title = "Not all is halted" if info.halted else "Not all runs again"
        self.head(title, "", "bad" if bad or info.halted else "good")
        rows = [*self._failures(bad)]
        if info.halted:
            rows.append([
                (f" {_ms(info.calls_seconds):>8}  ", "bright bold"), ("no call leaves any more", "fg"),
                (f"  {counted(info.calls_held, 'call')} held", "muted"),
            ])  # fmt: skip
        rows.append([
            (f" {_ms(info.seconds):>8}  ", "bright bold"), (f"{counted(len(good), 'agent')} {verb}", "fg"),
            (f"  {several([outcome.name or outcome.ref for outcome in good], 4)}", "muted"),
        ])  # fmt: skip
        self.query_one("#paper", Paper).show(rows)

    def _failures(self, bad: list[Outcome]) -> list[Row]:
        rows: list[Row] = []
        for outcome in bad[:TOLD]:
            error = from_dict(outcome.error or {})
            rows += wrapped(
                f"{clean(outcome.name or outcome.ref)}: {error}", self.inner_width - 2, "bad bold", 1
            )
        if len(bad) > TOLD:
            rows.append([(f" and {len(bad) - TOLD} more", "bad bold")])
        return [*rows, []] if rows else []

    def chips(self) -> tuple[Chip, ...]:
        """The question's answers."""
        if self.running:
            return (Chip("Esc", "Close; it goes on"),)
        if self.done is not None:
            keys = self.shell.keys.by_id["agent.freeze_all"].keys
            key = shown(keys[0]) if keys else "-"
            if self.done.halted:
                return (Chip(key, "Let all go on"), Chip("Esc", "Close; all stays halted"))
            return (Chip("Esc", "Close"),)
        if self.undo:
            return (Chip("Enter", "Let all go on", "good bold"), Chip("Esc", "Stay halted"))
        return (Chip("Enter", "Halt everything", "bad bold"), Chip("Esc", "Cancel"))

    # --- keys ---------------------------------------------------------------------------------

    def action_page(self, step: int) -> None:
        """Scroll."""
        self.query_one("#paper", Paper).action_scroll_page(step)

    def on_key(self, event: events.Key) -> None:
        """The switch's own key: asks to undo what was just done; before that it is no answer."""
        if event.key not in self.shell.keys.by_id["agent.freeze_all"].keys:
            return
        event.stop()
        if self.done is not None and self.done.halted and not self.running:
            self.undo, self.done = True, None
            self._show()

    def action_act(self) -> None:
        """Do it. The work belongs to the app: closing the dialog does not call it back."""
        if self.running:
            return
        if self.done is not None:
            self.dismiss(None)
            return
        self.running = True
        self.head("Kill switch", "being done", "bad" if not self.undo else "good")
        self.fit()
        self.app.run_worker(self._act(), group="halt")

    async def _act(self) -> None:
        shell = self.shell
        try:
            client = self.client
            info = await client.unhalt() if self.undo else await client.halt()
        except AgentTopError as error:
            shell.toast(*sentences(error), "error")
            if self.is_attached and self.is_current:
                self.dismiss(None)
            return
        self.running, self.done = False, info
        if self.is_attached and self.is_current:
            self._show()
            return
        verb = "halted" if info.halted else "running again"
        bad = sum(outcome.error is not None for outcome in info.frozen)
        text = f"{counted(len(info.frozen) - bad, 'agent')} in {_ms(info.seconds)}"
        shell.toast(
            f"Everything is {verb}" if not bad else f"{bad} not reached", text, "error" if bad else "good"
        )


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
