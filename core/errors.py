"""Errors a person can act on: what happened, why, and what to do next.

The same three sentences appear on stderr, in a toast and in a control API response, so that a
person who searches for the text finds it wherever it was shown.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, ClassVar


class AgentTopError(Exception):
    """Base of every error this project raises on purpose.

    Attributes:
        what: What happened, one clause, no full stop.
        why: The cause, if known: a sentence of its own, so it begins with a capital, a name or a value.
        hint: What the person can do now, likewise.
        exit_code: Exit status of the command line (1 failed, 2 usage, 3 no such agent).
        status: HTTP status of the control API.
        code: Stable machine-readable name.
    """

    exit_code: ClassVar[int] = 1
    status: ClassVar[int] = 500
    code: ClassVar[str] = "error"

    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what, why, hint)
        self.what = what
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        parts = (part.rstrip(".") + "." for part in (self.what, self.why, self.hint) if part)
        return " ".join(parts)

    def to_dict(self) -> dict[str, str]:
        """The error as it travels over the control API."""
        return {"code": self.code, "what": self.what, "why": self.why, "hint": self.hint}


class UsageError(AgentTopError):
    """The request cannot be meant: bad arguments, a bad file, an impossible value."""

    exit_code = 2
    status = 400
    code = "usage"


class ConfigError(UsageError):
    """A configuration or fleet file is wrong; ``what`` names file, line and field."""

    code = "config"


class NoSuchAgent(AgentTopError):
    """No agent has this name, id or id prefix."""

    exit_code = 3
    status = 404
    code = "no_such_agent"


class AmbiguousAgent(AgentTopError):
    """An id prefix that fits more than one agent."""

    exit_code = 3
    status = 404
    code = "ambiguous_agent"


class Conflict(AgentTopError):
    """The agent is not in a state in which this can be done, or the name is taken."""

    status = 409
    code = "conflict"


class Forbidden(AgentTopError):
    """The caller may not do this."""

    status = 403
    code = "forbidden"


class BackendError(AgentTopError):
    """The place where agents run refused or failed: no such program, no such image, no dockerd."""

    status = 502
    code = "backend"


class NoTerminal(BackendError):
    """The agent runs without a terminal: there is nothing to attach to, and no screen of it."""

    status = 409
    code = "no_terminal"


class BackendUnavailable(BackendError):
    """The backend cannot be reached now (dockerd stopped); runs are neither lost nor known."""

    status = 503
    code = "backend_unavailable"


class JournalUnavailable(AgentTopError):
    """The journal cannot be written (full disk, read-only file system); the kernel takes no new work."""

    status = 503
    code = "journal_unavailable"


class KernelUnreachable(AgentTopError):
    """No kernel answers on the control socket."""

    status = 503
    code = "kernel_unreachable"


def _subclasses(cls: type[AgentTopError]) -> list[type[AgentTopError]]:
    return [cls, *(leaf for sub in cls.__subclasses__() for leaf in _subclasses(sub))]


#: Rooms with errors of their own; a client has not loaded them when the first of theirs arrives.
_ROOMS = ("agenttop.core.bus.errors", "agenttop.core.memory.model")


def _class_of(code: str) -> type[AgentTopError] | None:
    return next((c for c in _subclasses(AgentTopError) if c.code == code), None)


def from_dict(data: dict[str, Any]) -> AgentTopError:
    """Rebuild the error of a control API response; an unknown code becomes the base class."""
    code = str(data.get("code", ""))
    cls = _class_of(code)
    if cls is None:
        for room in _ROOMS:
            import_module(room)
        cls = _class_of(code) or AgentTopError
    return cls(str(data.get("what", "unknown error")), str(data.get("why", "")), str(data.get("hint", "")))
