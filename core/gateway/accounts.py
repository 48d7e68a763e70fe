"""Whose account a client uses that brings its own credentials: told apart, never kept."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hashlib import blake2b
from urllib.parse import unquote_plus

from .http1 import Header
from .protocols.base import WireProtocol

_KEY = secrets.token_bytes(32)
"""Of this process only: what ``of`` gives tells nothing of the credentials to anybody."""


def of(headers: Sequence[Header], target: bytes, protocol: WireProtocol) -> str:
    """The same text for the same credentials while this kernel lives; empty where there are none."""
    found = [value.strip() for name, value in headers if name.lower() in protocol.credential_headers]
    for pair in target.partition(b"?")[2].split(b"&"):
        name, _, value = pair.partition(b"=")
        if unquote_plus(name.decode("latin-1")).lower() in protocol.credential_queries:
            found.append(value)
    return blake2b(b"\0".join(sorted(found)), digest_size=12, key=_KEY).hexdigest() if found else ""
