"""A small Anthropic Messages client for the demo's agents: the standard library only, so that ten are light.

It streams, reads server-sent events, and retries as the real clients do: 408, 409, 429 and 5xx, honouring
``retry-after`` and ``x-should-retry``, and connections that fail, a limited number of times.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

_ATTEMPTS = 10
_LONGEST_WAIT = 60.0


class CallFailed(Exception):
    """The provider refused for good, or went on failing."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}" if status else message)
        self.status = status


class Messages:
    """One client with its base URL; ``retried`` is told before each wait."""

    def __init__(self, environ: Mapping[str, str], retried: Callable[[str], None]) -> None:
        base = environ.get("ANTHROPIC_BASE_URL")
        if not base:
            if not environ.get("AGENTTOP_URL"):
                raise CallFailed(0, "neither ANTHROPIC_BASE_URL nor AGENTTOP_URL is set")
            base = environ["AGENTTOP_URL"].rstrip("/") + "/anthropic"
        url = urlsplit(base)
        self._host = url.hostname or "127.0.0.1"
        self._port = url.port or 80
        self._path = url.path.rstrip("/") + "/v1/messages"
        self._retried = retried
        self._headers = {
            "content-type": "application/json",
            "anthropic-version": "2023-06-01",
            "user-agent": "agenttop-demo/1",
            "x-api-key": environ.get("ANTHROPIC_API_KEY", "demo"),
            "x-agent": environ.get("AGENTTOP_AGENT", ""),
        }

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make one streamed call and return the whole message.

        Raises:
            CallFailed: It was refused for good or failed too often.
        """
        data = json.dumps({**body, "stream": True}).encode()
        last = CallFailed(0, "no attempt was made")
        for attempt in range(_ATTEMPTS):
            try:
                return self._once(data)
            except _Again as error:
                last = error.failure
                wait = error.after if error.after is not None else min(0.5 * 2**attempt, 8.0)
            except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
                last = CallFailed(0, f"{type(error).__name__}: {error}")
                wait = min(0.5 * 2**attempt, 8.0)
            self._retried(f"{last}; trying again in {wait:.0f}s")
            time.sleep(min(wait, _LONGEST_WAIT))
        raise last

    def _once(self, data: bytes) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=600)
        try:
            connection.request("POST", self._path, data, self._headers)
            response = connection.getresponse()
            if response.status != 200:
                raise _refusal(response)
            return _gather(_events(response))
        finally:
            connection.close()


class _Again(Exception):
    def __init__(self, failure: CallFailed, after: float | None) -> None:
        super().__init__(failure)
        self.failure = failure
        self.after = after


def _refusal(response: http.client.HTTPResponse) -> Exception:
    body = response.read()
    try:
        message = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = body[:200].decode("utf-8", "replace")
    failure = CallFailed(response.status, message)
    hint = response.headers.get("x-should-retry")
    again = hint == "true" or (
        hint is None and (response.status in (408, 409, 429) or response.status >= 500)
    )
    after = response.headers.get("retry-after", "")
    return (
        _Again(failure, float(after) if after.replace(".", "", 1).isdigit() else None) if again else failure
    )


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    for line in response:
        if line.startswith(b"data:"):
            yield json.loads(line[5:])


def _gather(events: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Put a message together from its events.

    Raises:
        _Again: The stream had an error in it, or ended before the message did.
    """
    message: dict[str, Any] = {}
    partial: dict[int, str] = {}
    for event in events:
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                message["content"].append(event["content_block"])
            case "content_block_delta":
                _extend(message["content"][event["index"]], event["index"], event["delta"], partial)
            case "message_delta":
                message |= event["delta"]
                message["usage"] = event["usage"]
            case "error":
                raise _Again(CallFailed(0, str(event["error"]["message"])), None)
            case "message_stop":
                for index, text in partial.items():
                    message["content"][index]["input"] = json.loads(text or "{}")
                return message
    raise _Again(CallFailed(0, "the stream ended early"), None)


def _extend(block: dict[str, Any], index: int, delta: dict[str, Any], partial: dict[int, str]) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "input_json_delta":
            partial[index] = partial.get(index, "") + delta["partial_json"]
