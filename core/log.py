"""The kernel's log: a file that is rotated, one line per record, without secrets.

Nothing is ever written to stderr unless asked for: a screen may be running there. A kernel in a
process of its own sends its stderr to the file too, so that a crash of the interpreter is in it.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
import sys
import threading
import time
from collections.abc import Iterable
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Self

from .errors import AgentTopError

_SECRET_PATH = re.compile(r"/a/[^/\s\"'?#]{8,}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_HIDDEN = "[secret]"

#: Shorter ones would hide ordinary words.
_SHORTEST_SECRET = 6


class Redactor:
    """Knows what must not be written: agents' secrets in paths, and the keys it was told of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None

    def __repr__(self) -> str:
        return f"<Redactor of {len(self._secrets)} secrets>"

    def hide(self, *secrets: str) -> None:
        """From now on none of these is written. Those under six characters are not taken."""
        with self._lock:
            self._secrets |= {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
            longest_first = sorted(self._secrets, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def clean(self, text: str) -> str:
        """``text`` without secrets."""
        if self._pattern is not None:
            text = self._pattern.sub(_HIDDEN, text)
        return _SECRET_PATH.sub(f"/a/{_HIDDEN}", text)


class LineFormatter(logging.Formatter):
    """One record, one line: control characters, line ends and tracebacks are escaped."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self._redactor = redactor

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """UTC, ISO 8601, milliseconds."""
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z"

    def format(self, record: logging.LogRecord) -> str:
        """The record as it is written, without its line end."""
        return _CONTROL.sub(_escaped, self._redactor.clean(super().format(record)))


def _escaped(match: re.Match[str]) -> str:
    char = match[0]
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char) or f"\\u{ord(char):04x}"


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """Mode 0600 from the first byte, also after a rotation; a full disk loses lines, and says how many."""

    lost = 0

    def __init__(self, path: Path, *, size: int, count: int, take_stderr: bool) -> None:
        # A crash writes to descriptor 2 past Python: it must lead to the current file at all times.
        self._stderr = os.dup(2) if take_stderr else None
        # A count of 0 would let the file grow without end.
        super().__init__(path, maxBytes=size, backupCount=max(count, 1), encoding="utf-8")

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.baseFilename, flags, 0o600)
        os.fchmod(descriptor, 0o600)
        if self._stderr is not None:
            os.dup2(descriptor, 2)
        return open(descriptor, "a", encoding="utf-8", errors="backslashreplace")

    def close(self) -> None:
        super().close()
        if self._stderr is not None:
            os.dup2(self._stderr, 2)
            os.close(self._stderr)
            self._stderr = None

    def emit(self, record: logging.LogRecord) -> None:
        before = self.lost
        if before and record.name != __name__:
            super().emit(_notice(before))
            if self.lost > before:
                self.lost = before + 1
                return
            self.lost = 0
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        self.lost += 1
        # What could not be flushed stays in the buffer, and would come out as half a line later.
        stream, self.stream = self.stream, None
        if stream is not None:
            _abandon(stream)


def _abandon(stream: TextIOWrapper) -> None:
    try:
        stream.close()
    except OSError:
        # The buffer is what could not be written; it was counted, and the descriptor is closed.
        return


def _notice(lost: int) -> logging.LogRecord:
    values = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"}
    return logging.makeLogRecord({**values, "msg": "%d records could not be written", "args": (lost,)})


class Log:
    """The open log. Everything logged in this process goes to it until ``close``."""

    def __init__(
        self,
        path: Path,
        *,
        level: str = "info",
        size: int = 4 << 20,
        count: int = 3,
        stderr: bool = False,
        take_stderr: bool = False,
        secrets: Iterable[str] = (),
    ) -> None:
        """Open ``path`` for appending; rotated at ``size`` bytes, ``count`` old files are kept.

        ``stderr`` writes every record there as well; ``take_stderr`` sends descriptor 2 to the file.

        Raises:
            AgentTopError: The file cannot be opened.
        """
        self.redactor = Redactor()
        self.redactor.hide(*secrets)
        formatter = LineFormatter(self.redactor)
        try:
            file = _PrivateFile(path, size=size, count=count, take_stderr=take_stderr)
        except OSError as error:
            raise AgentTopError(f"cannot write the log {path}", error.strerror or str(error)) from error
        self._handlers: list[logging.Handler] = [file]
        if stderr:
            self._handlers.append(logging.StreamHandler(sys.stderr))
        self._root = logging.getLogger()
        self._level = self._root.level
        self._root.setLevel(level.upper())
        for handler in self._handlers:
            handler.setFormatter(formatter)
            self._root.addHandler(handler)
        logging.captureWarnings(True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def hide(self, *secrets: str) -> None:
        """Never write any of these."""
        self.redactor.hide(*secrets)

    def close(self) -> None:
        """Leave logging as it was found. Closing twice is harmless."""
        for handler in self._handlers:
            self._root.removeHandler(handler)
            handler.close()
        if self._handlers:
            self._root.setLevel(self._level)
            logging.captureWarnings(False)
        self._handlers = []


def to_file(path: Path, size: int, count: int, level: str) -> Log:
    """The log of a kernel in a process of its own: records, warnings, stderr and what ends it.

    Raises:
        AgentTopError: The file cannot be opened.
    """
    log = Log(path, size=size, count=count, level=level, take_stderr=True)
    # Its errors are about clients that hung up and streams that were cut, both everyday here.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    sys.excepthook = _uncaught
    return log


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("agenttop").critical("the kernel ended", exc_info=(kind, error, trace))
