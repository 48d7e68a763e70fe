"""Who may write to whom: ordered rules, of which the first that fits decides; where none does: yes.

Rules are about agents. People are not bound by them, since they write them, and whoever was asked may
answer. Whether a rule fits is remembered per pair until an agent's declaration changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ..agents.agent import Agent
from ..bus.message import BROADCAST, REPLY, TOPIC
from ..bus.topics import Topics
from ..errors import Forbidden
from .settings import RuleTable

#: Decisions that are remembered.
_REMEMBERED = 50_000


class _Rule(NamedTuple):
    number: int
    table: RuleTable
    topics: Topics[int]


class Rules:
    """Decides by ``[[bus.rules]]``; ``agent`` gives an agent by its id, ``called`` a mailbox's shown name."""

    def __init__(
        self,
        tables: Sequence[RuleTable],
        agent: Callable[[str], Agent | None],
        called: Callable[[str], str],
    ) -> None:
        self._agent = agent
        self._called = called
        self._rules = [_Rule(number, table, _patterns(table)) for number, table in enumerate(tables, 1)]
        self._known: dict[tuple[str, str, str, str], int] = {}

    def forget(self) -> None:
        """An agent was made, changed or removed: labels and names may be others."""
        self._known.clear()

    def permit(self, sender: str, mode: str, to: str, type_: str) -> None:
        """What ``Bus`` asks before a message is accepted.

        Raises:
            Forbidden: Rule so-and-so says no.
        """
        if not self._rules or sender.startswith("@") or mode in (REPLY, BROADCAST):
            return
        if denied := self._denied(sender, mode, to, type_):
            whom = f"topic {to}" if mode == TOPIC else self._called(to)
            raise Forbidden(
                f"{self._called(sender)} may not send {type_} to {whom}",
                f"Rule {denied} of [[bus.rules]] says so",
                "Ask the person who started you",
            )

    def spared(self, sender: str, type_: str, everybody: Iterable[str]) -> frozenset[str]:
        """Who is left out when ``sender`` writes to everybody."""
        if not self._rules or sender.startswith("@"):
            return frozenset()
        return frozenset(to for to in everybody if self._denied(sender, "", to, type_))

    def _denied(self, sender: str, mode: str, to: str, type_: str) -> int:
        """The number of the rule that denies it, or 0."""
        key = (sender, mode if mode == TOPIC else "", to, type_)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[key] = self._decide(*key)
        return found

    def _decide(self, sender: str, mode: str, to: str, type_: str) -> int:
        for number, table, topics in self._rules:
            if type_ not in table.type and "*" not in table.type:
                continue
            if not any(self._fits(party, sender) for party in table.who):
                continue
            if mode == TOPIC:
                fits = "*" in table.to or bool(topics.subscribers(to))
            else:
                fits = any(self._fits(party, to) for party in table.to)
            if fits:
                return number if table.action == "deny" else 0
        return 0

    def _fits(self, party: str, mailbox: str) -> bool:
        if party == "*" or party == mailbox:
            return True
        agent = self._agent(mailbox)
        if agent is None:
            return False
        kind, colon, rest = party.partition(":")
        if not colon:
            return agent.name == party
        if kind == "label":
            label, _, value = rest.partition("=")
            return agent.spec.labels.get(label) == value
        return kind == "template" and agent.spec.template == rest


def _patterns(table: RuleTable) -> Topics[int]:
    topics: Topics[int] = Topics()
    for party in table.to:
        if party.startswith("topic:"):
            topics.add(party.removeprefix("topic:"), 0)
    return topics
