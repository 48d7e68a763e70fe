"""A kernel client over a canned fleet: for pictures, pilot tests and the screen's benchmark.

``python -m tests.support.sample`` opens the screen over it. It is no mock of the kernel's behaviour:
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
    ForkRequest,
    Header,
    KernelStatus,
    KillPlan,
    NiceRequest,
    Outcome,
    PauseRequest,
    ProcessInfo,
    RemoveRequest,
    Row,
    RunRequest,
    SignalRequest,
    Snapshot,
    StopRequest,
    Target,
    TemplateInfo,
    Tokens,
    TranscriptReport,
    TranscriptRequest,
    TranscriptUsage,
    Window,
    WorkspaceInfo,
)
from agenttop.core.backend import Chunk
from agenttop.core.client import KernelClient
from agenttop.core.errors import Conflict, KernelUnreachable, NoSuchAgent

from .sample_budgets import SampleMoney
from .sample_fleet import (
    EMPTY_HEADER,
    NOW,
    OUTPUT,
    ROWS,
    MiB,
    events,
    header,
    row,
)
from .sample_syscalls import SampleSyscalls
from .sample_terminals import SampleTerminals

__all__ = ["EMPTY_HEADER", "NOW", "OUTPUT", "ROWS", "SampleClient", "events", "header", "row"]


class SampleClient(SampleMoney, SampleTerminals, SampleSyscalls, KernelClient):
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
        SampleTerminals.__init__(self)
        SampleSyscalls.__init__(self)

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
            f"{len(self.rows):04x}",
            request.spec.name,
            "initializing",
            task=request.spec.prompt or "",
            backend=request.spec.backend,
            attach=request.spec.backend == "terminal",
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
                backends=["subprocess", "docker", "terminal"],
                interactive=True,
                needs_prompt=True,
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

    async def fork(self, request: ForkRequest) -> AgentInfo:
        self.calls.append(("fork", request))
        return self._info(self._row(request.ref))

    # What git would print of the folder, cut short.
    PATCH = """diff --git a/src/cart.py b/src/cart.py
index 3b18e51..a94fd12 100644
--- a/src/cart.py
+++ b/src/cart.py
@@ -1,3 +1,3 @@
 def total(items):
-    return sum(items)
+    return sum(item.price for item in items)
diff --git a/notes.md b/notes.md
new file mode 100644
--- /dev/null
+++ b/notes.md
@@ -0,0 +1 @@
+ask ana about the tax
"""

    async def workspace(self, ref: str, detail: str = "") -> WorkspaceInfo:
        self._row(ref)
        return WorkspaceInfo(
            folder="/home/ana/src/shop", worktree=True, repository="/home/ana/src/shop",
            branch="agenttop/api", base="1f3b5d7", commits=2, files=9, insertions=214, deletions=38,
            uncommitted=3, shared_with=["docs"], diff=self.PATCH if detail == "diff" else "",
            losses=["changed  src/cart.py", "new  notes.md"] if detail == "losses" else [],
        )  # fmt: skip

    async def transcripts(self, request: TranscriptRequest) -> TranscriptReport:
        return TranscriptReport(rows=[], total=TranscriptUsage(keys=[]), files=0, bytes=0, problems=0)

    async def agent_checks(self) -> list[CheckInfo]:
        return []

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
