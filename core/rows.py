"""From the books to the live table: one ``Row`` per agent, and the ``Header`` that sums them."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Mapping

from .agents.agent import Agent, Fleet, Meter
from .agents.sampler import Load
from .agents.states import NEEDS_PERSON, Pause, State, Waiting
from .api import Header, ProviderGauge, Row
from .budget.views import of_fleet
from .clock import Clock
from .gateway.lanes import Lanes
from .gateway.meters import Gauge, Meters
from .mail.gauge import NO_MAIL, MailGauge, ReplyWait, reply_wait

_LABELS = {"anthropic": "ANT", "openai": "OAI", "gemini": "GEM"}
_SPARK = 20
_NO_SPARK = (0,) * _SPARK
_IDLE = Load()


def window_meter(agent: Agent, meters: Meters, window: str, now: float) -> Meter:
    """The agent's sums over one of ``api.WINDOWS``."""
    if window == "run":
        return agent.last
    if window == "hour":
        return meters.hour(agent.id, now)
    if window == "today":
        return meters.today(agent.id, now)
    return agent.total


def _why(agent: Agent, last: str, waits: ReplyWait | None) -> tuple[str, float]:
    """The WHY column without its age, and what the age counts from."""
    if waits is not None:
        return waits.text, waits.since
    if agent.live and agent.freeze is not None:
        frozen = agent.freeze
        if frozen.idle and frozen.total:
            return "frozen (idle)", frozen.since
        return (f"frozen {frozen.frozen}/{frozen.total}" if frozen.total else "freezing"), frozen.since
    if agent.live and agent.hold is not None:
        return "held", agent.hold
    if agent.stopping and agent.live:
        return "stopping", agent.since
    if agent.restart_at is not None:
        return _said(f"{agent.detail}, restarts", last), agent.since
    if agent.state is State.ERROR:
        return _said(agent.detail, last), agent.since
    return agent.reason or agent.detail, agent.since


def _said(why: str, last: str) -> str:
    return f"{why}: {last}" if last else why


def _asks(agent: Agent) -> bool:
    """Whether it waits for a person; a budget may also wait for other calls to be settled."""
    if agent.approvals:
        return True
    return (
        agent.state is State.WAITING
        and agent.reason in NEEDS_PERSON
        and agent.reason not in (Waiting.BUDGET, Waiting.APPROVAL)
    )


def build(
    agent: Agent,
    meters: Meters,
    load: Load | None,
    window: str,
    now: float,
    stale: float | None = None,
    budget: int | None = None,
    attach: bool = False,
    last: str = "",
    mail: MailGauge = NO_MAIL,
    tiers: tuple[int, int, int] | None = None,
) -> Row:
    """The row of one agent at ``now``; ``budget`` is the per cent used of its tightest one, ``last`` what it
    said before it failed, ``tiers`` tokens, entries and notes of its memory."""
    waits = reply_wait(agent, mail)
    meter = window_meter(agent, meters, window, now)
    gauge: Gauge | None = meters.agents.get(agent.id)
    usage = meter.usage
    detail, since = _why(agent, last, waits)
    load = load or _IDLE
    run = agent.run
    live = agent.live
    needs = (_asks(agent) and live) or (agent.state is State.ERROR and agent.restart_at is None)
    needs = needs or (waits is not None and waits.deadlock)
    return Row(
        id=agent.id,
        name=agent.name,
        state=agent.state.value if waits is None else State.WAITING.value,
        pause=agent.pause.value if agent.pause and live else None,
        reason=_reason(agent, waits),
        detail=detail,
        since=since,
        needs=needs,
        backend=agent.spec.backend,
        template=agent.spec.template,
        owner=agent.owner,
        parent=agent.spec.parent,
        labels=",".join(f"{key}={value}" for key, value in agent.spec.labels.items()),
        nice=agent.nice,
        model=agent.model,
        context=agent.context,
        context_limit=agent.context_limit,
        rate=sum(gauge.rate(now)) if gauge else 0,
        rate_exact=not any(call.usage.total for call in agent.calls.values()),
        spark=gauge.hour.series(now, _SPARK) if gauge else _NO_SPARK,
        input=usage.input,
        cache_read=usage.cache_read,
        cache_write=usage.cache_write,
        output=usage.output,
        cost=None if meter.unpriced and not meter.cost else meter.cost,
        cost_exact=not meter.estimated,
        unpriced=meter.unpriced > 0,
        budget=budget,
        unread=mail.unread,
        dead_letters=mail.dead,
        cpu=load.cpu if live else None,
        memory=load.memory if live else None,
        pids=load.pids if live else None,
        started=run.starting if run else None,
        ended=run.ended if run else None,
        exit_code=run.code if run else None,
        run=run.number if run else 0,
        task=(agent.told if live else "") or agent.spec.prompt or " ".join(agent.spec.command),
        observed=False,
        stale=stale,
        tiers=tiers,
        attach=attach,
        unread_since=mail.oldest,
    )


def _reason(agent: Agent, waits: ReplyWait | None) -> str | None:
    if waits is not None:
        return Waiting.MESSAGE.value
    return agent.reason.value if agent.reason and agent.state is State.WAITING else None


