"""Mistakes on the command line that need no kernel to be seen: each has its words and exit status."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from agenttop.tui import main as entry


def mistaken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str, stdin: bytes = b""
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["agenttop", *words])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    status = entry.main()
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("agenttop: ")
    assert "Traceback" not in told.err
    return status, told.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["send"], "Missing argument"),
        (["send", "box"], "one content"),
        (["send", "box", "text", "--payload", "1"], "one content"),
        (["send", "box", "--payload", "{"], "not JSON"),
        (["send", "box", "text", "too", "many"], "unexpected"),
        (["send", "box", "text", "--priority", "high"], "--priority"),
        (["send", "box", os.fsdecode(b"\xff")], "UTF-8"),
        (["send", os.fsdecode(b"\xff"), "text"], "UTF-8"),
        (["inbox", "--peek", "box", "--wait", "5"], "--peek"),
        (["inbox", "--nope"], "--nope"),
        (["ack"], "Missing argument"),
        (["mem", "put", "k", "x", "--shared", "--team"], "one namespace"),
        (["mem", "put", "k"], "text"),
        (["mem", "put", "k", "x", "--file", "/etc/hostname"], "one content"),
        (["mem", "versions", "k", "--shared", "-N", "private"], "one namespace"),
        (["mem", "export", "x", "--format", "yaml"], "--format"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_told_with_status_2(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    status, told = mistaken(monkeypatch, capsys, *words)
    assert (status, said in told) == (2, True), told


def test_standard_input_that_is_not_text_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, told = mistaken(monkeypatch, capsys, "send", "box", "-", stdin=b"a\xff")
    assert (status, "not UTF-8" in told) == (2, True)


def test_standard_input_without_end_is_not_read_for_ever(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, told = mistaken(monkeypatch, capsys, "send", "box", "-", stdin=bytes(9 << 20))
    assert (status, "bytes" in told) == (2, True)


def test_a_wrong_address_of_an_agent_is_told_without_its_secret(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTTOP_URL", "https://topsecret")
    status, told = mistaken(monkeypatch, capsys, "inbox")
    assert (status, "topsecret" in told) == (2, False)
