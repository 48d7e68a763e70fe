"""What a Gemini CLI chat says: state, model, folder, context, tools, subagents.

A tool call is written only after the tool returned. While it runs, or waits for permission, the chat looks
as after the end of a turn; only the processes that a tool starts tell that it runs. So the end of a turn is
never certain here, and a question for permission looks like being idle: both wait for their person.
"""

from __future__ import annotations

from typing import Any

from ...agents.states import State
from ..contract import Activity, Child, Session, View
from ..index.calls import milliseconds
from .conversation import Conversation
from .gemini_calls import GeminiCalls
from .parent_tail import ParentTail
from .tail import TranscriptTail

_ASKING = frozenset({"ask_user"})
_PATCH = frozenset({"$set", "$rewindTo"})
_SILENT = frozenset({"info", "warning"})


class GeminiTail(ParentTail["_Chat"]):
    """Follows one chat and its subagents'."""

    def __init__(self, session: Session) -> None:
        folder = f"{session.path.rpartition('/')[0]}/{session.id}"
        super().__init__(_Chat(session.path), folder, "", lambda agent, path: _Chat(path))

    def view(self, now: float, process: Activity | None = None) -> View:
        """What is known now."""
        children = tuple(
            # A subagent's chat does not tell what kind of subagent it is.
            Child(agent, agent, chat.view(now, None))
            for agent, chat in self._children.found.items()
        )
        return self._main.view(now, process)._replace(children=children)


class _Chat:
    def __init__(self, path: str) -> None:
        self._servers: int | None = None
        self.tail = TranscriptTail(GeminiCalls, path, self._line, self._reset)
        self._reset()

    def _reset(self) -> None:
        self._talk = Conversation(_ASKING, frozenset())
        self._tools: set[str] = set()

    def view(self, now: float, process: Activity | None) -> View:
        facts = self.tail.calls.facts
        self._talk.session, self._talk.cwd = facts.get("session"), facts.get("cwd")
        view = self._talk.view(now, process, self.tail.sums())
        if process is None or view.state is not State.IDLE or view.since is None:
            return view
        # Those that were there at first, or are there while nothing runs, are servers of its own.
        if self._servers is None or process.children < self._servers:
            self._servers = process.children
        busy = process.children > self._servers
        return view._replace(state=State.EXECUTING if busy else State.IDLE, certain=False)

    def _line(self, data: dict[str, Any]) -> None:
        kind = data.get("type")
        if kind == "gemini":
            self._replied(data, milliseconds(data["timestamp"]) / 1000)
        elif kind == "user":
            self._told(data["content"], milliseconds(data["timestamp"]) / 1000)
        elif kind == "error":
            self._talk.turn.ended(milliseconds(data["timestamp"]) / 1000, _text(data.get("content")))
        elif kind is None and ("projectHash" in data or not _PATCH.isdisjoint(data)):
            return
        elif kind not in _SILENT:
            self.tail.oddities.unknown[str(kind)] += 1

    def _replied(self, data: dict[str, Any], time: float) -> None:
        if not (tokens := data.get("tokens")):
            return  # written anew after a cancelled turn
        self._talk.replied(data.get("model"), int(tokens.get("total") or 0), time)
        calls = data.get("toolCalls") or ()
        for call in calls:
            self._talk.turn.called(str(call["id"]), str(call["name"]), time)
            self._talk.turn.returned(str(call["id"]), time)
        if not calls:
            self._talk.turn.ended(time)

    def _told(self, content: Any, time: float) -> None:
        if isinstance(content, list) and any("functionResponse" in part for part in content):
            self._talk.turn.thought(time)
            return
        text = _text(content)
        if not text.startswith("<session_context>"):
            self._talk.asked(text, time)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(str(part.get("text") or "") for part in content or ())