class Machine:
    """The machine and this process on it: what the header says of both."""

    def __init__(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        self.cores = len(os.sched_getaffinity(0))
        self.memory = page * os.sysconf("SC_PHYS_PAGES")
        """Bytes."""
        self._page = page

    def cpu_seconds(self) -> float:
        """CPU that this process has used."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    def resident(self) -> int:
        """Bytes of memory of this process, in whole MiB."""
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * self._page // (1 << 20) * (1 << 20)


class HeaderBuilder:
    """Sums for the header. Reads the machine's size once and its own use each time."""

    def __init__(
        self, clock: Clock, started: float, machine: Machine | None = None, lanes: Lanes | None = None
    ) -> None:
        self._lanes = lanes
        self._load: tuple[float, float, float] | None = None
        self._clock = clock
        self._started = started
        self._machine = machine or Machine()
        self._cpu = (clock.monotonic(), self._machine.cpu_seconds())
        self._cpu_percent = 0.0

    def tick(self) -> None:
        """Measure the kernel's own CPU since the last tick (once a second)."""
        now, used = self._clock.monotonic(), self._machine.cpu_seconds()
        before, used_before = self._cpu
        if now > before:
            self._cpu_percent = round(100 * (used - used_before) / (now - before), 1)
            self._load = self._demand(now - before)
        self._cpu = (now, used)

    def _demand(self, seconds: float) -> tuple[float, float, float] | None:
        """Demand over the tightest limit, averaged over 1, 5 and 15 minutes as a load average is."""
        demand = self._lanes.demand() if self._lanes is not None else None
        if demand is None:
            return None
        one, five, fifteen = self._load or (0.0, 0.0, 0.0)

        def towards(average: float, minutes: int) -> float:
            return average + (demand - average) * (1 - math.exp(-seconds / (60 * minutes)))

        return towards(one, 1), towards(five, 5), towards(fifteen, 15)

    def build(
        self,
        fleet: Fleet,
        meters: Meters,
        loads: Mapping[str, Load],
        window: str,
        problem: str,
    ) -> Header:
        """The header over the fleet's agents at the clock's now."""
        now = self._clock.time()
        budget = of_fleet(fleet, now)
        total = Meter()
        unpriced = context = cached = limit = held = memory = 0
        cpu = 0.0
        for agent in fleet.agents.values():
            meter = window_meter(agent, meters, window, now)
            if meter.calls:
                total.usage = total.usage.plus(meter.usage)
                total.cost += meter.cost
                total.estimated += meter.estimated
                unpriced += meter.unpriced > 0
            if agent.live:
                context += agent.context or 0
                cached += agent.context_cached if agent.context else 0
                limit += agent.context_limit or 0
                held += agent.held_calls
        for load in loads.values():
            cpu += load.cpu or 0.0
            memory += load.memory or 0
        hour = meters.fleet.hour
        return Header(
            providers=tuple(self._providers(meters, now)),
            input=total.usage.input,
            cache_read=total.usage.cache_read,
            cache_write=total.usage.cache_write,
            output=total.usage.output,
            cost=total.cost,
            cost_exact=not total.estimated,
            unpriced=unpriced,
            spend_hour=hour.cost_since(now, 10) * 6,
            context=context,
            context_cached=cached,
            context_limit=limit,
            held=held,
            load=None if self._load is None else _rounded(self._load),
            rates=_averages(meters.fleet, now),
            agents_cpu=round(cpu, 1),
            agents_memory=memory,
            host_cores=self._machine.cores,
            host_memory=self._machine.memory,
            kernel_cpu=self._cpu_percent,
            kernel_memory=self._machine.resident(),
            kernel_started=self._started,
            budget_spent=budget.spent if budget is not None else None,
            budget_reserved=budget.reserved if budget is not None else 0.0,
            budget_limit=budget.limit if budget is not None else None,
            problem=problem,
            halted=fleet.halted,
            approvals=len(fleet.approvals),
            budget_window=budget.window if budget is not None else "",
        )

    def _providers(self, meters: Meters, now: float) -> list[ProviderGauge]:
        gauges = []
        for name, gauge in meters.providers.items():
            rate = gauge.rate(now)
            label = _LABELS.get(name, name[:3].upper())
            limit = self._lanes.limit(name) if self._lanes is not None else None
            peak = max(gauge.hour.peak(), sum(rate))
            gauges.append(ProviderGauge(name, label, *rate, None if limit is None else int(limit), peak))
        gauges.sort(key=lambda g: (-(g.input + g.cache_read + g.cache_write + g.output), g.name))
        return gauges


def _rounded(load: tuple[float, float, float]) -> tuple[float, float, float]:
    one, five, fifteen = load
    return round(one, 2), round(five, 2), round(fifteen, 2)


def _averages(gauge: Gauge, now: float) -> tuple[int, int, int]:
    series = gauge.hour.series(now, 15)
    return sum(gauge.rate(now)), sum(series[-5:]) // 5, sum(series) // 15


def shown_state(agent: Agent, mail: MailGauge = NO_MAIL) -> str:
    """The state as ``ps`` prints it, pause and the wait for a reply included."""
    return State.WAITING.value if reply_wait(agent, mail) is not None else agent.shown.value


def shown_reason(agent: Agent, last: str = "", mail: MailGauge = NO_MAIL) -> str | None:
    """The reason of a wait, how a paused agent is paused, or of an error with what was said last."""
    if agent.live and agent.pause is not None:
        return Pause(agent.pause).value
    if agent.state is State.ERROR:
        return _said(agent.detail, last) or None
    return _reason(agent, reply_wait(agent, mail))
