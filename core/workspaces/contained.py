"""Agents that are kept from what lies outside their folder, and may not reach out of it through git.

A repository's settings name programs (filters, monitors) that git runs for whoever looks at it. So git is
not run out here on a repository whose own directory such an agent can write to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..agents.agent import Agent
from ..agents.spec import AgentSpec
from . import head
from .sharing import spot


def contained(spec: AgentSpec) -> bool:
    """Whether an agent is kept from what lies outside its folder."""
    return spec.sandbox or spec.backend == "docker"


def arranged(folder: str, agents: Iterable[Agent]) -> str:
    """Who could have arranged what a git in this folder would run, by name; empty: nobody. Blocking."""
    where = spot(folder)
    # In the folder itself a repository can be made at any time.
    places = [place for place in (where.real, where.top, head.repository(folder)) if place]
    for agent in agents:
        for writable in _writable(agent.spec):
            real = spot(writable).real.rstrip("/")
            if any(place == real or place.startswith(real + "/") for place in places):
                return agent.name
    return ""


def _writable(spec: AgentSpec) -> Iterator[str]:
    """The folders of this machine that a contained agent writes to."""
    if not contained(spec):
        return
    if spec.cwd is not None:
        yield spec.cwd
    if spec.sandbox:
        yield "/tmp"  # as backends/program.py says
    for mount in spec.mounts:
        if not mount.read_only:
            yield mount.source
