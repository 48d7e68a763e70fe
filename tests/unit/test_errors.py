"""Errors as people read them: what. Why. What to do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from agenttop.core import errors
from agenttop.core.errors import AgentTopError, Conflict, NoSuchAgent, from_dict

ROOT = Path(__file__).parents[2]
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
#: Programs a sentence may begin with; they keep their own case.
NAMES = {"bubblewrap", "chmod", "dockerd", "dockerd's", "ssh"}


def test_three_sentences_with_one_stop_each() -> None:
    error = Conflict("hello cannot be killed", "It is terminated.", "Look at it with agenttop ps --all")
    assert str(error) == "hello cannot be killed. It is terminated. Look at it with agenttop ps --all."
    assert str(AgentTopError("nothing works")) == "nothing works."


def openings(node: ast.expr) -> Iterator[str]:
    """What an expression for a sentence may begin with, as far as it is written down there."""
    match node:
        case ast.Constant(value=str(text)) | ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
            yield text
        case ast.IfExp():
            yield from (*openings(node.body), *openings(node.orelse))
        case ast.BoolOp():
            for value in node.values:
                yield from openings(value)
        case ast.BinOp():
            yield from openings(node.left)


def written() -> Iterator[tuple[str, str]]:
    """Every cause and hint in the source: where, and how it begins."""
    for folder in ("core", "backends", "tui", "themes"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for call in ast.walk(ast.parse(path.read_text())):
                if isinstance(call, ast.Call) and getattr(call.func, "id", "") in KINDS:
                    named = [word.value for word in call.keywords if word.arg in ("why", "hint")]
                    for sentence in (*call.args[1:3], *named):
                        for text in openings(sentence):
                            yield f"{path.relative_to(ROOT)}:{sentence.lineno}", text


def test_causes_and_hints_begin_as_sentences_do() -> None:
    found = list(written())
    assert len(found) > 150, "the errors of the source were found"
    small = [
        f"{where}: {text}" for where, text in found if text[:1].islower() and text.split()[0] not in NAMES
    ]
    assert small == []


def test_an_error_survives_the_journey_over_the_door() -> None:
    rebuilt = from_dict(NoSuchAgent("no agent x", "", "look again").to_dict())
    assert isinstance(rebuilt, NoSuchAgent)
    assert (str(rebuilt), rebuilt.exit_code, rebuilt.status) == ("no agent x. look again.", 3, 404)


def test_an_unknown_code_is_still_an_error() -> None:
    assert type(from_dict({"code": "of tomorrow", "what": "new"})) is AgentTopError


def test_codes_are_unique() -> None:
    codes = [cls.code for cls in errors._subclasses(AgentTopError) if "code" in vars(cls)]
    assert len(codes) == len(set(codes))
