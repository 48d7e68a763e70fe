"""From a command to the bus, to memory and back: one way for agents and for people.

Inside an agent (``AGENTTOP_URL``) the call goes to the agent's own door, as that agent; else to the kernel,
as its owner. No models, event loop or typer: agents run these commands again and again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from agenttop.core.errors import UsageError

from . import kernel_call

PATIENCE = 30.0
"""Seconds for which an agent's command calls a kernel that is away."""
LONGEST = 8 << 20
"""Bytes of standard input that are read; no message and no text of memory has as many."""


def inside() -> bool:
    """Whether this is run by an agent, about its own kernel."""
    return bool(os.environ.get("AGENTTOP_URL")) and not kernel_call.chosen_hosts()


def ask(name: str, /, **fields: Any) -> Any:
    """The answer of one call, as plain JSON; what is ``None`` is not said.

    Raises:
        AgentTopError: What the kernel said, or why there is none.
    """
    said = {field: value for field, value in fields.items() if value is not None}
    _check_text(said)
    if not inside():
        patient = bool(said.get("wait") or said.get("timeout"))
        return kernel_call.ask(f"/v1/call/{name}", said, patient=patient)
    from agenttop.core.client.blocking import BlockingDoor

    door = BlockingDoor(patience=PATIENCE)
    try:
        return json.loads(door.ask(name, said))
    finally:
        door.close()


def _check_text(fields: Mapping[str, Any]) -> None:
    """Raises ``UsageError`` for a word of the command line that was not UTF-8."""
    for name, value in fields.items():
        for word in value if isinstance(value, list) else [value]:
            if isinstance(word, str) and not word.isascii():
                try:
                    word.encode()
                except UnicodeEncodeError as error:
                    raise UsageError(f"{name} is not UTF-8", hint="Give text in UTF-8") from error


def text_of(word: str) -> str:
    """A text of the command line; ``-`` is what stands on standard input.

    Raises:
        UsageError: That is not UTF-8, or too long.
    """
    if word != "-":
        return word
    try:
        return read_input(sys.stdin.buffer.read(LONGEST + 1)).decode()
    except UnicodeDecodeError as error:
        raise UsageError("standard input is not UTF-8", str(error)) from error


def read_input(data: bytes) -> bytes:
    """``data``, if it is not too long.

    Raises:
        UsageError: It is.
    """
    if len(data) > LONGEST:
        raise UsageError(
            f"there are more than {LONGEST} bytes", "No call takes as many", "Keep a file, and send its path"
        )
    return data


def payload_of(text: str | None, payload: str | None) -> Any:
    """What a message carries: a text, or with ``--payload`` a JSON value.

    Raises:
        UsageError: Both, none, or no JSON.
    """
    if (text is None) == (payload is None):
        raise UsageError(
            "a message has one content",
            "There is none" if text is None else "There are a text and a payload",
            "Give a TEXT (- for standard input), or --payload with a JSON value",
        )
    if payload is None:
        assert text is not None
        return text_of(text)
    try:
        return json.loads(text_of(payload))
    except (ValueError, RecursionError) as error:
        raise UsageError("the payload is not JSON", str(error), "Quote it for your shell") from error


def message_id(word: str) -> str:
    """``m12``, also of ``12``."""
    return f"m{word}" if word.isascii() and word.isdigit() else word
