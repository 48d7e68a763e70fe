"""How a demo agent talks and remembers: through its own door, as any agent could.

What it hears, says and writes is real traffic on the kernel's bus and in its memory. Without a kernel
(``AGENTTOP_URL`` is not set) it keeps to itself. No models are imported: ten agents must be light.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from agenttop.core.client.blocking import BlockingDoor
from agenttop.core.errors import AgentTopError

from .parts import Line, Part

_AT_ONCE = 10
_PATIENCE = 30.0
"""Seconds a reply is waited for; others look at their mail between two tools."""


class Talk:
    """One agent's part in the conversation. What fails is said, and never ends the agent.

    Args:
        part: What it says and keeps; ``None``: nothing.
        say: Prints a line of its output.
        speed: How many times faster than life the demo runs.
    """

    def __init__(
        self, part: Part | None, environ: Mapping[str, str], say: Callable[[str], None], speed: float
    ) -> None:
        url = environ.get("AGENTTOP_URL")
        self._part = part or Part()
        self._say = say
        self._speed = speed
        self._door = BlockingDoor(url) if url and part is not None else None
        self._answered = 0

    def begin(self) -> None:
        """Open the working memory and subscribe."""
        for number, (name, text, limit) in enumerate(self._part.blocks):
            fields = {"name": name, "text": text, "limit": limit, "pinned": number == 0}
            self._try("memory.write-block", **fields)
        for topic in self._part.topics:
            self._try("bus.subscribe", pattern=topic)

    def done(self, number: int, task: str, seen: str) -> None:
        """Tell the others of the ``number``-th task that was done, and keep ``seen`` in mind."""
        self._try("progress", text=task)
        if self._part.log:
            text = f"{task}: {seen}\n"
            self._try("memory.write-block", name=self._part.log, text=text, append=True, limit=300)
        if self._part.notes and number % 3 == 1:
            key, text = self._part.notes[number // 3 % len(self._part.notes)]
            self._try("memory.write-note", namespace="shared", key=key, text=f"{text}\nSeen {number} times.")
        if self._part.lines:
            self._tell(self._part.lines[number % len(self._part.lines)])

    def listen(self, seconds: float) -> None:
        """Read mail and answer questions for so long; 0: what is there already."""
        until = time.monotonic() + seconds
        if self._door is None:
            time.sleep(max(0.0, seconds))
            return
        done: list[str] = []
        looked = False
        while not looked or done or time.monotonic() < until:
            looked = True
            wait = max(0.0, until - time.monotonic())
            got = self._try("bus.inbox", limit=_AT_ONCE, wait=wait, ack=done)
            if got is None:
                time.sleep(max(0.0, until - time.monotonic()))
                return
            done = [message["id"] for message in got if not self._heard(message)]

    def _heard(self, message: dict[str, Any]) -> bool:
        """Print what came; true if it was a question, which is acknowledged by its answer."""
        self._say(f"✉ {message['sender_name']}: {message['payload']}")
        if message["kind"] != "request":
            return False
        answer = self._part.answers[self._answered % len(self._part.answers)]
        self._answered += 1
        return self._try("bus.reply", request=message["id"], payload=answer) is not None

    def _tell(self, line: Line) -> None:
        self._say(f"✉ to {line.to}: {line.text}")
        draft = {"payload": line.text, "expires": line.expires}
        if line.asks:
            reply = self._try("bus.ask", to=line.to, timeout=max(0.5, _PATIENCE / self._speed), **draft)
            if reply is not None:
                self._say(f"✉ {reply['sender_name']}: {reply['payload']}")
        elif line.to.startswith("#"):
            self._try("bus.publish", topic=line.to[1:], **draft)
        else:
            self._try("bus.send", to=line.to, **draft)

    def _try(self, verb: str, /, **fields: Any) -> Any:
        """The answer, ``True`` for none, or ``None`` where the kernel refused."""
        if self._door is None:
            return None
        try:
            answer = json.loads(self._door.ask(verb, {k: v for k, v in fields.items() if v is not None}))
        except AgentTopError as error:
            self._say(f"  ⚠ {error}")
            return None
        return True if answer is None else answer
