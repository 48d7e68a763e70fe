"""Reading a TOML file a person wrote, with errors that name file, line and field."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from .errors import ConfigError
from .tomlplaces import Place, line_of, places

Location = Sequence[str | int]
M = TypeVar("M", bound=BaseModel)

#: More than any fleet a person writes; bounds what a wrong path can make us read.
MAX_BYTES = 16 << 20

_AT = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


class TomlFile:
    """A parsed file: its ``data``, and the way to complain about a place in it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._text = text
        try:
            self.data: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise _syntax_error(path, text, str(error)) from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and parse ``path``.

        Raises:
            FileNotFoundError: It does not exist; the caller knows whether that is an error.
            ConfigError: It cannot be read, is not UTF-8, or is not TOML.
        """
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ConfigError(f"cannot read {path}", error.strerror or str(error)) from error
        if len(raw) > MAX_BYTES:
            raise ConfigError(f"cannot read {path}", f"It is larger than {MAX_BYTES >> 20} MiB")
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise ConfigError(f"{path} line {line}: this is not UTF-8 text") from error
        return cls(path, text)

    @cached_property
    def _places(self) -> dict[Place, int]:
        return places(self._text)

    def has(self, location: Location) -> bool:
        """Whether exactly this place stands in the file."""
        return tuple(location) in self._places

    def wrong(self, location: Location, message: str, *, hint: str = "") -> ConfigError:
        """The error for one place: ``FILE line N: FIELD: MESSAGE``."""
        return ConfigError(self._sentence(location, message), hint=hint)

    def _sentence(self, location: Location, message: str) -> str:
        line = line_of(self._places, location)
        where = f"{self.path} line {line}" if line else str(self.path)
        return f"{where}: {field(location)}: {message}" if location else f"{where}: {message}"

    def validate(self, model: type[M], data: Any, at: Location = (), fallback: Location | None = None) -> M:
        """Make a ``model`` of ``data``, which stands at ``at``; or partly, as defaults, at ``fallback``.

        Raises:
            ConfigError: The first thing that is wrong; the others are in ``why``.
        """
        try:
            return model.model_validate(data)
        except ValidationError as error:
            found = []
            for item in error.errors(include_url=False):
                location = [*at, *item["loc"]]
                inherited = [*(fallback or ()), *item["loc"]]
                if fallback is not None and not self.has(location) and self.has(inherited):
                    location = inherited
                found.append(self._sentence(location, _message(model, item)))
            why = f"also: {'; '.join(found[1:4])}" if len(found) > 1 else ""
            raise ConfigError(found[0], why) from error

    def refuse_unknown(self, table: Iterable[str], known: Iterable[str], at: Location = ()) -> None:
        """Raise for the first key of ``table`` that is not ``known``, with the one that was meant."""
        names = list(known)
        for key in table:
            if key not in names:
                raise self.wrong([*at, key], _unknown(key, names))


def merged_over(base: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """``table`` over ``base``; tables in both are merged key by key."""
    merged = dict(base)
    for key, value in table.items():
        old = merged.get(key)
        merged[key] = merged_over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def field(location: Location) -> str:
    """A place as it would be written in TOML: dotted, odd keys quoted, elements in brackets."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            quoted = part if _PLAIN.fullmatch(part) else _quoted(part)
            text += f".{quoted}" if text else quoted
    return text


def _quoted(key: str) -> str:
    shown = key if len(key) <= 80 else key[:79] + "…"
    return '"' + shown.encode("unicode_escape").decode() + '"' if not shown.isprintable() else f'"{shown}"'


def _syntax_error(path: Path, text: str, message: str) -> ConfigError:
    match = _AT.search(message)
    if match is None:
        return ConfigError(f"{path}: {message}")
    line = int(match[1]) if match[1] else text.rstrip("\n").count("\n") + 1
    return ConfigError(f"{path} line {line}: {message[: match.start()]}")


def _unknown(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, 1)
    if close:
        return f"there is no such key; did you mean {close[0]}?"
    return f"there is no such key; known are {', '.join(known)}"


def _message(model: type[BaseModel], item: Any) -> str:
    """What pydantic found, in words for somebody who does not know pydantic."""
    if item["type"] == "extra_forbidden":
        *parents, key = item["loc"]
        known = fields_at(model, parents)
        return _unknown(str(key), known) if known else "there is no such key"
    if item["type"] == "missing":
        return "this is required"
    return str(item["msg"]).removeprefix("Value error, ")


def fields_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The fields of the model that stands at ``location`` below ``model``; empty if none does."""
    kind: Any = model
    for part in location:
        kind = _below(kind, part)
    found = _model_in(kind)
    return list(found.model_fields) if found else []


def _below(kind: Any, part: str | int) -> Any:
    model = _model_in(kind)
    if model is not None:
        info = model.model_fields.get(str(part))
        return info.annotation if info else None
    if get_origin(kind) in (dict, list, tuple):
        return get_args(kind)[-1]
    for option in get_args(kind):
        inner = _below(option, part)
        if inner is not None:
            return inner
    return None


def _model_in(kind: Any) -> type[BaseModel] | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    if get_origin(kind) in (dict, list, tuple):
        return None
    return next((found for option in get_args(kind) if (found := _model_in(option))), None)
