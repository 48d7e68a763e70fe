"""Sending and receiving, without typer: what ``send``, ``ask``, ``reply``, ``inbox``… do (``mail.py``)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from agenttop.core.errors import UsageError

from ..format import clean
from . import messages, printing
from .syscall import ask as call
from .syscall import message_id, payload_of


def send(
    to: str,
    text: str | None = None,
    *,
    payload: str | None = None,
    type: str | None = None,
    priority: int | None = None,
    expires: float | None = None,
    key: str | None = None,
    wait: float | None = None,
    as_json: bool = False,
) -> None:
    """Send a message."""
    sent = call(
        "bus.send", to=to, payload=payload_of(text, payload), type=_type(type, payload), priority=priority,
        expires=expires, key=key or _new_key(), wait=wait,
    )  # fmt: skip
    _sent(sent, "everybody" if to == "*" else to, as_json)


def publish(
    topic: str,
    text: str | None = None,
    *,
    payload: str | None = None,
    type: str | None = None,
    priority: int | None = None,
    expires: float | None = None,
    key: str | None = None,
    as_json: bool = False,
) -> None:
    """Send a message to a topic."""
    sent = call(
        "bus.publish", topic=topic, payload=payload_of(text, payload), type=_type(type, payload),
        priority=priority, expires=expires, key=key or _new_key(),
    )  # fmt: skip
    _sent(sent, f"topic {topic}", as_json)


def reply(
    request: str,
    text: str | None = None,
    *,
    payload: str | None = None,
    type: str | None = None,
    key: str | None = None,
    as_json: bool = False,
) -> None:
    """Answer a request."""
    request = message_id(request)
    sent = call(
        "bus.reply", request=request, payload=payload_of(text, payload), type=_type(type, payload),
        key=key or _new_key(),
    )  # fmt: skip
    _sent(sent, f"whoever sent {request}", as_json)


def ask(
    to: str,
    text: str | None = None,
    *,
    payload: str | None = None,
    type: str | None = None,
    timeout: float = 60.0,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Send a request, and print its reply."""
    answer = call(
        "bus.ask", to=to, payload=payload_of(text, payload), type=_type(type, payload), timeout=timeout,
        key=_new_key(),
    )  # fmt: skip
    if as_json:
        printing.json(answer)
    elif quiet:
        printing.line(messages.harmless(messages.content(answer["payload"])))
    else:
        _print([answer])


def inbox(
    *,
    wait: float | None = None,
    limit: int = 10,
    keep: bool = False,
    peek: str | None = None,
    as_json: bool = False,
) -> None:
    """Print what waits, then acknowledge it: what could not be printed comes again."""
    if peek is not None:
        if wait or keep:
            raise UsageError("--peek takes nothing", hint="Leave --wait and --keep out")
        found = call("bus.mail", agent=peek, limit=limit)
    else:
        found = call("bus.inbox", limit=limit, run=limit, wait=wait)
    if as_json:
        printing.json(found)
    else:
        _print(found)
    # It is acknowledged only when whoever reads has it.
    sys.stdout.flush()
    if not found and not as_json and sys.stderr.isatty():
        printing.note("no mail")
    if found and not keep and peek is None:
        call("bus.ack", ids=[message["id"] for message in found])


def ack(ids: Sequence[str], *, as_json: bool = False) -> None:
    """Acknowledge messages."""
    done = call("bus.ack", ids=[message_id(one) for one in ids])
    if as_json:
        printing.json(done)
    else:
        printing.line(f"{done['acked']} of {len(ids)} acknowledged")


def subscribe(
    patterns: Sequence[str], *, agent: str | None = None, end: bool = False, as_json: bool = False
) -> None:
    """Begin or end subscriptions, and print those that there are."""
    found: list[str] = []
    for pattern in patterns:
        found = call("bus.subscribe", pattern=pattern, agent=agent, end=end or None)
    if as_json:
        printing.json(found)
    for pattern in () if as_json else found:
        printing.line(clean(pattern))


def _type(named: str | None, payload: str | None) -> str | None:
    return named if named is not None or payload is None else "json"


def _new_key() -> str:
    """What makes it harmless to call again when a kernel went away before its answer came."""
    return os.urandom(12).hex()


def _sent(sent: dict[str, Any], to: str, as_json: bool) -> None:
    if as_json:
        printing.json(sent)
        return
    before = " before, with this key" if sent["again"] else ""
    boxes = "1 mailbox" if sent["receivers"] == 1 else f"{sent['receivers']} mailboxes"
    count = f" ({boxes})" if not sent["to"] and not before else ""
    printing.line(clean(f"{sent['id']} sent to {to}{count}{before}"))
    if sent["full"]:
        printing.note(f"{sent['full']} of the mailboxes are full; there it is a dead letter")


def _print(found: Sequence[messages.Document]) -> None:
    for message in found:
        for line in messages.told(message):
            printing.line(line)
