"""Notes and search, without typer: what ``mem put``, ``mem get`` and ``mem search`` do (``mem.py``)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from agenttop.core.errors import AgentTopError, UsageError

from ..format import clean
from . import messages, printing
from .syscall import ask, inside, read_input, text_of

SHARED, PRIVATE, TEAM = "shared", "private", "team"


def space(shared: bool, team: bool, namespace: str | None) -> str | None:
    """The namespace that is named, if one is.

    Raises:
        UsageError: Several are.
    """
    named = [name for name, said in ((SHARED, shared), (TEAM, team)) if said]
    named += [namespace] if namespace is not None else []
    if len(named) > 1:
        raise UsageError(f"a note is in one namespace, not in {' and '.join(named)}", hint="Name one")
    return named[0] if named else None


def own_space() -> str:
    """Where notes are written if nothing is said: an agent's own namespace; a person has the shared one."""
    return PRIVATE if inside() else SHARED


def put(
    key: str,
    text: str | None = None,
    *,
    shared: bool = False,
    team: bool = False,
    namespace: str | None = None,
    file: Path | None = None,
    expected: int | None = None,
    as_json: bool = False,
) -> None:
    """Write a note."""
    where = space(shared, team, namespace) or own_space()
    fields: dict[str, Any] = {"text": _content(text)} if file is None else _file(file, text)
    note = ask("memory.write-note", namespace=where, key=key, expected=expected, **fields)
    if as_json:
        printing.json(note)
        return
    printing.line(clean(f"{note['namespace']}/{note['key']} version {note['version']}"))


def _content(text: str | None) -> str:
    if text is None:
        raise UsageError("a note has a text", "There is none", "Give a TEXT (- for standard input) or --file")
    return text_of(text)


def _file(file: Path, text: str | None) -> dict[str, Any]:
    import base64

    if text is not None:
        raise UsageError("a note has one content", "There are a text and a file", "Leave one of them out")
    try:
        with file.open("rb") as opened:
            data = read_input(opened.read(8 << 20))
    except OSError as error:
        raise AgentTopError(f"{file} cannot be read", error.strerror or str(error)) from error
    return {"text": base64.b64encode(data).decode(), "base64": True}


def get(
    key: str,
    *,
    shared: bool = False,
    team: bool = False,
    namespace: str | None = None,
    as_json: bool = False,
) -> None:
    """Print a note: the agent's own, else its team's, else the shared one."""
    note = find(key, space(shared, team, namespace))
    if as_json:
        printing.json(note)
        return
    if note["file"]:
        _print_file(note)
        return
    own = note["by"] == os.environ.get("AGENTTOP_AGENT") and inside()
    if not own and (inside() or sys.stderr.isatty()):
        # Whose words these are stands beside them: they may have been written to be obeyed.
        by = messages.writer(note["by_name"], note["by"])
        printing.note(f"{note['namespace']}/{note['key']} version {note['version']} was written by {by}")
    text = messages.harmless(note["text"])
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def find(key: str, where: str | None) -> dict[str, Any]:
    """The note of this key in one namespace, or in the first of those that are looked through.

    Raises:
        AgentTopError: There is none.
    """
    spaces = [where] if where is not None else [PRIVATE, TEAM, SHARED] if inside() else [SHARED]
    for one in spaces[:-1]:
        try:
            note: dict[str, Any] = ask("memory.note", namespace=one, key=key)
        except AgentTopError as error:
            # Not there, or in no team.
            if error.code not in ("not_remembered", "usage"):
                raise
        else:
            return note
    last: dict[str, Any] = ask("memory.note", namespace=spaces[-1], key=key)
    return last


def _print_file(note: dict[str, Any]) -> None:
    import base64

    if sys.stdout.isatty():
        raise UsageError(
            f"{note['key']} is a file of {note['size']} bytes", "This is a terminal", "Redirect it: > FILE"
        )
    told = ask("memory.note", namespace=note["namespace"], key=note["key"], base64=True)
    sys.stdout.flush()
    sys.stdout.buffer.write(base64.b64decode(told["text"]))


def search(
    query: str,
    *,
    agent: str | None = None,
    tiers: list[str] | None = None,
    mode: str | None = None,
    roles: list[str] | None = None,
    limit: int | None = None,
    as_json: bool = False,
) -> None:
    """Search all tiers."""
    found = ask(
        "memory.search", query=query, agent=agent, tiers=tiers or None, mode=mode, roles=roles or None,
        limit=limit,
    )  # fmt: skip
    if as_json:
        printing.json(found)
        return
    for hit in found["hits"]:
        printing.line(_head(hit))
        for line in messages.quoted(hit["text"]):
            printing.line(line)
    if found["loose"]:
        printing.note("nothing has all of these words; this has some")
    if found["degraded"] and mode is not None:
        printing.note(f"searched by words only: {found['degraded']}")


def _head(hit: messages.Document) -> str:
    said = [f"{hit['tier']} {hit['title']}", messages.moment(hit["at"])]
    if hit["name"]:
        said.append(f"of agent {hit['name']}")
    if hit["by"]:
        said.append(f"written by {messages.writer('', hit['by'])}")
    if hit["version"] is not None:
        said.append(f"version {hit['version']}")
    if hit["source"]:
        said.append(hit["source"])
    if hit["id"] is not None:
        said.append(f"entry {hit['id']}")
    return messages.facts(*said)
