"""What people are shown of agents beside the live table: ``ps``, ``inspect`` and the kill preview."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import anyio

from . import callrows
from .agents import registry
from .agents.agent import Agent
from .agents.states import State
from .agents.supervisor import Supervisor, Watched
from .api import AgentDetail, AgentInfo, CallInfo, KillPlan, LastLine, ProcessInfo, Target, Tokens
from .backend import Backend, Process, RunRef
from .errors import AgentTopError, BackendError
from .gateway.meters import midnight
from .rows import shown_reason, shown_state

if TYPE_CHECKING:
    from .kernel import Kernel

#: Settled calls the details pane starts with.
CALLS = 200


async def trees(supervisor: Supervisor, agents: Iterable[str]) -> dict[str, list[Process]]:
    """The live processes of several agents; an agent whose tree cannot be read is left out."""
    found: dict[str, list[Process]] = {}
    slots = anyio.CapacityLimiter(32)

    async def one(agent: str, run: Watched) -> None:
        async with slots:
            try:
                found[agent] = await run.backend.processes(run.ref)
            except BackendError:
                return  # it ended between the look and the question, or its backend is away

    async with anyio.create_task_group() as tasks:
        for agent in agents:
            if (run := supervisor.runs.get(agent)) is not None:
                tasks.start_soon(one, agent, run)
    return found


async def pids(supervisor: Supervisor, agents: Iterable[str]) -> dict[str, list[int]]:
    """The live pids of several agents' trees, asked of each backend at one go."""
    groups: dict[str, tuple[Backend, dict[str, RunRef]]] = {}
    for agent in agents:
        if (run := supervisor.runs.get(agent)) is not None:
            groups.setdefault(run.backend.name, (run.backend, {}))[1][agent] = run.ref
    found: dict[str, list[int]] = {}
    for backend, refs in groups.values():
        try:
            found |= await backend.pids(refs)
        except BackendError:
            continue  # the backend is away: its rows are stale, and their processes not known
    return found


async def managed_pids(supervisor: Supervisor) -> set[int]:
    """The live pids of all managed agents' trees."""
    found = await pids(supervisor, list(supervisor.runs))
    return {pid for tree in found.values() for pid in tree}


def info(agent: Agent, kernel: Kernel, tree: list[int] | None) -> AgentInfo:
    """One agent as ``ps --json`` prints it. Tokens and money are of its whole life."""
    mail = kernel.mailroom.gauge(agent)
    run, meter = agent.run, agent.total
    load = kernel.feed.sampler.loads.get(agent.id)
    pid = run.ref.get("pid") if run and run.ref and agent.live else None
    return AgentInfo(
        id=agent.id,
        name=agent.name,
        state=shown_state(agent, mail),
        reason=shown_reason(agent, kernel.last_words.of(agent), mail),
        backend=agent.spec.backend,
        template=agent.spec.template,
        owner=agent.owner,
        parent=agent.spec.parent,
        labels=agent.spec.labels,
        nice=agent.nice,
        model=agent.model,
        permissions=agent.spec.permissions,
        pid=pid if isinstance(pid, int) else None,
        pids=tree or [],
        tokens=Tokens(
            input=meter.usage.input,
            cache_read=meter.usage.cache_read,
            cache_write=meter.usage.cache_write,
            output=meter.usage.output,
        ),
        cost_usd=None if meter.unpriced and not meter.cost else meter.cost,
        cost_exact=not meter.estimated,
        unpriced=meter.unpriced > 0,
        calls=meter.calls,
        context_tokens=agent.context,
        context_limit=agent.context_limit,
        run=run.number if run else None,
        started_at=run.starting if run else None,
        ended_at=run.ended if run else None,
        exit_code=run.code if run else None,
        exit_signal=run.signal if run else None,
        detail=agent.detail,
        since=agent.since,
        frozen=[agent.freeze.frozen, agent.freeze.total] if agent.freeze and agent.live else None,
        held_calls=agent.held_calls,
        cpu_percent=load.cpu if load and agent.live else None,
        memory=load.memory if load and agent.live else None,
        task=agent.spec.prompt,
        progress=agent.told,
        unread=mail.unread,
        dead_letters=mail.dead,
        command=agent.spec.command,
        cwd=agent.cwd,
        fleet=agent.fleet,
        restarts=max(0, run.number - 1) if run else 0,
        last_line=kernel.last_words.of(agent),
        paused_by=agent.freeze.by if agent.freeze and agent.live else None,
        forked_from=agent.origin.agent if agent.origin is not None else None,
    )


