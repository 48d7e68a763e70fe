"""Model calls as recall has them: what is new in each request, and its answer. Read in a worker thread."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ...gateway.heard import Heard
from ...gateway.protocols import asked as bodies
from ..model import Said
from . import anthropic, gemini, openai
from .spoken import Keyed, Spoken, keyed

_Asked = Callable[[dict[str, Any]], Iterator[Spoken]]
_Answered = Callable[[bytes, bool], Iterator[Spoken]]

#: By the operations of the gateway's protocols; what is not here (embeddings) says nothing.
DIALECTS: dict[str, tuple[_Asked, _Answered]] = {
    "messages": (anthropic.asked, anthropic.answered),
    "responses": (openai.asked_for_response, openai.answered_in_response),
    "chat": (openai.asked_in_chat, openai.answered_in_chat),
    "completions": (openai.asked_in_chat, openai.answered_in_chat),
    "generateContent": (gemini.asked, gemini.answered),
    "streamGenerateContent": (gemini.asked, gemini.answered),
}

_KNOWN = 20_000
"""Keys that are known to be remembered, over all agents: they spare the store a look each."""


class Known:
    """What was handed to the store already, as hashes; the agents that were quiet longest are dropped.

    Nothing is lost by that: the store knows every key too, and looks where this does not know.
    """

    def __init__(self, most: int = _KNOWN) -> None:
        self._most = most
        self._size = 0
        self._agents: OrderedDict[str, set[int]] = OrderedDict()

    def add(self, agent: str, mark: int) -> bool:
        """Take the hash of what was said; false if it was known."""
        keys = self._agents.setdefault(agent, set())
        if mark in keys:
            return False
        keys.add(mark)
        self._size += 1
        while self._size > self._most and self._agents:
            _, gone = self._agents.popitem(last=False)
            self._size -= len(gone)
        return True

    def touch(self, agent: str) -> None:
        """It was heard of: it is the last to be dropped."""
        if agent in self._agents:
            self._agents.move_to_end(agent)

    def forget(self, agent: str) -> None:
        """The store may not have what was handed to it for this agent."""
        self._size -= len(self._agents.pop(agent, ()))


def said(
    heard: Heard, conversation: str, at: float, known: Known, redact: Callable[[str], str]
) -> list[Said]:
    """What is to be remembered of a call, in its order; what is known is left out.

    Args:
        conversation: Which one it is part of, among its agent's.
        at: When it was answered, seconds since the epoch.
        redact: Takes secrets out of a text.
    """
    dialect = DIALECTS.get(heard.operation)
    if dialect is None:
        return []
    asked, answered = dialect
    counts: dict[tuple[str, str], int] = {}
    new = partial(known.add, heard.agent)
    known.touch(heard.agent)
    if heard.body:
        found = keyed(asked(bodies.read(heard.headers, heard.body).body), conversation, counts, new)
    else:
        text = f"[a request of {heard.size} bytes was too long to be kept]"
        found = [Keyed(Spoken("system", text), f"long:{heard.call}")]
    if 200 <= heard.status < 300:
        found += keyed(answered(b"".join(heard.reply), heard.streamed), conversation, counts, new)
    source = f"call:{heard.call}"
    return [
        Said(heard.agent, one.spoken.role, redact(one.spoken.text), at, heard.run, source, one.key)
        for one in found
    ]
