"""What is declared is what is there, and what is there is in the wheel."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

import agenttop.core

ROOT = Path(__file__).parents[2]
TOP = ("core", "backends", "tui", "themes")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def folders() -> set[str]:
    """Every folder with Python modules, as a package name."""
    return {
        ".".join(("agenttop", *path.parent.relative_to(ROOT).parts))
        for top in TOP
        for path in (ROOT / top).rglob("*.py")
        if "__pycache__" not in path.parts
    }


def data_files() -> set[str]:
    """Every file in a package that is not Python."""
    return {
        str(path.relative_to(ROOT))
        for top in TOP
        for path in (ROOT / top).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    }


def test_the_declared_packages_are_the_folders_on_disk(project: dict[str, Any]) -> None:
    assert set(project["tool"]["setuptools"]["packages"]) == folders()


def test_every_package_has_an_init() -> None:
    assert [
        name for name in folders() if not (ROOT.joinpath(*name.split(".")[1:]) / "__init__.py").is_file()
    ] == []


def test_every_data_file_is_declared(project: dict[str, Any]) -> None:
    declared = project["tool"]["setuptools"]["package-data"]
    undeclared = set(data_files())
    for package, patterns in declared.items():
        folder = "/".join(package.split(".")[1:])
        undeclared -= {f for f in undeclared for pattern in patterns if fnmatch(f, f"{folder}/{pattern}")}
    assert undeclared == set()


def test_the_versions_agree(project: dict[str, Any]) -> None:
    assert project["project"]["version"] == agenttop.core.__version__


def test_entry_points_name_what_exists(project: dict[str, Any]) -> None:
    points = {**project["project"]["scripts"], **project["project"]["entry-points"]["agenttop.backends"]}
    for target in points.values():
        module, _, name = target.partition(":")
        path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
        assert re.search(rf"^(?:class|def) {name}\b", path.read_text(), re.M), target


def setuptools_version() -> int:
    """The major version that is installed here; 0 for none."""
    try:
        return int(importlib.metadata.version("setuptools").split(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return 0


def test_the_wheel_has_every_module_and_data_file(tmp_path: Path) -> None:
    """Built from a copy, so that nothing is left here; offline where setuptools is new enough."""
    source = tmp_path / "source"
    source.mkdir()
    tracked = [ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE") if (ROOT / name).exists()]
    for path in tracked:
        shutil.copy(path, source)
    for top in TOP:
        shutil.copytree(ROOT / top, source / top, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path), str(source)]
    if setuptools_version() >= 77:
        command.append("--no-build-isolation")
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("agenttop-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"agenttop/{path.relative_to(ROOT)}" for top in TOP for path in (ROOT / top).rglob("*.py")}
    expected |= {f"agenttop/{name}" for name in data_files()}
    assert expected - names == set()
