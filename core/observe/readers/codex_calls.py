"""Calls out of Codex's rollouts.

Source of the rules: rollouts of Codex 0.169, and ccusage's Codex reader. ``token_count`` carries a
cumulative total and the last call's usage, and is written again, unchanged, whenever only the rate
limits moved: a total that stands still is no call. Newer versions write a ``token_usage_record`` with
the response's id before it; then that is the call, and the ``token_count`` with the same usage its
twin. Input includes what was cached. A subagent's rollout of an older version begins with its parent's
events, all stamped with the second of the fork; such a leading burst is no call of its own.
"""

from __future__ import annotations

from typing import Any

import orjson

from ..index.calls import Call, better, count, digest, milliseconds

_USAGE = b'"reasoning_output_tokens"'
_TURN = b'"type":"turn_context"'
_FIELDS = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
)


class CodexCalls:
    """Gathers the calls of one rollout, each once.

    Attributes:
        calls: The best copy of each call, by its key, in the order of ``Call``.
        odd: Lines that look like a call but could not be read.
        facts: ``session``, ``cwd``, ``branch``, ``parent`` and ``model`` as last seen.
        models: Names of the models, by digest.
        restart: What was found in this file before turned out to be its parent's: forget it.
    """

    suffix = ".jsonl"

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self.calls: dict[tuple[int, int], tuple[int, ...]] = {}
        self.odd = 0
        self.models: dict[int, str] = {}
        self.restart = False
        self.facts: dict[str, Any] = state.get("facts", {})
        self._known = bool(state)
        self._total: list[int] | None = state.get("total")
        self._twin: list[int] | None = state.get("twin")
        # "" before the first token_count of a fork, its second after it, None once it is settled
        self._burst: str | None = state.get("burst")
        self._in_burst: bool = state.get("in_burst", False)
        self._model: tuple[str, int] = ("", digest(""))
        if name := self.facts.get("model"):
            self._name(name)

    @property
    def state(self) -> dict[str, Any]:
        """What the next reading of this file has to know."""
        return {
            "facts": self.facts,
            "total": self._total,
            "twin": self._twin,
            "burst": self._burst,
            "in_burst": self._in_burst,
        }

    def feed(self, buffer: bytearray, end: int) -> None:
        """Read whole lines: ``buffer[:end]``."""
        find = buffer.find
        view = memoryview(buffer)
        try:
            begin = 0
            if not self._known:
                self._known = True
                self._line(view[: find(b"\n", 0, end)])
            turn = _place(find(_TURN, 0, end), end)
            usage = _place(find(_USAGE, 0, end), end)
            while turn < end or usage < end:
                hit = min(turn, usage)
                start = buffer.rfind(b"\n", begin, hit) + 1 or begin
                stop = find(b"\n", hit, end)
                self._line(view[start:stop])
                begin = stop + 1
                if turn < begin:
                    turn = _place(find(_TURN, begin, end), end)
                if usage < begin:
                    usage = _place(find(_USAGE, begin, end), end)
        finally:
            view.release()

    def _line(self, line: memoryview) -> None:
        try:
            data = orjson.loads(line)
            kind, payload = data.get("type"), data.get("payload")
            if kind == "event_msg" and payload.get("type") == "token_count":
                self._counted(data["timestamp"], payload.get("info") or {})
            elif kind == "token_usage_record":
                self._recorded(data["timestamp"], payload)
            elif kind == "turn_context":
                self._turn(payload)
            elif kind == "session_meta" and "session" not in self.facts:
                self._meta(payload)
        except (ValueError, TypeError, AttributeError, OverflowError, KeyError):
            self.odd += 1

    def _meta(self, payload: dict[str, Any]) -> None:
        source = payload.get("source")
        parent = payload.get("parent_thread_id") or payload.get("forked_from_id")
        spawned = isinstance(source, dict) and "subagent" in source
        git = payload.get("git") or {}
        self.facts |= {
            "session": payload.get("id"),
            "cwd": payload.get("cwd"),
            "branch": git.get("branch"),
            "parent": parent,
            "subagent": spawned,
        }
        if spawned or parent:
            self._burst = ""

    def _turn(self, payload: dict[str, Any]) -> None:
        if name := payload.get("model"):
            self._name(name)
        if cwd := payload.get("cwd"):
            self.facts["cwd"] = cwd

    def _name(self, name: str) -> None:
        if name != self._model[0]:
            self._model = (name, digest(name))
            self.facts["model"] = name

    def _recorded(self, time: str, payload: dict[str, Any]) -> None:
        usage = _usage(payload["usage"])
        self._twin = usage
        self._add(payload.get("response_id") or f"{time} {usage}", time, usage)

    def _counted(self, time: str, info: dict[str, Any]) -> None:
        total = _usage(info["total_token_usage"]) if info.get("total_token_usage") else None
        last = _usage(info["last_token_usage"]) if info.get("last_token_usage") else None
        if total is None and last is None:
            return
        if total is not None and total == self._total:
            return
        before, self._total = self._total, total
        usage = last if last is not None else _less(total or [], before)
        twin, self._twin = self._twin, None
        if twin == usage or self._copied(time):
            return
        self._add(f"{time} {usage} {total}", time, usage)

    def _copied(self, time: str) -> bool:
        second = time[:19]
        if self._burst is None:
            return False
        if not self._burst:
            self._burst = second
            return False
        if second == self._burst:
            if not self._in_burst:  # the second of its kind: so the first was the parent's, too
                self._in_burst, self.restart = True, True
                self.calls.clear()
            return True
        self._burst = None
        return False

    def _add(self, identity: str, time: str, usage: list[int]) -> None:
        whole, read, written, output, reasoning = usage
        if not (whole or output):
            return
        read = min(read, whole)
        written = min(written, whole - read)
        name, model = self._model
        self.models[model] = name
        call = Call(
            digest(identity),
            0,
            milliseconds(time),
            model,
            whole - read - written,
            read,
            written,
            0,
            output,
            min(reasoning, output),
        )
        key = (call.message, 0)
        old = self.calls.get(key)
        if old is None or better(call, old):
            self.calls[key] = call


def _place(found: int, end: int) -> int:
    return end if found < 0 else found


def _usage(data: dict[str, Any]) -> list[int]:
    return [count(data.get(field)) for field in _FIELDS]


def _less(total: list[int], before: list[int] | None) -> list[int]:
    """What a total grew by; one that shrank began anew."""
    if before is None or any(now < then for now, then in zip(total, before, strict=True)):
        return total
    return [now - then for now, then in zip(total, before, strict=True)]
