"""Calls out of Qwen Code's chats.

Source of the rules: Qwen Code 0.15 and 0.24, run against a mock provider. A main chat has a line of
telemetry for each call, of subagents too, with the response's id; the reply after it repeats the same
numbers and is its twin. A reply without such a line before it is a call by itself. Subagents have chats of
their own in newer versions; their calls are told in the main chat, so nothing is counted there. Input has
what came from the cache, output has the thoughts. Calls beside the conversation (what to type next, whether
a command is safe) are not in the chat.
"""

from __future__ import annotations

from typing import Any

from .json_calls import JsonCalls

_RESPONSE = "qwen-code.api_response"


class QwenCalls(JsonCalls):
    """Gathers the calls of one chat; see ``JsonCalls``."""

    needles = (b'"qwen-code.api_response"', b'"usageMetadata"')

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        super().__init__(state)
        self._told: list[list[int]] = self.facts.pop("told", [])

    @property
    def state(self) -> dict[str, Any]:
        """What the next reading of this file has to know."""
        return self.facts | {"told": self._told}

    def entry(self, data: dict[str, Any]) -> None:
        """Read one line; see ``JsonCalls``."""
        self._about(data)
        if data.get("isSidechain"):
            return
        if data.get("type") == "system" and data.get("subtype") == "ui_telemetry":
            event = data["systemPayload"]["uiEvent"]
            if event.get("event.name") == _RESPONSE:
                self._response(event, data)
        elif data.get("type") == "assistant" and (usage := data.get("usageMetadata")):
            self._reply(usage, data)

    def _about(self, data: dict[str, Any]) -> None:
        if "session" not in self.facts:
            self.facts |= {"session": data.get("sessionId"), "cwd": data.get("cwd")}
            if data.get("isSidechain"):
                self.facts |= {
                    "subagent": True,
                    "parent": data.get("sessionId"),
                    "agent": data.get("agentId"),
                }
        if branch := data.get("gitBranch"):
            self.facts["branch"] = branch

    def _response(self, event: dict[str, Any], data: dict[str, Any]) -> None:
        prompt, cached = event.get("input_token_count") or 0, event.get("cached_content_token_count") or 0
        output, thoughts = event.get("output_token_count") or 0, event.get("thoughts_token_count") or 0
        agent = subagent(event, str(data.get("sessionId")))
        self.put(
            event.get("response_id") or data["uuid"],
            data["timestamp"],
            event.get("model") or "",
            whole=prompt,
            read=cached,
            output=output,
            reasoning=thoughts,
            agent=agent,
        )
        if not agent:
            self._told = [*self._told[-3:], [prompt, cached, output]]

    def _reply(self, usage: dict[str, Any], data: dict[str, Any]) -> None:
        prompt, cached = usage.get("promptTokenCount") or 0, usage.get("cachedContentTokenCount") or 0
        output = usage.get("candidatesTokenCount") or 0
        if [prompt, cached, output] in self._told:
            self._told.remove([prompt, cached, output])
            return
        self.put(
            data["uuid"],
            data["timestamp"],
            data.get("model") or "",
            whole=prompt,
            read=cached,
            output=output,
            reasoning=usage.get("thoughtsTokenCount"),
        )


def subagent(event: dict[str, Any], session: str) -> str:
    """Which subagent an event of telemetry is of, or none.

    Older versions name it only in the prompt's id: session, agent and round with ``#`` between them, where
    the main conversation's has eight ``#`` together.
    """
    if found := event.get("subagent_id"):
        return str(found)
    parts = str(event.get("prompt_id") or "").split("#")
    return parts[1] if len(parts) == 3 and parts[0] == session else ""
