"""``[memory]`` of ``config.toml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...agents.spec import Name, Seconds
from ..model import Limits


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelChoice(_Table):
    """``{ provider = "openai", model = "text-embedding-3-small" }``: whom the kernel itself asks."""

    provider: Name
    model: Annotated[str, Field(min_length=1, max_length=200)]


class RetentionTable(_Table):
    """``retention``: what recall forgets by itself, once a day. Absent: nothing, ever."""

    age: Annotated[Seconds, Field(ge=60)] | None = None
    """What was said longer ago than this, in seconds or such as ``"90d"``."""
    entries: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Of each agent; its oldest go."""


class MemoryTable(_Table):
    """``[memory]``: how much agents remember, and which models help with it."""

    block_tokens: Annotated[int, Field(ge=16, le=10_000_000)] = 2_000
    """Of one working block that was made without a limit of its own."""
    agent_tokens: Annotated[int, Field(ge=16, le=10_000_000)] = 8_000
    """Of all working blocks of one agent together."""
    recall: list[Literal["calls", "output", "mail"]] = ["calls", "output", "mail"]
    """What is remembered by itself: model calls, what programs print, mail."""
    retention: RetentionTable = RetentionTable()
    embeddings: ModelChoice | None = None
    """Makes the archive searchable by meaning; a provider with OpenAI's ``/embeddings``."""
    summaries: ModelChoice | None = None
    """Leaves a summary in a block whose text went to recall."""

    @model_validator(mode="after")
    def _fits(self) -> MemoryTable:
        if self.block_tokens > self.agent_tokens:
            raise ValueError("block_tokens is more than agent_tokens: one block could never be full")
        return self

    def limits(self) -> Limits:
        """As the memory has them."""
        return Limits(block_tokens=self.block_tokens, agent_tokens=self.agent_tokens)
