"""Calls out of Copilot CLI's sessions.

Source of the rules: Copilot CLI 1.0.102, run against a mock provider, and the schema of its events that
comes with it. Each call has a ``session.usage_record``; a subagent's lines carry its ``agentId``. Input has
what was read from the cache and written to it, output has the reasoning. The totals at the end of a session
(``session.shutdown``) say the same again.
"""

from __future__ import annotations

from typing import Any

from .json_calls import JsonCalls


class CopilotCalls(JsonCalls):
    """Gathers the calls of one session, its subagents' too; see ``JsonCalls``."""

    needles = (b'"session.usage_record"', b'"session.start"', b'"session.context_changed"')

    def entry(self, data: dict[str, Any]) -> None:
        """Read one line; see ``JsonCalls``."""
        kind, told = data.get("type"), data.get("data")
        if kind == "session.start" and told:
            self.facts |= {"session": told["sessionId"], **_place(told.get("context"))}
        elif kind == "session.context_changed" and told:
            self.facts |= _place(told)
        elif kind == "session.usage_record" and told:
            self._record(told["usage"], data)

    def _record(self, usage: dict[str, Any], data: dict[str, Any]) -> None:
        accounting = usage.get("accounting") or {}
        self.put(
            usage.get("apiCallId") or accounting.get("usageId") or data["id"],
            data["timestamp"],
            usage.get("model") or "",
            whole=usage.get("inputTokens"),
            read=usage.get("cacheReadTokens"),
            written=usage.get("cacheWriteTokens"),
            output=usage.get("outputTokens"),
            reasoning=usage.get("reasoningTokens"),
            agent=data.get("agentId") or "",
        )


def _place(context: dict[str, Any] | None) -> dict[str, Any]:
    found = context or {}
    return {name: found[name] for name in ("cwd", "branch") if found.get(name)}
