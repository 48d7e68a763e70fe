"""``agenttop templates``, and what ``run`` and ``doctor`` say of templates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agenttop.core.paths import Paths

COMMAND = [sys.executable, "-P", "-m", "agenttop.tui.main"]


@pytest.fixture
def claude(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name that says its arguments, first on the PATH; its kernel is ended afterwards."""
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "9.9 (fake)" || echo "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return program


@pytest.fixture(autouse=True)
def stopped(home: Path) -> object:
    yield
    run("kernel", "stop", "--agents", "--yes")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=90)


def declare(name: str, text: str) -> Path:
    folder = Paths.from_environ().templates
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.toml"
    file.write_text(text)
    return file


def test_they_are_listed_with_where_they_come_from_and_what_they_lack(claude: Path) -> None:
    declare("mine", 'extends = "claude"\n')
    bad = declare("bad", "titel = 1\n")
    found = {info["name"]: info for info in json.loads(run("templates", "--json").stdout)}
    assert (found["claude"]["origin"], found["claude"]["found"]) == ("built-in", str(claude))
    assert (found["mine"]["origin"], found["mine"]["ready"]) == ("yours", True)
    assert (found["bad"]["ready"], str(bad) in found["bad"]["hint"]) == (False, True)
    lines = {line.split()[0]: line for line in run("templates").stdout.splitlines()}
    assert lines["NAME"].split() == ["NAME", "TITLE", "FROM", "BACKENDS", "READY"]
    assert lines["claude"].endswith("yes")
    assert "did you mean title?" in lines["bad"]


def test_one_is_shown_as_a_file_that_could_be_ones_own(claude: Path) -> None:
    file = declare("mine", 'extends = "claude"\nmodel = "haiku"\n')
    shown = run("templates", "show", "mine")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"# mine, yours: {file}\n")
    assert tomllib.loads(shown.stdout)["model"] == "haiku"
    assert "extends" not in tomllib.loads(shown.stdout)


def test_one_there_is_not_and_one_that_is_wrong_are_errors(claude: Path) -> None:
    bad = declare("bad", "titel = 1\n")
    unknown, wrong = run("templates", "show", "cluade"), run("templates", "show", "bad")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "Did you mean claude?" in unknown.stderr
    assert wrong.returncode != 0
    assert f"{bad} line 1: titel" in wrong.stderr


def test_a_headless_agent_that_asks_nobody_is_announced_and_one_that_was_told_so_is_not(claude: Path) -> None:
    silent = run("run", "--template", "claude", "-p", "x", "--wait", "--name", "one")
    assert silent.returncode == 0, silent.stderr
    assert silent.stderr == "agenttop: one uses its tools without asking; --permissions ask allows it less\n"
    assert "--dangerously-skip-permissions" in run("logs", "one").stdout
    asked = run("run", "--template", "claude", "-p", "x", "--wait", "--name", "two", "--permissions", "ask")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert "--dangerously-skip-permissions" not in run("logs", "two").stdout
    told = run("run", "--template", "claude", "-p", "x", "--wait", "--name", "three", "--permissions", "auto")
    assert (told.returncode, told.stderr) == (0, "")
    agents = {agent["name"]: agent for agent in json.loads(run("ps", "--all", "--json").stdout)}
    assert [agents[name]["permissions"] for name in ("one", "two", "three")] == ["auto", "ask", "auto"]


def test_doctor_says_what_each_program_says_of_itself(claude: Path) -> None:
    found = {line["name"]: line for line in json.loads(run("doctor", "--json").stdout)}
    assert found["claude"]["found"].startswith(f"9.9 (fake) at {claude}")
    assert "getting-started" in found["goose"]["hint"]
