"""The control API: ``KernelClient``'s verbs, one to one, over HTTP on the control socket.

Described by ``/openapi.json``. Answers are built from the kernel's own models and not validated a
second time. ``core/remote.py`` is the other end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body, Depends, FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from .. import __version__
from ..answers import AGENTS, CHECKS, OUTCOMES, TEMPLATES
from ..api import (
    AgentDetail,
    AgentInfo,
    CheckInfo,
    EventInfo,
    FleetRequest,
    KernelStatus,
    KillPlan,
    NiceRequest,
    Outcome,
    PauseRequest,
    RemoveRequest,
    RunRequest,
    SignalRequest,
    StopRequest,
    Target,
    TemplateInfo,
    Window,
)
from ..client import KernelClient
from ..errors import KernelUnreachable
from . import budgets, errors, frames, front, syscalls, terminals
from .callers import Caller, Connection
from .stream import Stream, unless_gone


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DownRequest(_Request):
    """Stop and remove what a fleet file declared."""

    fleet: str
    grace: float | None = Field(default=None, ge=0, le=86_400)


class WaitRequest(_Request):
    """Wait until all of these have ended for good."""

    refs: list[str] = Field(max_length=20_000)
    timeout: float | None = Field(default=None, ge=0)


class KeysRequest(_Request):
    """Provider keys, by environment variable."""

    keys: dict[str, str] = Field(repr=False)


class ShutdownRequest(_Request):
    """End the kernel; the agents run on."""

    restart: bool = False


def _json(body: bytes) -> Response:
    return Response(body, media_type=errors.JSON)


def _model(model: BaseModel) -> Response:
    return _json(model.model_dump_json().encode())


def _outcomes(outcomes: list[Outcome]) -> Response:
    return _json(OUTCOMES.dump_json(outcomes))


def create_app(client: KernelClient) -> FastAPI:
    """The control API of one kernel, reached through ``client``.

    Requests must come with a ``Connection``
    in their state (``core/http/serve.py`` puts it there); without one they are the owner's.
    """
    app = FastAPI(title="agenttop control API", version=__version__, docs_url=None, redoc_url=None)
    errors.install(app)

    async def caller(request: Request) -> Caller:
        connection = getattr(request.state, "connection", None)
        return await connection.caller(client) if isinstance(connection, Connection) else Caller(client)

    async def owner(who: Any = Depends(caller)) -> None:  # noqa: B008 - how FastAPI is told
        who.must_be_owner()

    # These two before "look": ``/agents/REF`` would take ``/agents/REF/output`` for an agent's reference.
    app.include_router(
        terminals.router(client), prefix="/v1", tags=["terminals"], dependencies=[Depends(owner)]
    )
    app.include_router(_following(client, caller), prefix="/v1", tags=["follow"])
    app.include_router(_looking(client, caller), prefix="/v1", tags=["look"])
    app.include_router(_acting(client), prefix="/v1", tags=["act"], dependencies=[Depends(owner)])
    app.include_router(budgets.router(client), prefix="/v1", tags=["money"], dependencies=[Depends(owner)])
    app.include_router(syscalls.router(client), prefix="/v1", dependencies=[Depends(owner)])
    app.include_router(_kernel(client), prefix="/v1", tags=["kernel"], dependencies=[Depends(owner)])
    return app


def _looking(client: KernelClient, caller: Callable[..., Awaitable[Caller]]) -> APIRouter:
    """What an agent may do too, as far as itself and its children are concerned."""
    router = APIRouter()
    who_is = Depends(caller)

    @router.get("/status", response_model=KernelStatus)
    async def status() -> Response:
        return front.status(await client.status())

    @router.get("/agents", response_model=list[AgentInfo])
    async def agents(all: bool = False, pids: bool = True, who: Any = who_is) -> Response:
        found = await client.agents(all=all, pids=pids)
        if who.agent is not None:
            family = await who.family()
            found = [info for info in found if info.id in family]
        return _json(AGENTS.dump_json(found))

    @router.get("/agents/{ref:path}", response_model=AgentDetail)
    async def inspect(ref: str, who: Any = who_is) -> Response:
        await who.must_own(ref)
        return _model(await client.inspect(ref))

    @router.get("/templates", response_model=list[TemplateInfo])
    async def templates() -> Response:
        return _json(TEMPLATES.dump_json(await client.templates()))

    @router.post("/run", response_model=AgentInfo)
    async def run(body: RunRequest, who: Any = who_is) -> Response:
        return _model(await client.run(await who.child(body)))

    @router.post("/wait", response_model=list[AgentInfo])
    async def wait(body: WaitRequest, request: Request, who: Any = who_is) -> Response:
        for ref in body.refs if who.agent is not None else ():
            await who.must_own(ref)
        found = await unless_gone(request, lambda: client.wait(body.refs, body.timeout))
        if found is None:
            raise KernelUnreachable(
                "the kernel left while this was waited for", "", "Ask again; the agents run on"
            )
        return _json(AGENTS.dump_json(found))

    return router


def _following(client: KernelClient, caller: Callable[..., Awaitable[Caller]]) -> APIRouter:
    router = APIRouter()
    who_is = Depends(caller)

    async def own(who: Caller, refs: Sequence[str]) -> None:
        if who.agent is not None and not refs:
            who.must_be_owner()
        for ref in refs if who.agent is not None else ():
            await who.must_own(ref)

    @router.get(
        "/agents/{ref:path}/output",
        response_class=Response,
        responses={200: {"content": {frames.FRAMES: {}}}},
    )
    async def output(
        ref: str,
        follow: bool = False,
        run: Annotated[int | None, Query(ge=1)] = None,
        tail: Annotated[int | None, Query(ge=0)] = None,
        raw: bool = False,
        who: Any = who_is,
    ) -> Response:
        """Frames of 1 byte kind (``o``, ``e``, ``x``), 8 bytes offset, 4 bytes length, then the data.

        ``raw`` gives the bytes alone, both streams mixed.
        """
        await who.must_own(ref)
        source = client.output(ref, follow=follow, run=run, tail=tail)
        if raw:
            return Stream(source, frames.chunk_raw, frames.no_error, "application/octet-stream")
        return Stream(source, frames.chunk_frame, frames.error_frame, frames.FRAMES)

    @router.get("/events", response_class=Response, responses={200: {"content": {frames.LINES: {}}}})
    async def events(
        since: Annotated[int, Query(ge=0)] = 0,
        follow: bool = False,
        ref: Annotated[Sequence[str], Query()] = (),
        kind: Annotated[Sequence[str], Query()] = (),
        who: Any = who_is,
    ) -> Response:
        """Journal rows with ``seq`` > ``since``, one JSON object a line, without loss or repeat."""
        await own(who, ref)
        source: AsyncIterator[EventInfo] = client.events(since=since, follow=follow, refs=ref, kinds=kind)
        return Stream(source, frames.event_line, frames.error_line, frames.LINES)

    @router.get("/last-events")
    async def last_events(
        count: Annotated[int, Query(ge=1, le=100_000)] = 100,
        ref: Annotated[Sequence[str], Query()] = (),
        who: Any = who_is,
    ) -> Response:
        """The newest rows worth a person's look, oldest first, one JSON object each."""
        await own(who, ref)
        rows = await client.last_events(count, ref)
        return _json(orjson.dumps([row._asdict() for row in rows], option=orjson.OPT_NON_STR_KEYS))

    @router.get("/watch", response_class=Response, responses={200: {"content": {frames.LINES: {}}}})
    async def watch(window: Window = "today", who: Any = who_is) -> Response:
        """One snapshot, then deltas: JSON arrays, a tag and then the fields in order."""
        who.must_be_owner()
        return front.watch(client, window)

    return router


