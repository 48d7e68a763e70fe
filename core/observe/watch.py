"""The agents that run here and are nobody's: processes joined to sessions, and what those say now."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import NamedTuple

from .contract import Activity, Found, Observer, Oddities, Session, Tail, View
from .processes import Processes, agents

#: Every how many rounds all processes are joined to their sessions again (/clear, resumed sessions).
REJOIN = 5


class Observed(NamedTuple):
    """One observed agent."""

    id: str
    """The same as long as its process lives, and in every kernel: made of boot, pid and start time."""
    observer: str
    processes: tuple[Found, ...]
    """The CLI's own, the topmost first; with their start times, so that no stranger is signalled."""
    session: Session | None
    view: View | None
    parent: str | None
    """Id of the observed agent that started it."""

    @property
    def main(self) -> Found:
        """The topmost process: the tree below it is the agent's."""
        return self.processes[0]


class _Agent:
    def __init__(self, identity: str) -> None:
        self.id = identity
        self.session: Session | None = None
        self.tail: Tail | None = None
        self.servers: set[int] = set()


class Watch:
    """Looks again and again. Blocks while it does: call it off the event loop, from one thread at a time."""

    def __init__(self, observers: Mapping[str, Observer], boot_id: str, proc: str = "/proc") -> None:
        self._observers = observers
        self._boot = boot_id
        self._proc = proc
        self._processes = Processes(observers, proc)
        self._agents: dict[tuple[int, int], _Agent] = {}
        self._round = 0

    def refresh(self, now: float, monotonic: float) -> list[Observed]:
        """All observed agents, oldest first.

        Args:
            now: Wall-clock seconds.
            monotonic: Seconds that never go back.
        """
        found = {name: agents(processes) for name, processes in self._processes.refresh(monotonic).items()}
        alive = {key for groups in found.values() for key in groups}
        fresh = alive - self._agents.keys()
        for key in self._agents.keys() - alive:
            del self._agents[key]
        for key in fresh:
            self._agents[key] = _Agent(self._id(key))
        if fresh or self._round % REJOIN == 0:
            for name, groups in found.items():
                self._join(self._observers[name], groups)
        self._round += 1
        owners = {
            process.pid: self._agents[key].id
            for groups in found.values()
            for key, group in groups.items()
            for process in group
        }
        seen = [
            self._observed(name, key, group, now, owners)
            for name, groups in found.items()
            for key, group in groups.items()
        ]
        return sorted(seen, key=lambda agent: (agent.main.start_time, agent.main.pid))

    def oddities(self) -> Oddities:
        """What the readers of live sessions did not understand."""
        oddities = Oddities()
        for agent in self._agents.values():
            if agent.tail is not None:
                oddities.add(agent.tail.oddities)
        return oddities

    def _join(self, observer: Observer, groups: dict[tuple[int, int], list[Found]]) -> None:
        # The worker holds the rollout or has the pid file, the shim above it does not, or the other way.
        members = [process for group in groups.values() for process in group]
        joined = observer.join(members)
        for key, group in groups.items():
            session = next((joined[process.key] for process in group if process.key in joined), None)
            agent = self._agents[key]
            if session is None or session == agent.session:
                continue
            if agent.session is None or agent.session.path != session.path:
                agent.tail = observer.tail(session)
            agent.session = session

    def _observed(
        self, name: str, key: tuple[int, int], group: list[Found], now: float, owners: Mapping[int, str]
    ) -> Observed:
        agent = self._agents[key]
        view = None
        if agent.tail is not None:
            agent.tail.refresh()
            view = agent.tail.view(now, self._activity(agent, group))
            if view.tool is None or view.state.value in ("idle", "planning"):
                agent.servers = self._below(group)
        return Observed(
            agent.id, name, tuple(group), agent.session, view, self._parent(group[0], owners, agent.id)
        )

    def _activity(self, agent: _Agent, group: list[Found]) -> Activity:
        below = self._below(group) - agent.servers
        return Activity(any(process.terminal for process in group), len(below))

    def _below(self, group: list[Found]) -> set[int]:
        """Direct children of the CLI's processes that are not the CLI itself."""
        own = {process.pid for process in group}
        below: set[int] = set()
        for pid in own:
            try:
                with open(f"{self._proc}/{pid}/task/{pid}/children", "rb") as file:
                    below.update(map(int, file.read().split()))
            except OSError:
                continue
        return below - own

    def _parent(self, process: Found, owners: Mapping[int, str], own: str) -> str | None:
        pid, steps = process.ppid, 0
        while pid > 1 and steps < 64:
            if (owner := owners.get(pid)) is not None and owner != own:
                return owner
            pid, steps = self._ppid(pid), steps + 1
        return None

    def _ppid(self, pid: int) -> int:
        try:
            with open(f"{self._proc}/{pid}/stat", "rb") as file:
                return int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            return 0

    def _id(self, key: tuple[int, int]) -> str:
        name = f"{self._boot} {key[0]} {key[1]}".encode()
        return hashlib.blake2b(name, digest_size=3).hexdigest()


def title(agent: Observed) -> str:
    """A name to show: the CLI and the folder it works in. Not unique."""
    cwd = (agent.view and agent.view.cwd) or agent.main.cwd or ""
    folder = os.path.basename(cwd.rstrip("/"))
    return f"{agent.observer}-{folder}" if folder else f"{agent.observer}-{agent.main.pid}"
