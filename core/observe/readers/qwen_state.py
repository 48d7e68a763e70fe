"""What a Qwen Code chat says: state, model, folder, context, tools, subagents."""

from __future__ import annotations

from typing import Any

import orjson

from .. import regular
from ..contract import Activity, Child, Session, View
from ..index.calls import milliseconds
from .conversation import Conversation
from .parent_tail import ParentTail
from .qwen_calls import QwenCalls, subagent
from .tail import TranscriptTail
from .tally import Tally

_ASKING = frozenset({"ask_user_question", "exit_plan_mode"})
_GUARDED = frozenset({"edit", "notebook_edit", "replace", "run_shell_command", "web_fetch", "write_file"})


class QwenTail(ParentTail["_Chat"]):
    """Follows one chat and its subagents'."""

    def __init__(self, session: Session) -> None:
        self._apart: dict[str, Tally] = {}
        project = session.path.rpartition("/chats/")[0]
        self._folder = f"{project}/subagents/{session.id}"
        super().__init__(_Chat(session.path, self._apart), self._folder, "agent-", self._child)
        self._names: dict[str, str] = {}

    def view(self, now: float, process: Activity | None = None) -> View:
        """What is known now."""
        models = self._main.tail.calls.models
        children = []
        for agent in dict.fromkeys([*self._children.found, *self._apart]):
            sums = self._apart.get(agent, Tally()).sums(models)
            chat = self._children.found.get(agent)
            talk = chat.talk if chat else self._main.others[agent]
            talk.model = talk.model or next(iter(sums.usages), None)
            name = self._names.get(agent) or agent.partition("-call_")[0]
            children.append(Child(agent, name, talk.view(now, None, sums)))
        view = self._main.talk.view(now, process, self._main.tail.sums())
        return view._replace(children=tuple(children))

    def _child(self, agent: str, path: str) -> _Chat:
        self._names[agent] = _name(f"{self._folder}/agent-{agent}.meta.json")
        return _Chat(path, {})


def _name(path: str) -> str:
    """A subagent's type, from the file beside its chat; empty if there is none."""
    try:
        told = orjson.loads(regular.beginning(path, 1 << 16))
    except (OSError, ValueError):
        return ""
    return str(told.get("agentType") or "") if isinstance(told, dict) else ""


class _Chat:
    def __init__(self, path: str, apart: dict[str, Tally]) -> None:
        self._apart = apart
        self.tail = TranscriptTail(self._reader, path, self._line, self._reset)
        self._reset()

    def _reader(self) -> QwenCalls:
        self._apart.clear()
        reader = QwenCalls()
        reader.apart = self._apart
        return reader

    def _reset(self) -> None:
        self.talk = Conversation(_ASKING, _GUARDED)
        self.others: dict[str, Conversation] = _Others()

    def _line(self, data: dict[str, Any]) -> None:
        kind, time = data.get("type"), milliseconds(data["timestamp"]) / 1000
        self.talk.session = data.get("sessionId") or self.talk.session
        self.talk.cwd = data.get("cwd") or self.talk.cwd
        self.talk.branch = data.get("gitBranch") or self.talk.branch
        if kind == "assistant":
            self._replied(data, time)
        elif kind == "user":
            self.talk.asked(_text(data["message"]["parts"]), time)
        elif kind == "tool_result":
            for part in data["message"]["parts"]:
                if result := part.get("functionResponse"):
                    self.talk.turn.returned(str(result.get("id")), time)
        elif kind == "system":
            self._noted(data, time)
        else:
            self.tail.oddities.unknown[str(kind)] += 1

    def _replied(self, data: dict[str, Any], time: float) -> None:
        usage = data.get("usageMetadata") or {}
        self.talk.limit = data.get("contextWindowSize") or self.talk.limit
        self.talk.replied(data.get("model"), usage.get("totalTokenCount"), time)
        calls = [part["functionCall"] for part in data["message"]["parts"] if "functionCall" in part]
        for call in calls:
            self.talk.turn.called(str(call.get("id")), str(call["name"]), time)
        if not calls:
            self.talk.turn.ended(time)
            for talk in self.others.values():
                talk.turn.ended(time)

    def _noted(self, data: dict[str, Any], time: float) -> None:
        if data.get("subtype") != "ui_telemetry":
            return
        event = data["systemPayload"]["uiEvent"]
        agent = subagent(event, str(data.get("sessionId")))
        if agent:  # where it has no chat of its own, this is all that is told of it
            self.others[agent].replied(event.get("model"), event.get("total_token_count"), time)
            self.others[agent].turn.thought(time)
        elif event.get("event.name") == "qwen-code.api_error":
            self.talk.turn.ended(time, str(event.get("error_message") or event.get("error") or "error"))


class _Others(dict[str, Conversation]):
    """Subagents that are known from the main chat only."""

    def __missing__(self, agent: str) -> Conversation:
        talk = self[agent] = Conversation(_ASKING, _GUARDED)
        return talk


def _text(parts: list[dict[str, Any]]) -> str:
    return " ".join(str(part["text"]) for part in parts if part.get("text"))
