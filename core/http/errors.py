"""Errors as the control API tells them: ``{"error": {code, what, why, hint}}`` with the class's status."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..errors import AgentTopError, UsageError

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger(__name__)

JSON = "application/json"


class TooLong(AgentTopError):
    """The time the caller gave is over."""

    status = 408
    code = "timeout"


def answer(error: AgentTopError) -> Response:
    """The response that carries ``error``."""
    return Response(orjson.dumps({"error": error.to_dict()}), error.status, media_type=JSON)


async def _ours(_: Request, error: Exception) -> Response:
    assert isinstance(error, AgentTopError)
    return answer(error)


async def _invalid(_: Request, error: Exception) -> Response:
    from fastapi.exceptions import RequestValidationError

    assert isinstance(error, RequestValidationError)
    return answer(UsageError("the request is not valid", "; ".join(faults(error))))


def faults(error: Any) -> list[str]:
    """Each fault of a validation error as ``field: rule``, without the input, which may hold a secret."""
    return [
        f"{'.'.join(map(str, e['loc'])).removeprefix('body.') or 'body'}: "
        f"{e['msg'].removeprefix('Value error, ')}"
        for e in error.errors()
    ]


async def _late(_: Request, __: Exception) -> Response:
    return answer(TooLong("the time is over"))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    fault = UsageError(
        f"{request.method} {request.url.path} is not there", str(error.detail), "See /openapi.json"
    )
    response = answer(fault)
    response.status_code = error.status_code
    return response


async def _unforeseen(request: Request, error: Exception) -> Response:
    return unforeseen(request.method, request.url.path, error)


def unforeseen(method: str, path: str, error: Exception) -> Response:
    """The response to a request that failed as nobody thought of; the log has the traceback."""
    log.error("%s %s failed", method, path, exc_info=error)
    return answer(
        AgentTopError(
            "the kernel failed at this",
            f"{type(error).__name__}: {error}",
            "See `agenttop kernel log` for the traceback",
        )
    )


def install(app: FastAPI) -> None:
    """Let ``app`` answer every exception in this way."""
    from fastapi.exceptions import RequestValidationError

    app.add_exception_handler(AgentTopError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(TimeoutError, _late)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unforeseen)
