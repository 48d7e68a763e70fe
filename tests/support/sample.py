"""A kernel client over a canned fleet: for pictures, pilot tests and the screen's benchmark.

``python tests/support/sample.py`` opens the screen over it. It is no mock of the kernel's behaviour:
verbs change the canned rows in the plainest way, so that the screen has something to show.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.agents.states import Pause
from agenttop.core.api import (
    AgentDetail,
    AgentInfo,
    CallInfo,
    CheckInfo,
    Delta,
    EventInfo,
    FleetRequest,
    Header,
    KernelStatus,
    KillPlan,
    NiceRequest,
    Outcome,
    PauseRequest,
    ProcessInfo,
    ProviderGauge,
    RemoveRequest,
    Row,
    RunRequest,
    SignalRequest,
    Snapshot,
    StopRequest,
    Target,
    TemplateInfo,
    Tokens,
    Window,
)
from agenttop.core.backend import Chunk
from agenttop.core.client import KernelClient
from agenttop.core.errors import Conflict, KernelUnreachable, NoSuchAgent

from .sample_budgets import SampleMoney

NOW = 1_795_269_981.0
"""14:06:21 UTC, the moment of the pictures (``ManualClock``'s own start)."""

K, M, G = 1_000, 1_000_000, 1 << 30
MiB = 1 << 20
UP = (0, 0, 1, 2, 3, 5, 5, 6, 7, 6, 8, 9, 9, 8, 9, 10, 11, 10, 12, 12)
DOWN = (9, 8, 9, 7, 8, 6, 7, 5, 4, 4, 3, 2, 3, 1, 1, 0, 0, 0, 0, 0)
FLAT = (2, 2, 2, 1, 0, 2, 2, 2, 2, 0, 1, 2, 2, 2, 2, 2, 2, 2, 0, 2)


def row(id: str, name: str, state: str, **given: Any) -> Row:
    """A row with plain values for everything not given; ``age`` and ``up`` are seconds before ``NOW``."""
    age, up = given.pop("age", 0.0), given.pop("up", None)
    values: dict[str, Any] = {
        "id": id,
        "name": name,
        "state": state,
        "pause": None,
        "reason": None,
        "detail": "",
        "since": NOW - age,
        "needs": False,
        "backend": "subprocess",
        "template": "claude",
        "owner": "ana",
        "parent": None,
        "labels": "",
        "nice": 0,
        "model": None,
        "context": None,
        "context_limit": 200 * K,
        "rate": 0,
        "rate_exact": True,
        "spark": (0,) * 20,
        "input": 0,
        "cache_read": 0,
        "cache_write": 0,
        "output": 0,
        "cost": None,
        "cost_exact": True,
        "unpriced": False,
        "budget": None,
        "unread": 0,
        "dead_letters": 0,
        "cpu": 0.0,
        "memory": None,
        "pids": None,
        "started": None if up is None else NOW - up,
        "ended": None,
        "exit_code": None,
        "run": 1,
        "task": "",
        "observed": False,
        "stale": None,
        "tiers": None,
    }
    return Row(**(values | given))


def _up(hours: int, minutes: int, seconds: int, days: int = 0) -> float:
    return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds


ROWS: tuple[Row, ...] = (
    row(
        "a1f3",
        "lead",
        "planning",
        detail="call",
        age=8,
        backend="terminal",
        nice=-5,
        model="claude-opus-4-5",
        context=124 * K,
        rate=98 * K,
        spark=UP,
        input=41 * K,
        cache_read=6_800 * K,
        cache_write=412 * K,
        output=88 * K,
        cost=8.40,
        budget=56,
        unread=1,
        cpu=1.2,
        memory=312 * MiB,
        pids=4,
        up=_up(3, 12, 44),
        task="split the checkout rewrite into tasks and hand them out",
        tiers=(6_100, 1_200, 37),
    ),
    row(
        "b20c",
        "api",
        "executing",
        detail="Bash",
        age=41,
        model="claude-sonnet-4-5",
        parent="a1f3",
        context=152 * K,
        rate=108 * K,
        spark=UP,
        input=29 * K,
        cache_read=5_100 * K,
        cache_write=268 * K,
        output=61 * K,
        cost=3.54,
        budget=44,
        unread=1,
        cpu=38.4,
        memory=604 * MiB,
        pids=9,
        up=_up(2, 58, 10),
        task="orders endpoint: idempotency keys",
        tiers=(4_800, 871, 22),
    ),
    row(
        "b7e4",
        "api-tests",
        "executing",
        detail="Bash",
        age=3,
        nice=5,
        model="claude-sonnet-4-5",
        parent="b20c",
        context=48 * K,
        rate=47 * K,
        spark=(0,) * 10 + UP[10:],
        input=10 * K,
        cache_read=1_300 * K,
        cache_write=84 * K,
        output=15 * K,
        cost=0.96,
        budget=32,
        cpu=61.0,
        memory=418 * MiB,
        pids=7,
        up=_up(0, 7, 31),
        task="pytest tests/orders -x",
        tiers=(1_100, 96, 4),
    ),
    row(
        "c913",
        "ui",
        "executing",
        detail="shell",
        age=12,
        backend="terminal",
        template="codex",
        model="gpt-5.1-codex",
        parent="a1f3",
        context=276 * K,
        context_limit=400 * K,
        rate=163 * K,
        spark=UP,
        input=612 * K,
        cache_read=3_500 * K,
        output=74 * K,
        cost=1.94,
        budget=32,
        cpu=22.7,
        memory=355 * MiB,
        pids=6,
        up=_up(2, 41, 3),
        task="cart drawer: keyboard focus",
        tiers=(3_900, 640, 18),
    ),
    row(
        "d08a",
        "docs",
        "idle",
        age=360,
        nice=10,
        template="gemini",
        model="gemini-2.5-pro",
        parent="a1f3",
        context=210 * K,
        context_limit=1_000 * K,
        spark=DOWN,
        input=388 * K,
        cache_read=940 * K,
        output=42 * K,
        cost=1.02,
        budget=26,
        unread=1,
        memory=241 * MiB,
        pids=3,
        up=_up(0, 58, 19),
        task="API reference",
        tiers=(2_200, 233, 9),
    ),
    row(
        "e5d1",
        "review",
        "waiting",
        reason="message",
        detail="message",
        age=123,
        model="claude-sonnet-4-5",
        parent="a1f3",
        context=66 * K,
        spark=DOWN,
        input=12 * K,
        cache_read=1_000 * K,
        cache_write=96 * K,
        output=19 * K,
        cost=0.99,
        budget=25,
        memory=287 * MiB,
        pids=5,
        up=_up(0, 44, 2),
        task="asked api: is retry safe here?",
        tiers=(2_700, 188, 12),
    ),
    row(
        "f4b2",
        "migrate",
        "waiting",
        reason="budget",
        detail="budget",
        age=240,
        needs=True,
        template="codex",
        model="gpt-5.1-codex",
        context=340 * K,
        context_limit=400 * K,
        spark=UP[:15] + (0,) * 5,
        input=941 * K,
        cache_read=4_200 * K,
        output=118 * K,
        cost=2.88,
        budget=96,
        unread=2,
        memory=398 * MiB,
        pids=5,
        up=_up(1, 47, 26),
        task="move billing tables to partitions",
        tiers=(5_500, 940, 14),
    ),
    row(
        "0c77",
        "triage",
        "planning",
        detail="call",
        age=2,
        template="python",
        model="gpt-5-mini",
        context=32 * K,
        context_limit=400 * K,
        rate=15 * K,
        spark=FLAT,
        input=510 * K,
        cache_read=220 * K,
        output=92 * K,
        cost=0.32,
        budget=16,
        unread=7,
        cpu=2.9,
        memory=88 * MiB,
        pids=1,
        up=_up(4, 11, 0, days=3),
        task="label new issues as they arrive",
        tiers=(900, 3_100, 51),
    ),
    row(
        "17de",
        "embed",
        "planning",
        detail="call",
        age=1,
        nice=15,
        backend="docker",
        template="python",
        model="qwen3-30b",
        context=72 * K,
        context_limit=128 * K,
        rate=27 * K,
        spark=FLAT,
        input=1_800 * K,
        output=210 * K,
        cost=None,
        unpriced=True,
        cpu=11.3,
        memory=round(1.2 * G),
        pids=2,
        up=_up(1, 12, 55),
        task="index the wiki",
        tiers=(0, 410, 902),
    ),
    row(
        "2b9a",
        "nightly",
        "executing",
        pause="freeze",
        detail="frozen 14/14",
        age=71,
        backend="docker",
        model="claude-sonnet-4-5",
        context=96 * K,
        spark=DOWN,
        input=22 * K,
        cache_read=1_700 * K,
        cache_write=120 * K,
        output=31 * K,
        cost=1.50,
        budget=30,
        memory=740 * MiB,
        pids=14,
        up=_up(1, 5, 40),
        task="upgrade dependencies one by one",
        tiers=(1_900, 512, 7),
    ),
    row(
        "39c6",
        "flaky-hunt",
        "waiting",
        reason="input",
        detail="input",
        age=660,
        needs=True,
        backend="terminal",
        model="claude-sonnet-4-5",
        context=172 * K,
        spark=DOWN,
        input=18 * K,
        cache_read=2_200 * K,
        cache_write=141 * K,
        output=37 * K,
        cost=1.81,
        budget=36,
        memory=296 * MiB,
        pids=3,
        up=_up(1, 31, 17),
        task="which of 2 fixes do you want?",
        tiers=(3_300, 377, 8),
    ),
    row(
        "4d15",
        "scrape",
        "error",
        detail="exit 1",
        age=86,
        needs=True,
        template="python",
        model="gpt-5-mini",
        context_limit=400 * K,
        input=88 * K,
        output=12 * K,
        cost=0.05,
        budget=5,
        dead_letters=3,
        cpu=None,
        pids=0,
        ended=NOW - 86,
        exit_code=1,
        run=4,
        up=_up(0, 4, 38),
        task="KeyError: 'price' (3 restarts)",
        tiers=(0, 64, 2),
    ),
    row(
        "5e80",
        "claude-4182",
        "executing",
        detail="Edit",
        age=5,
        backend="observed",
        model="claude-opus-4-5",
        context=138 * K,
        rate=40 * K,
        rate_exact=False,
        spark=FLAT,
        input=8_000,
        cache_read=1_400 * K,
        cache_write=102 * K,
        output=23 * K,
        cost=1.96,
        cost_exact=False,
        unread=None,
        cpu=4.4,
        memory=334 * MiB,
        pids=5,
        up=_up(0, 51, 38),
        task="~/src/infra  pts/3",
        observed=True,
    ),
    row(
        "6aa2",
        "codex-977",
        "idle",
        age=1080,
        backend="observed",
        template="codex",
        model="gpt-5.1-codex",
        context=64 * K,
        context_limit=400 * K,
        rate_exact=False,
        spark=(1,) * 6 + (0,) * 14,
        input=96 * K,
        cache_read=402 * K,
        output=16 * K,
        cost=0.33,
        cost_exact=False,
        unread=None,
        memory=190 * MiB,
        pids=2,
        up=_up(0, 22, 5),
        task="~/src/site  pts/5",
        observed=True,
    ),
)


def header(rows: Sequence[Row], **given: Any) -> Header:
    """Sums over ``rows``, and the gauges of the pictures."""
    values: dict[str, Any] = {
        "providers": (
            ProviderGauge("anthropic", "ANT", 5 * K, 231 * K, 12 * K, 5 * K, 400 * K, 300 * K),
            ProviderGauge("openai", "OAI", 46 * K, 120 * K, 0, 12 * K, 800 * K, 400 * K),
            ProviderGauge("local", "LOC", 21 * K, 0, 0, 6 * K, None, 40 * K),
            ProviderGauge("gemini", "GEM", 0, 0, 0, 0, 2 * M, 30 * K),
        ),
        "input": sum(r.input for r in rows),
        "cache_read": sum(r.cache_read for r in rows),
        "cache_write": sum(r.cache_write for r in rows),
        "output": sum(r.output for r in rows),
        "cost": sum(r.cost or 0.0 for r in rows),
        "cost_exact": False,
        "unpriced": sum(r.unpriced for r in rows),
        "spend_hour": 15.55,
        "context": sum(r.context or 0 for r in rows),
        "context_cached": 1_150 * K,
        "context_limit": sum(r.context_limit or 0 for r in rows if r.context),
        "held": 1,
        "load": (0.71, 0.64, 0.41),
        "rates": (458 * K, 440 * K, 380 * K),
        "agents_cpu": 142.0,
        "agents_memory": sum(r.memory or 0 for r in rows),
        "host_cores": 16,
        "host_memory": round(62.7 * G),
        "kernel_cpu": 0.4,
        "kernel_memory": 49 * MiB,
        "kernel_started": NOW - 11_600,
        "budget_spent": 23.41,
        "budget_reserved": 0.87,
        "budget_limit": 50.0,
        "problem": "",
        "approvals": sum(r.reason in ("budget", "approval") for r in rows),
        "budget_window": "day",
    }
    return Header(**(values | given))


EMPTY_HEADER = header(
    (),
    providers=(
        ProviderGauge("anthropic", "ANT", 0, 0, 0, 0, None, 0),
        ProviderGauge("openai", "OAI", 0, 0, 0, 0, None, 0),
    ),
    cost_exact=True,
    spend_hour=0.0,
    context_cached=0,
    held=0,
    load=None,
    rates=(0, 0, 0),
    agents_cpu=0.0,
    kernel_started=NOW - 4,
    budget_spent=None,
    budget_reserved=0.0,
    budget_limit=None,
)

_EVENTS = (
    (230, "f4b2", "held a call: budget 3.00, spent 2.88, this call may cost 0.31  (ask)"),
    (192, "b20c", "spawned api-tests (sonnet-4.5, budget 3.00 taken from api)"),
    (123, "e5d1", "asked api, waits for the reply: is retry safe here?  (deadline 10m)"),
    (86, "4d15", "run 4 exited 1, no restart left: KeyError: 'price'"),
    (71, "2b9a", "frozen by ana: 14/14 processes, cgroup, 31 ms"),
    (40, None, "429 absorbed, retry after 4 s; 2 calls queued, 0 refused to agents"),
    (34, "b20c", "tool Bash: uv run pytest tests/orders -q"),
    (19, "a1f3", "call 214 sent to opus-4.5, 124k context, 0.86 reserved"),
    (13, "0c77", "labelled #4127 bug, area/checkout"),
    (9, "17de", "archival +12 entries in shared/wiki"),
    (1, "c913", "tool shell: npm test -- cart-drawer"),
)

OUTPUT = """\
● Read(tests/orders/test_create.py)
  └ 188 lines
● Edit(src/shop/api/orders.py)
  + key = request.headers.get('Idempotency-Key')
  + if key and (seen := await store.lookup(key)):
  +     return replay(seen)
  - return await place(order)
The store needs a unique index, or two retries at once both get through.
● Bash(uv run pytest tests/orders -q)
  tests/orders/test_create.py ............                       [ 31%]
  tests/orders/test_retry.py ......F..                           [ 55%]
  FAILED test_retry.py::test_second_key_after_expiry
  tests/orders/test_refund.py ..........                         [ 81%]
"""


def events(rows: Sequence[Row]) -> list[EventInfo]:
    """The journal's newest rows, as the pictures have them."""
    names = {r.id: r.name for r in rows}
    return [
        EventInfo(48_201 + n, NOW - ago, "Noted", agent, names.get(agent or "") if agent else "ANT", {}, text)
        for n, (ago, agent, text) in enumerate(_EVENTS)
    ]


class SampleClient(SampleMoney, KernelClient):
    """A fleet that stands still until something is done to it.

    ``calls`` records every verb with its request. ``push`` sends a delta to whoever watches;
    ``fail`` ends every watch as a kernel does that was killed.
    """

    def __init__(self, rows: Sequence[Row] = ROWS, sums: Header | None = None) -> None:
        self.rows = {r.id: r for r in rows}
        self.sums = sums or (header(rows) if rows else EMPTY_HEADER)
        self.seq = 48_212
        self.calls: list[tuple[str, Any]] = []
        self.dead = False
        self._watchers: list[asyncio.Queue[Delta | None]] = []
        SampleMoney.__init__(self)

    # --- for tests -----------------------------------------------------------------------------

    def push(
        self, *rows: Row, gone: Sequence[str] = (), sums: Header | None = None, time: float = NOW
    ) -> None:
        """Change rows and tell every watcher in one delta."""
        self.seq += 1
        for one in rows:
            self.rows[one.id] = one
        for key in gone:
            self.rows.pop(key, None)
        if sums is not None:
            self.sums = sums
        for queue in self._watchers:
            queue.put_nowait(Delta(self.seq, time, sums, tuple(rows), tuple(gone)))

    def fail(self) -> None:
        """Be gone."""
        self.dead = True
        for queue in self._watchers:
            queue.put_nowait(None)

    def _alive(self) -> None:
        if self.dead:
            raise KernelUnreachable("no answer on the control socket", "kernel process 4410 is gone")

    def _found(self, request: Target) -> list[Row]:
        self._alive()
        if request.all:
            return [r for r in self.rows.values() if not r.observed]
        return [self._row(ref) for ref in request.refs]

    def _row(self, ref: str) -> Row:
        for r in self.rows.values():
            if ref in (r.id, r.name):
                return r
        raise NoSuchAgent(f"no agent {ref}", "", "agenttop ps lists them")

    def _did(self, verb: str, request: Target, done: str, **change: Any) -> list[Outcome]:
        self.calls.append((verb, request))
        outcomes = []
        for r in self._found(request):
            if r.state in ("error", "terminated") and verb not in ("restart", "remove"):
                error = Conflict(f"{r.name} cannot be changed", "it has no process", "Restart it first")
                outcomes.append(Outcome(ref=r.id, id=r.id, name=r.name, error=error.to_dict(), exit_code=1))
                continue
            outcomes.append(Outcome(ref=r.id, id=r.id, name=r.name, done=done.format(pids=r.pids or 1)))
            if change:
                self.push(
                    r._replace(
                        **{
                            k: v.format(pids=r.pids or 1) if isinstance(v, str) else v
                            for k, v in change.items()
                        }
                    )
                )
        return outcomes

    # --- the client ----------------------------------------------------------------------------

    async def close(self) -> None:
        self._watchers.clear()

    async def status(self) -> KernelStatus:
        self._alive()
        return KernelStatus(
            pid=4410,
            version="0.1.0",
            port=7421,
            agents=len(self.rows),
            started_at=NOW - 11_600,
            state_dir="/home/ana/.local/state/agenttop",
            seq=self.seq,
        )

    def _info(self, r: Row) -> AgentInfo:
        return AgentInfo(
            id=r.id,
            name=r.name,
            state="paused" if r.pause else r.state,
            reason=r.pause or r.reason,
            backend=r.backend,
            template=r.template,
            owner=r.owner,
            parent=r.parent,
            nice=r.nice,
            model=r.model,
            pid=4821,
            pids=list(range(4821, 4821 + (r.pids or 0))),
            tokens=Tokens(input=r.input, cache_read=r.cache_read, cache_write=r.cache_write, output=r.output),
            cost_usd=r.cost,
            cost_exact=r.cost_exact,
            unpriced=r.unpriced,
            calls=412,
            context_tokens=r.context,
            context_limit=r.context_limit,
            run=r.run,
            started_at=r.started,
            ended_at=r.ended,
            exit_code=r.exit_code,
            observed=r.observed,
            detail=r.detail,
            since=r.since,
            cpu_percent=r.cpu,
            memory=r.memory,
            task=r.task,
            command=["claude", "--output-format", "stream-json"],
            cwd="/home/ana/src/shop",
        )

    async def agents(self, *, all: bool = False, pids: bool = True) -> list[AgentInfo]:
        self._alive()
        return [self._info(r) for r in self.rows.values()]

    async def inspect(self, ref: str) -> AgentDetail:
        self._alive()
        r = self._row(ref)
        spec = AgentSpec(name=r.name, template=r.template, command=["claude"], nice=r.nice, prompt=r.task)
        return AgentDetail(
            info=self._info(r),
            spec=spec,
            children=[c.id for c in self.rows.values() if c.parent == r.id],
            processes=self._processes(r),
            calls=[call for call in self.call_list if call.agent == r.id] or self._calls(),
            calls_today=412,
            calls_hour=41,
            mechanism="cgroup2",
            folder=f"/home/ana/.local/state/agenttop/agents/{r.id}",
        )

    def _processes(self, r: Row) -> list[ProcessInfo]:
        commands = (
            (4821, 1, "claude --output-format stream-json"),
            (4830, 4821, "node mcp-server-postgres"),
            (4833, 4821, "node typescript-language-server"),
            (4907, 4833, "node tsserver watchdog"),
            (5120, 4821, "bash -c uv run pytest tests/orders -q"),
            (5121, 5120, "uv run pytest tests/orders -q"),
            (5124, 5121, "python -m pytest tests/orders -q"),
            (5131, 5124, "python worker 0"),
            (5132, 5124, "python worker 1"),
        )
        return [
            ProcessInfo(
                pid=pid,
                ppid=ppid,
                state="R" if pid == 5124 else "S",
                cpu_seconds=1.4,
                memory=61 * MiB,
                command=c,
            )
            for pid, ppid, c in commands[: r.pids or 0]
        ]

    def _calls(self) -> list[CallInfo]:
        calls = (
            (37, 412, 104_000, 3_100, 655, 9.8, 0.054, "Bash"),
            (50, 188, 103_000, 1_300, 402, 6.1, 0.042, "Task"),
            (61, 96, 102_000, 1_100, 212, 4.0, 0.038, "Edit"),
            (72, 240, 100_000, 2_100, 846, 12.7, 0.051, "Edit"),
            (83, 77, 99_000, 610, 133, 3.2, 0.034, "Read"),
            (129, 1_200, 88_000, 11_000, 1_300, 18.4, 0.091, "Edit"),
        )
        return [
            CallInfo(
                call=f"c{n}",
                started=NOW - ago,
                provider="anthropic",
                model="claude-sonnet-4-5",
                input=i,
                cache_read=rd,
                cache_write=wr,
                output=o,
                seconds=s,
                cost_usd=usd,
                outcome="ok",
                status=200,
                ended_in=tool,
            )
            for n, (ago, i, rd, wr, o, s, usd, tool) in enumerate(calls)
        ]

    async def run(self, request: RunRequest) -> AgentInfo:
        self._alive()
        self.calls.append(("run", request))
        fresh = row(
            f"{len(self.rows):04x}", request.spec.name, "initializing", task=request.spec.prompt or ""
        )
        self.push(fresh)
        return self._info(fresh)

    async def up(self, request: FleetRequest) -> list[Outcome]:
        self.calls.append(("up", request))
        return [Outcome(ref=spec.name, name=spec.name, done="created") for spec in request.specs]

    async def down(self, fleet: str, grace: float | None = None) -> list[Outcome]:
        self.calls.append(("down", fleet))
        return []

    async def pause(self, request: PauseRequest) -> list[Outcome]:
        if request.how is Pause.HOLD:
            return self._did("pause", request, "held", pause="hold", detail="held")
        return self._did(
            "pause", request, "frozen {pids}/{pids}", pause="freeze", detail="frozen {pids}/{pids}"
        )

    async def resume(self, request: Target) -> list[Outcome]:
        return self._did("resume", request, "resumed", pause=None, detail="")

    async def stop(self, request: StopRequest) -> list[Outcome]:
        return self._did("stop", request, "killed {pids}/{pids}", state="terminated", detail="killed", pids=0)

    async def signal(self, request: SignalRequest) -> list[Outcome]:
        return self._did("signal", request, f"signal {request.signal} sent")

    async def restart(self, request: Target) -> list[Outcome]:
        return self._did("restart", request, "restarted", state="initializing", detail="", needs=False)

    async def nice(self, request: NiceRequest) -> list[Outcome]:
        self.calls.append(("nice", request))
        outcomes = []
        for r in self._found(request):
            value = (
                request.nice if request.nice is not None else max(-20, min(19, r.nice + (request.delta or 0)))
            )
            self.push(r._replace(nice=value))
            outcomes.append(Outcome(ref=r.id, id=r.id, name=r.name, done=f"nice {value}"))
        return outcomes

    async def remove(self, request: RemoveRequest) -> list[Outcome]:
        found = self._found(request)
        self.calls.append(("remove", request))
        self.push(gone=[r.id for r in found])
        return [Outcome(ref=r.id, id=r.id, name=r.name, done="removed") for r in found]

    async def prune(self) -> list[Outcome]:
        self.calls.append(("prune", None))
        return []

    async def kill_plan(self, request: Target) -> KillPlan:
        found = self._found(request)
        return KillPlan(
            agents=[self._info(r) for r in found],
            processes={r.id: self._processes(r) for r in found},
            waiting_for_it=["review"],
            untouched=len(self.rows) - len(found),
        )

    async def write(self, ref: str, data: bytes | None) -> None:
        self.calls.append(("write", (ref, data)))

    async def wait(self, refs: Sequence[str], timeout: float | None = None) -> list[AgentInfo]:
        return [self._info(self._row(ref)) for ref in refs]

    async def output(
        self, ref: str, *, follow: bool = False, run: int | None = None, tail: int | None = None
    ) -> AsyncIterator[Chunk]:
        self._alive()
        self._row(ref)
        yield Chunk("out", 0, OUTPUT.encode())
        if follow:
            await asyncio.Event().wait()

    async def events(
        self, *, since: int = 0, follow: bool = False, refs: Sequence[str] = (), kinds: Sequence[str] = ()
    ) -> AsyncIterator[EventInfo]:
        self._alive()
        for event in events(tuple(self.rows.values())):
            if event.seq > since and (not refs or event.agent in refs):
                yield event
        if follow:
            await asyncio.Event().wait()

    async def last_events(self, count: int, refs: Sequence[str] = ()) -> list[EventInfo]:
        self._alive()
        if not self.rows:
            return []
        return [e for e in events(tuple(self.rows.values())) if not refs or e.agent in refs][-count:]

    async def watch(self, window: Window = "today") -> AsyncIterator[Snapshot | Delta]:
        self._alive()
        queue: asyncio.Queue[Delta | None] = asyncio.Queue()
        self._watchers.append(queue)
        yield Snapshot(self.seq, NOW, window, self.sums, tuple(self.rows.values()))
        while (delta := await queue.get()) is not None:
            yield delta
        self._alive()

    async def templates(self) -> list[TemplateInfo]:
        return [
            TemplateInfo(
                name="claude",
                title="Claude Code",
                ready=True,
                found="2.1.329",
                model="claude-sonnet-4-5",
                backends=["subprocess", "docker"],
            ),
            TemplateInfo(name="codex", title="Codex", ready=True, found="0.169.0", backends=["subprocess"]),
            TemplateInfo(
                name="gemini",
                title="Gemini CLI",
                ready=False,
                found="0.61.0",
                hint="no key: set GEMINI_API_KEY, or providers.gemini",
                backends=["subprocess"],
            ),
            TemplateInfo(name="aider", title="aider", ready=False, hint="not found on PATH"),
        ]

    async def checks(self) -> list[CheckInfo]:
        return [
            CheckInfo(
                group="backends", name="docker", level="ok", found="27.3: the docker backend can be used"
            ),
            CheckInfo(group="backends", name="freeze", level="ok", found="cgroup v2, verified"),
        ]

    async def supply(self, keys: Mapping[str, str]) -> None:
        self.calls.append(("supply", sorted(keys)))

    async def shutdown(self, *, restart: bool = False) -> None:
        self.calls.append(("shutdown", restart))


async def _sample() -> KernelClient:
    return SampleClient()


async def _empty() -> KernelClient:
    return SampleClient(())


if __name__ == "__main__":
    import sys

    from agenttop.core.clock import ManualClock
    from agenttop.tui.app import AgentTopApp

    themes = [word for word in sys.argv[1:] if not word.startswith("-")]
    app = AgentTopApp(
        _empty if "--empty" in sys.argv else _sample,
        clock=None if "--live" in sys.argv else ManualClock(NOW),
        ascii=True if "--ascii" in sys.argv else None,
        theme=themes[0] if themes else None,
    )
    sys.exit(app.run(mouse="--mouse" in sys.argv))
