"""The kernel's log file: rotated, private, and where its stderr goes too."""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class _Log(logging.handlers.RotatingFileHandler):
    """Keeps file descriptor 2 on the current file, so that a crash of the interpreter is in it."""

    def _open(self) -> TextIOWrapper:
        stream = super()._open()
        os.fchmod(stream.fileno(), 0o600)
        os.dup2(stream.fileno(), 2)
        return stream


def to_file(path: Path, size: int, count: int, level: str) -> None:
    """Send all log records, warnings and stderr to ``path``; rotate it at ``size`` bytes, keep ``count``."""
    handler = _Log(path, maxBytes=size, backupCount=count, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter(FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Its errors are about clients that hung up and streams that were cut, both everyday here.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    sys.excepthook = _uncaught


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("agenttop").critical("the kernel ended", exc_info=(kind, error, trace))
