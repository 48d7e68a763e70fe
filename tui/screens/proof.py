"""The proof of a kill: one line per check with its evidence; what survived stands above, in red."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from textual.binding import Binding, BindingType

from agenttop.core.api import AgentInfo, EventInfo, Outcome, Target
from agenttop.core.errors import AgentTopError, from_dict

from ..format import clean, clock
from ..verbs import sentences
from ..widgets.dialog import Chip, Dialog, client_of
from ..widgets.paper import Paper, Row, several


def failed(outcome: Outcome) -> str:
    """The error of an outcome, as stderr would have it."""
    return str(from_dict(outcome.error)) if outcome.error else ""


class Checked(NamedTuple):
    """One line of the proof."""

    agent: str
    ts: float | None
    what: str
    evidence: str
    ok: bool


class Proof(NamedTuple):
    """What the outcomes of a kill prove, together."""

    processes: int
    ended: int
    survivors: tuple[tuple[str, int], ...]
    checks: tuple[Checked, ...]
    errors: tuple[tuple[str, str], ...]
    idle: tuple[str, ...]
    """Agents that had nothing running."""

    @property
    def killed(self) -> bool:
        """Whether nothing is left."""
        return not self.survivors and not self.errors and self.ended == self.processes


def proof(outcomes: Sequence[Outcome]) -> Proof:
    """Join what was proven for each agent."""
    processes = ended = 0
    survivors: list[tuple[str, int]] = []
    checks: list[Checked] = []
    errors: list[tuple[str, str]] = []
    idle: list[str] = []
    for outcome in outcomes:
        name = clean(outcome.name or outcome.ref)
        if outcome.error:
            errors.append((name, failed(outcome)))
        found = outcome.proof
        if not found:
            if not outcome.error:
                idle.append(name)
            continue
        processes += int(found.get("processes") or 0)
        ended += int(found.get("ended") or 0)
        survivors += [(name, int(pid)) for pid in found.get("survivors") or ()]
        checks += [_checked(name, step) for step in found.get("steps") or ()]
        if not found.get("steps"):
            text = f"{found.get('ended')}/{found.get('processes')} processes ended"
            checks.append(Checked(name, None, text, f"by {found.get('mechanism') or 'signal'}", True))
    checks.sort(key=lambda check: float("inf") if check.ts is None else check.ts)
    return Proof(processes, ended, tuple(survivors), tuple(checks), tuple(errors), tuple(idle))


def _checked(name: str, step: Any) -> Checked:
    if isinstance(step, dict):
        return Checked(name, step.get("ts"), str(step.get("what", "")), str(step.get("evidence", "")),
                       bool(step.get("ok", True)))  # fmt: skip
    ts, what, evidence, ok = (*step, True)[:4]
    return Checked(name, ts, str(what), str(evidence), bool(ok))


def rows(found: Proof, width: int, ok: str = "✓") -> list[Row]:
    """The body of the dialog."""
    good = "good" if found.killed else "bad"
    left = len(found.survivors)
    lines: list[Row] = []
    for name, pid in found.survivors:
        lines.append([(" ✗ ", "bad bold"), (f"process {pid} of {name} is still there", "bad bold")])
    for name, error in found.errors:
        lines.append([(" ✗ ", "bad bold"), (f"{name}: ", "bad bold"), (clean(error), "bad")])
    if lines:
        lines.append([])
    lines.append([
        (f" {found.ended}/{found.processes}", f"{good} bold"), (" processes ended   ", "fg"),
        (f"{left}", f"{'bad' if left else 'good'} bold"), (" survivor" if left == 1 else " survivors", "fg"),
    ])  # fmt: skip
    lines.append([(" " + "━" * max(1, width - 2), good)])
    lines.append([])
    lines += _table(found.checks, width, ok)
    for name in found.idle:
        lines.append([(f" {ok} ", "good"), (f"{name} had no process", "muted")])
    return lines


def _table(checks: Sequence[Checked], width: int, ok: str) -> list[Row]:
    """What was done, and the evidence beside it, or below where one of them does not fit."""
    several = len({check.agent for check in checks}) > 1
    names = min(16, max((len(check.agent) for check in checks), default=0)) + 2 if several else 0
    wide = max((len(clean(check.what)) for check in checks), default=0) + 2
    indent = 3 + 14 + names
    beside = all(indent + wide + len(clean(check.evidence)) <= width for check in checks)
    lines: list[Row] = []
    for check in checks:
        row: Row = [(f" {ok if check.ok else '✗'} ", "good" if check.ok else "bad bold")]
        row.append((f"{_moment(check.ts)}  ", "muted"))
        row.append((check.agent[: names - 2].ljust(names) if names else "", "label"))
        what, evidence = clean(check.what), clean(check.evidence)
        row.append((what.ljust(wide) if beside else what, "fg" if check.ok else "bad bold"))
        if beside:
            row.append((evidence, "muted"))
        lines.append(row)
        if evidence and not beside:
            lines.append([(" " * indent, ""), (evidence, "muted")])
    return lines


def _moment(ts: float | None) -> str:
    return " " * 12 if ts is None else f"{clock(ts)}.{int(ts % 1 * 1000):03d}"


class ProofScreen(Dialog[None]):
    """Shows what a kill did, checked process by process."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "close", show=False),
        Binding("e", "events", show=False),
        Binding("r", "again", show=False),
        Binding("up", "scroll(-1)", show=False),
        Binding("down", "scroll(1)", show=False),
        Binding("pageup", "scroll(-10)", show=False),
        Binding("pagedown", "scroll(10)", show=False),
    ]

    def __init__(
        self, outcomes: Sequence[Outcome], agents: Sequence[AgentInfo], began: float, ended: float
    ) -> None:
        super().__init__()
        self.outcomes = list(outcomes)
        self.agents = list(agents)
        self.began, self.ended = began, ended
        self.found = proof(outcomes)
        self.events: list[EventInfo] = []
        self.show_events = False

    def on_mount(self) -> None:
        """Say it, then ask the journal where it is written."""
        self._show()
        self.run_worker(self._read_events())

    @property
    def ids(self) -> list[str]:
        """The agents this is about."""
        return [outcome.id for outcome in self.outcomes if outcome.id]

    async def _read_events(self) -> None:
        try:
            events = await self.client.last_events(200, self.ids)
        except AgentTopError:
            return  # The proof stands without its place in the journal.
        self.events = [event for event in events if event.ts >= self.began - 1]
        self._show()
        self.fit()

    def _show(self) -> None:
        names = several([outcome.name or outcome.ref for outcome in self.outcomes])
        killed = self.found.killed
        title = f"Killed  {names}" if killed else f"{names}: not killed"
        if killed and not self.found.checks:
            title = f"Nothing was running  {names}"
        self.head(title, f"{self.ended - self.began:.1f} s", "good" if killed else "bad")
        lines: list[Row] = [[], *rows(self.found, self.inner_width)]
        if self.events:
            first, last = self.events[0].seq, self.events[-1].seq
            lines += [[], [(" Proof", "label"), (f"  events {first:,} to {last:,} of the journal", "fg")]]
        if self.show_events:
            lines += [[(f"   {event.seq:>8,}  ", "muted"), (f"{clock(event.ts)}  ", "muted"),
                       (clean(event.text or event.kind), "fg")] for event in self.events]  # fmt: skip
        self.query_one("#paper", Paper).show(lines)

    def fit(self) -> None:
        """The evidence goes below where it does not fit beside."""
        super().fit()
        self._show()
        super().fit()

    def chips(self) -> Sequence[Chip]:
        """What one can do after a kill."""
        runs = [agent.run or 0 for agent in self.agents if agent.id in set(self.ids)]
        again = f"Start again as run {runs[0] + 1}" if len(runs) == 1 else "Start again"
        events = "Hide the events" if self.show_events else "Show the events"
        return (
            Chip("Enter", "Close"),
            Chip("e", events, off=not self.events),
            Chip("r", again, off=bool(self.found.survivors)),
        )

    def action_events(self) -> None:
        """Show or hide the journal's rows."""
        if self.events:
            self.show_events = not self.show_events
            self._show()
            self.fit()

    def action_scroll(self, lines: int) -> None:
        """Scroll the proof."""
        self.query_one("#paper", Paper).action_scroll_by(lines)

    def action_again(self) -> None:
        """Start a new run of what was killed."""
        if not self.found.survivors:
            self.app.run_worker(self._again(), group="kill")
            self.dismiss(None)

    async def _again(self) -> None:
        shell, ids = self.shell, self.ids
        try:
            outcomes = await client_of(shell).restart(Target(refs=ids))
        except AgentTopError as error:
            shell.toast(*sentences(error), "error")
            return
        shell.verbs.report("started again", outcomes)
