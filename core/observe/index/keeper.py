"""The process that keeps the scan index and answers what is asked of it; run with ``-m``.

One question in on stdin, one answer out on stdout, both JSON, and it ends. It is a process of its own so
that a gigabyte of transcripts is read without taking the interpreter from the kernel's model calls, and
without its memory. Its argument is the descriptor of a pipe whose other end is open as long as whoever
asked lives: then this process ends too, whatever it is doing, and its process group with it, in which
there are only its readers.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

import orjson

from ...errors import AgentTopError
from .history import History, Root
from .scan_index import KnownFile, ScanIndex, forget
from .summing import Wish, groups

#: Files and folders with something odd that are named, of each CLI; the rest is counted.
NAMED = 20


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Bring the index up to date and answer.

    Args:
        question: ``index`` (its path), ``roots`` (those of today, and the observer of each), ``processes``
            (how many may read at once) and ``want``: ``reading`` for nothing more, ``sums`` for the sums
            of ``wish``, ``checks`` for what was found and not understood.

    Raises:
        AgentTopError: The index cannot be used, or the wish cannot be meant.
    """
    try:
        return _answer(question)
    except sqlite3.OperationalError as error:  # no room, no permission, locked
        raise AgentTopError(
            f"{question['index']} cannot be used",
            str(error),
            "See that its folder can be written and has room",
        ) from error
    except sqlite3.DatabaseError:  # damaged, in a place that opening it did not show
        forget(Path(question["index"]))
        return _answer(question)


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    index = ScanIndex(Path(question["index"]))
    try:
        owners = {Root(*root): owner for *root, owner in question["roots"]}
        agents = {root.kind: owner for root, owner in owners.items()}
        history = History(index, owners, question["processes"])
        done = history.refresh()
        files = index.files()
        told: dict[str, Any] = {"refresh": done._asdict(), "files": len(files)}
        told["problems"] = len(history.problems) + sum(
            known.odd + known.long + bool(known.error) for known in files
        )
        if question["want"] == "sums":
            kinds = {known.file: agents.get(known.kind, known.kind) for known in files}
            paths = {known.file: known.path for known in files}
            found = groups(index.sums_by_file(), kinds, index.facts(), paths, Wish(**question["wish"]))
            told["groups"] = [[*group] for group in found]  # orjson takes no subclass of tuple
        elif question["want"] == "checks":
            told["checks"] = _checks(index, history, files, agents)
        return told
    finally:
        index.close()


def _checks(
    index: ScanIndex, history: History, files: list[KnownFile], agents: dict[str, str]
) -> dict[str, Any]:
    """What is known of each CLI's transcripts, by its observer."""
    facts = index.facts()
    found: dict[str, Any] = {}
    for root in history.roots:
        one = found.setdefault(agents[root.kind], _nothing())
        one["roots"].append([root.path, os.path.exists(root.path)])
    for known in files:
        one = found.setdefault(agents.get(known.kind, known.kind), _nothing())
        one["files"] += 1
        one["bytes"] += known.size
        one["gone"] += known.path not in history.found
        one["sessions"].add(facts[known.file].get("session") or known.path)
        one["odd"] += known.odd
        one["long"] += known.long
        if known.odd or known.long or known.error:
            one["named"].append([known.path, known.odd, known.long, known.error])
    for path, why in history.problems.items():
        kind = next(root.kind for root in history.roots if path.startswith(root.path))
        found[agents[kind]]["named"].append([path, 0, 0, why])
    for one in found.values():
        one["sessions"] = len(one["sessions"])
        one["more"] = max(0, len(one["named"]) - NAMED)
        one["named"] = sorted(one["named"], key=lambda item: (not item[3], -item[1] - item[2]))[:NAMED]
    return found


def _nothing() -> dict[str, Any]:
    return {
        "roots": [], "files": 0, "bytes": 0, "gone": 0, "sessions": set(),
        "odd": 0, "long": 0, "named": [], "more": 0,
    }  # fmt: skip


def yield_to_others() -> None:
    """Take the processor only when nobody else wants it; what is started from here does so, too."""
    os.nice(19)
    with contextlib.suppress(PermissionError):  # in some containers; then being nice has to do
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def main() -> None:
    """Answer one question."""
    os.umask(0o077)
    threading.Thread(target=_end_with, args=(int(sys.argv[1]),), daemon=True).start()
    question = orjson.loads(sys.stdin.buffer.read())
    if question["low"]:
        yield_to_others()
    try:
        told = answer(question)
    except AgentTopError as error:
        told = {"error": error.to_dict()}
    sys.stdout.buffer.write(orjson.dumps(told))
    sys.stdout.buffer.flush()


def _end_with(descriptor: int) -> None:
    """End this process group when the other end of a pipe is closed; what was committed is kept."""
    os.read(descriptor, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
