"""Kill: what ends, what stays, who waits; then ``Enter``, because the preview is the question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget

from agenttop.core.api import AgentInfo, KillPlan, ProcessInfo, Target
from agenttop.core.errors import AgentTopError

from ..format import clean, size, uptime
from ..verbs import sentences
from ..widgets.dialog import Chip, Dialog
from ..widgets.paper import Paper, Row, column, counted, ends, several, wrapped
from ..widgets.process_tree import in_short
from .proof import ProofScreen
from .signals import Choice, below, choices, send

#: From this many cells the menu stands beside the preview; below it is one line above.
TWO_COLUMNS = 100
MENU = 22


class KillScreen(Dialog[str]):
    """The kill dialog over ``refs`` (ids of the agents that were chosen) and their children."""

    DEFAULT_CSS = """
    KillScreen #columns { height: 1fr; }
    KillScreen #menu { width: 23; margin: 0 1 0 0; }
    KillScreen #split { width: 2; }
    KillScreen.-narrow #menu, KillScreen.-narrow #split { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "act", show=False),
        Binding("f", "freeze", show=False),
        Binding("up", "choose(-1)", show=False),
        Binding("down", "choose(1)", show=False),
        Binding("left", "signal(-1)", show=False),
        Binding("right", "signal(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
    ]

    def __init__(self, refs: Sequence[str]) -> None:
        super().__init__()
        self.refs = list(refs)
        self.plan: KillPlan | None = None
        self.choice = "stop"
        self.running = ""
        self.began = 0.0

    def body(self) -> Iterable[Widget]:
        """The menu beside the preview."""
        with Horizontal(id="columns"):
            yield Paper(id="menu")
            yield Paper(id="split")
            yield Paper(id="preview")

    def compose(self) -> ComposeResult:
        """The dialog; red from the start."""
        yield from super().compose()

    def on_mount(self) -> None:
        """Ask the kernel what would end."""
        self.head("Kill", "asking the kernel", "bad")
        self.run_worker(self._ask())

    async def _ask(self) -> None:
        try:
            self.plan = await self.client.kill_plan(Target(refs=self.refs, children=True))
        except AgentTopError as error:
            self.shell.toast(*sentences(error), "error")
            self.dismiss(None)
            return
        known = {agent.id for agent in self.plan.agents}
        self.refs = [
            agent.id for agent in self.plan.agents if {agent.id, agent.name} & set(self.refs)
        ] or list(known)
        possible = [choice for choice in self.offered if not choice.impossible]
        self.choice = possible[0].id if possible else ""
        self._show()

    # --- what is shown ------------------------------------------------------------------------

    @property
    def offered(self) -> list[Choice]:
        """The menu."""
        return choices(self.plan, bool(self.children_ids)) if self.plan else []

    @property
    def chosen(self) -> Choice | None:
        """The selected entry, if anything can be done at all."""
        return next((choice for choice in self.offered if choice.id == self.choice), None)

    @property
    def children_ids(self) -> list[str]:
        """Agents in the plan that were not chosen but stand below those that were."""
        return [agent.id for agent in self.plan.agents if agent.id not in self.refs] if self.plan else []

    @property
    def narrow(self) -> bool:
        """Whether there is only room for one column."""
        return self.size.width < TWO_COLUMNS

    def _title(self) -> str:
        assert self.plan is not None
        names = {agent.id: agent.name for agent in self.plan.agents}
        below = [names[key] for key in self.children_ids]
        text = several([names[key] for key in self.refs if key in names])
        if below:
            text += f" and {'its' if len(self.refs) == 1 else 'their'} "
            text += f"{'child' if len(below) == 1 else 'children'} {several(below)}"
        return text

    def _show(self) -> None:
        if self.plan is None:
            return
        chosen = self.chosen
        verb = chosen.title if chosen and chosen.id in ("freeze", "hold") else "Kill"
        side = "nothing has been sent yet" if not self.running else self.running
        self.head(f"{verb.capitalize()}  {self._title()}", side, "bad")
        self.set_class(self.narrow, "-narrow")
        rows = preview(self.plan, self.refs, self.shell.clock.time(), self._preview_width())
        if self.narrow:
            rows = [self._signal_line(chosen), [], *rows]
        self.query_one("#preview", Paper).show(rows)
        self.query_one("#menu", Paper).show(self._menu())
        self.query_one("#split", Paper).show([[("│", "rule")]] * max(len(rows), len(self._menu())))
        super().fit()

    def _preview_width(self) -> int:
        return self.inner_width if self.narrow else self.inner_width - 26

    def _signal_line(self, chosen: Choice | None) -> Row:
        if chosen is None:
            return [("nothing can be sent", "warn")]
        title = (
            f"{chosen.title} after {chosen.note.split(' grace')[0]}" if chosen.id == "stop" else chosen.title
        )
        row: Row = [(f" Signal  < {title} > ", "cursor-fg/cursor-bg bold")]
        return [*row, ("  left/right: other signals", "muted")]

    def _menu(self) -> list[Row]:
        rows: list[Row] = [[(" SIGNAL", "label")]]
        reasons = {choice.impossible for choice in self.offered}
        if len(reasons) == 1 and "" not in reasons:
            # One reason for all is said once.
            rows += [[(f" {choice.title}", "muted")] for choice in self.offered]
            return [*rows, [], *wrapped(f"not possible: {reasons.pop()}", MENU - 2, "warn", 1)]
        for choice in self.offered:
            if choice.impossible:
                rows.append([(f" {choice.title}", "muted")])
                rows += wrapped(f"not possible: {choice.impossible}", MENU - 3, "muted", 2)
            elif choice.id == self.choice:
                rows.append([(f" {choice.title}".ljust(MENU), "cursor-fg/cursor-bg bold")])
                rows.append([(f"  {choice.note}", "muted")])
            else:
                rows += [[(f" {choice.title}", "fg")], [(f"  {choice.note}", "muted")]]
        return rows

    def body_height(self, width: int) -> int:
        """As high as the higher column."""
        if self.plan is None:
            return 3
        preview_rows = len(self.query_one("#preview", Paper).rows)
        return preview_rows if self.narrow else max(preview_rows, len(self._menu()))

    def fit(self) -> None:
        """The preview depends on the width."""
        super().fit()
        self._show()

    def chips(self) -> Sequence[Chip]:
        """What the keys do with what is selected."""
        if self.running:
            return (Chip("Esc", "Close; it goes on"),)
        chosen = self.chosen
        if self.plan is None or chosen is None:
            return (Chip("Esc", "Cancel"),)
        number = len(self.refs) if chosen.id == "only" else len(self.plan.agents)
        chips = [Chip("Enter", f"{chosen.verb} {counted(number, 'agent')}", "bad bold")]
        freeze = next(choice for choice in self.offered if choice.id == "freeze")
        if chosen.id != "freeze":
            chips.append(Chip("f", "Freeze instead", off=bool(freeze.impossible)))
        if not self.narrow:
            chips.append(Chip("↑↓" if not self.ink.ascii else "Up/Dn", "Signal"))
        return (*chips, Chip("Esc", "Cancel"))

    # --- keys ---------------------------------------------------------------------------------

    def action_choose(self, step: int) -> None:
        """Up and down choose the signal, or scroll where there is one column."""
        if self.narrow:
            self.query_one("#preview", Paper).action_scroll_by(step)
        else:
            self.action_signal(step)

    def action_signal(self, step: int) -> None:
        """Choose the next signal that is possible."""
        possible = [choice.id for choice in self.offered if not choice.impossible]
        if possible and not self.running:
            at = possible.index(self.choice) if self.choice in possible else 0
            self.choice = possible[(at + step) % len(possible)]
            self._show()
            self._bring_choice()

    def _bring_choice(self) -> None:
        menu = self.query_one("#menu", Paper)
        for index, row in enumerate(menu.rows):
            if row[0][1].startswith("cursor-fg"):
                menu.bring(index + 1)
                menu.bring(max(0, index - 1))

    def action_page(self, step: int) -> None:
        """Scroll the preview."""
        self.query_one("#preview", Paper).action_scroll_page(step)

    def action_freeze(self) -> None:
        """Freeze instead of what is selected."""
        freeze = next((choice for choice in self.offered if choice.id == "freeze"), None)
        if freeze is not None and not freeze.impossible and not self.running:
            self.choice = "freeze"
            self.action_act()

    def action_act(self) -> None:
        """Do it. The work belongs to the app: closing the dialog does not call it back."""
        if self.chosen is None or self.running or self.plan is None:
            return
        self.running = "sent, waiting for the proof"
        self.began = self.shell.clock.time()
        self._show()
        self.set_interval(1.0, self._tick)
        self.app.run_worker(self._act(self.chosen), group="kill")

    def _tick(self) -> None:
        self.running = f"sent {self.shell.clock.time() - self.began:.0f} s ago, waiting for the proof"
        self._show()

    async def _act(self, chosen: Choice) -> None:
        assert self.plan is not None
        shell, agents, began = self.shell, self.plan.agents, self.shell.clock.time()
        try:
            outcomes = await send(self.client, chosen.id, self.refs, below(self.plan, self.refs, chosen.id))
        except AgentTopError as error:
            shell.toast(*sentences(error), "error")
            self._leave(None)
            return
        if self._leave(chosen.id) and chosen.ends:
            shell.push_screen(ProofScreen(outcomes, agents, began, self.shell.clock.time()))
        else:
            shell.verbs.report(chosen.done, outcomes)

    def _leave(self, result: str | None) -> bool:
        """Close the dialog if it is still open; whether it was."""
        if not self.is_attached or not self.is_current:
            return False
        self.dismiss(result)
        return True


