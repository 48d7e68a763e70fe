"""The control API's part about money, calls and providers. Only the owner's."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from ..answers import APPROVALS, BUDGETS, CALLS, OUTCOMES, PROVIDERS, USAGE
from ..api import (
    AnswerRequest,
    ApprovalInfo,
    BudgetInfo,
    BudgetRequest,
    CallInfo,
    CallsRequest,
    ExtendRequest,
    HaltInfo,
    Outcome,
    ProviderInfo,
    TranscriptReport,
    TranscriptRequest,
    UsageRequest,
    UsageRow,
)
from ..client import KernelClient
from .errors import JSON


class BudgetName(BaseModel):
    """Which budget."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=80)


def _json(body: bytes) -> Response:
    return Response(body, media_type=JSON)


def _model(model: BaseModel) -> Response:
    return _json(model.model_dump_json().encode())


def router(client: KernelClient) -> APIRouter:
    """The routes, below ``/v1``."""
    found = APIRouter()
    _budgets(found, client)
    _calls(found, client)
    return found


def _budgets(router: APIRouter, client: KernelClient) -> None:
    @router.get("/budgets", response_model=list[BudgetInfo])
    async def budgets() -> Response:
        return _json(BUDGETS.dump_json(await client.budgets()))

    @router.post("/budgets", response_model=BudgetInfo)
    async def set_budget(body: BudgetRequest) -> Response:
        return _model(await client.set_budget(body))

    @router.post("/budgets/extend", response_model=BudgetInfo)
    async def extend_budget(body: ExtendRequest) -> Response:
        return _model(await client.extend_budget(body))

    @router.post("/budgets/remove", status_code=204)
    async def remove_budget(body: BudgetName) -> None:
        await client.remove_budget(body.name)

    @router.get("/approvals", response_model=list[ApprovalInfo])
    async def approvals() -> Response:
        return _json(APPROVALS.dump_json(await client.approvals()))

    @router.post("/answer", response_model=list[Outcome])
    async def answer(body: AnswerRequest) -> Response:
        return _json(OUTCOMES.dump_json(await client.answer(body)))


def _calls(router: APIRouter, client: KernelClient) -> None:
    @router.post("/calls", response_model=list[CallInfo])
    async def calls(body: CallsRequest) -> Response:
        return _json(CALLS.dump_json(await client.model_calls(body)))

    @router.post("/usage", response_model=list[UsageRow])
    async def usage(body: UsageRequest) -> Response:
        return _json(USAGE.dump_json(await client.usage(body)))

    @router.post("/transcripts", response_model=TranscriptReport)
    async def transcripts(body: TranscriptRequest) -> Response:
        """Sums over the calls in the agent CLIs' transcripts on this machine."""
        return _model(await client.transcripts(body))

    @router.get("/providers", response_model=list[ProviderInfo])
    async def providers() -> Response:
        return _json(PROVIDERS.dump_json(await client.providers()))

    @router.post("/halt", response_model=HaltInfo)
    async def halt() -> Response:
        """The kill switch: every call is held, every managed agent frozen."""
        return _model(await client.halt())

    @router.post("/unhalt", response_model=HaltInfo)
    async def unhalt() -> Response:
        return _model(await client.unhalt())
