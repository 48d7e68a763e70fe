"""What a Claude Code transcript says: state, model, folder, context, tools, subagents."""

from __future__ import annotations

import os
from typing import Any

import orjson

from .claude_calls import ClaudeCalls, milliseconds
from .contract import Activity, Child, Oddities, Session, View
from .doing import Turn
from .tail import TranscriptTail

_ASKING = frozenset({"AskUserQuestion", "ExitPlanMode"})
_GUARDED = frozenset({"Bash", "Edit", "MultiEdit", "NotebookEdit", "Write", "WebFetch", "Read"})
_SILENT = frozenset(
    [
        "agent-name",
        "ai-title",
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
        "worktree-state",
    ]
)
_INTERRUPTED = "[Request interrupted by user"
#: So much of a prompt is kept.
_BEGINNING = 200
#: Subagents that are followed; the oldest are left out first.
_CHILDREN = 64


class ClaudeTail:
    """Follows one session and its subagents."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._main = _Thread(session.path, sidechain=False)
        self._children: dict[str, _Thread] = {}
        self._names: dict[str, str] = {}
        self._folder = f"{session.path.removesuffix('.jsonl')}/subagents"
        self._listed = 0

    @property
    def oddities(self) -> Oddities:
        """What was not understood, in subagents' transcripts too."""
        oddities = Oddities()
        for thread in (self._main, *self._children.values()):
            oddities.add(thread.tail.oddities)
        return oddities

    def refresh(self) -> bool:
        """Read what is new; whether anything was."""
        self._list()
        changed = [thread.tail.refresh() for thread in (self._main, *self._children.values())]
        return any(changed)

    def view(self, now: float, process: Activity | None = None) -> View:
        """What is known now."""
        children = tuple(
            Child(agent, self._names.get(agent) or agent, thread.view(now, None))
            for agent, thread in self._children.items()
        )
        return self._main.view(now, process)._replace(children=children)

    def _list(self) -> None:
        try:
            changed = os.stat(self._folder).st_mtime_ns
        except OSError:
            return
        if changed == self._listed:
            return
        self._listed = changed
        with os.scandir(self._folder) as entries:
            found = [
                (entry.stat(follow_symlinks=False).st_mtime, entry.name)
                for entry in entries
                if entry.name.startswith("agent-")
                and entry.name.endswith(".jsonl")
                and entry.is_file(follow_symlinks=False)
            ]
        for _, name in sorted(found)[-_CHILDREN:]:
            agent = name.removeprefix("agent-").removesuffix(".jsonl")
            if agent not in self._children:
                self._children[agent] = _Thread(f"{self._folder}/{name}", sidechain=True)
                self._names[agent] = _name(f"{self._folder}/agent-{agent}.meta.json")


def _name(path: str) -> str:
    """A subagent's type, from the file beside its transcript; empty if there is none."""
    try:
        with open(path, "rb") as file:
            told = orjson.loads(file.read(1 << 16))
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
        self._turn = Turn(_ASKING, _GUARDED)
        self._session: str | None = None
        self._model: str | None = None
        self._cwd: str | None = None
        self._branch: str | None = None
        self._context: int | None = None
        self._last: float | None = None
        self._prompt = ""

    def view(self, now: float, process: Activity | None) -> View:
        doing = self._turn.doing(now, process)
        total, usages, minutes = self.tail.sums()
        return View(
            session=self._session,
            state=doing.state,
            reason=doing.reason,
            detail=doing.detail,
            since=doing.since,
            certain=doing.certain,
            model=self._model,
            cwd=self._cwd,
            branch=self._branch,
            context=self._context,
            context_limit=None,
            usage=total,
            usages=usages,
            minutes=minutes,
            calls=len(self.tail.calls.calls),
            last_call=self._last,
            tool=self._turn.tool,
            prompt=self._prompt,
            timeline=self.tail.timeline,
        )

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
        self._session = data.get("sessionId") or self._session
        self._cwd = data.get("cwd") or self._cwd
        branch = data.get("gitBranch")
        if branch and branch != "HEAD":  # what it writes outside of a repository, too
            self._branch = branch

    def _replied(self, data: dict[str, Any]) -> None:
        message, time = data["message"], milliseconds(data["timestamp"]) / 1000
        if bool(data.get("isSidechain")) is not self._sidechain:
            return  # older versions write subagents' lines into the main transcript
        if message.get("model") == "<synthetic>":
            self._turn.ended(time, _text(message["content"]) if data.get("isApiErrorMessage") else "")
            return
        self._model = message.get("model") or self._model
        usage = message["usage"]
        self._context = sum(
            int(usage.get(part) or 0)
            for part in (
                "input_tokens",
                "cache_read_input_tokens",
                "cache_creation_input_tokens",
                "output_tokens",
            )
        )
        self._last = time
        for block in message["content"]:
            if block.get("type") == "tool_use":
                self._turn.called(block["id"], block["name"], time)
        if message.get("stop_reason") in ("end_turn", "stop_sequence", "max_tokens", "refusal"):
            self._turn.ended(time)
        else:
            self._turn.thought(time)

    def _told(self, data: dict[str, Any]) -> None:
        if bool(data.get("isSidechain")) is not self._sidechain:
            return
        content, time = data["message"]["content"], milliseconds(data["timestamp"]) / 1000
        text = content if isinstance(content, str) else _text(content)
        if text.startswith(_INTERRUPTED):
            self._turn.ended(time, "interrupted")
            return
        if not isinstance(content, str):
            results = [block["tool_use_id"] for block in content if block.get("type") == "tool_result"]
            for call in results:
                self._turn.returned(call, time)
            if results:
                return
        if not data.get("isMeta"):
            self._prompt = text[:_BEGINNING]
            if not text.startswith(("<command-", "<local-command")):  # what the CLI itself answers
                self._turn.prompted(time)


def _text(content: list[dict[str, Any]]) -> str:
    return next((str(block["text"]) for block in content if block.get("type") == "text"), "")
