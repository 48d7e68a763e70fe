"""How ``agenttop usage`` understands days and shows sums."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from agenttop.core.errors import UsageError
from agenttop.tui.cli import usage
from agenttop.tui.cli.app import run

ROW = {
    "calls": 1234, "input": 672_272, "cache_read": 14_567_113, "cache_write": 1_600_910, "output": 532_992,
    "reasoning": 0, "cost_usd": 15.8106, "unpriced": 0,
}  # fmt: skip


def told(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"rows": [ROW | row for row in rows], "total": ROW | {"keys": []}, "files": 3, "problems": 0}


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-11-01", date(2026, 11, 1)),
        ("20261101", date(2026, 11, 1)),
        ("today", date(2026, 11, 21)),
        ("Yesterday", date(2026, 11, 20)),
        ("7d", date(2026, 11, 14)),
        ("0d", date(2026, 11, 21)),
    ],
)
def test_a_day_may_be_said_in_several_ways(text: str, day: date) -> None:
    assert usage._day(text, date(2026, 11, 21)) == day


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01", "01.11.2026", "-1d", "999999d", "99999d"])
def test_what_is_no_day_is_refused_with_advice(text: str) -> None:
    with pytest.raises(UsageError, match="2026-11-01"):
        usage._day(text, date(20, 11, 21))


def test_a_span_has_its_last_day_to_the_end_in_its_own_zone() -> None:
    # The day on which Berlin goes back to winter time has 25 hours.
    first = usage._moment("2026-10-25", "Europe/Berlin", 0)
    end = usage._moment("2026-10-25", "Europe/Berlin", 1)
    assert first is not None
    assert end is not None
    assert (first, end - first) == (1_792_879_200.0, 25 * 3600)
    assert usage._moment(None, None, 1) is None
    with pytest.raises(UsageError, match="Europe/Berlin"):
        usage._moment("today", "Nowhere/At_All", 0)


@pytest.mark.parametrize("text", ["", ",", "day,day", "hour", "day,week,month,project,model,agent"])
def test_keys_that_cannot_be_are_refused_with_those_that_can(text: str) -> None:
    with pytest.raises(UsageError, match="session"):
        usage._keys(text)


def test_keys_may_be_written_with_spaces_and_capitals() -> None:
    assert usage._keys("Day, agent") == ["day", "agent"]


def test_a_project_is_a_folder_or_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert usage._project("link/x") == [str(tmp_path / "link/x"), str(tmp_path / "real/x")]
    assert usage._project(".")[0] == str(tmp_path)
    assert usage._project("link") == ["link"]


def test_the_zone_is_that_of_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, meant in (("Asia/Tokyo", "Asia/Tokyo"), (":Asia/Tokyo", "Asia/Tokyo"), ("JST-9", None)):
        monkeypatch.setenv("TZ", said)
        assert usage.local_zone() == meant
    monkeypatch.setenv("TZ", ":/usr/share/zoneinfo/Asia/Tokyo")
    assert usage.local_zone() == "Asia/Tokyo"


def test_only_variables_that_name_places_are_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name in ("HOME", "CLAUDE_CONFIG_DIR", "XDG_DATA_HOME", "ANTHROPIC_API_KEY", "GH_TOKEN", "PATH"):
        monkeypatch.setenv(name, "x")
    assert [*usage._places()] == ["CLAUDE_CONFIG_DIR", "HOME", "XDG_DATA_HOME"]


def test_json_has_the_names_that_scripts_rely_on() -> None:
    said = usage.document(told({"keys": ["2026-11-21", "codex"]}), ["day", "agent"], "UTC")
    figures = ["calls", "input", "cache_read", "cache_write", "output", "reasoning", "cost_usd", "unpriced"]
    assert [*said] == ["by", "timezone", "rows", "total", "files", "problems"]
    assert [*said["rows"][0]] == ["day", "agent", *figures]
    assert [*said["total"]] == figures
    assert json.loads(json.dumps(said)) == said


def test_a_table_in_a_pipe_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    long = "/work/" + "deep/" * 30 + "project"
    rows = [{"keys": [long, "claude-opus-4-8"]}, {"keys": ["", ""], "cost_usd": None, "unpriced": 3}]
    usage.table(told(*rows), ["project", "model"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("PROJECT ")
    assert lines[0].endswith("  CALLS    IN  CACHE R  CACHE W   OUT      COST")
    assert lines[1].split() == [long, "opus-4.8", "1,234", "672k", "15M", "1.6M", "533k", "15.81"]
    assert lines[2].split()[:2] == ["-", "-"]
    assert lines[2].endswith("unpriced")
    assert lines[3].split() == ["total", "1,234", "672k", "15M", "1.6M", "533k", "15.81"]


@pytest.mark.parametrize("keys", [["day", "project"], ["project", "model"], ["day", "session", "agent"]])
def test_a_table_in_a_terminal_keeps_its_figures_at_80_columns(
    keys: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    values = {
        "day": "2026-11-21", "project": "/work/" + "deep/" * 30 + "project", "agent": "claude",
        "model": "some-vendor-model-with-a-long-name", "session": "0b1d5c9a-8fd0-4a52-9f57-b6a3f3a1c0de",
    }  # fmt: skip
    usage.table(told({"keys": [values[key] for key in keys], "unpriced": 2}), keys)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line.split()[-1] in ("COST", "15.81+", "15.81") for line in lines), lines
    if "project" in keys:
        assert "project " in lines[1], "the end of a path tells projects apart"


def test_what_a_transcript_says_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    usage.table(told({"keys": ["/w/\x1b[2Jevil\nline", "m\x9b31m"]}), ["project", "model"])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x9b" not in out
    assert len(out.splitlines()) == 3


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("text", ["9999-12-31", "0001-01-01"])
def test_a_day_beyond_all_calendars_is_refused_or_counted(text: str, zone: str | None) -> None:
    with contextlib.suppress(UsageError):
        assert isinstance(usage._moment(text, zone, 1), float)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--since", "2026-11-05", "--until", "2026-11-01"], "begins after its end"),
        (["--project", ""], "--project"),
        (["--agent", ""], "--agent"),
        (["--timezone", ""], "--timezone"),
    ],
)
def test_what_a_script_left_empty_or_turned_round_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run(["usage", *words])
