"""A budget in one line, as specs and the command line have it: ``$5/day``."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, model_validator

Window = Literal["task", "hour", "day", "total"]
Action = Literal["ask", "deny", "freeze", "kill"]

Usd = Annotated[
    Decimal,
    Field(gt=0, le=1_000_000_000, decimal_places=6),
    PlainSerializer(float, return_type=float, when_used="json"),
]
"""US dollars to a millionth; a number, not text, where it travels as JSON."""


def _known_zone(zone: str) -> str:
    if zone:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(zone)
        except (OSError, ValueError, KeyError) as error:  # ZoneInfoNotFoundError is a KeyError
            raise ValueError(f"{zone!r} is not a time zone such as Europe/Berlin") from error
    return zone


Zone = Annotated[str, Field(max_length=64), AfterValidator(_known_zone)]
"""IANA name of a time zone; empty is the kernel's own."""

_SHORT = re.compile(
    r"(?P<dollar>\$)?\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmg])?\s*(?P<tokens>tok(?:ens)?)?"
    r"(?:\s*/\s*(?P<window>task|hour|day|total))?(?:\s+(?P<action>ask|deny|freeze|kill))?",
    re.IGNORECASE,
)
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


class ShortBudget(BaseModel):
    """A budget as a spec has it: whom it covers is clear from where it stands."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    usd: Usd | None = None
    tokens: Annotated[int, Field(gt=0, le=10**15)] | None = None
    window: Window = "total"
    rolling: bool = False
    zone: Zone = ""
    soft: Annotated[float, Field(gt=0, le=1)] = 0.8
    action: Action = "ask"

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.usd is None and self.tokens is None:
            raise ValueError("a budget limits usd, tokens or both")
        if self.rolling and self.window not in ("hour", "day"):
            raise ValueError("only windows of an hour or a day can be rolling")
        return self


def parse_short(value: object) -> object:
    """``"$5/day"``, ``"2M tokens/hour deny"`` → the fields of a budget; tables pass through.

    Raises:
        ValueError: It is text, but not such a text.
    """
    if not isinstance(value, str):
        return value
    match = _SHORT.fullmatch(value.strip())
    if match is None or bool(match["dollar"]) == bool(match["tokens"]):
        raise ValueError(f"{value!r} is not a budget such as '$5/day' or '2M tokens/hour deny'")
    try:
        amount = Decimal(match["number"]) * _UNITS[(match["unit"] or "").lower()]
    except InvalidOperation as error:
        raise ValueError(f"{value!r} is not a budget") from error
    fields: dict[str, object] = {"window": (match["window"] or "total").lower()}
    fields["action"] = (match["action"] or "ask").lower()
    fields["usd" if match["dollar"] else "tokens"] = amount if match["dollar"] else int(amount)
    return fields