def preview(plan: KillPlan, refs: Sequence[str], now: float, width: int) -> list[Row]:
    """What the right side says: what ends, what stays, who waits."""
    rows: list[Row] = []
    total = sum(len(processes) for processes in plan.processes.values())
    by_agent = [
        (agent, plan.processes.get(agent.id) or plan.processes.get(agent.name) or []) for agent in plan.agents
    ]
    shares = ", ".join(
        f"{len(processes)} of {clean(agent.name)}" for agent, processes in by_agent if processes
    )
    rows.append(_fact(total, "process" if total == 1 else "processes", shares or "it has none", "fg"))
    for agent, processes in by_agent:
        rows += _tree(agent, processes, now, width)
    rows.append([])
    if plan.containers:
        number = len(plan.containers)
        label = "container" if number == 1 else "containers"
        for index, (name, text) in enumerate(plan.containers.items()):
            said = f"{name}  {text}" if text and text != name else name
            rows.append(_fact(number, label, said, "fg") if not index else _more(said))
        rows.append([])
    waiting = plan.waiting_for_it
    rows.append(
        _fact(len(waiting), "waits for it" if len(waiting) == 1 else "wait for it",
              f"{several(waiting)} {'is' if len(waiting) == 1 else 'are'} told that it was killed" if waiting
              else "no agent waits for an answer of it", "fg" if waiting else "muted")
    )  # fmt: skip
    flying = plan.calls_in_flight
    said = "settled from what was seen, marked estimated" if flying else "nothing to settle"
    rows.append(_fact(flying, "calls in flight", said, "warn" if flying else "muted"))
    rows.append([])
    rows.append(_fact(None, "kept", "output, calls, journal; files stay as they are", "fg"))
    untouched = (
        f"the {counted(plan.untouched, 'other agent')}" if plan.untouched else "there is no other agent"
    )
    rows.append(_fact(None, "not touched", untouched, "fg" if plan.untouched else "muted"))
    return rows


