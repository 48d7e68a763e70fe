"""Misbehaviour on request, and what else a client may ask of the mock.

In a prompt or behind a model's name: ``[[mock:error=429 retry_after=2 times=2]]``. Or for calls of
others, by ``POST /_behave`` with the same words as JSON. Words that describe the reply:
``tools=Read+Bash`` (the tools to use, one a round; ``tools=none``), ``output=500`` (tokens),
``calls=3`` (tools used at once), ``use=TOOL?NAME=VALUE&…`` (one a round, in their order; see ``uses``).
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .ask import Ask, Invalid
from .uses import Use, parse_use

DIRECTIVE = re.compile(r"\[\[mock:([^\]]*)\]\]")

Misdeed = Literal[
    "error", "cut", "reset", "hang", "slow", "stream_error", "malformed", "drop", "usage", "refuse_usage",
]  # fmt: skip
Telling = Literal["missing", "falling", "negative", "absurd"]


class Behaviour(BaseModel):
    """One way to misbehave, on the calls it matches.

    ``error``: ``status`` with ``retry_after`` instead of a reply. ``cut`` / ``reset``: end the connection
    after ``after`` events. ``stream_error``: an error event there. ``malformed``: broken JSON there.
    ``hang``: say nothing more there for ``seconds``, or for ever; with ``after=0`` not even headers.
    ``slow``: ``factor`` times slower. ``drop``: end the connection before the headers. ``usage``: tell the
    usage wrongly, as ``telling`` says. ``refuse_usage``: 400 for ``stream_options``, which not all know.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    do: Misdeed
    status: int = Field(default=529, ge=400, le=599)
    retry_after: float | None = Field(default=None, ge=0)
    should_retry: bool | None = None
    after: int = Field(default=0, ge=0)
    seconds: float | None = Field(default=None, ge=0)
    factor: float = Field(default=10.0, gt=0)
    telling: Telling = "missing"
    times: int | None = Field(default=None, ge=1)
    model: str = ""
    prompt: str = ""
    agent: str = ""

    def matches(self, ask: Ask, agent: str) -> bool:
        """Whether a call is meant; empty conditions match all."""
        return self.model in ask.model and self.prompt in ask.prompt and self.agent in agent


class Wishes(BaseModel):
    """What a directive asks of the reply itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tools: tuple[str, ...] | None = None
    output: int | None = Field(default=None, ge=1, le=200_000)
    calls: int = Field(default=1, ge=1, le=16)
    uses: tuple[Use, ...] = ()


class Conduct:
    """The rules in force, and how often each was used."""

    def __init__(self) -> None:
        self._rules: list[tuple[Behaviour, int]] = []
        self._used: Counter[tuple[str, str]] = Counter()

    def add(self, behaviour: Behaviour) -> None:
        """Put one more rule in force; earlier ones come first."""
        self._rules.append((behaviour, 0))

    def clear(self) -> None:
        """Behave from now on."""
        self._rules.clear()

    def rules(self) -> list[dict[str, Any]]:
        """The rules in force and their use."""
        return [{**rule.model_dump(), "used": used} for rule, used in self._rules]

    def judge(self, ask: Ask, agent: str) -> Behaviour | None:
        """How to misbehave on this call, if at all; a rule with ``times`` wears off."""
        own = parse_directives(ask.directives)[0]
        if own is not None:
            key = (ask.directives, ask.conversation)
            self._used[key] += 1
            if own.times is None or self._used[key] <= own.times:
                return own
        for n, (rule, used) in enumerate(self._rules):
            if rule.matches(ask, agent) and (rule.times is None or used < rule.times):
                self._rules[n] = (rule, used + 1)
                return rule
        return None


def parse_behaviour(data: object) -> Behaviour:
    """A rule from JSON data.

    Raises:
        Invalid: With pydantic's account of what is wrong.
    """
    try:
        return Behaviour.model_validate(data)
    except ValidationError as error:
        raise Invalid(f"not a behaviour: {error}") from error


def parse_directives(text: str) -> tuple[Behaviour | None, Wishes]:
    """Read the words of all directives, joined with spaces.

    Raises:
        Invalid: A word that means nothing; a misspelt misdeed must not be a good deed.
    """
    rule: dict[str, Any] = {}
    wishes: dict[str, Any] = {}
    for word in text.split():
        key, _, value = word.partition("=")
        match key:
            case "error":
                rule |= {"do": "error", "status": value or 529}
            case "cut" | "reset" | "stream_error" | "malformed":
                rule |= {"do": key, "after": value or 0}
            case "hang":
                rule |= {"do": "hang", "after": value or 0}
            case "slow":
                rule |= {"do": "slow", "factor": value or 10}
            case "drop" | "refuse_usage":
                rule |= {"do": key}
            case "usage":
                rule |= {"do": "usage", "telling": value or "missing"}
            case "retry_after" | "should_retry" | "times" | "seconds":
                rule[key] = value
            case "tools":
                wishes["tools"] = () if value in ("", "none", "0") else tuple(value.split("+"))
            case "use":
                wishes["uses"] = (*wishes.get("uses", ()), _use(value))
            case "output" | "calls":
                wishes[key] = value
            case _:
                raise Invalid(f"unknown mock directive {word!r}")
    try:
        found = Behaviour.model_validate(rule) if rule else None
        return found, Wishes.model_validate(wishes)
    except ValidationError as error:
        raise Invalid(f"mock directive {text!r}: {error}") from error


def _use(text: str) -> Use:
    try:
        return parse_use(text)
    except ValueError as error:
        raise Invalid(str(error)) from error
