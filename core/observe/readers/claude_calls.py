"""Calls out of Claude Code's transcripts.

Source of the rules: transcripts of Claude Code 2.1.197 and 2.1.329, and ccusage (issues 888, 901, 985).
Only lines that hold ``"input_tokens"`` are looked at. JSON never hides that key, for a quotation mark
inside a string is escaped; but it may also stand in a tool's input or result, which is no call. Most of
a line is the message's content, so lines of the usual form are not parsed: their beginning proves that
it is a reply, the braces up to its request id that the usage is the message's own. Whatever does not fit
to the letter is parsed as JSON.
"""

from __future__ import annotations

import re
from typing import Any
from zlib import crc32

import orjson

from ..index.calls import NO_REQUEST, SIDECHAIN, Call, better, count, digest, hashed, milliseconds, short

_NEEDLE = b'"input_tokens"'
_USAGE = b'"usage":{'
_AFTER = b'"uuid":'
_REQUEST = b'"requestId":"'
_END = b'},"requestId":"'
_TEXT = rb'"[^"\\]*+"'
_HEAD = re.compile(
    rb'\{"parentUuid":(?:null|%b),"isSidechain":(true|false),(?:"(?!message")\w+":(?:null|true|false|%b),)*+'
    rb'"message":\{(?:"container":null,)?"id":"([^"\\]++)","type":"message","role":"assistant",'
    rb'"model":"([^"\\<]++)","content":' % (_TEXT, _TEXT)
)
_COUNTS = re.compile(
    rb'"usage":\{"input_tokens":(\d{1,9}),"cache_creation_input_tokens":(\d{1,9}),'
    rb'"cache_read_input_tokens":(\d{1,9}),"output_tokens":(\d{1,9})[,}]'
)
_TAIL = re.compile(
    rb'\},"requestId":"([^"\\]++)",(?:"(?!type")\w+":(?:\d++|%b),)*?"type":"assistant","uuid":%b,'
    rb'"timestamp":"([^"\\]++)"' % (_TEXT, _TEXT)
)
_HOUR = re.compile(rb'"ephemeral_1h_input_tokens":(\d{1,9})')
_THOUGHT = re.compile(rb'"thinking_tokens":(\d{1,9})')


