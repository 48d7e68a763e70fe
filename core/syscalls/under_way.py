"""A call of an agent that is under way without a task: begun in one callback, answered in another one."""

from __future__ import annotations

import logging
from collections.abc import Callable

import orjson

from ..errors import AgentTopError

log = logging.getLogger(__name__)

Tell = Callable[[int, bytes], None]
"""Takes the answer: status and JSON."""


def said(error: AgentTopError) -> bytes:
    """How an error is told."""
    return orjson.dumps({"error": error.to_dict()})


def failed(name: str, error: BaseException) -> tuple[int, bytes]:
    """The answer where the kernel failed as nobody thought of; the log has the traceback."""
    log.error("the system call %.80s failed", name, exc_info=error)
    why, hint = type(error).__name__, "Tell the person who started you: the kernel's log says more"
    fault = AgentTopError("the kernel failed at this call", why, hint)
    return fault.status, said(fault)


class UnderWay:
    """Answered once by ``tell``; never once its caller has left.

    Args:
        over: Called with ``agent`` once, when it is answered or its caller has left.
    """

    __slots__ = ("_agent", "_ends", "_over", "_tell", "name", "ready")

    def __init__(self, name: str, agent: str, tell: Tell, over: Callable[[str], None]) -> None:
        self.name = name
        self.ready = b""
        """The answer, where only the disk is waited for."""
        self._agent = agent
        self._tell: Tell | None = tell
        self._over = over
        self._ends: Callable[[], None] | None = None

    @property
    def done(self) -> bool:
        """Whether it is answered, or nobody is there to be."""
        return self._tell is None

    # --- the gateway's (``server.Handler``)

    def client_gone(self) -> None:
        """The caller left; what is on its way to the disk goes there all the same."""
        if self._tell is not None:
            self._end()

    def client_room(self, room: bool) -> None:
        """An answer is one write: nothing to hold back."""

    # --- who answers

    def ends_with(self, end: Callable[[], None] | None) -> None:
        """Call ``end`` if the caller leaves: it is waited for something."""
        self._ends = end

    def settled(self, error: AgentTopError | None) -> None:
        """It is durable (``Batch.then``): tell what was made ready."""
        if error is None:
            self.answer(self.ready)
        else:
            self.fail(error)

    def answer(self, body: bytes) -> None:
        """Tell the answer."""
        self._tell_all(200, body)

    def fail(self, error: BaseException) -> None:
        """Tell what went wrong."""
        if isinstance(error, AgentTopError):
            self._tell_all(error.status, said(error))
        else:
            self._tell_all(*failed(self.name, error))

    def _tell_all(self, status: int, body: bytes) -> None:
        tell = self._tell
        if tell is not None:
            self._ends = None
            self._end()
            tell(status, body)

    def _end(self) -> None:
        self._tell = None
        end, self._ends = self._ends, None
        if end is not None:
            end()
        self._over(self._agent)
