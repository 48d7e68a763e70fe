"""The trees of observed agents at rest: which processes they are, what these use, whether they are stopped.

One file is read per process and look; nothing is opened for those that are no observed agent's.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import NamedTuple

from ..agents.sampler import Load, round_bytes
from .proc import PAGE, TICKS, Census, Key, Stat, held, stat
from .watch import Observed, tree


class Tree(NamedTuple):
    """One observed agent's processes now, parents first."""

    processes: tuple[Stat, ...]
    load: Load
    stopped: int
    """How many of them run no instruction until somebody lets them go on."""
    nice: int
    """Of the topmost process."""

    @property
    def pids(self) -> list[int]:
        """Every live pid."""
        return [process.pid for process in self.processes]

    @property
    def keys(self) -> set[Key]:
        """Pids with their start times."""
        return {process.key for process in self.processes}


NO_TREE = Tree((), Load(), 0, 0)


class _Known(NamedTuple):
    when: float
    members: dict[Key, Stat]
    tree: Tree


class Gauges:
    """Keeps what it needs between looks; call from one thread at a time."""

    def __init__(self, census: Census, proc: str = "/proc") -> None:
        self._census = census
        self._proc = proc
        self._known: dict[str, _Known] = {}

    def look(
        self,
        agents: Iterable[Observed],
        now: float,
        most: int | None = None,
        always: Collection[str] = (),
    ) -> dict[str, Tree]:
        """The trees of these agents, by id. Those that are not asked for any more are forgotten.

        Args:
            now: Monotonic seconds.
            most: So many at most are looked at again, those first that were not for the longest time; the
                others are as they were.
            always: Ids of those that are looked at again in any case.
        """
        agents = list(agents)
        before, self._known = self._known, {}
        turn = sorted(agents, key=lambda agent: before[agent.id].when if agent.id in before else -1.0)
        fresh = [agent for agent in agents if agent.id not in before]
        again = {agent.id for agent in (turn if most is None else turn[: max(most, len(fresh))])} | {*always}
        for agent in agents:
            old = before.get(agent.id)
            if old is not None and agent.id not in again:
                self._known[agent.id] = old
                continue
            members = self._tree(agent, old.members if old else {})
            self._known[agent.id] = _Known(now, members, self._measured(members, old, now))
        return {key: known.tree for key, known in self._known.items()}

    def _tree(self, agent: Observed, old: dict[Key, Stat]) -> dict[Key, Stat]:
        """What descends from the CLI's processes, and what did and lost its parent.

        Not in it: this kernel and what it started, wherever it was started itself; and what has put itself
        into a session of its own and away from its parent, as servers do that are meant to stay.
        """
        pids = tree(agent, self._without_us())
        sessions = {process.session for process in old.values() if process.pid == agent.main.pid}
        members: dict[Key, Stat] = {}
        for pid in pids:
            if (process := stat(pid, self._proc)) is not None and process.alive:
                members[process.key] = process
        for key in old.keys() - members.keys():
            process = stat(key[0], self._proc)
            if process is not None and process.key == key and process.alive and process.session in sessions:
                members[key] = process
        return members

    def _without_us(self) -> dict[int, set[int]]:
        own, children = os.getpid(), self._census.children
        parent = self._census.parents.get(own)
        if parent is None or own not in children.get(parent, ()):
            return children
        return {**children, parent: children[parent] - {own}}

    def _measured(self, members: dict[Key, Stat], old: _Known | None, now: float) -> Tree:
        cpu = None
        if old is not None and now > old.when:
            before = old.members
            ticks = sum(p.ticks - (before[key].ticks if key in before else 0) for key, p in members.items())
            cpu = round(100 * ticks / TICKS / (now - old.when), 1)
        processes = tuple(members.values())
        memory = round_bytes(PAGE * sum(process.pages for process in processes))
        return Tree(
            processes,
            Load(cpu, memory, len(processes)),
            sum(held(process, self._proc) for process in processes),
            processes[0].nice if processes else 0,
        )