def _acting(client: KernelClient) -> APIRouter:
    """What only the owner may do to agents."""
    router = APIRouter()

    @router.post("/up", response_model=list[Outcome])
    async def up(body: FleetRequest) -> Response:
        return _outcomes(await client.up(body))

    @router.post("/down", response_model=list[Outcome])
    async def down(body: DownRequest) -> Response:
        return _outcomes(await client.down(body.fleet, body.grace))

    @router.post("/pause", response_model=list[Outcome])
    async def pause(body: PauseRequest) -> Response:
        return _outcomes(await client.pause(body))

    @router.post("/resume", response_model=list[Outcome])
    async def resume(body: Target) -> Response:
        return _outcomes(await client.resume(body))

    @router.post("/stop", response_model=list[Outcome])
    async def stop(body: StopRequest) -> Response:
        return _outcomes(await client.stop(body))

    @router.post("/signal", response_model=list[Outcome])
    async def signal(body: SignalRequest) -> Response:
        return _outcomes(await client.signal(body))

    @router.post("/restart", response_model=list[Outcome])
    async def restart(body: Target) -> Response:
        return _outcomes(await client.restart(body))

    @router.post("/nice", response_model=list[Outcome])
    async def nice(body: NiceRequest) -> Response:
        return _outcomes(await client.nice(body))

    @router.post("/remove", response_model=list[Outcome])
    async def remove(body: RemoveRequest) -> Response:
        return _outcomes(await client.remove(body))

    @router.post("/prune", response_model=list[Outcome])
    async def prune() -> Response:
        return _outcomes(await client.prune())

    @router.post("/kill-plan", response_model=KillPlan)
    async def kill_plan(body: Target) -> Response:
        return _model(await client.kill_plan(body))

    @router.put("/agents/{ref:path}/stdin", status_code=204)
    async def write(ref: str, data: Annotated[bytes, Body(media_type="application/octet-stream")]) -> None:
        """Write the body to the agent's stdin; returns when it was taken."""
        await client.write(ref, data)

    @router.delete("/agents/{ref:path}/stdin", status_code=204)
    async def close_stdin(ref: str) -> None:
        """Close the agent's stdin."""
        await client.write(ref, None)

    return router


def _kernel(client: KernelClient) -> APIRouter:
    """What only the owner may ask of the kernel itself."""
    router = APIRouter()

    @router.get("/checks", response_model=list[CheckInfo])
    async def checks() -> Response:
        return _json(CHECKS.dump_json(await client.checks()))

    @router.get("/agent-checks", response_model=list[CheckInfo])
    async def agent_checks() -> Response:
        """What the readers of agent CLIs found, and what they did not understand."""
        return _json(CHECKS.dump_json(await client.agent_checks()))

    @router.post("/keys", status_code=204)
    async def supply(body: KeysRequest) -> None:
        """Provider keys that calls wait for; kept in memory only."""
        await client.supply(body.keys)

    @router.post("/shutdown", status_code=204)
    async def shutdown(body: ShutdownRequest) -> None:
        await client.shutdown(restart=body.restart)

    return router
