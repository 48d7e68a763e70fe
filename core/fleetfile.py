"""Fleet files: ``agenttop up -f fleet.toml``.

``[agents.NAME]`` declares one agent each, or with ``count = 3`` three of them, ``NAME-1`` to
``NAME-3`` (a ``branch`` gets the number, too); ``[defaults]`` is a partial spec for all. A relative
``cwd`` and relative mount sources count from the file's folder, which is also where agents run that name
none. ``[budgets.NAME]`` limits what its agents use.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .agents.spec import AgentSpec
from .budget.budget import Budget
from .budget.cover import FLEET_LABEL, fleet_label
from .budget.tables import read as read_budgets
from .errors import ConfigError
from .tomlfile import Location, TomlFile, merged_over

#: Agents one ``count`` may make.
MAX_COUNT = 10_000

_TABLES = ("defaults", "agents", "budgets")
_FIELDS = [name for name in AgentSpec.model_fields if name != "name"]


class FleetFile(NamedTuple):
    """A fleet as declared. ``path`` is absolute; it names the fleet. Parents come before children.

    A budget that names no ``scope`` covers the agents of this file; ``scope = "agent"`` names one of them.
    """

    path: Path
    specs: list[AgentSpec]
    budgets: list[Budget]


def load(path: Path) -> FleetFile:
    """Read a fleet file.

    Raises:
        ConfigError: Naming file, line and field.
    """
    try:
        file = TomlFile.read(path)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no fleet file {path}", hint="Name it with -f") from error
    file.refuse_unknown(file.data, _TABLES)
    tables = _table(file, file.data.get("agents", {}), ["agents"])
    if not tables:
        raise ConfigError(f"{path} declares no agents", hint="Add a table such as [agents.api]")
    defaults = _table(file, file.data.get("defaults", {}), ["defaults"])
    file.refuse_unknown(defaults, _FIELDS, ["defaults"])
    defaults = _normal(file, defaults, ["defaults"], path.absolute().parent)
    by_key = {key: _agents(file, key, table, defaults) for key, table in tables.items()}
    budgets = _budgets(file, path.absolute(), by_key)
    return FleetFile(path.absolute(), _in_order(file, by_key), budgets)


def _budgets(file: TomlFile, path: Path, by_key: Mapping[str, list[AgentSpec]]) -> list[Budget]:
    ours = {"scope": "label", "target": f"{FLEET_LABEL}={fleet_label(str(path))}"}
    budgets = read_budgets(file, file.data.get("budgets", {}), ["budgets"], ours)
    names = {spec.name for specs in by_key.values() for spec in specs}
    for budget in budgets:
        if budget.scope == "agent" and budget.target not in names:
            raise file.wrong(
                ["budgets", budget.name, "target"], f"{budget.target!r}: there is no such agent in this file"
            )
        if budget.scope == "fleet":
            raise file.wrong(
                ["budgets", budget.name, "scope"],
                "a fleet file's budgets cover agents of its own",
                hint="Leave scope out for all agents of this file, or put the budget into config.toml",
            )
    return budgets


def _table(file: TomlFile, value: Any, at: Location) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise file.wrong(at, "this is a table")
    return value


def _agents(file: TomlFile, key: str, value: Any, defaults: Mapping[str, Any]) -> list[AgentSpec]:
    """The one or more agents that ``[agents.KEY]`` declares."""
    at = ["agents", key]
    table = dict(_table(file, value, at))
    file.refuse_unknown(table, [*_FIELDS, "count"], at)
    count = table.pop("count", None)
    if count is not None and (type(count) is not int or not 1 <= count <= MAX_COUNT):
        raise file.wrong([*at, "count"], f"a count is a number from 1 to {MAX_COUNT}")
    folder = file.path.absolute().parent
    merged = merged_over(defaults, _normal(file, table, at, folder))
    if merged.get("backend", "subprocess") != "docker":
        merged["cwd"] = _under(folder, merged.get("cwd", "."))
    names = [key] if count is None else [f"{key}-{number}" for number in range(1, count + 1)]
    first = file.validate(AgentSpec, {**merged, "name": names[0]}, at, ["defaults"])
    if count is not None:
        # The longest name decides whether all fit.
        file.validate(AgentSpec, {**merged, "name": names[-1]}, at, ["defaults"])
    return [_numbered(first, name, count is not None) for name in names]


def _numbered(spec: AgentSpec, name: str, several: bool) -> AgentSpec:
    """One of the agents of a table; a branch that several would have gets their numbers."""
    if not several or spec.branch is None:
        return spec.model_copy(update={"name": name})
    number = name.rpartition("-")[2]
    return spec.model_copy(update={"name": name, "branch": f"{spec.branch}-{number}"})


def _normal(file: TomlFile, table: Mapping[str, Any], at: Location, folder: Path) -> dict[str, Any]:
    """The table with its shorthands written out, as ``AgentSpec`` has it."""
    spec = dict(table)
    if isinstance(spec.get("command"), str):
        try:
            spec["command"] = shlex.split(spec["command"])
        except ValueError as error:
            raise file.wrong([*at, "command"], f"{error} in a shell-like command") from error
    if isinstance(spec.get("restart"), str):
        spec["restart"] = {"policy": spec["restart"]}
    if isinstance(spec.get("mounts"), list):
        spec["mounts"] = [_mount(mount, folder) for mount in spec["mounts"]]
    return spec


def _mount(mount: Any, folder: Path) -> Any:
    if isinstance(mount, dict) and isinstance(mount.get("source"), str):
        return {**mount, "source": _under(folder, mount["source"])}
    return mount


def _under(folder: Path, path: Any) -> Any:
    """``path`` seen from ``folder``, ``~`` expanded; what is no text is left for the spec to refuse."""
    if not isinstance(path, str):
        return path
    try:
        return str((folder / Path(path).expanduser()).resolve())
    except RuntimeError:  # ~nobody-of-this-name
        return str(folder / path)


def _in_order(file: TomlFile, by_key: Mapping[str, list[AgentSpec]]) -> list[AgentSpec]:
    """All agents, parents before children, else as they stand in the file."""
    owners: dict[str, str] = {}
    for key, specs in by_key.items():
        for spec in specs:
            if spec.name in owners:
                other = owners[spec.name]
                raise file.wrong(["agents", key], f"the name {spec.name} is also made by agents.{other}")
            owners[spec.name] = key
    ordered: list[AgentSpec] = []
    done: set[str] = set()
    for key in by_key:
        for link in _ancestry(file, by_key, owners, key, done):
            ordered += by_key[link]
            done.add(link)
    return ordered


def _ancestry(
    file: TomlFile, by_key: Mapping[str, list[AgentSpec]], owners: Mapping[str, str], key: str, done: set[str]
) -> list[str]:
    """``key`` and those above it that are not ``done``, the topmost first."""
    line: list[str] = []
    while key not in done:
        if key in line:
            circle = " → ".join([*line[line.index(key) :], key])
            raise file.wrong(["agents", key, "parent"], f"parents go round in a circle: {circle}")
        line.append(key)
        parent = by_key[key][0].parent
        if parent is None:
            break
        if parent not in owners:
            what = (
                f"it is one of {len(by_key[parent])} agents" if parent in by_key else "there is no such agent"
            )
            raise file.wrong(["agents", key, "parent"], f"{parent!r}: {what} in this file")
        key = owners[parent]
    return line[::-1]
