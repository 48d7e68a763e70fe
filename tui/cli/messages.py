"""How messages and memory look as text. Every line of somebody else's text stands behind two spaces.

So nothing in it can pass for a line of ours, and whose words they are stands above them. ``--json`` has
everything as it is.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ..format import clean

Document = Mapping[str, Any]
_TAB = 4


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text, made harmless; tabs are spaces."""
    for line in text.splitlines():
        yield clean(line.expandtabs(_TAB))


def quoted(text: str) -> Iterator[str]:
    """The lines of a text, as somebody else's."""
    for line in lines_of(text):
        yield f"  {line}".rstrip()


def harmless(text: str) -> str:
    """A text for a terminal; as it is where a program reads it, as in ``agenttop logs``."""
    return "\n".join(lines_of(text)) if sys.stdout.isatty() else text


def content(payload: Any) -> str:
    """What a message says: a text as it is, everything else as JSON."""
    return payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)


def moment(when: float) -> str:
    """Local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))


def head(message: Document) -> str:
    """Who says it, to whom, and what is expected: ``m12  2026-…  from agent scout (a1f), not a person``."""
    said = [f"{clean(message['id'])}  {moment(message['at'])}  from {provenance(message)}"]
    kind = message["kind"]
    if kind == "topic":
        said.append(f"on topic {message['to']}")
    elif kind == "broadcast":
        said.append("to everybody")
    elif kind == "reply":
        said.append(f"in reply to {message['reply_to']}")
    if message["type"] != "text":
        said.append(f"type {message['type']}")
    if kind == "request":
        until = moment(message["deadline"])
        said.append(f"waits for a reply until {until}: agenttop reply {message['id']} TEXT")
    if message["attempt"] > 1:
        said.append(f"delivered {message['attempt']} times")
    return facts(*said)


def facts(*parts: str) -> str:
    """One line of several facts, each made harmless by itself: none can swallow the next one."""
    return ", ".join(clean(part) for part in parts if part)


def provenance(message: Document) -> str:
    """``agent scout (a1f), not a person``, or ``@root, a person``."""
    if message["from_person"]:
        return f"{clean(message['sender'])}, a person"
    return f"agent {clean(message['sender_name'])} ({clean(message['sender'])}), not a person"


def writer(name: str, by: str) -> str:
    """Who wrote something: ``agent scout``, ``@root, a person``."""
    return f"{clean(by)}, a person" if by.startswith("@") else f"agent {clean(name or by)}"


def told(message: Document) -> Iterator[str]:
    """A message as lines."""
    yield head(message)
    yield from quoted(content(message["payload"]))
