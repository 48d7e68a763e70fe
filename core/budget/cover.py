"""Which budgets cover an agent. Worked out once per agent and remembered until something about it changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from .budget import Budget
from .state import BudgetState, Kin

if TYPE_CHECKING:
    from ..agents.agent import Fleet

FLEET_LABEL = "agenttop.fleet"
"""In a label selector: the fleet file that declared an agent, as ``fleet_label`` writes it."""


def fleet_label(path: str) -> str:
    """A fleet file's path as it stands in a label selector, where commas part its terms."""
    return quote(path, safe="/ ~")


def line(kin: Mapping[str, Kin], agent: str) -> Iterator[str]:
    """The agent, its parent, and so on upwards; removed ones too."""
    seen = {agent}
    yield agent
    above = kin[agent].parent if agent in kin else None
    while above is not None and above not in seen:
        seen.add(above)
        yield above
        above = kin[above].parent if above in kin else None


class Traits(NamedTuple):
    """What of an agent decides about the budgets over it, beside its family."""

    template: str | None
    owner: str
    labels: Mapping[str, str]
    fleet: str | None


def fits(budget: Budget, traits: Traits) -> bool:
    """Whether a budget that is not on a single agent covers one with these traits."""
    match budget.scope:
        case "fleet":
            return True
        case "template":
            return traits.template == budget.target
        case "owner":
            return traits.owner == budget.target
        case "label":
            return all(
                traits.labels.get(key) == value
                if key != FLEET_LABEL
                else traits.fleet is not None and fleet_label(traits.fleet) == value
                for key, value in budget.labels().items()
            )
        case _:
            return False


class Cover:
    """The budgets of each agent, by name, in the order they were made. Not a fact: never stored.

    Whoever changes budgets, or what they go by, says so: ``added``, ``dropped``, ``forget``.
    """

    __slots__ = ("_by_agent", "_known", "_places", "_wide")

    def __init__(self) -> None:
        self._by_agent: dict[str, dict[str, None]] = {}
        self._wide: dict[str, None] | None = None
        self._known: dict[str, tuple[str, ...]] = {}
        self._places: dict[str, tuple[tuple[BudgetState, str], ...]] = {}

    def places(self, fleet: Fleet, agent_id: str) -> tuple[tuple[BudgetState, str], ...]:
        """The budgets that cover an agent, each with the key of the account that counts there."""
        found = self._places.get(agent_id)
        if found is None:
            names = self.of(fleet, agent_id)
            states = (fleet.budgets[name] for name in names)
            found = tuple((state, agent_id if state.per_agent else "") for state in states)
            if agent_id in fleet.agents:
                self._places[agent_id] = found
        return found

    def of(self, fleet: Fleet, agent_id: str) -> tuple[str, ...]:
        """Names of the budgets that cover an agent; none for one that is gone."""
        found = self._known.get(agent_id)
        if found is None:
            if agent_id not in fleet.agents:
                return ()
            found = self._known[agent_id] = tuple(self._find(fleet, agent_id))
        return found

    def on(self, fleet: Fleet, agent_id: str) -> tuple[str, ...]:
        """Names of the budgets whose target is this very agent."""
        self._index(fleet)
        return tuple(self._by_agent.get(agent_id, ()))

    def _find(self, fleet: Fleet, agent_id: str) -> Iterator[str]:
        agent = fleet.agents[agent_id]
        for member in line(fleet.kin, agent_id):
            yield from self.on(fleet, member)
        traits = Traits(agent.spec.template, agent.owner, agent.spec.labels, agent.fleet)
        for name in self._index(fleet):
            if fits(fleet.budgets[name].budget, traits):
                yield name

    def _index(self, fleet: Fleet) -> dict[str, None]:
        if self._wide is None:
            self._wide = {}
            for state in fleet.budgets.values():
                self._put(state.budget)
        return self._wide

    def _put(self, budget: Budget) -> None:
        assert self._wide is not None
        if budget.scope == "agent":
            self._by_agent.setdefault(budget.target, {})[budget.name] = None
        else:
            self._wide[budget.name] = None

    def added(self, budget: Budget) -> None:
        """A budget was made."""
        if self._wide is not None:
            self._put(budget)
        self.forget()

    def dropped(self, budget: Budget) -> None:
        """A budget was removed, or is about to be replaced."""
        if self._wide is not None:
            self._wide.pop(budget.name, None)
        if (names := self._by_agent.get(budget.target)) is not None:
            names.pop(budget.name, None)
            if not names:
                del self._by_agent[budget.target]
        self.forget()

    def forget(self, agent_id: str | None = None) -> None:
        """An agent (``None``: any of them) changed in what budgets go by."""
        if agent_id is None:
            self._known.clear()
            self._places.clear()
        else:
            self._known.pop(agent_id, None)
            self._places.pop(agent_id, None)