def process_info(process: Process) -> ProcessInfo:
    """A process as it crosses the door; its start time is the kernel's business."""
    return ProcessInfo(
        pid=process.pid,
        ppid=process.ppid,
        state=process.state,
        cpu_seconds=process.cpu_seconds,
        memory=process.memory,
        command=process.command,
    )


async def detail(agent: Agent, kernel: Kernel) -> AgentDetail:
    """Everything the details pane shows."""
    tree = (await trees(kernel.supervisor, [agent.id])).get(agent.id, [])
    now = kernel.clock.time()
    mechanism = ""
    if agent.live:
        try:
            mechanism = next(iter((await kernel.backends.get(agent.spec.backend).capabilities()).freeze), "")
        except AgentTopError as error:
            mechanism = error.what
    return AgentDetail(
        info=info(agent, kernel, [process.pid for process in tree]),
        spec=agent.spec,
        children=[child.id for child in registry.children(kernel.books.committed, agent.id)],
        processes=[process_info(process) for process in tree],
        calls=await calls(agent, kernel),
        calls_today=kernel.meters.today(agent.id, max(now, midnight(now))).calls,
        calls_hour=kernel.meters.hour(agent.id, now).calls,
        runs=[asdict(run) for run in (*agent.past, *([agent.run] if agent.run else ()))],
        mechanism=mechanism,
        folder=str(kernel.paths.agent_dir(agent.id)),
        last_lines=[
            LastLine(stream=line.stream, text=line.text)
            for line in (await kernel.last_words.lines(agent) if agent.state is State.ERROR else ())
        ],
    )


async def calls(agent: Agent, kernel: Kernel, count: int = CALLS) -> list[CallInfo]:
    """The agent's newest calls, running ones included, newest first."""
    records = await kernel.journal.tail(2 * count, kinds=["CallStarted", "CallSettled"], agents=[agent.id])
    fleet = kernel.books.committed
    running = callrows.open_calls(fleet, [agent.id] if agent.id in fleet.agents else [], kernel.desk.opened)
    settled = callrows.settled_calls(records, fleet.agents)
    return sorted([*running, *settled], key=lambda call: -call.started)[:count]


async def kill_plan(request: Target, kernel: Kernel) -> KillPlan:
    """What a kill of these agents would end, and what it would leave."""
    fleet = kernel.books.committed
    named = {
        member.id
        for _, member in registry.select(fleet, request.refs, all=request.all)
        if not isinstance(member, AgentTopError)
    }
    chosen: list[Agent] = []
    for _, member in registry.select(fleet, request.refs, all=request.all, children=request.children):
        if isinstance(member, AgentTopError):
            raise member
        if member.live or member.restart_at is not None or member.id in named:
            chosen.append(member)  # a child that has ended for good is not killed again
    found = await trees(kernel.supervisor, [agent.id for agent in chosen])
    containers = {
        agent.id: str(agent.run.ref["name"])
        for agent in chosen
        if agent.live and agent.run and agent.run.ref and "container" in agent.run.ref
    }
    impossible: dict[str, str] = {}
    if not any(agent.live for agent in chosen):
        impossible = dict.fromkeys(("stop", "kill", "int", "freeze", "hold"), "it has no running process")
    elif all(agent.freeze is not None for agent in chosen if agent.live):
        impossible["freeze"] = "it is frozen already"
    return KillPlan(
        agents=[
            info(agent, kernel, [process.pid for process in found.get(agent.id, ())]) for agent in chosen
        ],
        processes={key: [process_info(process) for process in tree] for key, tree in found.items()},
        containers=containers,
        calls_in_flight=sum(len(agent.calls) for agent in chosen),
        untouched=sum(agent.live for agent in fleet.agents.values()) - sum(agent.live for agent in chosen),
        grace=max((agent.spec.stop_grace for agent in chosen), default=10.0),
        impossible=impossible,
    )
