"""The agent of the README, run as it stands there."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agenttop.core.paths import Paths
from agenttop.core.uds import answers

from .test_cli import Shell
from .test_cli_mail import until

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.fixture
def sh(home: Path, tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    if answers(Paths.from_environ().socket):
        shell("kill", "--all", "--yes")
        assert shell("kernel", "stop").returncode == 0


def example() -> str:
    (found,) = re.findall(
        r"^```python\n(from agenttop.core.client .*?)^```", README, re.DOTALL | re.MULTILINE
    )
    return str(found)


def test_the_example_is_at_most_40_lines() -> None:
    assert len(example().splitlines()) <= 40


def test_the_example_keeps_what_it_is_told_and_answers_from_it(sh: Shell, tmp_path: Path) -> None:
    program = tmp_path / "librarian.py"
    program.write_text(example())
    sh.ok("run", "--name", "librarian", "--", sys.executable, str(program))
    until(lambda: json.loads(sh.ok("topic", "ls", "--json")), "its subscription")
    sh.ok("publish", "notes/store", "we chose sqlite: one file, no server")
    found = json.loads(sh.ok("ask", "librarian", "sqlite", "--json"))
    assert (found["sender_name"], found["from_person"]) == ("librarian", False)
    assert [note["text"] for note in found["payload"]] == ["we chose sqlite: one file, no server"]
    assert sh.ok("mem", "blocks", "shelf", "--agent", "librarian") == "1 notes, the last from @root\n"
    sh.ok("send", "librarian", "that is all", "--type", "stop")
    assert sh.ok("wait", "librarian", "--timeout", "60") == "0\n"
