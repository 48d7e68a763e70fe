"""Writing TOML: what ``tomllib`` reads back as the same data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_WIDTH = 100


def dumps(data: Mapping[str, Any]) -> str:
    """A document of tables, arrays, strings, numbers and booleans.

    Raises:
        TypeError: There is something else in it.
    """
    lines: list[str] = []
    _table(data, (), lines)
    return "\n".join(lines).strip("\n") + "\n"


def _table(table: Mapping[str, Any], at: tuple[str, ...], lines: list[str]) -> None:
    below = {key: value for key, value in table.items() if isinstance(value, Mapping) or _tables(value)}
    lines += [f"{_key(key)} = {_value(value)}" for key, value in table.items() if key not in below]
    for key, value in below.items():
        name = ".".join(map(_key, (*at, key)))
        for one in value if _tables(value) else [value]:
            lines += ["", f"[[{name}]]" if _tables(value) else f"[{name}]"]
            _table(one, (*at, key), lines)


def _tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _key(key: str) -> str:
    return key if _PLAIN.fullmatch(key) else _string(key)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _long(value) if "\n" in value else _string(value)
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_inline(one)}" for key, one in value.items()) + " }"
    if isinstance(value, Sequence):
        return _array([_inline(one) for one in value])
    raise TypeError(f"TOML has no {type(value).__name__}")


def _inline(value: Any) -> str:
    return _string(value) if isinstance(value, str) else _value(value)


def _array(parts: list[str]) -> str:
    line = "[" + ", ".join(parts) + "]"
    return line if len(line) <= _WIDTH else "[\n" + "".join(f"  {part},\n" for part in parts) + "]"


def _string(text: str) -> str:
    # JSON's escapes are TOML's, but for what JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _long(text: str) -> str:
    """Over several lines, as a person would write it."""
    escaped = "\n".join(_string(line)[1:-1].replace('\\"', '"') for line in text.split("\n"))
    if '"""' in escaped or escaped.endswith('"'):
        return _string(text)
    return f'"""\n{escaped}"""'
