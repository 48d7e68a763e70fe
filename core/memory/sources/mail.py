"""Mail as recall has it: for its sender and for every receiver.

Copied from what each commit of the bus made durable: finished mail leaves the bus's store a second later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import orjson

from ...bus.books import Mark
from ...bus.mailbox import Mailbox
from ...bus.message import Message, unpack
from ..model import Said
from .intake import Intake, Item, Redact
from .spoken import cut

MOST_RECEIVERS = 1_000
"""Of one message; for the others it is counted as dropped."""

_HEAD = 100
"""Bytes that a message costs beside its payload while it waits."""


class MailListener:
    """A listener of the bus's pipeline.

    Args:
        boxes: The bus's mailboxes by number, as they are now.
        run: An agent's present run; ``None`` for who is no agent.
        name: What stands for a mailbox in a text.
    """

    def __init__(
        self,
        intake: Intake,
        boxes: Callable[[], Mapping[int, Mailbox]],
        run: Callable[[str], int | None],
        name: Callable[[str], str],
    ) -> None:
        self._intake = intake
        self._boxes = boxes
        self._run = run
        self._name = name

    def committed(self, items: Sequence[Message | Mark]) -> None:
        """What is durable in the bus now."""
        for item in items:
            if type(item) is Message and item.payload is not None:
                self._take(item, item.payload)

    def _take(self, message: Message, payload: bytes) -> None:
        boxes = self._boxes()
        numbers = unpack(message.boxes)
        if len(numbers) > MOST_RECEIVERS:
            self._intake.drop("mail", len(numbers) - MOST_RECEIVERS)
            numbers = numbers[:MOST_RECEIVERS]
        names = [boxes[number].name for number in numbers if number in boxes]
        told = [(name, self._run(name)) for name in dict.fromkeys((message.sender, *names))]
        told = [(name, run) for name, run in told if run is not None]
        if not told:
            return
        source = self._name(message.sender)
        to = self._name(message.to) if message.mode == "direct" else message.to

        def read(redact: Redact) -> Iterable[Said]:
            text = redact(f"{source} to {to}: {_text(message.type, payload)}")
            key = f"message:{message.id}"
            return [Said(name, "message", text, message.at, run, key, key) for name, run in told]

        self._intake.offer(Item("mail", len(payload) + _HEAD * len(told), read))


def _text(type: str, payload: bytes) -> str:
    """A payload for people: a text as it is, everything else as JSON with its type."""
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, str):
        return cut(value) if type == "text" else f"{type} {cut(value)}"
    return f"{type} {cut(payload.decode('utf-8', 'replace'))}"
