"""A transcript folder with everything that can be wrong in it: named, and the rest is counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agenttop.core.api import CheckInfo
from agenttop.core.errors import AgentTopError
from agenttop.core.observe.contract import Oddities
from agenttop.core.observe.index import lines
from agenttop.core.observe.index.keeper import NAMED, answer
from agenttop.core.observe.index.reporting import checks

from ..support.transcripts import START, Corpus

USER = 61_234


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that others may enter; pytest's own folders are closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="agenttop-transcripts-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    subprocess.run(["rm", "-rf", str(folder)], check=True)  # shutil's recursion ends before the deepest one


def question(home: Path, want: str = "checks") -> dict[str, Any]:
    return {
        "index": str(home / "index.db"),
        "roots": [
            ["claude", f"{home}/.claude/projects", "", "claude"],
            ["codex", f"{home}/.codex/sessions", "", "codex"],
        ],
        "processes": 1,
        "want": want,
        "wish": {"by": ["agent"]},
    }


def shown(told: dict[str, Any]) -> list[CheckInfo]:
    return checks(told["checks"], {"claude": "Claude Code", "codex": "Codex"}, {}, {})


def found(told: dict[str, Any], path: Path) -> str:
    (check,) = [check for check in shown(told) if check.name == str(path)]
    assert check.level == "warn"
    return check.found


@pytest.fixture
def folder(home: Path) -> Path:
    """One project with one good transcript, whose truth is the corpus' own."""
    made = Corpus(home, 1, body=40, tools=60)
    path = made.claude_session("p", 5, START, hard=False)
    home.joinpath("truth").write_text(json.dumps(made.total()))
    return path.parent


def sums(home: Path) -> list[int]:
    groups = answer(question(home, "sums"))["groups"]
    return [
        sum(group[place] for group in groups for place in places) for places in ((5,), (6,), (7, 8), (9,))
    ]


def truth(home: Path) -> list[int]:
    made: list[int] = json.loads((home / "truth").read_text())
    return made


def test_what_is_no_transcript_though_it_is_called_so_is_named(home: Path, folder: Path) -> None:
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "folder.jsonl").mkdir()
    (folder / "nowhere.jsonl").symlink_to(folder / "nothing")
    (folder / "itself.jsonl").symlink_to(folder / "itself.jsonl")
    (folder / "loop").symlink_to(folder.parent)
    (home / "elsewhere").mkdir()
    (folder / "aside").symlink_to(home / "elsewhere")
    told = answer(question(home))
    assert found(told, folder / "pipe.jsonl") == "Not a regular file"
    assert found(told, folder / "folder.jsonl") == "A folder with the name of a transcript"
    assert found(told, folder / "nowhere.jsonl").startswith("A link that leads nowhere")
    assert found(told, folder / "itself.jsonl").startswith("A link that leads nowhere")
    assert found(told, folder / "loop") == f"A link back to {folder.parent}, which would never end"
    assert found(told, folder / "aside") == f"A link to {home / 'elsewhere'}; links are not followed"
    assert (told["refresh"]["files"], told["problems"]) == (1, 6)
    assert sums(home) == truth(home)


