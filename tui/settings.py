"""What a person chose for the screen, kept in ``screen.toml``."""

from __future__ import annotations

import os
import tomllib
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from agenttop.core.errors import AgentTopError, ConfigError


@dataclass(frozen=True, slots=True)
class Settings:
    """The choices F2 setup offers; each has the default of a first start."""

    theme: str = ""
    """Empty: what suits the terminal."""
    columns: tuple[str, ...] = ()
    """Column ids in order; none: what fits the width."""
    sort: str = "cost"
    largest: bool = True
    tree: bool = True
    window: str = "today"
    inspector: bool = True
    events: bool = True
    split: bool = True
    show_ended: bool = True
    ascii: bool = False
    """Draw with ASCII even where the terminal claims Unicode."""
    mouse: bool = False
    """Capture the mouse; its own copy and paste then need Shift."""
    bell: bool = True
    """Ring the bell when an agent begins to wait for its person."""
    osc: bool = True
    """Then also send a notification through the terminal."""
    mark: bool = True
    """Mark the count of those who wait in the header."""
    refresh: float = 1.0
    """Seconds between two looks at ages and the clock."""
    history: tuple[str, ...] = ()
    """The commands used last, the newest first, each after its wall-clock second."""


def load(path: Path) -> Settings:
    """Read the file; one that is not there gives the defaults, unknown keys are left alone.

    Raises:
        ConfigError: It is not TOML, or a value has the wrong type.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read", str(error), "Delete it to start with the defaults"
        ) from error
    settings = Settings()
    for field in fields(Settings):
        if field.name in table:
            settings = replace(
                settings, **{field.name: _checked(path, field.name, table[field.name], settings)}
            )
    return settings


def _checked(path: Path, name: str, value: Any, defaults: Settings) -> Any:
    default = getattr(defaults, name)
    if isinstance(default, tuple):
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return tuple(value)
    elif type(value) is type(default):
        return value
    elif isinstance(default, float) and type(value) is int:
        return float(value)
    raise ConfigError(
        f"{path.name}: {name} is {value!r}",
        f"It is of another type than {default!r}",
        f"Mend or delete {path}",
    )


def save(path: Path, settings: Settings) -> None:
    """Write the file: whole or not at all.

    Raises:
        AgentTopError: The folder cannot be written.
    """
    import json  # TOML takes JSON's strings, lists and booleans as they are; not needed for the first frame

    lines = ["# Written by agenttop's setup (F2).", *(f"{name} = {json.dumps(value)}" for name, value in
                                                      asdict(settings).items())]  # fmt: skip
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(
            os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
        ) as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):  # it may never have been there
            fresh.unlink()
        raise AgentTopError(f"cannot write {path}", error.strerror or str(error)) from error
