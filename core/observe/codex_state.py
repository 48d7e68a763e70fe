"""What a Codex rollout says: state, model, folder, context, tools."""

from __future__ import annotations

from typing import Any

from .claude_calls import milliseconds
from .codex_calls import CodexCalls
from .contract import Activity, Oddities, Session, View
from .doing import Turn
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
    ["additional_tools", "compaction", "ghost_snapshot", "message", "reasoning", "web_search_call"]
)
_SILENT = frozenset(["compacted", "token_usage_record", "world_state"])
_BEGINNING = 200


class CodexTail:
    """Follows one rollout."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tail = TranscriptTail(CodexCalls, session.path, self._line, self._reset)
        self._reset()

    def _reset(self) -> None:
        self._turn = Turn(_ASKING, _GUARDED)
        self._context: int | None = None
        self._limit: int | None = None
        self._last: float | None = None
        self._prompt = ""

    @property
    def oddities(self) -> Oddities:
        """What was not understood."""
        return self._tail.oddities

    def refresh(self) -> bool:
        """Read what is new; whether anything was."""
        return self._tail.refresh()

    def view(self, now: float, process: Activity | None = None) -> View:
        """What is known now."""
        doing = self._turn.doing(now, process)
        total, usages, minutes = self._tail.sums()
        facts = self._tail.calls.facts
        return View(
            session=facts.get("session") or self._session.id,
            state=doing.state,
            reason=doing.reason,
            detail=doing.detail,
            since=doing.since,
            certain=doing.certain,
            model=facts.get("model"),
            cwd=facts.get("cwd"),
            branch=facts.get("branch"),
            context=self._context,
            context_limit=self._limit,
            usage=total,
            usages=usages,
            minutes=minutes,
            calls=len(self._tail.calls.calls),
            last_call=self._last,
            tool=self._turn.tool,
            prompt=self._prompt,
            timeline=self._tail.timeline,
        )

    def _line(self, data: dict[str, Any]) -> None:
        kind, payload = data.get("type"), data.get("payload") or {}
        if kind == "event_msg":
            self._event(payload, milliseconds(data["timestamp"]) / 1000)
        elif kind == "response_item":
            self._item(payload, milliseconds(data["timestamp"]) / 1000)
        elif kind == "turn_context":
            self._turn.asks = payload.get("approval_policy") != "never"
        elif kind != "session_meta" and kind not in _SILENT:
            self._tail.oddities.unknown[str(kind)] += 1

    def _event(self, payload: dict[str, Any], time: float) -> None:
        kind = payload.get("type")
        if kind == "task_started":
            self._limit = payload.get("model_context_window") or self._limit
            self._turn.prompted(time)
        elif kind in ("task_complete", "turn_aborted", "shutdown_complete"):
            self._turn.ended(time, "interrupted" if kind == "turn_aborted" else "")
        elif kind in ("error", "stream_error"):
            self._turn.ended(time, str(payload.get("message") or "error")[:_BEGINNING])
        elif kind == "token_count":
            self._counted(payload.get("info"), time)
        elif kind not in _SILENT_EVENTS:
            self._tail.oddities.unknown[f"event_msg/{kind}"] += 1
        if kind == "user_message":
            self._prompt = str(payload.get("message") or "")[:_BEGINNING]
        elif kind == "item_completed" and payload["item"].get("type") == "UserMessage":
            texts = [str(part.get("text") or "") for part in payload["item"]["content"]]
            self._prompt = " ".join(texts)[:_BEGINNING]

    def _counted(self, info: dict[str, Any] | None, time: float) -> None:
        if not info:
            return
        last = info.get("last_token_usage") or {}
        self._limit = info.get("model_context_window") or self._limit
        self._context = int(last.get("input_tokens") or 0) + int(last.get("output_tokens") or 0)
        self._last = time

    def _item(self, payload: dict[str, Any], time: float) -> None:
        kind = payload.get("type")
        if kind in _CALLS:
            self._turn.called(
                str(payload.get("call_id") or payload.get("id")), str(payload.get("name") or kind), time
            )
        elif kind in _RESULTS:
            self._turn.returned(str(payload.get("call_id") or payload.get("id")), time)
        elif kind not in _SILENT_ITEMS:
            self._tail.oddities.unknown[f"response_item/{kind}"] += 1
