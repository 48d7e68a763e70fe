"""``[budgets.NAME]`` tables of ``config.toml`` and of fleet files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..tomlfile import Location, TomlFile
from .budget import Budget
from .short import parse_short

_FIELDS = [*(name for name in Budget.model_fields if name != "name"), "limit"]


def read(file: TomlFile, tables: Any, at: Location, missing: Mapping[str, Any]) -> list[Budget]:
    """The budgets of a file. ``daily = "$5/day"`` and ``limit = "$5/day"`` in a table are the short form.

    Args:
        at: Where the tables stand.
        missing: Fields that a table has which names no ``scope``.

    Raises:
        ConfigError: Naming file, line and field.
    """
    if not isinstance(tables, dict):
        raise file.wrong(at, "this is a table")
    return [_budget(file, name, table, [*at, name], missing) for name, table in tables.items()]


def _budget(file: TomlFile, name: str, value: Any, at: Location, missing: Mapping[str, Any]) -> Budget:
    if isinstance(value, str):
        value = {"limit": value}
    if not isinstance(value, dict):
        raise file.wrong(at, 'this is a table, or text such as "$5/day"')
    file.refuse_unknown(value, _FIELDS, at)
    table = dict(value)
    if (limit := table.pop("limit", None)) is not None:
        table = {**_short(file, limit, at), **table}
    if "scope" not in table:
        table = {**missing, **table}
    return file.validate(Budget, {**table, "name": name}, at)


def _short(file: TomlFile, limit: Any, at: Location) -> dict[str, Any]:
    place = [*at, "limit"]
    try:
        fields = parse_short(limit)
    except ValueError as error:
        raise file.wrong(place, str(error)) from error
    if not isinstance(fields, dict):
        raise file.wrong(place, 'this is text such as "$5/day"')
    return fields