class ClaudeCalls:
    """Gathers the calls of one transcript, each once.

    Attributes:
        calls: The best copy of each call, by its key, in the order of ``Call``.
        odd: Lines that look like a call but could not be read.
        facts: ``session``, ``cwd`` and ``branch`` as first seen, and the last ``model``.
        models: Names of the models, by digest.
        restart: Never; what an earlier reading found stays found.
    """

    suffix = ".jsonl"

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self._same = b""
        self._digests: dict[str, int] = {}
        self._named = b"", 0
        self.calls: dict[tuple[int, int], tuple[int, ...]] = {}
        self.odd = 0
        self.facts: dict[str, Any] = dict(state or {})
        self.models: dict[int, str] = {}
        self.restart = False

    @property
    def state(self) -> dict[str, Any]:
        """What the next reading of this file has to know."""
        return self.facts

    def feed(self, buffer: bytearray, end: int) -> None:
        """Read whole lines: ``buffer[:end]``."""
        find, rfind, starts = buffer.find, buffer.rfind, buffer.startswith
        view = memoryview(buffer)
        try:
            begin = 0
            if "session" not in self.facts:
                self._introduction(buffer, end)
            while (hit := find(_NEEDLE, begin, end)) >= 0:
                stop = find(b"\n", hit, end)
                # The other blocks of a message repeat its usage and its request id to the letter.
                if not (self._same and starts(self._same, hit)):
                    start = rfind(b"\n", begin, hit) + 1 or begin
                    self._line(buffer, view, start, hit, stop)
                    mark = find(_AFTER, hit, stop)
                    self._same = bytes(view[hit:mark]) if mark > 0 else b""
                    if _REQUEST not in self._same:
                        self._same = b""
                begin = stop + 1
        finally:
            view.release()

    def _introduction(self, buffer: bytearray, end: int) -> None:
        """Take the session's folder from the first line that tells it; the path does not (it is mangled)."""
        place = buffer.find(b'"cwd":', 0, end)
        if place < 0:
            return
        start, stop = buffer.rfind(b"\n", 0, place) + 1, buffer.find(b"\n", place, end)
        try:
            data = orjson.loads(buffer[start:stop])
            session, cwd, branch = data.get("sessionId"), data.get("cwd"), data.get("gitBranch")
        except (ValueError, AttributeError):
            return
        if isinstance(session, str) and isinstance(cwd, str):
            self.facts |= {"session": session, "cwd": cwd, "branch": branch, "agent": data.get("agentId")}

    def _line(self, buffer: bytearray, view: memoryview, start: int, hit: int, stop: int) -> None:
        if self._usual(buffer, start, hit, stop):
            return
        try:
            self._entry(orjson.loads(view[start:stop]))
        except (ValueError, TypeError, AttributeError, OverflowError, KeyError):
            self.odd += 1

    def _usual(self, buffer: bytearray, start: int, hit: int, stop: int) -> bool:
        """Read a line of the usual form; ``False``: it is of another form, or damaged."""
        usage = _COUNTS.match(buffer, hit - len(_USAGE), stop)
        end = buffer.find(_END, hit, stop)
        # A second key is the usage of single iterations, or the first was not the message's own.
        if usage is None or end < 0 or buffer.find(_NEEDLE, hit + len(_NEEDLE), stop) >= 0:
            return False
        head, tail = _HEAD.match(buffer, start, hit), _TAIL.match(buffer, end, stop)
        rest = buffer[usage.end() - 1 : end]
        if head is None or tail is None or rest.count(b"}") != rest.count(b"{") + 1:
            return False
        side, identity, name = head.groups()
        fresh, written, read, output = usage.groups()
        request, time = tail.groups()
        try:
            when = milliseconds(time.decode())
        except ValueError:
            return False
        if name != self._named[0]:
            self._named = name, self._model(name.decode("utf-8", "replace"))
        made, hour, thought = int(written), 0, 0
        if found := _HOUR.search(rest):
            hour = min(int(found[1]), made)
        if b"thinking_tokens" in rest and (found := _THOUGHT.search(rest)):
            thought = int(found[1])
        key = hashed(identity), (SIDECHAIN if side == b"true" else crc32(request))
        call = (
            *key,
            when,
            self._named[1],
            int(fresh),
            int(read),
            made - hour,
            hour,
            int(output),
            thought,
        )
        if key in self.calls:
            self._put(Call(*call))
        else:
            self.calls[key] = call
        return True

    def _entry(self, data: dict[str, Any]) -> None:
        message: Any = data.get("message")
        if message is None:  # older versions tell of a subagent's calls in lines of progress
            if data.get("type") != "progress":
                return
            data = data["data"]["message"]
            message = data.get("message")
        usage = message.get("usage")
        if usage is None:
            return
        name = message.get("model") or ""
        if name == "<synthetic>":  # an error or a note of Claude Code itself; no call
            return
        written = count(usage.get("cache_creation_input_tokens"))
        split = usage.get("cache_creation")
        hour = min(count(split.get("ephemeral_1h_input_tokens")), written) if split else 0
        details = usage.get("output_tokens_details")
        identity, request = message.get("id"), data.get("requestId")
        if not identity:  # nothing to tell copies by: the line itself is the call
            identity = data.get("uuid") or f"{data['timestamp']} {usage}"
        call = Call(
            digest(identity),
            SIDECHAIN if data.get("isSidechain") else short(request) if request else NO_REQUEST,
            milliseconds(data["timestamp"]),
            self._model(name),
            count(usage.get("input_tokens")),
            count(usage.get("cache_read_input_tokens")),
            written - hour,
            hour,
            count(usage.get("output_tokens")),
            count(details.get("thinking_tokens")) if details else 0,
        )
        self._put(call)

    def _model(self, name: str) -> int:
        self.facts["model"] = name
        if (model := self._digests.get(name)) is None:
            model = self._digests[name] = digest(name)
            self.models[model] = name
        return model

    def _put(self, call: Call) -> None:
        key = call.message, call.request
        old = self.calls.get(key)
        if old is None:
            self.calls[key] = call
        elif better(call, old):
            # The time stays the first one, so that a call does not wander over midnight.
            self.calls[key] = call._replace(time=old[2])