def test_garbage_and_lines_that_are_too_long_are_counted_and_named(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST", 1 << 20)
    (folder / "garbage.jsonl").write_bytes(os.urandom(300_000) + b'\n{"input_tokens": [[[\n\xff\xfe\n\0\0\n')
    with (folder / "long.jsonl").open("wb") as file:
        file.truncate(40 << 20)  # one line of zeros
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"input_tokens"\n')
    with (folder / "endless.jsonl").open("wb") as file:
        file.truncate(20 << 20)
    told = answer(question(home))
    assert found(told, folder / "garbage.jsonl") == "1 line not understood"
    assert found(told, folder / "long.jsonl") == (
        "1 line not understood, 1 line passed over because of the length"
    )
    assert found(told, folder / "endless.jsonl") == "1 line passed over because of the length"
    assert sums(home) == truth(home)
    assert answer(question(home, "reading"))["refresh"]["read"] == 0, "and none of it is read again"


def test_a_line_too_long_that_grows_is_not_read_again_from_its_beginning(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST", 1 << 20)
    path = folder / "endless.jsonl"
    path.write_bytes(b"x" * (3 << 20))
    answer(question(home))
    good = next(folder.glob("*-*.jsonl")).read_bytes()
    with path.open("ab") as file:
        file.write(b"xxx\n" + good)
    done = answer(question(home, "reading"))["refresh"]
    assert (done["read"], done["new_bytes"]) == (1, 4 + len(good))
    assert sums(home) == truth(home)


@pytest.mark.root
def test_what_this_user_may_not_read_is_named(home: Path, folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    closed = folder.parent / "closed"
    for path in (closed, folder.parent / "listed"):
        path.mkdir()
        (path / "s.jsonl").write_text("{}\n")
    (folder / "secret.jsonl").write_text("{}\n")
    (folder / "secret.jsonl").chmod(0o600)
    closed.chmod(0o700)
    (folder.parent / "listed").chmod(0o744)  # its names may be read, and nothing else
    home.chmod(0o777)
    # What it needs is imported before it becomes somebody else: that may lie in root's home.
    script = (
        "import json, os, sys, agenttop.core.observe.index.keeper as keeper\n"
        "from agenttop.core.observe.index.formats import reader_class\n"
        "reader_class('claude'), reader_class('codex')\n"
        f"os.setgroups([]), os.setgid({USER}), os.setuid({USER})\n"
        "json.dump(keeper.answer(json.load(sys.stdin)), sys.stdout)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(question(home)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for path in (closed, folder / "secret.jsonl", folder.parent / "listed" / "s.jsonl"):
        assert found(told, path) == "Permission denied"
    assert sums(home) == truth(home)  # root again, to whom the file is readable and has no calls


def test_a_file_that_vanishes_while_it_is_read_is_no_problem(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agenttop.core.observe.index import scan

    passing = folder / "passing.jsonl"
    passing.write_text("{}\n")
    real = os.open

    def vanishing(path: Any, *arguments: Any, **named: Any) -> int:
        if path == str(passing):
            passing.unlink()
        return real(path, *arguments, **named)

    monkeypatch.setattr(scan.os, "open", vanishing)
    told = answer(question(home))
    monkeypatch.undo()
    assert not passing.exists()
    assert told["problems"] == 0
    assert told["refresh"]["errors"] == 0
    assert sums(home) == truth(home)


def test_what_cannot_be_read_for_a_while_keeps_what_was_found_before(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agenttop.core.observe.index import scan

    answer(question(home))
    (good,) = folder.glob("*.jsonl")
    with good.open("a") as file:
        file.write("{}\n")

    def refused(path: Any, *arguments: Any, **named: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(scan.os, "open", refused)
    assert found(answer(question(home)), good) == "Permission denied"
    asked = question(home, "sums")
    asked["wish"] = {"by": ["project", "session"]}
    kept = answer(asked)["groups"]
    monkeypatch.undo()
    assert {group[0][0] for group in kept} == {"/work/p"}
    assert sums(home) == truth(home)
    assert shown(answer(question(home)))[1].found.startswith("1 file,")


@pytest.mark.parametrize("page", [1, 2, 3, 4, 5])
def test_an_index_damaged_anywhere_is_made_anew(home: Path, folder: Path, page: int) -> None:
    assert sums(home) == truth(home)
    with (home / "index.db").open("r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xa5" * 4096)
    assert sums(home) == truth(home)
    assert sums(home) == truth(home)


def test_an_index_that_cannot_be_written_is_an_error_that_names_it(home: Path, folder: Path) -> None:
    (home / "index.db").mkdir()
    with pytest.raises(AgentTopError, match=r"index\.db cannot be used"):
        answer(question(home))


def test_very_many_odd_files_are_counted_and_some_named(home: Path, folder: Path) -> None:
    for number in range(NAMED + 7):
        (folder / f"bad{number}.jsonl").write_text('{"input_tokens"\n')
    lines_shown = shown(answer(question(home)))
    assert sum(check.name.endswith(".jsonl") for check in lines_shown) == NAMED
    assert [check.found for check in lines_shown if check.name == "more"] == ["7 files with such lines"]


def test_a_folder_nested_without_end_is_walked(home: Path, folder: Path) -> None:
    place = folder
    for _ in range(1200):  # deeper than Python's own recursion
        place = place / "d"
        place.mkdir()
    assert answer(question(home))["refresh"]["files"] == 1


def test_where_nothing_is_the_places_are_told(home: Path) -> None:
    said = shown(answer(question(home)))
    assert [(check.level, check.found) for check in said] == [
        ("ok", f"none in {home}/.claude/projects"),
        ("ok", f"none in {home}/.codex/sessions"),
    ]


def test_what_live_readers_and_failed_observers_say_is_there() -> None:
    oddities = Oddities(unreadable=2, problems={"/x": "Permission denied"})
    oddities.unknown.update({f"kind-{number}": 10 - number for number in range(10)})
    said = checks({}, {"claude": "Claude Code"}, {"cursor": "ImportError: no"}, {"claude": oddities})
    (unknown,) = [check for check in said if check.name == "unknown kinds of lines"]
    assert unknown.found.startswith("kind-0 (10×), kind-1 (9×)")
    assert unknown.found.endswith("2 more")
    assert [check.found for check in said if check.name == "running sessions"] == ["2 lines not understood"]
    assert [(check.found, check.level) for check in said if check.name == "/x"] == [
        ("Permission denied", "warn")
    ]
    assert said[-1].group == "cursor"
    assert {check.group for check in said} == {"Claude Code", "cursor"}


DEEP: Any = json.loads("[" * 400 + "]" * 400)


@pytest.mark.parametrize(
    "wrong", [5, ["x"], {"a": 1}, DEEP, "x" * 100_000, True], ids=lambda value: repr(value)[:9]
)
def test_facts_that_are_none_and_times_that_no_calendar_has_break_no_sum(
    home: Path, folder: Path, wrong: Any
) -> None:
    sessions = home / ".codex" / "sessions"
    sessions.mkdir(parents=True)
    about = {"id": wrong, "cwd": wrong, "git": {"branch": wrong}, "source": wrong, "parent_thread_id": wrong}
    usage = {"input_tokens": 0, "output_tokens": 0, "reasoning_output_tokens": 0}
    lines = [
        {"type": "session_meta", "timestamp": "2026-01-01T00:00:00Z", "payload": about},
        {
            "type": "turn_context",
            "timestamp": "2026-01-01T00:00:00Z",
            "payload": {"model": wrong, "cwd": wrong},
        },
    ]
    for number, time in enumerate(("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"), 1):
        total = usage | {"input_tokens": number}
        info = {"total_token_usage": total, "last_token_usage": usage | {"input_tokens": 1}}
        lines.append(
            {"type": "event_msg", "timestamp": time, "payload": {"type": "token_count", "info": info}}
        )
    name = "rollout-2026-01-01T00-00-00-0199a213-81c0-7800-8aa1-bbab2a035a53.jsonl"
    (sessions / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert shown(answer(question(home)))
    for zone in ("America/Los_Angeles", "Asia/Tokyo"):
        by = ["day", "week", "month", "project", "model", "session"]
        asked = question(home, "sums") | {"wish": {"by": by, "timezone": zone}}
        found = answer(asked)["groups"]
        assert sum(group[5] for group in found) == truth(home)[0] + 2
        assert all(isinstance(key, str) and len(key) <= 4096 for group in found for key in group[0])


def test_a_name_that_is_no_text_is_named_and_the_rest_is_counted(home: Path, folder: Path) -> None:
    good = next(folder.glob("*-*.jsonl")).read_bytes()
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.jsonl")).write_bytes(good)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xfe")).mkdir()
    told = answer(question(home))
    assert found(told, folder / "?.jsonl") == "Its name is no UTF-8"
    assert found(told, folder / "?") == "Its name is no UTF-8"
    assert json.dumps(told["checks"]).isascii()
    assert sums(home) == truth(home)
