"""Sums of several hosts under equal keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

_MOMENTS = ("day", "week", "month")

R = TypeVar("R", bound="BaseModel")


def together(rows: Iterable[R]) -> list[R]:
    """Rows with equal ``keys`` as one, in the order of their first; the rows have ``keys`` and sums only.

    Truths (``exact``) hold where they hold for all; what is not known (``None``) adds nothing.
    """
    found: dict[tuple[str, ...], R] = {}
    for row in rows:
        key = tuple(getattr(row, "keys"))  # noqa: B009 - both kinds of rows have it
        found[key] = _added(found[key], row) if key in found else row
    return list(found.values())


def costly_first(rows: Iterable[R], by: Sequence[str]) -> list[R]:
    """Sums over transcripts as one kernel orders them: by time, and of equal times what cost most first."""
    times = [place for place, key in enumerate(by) if key in _MOMENTS]

    def order(row: Any) -> tuple[Any, ...]:
        tokens = row.input + row.cache_read + row.cache_write + row.output
        return [row.keys[place] for place in times], -(row.cost_usd or 0.0), -tokens, row.keys

    return sorted(rows, key=order)


def _added(one: R, other: R) -> R:
    fields: dict[str, Any] = {}
    for name in type(one).model_fields:
        if name != "keys":
            fields[name] = _sum(getattr(one, name), getattr(other, name))
    return one.model_copy(update=fields)


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, bool):
        return one and other
    if one is None or other is None:
        return other if one is None else one
    return one + other
