"""The agents that run here and are nobody's: processes joined to sessions, and what those say now."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..agents.states import State
from .believed import believed
from .contract import Activity, Found, Observer, Oddities, Session, Tail, View
from .proc import below
from .processes import Processes, agents

log = logging.getLogger(__name__)

#: Every how many rounds all processes are joined to their sessions again (/clear, resumed sessions); of more
#: than so many agents in each round, that often more seldom.
REJOIN, AT_ONCE = 5, 20

_ID = re.compile(r"o[a-z2-7]{7}")

#: States that only a new line changes: the same view holds until there is one.
_STILL = frozenset({State.IDLE, State.PLANNING})


class Observed(NamedTuple):
    """One observed agent."""

    id: str
    """The same as long as its process lives, and in every kernel: made of boot, pid and start time."""
    observer: str
    processes: tuple[Found, ...]
    """The CLI's own, the topmost first; with their start times, so that no stranger is signalled."""
    session: Session | None
    view: View | None
    """``None``: no transcript was found, or it has not been read yet."""
    parent: str | None
    """Id of the observed agent that started it."""
    managed: str = ""
    """Id of the managed agent that this is the program of; it is no observed agent then."""

    @property
    def main(self) -> Found:
        """The topmost process: the tree below it is the agent's."""
        return self.processes[0]


class _Agent:
    def __init__(self, identity: str) -> None:
        self.id = identity
        self.session: Session | None = None
        self.tail: Tail | None = None
        self.view: View | None = None
        self.servers: set[int] = set()
        self.activity: Activity | None = None
        self.moved = False
        """Its transcript grew since the view was taken."""
        self._stamp: tuple[int, int] | None = None

    def grown(self) -> bool:
        """Whether the transcript's file is another than at the last look; what is no file may be."""
        assert self.session is not None
        try:
            status = os.stat(self.session.path)
        except OSError:
            return True
        before, self._stamp = self._stamp, (status.st_size, status.st_mtime_ns)
        return before != self._stamp


