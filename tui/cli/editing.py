"""Editing memory in a person's editor. What was typed is never lost: a write that fails leaves its file."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agenttop.core.errors import AgentTopError, UsageError

from ..format import clean
from . import printing
from .syscall import ask


def edit_block(name: str, agent: str | None) -> None:
    """Edit a block of an agent; one that is not there yet begins empty."""
    found = [block for block in ask("memory.blocks", agent=agent) if block["name"] == name]
    text, version = (found[0]["text"], found[0]["version"]) if found else ("", 0)

    def write(changed: str) -> str:
        done = ask("memory.write-block", agent=agent, name=name, text=changed, expected=version)
        for moved in done["moved"]:
            printing.note(f"{moved['tokens']} tokens of {moved['block']} moved to recall")
        return f"{name} version {done['block']['version']}"

    _edit(name, text, write)


def edit_note(key: str, namespace: str) -> None:
    """Edit a note; one that is not there yet begins empty."""
    note: dict[str, Any] = {"text": "", "version": 0, "file": False}
    try:
        note = ask("memory.note", namespace=namespace, key=key)
    except AgentTopError as error:
        if error.code != "not_remembered":
            raise
    if note["file"]:
        raise UsageError(f"{key} is a file and no text", hint="Write it anew with `agenttop mem put --file`")

    def write(changed: str) -> str:
        done = ask("memory.write-note", namespace=namespace, key=key, text=changed, expected=note["version"])
        return f"{done['namespace']}/{key} version {done['version']}"

    _edit(key, note["text"], write)


def _edit(name: str, text: str, write: Callable[[str], str]) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "nobody can edit here", "This is not a terminal", "Use `agenttop mem write` or `put`"
        )
    descriptor, path = tempfile.mkstemp(prefix="agenttop-", suffix=f"-{Path(name).name}.md")
    file = Path(path)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as opened:
        opened.write(text)
    try:
        _run_editor(file)
        with file.open(encoding="utf-8", newline="") as opened:
            changed = opened.read()
        if not text.endswith("\n"):
            # Editors end a file with a line break that nobody typed.
            changed = changed.removesuffix("\n")
        said = write(changed) if changed != text else f"{name} is as it was"
    except (AgentTopError, OSError, UnicodeDecodeError) as error:
        printing.note(f"what you wrote is in {file}")
        if isinstance(error, AgentTopError):
            raise
        raise AgentTopError(f"{name} was not edited", str(error)) from error
    file.unlink()
    printing.line(clean(said))


def _run_editor(file: Path) -> None:
    """Raises ``AgentTopError`` where the editor cannot be run or says that it failed."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        status = subprocess.run([*shlex.split(editor), str(file)], check=False).returncode
    except (OSError, ValueError) as error:
        raise AgentTopError(f"{editor} cannot be run", str(error), "Set EDITOR") from error
    if status != 0:
        raise AgentTopError(f"{editor} ended with status {status}", "Nothing was written")
