"""What a Codex rollout says: state, model, folder, context, tools."""

from __future__ import annotations

from typing import Any

from ..contract import Activity, Child, Oddities, Session, View
from ..index.calls import milliseconds
from .codex_calls import CodexCalls
from .codex_spawned import ROLLOUT, Spawned
from .conversation import BEGINNING, Conversation
from .tail import TranscriptTail

_ASKING = frozenset({"request_user_input"})
_GUARDED = frozenset({"apply_patch", "exec", "exec_command", "local_shell_call", "shell"})
_SILENT_EVENTS = frozenset(
    [
        "agent_message",
        "agent_reasoning",
        "context_compacted",
        "item_completed",
        "mcp_tool_call_end",
        "patch_apply_end",
        "thread_name_updated",
        "thread_settings_applied",
        "token_count",
        "user_message",
        "web_search_end",
    ]
)
_CALLS = ("function_call", "custom_tool_call", "local_shell_call")
_RESULTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")
_SILENT_ITEMS = frozenset(
    [
        "additional_tools",
        "agent_message",
        "compaction",
        "ghost_snapshot",
        "message",
        "reasoning",
        "web_search_call",
    ]
)
_SILENT = frozenset(["compacted", "inter_agent_communication_metadata", "token_usage_record", "world_state"])


class CodexTail:
    """Follows one rollout and those of its subagents."""

    def __init__(self, session: Session) -> None:
        named = ROLLOUT.search(session.path)
        identity = named[1] if named else session.id
        self._main = _Thread(identity, session.path)
        self._spawned = Spawned(identity, session.path)
        self._children: dict[str, _Thread] = {}

    @property
    def oddities(self) -> Oddities:
        """What was not understood, in subagents' rollouts too."""
        oddities = Oddities()
        for thread in (self._main, *self._children.values()):
            oddities.add(thread.oddities)
        return oddities

    def refresh(self) -> bool:
        """Read what is new; whether anything was."""
        self._spawned.refresh()
        for identity, (path, _) in self._spawned.found.items():
            if identity not in self._children:
                self._children[identity] = _Thread(identity, path)
        changed = [thread.refresh() for thread in (self._main, *self._children.values())]
        return any(changed)

    def view(self, now: float, process: Activity | None = None) -> View:
        """What is known now."""
        children = tuple(
            Child(identity, self._spawned.found[identity][1], thread.view(now, None))
            for identity, thread in self._children.items()
        )
        return self._main.view(now, process)._replace(children=children)


class _Thread:
    """Follows one rollout."""

    def __init__(self, identity: str, path: str) -> None:
        self._id = identity
        self._tail = TranscriptTail(CodexCalls, path, self._line, self._reset)
        self._reset()

    def _reset(self) -> None:
        self._talk = Conversation(_ASKING, _GUARDED)

    @property
    def oddities(self) -> Oddities:
        """What was not understood."""
        return self._tail.oddities

    def refresh(self) -> bool:
        """Read what is new; whether anything was."""
        return self._tail.refresh()

    def view(self, now: float, process: Activity | None = None) -> View:
        """What is known now."""
        facts, talk = self._tail.calls.facts, self._talk
        talk.session = facts.get("session") or self._id
        talk.model, talk.cwd, talk.branch = facts.get("model"), facts.get("cwd"), facts.get("branch")
        return talk.view(now, process, self._tail.sums())

    def _line(self, data: dict[str, Any]) -> None:
        kind, payload = data.get("type"), data.get("payload") or {}
        if kind == "event_msg":
            self._event(payload, milliseconds(data["timestamp"]) / 1000)
        elif kind == "response_item":
            self._item(payload, milliseconds(data["timestamp"]) / 1000)
        elif kind == "turn_context":
            self._talk.turn.asks = payload.get("approval_policy") != "never"
        elif kind != "session_meta" and kind not in _SILENT:
            self._tail.oddities.unknown[str(kind)] += 1

    def _event(self, payload: dict[str, Any], time: float) -> None:
        kind = payload.get("type")
        if kind == "task_started":
            self._talk.limit = payload.get("model_context_window") or self._talk.limit
            self._talk.turn.prompted(time)
        elif kind in ("task_complete", "turn_aborted", "shutdown_complete"):
            self._talk.turn.ended(time, "interrupted" if kind == "turn_aborted" else "")
        elif kind in ("error", "stream_error"):
            self._talk.turn.ended(time, str(payload.get("message") or "error")[:BEGINNING])
        elif kind == "token_count":
            self._counted(payload.get("info"), time)
        elif kind not in _SILENT_EVENTS:
            self._tail.oddities.unknown[f"event_msg/{kind}"] += 1
        if kind == "user_message":
            self._talk.prompt = str(payload.get("message") or "")[:BEGINNING]
        elif kind == "item_completed" and payload["item"].get("type") == "UserMessage":
            texts = [str(part.get("text") or "") for part in payload["item"]["content"]]
            self._talk.prompt = " ".join(texts)[:BEGINNING]

    def _counted(self, info: dict[str, Any] | None, time: float) -> None:
        if not info:
            return
        last = info.get("last_token_usage") or {}
        self._talk.limit = info.get("model_context_window") or self._talk.limit
        context = int(last.get("input_tokens") or 0) + int(last.get("output_tokens") or 0)
        self._talk.replied(None, context, time)

    def _item(self, payload: dict[str, Any], time: float) -> None:
        kind = payload.get("type")
        if kind in _CALLS:
            self._talk.turn.called(
                str(payload.get("call_id") or payload.get("id")), str(payload.get("name") or kind), time
            )
        elif kind in _RESULTS:
            self._talk.turn.returned(str(payload.get("call_id") or payload.get("id")), time)
        elif kind not in _SILENT_ITEMS:
            self._tail.oddities.unknown[f"response_item/{kind}"] += 1
