"""What every event has."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Event(BaseModel):
    """Base of all events. ``agent`` is the id of the agent concerned, if there is one."""

    # JSON has no NaN: a row that holds one could not be read back.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)
    kind: ClassVar[str]
    agent: str | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.kind = cls.__name__


class AgentEvent(Event):
    """An event that concerns one agent."""

    agent: str
