"""Which agents something is about."""

from __future__ import annotations

from pydantic import Field

from ..agents.spec import Text
from .model import Model


class Target(Model):
    """Which agents a verb acts on: names, ids or id prefixes; or all of them."""

    refs: list[Text] = Field(default_factory=list, max_length=20_000)
    all: bool = False
    children: bool = False
    """Also the agents' children, grandchildren and so on."""
