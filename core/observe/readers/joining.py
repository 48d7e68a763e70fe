"""Which of a folder's sessions belongs to which of the agents that work in it.

Where a CLI does not say it, the folder and the times must do. One agent alone has the session written
last since it began, so that ``/clear`` and resumed sessions are followed. Of several, each gets the
first session begun after it and before the next of them began, or none: no session is given twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from ..contract import Found, Session
from ..processes import agents

#: Seconds by which a process's start may seem later than it was: the boot time is in whole seconds.
SLACK = 1.5

Key = tuple[int, int]


class Candidate(NamedTuple):
    """A session that may be some agent's; times in wall-clock seconds."""

    session: Session
    begun: float
    changed: float


def mains(processes: Iterable[Found]) -> list[Found]:
    """One process for each agent: the topmost, where shims and workers are found too."""
    return [group[0] for group in agents(processes).values()]


def by_database(
    processes: Iterable[Found],
    place: Callable[[Mapping[str, str], str], str],
    join: Callable[[str, Sequence[Found]], dict[Key, Session]],
) -> dict[Key, Session]:
    """The sessions of agents whose CLI keeps them in a database.

    Args:
        place: Where it is, by environment and home.
        join: The sessions in one database of the agents that use it, one process for each; may raise OSError.
    """
    databases: dict[str, list[Found]] = defaultdict(list)
    for process in mains(processes):
        if process.cwd is not None and process.home:
            databases[process.root + place(process.environ or {}, process.home)].append(process)
    joined: dict[Key, Session] = {}
    for path, here in databases.items():
        try:
            joined |= join(path, here)
        except OSError:  # not there yet, or locked: it is asked again in some seconds
            continue
    return joined


def by_time(
    processes: Sequence[Found], candidates: Iterable[Candidate], taken: Iterable[str] = ()
) -> dict[Key, Session]:
    """The sessions of agents in one folder, as estimates.

    Args:
        processes: One for each agent.
        taken: Ids of sessions that are known to be somebody's.
    """
    known = set(taken)
    free = [candidate for candidate in candidates if candidate.session.id not in known]
    if len(processes) == 1:
        (only,) = processes
        own = [candidate for candidate in free if candidate.changed >= only.started - SLACK]
        if not own:
            return {}
        newest = max(own, key=lambda candidate: (candidate.changed, candidate.begun))
        return {only.key: newest.session._replace(exact=False)}
    found: dict[Key, Session] = {}
    row = sorted(processes, key=lambda process: (process.started, process.pid))
    for process, after in zip(row, [*row[1:], None], strict=True):
        end = after.started - SLACK if after else float("inf")
        own = [candidate for candidate in free if max(process.started - SLACK, 0) <= candidate.begun < end]
        if own:
            first = min(own, key=lambda candidate: candidate.begun)
            free.remove(first)
            found[process.key] = first.session._replace(exact=False)
    return found
