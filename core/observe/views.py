"""Observed agents as ``ps``, ``inspect`` and the kill preview show them."""

from __future__ import annotations

from collections.abc import Iterable

from ..agents.states import State
from ..api import AgentDetail, AgentInfo, KillPlan, ObservedInfo, ProcessInfo
from . import rows
from .acts import MECHANISM
from .believed import encodable
from .contract import Child
from .gauges import NO_TREE, Tree
from .proc import PAGE, TICKS, Stat, read
from .sightings import Sightings
from .watch import Observed, name


def infos(sightings: Sightings, now: float, *, pids: bool = True) -> list[AgentInfo]:
    """Every observed agent of the last look, each followed by its subagents."""
    found: list[AgentInfo] = []
    for agent in sightings.last.agents.values():
        found.append(info(sightings, agent, now, pids=pids))
        found += rows.child_infos(agent, sightings.quote, now)
    return found


def info(sightings: Sightings, agent: Observed, now: float, *, pids: bool = True) -> AgentInfo:
    """One of them."""
    look = sightings.last
    tree, freeze = look.trees.get(agent.id, NO_TREE), look.frozen.get(agent.id)
    return rows.info(agent, sightings.quote, now, tree=tree, freeze=freeze, pids=pids)


def detail(sightings: Sightings, agent: Observed, now: float) -> AgentDetail:
    """Everything known about one."""
    look = sightings.last
    children = [other.id for other in look.agents.values() if other.parent == agent.id]
    subagents = agent.view.children if agent.view is not None else ()
    return AgentDetail(
        info=info(sightings, agent, now),
        spec=None,
        observed=_known(sightings, agent),
        children=[*children, *(rows.child_id(agent, child) for child in subagents)],
        processes=processes(look.trees.get(agent.id, NO_TREE)),
        mechanism=MECHANISM,
    )


def child_detail(sightings: Sightings, agent: Observed, child: Child, now: float) -> AgentDetail:
    """The same about a subagent, which has no process."""
    wanted = rows.child_id(agent, child)
    found = next(info for info in rows.child_infos(agent, sightings.quote, now) if info.id == wanted)
    return AgentDetail(
        info=found,
        spec=None,
        observed=ObservedInfo(
            title=f"subagent of {name(agent)}",
            session=agent.session.id if agent.session else None,
            session_exact=bool(agent.session and agent.session.exact),
            branch=child.view.branch,
            tool=child.view.tool,
            prompt=child.view.prompt or None,
            state_certain=child.view.certain,
            last_call=child.view.last_call,
        ),
    )


def _known(sightings: Sightings, agent: Observed) -> ObservedInfo:
    view, session, main = agent.view, agent.session, agent.main
    forbidden = []
    if main.cwd is None:
        forbidden.append("folder and conversation")
    if main.environ is None:
        forbidden.append("environment")
    if not rows.ours(main.uid):
        forbidden.append("freeze, resume, stop, kill, signal, nice")
    return ObservedInfo(
        title=sightings.title(agent.observer),
        session=encodable(session.id) if session else None,
        session_exact=bool(session and session.exact),
        transcript=encodable(session.path) if session else None,
        branch=view.branch if view else None,
        tool=view.tool if view else None,
        prompt=(view.prompt or None) if view else None,
        state_certain=view.certain if view else False,
        last_call=view.last_call if view else None,
        terminal=any(process.terminal for process in agent.processes),
        not_permitted=forbidden,
        subagents=[rows.child_name(agent, child) for child in (view.children if view else ())],
    )


def processes(tree: Tree) -> list[ProcessInfo]:
    """The processes of a tree as they cross the door."""
    return [
        ProcessInfo(
            pid=process.pid,
            ppid=process.ppid,
            state=process.state,
            cpu_seconds=process.ticks / TICKS,
            memory=process.pages * PAGE,
            command=_command(process),
        )
        for process in tree.processes
    ]


def _command(process: Stat) -> str:
    data = read(f"/proc/{process.pid}/cmdline")
    return data.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace") or f"[{process.comm}]"


def plan(sightings: Sightings, agents: Iterable[Observed], now: float) -> KillPlan:
    """What a kill of these would end: their trees, other agents in them included; nothing has been sent."""
    look = sightings.last
    chosen = {agent.id: agent for agent in agents}
    for other in look.agents.values():  # oldest first, so parents before their children
        if other.parent in chosen:
            chosen[other.id] = other
    told = [info(sightings, agent, now) for agent in chosen.values()]
    gateway = "observed: its calls do not pass the gateway"
    impossible = {"hold": gateway}
    if chosen and all(agent.state == State.PAUSED for agent in told):
        impossible["freeze"] = "it is frozen already"
    if chosen and not any(rows.ours(agent.main.uid) for agent in chosen.values()):
        owner = f"it belongs to {told[0].owner}"
        impossible |= dict.fromkeys(("stop", "kill", "int", "hup", "usr1", "usr2", "freeze"), owner)
    return KillPlan(
        agents=told,
        processes={key: processes(look.trees.get(key, NO_TREE)) for key in chosen},
        untouched=len(look.agents) - len(chosen),
        impossible=impossible,
    )


def joined(managed: KillPlan | None, observed: KillPlan) -> KillPlan:
    """One plan for both; impossible is what neither can."""
    if managed is None or not managed.agents:
        return observed
    return managed.model_copy(
        update={
            "agents": [*managed.agents, *observed.agents],
            "processes": {**managed.processes, **observed.processes},
            "impossible": {key: why for key, why in managed.impossible.items() if key in observed.impossible},
        }
    )
