"""The control API's part about agents' terminals and workspaces. Only the owner's."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from ..api import AgentInfo, AttachInfo, ForkRequest, HistoryInfo, PressRequest, WorkspaceInfo
from ..api.workspaces import Detail
from ..client import KernelClient
from .errors import JSON


def _model(model: BaseModel) -> Response:
    return Response(model.model_dump_json().encode(), media_type=JSON)


def router(client: KernelClient) -> APIRouter:
    """The routes, below ``/v1``; before those that take ``/agents/REF/…`` for a reference."""
    router = APIRouter()

    @router.post("/agents/{ref:path}/attach", response_model=AttachInfo)
    async def attach(ref: str) -> Response:
        """What to run on this machine to get in front of the agent's terminal."""
        return _model(await client.attach(ref))

    @router.post("/press", status_code=204)
    async def press(body: PressRequest) -> None:
        await client.press(body)

    @router.get("/agents/{ref:path}/history", response_model=HistoryInfo)
    async def history(ref: str, lines: Annotated[int, Query(ge=0, le=1_000_000)] = 1_000) -> Response:
        return _model(await client.history(ref, lines))

    @router.get("/agents/{ref:path}/workspace", response_model=WorkspaceInfo)
    async def workspace(ref: str, detail: Detail = "") -> Response:
        """Where the agent works and what it changed there, as git tells now."""
        return _model(await client.workspace(ref, detail))

    @router.post("/fork", response_model=AgentInfo)
    async def fork(body: ForkRequest) -> Response:
        """Begin a new agent in the conversation of another."""
        return _model(await client.fork(body))

    return router
