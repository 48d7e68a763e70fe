"""The four calls that come by the thousand, without models or tasks in between: send, publish, inbox, ack.

Only what is plainly right is taken here. Whatever is not (an unknown field, a number out of bounds, a text
that two parsers could read differently) goes the way of all calls: the same answer, or what is wrong with it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from ..bus import tables
from ..bus.bus import Bus
from ..bus.delivery import Delivery
from ..bus.message import Draft, Message
from ..errors import AgentTopError
from ..mail.directory import Directory
from . import letters
from .under_way import UnderWay

if TYPE_CHECKING:
    from ..mail.mailroom import Mailroom

Begin = Callable[[str, bytes, UnderWay], bool]
"""Begins a call of a mailbox's owner with this body; false where it has to go the usual way."""

_SEND = frozenset({"to", "payload", "type", "priority", "key"})
_PUBLISH = frozenset({"topic", "payload", "type", "priority", "key"})
_INBOX = frozenset({"limit", "wait", "ack", "run"})
_ACK = frozenset({"ids"})

_DEEP = 60
"""Brackets in a body; parsers bound how deep they nest."""
_ODD_ESCAPE = re.compile(rb"\\u(?:[dD]|0000)")
"""Halves of pairs, and what ends a text elsewhere."""
_DIGITS = bytes.maketrans(b"123456789E", b"000000000e")
_LONG, _EXPONENT = b"0" * 16, b"0e"
"""Numbers that do not fit into 64 bits, or have an exponent, as ``_DIGITS`` makes them."""
_ID = re.compile(r"m[0-9]{1,18}").fullmatch


class HotCalls:
    """Each begins a call, or returns false where it is to go the usual way, and nothing was done.

    The answer is told by the call that is handed in, at once or later. They raise as ``MailCalls`` does.
    """

    def __init__(self, mailroom: Mailroom) -> None:
        self._bus = mailroom.bus
        self._boxes = mailroom.mailboxes
        self._directory = mailroom.directory
        self.named: dict[str, Begin] = {
            "bus.send": self.send, "bus.publish": self.publish, "bus.inbox": self.inbox, "bus.ack": self.ack,
        }  # fmt: skip

    def send(self, mailbox: str, body: bytes, call: UnderWay) -> bool:
        """See ``MailCalls.send``."""
        asked = _object(body, _SEND)
        if asked is None or (draft := _draft(asked)) is None:
            return False
        address = asked.get("to")
        if type(address) is not str or not 0 < len(address) <= 200 or address == "*":
            return False
        to = self._directory.mailbox(address)
        if to == mailbox or not self._boxes.ready(to):
            return False
        posted = self._bus.post(mailbox, to, draft)
        call.ready = _sent(f"m{posted.seq}", to, 1, 0, posted.again)
        posted.batch.then(call.settled)
        return True

    def publish(self, mailbox: str, body: bytes, call: UnderWay) -> bool:
        """See ``MailCalls.publish``."""
        asked = _object(body, _PUBLISH)
        if asked is None or (draft := _draft(asked)) is None:
            return False
        topic = asked.get("topic")
        if type(topic) is not str or not 0 < len(topic) <= 200:
            return False
        posted, count, full = self._bus.post_all(mailbox, topic, draft)
        call.ready = _sent(f"m{posted.seq}", "", count, full, posted.again)
        posted.batch.then(call.settled)
        return True

    def inbox(self, mailbox: str, body: bytes, call: UnderWay) -> bool:
        """See ``MailCalls.inbox``."""
        asked = _object(body, _INBOX)
        if asked is None:
            return False
        limit, run, wait = asked.get("limit", 10), asked.get("run", 1), asked.get("wait", 0.0)
        done = _numbers(asked.get("ack", []))
        if done is None or type(limit) is not int or type(run) is not int or type(wait) not in (int, float):
            return False
        if not (1 <= limit <= 500 and 1 <= run <= 500 and 0 <= wait <= 86_400):
            return False
        if not self._boxes.ready(mailbox):
            return False
        _Reading(self._bus, self._directory, call, mailbox, (limit, run), wait).begin(done)
        return True

    def ack(self, mailbox: str, body: bytes, call: UnderWay) -> bool:
        """See ``MailCalls.ack``."""
        asked = _object(body, _ACK)
        done = _numbers(asked.get("ids")) if asked is not None else None
        if not done or not self._boxes.ready(mailbox):
            return False
        count, batch = self._bus.mail.post_ack(mailbox, done)
        call.ready = b'{"acked":%d}' % count
        if batch is None:
            call.answer(call.ready)
        else:
            batch.then(call.settled)
        return True


