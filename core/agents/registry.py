"""Finding agents: by name, id or id prefix; their trees; new ids and names."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence

from ..errors import AgentTopError, AmbiguousAgent, NoSuchAgent
from .agent import Agent, Fleet
from .spec import NAME


def resolve(fleet: Fleet, ref: str) -> Agent:
    """The agent meant by ``ref``: an exact name, an exact id, or the prefix of one id.

    Raises:
        NoSuchAgent: Nothing fits.
        AmbiguousAgent: A prefix that fits several ids.
    """
    if agent := fleet.agents.get(ref):
        return agent
    if (key := fleet.names.get(ref)) is not None:
        return fleet.agents[key]
    found = [agent for key, agent in fleet.agents.items() if key.startswith(ref)] if ref else []
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(f"{agent.id} {agent.name}" for agent in found[:5])
        raise AmbiguousAgent(f"{ref} is the beginning of {len(found)} ids", listed, "Give more characters")
    shown = ref if ref and ref.isprintable() else repr(ref)
    raise NoSuchAgent(f"no agent {shown[:80]}", "", "`agenttop ps --all` lists every agent")


def select(
    fleet: Fleet, refs: Sequence[str], *, all: bool = False, children: bool = False
) -> list[tuple[str, Agent | AgentTopError]]:
    """Every reference with its agent or its error, in the order given, no agent twice."""
    chosen: list[tuple[str, Agent | AgentTopError]] = []
    seen: set[str] = set()
    refs = [agent.id for agent in fleet.agents.values() if not agent.over] if all else refs
    for ref in refs:
        try:
            agent = resolve(fleet, ref)
        except AgentTopError as error:
            chosen.append((ref, error))
            continue
        for member in (agent, *descendants(fleet, agent.id)) if children else (agent,):
            if member.id not in seen:
                seen.add(member.id)
                chosen.append((ref if member is agent else member.name, member))
    return chosen


def children(fleet: Fleet, parent: str) -> list[Agent]:
    """The agents whose parent this is."""
    return [agent for agent in fleet.agents.values() if agent.spec.parent == parent]


def descendants(fleet: Fleet, parent: str) -> list[Agent]:
    """Children, grandchildren and so on, parents first."""
    found: list[Agent] = []
    seen = {parent}
    level = [parent]
    while level:
        below = [
            agent for agent in fleet.agents.values() if agent.spec.parent in level and agent.id not in seen
        ]
        seen.update(agent.id for agent in below)
        found += below
        level = [agent.id for agent in below]
    return found


def new_id(taken: Collection[str]) -> str:
    """A short random id; it grows where four digits become crowded."""
    width = 4 if len(taken) < 8_000 else 6
    while True:
        candidate = secrets.token_hex(width // 2)
        # An id that reads as a decimal number is mistaken for a pid, and one like 12e4 for a float.
        if candidate not in taken and not candidate.replace("e", "").isdecimal():
            return candidate


def free_name(fleet: Fleet, wanted: str) -> str:
    """``wanted``, or ``wanted-2``, ``wanted-3``, … if it is taken."""
    taken = fleet.names
    if wanted not in taken:
        return wanted
    stem = wanted[: 63 - 7]
    number = 2
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"


def proposed_name(command: Sequence[str], template: str | None) -> str:
    """A name for an agent that was given none: its template's, else its program's."""
    base = template or (command[0].rsplit("/", 1)[-1] if command else "agent")
    name = "".join(char if char.isalnum() or char in "_.-" else "-" for char in base).strip("-._")[:40]
    return name if name and NAME.fullmatch(name) else "agent"
