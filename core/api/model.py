"""What all data that crosses the door has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Refuses fields nobody knows: a misspelt one must not be ignored."""

    model_config = ConfigDict(extra="forbid")
