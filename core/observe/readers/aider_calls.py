"""Calls out of what aider writes: its chat history, or the log of its analytics.

Source of the rules: aider 0.86.2, run against a mock provider, and its source. Both tell one message's
tokens when its reply has ended; with streaming, the usual way, aider does not ask for the usage and counts
by itself, so all of this is an estimate. The history rounds above a thousand (``2.3k``) and tells times of
chats only; the log has the counts as they are, but hides the model's name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ..index.calls import Call, digest
from ..index.formats import Source
from .json_calls import JsonCalls

HISTORY = ".aider.chat.history.md"
STARTED = re.compile(r"# aider chat started at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
MODEL = re.compile(r"> (?:Main model|Model): (\S+)")
TOKENS = re.compile(
    r"> Tokens: ([\d.]+k?) sent(?:, ([\d.]+k?) cache write)?(?:, ([\d.]+k?) cache hit)?, ([\d.]+k?) received"
)
_NEEDLES = (b"# aider chat started at ", b"> Main model: ", b"> Model: ", b"> Tokens: ")


class AiderCalls:
    """Gathers the calls of one chat history; see ``ClaudeCalls``.

    Attributes:
        calls: The calls, by key, in the order of ``Call``.
        odd: Lines that look like a call but could not be read.
        facts: ``cwd`` and the last ``model``.
        models: Names of the models, by digest.
        restart: Never; what an earlier reading found stays found.
        live: A process writes it: only the last chat counts, and its calls are of when the file was written.
    """

    suffix = HISTORY

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self.calls: dict[tuple[int, int], tuple[int, ...]] = {}
        self.odd = 0
        self.facts: dict[str, Any] = dict(state or {})
        self.models: dict[int, str] = {}
        self.restart = False
        self.live = False
        self._begun: int = self.facts.pop("begun", 0)
        self._number: int = self.facts.pop("number", 0)
        self._path = ""

    @property
    def state(self) -> dict[str, Any]:
        """What the next reading of this file has to know."""
        return self.facts | {"begun": self._begun, "number": self._number}

    @staticmethod
    def lister(path: str) -> OneFile:
        """What lists the history at ``path``: each folder has its own, so there is none to look through."""
        return OneFile(path)

    def begin(self, path: str) -> None:
        """Take the working folder from where the history lies."""
        self._path = path
        self.facts["cwd"] = os.path.dirname(path)

    def feed(self, buffer: bytearray, end: int) -> None:
        """Read whole lines: ``buffer[:end]``."""
        for line in bytes(buffer[:end]).split(b"\n"):
            if line.startswith(_NEEDLES):
                self._line(line.decode("utf-8", "replace"))

    def _line(self, text: str) -> None:
        try:
            if found := STARTED.match(text):
                # In the time of the place where it ran, which is taken to be this one.
                self._begun = round(datetime.fromisoformat(found[1]).timestamp() * 1000)
                self._number = 0
                if self.live:
                    self.calls.clear()
            elif found := MODEL.match(text):
                self.facts["model"] = found[1]
            elif found := TOKENS.match(text):
                self._told(*(tokens(part) for part in found.groups()))
        except (ValueError, OverflowError, OSError):
            self.odd += 1

    def _told(self, sent: int, written: int, read: int, received: int) -> None:
        self._number += 1
        model = str(self.facts.get("model") or "")
        name = digest(model)
        self.models[name] = model
        when = self._begun
        if self.live:
            when = max(when, os.stat(self._path).st_mtime_ns // 1_000_000)
        read = min(read, sent)
        written = min(written, sent - read)
        fresh = sent - read - written
        message = digest(f"{self._path} {self._begun} {self._number}")
        self.calls[message, 0] = Call(message, 0, when, name, fresh, read, written, 0, received, 0)


class AiderLog(JsonCalls):
    """Gathers the calls of the process that began last out of a log of analytics; see ``JsonCalls``.

    Attributes:
        model: The model's name, which the log hides.
    """

    needles = (b'"message_send"', b'"launched"')
    model = ""

    def entry(self, data: dict[str, Any]) -> None:
        """Read one line; see ``JsonCalls``."""
        if data.get("event") == "launched":
            self.calls.clear()
        elif data.get("event") == "message_send":
            told, time = data["properties"], datetime.fromtimestamp(data["time"], UTC).isoformat()
            named = str(told.get("main_model") or "")
            self.put(
                f"{time} {told}",
                time,
                self.model if not named or "REDACTED" in named else named,
                whole=told.get("prompt_tokens"),
                read=0,
                output=told.get("completion_tokens"),
            )


class OneFile:
    """Lists one file; see ``formats.Lister``."""

    def __init__(self, path: str) -> None:
        self._path = path

    def sources(self, problems: dict[str, str]) -> Iterator[Source]:
        """The file, if it is there."""
        try:
            status = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            problems[self._path] = error.strerror or str(error)
            return
        yield Source(self._path, status.st_ino, status.st_size, status.st_mtime_ns)


def tokens(text: str | None) -> int:
    """A count as aider shows it: ``950``, ``2.3k``, ``14k``; absent is 0.

    Raises:
        ValueError: It is not one.
    """
    if not text:
        return 0
    return round(float(text[:-1]) * 1000) if text.endswith("k") else int(text)
