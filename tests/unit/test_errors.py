"""Errors as people read them: what. Why. What to do."""

from __future__ import annotations

from agenttop.core import errors
from agenttop.core.errors import AgentTopError, Conflict, NoSuchAgent, from_dict


def test_three_sentences_with_one_stop_each() -> None:
    error = Conflict("hello cannot be killed", "it is terminated.", "Look at it with agenttop ps --all")
    assert str(error) == "hello cannot be killed. it is terminated. Look at it with agenttop ps --all."
    assert str(AgentTopError("nothing works")) == "nothing works."


def test_an_error_survives_the_journey_over_the_door() -> None:
    rebuilt = from_dict(NoSuchAgent("no agent x", "", "look again").to_dict())
    assert isinstance(rebuilt, NoSuchAgent)
    assert (str(rebuilt), rebuilt.exit_code, rebuilt.status) == ("no agent x. look again.", 3, 404)


def test_an_unknown_code_is_still_an_error() -> None:
    assert type(from_dict({"code": "of tomorrow", "what": "new"})) is AgentTopError


def test_codes_are_unique() -> None:
    codes = [cls.code for cls in errors._subclasses(AgentTopError) if "code" in vars(cls)]
    assert len(codes) == len(set(codes))
