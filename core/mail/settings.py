"""``[bus]`` in ``config.toml``: limits of the bus, who may write to whom, and shapes of message types."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ..agents.spec import Bytes, Seconds
from ..bus.errors import BadMessage
from ..bus.message import Limits
from ..bus.topics import levels

_OWN = Limits()
_WHO = re.compile(r"\*|label:[^=\s]+=\S+|template:\S+|@?[A-Za-z0-9][A-Za-z0-9_.@-]*")


def _party(text: str) -> str:
    if text.startswith("topic:"):
        try:
            levels(text.removeprefix("topic:"), pattern=True)
        except BadMessage as error:
            raise ValueError(str(error)) from error
    elif _WHO.fullmatch(text) is None:
        raise ValueError(
            "this is *, an agent's name, label:KEY=VALUE, template:NAME, topic:PATTERN or @PERSON"
        )
    return text


def _sender(text: str) -> str:
    if text.startswith("topic:"):
        raise ValueError("a topic sends nothing")
    return text


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Party = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_party)]
Senders = Annotated[list[Annotated[Party, AfterValidator(_sender)]], BeforeValidator(_as_list)]
Receivers = Annotated[list[Party], BeforeValidator(_as_list)]
Types = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], BeforeValidator(_as_list)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RuleTable(_Table):
    """``[[bus.rules]]``: whether these may send these messages to those. The first rule that fits decides.

    A party is ``*``, an agent's name, ``label:KEY=VALUE``, ``template:NAME``, or ``@PERSON``; a receiver may
    be ``topic:PATTERN``, too. Where several are given, one of them must fit.
    """

    who: Senders = Field(default=["*"], min_length=1, max_length=100)
    to: Receivers = Field(default=["*"], min_length=1, max_length=100)
    type: Types = Field(default=["*"], min_length=1, max_length=100)
    """Message types; ``*`` is every type."""
    action: Literal["allow", "deny"]


class BusTable(_Table):
    """``[bus]``."""

    depth: Annotated[int, Field(ge=1, le=1_000_000)] = _OWN.depth
    """Unacknowledged messages a mailbox may have."""
    payload: Annotated[Bytes, Field(ge=64, le=64 << 20)] = _OWN.payload
    """The largest payload, in bytes."""
    rate: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = _OWN.rate
    """Messages a second that one sender may send on average."""
    burst: Annotated[int, Field(ge=1, le=10_000_000)] = _OWN.burst
    """And at once."""
    hops: Annotated[int, Field(ge=1, le=10_000)] = _OWN.hops
    """How many causes a message may have before it, one after the other."""
    visible: Annotated[Seconds, Field(gt=0, le=86_400)] = _OWN.visible_after
    """After so many seconds unacknowledged mail is handed out again."""
    attempts: Annotated[int, Field(ge=1, le=1_000)] = _OWN.attempts
    """How often a message is handed out before it is a dead letter."""
    deadlock: Literal["report", "break"] = "report"
    """What is done about agents that wait for each other in a ring: ``break`` ends the youngest request."""
    rules: list[RuleTable] = Field(default_factory=list, max_length=1_000)
    schemas: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")], dict[str, Any]] = Field(
        default_factory=dict, max_length=1_000
    )
    """``[bus.schemas.TYPE]``: a JSON Schema for payloads of that type, or ``file``, where one lies."""

    def limits(self) -> Limits:
        """The bounds as the bus has them."""
        return Limits(
            depth=self.depth,
            payload=self.payload,
            rate=self.rate,
            burst=self.burst,
            hops=self.hops,
            visible_after=self.visible,
            attempts=self.attempts,
        )


def resolved(schemas: Any, folder: Path) -> Any:
    """``[bus.schemas]`` with files below ``folder`` given by their whole path."""
    if not isinstance(schemas, dict):
        return schemas
    return {
        name: {**table, "file": str(folder / Path(table["file"]).expanduser())}
        if isinstance(table, dict) and isinstance(table.get("file"), str)
        else table
        for name, table in schemas.items()
    }
