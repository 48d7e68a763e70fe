"""A new budget, or another shape for one there is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, ClassVar

from pydantic import ValidationError
from textual.binding import Binding, BindingType

from agenttop.core.api import BudgetRequest
from agenttop.core.budget.budget import Budget
from agenttop.core.budget.short import parse_short
from agenttop.core.errors import AgentTopError, UsageError

from ..budgets import amounts, covers
from ..format import clean
from ..model import ENDED
from ..widgets.dialog import Chip
from ..widgets.fields import Choose, Field, Option, Text
from ..widgets.form_dialog import FormDialog
from ..widgets.paper import Row, counted, rule, several, wrapped
from .launch import free_name

if TYPE_CHECKING:
    from agenttop.core.api import BudgetInfo
    from agenttop.core.api import Row as FleetRow

SCOPES = ("agent", "template", "label", "owner", "fleet")
PERIODS = ("task", "hour", "day", "total")
KINDS = ("calendar", "rolling")
ACTIONS = {
    "ask": "its calls are held until you have answered",
    "deny": "its calls are refused",
    "freeze": "its agents are frozen",
    "kill": "its agents are killed without asking",
}
TARGETS = {
    "agent": "a name or an id; its whole subtree is covered",
    "template": "a template's name, as claude",
    "label": "as team=api; with commas between several",
    "owner": "a user's name",
    "fleet": "every agent of this kernel",
}


def budget(values: Mapping[str, str]) -> Budget:
    """The budget that the form describes.

    Raises:
        UsageError: A value cannot be; the message names the field.
    """
    scope, period = values.get("scope", "agent"), values.get("window", "total")
    fields: dict[str, object] = {
        "name": values.get("name", "").strip(),
        "scope": scope,
        "target": "" if scope == "fleet" else values.get("target", "").strip(),
        "usd": _usd(values.get("usd", "")),
        "tokens": _tokens(values.get("tokens", "")),
        "window": period,
        "rolling": values.get("rolling") == "rolling" and period in ("hour", "day"),
        "zone": values.get("zone", "").strip(),
        "soft": _percent(values.get("soft", "80")),
        "action": values.get("action", "ask"),
    }
    try:
        return Budget.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        said = said[:1].upper() + said[1:]
        raise UsageError(f"{where.capitalize() or 'This budget'} cannot be used", said) from error


def _usd(text: str) -> Decimal | None:
    text = text.strip().lstrip("$").strip()
    if text in ("", "-"):
        return None
    try:
        found = Decimal(text)
    except InvalidOperation as error:
        raise UsageError(
            "Usd cannot be used", f"{clean(text)} is not an amount", "12.50, or nothing"
        ) from error
    if not found.is_finite() or found <= 0:
        raise UsageError("Usd cannot be used", "A limit is more than nothing", "Remove the budget instead")
    return found


def _tokens(text: str) -> int | None:
    text = text.strip()
    if text in ("", "-"):
        return None
    try:
        fields = parse_short(f"{text} tokens")
    except ValueError as error:
        raise UsageError("Tokens cannot be used", f"{clean(text)} is not an amount", "500k, 2M") from error
    assert isinstance(fields, dict)
    return int(fields["tokens"])


def _percent(text: str) -> float:
    try:
        found = float(text.strip().rstrip("%") or "80") / 100
    except ValueError as error:
        raise UsageError("Warn at cannot be used", f"{clean(text)} is not a number", "80") from error
    return found


def covered(values: Mapping[str, str], rows: Iterable[FleetRow]) -> list[FleetRow]:
    """The live agents of the table that such a budget would cover now."""
    rows = [row for row in rows if not row.observed and row.state not in ENDED]
    scope, target = values.get("scope", ""), values.get("target", "").strip()
    if scope == "fleet":
        return rows
    if not target:
        return []
    if scope == "agent":
        top = {row.id for row in rows if target in (row.name, row.id)} or {
            row.id for row in rows if row.id.startswith(target)
        }
        while more := {row.id for row in rows if row.parent in top} - top:
            top |= more
        return [row for row in rows if row.id in top]
    if scope == "template":
        return [row for row in rows if row.template == target]
    if scope == "owner":
        return [row for row in rows if row.owner == target]
    wanted = [pair.strip() for pair in target.split(",")]
    return [row for row in rows if all(f",{pair}," in f",{row.labels}," for pair in wanted)]


class BudgetScreen(FormDialog[str]):
    """The form. With ``info`` it changes that budget; with ``agent`` the agent's own, or makes one.

    Closes with the budget's name. It stays as it is when the kernel refuses.
    """

    WIDTH = 92
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "set", show=False, priority=True),
    ]

    def __init__(
        self,
        info: BudgetInfo | None = None,
        *,
        agent: FleetRow | None = None,
        given: Mapping[str, str] | None = None,
        at: str = "",
    ) -> None:
        super().__init__()
        self.info = info
        self.agent = agent
        self.given = dict(given or {})
        self.at = at
        self.known: list[BudgetInfo] = []
        self.inputs: dict[str, Field] = {}
        self._fill()

    def _fill(self) -> None:
        old = self.info.budget if self.info is not None else None
        target = self.agent.name if self.agent is not None else ""
        scope = "agent" if self.agent is not None else "fleet"
        values = {
            "name": old.name if old else "", "scope": old.scope if old else scope,
            "target": old.target if old else target,
            "usd": "" if old is None or old.usd is None else f"{old.usd.normalize():f}",
            "tokens": "" if old is None or old.tokens is None else str(old.tokens),
            "window": old.window if old else "day",
            "rolling": "rolling" if old and old.rolling else "calendar",
            "soft": f"{100 * old.soft:g}" if old else "80", "action": old.action if old else "ask",
            "zone": old.zone if old else "",
        }  # fmt: skip
        if old is not None and self.info is not None and old.scope == "agent" and self.info.target_name:
            values["target"] = self.info.target_name
        values |= self.given
        self.inputs = {
            "name": Text("name", "Name", clean(values["name"]), cells=24, off=old is not None),
            "scope": Choose("scope", "Covers", list(map(Option, SCOPES)), values["scope"], chips=True),
            "target": Text("target", "Which", clean(values["target"]), cells=24),
            "usd": Text("usd", "USD", values["usd"], cells=12),
            "tokens": Text("tokens", "Tokens", values["tokens"], cells=12, note="500k, 2M; empty: no limit"),
            "window": Choose("window", "Per", list(map(Option, PERIODS)), values["window"], chips=True),
            "rolling": Choose("rolling", "Window", list(map(Option, KINDS)), values["rolling"]),
            "zone": Text("zone", "Time zone", clean(values["zone"]), note="empty: the kernel's own"),
            "soft": Text("soft", "Warn at", values["soft"], cells=6, note="% spent"),
            "action": Choose("action", "On breach", list(map(Option, ACTIONS)), values["action"], chips=True),
        }  # fmt: skip

    @property
    def values(self) -> dict[str, str]:
        """What was typed and chosen."""
        found = {name: field.value for name, field in self.inputs.items()}
        if not found["name"].strip() and self.info is None:
            found["name"] = self._proposal(found)
        return found

    def _proposal(self, values: Mapping[str, str]) -> str:
        words = values["target"].strip() or values["scope"]
        kept = "".join(char if char.isalnum() or char in "_.-" else "-" for char in words).strip("_.-")
        return free_name(kept[:40] or "budget", [info.budget.name for info in self.known])

    def on_mount(self) -> None:
        """Show the form at once; what budgets there are when the kernel has told."""
        self._lay_out()
        self._go_to(self.at)
        self.form.focus()
        self.run_worker(self._ask())

    async def _ask(self) -> None:
        try:
            self.known = await self.client.budgets()
        except AgentTopError as error:
            self.error = str(error)
        own = [
            info for info in self.known
            if self.agent is not None and info.source == "person"
            and info.budget.scope == "agent" and info.budget.target == self.agent.id
        ]  # fmt: skip
        typed = any(self.inputs[name].value for name in ("name", "usd", "tokens")) and not self.given
        if own and self.info is None and not typed:
            self.info = own[0]
            self._fill()
            self._lay_out()
            self._go_to("usd")
        self._changed()

    # --- what is shown ------------------------------------------------------------------------

    def _lay_out(self) -> None:
        self._notes()
        names = ["name", "scope", "target", "", "usd", "tokens", "window", "rolling", "zone", "soft", "",
                 "action"]  # fmt: skip
        roomy = self.size.height >= 30
        fields = [self.inputs[name] if name else None for name in names if name or roomy]
        self.form.set(fields, self._tail(roomy))
        title = "New budget" if self.info is None else f"Budget {clean(self.info.budget.name)}"
        self.head(title, covers(self.info) if self.info is not None else "")
        self.fit()

    def _notes(self) -> None:
        values = self.values
        scope, period = values["scope"], values["window"]
        taken = values["name"] in {info.budget.name for info in self.known}
        if self.info is None:
            self.inputs["name"].note = (
                "taken: this replaces it" if taken else "" if self.inputs["name"].value.strip()
                else f"left empty: {values['name']}"
            )  # fmt: skip
        self.inputs["target"].off = scope == "fleet"
        self.inputs["target"].note = TARGETS[scope]
        self.inputs["rolling"].off = period not in ("hour", "day")
        self.inputs["zone"].off = self.inputs["rolling"].off or values["rolling"] == "rolling"
        usd = self.inputs["usd"]
        usd.note = "as 12.50; empty: no limit in money"
        if self.info is not None and self.info.limit_usd is not None and self.info.budget.usd is not None:
            more = self.info.limit_usd - float(self.info.budget.usd)
            if more > 0.004:
                usd.note = f"extended by {more:.2f} until the window ends"

    def _tail(self, roomy: bool) -> list[Row]:
        width = self.inner_width
        values = self.values
        blank: list[Row] = [[]] if roomy else []
        action = values["action"]
        rows: list[Row] = [*blank, rule("When it is used up", width)]
        rows.append([(f" {ACTIONS[action]}", "bad bold" if action == "kill" else "fg")])
        found = self._covered(values)
        names = f": {several(found)}" if found else ""
        rows.append([(f" Covers {counted(len(found), 'live agent')} now{names}", "muted")])
        if self.info is not None:
            of = amounts(self.info)
            rows.append([(f" Spent {of.say(of.spent)} of {of.say(of.limit)}", "muted")])
        if self.error:
            rows += wrapped(self.error, width - 2, "bad bold", 1)
        elif self.busy:
            rows.append([(" Setting it", "warn bold")])
        return rows

    def _covered(self, values: Mapping[str, str]) -> list[str]:
        """Names of the agents it covers: as the kernel says, where the form has the same target still."""
        known = self.shell.model.rows
        if self.info is not None:
            old = self.info.budget
            same = values["target"].strip() in (old.target, self.info.target_name)
            if values["scope"] == old.scope and (same or old.scope == "fleet"):
                return [known[key].name if key in known else key for key in self.info.agents]
        return [row.name for row in covered(values, known.values())]

    def chips(self) -> Sequence[Chip]:
        """Set it, or not."""
        verb = "Make it" if self.info is None else "Change it"
        return (Chip("Enter", verb, "good bold"), Chip("Tab", "Next field"), Chip("Esc", "Cancel"))

    # --- keys ---------------------------------------------------------------------------------

    def _go_to(self, name: str) -> None:
        for _ in range(len(self.inputs)):
            if not name or self.form.focus_id == name:
                return
            self.form.go(1)

    def action_set(self) -> None:
        """Set it; what is wrong is said here, and nothing typed is lost."""
        if self.busy:
            return
        try:
            wanted = budget(self.values)
        except AgentTopError as error:
            self._refused(error)
            return
        self.busy, self.error = True, ""
        self._lay_out()
        self.run_worker(self._set(wanted))

    async def _set(self, wanted: Budget) -> None:
        try:
            info = await self.client.set_budget(BudgetRequest(budget=wanted))
        except AgentTopError as error:
            self._refused(error)
            return
        of = amounts(info)
        kind = "" if of.usd else " tokens"
        text = f"{covers(info)}, {of.say(of.limit)}{kind} a {info.budget.window}"
        text = text.replace("a total", "in total").replace("a hour", "an hour")
        self.shell.toast(f"Budget {clean(info.budget.name)} is set", text, "good")
        self.dismiss(info.budget.name)

    def _refused(self, error: AgentTopError) -> None:
        self.busy, self.error = False, str(error)
        self._lay_out()
        self.form.action_scroll_to_row(len(self.form.rows))
