"""What OpenAI's two dialects have in common: models, errors, names, embeddings.

Fields as in https://platform.openai.com/docs/api-reference.
"""

from __future__ import annotations

import base64
import re
import struct
from hashlib import blake2b
from typing import Any

import orjson

from .ask import Ask, Invalid, Manners, Route
from .body import cached_by_prefix, conversation_of
from .http import Request

MODELS = ("gpt-6.1-sol", "gpt-6.1-luna", "gpt-5.1", "gpt-5.1-mini", "text-embedding-3-small")
_MODEL = re.compile(r"(?P<prefix>.*?)(?:/v1)?/models/(?P<model>[^/:]+)")
_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}


def manners(message_id: str) -> Manners:
    """As OpenAI names things."""
    return Manners(message_id, "call_", "x-request-id", "openai", b'data: {"id":"\n\n')


def prefix_of(path: str, suffix: str) -> str | None:
    """What stands before the provider's own path, with or without its version; ``None`` for another path."""
    return path.removesuffix(suffix).removesuffix("/v1") if path.endswith(suffix) else None


def models_route(request: Request) -> Route | None:
    """``GET /v1/models``, and one of them."""
    if request.method != "GET" or "anthropic-version" in request.headers or "/v1beta/" in request.path:
        return None
    prefix = prefix_of(request.path, "/models")
    if prefix is not None:
        return Route("models", prefix)
    match = _MODEL.fullmatch(request.path)
    return Route("model", match["prefix"], match["model"]) if match else None


def models(route: Route) -> tuple[int, bytes]:
    """The answer to that.

    Raises:
        Invalid: There is no such model.
    """
    known = [{"id": id, "object": "model", "created": 1767225600, "owned_by": "mock"} for id in MODELS]
    if route.kind == "models":
        return 200, orjson.dumps({"object": "list", "data": known})
    for model in known:
        if model["id"] == route.detail:
            return 200, orjson.dumps(model)
    raise Invalid(f"The model '{route.detail}' does not exist", 404)


def trouble(status: int, message: str, request_id: str) -> bytes:
    """An error's body."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    code = "rate_limit_exceeded" if status == 429 else None
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def check_credentials(request: Request) -> None:
    """OpenAI wants a bearer token.

    Raises:
        Invalid: There is none.
    """
    if not (request.headers.get("authorization") or request.headers.get("api-key")):
        raise Invalid("You didn't provide an API key", 401)


def model_of(data: dict[str, Any]) -> str:
    """The model a request names.

    Raises:
        Invalid: It names none.
    """
    model = data.get("model")
    if not isinstance(model, str) or not model:
        raise Invalid("you must provide a model parameter")
    return model


def limit_of(data: dict[str, Any], *names: str) -> int:
    """The most tokens the answer may have.

    Raises:
        Invalid: It is no count.
    """
    found = [data[name] for name in names if data.get(name) is not None]
    if any(not isinstance(limit, int) or limit < 1 for limit in found):
        raise Invalid(f"Invalid '{names[0]}': integer above 0 expected")
    return min(found, default=128_000)


def embedding_ask(data: dict[str, Any]) -> Ask:
    """What is to be embedded."""
    texts = data.get("input")
    pieces: list[object] = list(texts) if isinstance(texts, list) else [texts]
    blocks = tuple(block._replace(mark=None) for block in cached_by_prefix(pieces))
    return Ask(model_of(data), "", False, 1, blocks, conversation_of(texts), "", 0)


def _vector(text: str, dimensions: int) -> list[float]:
    """The same for the same text everywhere: its words and their beginnings, thrown into so many places."""
    counts = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [text]:
        for piece in (word, word[:4]):
            digest = blake2b(piece.encode("utf-8", "replace"), digest_size=8).digest()
            counts[int.from_bytes(digest[:4]) % dimensions] += 1.0 if digest[4] & 1 else -1.0
    length = sum(count * count for count in counts) ** 0.5
    return [round(count / length, 6) for count in counts] if length else [1.0, *counts[1:]]


def embeddings(data: dict[str, Any], tokens: int) -> bytes:
    """Vectors of ``dimensions`` numbers (default 64), in which texts with words in common, or parts of words,
    are near to each other. The official client asks for them in base64."""
    texts = data.get("input")
    dimensions = data.get("dimensions")
    if not isinstance(dimensions, int) or not 1 <= dimensions <= 4_096:
        dimensions = 64
    rows = []
    for number, text in enumerate(texts if isinstance(texts, list) else [texts]):
        vector: Any = _vector(str(text), dimensions)
        if data.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
        rows.append({"object": "embedding", "index": number, "embedding": vector})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps({"object": "list", "data": rows, "model": data.get("model"), "usage": usage})
