"""Where requests of each protocol go: versions told twice, paths that climb, credentials in the query."""

from __future__ import annotations

from typing import Any

import pytest

from agenttop.core.gateway.desk import Caller
from agenttop.core.gateway.http1 import Request
from agenttop.core.gateway.protocols import PROTOCOLS
from agenttop.core.gateway.providers import Provider
from agenttop.core.gateway.routes import Answer, Route, find, joined


class Door:
    """Knows one secret."""

    def identify(self, secret: str) -> Caller | None:
        return Caller("a1", 1) if secret == "s" else None


def route(name: str, rest: str, base_path: str = "", method: str = "POST") -> Route:
    provider = Provider(
        name=name, protocol=name, base_url=f"http://127.0.0.1:9{base_path}", key_env="KEY"  # type: ignore[arg-type]
    )  # fmt: skip
    request: Any = type("Asked", (), {"method": method, "target": f"/a/s/{name}{rest}".encode()})()
    assert isinstance(request.target, bytes)
    door: Any = Door()
    asked: Request = request
    return find(asked, door, {name: provider}, {})


@pytest.mark.parametrize(
    ("base", "rest", "path"),
    [
        (b"", b"/v1/responses", b"/v1/responses"),
        (b"/v1", b"/v1/responses", b"/v1/responses"),
        (b"/v1", b"/responses", b"/v1/responses"),
        (b"/openai/v1", b"/v1", b"/openai/v1"),
        (b"/v1beta", b"/v1beta/models/m:generateContent", b"/v1beta/models/m:generateContent"),
        (b"/v1", b"/v1beta/models", b"/v1/v1beta/models"),
        (b"/v1", b"/v10/x", b"/v1/v10/x"),
        (b"/corp", b"/corp/x", b"/corp/corp/x"),
        (b"/v1", b"", b"/v1"),
    ],
)
def test_a_version_told_twice_is_meant_once(base: bytes, rest: bytes, path: bytes) -> None:
    assert joined(base, rest) == path


@pytest.mark.parametrize(
    ("name", "rest", "base_path", "operation"),
    [
        ("openai", "/v1/chat/completions", "/v1", "chat"),
        ("openai", "/chat/completions", "", "chat"),
        ("openai", "//v1//Chat/Completions/", "", "chat"),
        ("openai", "/v1/%63hat/completions", "", "chat"),
        ("openai", "/v1/responses;x=1", "", "responses"),
        ("gemini", "/v1beta/models/m%3AgenerateContent", "", "generateContent"),
        ("gemini", "/v1beta/models/m:GENERATECONTENT?alt=sse", "", "generateContent"),
        ("gemini", "/v1beta/models/m:countTokens", "", None),
    ],
)
def test_no_way_of_writing_a_path_leads_around_the_meter(
    name: str, rest: str, base_path: str, operation: str | None
) -> None:
    assert route(name, rest, base_path).operation == operation


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
@pytest.mark.parametrize(
    "rest",
    ["/v1/../x", "/..", "/v1/%2e%2e/x", "/v1/..%2fx", "/v1/%2E./x", "/v1/./x", "/v1/..;a/x", "/v1/..%5cx"],
)
def test_paths_that_climb_are_refused(name: str, rest: str) -> None:
    with pytest.raises(Answer) as caught:
        route(name, rest)
    assert caught.value.status == 400


def test_what_is_logged_of_a_path_has_no_query() -> None:
    found = route("gemini", "/v1beta/models/m:generateContent?key=secret&alt=sse")
    assert "secret" not in found.path
    assert found.target.endswith(b"?key=secret&alt=sse")  # it goes when the provider's key is put in
    assert found.rest == b"/v1beta/models/m:generateContent?key=secret&alt=sse"
