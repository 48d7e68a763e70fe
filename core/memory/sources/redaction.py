"""Secrets that must not be remembered: provider keys, and the secrets of agents in their gateway's URLs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_SECRET = re.compile(r"/a/[0-9a-f]{32}\b")
_SHORTEST = 8
"""A shorter key would be found in words that are none."""


def redaction(keys: Callable[[], Iterable[str]]) -> Callable[[], Callable[[str], str]]:
    """Makes, for the keys there are at the moment, what takes them out of a text."""

    def now() -> Callable[[str], str]:
        secrets = sorted({key for key in keys() if len(key) >= _SHORTEST}, key=len, reverse=True)

        def redact(text: str) -> str:
            for key in secrets:
                if key in text:
                    text = text.replace(key, "[key]")
            return _SECRET.sub("/a/[key]", text) if "/a/" in text else text

        return redact

    return now
