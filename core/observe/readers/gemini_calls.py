"""Calls out of Gemini CLI's chats.

Source of the rules: Gemini CLI 0.61, run against a mock provider. A reply is written when it ends and
again, under the same id, when its tools have returned: the last counts. ``input`` has what came from the
cache, ``output`` has not the thoughts, and what a tool's own prompt took (``tool``) is in neither. Messages
that are written anew after a cancelled turn have no tokens. Calls beside the conversation (the router's,
summaries) are not in the file.
"""

from __future__ import annotations

import os
from typing import Any

from .. import regular
from ..index.calls import count
from .json_calls import JsonCalls

#: The largest name of a folder that is believed.
_MOST = 4096


class GeminiCalls(JsonCalls):
    """Gathers the calls of one chat, the main one or a subagent's; see ``JsonCalls``."""

    needles = (b'"tokens"', b'"projectHash"')

    def begin(self, path: str) -> None:
        """Take the working folder from the file that Gemini keeps beside its chats."""
        project, _, chat = path.rpartition("/chats/")
        if os.sep in chat:
            self.facts |= {"subagent": True, "parent": chat.partition(os.sep)[0]}
        if project and "cwd" not in self.facts:
            try:
                told = regular.beginning(f"{project}/.project_root", _MOST)
            except OSError:
                return  # older versions have none
            self.facts["cwd"] = told.decode("utf-8", "replace").strip() or None

    def entry(self, data: dict[str, Any]) -> None:
        """Read one line; see ``JsonCalls``."""
        if "projectHash" in data:
            self.facts.setdefault("session", data.get("sessionId"))
        elif data.get("type") == "gemini":
            self._reply(data)
        elif isinstance(patch := data.get("$set"), dict):
            for message in patch.get("messages") or ():
                if message.get("type") == "gemini":
                    self._reply(message)

    def _reply(self, data: dict[str, Any]) -> None:
        if not (tokens := data.get("tokens")):
            return
        thoughts = count(tokens.get("thoughts"))
        self.put(
            data["id"],
            data["timestamp"],
            data.get("model") or "",
            whole=count(tokens.get("input")) + count(tokens.get("tool")),
            read=tokens.get("cached"),
            output=count(tokens.get("output")) + thoughts,
            reasoning=thoughts,
        )
