"""``agenttop usage`` and ``doctor --agents`` as a person and a script meet them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..support.transcripts import START, Corpus
from .test_cli import Shell, sh

__all__ = ["sh"]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """Transcripts in the home of whoever runs the commands."""
    for name in ("CODEX_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    made = Corpus(tmp_path, 1, body=40, tools=60)
    made.claude_session("shop", 10, START, hard=False)
    made.codex_session(5, START)
    return made


def test_usage_says_what_was_used(corpus: Corpus, sh: Shell) -> None:
    said = json.loads(sh.ok("usage", "--json", "--by", "agent"))
    told = {
        row["agent"]: [row[name] for name in ("input", "cache_read", "cache_write", "output")]
        for row in said["rows"]
    }
    assert told == {agent: corpus.total(agent) for agent in ("claude", "codex")}
    assert (said["timezone"], said["files"], said["problems"]) == ("UTC", 2, 0)
    assert said["total"]["calls"] == 15
    only = json.loads(sh.ok("usage", "--json", "--project", "shop"))
    assert [only["total"][name] for name in ("input", "output")] == corpus.total("claude")[::3]
    unknown = sh("usage", "--json", "--agent", "claud")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "Take aider, claude, codex" in unknown.stderr
    none = json.loads(sh.ok("usage", "--json", "--since", "2020-01-01", "--until", "2020-12-31"))
    assert (none["rows"], none["total"]["calls"]) == ([], 0)
    lines = sh.ok("usage").splitlines()
    assert [line.split()[0] for line in lines] == ["DAY", "2026-10-26", "total"]


def test_transcripts_that_the_caller_keeps_elsewhere_are_read(
    corpus: Corpus, sh: Shell, tmp_path: Path
) -> None:
    assert json.loads(sh.ok("usage", "--json"))["total"]["calls"] == 15
    other = Corpus(tmp_path / "other", 2, body=40, tools=60)
    other.claude_session("p", 7, START, hard=False)
    done = sh("usage", "--json", CLAUDE_CONFIG_DIR=str(tmp_path / "other" / ".claude"))
    assert json.loads(done.stdout)["total"]["calls"] == 22


def test_what_was_not_understood_is_said_and_named(corpus: Corpus, sh: Shell) -> None:
    bad = corpus.files[0].parent / "bad.jsonl"
    bad.write_text('{"input_tokens": \n')
    done = sh("usage")
    assert done.returncode == 0
    assert done.stderr == ("agenttop: 1 line or file was not understood: `agenttop doctor --agents`\n")
    said = sh.ok("doctor", "--agents")
    assert f"warning  {bad}: 1 line not understood" in said
    assert "Claude Code\n" in said
    checks = json.loads(sh.ok("doctor", "--agents", "--json"))
    assert {"group", "name", "level", "found", "hint"} <= set(checks[0])
    assert [check["name"] for check in checks if check["level"] == "warn"] == [str(bad)]


def test_what_cannot_be_is_refused(sh: Shell) -> None:
    assert "day, week, month" in sh.fails(2, "usage", "--by", "colour")
    assert "2026-11-01" in sh.fails(2, "usage", "--since", "soon")
    assert "Europe/Berlin" in sh.fails(2, "usage", "--timezone", "Nowhere")
