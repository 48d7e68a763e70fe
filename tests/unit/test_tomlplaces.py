from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.tomlplaces import Place, line_of, places

EVERYTHING = '''\
# a comment with [brackets] = "and" quotes
top = 1
dotted.inner."quo.ted" = true   # [not.a.table]

[table]
text = "with ] and } and # and \\" inside"
literal = 'C:\\'
long = """
[not.a.table]
x = 1 ""\\""" """
after = 2
lit = \'\'\'
[neither]\'\'\'\'
list = [
  1,   # one ]
  [2, "three]"],
  { a = 4, b.c = [5] },
]
inline = { x = 1, "y z" = { deep = "}" } }
when = 1979-05-27 07:32:00

[[many]]
n = 1
[many.sub]
v = 1
[[many.deep]]
w = 1
[[many]]
n = 2
[[many.deep]]
w = 2
[[many.deep]]
w = 3

[ "odd key" . b ]
'k' = 0
'''


def flat(value: Any, place: Place = ()) -> set[Place]:
    found = {place} if place else set()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found |= flat(item, (*place, key))
    return found


@pytest.mark.parametrize("text", [EVERYTHING, EVERYTHING.replace("\n", "\r\n"), "", "# only a comment"])
def test_exactly_the_places_that_tomllib_finds_are_found(text: str) -> None:
    assert set(places(text)) == flat(tomllib.loads(text))


@pytest.mark.parametrize(
    ("place", "marker"),
    [
        (("top",), "top = 1"),
        (("dotted", "inner", "quo.ted"), "dotted."),
        (("table",), "[table]"),
        (("table", "after"), "after = 2"),
        (("table", "list", 1, 1), '[2, "three]"]'),
        (("table", "list", 2, "b", "c", 0), "{ a = 4"),
        (("table", "inline", "y z", "deep"), "inline ="),
        (("table", "when"), "when ="),
        (("many", 1, "n"), "n = 2"),
        (("many", 0, "sub", "v"), "v = 1"),
        (("many", 1, "deep", 1, "w"), "w = 3"),
        (("odd key", "b", "k"), "'k' = 0"),
    ],
)
def test_each_place_has_the_line_it_is_written_on(place: Place, marker: str) -> None:
    lines = EVERYTHING.split("\n")
    assert marker in lines[places(EVERYTHING)[place] - 1]


def test_parts_that_do_not_stand_in_the_file_are_passed_over() -> None:
    found = places("[a]\n\nb = { c = 1 }\n")
    assert line_of(found, ("a", "some-branch", "b", "missing")) == 3
    assert line_of(found, ("a", "missing")) == 1
    assert line_of(found, ("missing",)) is None


KEYS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), max_size=5)
SCALARS = st.booleans() | st.integers(-9, 9) | st.text(st.sampled_from("ab]}#\"'\\=,[{\n \t"), max_size=9)
INLINE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
TABLES = st.dictionaries(KEYS, INLINE, max_size=3)


def quoted(text: str) -> str:
    body = "".join(f"\\u{ord(char):04x}" if char in '"\\\n\t' else char for char in text)
    return f'"{body}"'


def written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        if "'" not in value and "\n" not in value:
            return f"'{value}'"
        return quoted(value)
    if isinstance(value, list):
        return "[\n" + "".join(f" {written(item)}, # ]\n" for item in value) + "]"
    return "{" + ", ".join(f"{quoted(key)} = {written(item)}" for key, item in value.items()) + "}"


@given(TABLES, st.dictionaries(KEYS, TABLES | st.lists(TABLES, min_size=1, max_size=3), max_size=3))
def test_whatever_is_written_is_found_where_tomllib_finds_it(
    top: dict[str, Any], tables: dict[str, dict[str, Any] | list[dict[str, Any]]]
) -> None:
    lines = [f"{quoted(key)} = {written(value)}" for key, value in top.items() if key not in tables]
    for name, table in tables.items():
        header = "[[{}]]" if isinstance(table, list) else "[{}]"
        for part in table if isinstance(table, list) else [table]:
            lines.append(header.format(quoted(name)))
            lines += [f"{quoted(key)} = {written(value)}  # end" for key, value in part.items()]
    text = "\n".join(lines)
    assert set(places(text)) == flat(tomllib.loads(text))
