"""System calls at the agents' door: ``POST /a/<secret>/sys/<name>``, answered in this process.

The body is the call's request as JSON, the answer is JSON too. An error is
``{"error": {"code", "what", "why", "hint"}}`` with its status; 429 and 503 carry ``Retry-After``. A list of
sends (``bus.send``, ``bus.publish``) is answered by a list, one answer or ``{"error": …}`` for each.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import orjson

from ..errors import AgentTopError, UsageError
from .http1 import BodyTooLarge, Header, headers_of
from .passage import Passage
from .routes import Answer
from .shortcuts import Shortcut


class TooLarge(AgentTopError):
    """More in one request than is taken."""

    status: ClassVar[int] = 413
    code: ClassVar[str] = "too_large"


class WrongMethod(UsageError):
    """System calls are made with POST."""

    status: ClassVar[int] = 405
    code: ClassVar[str] = "wrong_method"


class NoDoor(AgentTopError):
    """This gateway answers no system calls."""

    status: ClassVar[int] = 503
    code: ClassVar[str] = "no_syscalls"


class SyscallDoor(Protocol):
    """What answers; the kernel has it."""

    async def answer(self, agent: str, run: int, name: str, body: bytes) -> tuple[int, bytes]:
        """Status and JSON for one call; never raises. Cancelled when the client leaves, or the kernel."""
        ...

    def shortcut(self, name: str) -> Shortcut | None:
        """How this call can be begun without a task, if there is a way."""
        ...


def error_json(error: AgentTopError) -> bytes:
    """How an error is told."""
    return orjson.dumps({"error": error.to_dict()})


class Refusal(Answer):
    """A system call that is not even begun."""

    def __init__(self, error: AgentTopError) -> None:
        super().__init__(error.status, str(error), None)
        self.error = error

    @property
    def body(self) -> bytes:
        """The error as all system calls tell theirs."""
        return error_json(self.error)

    @property
    def headers(self) -> list[Header]:
        """``Retry-After`` where coming again may help."""
        return headers_of(self.status)


class Syscall(Passage):
    """One system call: read whole, answered whole. No time limit but the call's own."""

    async def run(self) -> None:
        """See ``Passage``."""
        request, route, parts = self._request, self._route, self._parts
        if request.method != "POST":
            raise Refusal(
                WrongMethod(f"{request.method} is not how a call is made", "", "Use POST, with a JSON body")
            )
        if parts.syscalls is None:
            raise Refusal(NoDoor("there are no system calls here", "The kernel gave this gateway none"))
        body = await self._body(parts.limits.syscall_bytes)
        agent, name = route.caller.agent, route.syscall or ""
        status, answer = await parts.syscalls.answer(agent, route.caller.run, name, body)
        if request.head and (shortcut := parts.syscalls.shortcut(name)) is not None:
            self._client.shortcuts.learn(request, agent, shortcut)
        if not self._client.gone:
            self._client.reply(status, answer, headers_of(status))

    async def _body(self, limit: int) -> bytes:
        """The whole body; one that says it is too long is refused before it is read.

        Raises:
            Refusal: It is too long.
        """
        length = self._request.length
        if length is not None and length > limit:
            raise Refusal(_too_large(length, limit))
        try:
            return await self._request.body.read(limit)
        except BodyTooLarge as error:
            raise Refusal(_too_large(None, limit)) from error


def _too_large(length: int | None, limit: int) -> TooLarge:
    size = f"{length} bytes" if length is not None else f"more than {limit} bytes"
    return TooLarge(
        f"the request has {size}",
        f"One call may have {limit}",
        "Write it to a file and send the path, or send it in parts",
    )
