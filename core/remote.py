"""``SocketClient``: a ``KernelClient`` over the control socket. ``core/http/control.py`` is the other end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import orjson

from .client import KernelClient
from .errors import AgentTopError, KernelUnreachable, NoSuchAgent, from_dict
from .http.connection import Connection
from .http.frames import Frames, Lines, change_from, event_from
from .quick import check_version

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .api import (
        AgentDetail,
        AgentInfo,
        AnswerRequest,
        ApprovalInfo,
        AttachInfo,
        BudgetInfo,
        BudgetRequest,
        CallInfo,
        CallsRequest,
        CheckInfo,
        ExtendRequest,
        FleetRequest,
        ForkRequest,
        HaltInfo,
        HistoryInfo,
        KernelStatus,
        KillPlan,
        NiceRequest,
        Outcome,
        PauseRequest,
        PressRequest,
        ProviderInfo,
        RemoveRequest,
        RunRequest,
        SignalRequest,
        StopRequest,
        Target,
        TemplateInfo,
        TranscriptReport,
        TranscriptRequest,
        UsageRequest,
        UsageRow,
        WorkspaceInfo,
    )
    from .api.verbs import A, Q, Verb
    from .api.workspaces import Detail
    from .backend import Chunk
    from .table import Delta, EventInfo, Snapshot, Window

M = TypeVar("M", bound="BaseModel")

VERSION = b"agenttop-version"
_JSON = "application/json"
_IDLE = 4
"""Connections kept for the next request."""


class SocketClient(KernelClient):
    """Every verb is one request; nothing is repeated behind the caller's back.

    Args:
        path: The control socket.
        any_version: Speak to kernels of other versions too: only for status, stop and restart.
    """

    def __init__(self, path: Path, *, any_version: bool = False) -> None:
        self.path = path
        self._any_version = any_version
        self._idle: list[Connection] = []
        self._closed = False

    async def close(self) -> None:
        """Hang up; streams that still run end with ``KernelUnreachable``."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    # --- looking ---------------------------------------------------------------------------------

    async def status(self) -> KernelStatus:
        """Who this kernel is and how it fares."""
        from .api import KernelStatus

        return await self._get("/v1/status", KernelStatus)

    async def missing_keys(self) -> list[str]:
        """Of the status, which provider keys calls wait for; read without the models."""
        return list(orjson.loads(await self._ask("GET", "/v1/status"))["missing_keys"])

    async def agents(self, *, all: bool = False, pids: bool = True) -> list[AgentInfo]:
        """The live agents, or all."""
        from .answers import AGENTS

        return AGENTS.validate_json(await self._ask("GET", _query("/v1/agents", all=all, pids=pids)))

    async def inspect(self, ref: str) -> AgentDetail:
        """Everything about one agent."""
        from .api import AgentDetail

        return await self._get(_agent(ref), AgentDetail)

    async def kill_plan(self, request: Target) -> KillPlan:
        """What a kill would end."""
        from .api import KillPlan

        return KillPlan.model_validate_json(await self._post("/v1/kill-plan", request))

    async def templates(self) -> list[TemplateInfo]:
        """The templates."""
        from .answers import TEMPLATES

        return TEMPLATES.validate_json(await self._ask("GET", "/v1/templates"))

    async def checks(self) -> list[CheckInfo]:
        """What doctor can only learn inside the kernel."""
        from .answers import CHECKS

        return CHECKS.validate_json(await self._ask("GET", "/v1/checks"))

    async def agent_checks(self) -> list[CheckInfo]:
        """What the readers of agent CLIs found."""
        from .answers import CHECKS

        return CHECKS.validate_json(await self._ask("GET", "/v1/agent-checks"))

    # --- acting ----------------------------------------------------------------------------------

    async def run(self, request: RunRequest) -> AgentInfo:
        """Create and start one agent."""
        from .api import AgentInfo

        return AgentInfo.model_validate_json(await self._post("/v1/run", request))

    async def up(self, request: FleetRequest) -> list[Outcome]:
        """Bring a fleet up."""
        return await self._outcomes("up", request)

    async def down(self, fleet: str, grace: float | None = None) -> list[Outcome]:
        """Stop and remove what a fleet file declared."""
        from .answers import OUTCOMES

        return OUTCOMES.validate_json(await self._post("/v1/down", {"fleet": fleet, "grace": grace}))

    async def pause(self, request: PauseRequest) -> list[Outcome]:
        """Freeze or hold."""
        return await self._outcomes("pause", request)

    async def resume(self, request: Target) -> list[Outcome]:
        """Undo freeze and hold."""
        return await self._outcomes("resume", request)

    async def stop(self, request: StopRequest) -> list[Outcome]:
        """Stop or kill."""
        return await self._outcomes("stop", request)

    async def signal(self, request: SignalRequest) -> list[Outcome]:
        """Send one signal."""
        return await self._outcomes("signal", request)

    async def restart(self, request: Target) -> list[Outcome]:
        """Start new runs."""
        return await self._outcomes("restart", request)

    async def nice(self, request: NiceRequest) -> list[Outcome]:
        """Set the scheduling priority."""
        return await self._outcomes("nice", request)

    async def remove(self, request: RemoveRequest) -> list[Outcome]:
        """Take ended agents off the table."""
        return await self._outcomes("remove", request)

    async def prune(self) -> list[Outcome]:
        """Take all ended agents off the table."""
        return await self._outcomes("prune", {})

    async def write(self, ref: str, data: bytes | None) -> None:
        """Write to an agent's stdin; ``None`` closes it."""
        if data is None:
            await self._ask("DELETE", _agent(ref) + "/stdin")
        else:
            await self._ask("PUT", _agent(ref) + "/stdin", data, "application/octet-stream")

    async def attach(self, ref: str) -> AttachInfo:
        """How to get in front of an agent's terminal."""
        from .api import AttachInfo

        return AttachInfo.model_validate_json(await self._post(_agent(ref) + "/attach", {}))

    async def press(self, request: PressRequest) -> None:
        """Press keys in an agent's terminal."""
        await self._post("/v1/press", request)

    async def history(self, ref: str, lines: int = 1_000) -> HistoryInfo:
        """What an agent's terminal shows and showed."""
        from .api import HistoryInfo

        return await self._get(_query(_agent(ref) + "/history", lines=lines), HistoryInfo)

    async def fork(self, request: ForkRequest) -> AgentInfo:
        """Begin a new agent in the conversation of another."""
        from .api import AgentInfo

        return AgentInfo.model_validate_json(await self._post("/v1/fork", request))

    async def workspace(self, ref: str, detail: Detail = "") -> WorkspaceInfo:
        """Where an agent works and what it has changed there."""
        from .api import WorkspaceInfo

        path = _agent(ref) + "/workspace"
        return await self._get(_query(path, detail=detail) if detail else path, WorkspaceInfo)

    async def wait(self, refs: Sequence[str], timeout: float | None = None) -> list[AgentInfo]:
        """Return when all of these have ended for good."""
        from .answers import AGENTS

        body = {"refs": list(refs), "timeout": timeout}
        return AGENTS.validate_json(await self._post("/v1/wait", body))

    async def supply(self, keys: Mapping[str, str]) -> None:
        """Give the kernel provider keys."""
        await self._post("/v1/keys", {"keys": dict(keys)})

    async def shutdown(self, *, restart: bool = False) -> None:
        """End the kernel; agents run on."""
        await self._post("/v1/shutdown", {"restart": restart})

    # --- money, calls, providers -----------------------------------------------------------------

    async def budgets(self) -> list[BudgetInfo]:
        """Every budget as it stands now."""
        from .answers import BUDGETS

        return BUDGETS.validate_json(await self._ask("GET", "/v1/budgets"))

    async def set_budget(self, request: BudgetRequest) -> BudgetInfo:
        """Make or replace a budget."""
        from .api import BudgetInfo

        return BudgetInfo.model_validate_json(await self._post("/v1/budgets", request))

    async def extend_budget(self, request: ExtendRequest) -> BudgetInfo:
        """Add to a budget's limit."""
        from .api import BudgetInfo

        return BudgetInfo.model_validate_json(await self._post("/v1/budgets/extend", request))

    async def remove_budget(self, name: str) -> None:
        """Take a budget away."""
        await self._post("/v1/budgets/remove", {"name": name})

    async def approvals(self) -> list[ApprovalInfo]:
        """What waits for a person's decision."""
        from .answers import APPROVALS

        return APPROVALS.validate_json(await self._ask("GET", "/v1/approvals"))

    async def answer(self, request: AnswerRequest) -> list[Outcome]:
        """Decide about held calls."""
        return await self._outcomes("answer", request)

    async def model_calls(self, request: CallsRequest) -> list[CallInfo]:
        """Model calls one by one."""
        from .answers import CALLS

        return CALLS.validate_json(await self._post("/v1/calls", request))

    async def usage(self, request: UsageRequest) -> list[UsageRow]:
        """Sums over settled calls."""
        from .answers import USAGE

        return USAGE.validate_json(await self._post("/v1/usage", request))

    async def transcripts(self, request: TranscriptRequest) -> TranscriptReport:
        """Sums over the calls in transcripts."""
        from .api import TranscriptReport

        return TranscriptReport.model_validate_json(await self._post("/v1/transcripts", request))

    async def providers(self) -> list[ProviderInfo]:
        """Every provider as the gateway sees it."""
        from .answers import PROVIDERS

        return PROVIDERS.validate_json(await self._ask("GET", "/v1/providers"))

    async def halt(self) -> HaltInfo:
        """The kill switch."""
        from .api import HaltInfo

        return HaltInfo.model_validate_json(await self._post("/v1/halt", {}))

    async def unhalt(self) -> HaltInfo:
        """Undo ``halt``."""
        from .api import HaltInfo

        return HaltInfo.model_validate_json(await self._post("/v1/unhalt", {}))

    # --- the bus, memory, and what agents ask ----------------------------------------------------

    async def call(self, verb: Verb[Q, A], request: Q) -> A:
        """Ask a verb."""
        return verb.answer.validate_json(await self._post(f"/v1/call/{verb.name}", request))

    async def follow(self, verb: Verb[Q, A], request: Q) -> AsyncIterator[A]:
        """The answers of a stream verb."""
        body = request.model_dump_json().encode()
        async for document in self._lines(f"/v1/follow/{verb.name}", body):
            yield verb.answer.validate_python(document)

    # --- following -------------------------------------------------------------------------------

    async def output(
        self, ref: str, *, follow: bool = False, run: int | None = None, tail: int | None = None
    ) -> AsyncIterator[Chunk]:
        """The raw output of a run."""
        frames = Frames()
        target = _query(_agent(ref) + "/output", follow=follow, run=run, tail=tail)
        async with self._answer("GET", target) as connection:
            async for piece in connection.pieces():
                for chunk in frames.feed(piece):
                    yield chunk

    async def events(
        self, *, since: int = 0, follow: bool = False, refs: Sequence[str] = (), kinds: Sequence[str] = ()
    ) -> AsyncIterator[EventInfo]:
        """Journal rows after ``since``."""
        target = _query("/v1/events", since=since, follow=follow, ref=list(refs), kind=list(kinds))
        async for document in self._lines(target):
            yield event_from(document)

    async def last_events(self, count: int, refs: Sequence[str] = ()) -> list[EventInfo]:
        """The newest rows worth a person's look."""
        body = await self._ask("GET", _query("/v1/last-events", count=count, ref=list(refs)))
        return [event_from(document) for document in orjson.loads(body)]

    async def watch(self, window: Window = "today") -> AsyncIterator[Snapshot | Delta]:
        """One snapshot, then deltas."""
        async for document in self._lines(_query("/v1/watch", window=window)):
            yield change_from(document)

    # --- inside ----------------------------------------------------------------------------------

    async def plain(self, target: str, body: Any = None) -> Any:
        """``GET target``, or ``POST`` with a JSON ``body``, without models: what ``quick.ask`` is here."""
        if body is None:
            answer = await self._ask("GET", target)
        else:
            answer = await self._ask("POST", target, orjson.dumps(body))
        return orjson.loads(answer) if answer else None

    async def _get(self, target: str, model: type[M]) -> M:
        return model.model_validate_json(await self._ask("GET", target))

    async def _post(self, target: str, body: BaseModel | dict[str, Any]) -> bytes:
        data = orjson.dumps(body) if isinstance(body, dict) else body.model_dump_json().encode()
        return await self._ask("POST", target, data)

    async def _outcomes(self, verb: str, body: BaseModel | dict[str, Any]) -> list[Outcome]:
        from .answers import OUTCOMES

        return OUTCOMES.validate_json(await self._post(f"/v1/{verb}", body))

    async def _ask(
        self, method: str, target: str, body: bytes | None = None, media_type: str = _JSON
    ) -> bytes:
        async with self._answer(method, target, body, media_type) as connection:
            return await connection.body()

    async def _lines(self, target: str, body: bytes | None = None) -> AsyncIterator[Any]:
        lines = Lines()
        async with self._answer("GET" if body is None else "POST", target, body) as connection:
            async for piece in connection.pieces():
                for document in lines.feed(piece):
                    yield document

    @asynccontextmanager
    async def _answer(
        self, method: str, target: str, body: bytes | None = None, media_type: str = _JSON
    ) -> AsyncIterator[Connection]:
        """A connection with a good answer's head read; it is kept if the answer was read to its end."""
        connection = await self._connection()
        try:
            status = await connection.send(method, target, body, media_type)
            self._check_version(connection)
            if status >= 400:
                raise _error(status, await connection.body())
            yield connection
        finally:
            if connection.usable and not self._closed and len(self._idle) < _IDLE:
                self._idle.append(connection)
            else:
                connection.close()

    async def _connection(self) -> Connection:
        if self._closed:
            raise KernelUnreachable("this client is closed")
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.close()
        return await self._open()

    async def _open(self) -> Connection:
        """A fresh connection; ``core/hosts`` has another way to the socket."""
        return await Connection.open(self.path)

    def _check_version(self, connection: Connection) -> None:
        if not self._any_version:
            check_version(connection.headers.get(VERSION, b"").decode("latin-1"))


def _error(status: int, body: bytes) -> Exception:
    """The error an answer carries; the time that was over becomes ``TimeoutError``, as in process."""
    try:
        data = orjson.loads(body)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return AgentTopError(
            "the kernel failed at this", f"It answered {status}", "See `agenttop kernel log`"
        )
    if data.get("code") == "timeout":
        return TimeoutError(data.get("what", ""))
    return from_dict(data)


def _query(path: str, **values: Any) -> str:
    fields: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, list):
            fields += [(name, str(one)) for one in value]
        elif isinstance(value, bool):
            fields.append((name, "true" if value else "false"))
        elif value is not None:
            fields.append((name, str(value)))
    return f"{path}?{urlencode(fields, errors='surrogatepass')}" if fields else path


def _agent(ref: str) -> str:
    if not ref or not ref.isprintable():
        # Neither could be told apart from another path by an HTTP router; no agent is called so.
        raise NoSuchAgent(f"no agent {ref!r}", hint="`agenttop ps --all` lists every agent")
    return "/v1/agents/" + quote(ref, safe="", errors="surrogatepass")
