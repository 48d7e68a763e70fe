"""The README says what is so: its commands, flags, keys, variables and pictures exist."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

from agenttop.core import config, fleetfile
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.paths import Paths
from agenttop.themes import NAMES
from agenttop.tui import keys
from agenttop.tui.cli.app import build

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
INSTALL = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/agenttop demo"
TEST = "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("command", [INSTALL, TEST])
def test_the_two_commands_stand_there_on_lines_of_their_own(command: str) -> None:
    assert command in README.splitlines()


def test_the_test_command_is_the_one_that_ci_runs() -> None:
    assert TEST in (ROOT / ".ci" / "run").read_text()


def mentions() -> Iterator[str]:
    """Everything in the README that is typed as an ``agenttop`` command."""
    code = [line for block in blocks("sh") + blocks("console") for line in block.splitlines()]
    code += re.findall(r"`([^`\n]+)`", README)
    for line in code:
        for match in re.finditer(
            r"(?:^|(?<=[$&.…] )|(?<=\.venv/bin/))agenttop((?: [^|&#;]*)?)$", line.split(" -- ")[0]
        ):
            yield match[1].strip()


def flags(command: Any) -> set[str]:
    return {name for param in command.params for name in param.opts} | {"-h", "--help"}


def test_every_command_and_flag_in_the_readme_exists() -> None:
    found = list(mentions())
    assert len(found) > 30
    for mention in found:
        command: Any = typer.main.get_command(build())
        words = iter(mention.split())
        for word in words:
            if re.fullmatch("-[a-z]{2,}", word):  # several letters with one dash
                assert {f"-{letter}" for letter in word[1:]} <= flags(command), mention
            elif word.startswith("-"):
                assert word.partition("=")[0] in flags(command), mention
                if word == "--host":
                    next(words)
            elif isinstance(command, TyperGroup) and word != "COMMAND":
                assert word in command.commands, mention
                command = command.commands[word]


def test_every_flag_of_the_prose_exists() -> None:
    """Flags that stand alone between backticks, such as ``--sandbox``."""
    root = typer.main.get_command(build())
    assert isinstance(root, TyperGroup)
    known = flags(root).union(*(flags(command) for command in root.commands.values()))
    alone = re.findall(r"`(--[a-z-]+)[^`]*`", README)
    assert alone
    assert set(alone) <= known


def test_the_keys_are_those_of_the_key_table() -> None:
    part = README.split("<!-- keys:")[1].split("<!-- end of keys -->")[0]
    rows = re.findall(r"^\| (`.*`) \| (.*) \|$", part, flags=re.MULTILINE)
    written = {(tuple(re.findall(r"`([^`]+)`", shown)), text) for shown, text in rows}
    there = [key for key in keys.TABLE if "later version" not in key.text]
    assert written == {(tuple(keys.shown(name) for name in key.keys), key.text) for key in there}
    assert len(rows) == len(there)


def test_every_picture_exists_and_the_readme_shows_one_of_each_pane() -> None:
    shown = re.findall(r'<img src="([^"]+)"', README)
    assert len(shown) == 5
    for name in shown:
        assert (ROOT / name).read_text().startswith("<svg")


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_configuration_shown_is_one(tmp_path: Path) -> None:
    shown = next(block for block in blocks("toml") if "[providers." in block)
    paths = Paths.from_environ({"AGENTTOP_HOME": str(tmp_path)})
    paths.config_file.write_text(shown)
    chosen = config.load(paths)
    assert chosen.providers["backup"].key_keyring == "agenttop-backup:me"
    assert [budget.name for budget in chosen.budgets.declared] == ["daily", "night"]
    keys.KeyTable(chosen.keys)
    assert chosen.screen.theme in NAMES


def test_the_fleet_file_shown_is_one(tmp_path: Path) -> None:
    shown = next(block for block in blocks("toml") if "[agents." in block)
    file = tmp_path / "fleet.toml"
    file.write_text(shown)
    specs = fleetfile.load(file).specs
    assert [spec.name for spec in specs] == ["clock", "worker-1", "worker-2"]
    assert all(isinstance(spec, AgentSpec) for spec in specs)


def test_every_dependency_has_its_reason_in_contributing() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    parts = (ROOT / "CONTRIBUTING.md").read_text().split("## Parts")[1]
    for dependency in declared:
        name = re.split(r"[<>=~!\[]", dependency)[0]
        assert re.search(rf"\b{re.escape(name)}\b", parts), name


def test_the_map_names_every_room_and_only_modules_that_are_there() -> None:
    drawn = (ROOT / "CONTRIBUTING.md").read_text().split("```")[1]
    rooms = {
        folder.relative_to(ROOT).as_posix()
        for package in ("core", "backends", "tui", "themes")
        for folder in [ROOT / package, *(ROOT / package).rglob("*")]
        if (folder / "__init__.py").exists()
    }
    last = {room.rpartition("/")[2] for room in rooms}
    named = set(re.findall(r"([a-z]+)/", drawn))
    assert last - named - {"provider"} == set()
    files = set(re.findall(r"\b([a-z_]+\.py)\b", drawn))
    assert {name for name in files if not any((ROOT / room / name).exists() for room in rooms)} == set()