class Watch:
    """Looks again and again. Blocks while it does: call it off the event loop, from one thread at a time.

    Args:
        kernel: The name of our own state folder, see ``Processes``.
        follows: Which managed agents are to be looked at too, by id; see ``Observed.managed``.
    """

    def __init__(
        self,
        observers: Mapping[str, Observer],
        boot_id: str,
        proc: str = "/proc",
        *,
        kernel: str = "",
        follows: Callable[[str], bool] = lambda agent: False,
    ) -> None:
        self._observers = observers
        self._boot = boot_id
        self._processes = Processes(observers, proc, kernel=kernel, follows=follows)
        self._agents: dict[tuple[int, int], _Agent] = {}
        self._ids: set[str] = set()
        self._told: set[tuple[str, str]] = set()
        self._seen: dict[tuple[int, int], Observed] = {}
        self._round = 0
        self.census = self._processes.census

    def refresh(self, now: float, monotonic: float, patience: float | None = None) -> list[Observed]:
        """All observed agents, oldest first.

        Args:
            now: Wall-clock seconds.
            monotonic: Seconds that never go back.
            patience: After so many seconds no further transcript is begun; those agents have no view yet
                (``unread``).
        """
        found = {name: agents(processes) for name, processes in self._processes.refresh(monotonic).items()}
        alive = {key for groups in found.values() for key in groups}
        fresh = alive - self._agents.keys()
        for key in self._agents.keys() - alive:
            self._ids.discard(self._agents.pop(key).id)
        for key in fresh:
            self._agents[key] = _Agent(self._id(key))
        if fresh or self._round % max(REJOIN, len(alive) // AT_ONCE) == 0:
            for name, groups in found.items():
                try:
                    self._join(self._observers[name], groups)
                except Exception:  # noqa: BLE001 (somebody else's code must not hide the others' agents)
                    self._failed(name, "join")
        self._round += 1
        owners = {
            process.pid: self._agents[key].id
            for groups in found.values()
            for key, group in groups.items()
            for process in group
        }
        end = None if patience is None else time.monotonic() + patience
        self._seen = {
            key: self._observed(name, key, group, now, owners, end)
            for name, groups in found.items()
            for key, group in groups.items()
        }
        return sorted(self._seen.values(), key=lambda agent: (agent.main.start_time, agent.main.pid))

    def glance(self, now: float) -> list[Observed]:
        """Those whose transcripts grew since the last look, with their new views. No process is looked at."""
        moved = []
        for key, seen in self._seen.items():
            agent = self._agents[key]
            if agent.view is None or agent.tail is None or agent.session is None:
                continue
            if not agent.grown():
                continue
            try:
                moves = agent.tail.refresh()
            except Exception:  # noqa: BLE001 (as in ``refresh``)
                agent.tail = None
                self._failed(seen.observer, "read")
                continue
            if moves:
                agent.moved = True
                self._read(agent, agent.tail, list(seen.processes), now)
                self._seen[key] = seen._replace(view=agent.view)
                moved.append(self._seen[key])
        return moved

    @property
    def unread(self) -> bool:
        """Whether an agent's transcript was found and has not been read yet."""
        return any(agent.tail is not None and agent.view is None for agent in self._agents.values())

    def disown(self, agent: Observed) -> None:
        """What was found belongs to a managed agent after all: it is not looked at again."""
        self._seen.pop(agent.main.key, None)
        for process in agent.processes:
            self._processes.disown(process.pid)

    def oddities(self) -> Oddities:
        """What the readers of live sessions did not understand."""
        oddities = Oddities()
        for agent in list(self._agents.values()):
            if agent.tail is not None:
                oddities.add(agent.tail.oddities)
        return oddities

    def oddities_of_each(self) -> dict[str, Oddities]:
        """The same by observer; those without any are left out."""
        found: dict[str, Oddities] = {}
        for key, agent in list(self._agents.items()):
            if agent.tail is not None and (seen := self._seen.get(key)) is not None:
                found.setdefault(seen.observer, Oddities()).add(agent.tail.oddities)
        return found

    def _failed(self, observer: str, what: str) -> None:
        """A reader raised what it should not: said once, for a look comes every second."""
        if (observer, what) not in self._told:
            self._told.add((observer, what))
            log.exception("the reader of %s failed to %s", observer, what)

    def _join(self, observer: Observer, groups: dict[tuple[int, int], list[Found]]) -> None:
        # The worker holds the rollout or has the pid file, the shim above it does not, or the other way.
        try:
            joined = observer.join([process for group in groups.values() for process in group])
        except Exception:  # noqa: BLE001 (one agent's files, or somebody else's code)
            self._failed(observer.name, "join")
            fine = [group for group in groups.values() if self._joins(observer, group)]
            joined = observer.join([process for group in fine for process in group])
        for key, group in groups.items():
            session = next((joined[process.key] for process in group if process.key in joined), None)
            agent = self._agents[key]
            if session is None or session == agent.session:
                continue
            if agent.session is None or agent.session.path != session.path:
                agent.tail, agent.view = observer.tail(session), None
            agent.session = session

    @staticmethod
    def _joins(observer: Observer, group: list[Found]) -> bool:
        """Whether an agent by itself can be joined: what one wrote must not hide the others' sessions."""
        try:
            observer.join(group)
        except Exception:  # noqa: BLE001 (told by whoever asks)
            return False
        return True

    def _observed(
        self,
        name: str,
        key: tuple[int, int],
        group: list[Found],
        now: float,
        owners: Mapping[int, str],
        end: float | None,
    ) -> Observed:
        agent = self._agents[key]
        if agent.tail is not None and (agent.view is not None or end is None or time.monotonic() < end):
            try:
                self._read(agent, agent.tail, group, now)
            except Exception:  # noqa: BLE001 (as above; what is known of it stays as it is)
                agent.tail = None
                self._failed(name, "read")
        return Observed(
            agent.id,
            name,
            tuple(group),
            agent.session,
            agent.view,
            self._parent(group[0], owners, agent.id),
            self._processes.managed(group[0].pid),
        )

    def _read(self, agent: _Agent, tail: Tail, group: list[Found], now: float) -> None:
        """Take a new view, unless the old one holds."""
        moved = tail.refresh() or agent.moved
        activity = self._activity(agent, group)
        view = agent.view
        if view is not None and not moved and activity == agent.activity and _holds(view):
            return
        agent.view = view = believed(tail.view(now, activity))
        agent.moved, agent.activity = False, activity
        if view.tool is None or view.state in _STILL:
            agent.servers = self._below(group)

    def _activity(self, agent: _Agent, group: list[Found]) -> Activity:
        below = self._below(group) - agent.servers
        return Activity(any(process.terminal for process in group), len(below))

    def _below(self, group: list[Found]) -> set[int]:
        """Direct children of the CLI's processes that are not the CLI itself."""
        own = {process.pid for process in group}
        return {child for pid in own for child in self.census.children.get(pid, ())} - own

    def _parent(self, process: Found, owners: Mapping[int, str], own: str) -> str | None:
        above = (owners.get(pid) for pid in self.census.ancestors(process.pid))
        return next((owner for owner in above if owner is not None and owner != own), None)

    def _id(self, key: tuple[int, int]) -> str:
        """``o`` and seven characters of base 32: no managed agent's id begins so, they are hexadecimal."""
        salt = 0
        while True:
            name = f"{self._boot} {key[0]} {key[1]} {salt or ''}".encode()
            digest = hashlib.blake2b(name, digest_size=5).digest()
            identity = "o" + base64.b32encode(digest).decode().lower()[:7]
            if identity not in self._ids:
                self._ids.add(identity)
                return identity
            salt += 1


def _holds(view: View) -> bool:
    return view.state in _STILL and all(_holds(child.view) for child in view.children)


def tree(agent: Observed, children: Mapping[int, set[int]]) -> list[int]:
    """The pids of an agent's processes and of all that descends from them."""
    return below((process.pid for process in agent.processes), children)


def is_id(text: str) -> bool:
    """Whether this is the id of an observed agent, living or not."""
    return _ID.fullmatch(text) is not None


def name(agent: Observed) -> str:
    """``claude@4182``: the CLI and the pid of its topmost process.

    Unique as long as it lives, the same for every kernel, and no managed agent's: their names have no ``@``.
    """
    return f"{agent.observer}@{agent.main.pid}"
