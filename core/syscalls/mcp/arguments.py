"""What a model gives each tool: few fields, small schemas, forgiving about form, strict about meaning."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from ...api.bus import MessageId

TEXT = 200_000
"""Characters of a text that a tool takes."""
ROOM = 40_000
"""Characters of text in one answer, unless more is asked for: about 10,000 tokens."""
PATIENCE = 240.0
"""Seconds a tool waits at most: HTTP clients give up after 300 without a byte."""


def _object(value: object) -> object:
    """Models often write the object they mean into a string."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _many(value: object) -> object:
    """And one thing where a list of things is meant."""
    return [value] if isinstance(value, str) and value else value


To = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=TEXT)]
Data = Annotated[dict[str, JsonValue], BeforeValidator(_object)]
Ids = Annotated[list[MessageId], BeforeValidator(_many), Field(max_length=100)]


class Arguments(BaseModel):
    """Of one tool; what nobody knows is an error."""

    model_config = ConfigDict(extra="forbid")


class Nothing(Arguments):
    """Of a tool that needs nothing."""


class Letter(Arguments):
    """What is said: a text, or an object."""

    text: Text = Field(default="", description="What to say.")
    data: Data = Field(default_factory=dict, description="A JSON object instead of text.")
    type: str = Field(
        default="", max_length=64, description="Kind of message that you agreed on, such as review.done."
    )

    @model_validator(mode="after")
    def _one(self) -> Letter:
        if bool(self.text) == bool(self.data):
            raise ValueError("give either text or data")
        return self

    @property
    def payload(self) -> JsonValue:
        """As the bus carries it."""
        return self.text or self.data

    @property
    def kind(self) -> str:
        """The message type."""
        return self.type or ("text" if self.text else "json")


class Send(Letter):
    """See the tool."""

    to: To = Field(description="Name of an agent, @me for the person, * for all agents.")
    urgent: bool = Field(default=False, description="Ahead of the receiver's other mail.")
    key: str = Field(default="", max_length=128, description="Sent twice with the same key, it arrives once.")


class Ask(Letter):
    """See the tool."""

    to: To = Field(description="Name of an agent, or @me for the person.")
    timeout: float = Field(default=45.0, gt=0, le=PATIENCE, description="Seconds to wait for the reply.")


class Reply(Letter):
    """See the tool."""

    message: MessageId = Field(description="Id of the request, such as m12.")


class Publish(Letter):
    """See the tool."""

    topic: To = Field(description="Such as builds/ui.")


class Inbox(Arguments):
    """See the tool."""

    ack: Ids = Field(default_factory=list, description="Ids of messages you are done with.")
    limit: int = Field(default=10, ge=1, le=50)
    wait: float = Field(
        default=0.0, ge=0, le=PATIENCE, description="Seconds to wait for mail if there is none."
    )
    room: int = Field(
        default=ROOM, ge=200, le=1_000_000, description="Characters of payload to show; more is cut."
    )


class Ack(Arguments):
    """See the tool."""

    ids: Ids = Field(min_length=1, description="Ids of messages, in the order in which they came.")


class Subscribe(Arguments):
    """See the tool."""

    topic: To = Field(description="Such as builds/ui; * stands for one level, ** at the end for all below.")
    end: bool = Field(default=False, description="End the subscription.")


class MemoryRead(Arguments):
    """See the tool."""

    block: str = Field(default="", max_length=200, description="Only this block.")
    agent: str = Field(default="", max_length=200, description="Another agent's blocks, if you may see them.")
    key: str = Field(default="", max_length=600, description="A note instead: its key.")
    namespace: str = Field(
        default="", max_length=200, description="Where the note is: shared (default), team, private. "
        "Without a key: list the notes there.",
    )  # fmt: skip
    offset: int = Field(default=0, ge=0, description="Of a long text: the character to begin at.")

    @model_validator(mode="after")
    def _one(self) -> MemoryRead:
        if self.block and (self.key or self.namespace):
            raise ValueError("give a block, or a key and namespace")
        return self


class MemoryWrite(Arguments):
    """See the tool."""

    block: str = Field(min_length=1, max_length=200, description="Name of the block; it is made if new.")
    text: Text = Field(description="What it is to say.")
    agent: str = Field(default="", max_length=200, description="Another agent's block, if you may.")
    append: bool = Field(default=False, description="Add to the end instead of replacing all.")
    version: int | None = Field(
        default=None, ge=0, description="The version you read: nothing is written if it has changed since."
    )


class MemorySearch(Arguments):
    """See the tool."""

    query: str = Field(min_length=1, max_length=1_000, description="Words to look for.")
    tiers: Annotated[list[Literal["working", "recall", "archival"]], BeforeValidator(_many)] = Field(
        default_factory=list,
        description="Where: your blocks, all that was said to and by you, the notes. Default: everywhere.",
    )
    agent: str = Field(default="", max_length=200, description="Another agent's memory, if you may see it.")
    limit: int = Field(default=10, ge=1, le=50)


class Archive(Arguments):
    """See the tool."""

    key: str = Field(min_length=1, max_length=600, description="Such as decisions/database.")
    text: Text
    namespace: str = Field(
        default="shared",
        max_length=200,
        description="shared (all agents), team (yours), or private (you alone).",
    )
    version: int | None = Field(
        default=None, ge=0, description="The version you read: nothing is written if it has changed since. "
        "0: it must be new.",
    )  # fmt: skip


class Agents(Arguments):
    """See the tool."""

    ended: bool = Field(default=False, description="Those that have ended, too.")


class Progress(Arguments):
    """See the tool."""

    text: str = Field(default="", max_length=200, description="What you are doing now.")
    percent: float | None = Field(default=None, ge=0, le=100)


def schema(model: type[Arguments]) -> dict[str, Any]:
    """The JSON schema of a tool's arguments, without what only says what is clear."""
    found = _plain(model.model_json_schema())
    assert isinstance(found, dict)
    for name in ("description", "$defs"):  # of JSON values: anything
        found.pop(name, None)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    choices = value.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices and len(choices) == 2:
        (some,) = [one for one in choices if one != {"type": "null"}]
        value = {**{k: v for k, v in value.items() if k not in ("anyOf", "default")}, **some}
    if value.get("type") == "object" and "properties" not in value:  # of any shape
        value = {k: v for k, v in value.items() if k != "additionalProperties" or v is False}
    return {
        name: {key: _plain(one) for key, one in part.items()} if name == "properties" else _plain(part)
        for name, part in value.items()
        if name != "title" and not (name == "default" and part in ("", [], {}))
    }
