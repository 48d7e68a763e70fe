"""What a budget is: a limit on tokens or money, whom it covers, over which time, and what it does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..agents.spec import Name
from .short import Action, Usd, Window, Zone

Scope = Literal["agent", "template", "label", "owner", "fleet"]


class Budget(BaseModel):
    """A limit that acts. At least one of ``usd`` and ``tokens`` is set; both may be.

    ``target`` is an agent's id (the budget covers its whole subtree), a template's name, a label
    selector (``team=api,tier=2``: all must match), an owner's name, or empty for the fleet.

    Windows: ``total`` never ends; ``task`` is the agent's present task, which until there are tasks
    is everything since a person last started it (restarts by policy go on in the same task);
    ``hour`` and ``day`` are calendar windows in ``zone``, or with ``rolling`` the last 60 minutes and
    24 hours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Name
    scope: Scope = "fleet"
    target: str = Field(default="", max_length=500)
    usd: Usd | None = None
    tokens: Annotated[int, Field(gt=0, le=10**15)] | None = None
    window: Window = "total"
    rolling: bool = False
    zone: Zone = ""
    """Of calendar windows."""
    soft: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The fraction at which it warns."""
    action: Action = "ask"

    @model_validator(mode="after")
    def _sane(self) -> Budget:
        if self.usd is None and self.tokens is None:
            raise ValueError("a budget limits usd, tokens or both")
        if (self.scope == "fleet") != (not self.target):
            raise ValueError("a fleet budget has no target, every other one needs one")
        if self.scope == "label":
            self.labels()
        if self.rolling and self.window not in ("hour", "day"):
            raise ValueError("only windows of an hour or a day can be rolling")
        return self

    def labels(self) -> dict[str, str]:
        """The label selector of a label budget.

        Raises:
            ValueError: It is not ``key=value``, with commas between several.
        """
        pairs = [part.partition("=") for part in self.target.split(",")]
        if not all(key.strip() and equals for key, equals, _ in pairs):
            raise ValueError(f"{self.target!r} is not a label selector such as team=api")
        return {key.strip(): value.strip() for key, _, value in pairs}
