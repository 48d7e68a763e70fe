"""Which host a reference means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import AgentTopError, AmbiguousAgent, NoSuchAgent, UsageError
from .host import Host
from .naming import Names, of_budgets

if TYPE_CHECKING:
    from ..api import AgentInfo, Outcome


class Routes:
    """The hosts by name, and the way from a reference to one of them."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.hosts = {host.label: host for host in hosts}
        several = len(hosts) > 1
        budgets = of_budgets(list(self.hosts))
        self.names = {
            label: Names(label, several, name) for label, name in zip(self.hosts, budgets, strict=True)
        }
        self.several = several

    @property
    def only(self) -> Host | None:
        """The host, where there is one only."""
        return None if self.several else next(iter(self.hosts.values()))

    async def split(self, ref: str) -> tuple[Host, str]:
        """The host a reference means, and the reference as that host knows it.

        Raises:
            NoSuchAgent: No host has it.
            AmbiguousAgent: Several have it.
            HostAway: It says no host, and one that may have it is away.
        """
        for label, names in self.names.items():
            if names.owns(ref):
                return self.hosts[label], names.bare(ref)
        if self.only is not None:
            return self.only, ref
        return await self._search(ref), ref

    async def group(self, refs: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, AgentTopError]]:
        """References by host, as the hosts know them; and those that mean none, with the error."""
        found: dict[str, list[str]] = {}
        wrong: dict[str, AgentTopError] = {}
        for ref in refs:
            try:
                host, bare = await self.split(ref)
            except AgentTopError as error:
                wrong[ref] = error
            else:
                found.setdefault(host.label, []).append(bare)
        return found, wrong

    def of_budget(self, name: str, target: str = "") -> Host:
        """The host a budget belongs to, by the agent it is for or by its own name.

        Raises:
            UsageError: Neither says which.
        """
        for label, names in self.names.items():
            if (target and names.owns(target)) or names.owns_budget(name):
                return self.hosts[label]
        if self.only is not None:
            return self.only
        begins = ", ".join(names.budget_name("NAME") for names in self.names.values())
        raise UsageError(
            f"it is not said on which host the budget {name} is", "Each host has its own", f"Say {begins}"
        )

    async def _search(self, ref: str) -> Host:
        """The one host that has an agent of this name, id or id prefix; none may be unable to say."""
        exact: list[Host] = []
        begins: list[Host] = []
        for host in self.hosts.values():
            agents = await host.client.agents(all=True, pids=False)
            if any(ref in (agent.id, agent.name) for agent in agents):
                exact.append(host)
            elif ref and any(_begins(agent, ref) for agent in agents):
                begins.append(host)
        found = exact or begins
        if not found:
            raise NoSuchAgent(f"no agent {ref!r}", "No host has it", "`agenttop ps --all` lists every agent")
        if len(found) > 1:
            raise AmbiguousAgent(
                f"{ref} is on several hosts", hint=f"Say {' or '.join(f'{h.label}/{ref}' for h in found)}"
            )
        return found[0]


def _begins(agent: AgentInfo, ref: str) -> bool:
    return agent.id.startswith(ref)


def in_order(refs: Sequence[str], done: Sequence[tuple[str, Sequence[Outcome]]]) -> list[Outcome]:
    """Outcomes of several hosts (by the reference each is about) in the order of ``refs``.

    What has no reference of its own, a child say, stays behind the outcome it came after.
    """
    places = {ref: number for number, ref in enumerate(refs)}
    placed: list[tuple[int, Outcome]] = []
    for _, outcomes in done:
        place = len(refs)
        for outcome in outcomes:
            place = places.get(outcome.ref, place)
            placed.append((place, outcome))
    placed.sort(key=lambda pair: pair[0])
    return [outcome for _, outcome in placed]
