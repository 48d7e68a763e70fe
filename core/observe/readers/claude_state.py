"""What a Claude Code transcript says: state, model, folder, context, tools, subagents."""

from __future__ import annotations

from typing import Any

import orjson

from .. import regular
from ..contract import Activity, Child, Session, View
from ..index.calls import milliseconds
from .claude_calls import ClaudeCalls
from .claude_status import Status
from .conversation import BEGINNING, Conversation
from .parent_tail import ParentTail
from .tail import TranscriptTail

_ASKING = frozenset({"AskUserQuestion", "ExitPlanMode"})
_GUARDED = frozenset({"Bash", "Edit", "MultiEdit", "NotebookEdit", "Write", "WebFetch", "Read"})
_SILENT = frozenset(
    [
        "agent-name",
        "ai-title",
        "atis-latch",
        "attachment",
        "cost-state",
        "custom-title",
        "file-history-snapshot",
        "last-prompt",
        "mode",
        "permission-mode",
        "pr-link",
        "progress",
        "queue-operation",
        "summary",
        "system",
        "tag",
        "tools-used",
        "worktree-state",
    ]
)
_INTERRUPTED = "[Request interrupted by user"


class ClaudeTail(ParentTail["_Thread"]):
    """Follows one session and its subagents."""

    def __init__(self, session: Session) -> None:
        self._status = Status(session.beside)
        self._folder = f"{session.path.removesuffix('.jsonl')}/subagents"
        super().__init__(_Thread(session.path, sidechain=False), self._folder, "agent-", self._child)
        self._names: dict[str, str] = {}

    def refresh(self) -> bool:
        """Read what is new; whether anything was."""
        told = self._status.refresh()
        return super().refresh() or told

    def view(self, now: float, process: Activity | None = None) -> View:
        """What is known now."""
        children = tuple(
            Child(agent, self._names.get(agent) or agent, thread.view(now, None))
            for agent, thread in self._children.found.items()
        )
        view = self._main.view(now, process)._replace(children=children)
        return view if process is None else self._status.corrected(view)

    def _child(self, agent: str, path: str) -> _Thread:
        self._names[agent] = _name(f"{self._folder}/agent-{agent}.meta.json")
        return _Thread(path, sidechain=True)


def _name(path: str) -> str:
    """A subagent's type, from the file beside its transcript; empty if there is none."""
    try:
        told = orjson.loads(regular.beginning(path, 1 << 16))
    except (OSError, ValueError):
        return ""
    return str(told.get("agentType") or "") if isinstance(told, dict) else ""


class _Thread:
    """One transcript: the main conversation's, or a subagent's."""

    def __init__(self, path: str, *, sidechain: bool) -> None:
        self._sidechain = sidechain
        self.tail = TranscriptTail(ClaudeCalls, path, self._line, self._reset)
        self._reset()

    def _reset(self) -> None:
        self._talk = Conversation(_ASKING, _GUARDED)

    def view(self, now: float, process: Activity | None) -> View:
        return self._talk.view(now, process, self.tail.sums())

    def _line(self, data: dict[str, Any]) -> None:
        kind = data.get("type")
        if kind == "assistant":
            self._about(data)
            self._replied(data)
        elif kind == "user":
            self._about(data)
            self._told(data)
        elif kind not in _SILENT and not str(kind).startswith("api-request"):
            self.tail.oddities.unknown[str(kind)] += 1

    def _about(self, data: dict[str, Any]) -> None:
        self._talk.session = data.get("sessionId") or self._talk.session
        self._talk.cwd = data.get("cwd") or self._talk.cwd
        branch = data.get("gitBranch")
        if branch and branch != "HEAD":  # what it writes outside of a repository, too
            self._talk.branch = branch

    def _replied(self, data: dict[str, Any]) -> None:
        message, time = data["message"], milliseconds(data["timestamp"]) / 1000
        if bool(data.get("isSidechain")) is not self._sidechain:
            return  # older versions write subagents' lines into the main transcript
        if message.get("model") == "<synthetic>":
            self._talk.turn.ended(time, _text(message["content"]) if data.get("isApiErrorMessage") else "")
            return
        usage = message["usage"]
        context = sum(
            int(usage.get(part) or 0)
            for part in (
                "input_tokens",
                "cache_read_input_tokens",
                "cache_creation_input_tokens",
                "output_tokens",
            )
        )
        self._talk.replied(message.get("model"), context, time)
        for block in message["content"]:
            if block.get("type") == "tool_use":
                self._talk.turn.called(block["id"], block["name"], time)
        if message.get("stop_reason") in ("end_turn", "stop_sequence", "max_tokens", "refusal"):
            self._talk.turn.ended(time)
        else:
            self._talk.turn.thought(time)

    def _told(self, data: dict[str, Any]) -> None:
        if bool(data.get("isSidechain")) is not self._sidechain:
            return
        content, time = data["message"]["content"], milliseconds(data["timestamp"]) / 1000
        text = content if isinstance(content, str) else _text(content)
        if text.startswith(_INTERRUPTED):
            self._talk.turn.ended(time, "interrupted")
            return
        if not isinstance(content, str):
            results = [block["tool_use_id"] for block in content if block.get("type") == "tool_result"]
            for call in results:
                self._talk.turn.returned(call, time)
            if results:
                return
        if not data.get("isMeta"):
            self._talk.prompt = text[:BEGINNING]
            if not text.startswith(("<command-", "<local-command")):  # what the CLI itself answers
                self._talk.turn.prompted(time)


def _text(content: list[dict[str, Any]]) -> str:
    return next((str(block["text"]) for block in content if block.get("type") == "text"), "")
