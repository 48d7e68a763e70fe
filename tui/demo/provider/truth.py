"""The ground truth: what the provider was really asked, really sent, and would really bill.

A meter that is tested against this ledger has to agree with it to the token.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

Outcome = Literal["running", "complete", "refused", "cut", "error", "malformed", "dropped", "disconnected"]
"""``disconnected``: the client left first. ``cut``, ``error``, ``malformed``, ``dropped``: we were asked to
misbehave in that way. ``refused``: an HTTP error instead of a reply. ``complete``: all was sent."""


class Usage(NamedTuple):
    """Tokens in disjoint buckets; ``thinking`` is a part of ``output``."""

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    thinking: int = 0

    @property
    def context(self) -> int:
        """All tokens of the prompt."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h


NOTHING = Usage()


@dataclass(slots=True)
class Entry:
    """One call. Times are wall-clock seconds, sizes bytes, the rest tokens."""

    number: int
    """Counts calls from 1, in the order they arrived."""
    request_id: str
    id: str
    """The message id in the reply."""
    dialect: str
    path: str
    prefix: str
    """What stood before the provider's own path: the agent's, where no gateway took it off."""
    agent: str
    """The ``x-agent`` header, else the prefix."""
    headers: dict[str, str]
    key: str
    """Tells keys apart without telling them: a digest of the one the request came with, empty for none."""
    model: str
    stream: bool
    started: float
    status: int = 0
    outcome: Outcome = "running"
    usage: Usage = NOTHING
    """What is billed: for a reply that was cut, output as far as it was sent."""
    planned: Usage = NOTHING
    """What the whole reply would have been."""
    announced: dict[str, int] = field(default_factory=dict)
    """The last usage that was on the wire, in the provider's own field names; empty if none was."""
    stop_reason: str = ""
    tools: list[str] = field(default_factory=list)
    events_planned: int = 0
    events_sent: int = 0
    bytes_sent: int = 0
    first_byte: float | None = None
    ended: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON data."""
        data = asdict(self)
        data["usage"] = self.usage._asdict()
        data["planned"] = self.planned._asdict()
        return data


def key_digest(key: str) -> str:
    """What an ``Entry`` says of a key."""
    return blake2b(key.encode(), digest_size=4).hexdigest() if key else ""


class Truth:
    """The ledger: all calls in memory, and one NDJSON line in ``file`` for each begin and each end.

    A line is in the operating system's hands before the bytes it speaks of are sent, so it survives
    a kill of this process; a thread of its own syncs the file to the disk behind that.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.entries: list[Entry] = []
        self.other: dict[str, int] = {}
        """How often everything else was asked: ``GET /v1/models`` and the like."""
        self._fd = -1
        self._dirty = threading.Event()
        self._closing = False
        self._syncer: threading.Thread | None = None
        if file is not None:
            self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._syncer = threading.Thread(target=self._sync, name="truth-sync", daemon=True)
            self._syncer.start()

    def begin(self, entry: Entry) -> None:
        """Note that a call arrived."""
        self.entries.append(entry)
        self._write({"event": "started", **entry.to_dict()})

    def end(self, entry: Entry) -> None:
        """Note how it ended."""
        self._write({"event": "ended", **entry.to_dict()})

    def count(self, what: str) -> None:
        """Note a request that is not a model call."""
        self.other[what] = self.other.get(what, 0) + 1

    def select(self, *, agent: str = "", key: str = "", since: int = 0) -> list[Entry]:
        """The calls numbered above ``since``, of one agent or key, or of all."""
        found = self.entries[since:]
        return [e for e in found if (not agent or e.agent == agent) and (not key or e.key == key)]

    def total(self, entries: Iterable[Entry] | None = None) -> Usage:
        """The billed tokens of these calls, or of all."""
        rows = [e.usage for e in (self.entries if entries is None else entries)]
        return Usage(*(sum(column) for column in zip(*rows, strict=True))) if rows else Usage()

    def close(self) -> None:
        """Sync and close the file."""
        if self._syncer is None:
            return
        self._closing = True
        self._dirty.set()
        self._syncer.join()
        os.close(self._fd)
        self._syncer = None

    def _write(self, record: dict[str, Any]) -> None:
        if self._syncer is not None:
            os.write(self._fd, orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            self._dirty.set()

    def _sync(self) -> None:
        while not self._closing:
            self._dirty.wait()
            self._dirty.clear()
            os.fsync(self._fd)
