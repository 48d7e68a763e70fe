"""What a Copilot CLI session says: state, model, folder, context, tools, subagents.

All of a session's agents write into one file; each line names its subagent, if it is of one. Questions to
the person are told when they are asked and when they are answered, so waiting is certain here.
"""

from __future__ import annotations

from typing import Any

from ..contract import Activity, Child, Oddities, Session, View
from ..index.calls import milliseconds
from .conversation import Conversation
from .copilot_calls import CopilotCalls
from .tail import TranscriptTail
from .tally import Tally

#: Kinds of lines that ask, without their ends: ``.requested`` and ``.completed``.
_QUESTIONS = frozenset(
    {
        "auto_mode_switch",
        "elicitation",
        "exit_plan_mode",
        "permission",
        "session_limits_exhausted",
        "user_input",
    }
)
#: Subagents that are shown; the oldest are left out first.
_CHILDREN = 64
#: Beginnings of kinds that say nothing of the state.
_SILENT = (
    "assistant.",
    "capabilities.",
    "command",
    "external_tool.",
    "hook.",
    "human_response.",
    "mcp",
    "model.",
    "pending_messages.",
    "sampling.",
    "sandbox.",
    "session.",
    "skill.",
    "subagent.",
    "system.",
    "tool",
    "ui.",
    "workflow.",
)


class CopilotTail:
    """Follows one session with its subagents."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._apart: dict[str, Tally] = {}
        self._tail = TranscriptTail(self._reader, session.path, self._line, self._reset)
        self._reset()

    def _reader(self) -> CopilotCalls:
        self._apart.clear()
        reader = CopilotCalls()
        reader.apart = self._apart
        return reader

    def _reset(self) -> None:
        # Asking has its own lines: no tool's name has to tell it, and no silence.
        self._talks = {"": Conversation(frozenset(), frozenset())}
        self._names: dict[str, str] = {}

    @property
    def oddities(self) -> Oddities:
        """What was not understood."""
        return self._tail.oddities

    def refresh(self) -> bool:
        """Read what is new; whether anything was."""
        return self._tail.refresh()

    def view(self, now: float, process: Activity | None = None) -> View:
        """What is known now."""
        facts, models = self._tail.calls.facts, self._tail.calls.models
        main = self._talks[""]
        main.session = facts.get("session") or self._session.id
        main.cwd, main.branch = facts.get("cwd"), facts.get("branch")
        shown = [agent for agent in self._talks if agent][-_CHILDREN:]
        children = tuple(
            Child(
                agent,
                self._names.get(agent) or agent,
                self._talks[agent].view(now, None, self._apart.get(agent, Tally()).sums(models)),
            )
            for agent in shown
        )
        return main.view(now, process, self._tail.sums(), children)

    def _line(self, data: dict[str, Any]) -> None:
        kind, told, time = str(data["type"]), data.get("data") or {}, milliseconds(data["timestamp"]) / 1000
        agent = str(data.get("agentId") or "")
        if (talk := self._talks.get(agent)) is None:
            talk = self._talks[agent] = Conversation(frozenset(), frozenset())
        topic, _, what = kind.rpartition(".")
        if topic in _QUESTIONS:
            self._asked(talk, topic, what, told, time)
        elif topic == "tool":
            self._tool(talk, what, told, time)
        elif kind == "user.message":
            talk.asked(str(told.get("content") or ""), time)
        elif kind == "session.usage_record":
            usage = told["usage"]
            talk.limit = usage.get("maxPromptTokens") or talk.limit
            context = int(usage.get("inputTokens") or 0) + int(usage.get("outputTokens") or 0)
            talk.replied(usage.get("model"), context, time)
        elif kind == "subagent.started":
            self._names[agent] = str(told.get("agentDisplayName") or told.get("agentName") or "")
        elif not self._turned(talk, kind, told, time) and not kind.startswith(_SILENT):
            self._tail.oddities.unknown[kind] += 1

    def _turned(self, talk: Conversation, kind: str, told: dict[str, Any], time: float) -> bool:
        """Take a line that begins or ends a turn; whether it is one."""
        match kind:
            case "assistant.turn_start":
                talk.turn.thought(time)
            case "assistant.message":
                if not told.get("toolRequests"):
                    talk.turn.ended(time)
            case "abort" | "agent.interrupted":
                talk.turn.ended(time, "interrupted")
            case "session.error" | "model.call_failure" | "subagent.failed":
                talk.turn.ended(time, str(told.get("message") or told.get("error") or "error"))
            case "subagent.completed" | "session.shutdown" | "session.idle":
                talk.turn.ended(time)
            case _:
                return False
        return True

    @staticmethod
    def _tool(talk: Conversation, what: str, told: dict[str, Any], time: float) -> None:
        if what == "execution_start":
            talk.turn.called(str(told["toolCallId"]), str(told["toolName"]), time)
        elif what == "execution_complete":
            talk.turn.returned(str(told["toolCallId"]), time)

    @staticmethod
    def _asked(talk: Conversation, topic: str, what: str, told: dict[str, Any], time: float) -> None:
        asked = str(told.get("requestId") or topic)
        if what == "completed":
            talk.turn.answered(asked, time)
        elif what == "requested" and not told.get("resolvedByHook"):
            request = told.get("permissionRequest") or {}
            text = request.get("fullCommandText") or request.get("intention") or told.get("question") or topic
            talk.turn.questioned(asked, str(text).replace("_", " ") if text is topic else str(text), time)
