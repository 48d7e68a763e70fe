"""From a request's path to where it goes: ``/a/<secret>/<provider>/<rest>``."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

import orjson

from .desk import Caller, Desk
from .http1 import Header, Request
from .protocols import PROTOCOLS
from .protocols.base import WireProtocol
from .providers import Origin, Provider

AGENT_HEADER = b"x-agenttop-agent"
"""Tells a kernel app who calls. Taken off what clients send."""


SYSCALLS = "sys"
"""What stands where a provider's name would, before the name of a system call."""

_HERE = Origin("unix", "", 0)

_VERSION = re.compile(rb"v\d{1,2}(?:beta\d?|alpha)?")


@dataclass(frozen=True, slots=True)
class KernelApp:
    """A part of the kernel that agents reach through their own door, as if it were a provider.

    Requests to ``/a/<secret>/<name>…`` arrive on the Unix socket at ``<path>…`` with the caller's
    agent id in ``x-agenttop-agent``.
    """

    socket: str
    path: str


class Answer(Exception):
    """The gateway answers by itself: the request goes nowhere."""

    def __init__(
        self, status: int, message: str, protocol: WireProtocol | None, *, retry: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.protocol = protocol
        self.retry = retry

    @property
    def body(self) -> bytes:
        """The protocol's own error form; a plain one where no protocol is known."""
        text = f"agenttop: {self.message}"
        if self.protocol is not None:
            return self.protocol.error_body(self.status, text)
        return orjson.dumps({"type": "error", "error": {"type": "api_error", "message": text}})

    @property
    def headers(self) -> list[Header]:
        """``x-should-retry: false`` tells the official clients not to try again."""
        return [] if self.retry else [(b"x-should-retry", b"false")]


class Stranger(Answer):
    """The address is not the client's own; ``syscall``: it asked for a system call."""

    def __init__(self, message: str, protocol: WireProtocol | None, syscall: bool) -> None:
        super().__init__(403, message, protocol)
        self.syscall = syscall

    @property
    def body(self) -> bytes:
        """In the form of what was asked for."""
        if not self.syscall:
            return super().body
        error = {"code": "wrong_address", "what": self.message, "why": "", "hint": ""}
        return orjson.dumps({"error": error})


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes, and as whose. ``operation`` is set for what is metered."""

    caller: Caller
    origin: Origin
    target: bytes
    provider: Provider | None
    protocol: WireProtocol | None
    operation: str | None
    path: str
    """Decoded and without query: fit for a log."""
    rest: bytes = b""
    """What stands behind the provider's name, with the query, as it came."""
    syscall: str | None = None
    """The name of a system call: it is answered here, and goes nowhere."""


def find(
    request: Request, desk: Desk, providers: Mapping[str, Provider], apps: Mapping[str, KernelApp]
) -> Route:
    """Where this request goes.

    Raises:
        Stranger: 403 without a valid secret.
        Answer: 404 for an unknown provider, 400 for a path with dots.
    """
    target = request.target
    if not target.startswith(b"/"):
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    raw, question, query = target.partition(b"?")
    parts = raw.split(b"/", 4)
    name = parts[3].decode("latin-1") if len(parts) > 3 else ""
    provider = providers.get(name)
    protocol = PROTOCOLS[provider.protocol] if provider is not None else None
    caller = None
    if len(parts) > 2 and parts[1] == b"a":
        caller = desk.identify(parts[2].decode("latin-1"))
    if caller is None:
        text = "no agent has this address; use the AGENTTOP_URL of a managed agent"
        raise Stranger(text, protocol, name == SYSCALLS)
    if name == SYSCALLS:
        call = unquote(parts[4].decode("latin-1")) if len(parts) > 4 else ""
        return Route(caller, _HERE, b"", None, None, None, f"/{SYSCALLS}", syscall=call)
    rest = b"/" + parts[4] if len(parts) > 4 else b""
    app = apps.get(name)
    if app is not None:
        return Route(
            caller, Origin("unix", app.socket, 0), app.path.encode() + rest + question + query,
            None, None, None, f"/{name}",
        )  # fmt: skip
    if provider is None or protocol is None:
        raise Answer(404, f"no provider is called {name[:80]!r}", None)
    target = joined(provider.path, rest)
    path = _plain(target, protocol)
    operation = protocol.operation(request.method, path.lower())
    return Route(
        caller, provider.origin, (target or b"/") + question + query, provider, protocol, operation, path,
        rest + question + query,
    )  # fmt: skip


def joined(base: bytes, rest: bytes) -> bytes:
    """The path at a provider. A version that stands at the end of the base URL and again at the beginning
    of the path is meant once: people write ``http://host/v1``, and so do clients."""
    version = base.rpartition(b"/")[2]
    if _VERSION.fullmatch(version) and (rest + b"/").startswith(b"/" + version + b"/"):
        return base + rest[len(version) + 1 :]
    return base + rest


def _plain(raw: bytes, protocol: WireProtocol | None) -> str:
    """The path in the one form that decides what is metered.

    Raises:
        Answer: It has dot segments: they would lead out of the provider's base URL.
    """
    path = unquote(raw.decode("latin-1")).replace("\\", "/")
    segments = [part.partition(";")[0] for part in path.split("/") if part]
    if any(part in (".", "..") for part in segments):
        raise Answer(400, "a path with '.' or '..' segments is not forwarded", protocol)
    return posixpath.join("/", *segments)
