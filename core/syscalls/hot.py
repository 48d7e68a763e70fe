"""The four calls that come by the thousand, without models in between: send, publish, inbox, ack.

Only what is plainly right is taken here. Whatever is not (an unknown field, a number out of bounds, a text
that two parsers could read differently) goes the way of all calls: the same answer, or what is wrong with it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from ..bus.message import Draft, Message
from ..mail.directory import Directory
from . import letters
from .caller import Caller

if TYPE_CHECKING:
    from ..mail.mailroom import Mailroom
    from .mail import MailCalls

_SEND = frozenset({"to", "payload", "type", "priority", "key"})
_PUBLISH = frozenset({"topic", "payload", "type", "priority", "key"})
_INBOX = frozenset({"limit", "wait", "ack", "run"})
_ACK = frozenset({"ids"})

_DEEP = 60
"""Brackets in a body; parsers bound how deep they nest."""
_ODD = re.compile(rb"\d{16}|\d[eE]|\\ud|\\u0000")
"""Numbers that do not fit into 64 bits or have an exponent, and halves of pairs."""
_ID = re.compile(r"m[0-9]{1,18}").fullmatch


class HotCalls:
    """Each returns the answer as JSON, or ``None`` where the call is to go the usual way."""

    def __init__(self, calls: MailCalls, mailroom: Mailroom) -> None:
        self._calls = calls
        self._bus = mailroom.bus
        self._boxes = mailroom.mailboxes
        self._directory = mailroom.directory
        self.named = {
            "bus.send": self.send, "bus.publish": self.publish, "bus.inbox": self.inbox, "bus.ack": self.ack,
        }  # fmt: skip

    async def send(self, caller: Caller, body: bytes) -> bytes | None:
        """See ``MailCalls.send``, which raises the same."""
        asked = _object(body, _SEND)
        if asked is None or (draft := _draft(asked)) is None:
            return None
        address = asked.get("to")
        if type(address) is not str or not 0 < len(address) <= 200 or address == "*":
            return None
        to = await self._calls.receiver(caller, address)
        posted = self._bus.post(caller.mailbox, to, draft)
        await posted.batch
        return _sent(f"m{posted.seq}", to, 1, 0, posted.again)

    async def publish(self, caller: Caller, body: bytes) -> bytes | None:
        """See ``MailCalls.publish``."""
        asked = _object(body, _PUBLISH)
        if asked is None or (draft := _draft(asked)) is None:
            return None
        topic = asked.get("topic")
        if type(topic) is not str or not 0 < len(topic) <= 200:
            return None
        posted, count, full = self._bus.post_all(caller.mailbox, topic, draft)
        await posted.batch
        return _sent(f"m{posted.seq}", "", count, full, posted.again)

    async def inbox(self, caller: Caller, body: bytes) -> bytes | None:
        """See ``MailCalls.inbox``."""
        asked = _object(body, _INBOX)
        if asked is None:
            return None
        limit, run, wait = asked.get("limit", 10), asked.get("run", 1), asked.get("wait", 0.0)
        done = _numbers(asked.get("ack", []))
        if done is None or type(limit) is not int or type(run) is not int or type(wait) not in (int, float):
            return None
        if not (1 <= limit <= 500 and 1 <= run <= 500 and 0 <= wait <= 86_400):
            return None
        mailbox = await self._boxes.own(caller.mailbox)
        if done:
            await self._bus.mail.ack(mailbox, done)
        found = await self._bus.mail.take(mailbox, limit, run=run, wait=wait)
        return orjson.dumps([_plain(one.message, self._directory, one.attempt) for one in found])

    async def ack(self, caller: Caller, body: bytes) -> bytes | None:
        """See ``MailCalls.ack``."""
        asked = _object(body, _ACK)
        done = _numbers(asked.get("ids")) if asked is not None else None
        if not done:
            return None
        mailbox = await self._boxes.own(caller.mailbox)
        return b'{"acked":%d}' % await self._bus.mail.ack(mailbox, done)


def _object(body: bytes, fields: frozenset[str]) -> dict[str, Any] | None:
    if _ODD.search(body) is not None or body.count(b"{") + body.count(b"[") > _DEEP:
        return None
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if type(asked) is not dict or not asked.keys() <= fields:
        return None
    return asked


def _draft(asked: dict[str, Any]) -> Draft | None:
    if "payload" not in asked:
        return None
    type_, priority, key = asked.get("type", "text"), asked.get("priority", 4), asked.get("key", "")
    if type(type_) is not str or type(priority) is not int or type(key) is not str:
        return None
    if len(type_) > 64 or not 0 <= priority <= 9 or len(key) > 128:
        return None
    return Draft(orjson.dumps(asked["payload"]), type_, priority, None, "", key, "")


def _numbers(ids: Any) -> list[int] | None:
    if type(ids) is not list or len(ids) > 500:
        return None
    found = []
    for one in ids:
        if type(one) is not str or _ID(one) is None:
            return None
        found.append(int(one[1:]))
    return found


def _sent(name: str, to: str, receivers: int, full: int, again: bool) -> bytes:
    return orjson.dumps({"id": name, "to": to, "receivers": receivers, "full": full, "again": again})


def _plain(message: Message, directory: Directory, attempt: int) -> dict[str, Any]:
    """``letters.info`` as it is written; the payload is JSON already."""
    data, to, sender = message.payload, message.to, message.sender
    kind = letters.kind(message)
    return {
        "id": f"m{message.seq}",
        "at": message.at,
        "sender": sender,
        "sender_name": directory.name(sender),
        "from_person": sender.startswith("@"),
        "run": None,
        "kind": kind,
        "to": to,
        "to_name": to if kind in ("topic", "broadcast") else directory.name(to),
        "type": message.type,
        "priority": message.priority,
        "payload": None if data is None else orjson.Fragment(data),
        "size": 0 if data is None else len(data),
        "trace": message.trace,
        "cause": None if message.cause is None else f"m{message.cause}",
        "hops": message.hops,
        "reply_to": None if message.reply_to is None else f"m{message.reply_to}",
        "deadline": message.deadline,
        "expires": message.expires,
        "attempt": attempt,
    }