class _Reading:
    """One ``inbox``: acknowledge, durably; take what there is; wait for some if there is none."""

    __slots__ = ("_bus", "_call", "_directory", "_mailbox", "_many", "_timer", "_unwatch", "_wait")

    def __init__(
        self,
        bus: Bus,
        directory: Directory,
        call: UnderWay,
        mailbox: str,
        many: tuple[int, int],
        wait: float,
    ) -> None:
        self._bus = bus
        self._directory = directory
        self._call = call
        self._mailbox = mailbox
        self._many = many
        self._wait = wait
        self._timer: asyncio.TimerHandle | None = None
        self._unwatch: Callable[[], None] | None = None

    def begin(self, done: list[int]) -> None:
        """Acknowledge and go on; raises as ``Deliveries.post_ack``."""
        _, batch = self._bus.mail.post_ack(self._mailbox, done) if done else (0, None)
        if batch is not None:
            batch.then(self._acknowledged)
        else:
            self._look()

    def _acknowledged(self, error: AgentTopError | None) -> None:
        if error is None:
            self._look()
        else:
            self._call.fail(error)

    def _look(self) -> None:
        """There may be something. Called back, so that nobody is above who could be told of an error."""
        self._unwatch = None
        if self._call.done:  # its caller left: mail stays for the next one
            return
        try:
            letters = self._bus.mail.hand_out(self._mailbox, *self._many)
            if letters or self._wait <= 0:
                self._ends()
                self._tell(self._bus.mail.deliveries(letters))
                return
            self._unwatch = self._bus.mail.watch(self._mailbox, self._look)
        except Exception as error:  # noqa: BLE001 - logged, and told to the agent
            self._ends()
            self._call.fail(error)
            return
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._wait, self._late)
            self._call.ends_with(self._ends)

    def _late(self) -> None:
        self._ends()
        self._call.answer(b"[]")

    def _ends(self) -> None:
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _tell(self, found: Sequence[Delivery]) -> None:
        absent = [one.message.seq for one in found if one.message.payload is None]
        if not absent:
            self._call.answer(_mail(found, self._directory))
            return

        def read(reading: asyncio.Future[Any]) -> None:
            if (error := reading.exception()) is not None:
                self._call.fail(error)
                return
            payloads = reading.result()
            whole = [
                one
                if one.message.payload is not None
                else one._replace(message=one.message._replace(payload=payloads.get(one.message.seq)))
                for one in found
            ]
            self._call.answer(_mail(whole, self._directory))

        self._bus.pipeline.ask(partial(tables.payloads, seqs=absent)).add_done_callback(read)


def _mail(found: Sequence[Delivery], directory: Directory) -> bytes:
    return orjson.dumps([_plain(one.message, directory, one.attempt) for one in found])


def _odd(body: bytes) -> bool:
    # Four searches for fixed bytes: one expression for all of it takes ten times as long.
    digits = body.translate(_DIGITS)
    if _LONG in digits or _EXPONENT in digits:
        return True
    return b"\\u" in body and _ODD_ESCAPE.search(body) is not None


def _object(body: bytes, fields: frozenset[str]) -> dict[str, Any] | None:
    if _odd(body) or body.count(b"{") + body.count(b"[") > _DEEP:
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
        "run": directory.run(sender, message.at),
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