def _fact(number: int | None, label: str, text: str, ink: str) -> Row:
    count = "" if number is None else f"{number:,}"
    return [
        (count.rjust(4) + " ", "bright bold" if number else "muted"),
        (label.ljust(16), "label"),
        (clean(text), ink),
    ]


def _more(text: str) -> Row:
    return [(" " * 21, ""), (clean(text), "fg")]


def _tree(agent: AgentInfo, processes: Sequence[ProcessInfo], now: float, width: int) -> list[Row]:
    rows: list[Row] = []
    for lines, process, text in in_short(processes):
        left: Row = [("     ", ""), (lines, "muted"), (f"{process.pid} {text}", "fg")]
        right: Row = []
        if not lines:
            age = uptime(now - agent.started_at) if agent.started_at else "-"
            right = [column(agent.name, 12, "muted"), (f"{age:>8} {size(process.memory):>5}", "muted")]
        rows.append(_beside(left, right, width))
    return rows


def _beside(left: Row, right: Row, width: int) -> Row:
    """``right`` at the right edge; ``left`` is cut rather than pushing it out."""
    if not right:
        return left
    room = width - sum(len(text) for text, _ in right) - 1
    used = sum(len(text) for text, _ in left[:-1])
    text, ink = left[-1]
    if used + len(text) > room:
        left = [*left[:-1], (text[: max(0, room - used - 1)] + "…", ink)]
    return ends(left, right, width)
