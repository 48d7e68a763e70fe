"""The control API's part about the bus, memory and what agents ask: one route per verb of their tables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from ..api import bus, memory, selves
from ..api.verbs import Verb
from ..client import KernelClient
from ..errors import UsageError
from . import frames
from .errors import JSON, faults
from .stream import Stream, unless_gone

VERBS: tuple[Verb[Any, Any], ...] = (*bus.VERBS, *memory.VERBS, *selves.VERBS)


def router(client: KernelClient) -> APIRouter:
    """The routes, below ``/v1``."""
    router = APIRouter()
    for verb in VERBS:
        way = "follow" if verb.stream else "call"
        router.add_api_route(
            f"/{way}/{verb.name}",
            _endpoint(client, verb),
            methods=["POST"],
            summary=verb.summary,
            tags=[verb.name.partition(".")[0]],
            response_model=None if verb.stream else verb.shape,
            openapi_extra={"requestBody": {"content": {JSON: {"schema": verb.request.model_json_schema()}}}},
        )
    return router


def _endpoint(client: KernelClient, verb: Verb[Any, Any]) -> Callable[[Request], Awaitable[Response]]:
    async def asked(http: Request) -> Any:
        try:
            return verb.request.model_validate_json(await http.body() or b"{}")
        except ValidationError as error:
            raise UsageError("the request is not valid", "; ".join(faults(error))) from error

    async def call(http: Request) -> Response:
        request = await asked(http)

        async def work() -> bytes:
            return verb.answer.dump_json(await client.call(verb, request))

        # Whoever left waits for no reply and no mail any more.
        return Response(await unless_gone(http, work), media_type=JSON)

    async def follow(http: Request) -> Response:
        answers = client.follow(verb, await asked(http))
        return Stream(answers, frames.answer_line, frames.error_line, frames.LINES)

    return follow if verb.stream else call
