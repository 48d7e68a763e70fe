"""One question over the control socket without event loop or models: for commands that answer at once.

Importing asyncio and pydantic takes longer than ``agenttop ps`` may. This is the same control API,
read as plain JSON; ``core/remote.py`` is the typed client.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import httptools
import orjson

from . import __version__, uds
from .errors import Conflict, KernelUnreachable, from_dict

TIMEOUT = 60.0
"""Seconds the kernel may take to answer."""


class OtherVersion(Conflict):
    """The kernel is of another version than this program."""

    code = "other_version"


def check_version(theirs: str) -> None:
    """Raise unless a kernel of version ``theirs`` can be spoken to.

    Raises:
        OtherVersion: It is not this program's.
    """
    if theirs != __version__:
        raise OtherVersion(
            "the kernel is of another version",
            f"It is {theirs or 'unknown'}, this is agenttop {__version__}",
            "Run `agenttop kernel restart`; the agents run on",
        )


class _Answer:
    """What httptools tells about one response."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.version = ""
        self.pieces: list[bytes] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"agenttop-version":
            self.version = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self.pieces.append(data)

    def on_message_complete(self) -> None:
        self.complete = True


def ask(
    path: Path,
    target: str,
    body: Any = None,
    *,
    any_version: bool = False,
    timeout: float | None = TIMEOUT,
) -> Any:
    """``GET target``, or ``POST`` with a JSON ``body``, at the control socket ``path``.

    Args:
        timeout: Seconds the kernel may be silent; ``None``: for ever.

    Raises:
        KernelUnreachable: Nobody answers.
        OtherVersion: The kernel is of another version, and ``any_version`` is not asked for.
        AgentTopError: The one it answered.
    """
    answer = _Answer()
    try:
        with uds.connect(path) as link:
            link.settimeout(timeout)
            link.sendall(_request(target, body))
            _read(link, answer)
    except OSError as error:
        raise uds.unreachable(path, error) from error
    except httptools.HttpParserError as error:
        raise KernelUnreachable("the kernel's answer cannot be read", str(error)) from error
    if not answer.complete:
        raise KernelUnreachable(
            "the kernel went away in the middle of an answer", "It ended or was restarted"
        )
    if not any_version:
        check_version(answer.version)
    data = b"".join(answer.pieces)
    document = orjson.loads(data) if data else None
    if answer.parser.get_status_code() >= 400:
        raise from_dict(document["error"] if isinstance(document, dict) and "error" in document else {})
    return document


def _request(target: str, body: Any) -> bytes:
    if body is None:
        return f"GET {target} HTTP/1.1\r\nhost: kernel\r\n\r\n".encode("ascii")
    data = orjson.dumps(body)
    head = f"POST {target} HTTP/1.1\r\nhost: kernel\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(data)}\r\n\r\n".encode("ascii") + data


def _read(link: socket.socket, answer: _Answer) -> None:
    while not answer.complete and (data := link.recv(1 << 20)):
        answer.parser.feed_data(data)
