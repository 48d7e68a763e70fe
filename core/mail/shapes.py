"""``[bus.schemas]``: JSON Schemas of message types, from the configuration or from files beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..bus.schemas import BadSchema, Schemas

if TYPE_CHECKING:
    from ..config import Config

_LARGEST = 1 << 20


def register(config: Config, schemas: Schemas) -> None:
    """Have the bus hold payloads against what is configured.

    Raises:
        ConfigError: A file cannot be read, or what is given is no JSON Schema.
    """
    for type_, table in config.bus.schemas.items():
        try:
            schemas.register_json(type_, _read(table))
        except (OSError, ValueError, BadSchema) as error:
            said = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            raise config.wrong("bus", "schemas", type_, message=said) from error


def _read(table: dict[str, Any]) -> Any:
    path = table.get("file")
    if not isinstance(path, str):
        return table
    if more := [key for key in table if key != "file"]:
        raise ValueError(f"a schema lies in its file, or here: {', '.join(more)} is beside file")
    with open(path, "rb") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"{path} is larger than {_LARGEST >> 20} MiB")
    try:
        return json.loads(data)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
