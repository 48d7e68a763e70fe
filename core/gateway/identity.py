"""Agents' secrets: derived, never stored, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection

_CONTEXT = b"agenttop agent secret\0"
LENGTH = 32
"""Hex digits of a secret: 128 bits of the HMAC, and short enough for a path."""


class Identity:
    """Turns agent ids into secrets and back.

    A secret is the first 32 hex digits of HMAC-SHA256(state key, context + agent id), so that it is
    the same after every restart and there is nothing to store. Looking one up compares keyed
    digests of it: the time taken says nothing about how much of a guess was right.

    Args:
        key: The state key, at least 16 bytes.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < 16:
            raise ValueError("the state key has at least 16 bytes")
        self._key = key
        self._blind = secrets.token_bytes(32)
        self._secrets: dict[str, str] = {}
        self._agents: dict[bytes, str] = {}

    def __repr__(self) -> str:
        return f"<Identity of {len(self._secrets)} agents>"

    def secret(self, agent: str) -> str:
        """The agent's secret, 32 lower-case hex digits."""
        known = self._secrets.get(agent)
        if known is None:
            known = hmac.new(self._key, _CONTEXT + agent.encode(), hashlib.sha256).hexdigest()[:LENGTH]
            self._secrets[agent] = known
            self._agents[self._digest(known)] = agent
        return known

    def agent(self, secret: str, known: Collection[str]) -> str | None:
        """The agent among ``known`` whose secret this is; ``None`` if there is none."""
        if len(secret) != LENGTH or not secret.isascii():
            return None
        digest = self._digest(secret)
        if digest not in self._agents:
            for agent in known:
                self.secret(agent)
        found = self._agents.get(digest)
        if found is None or found not in known:
            return None
        return found if hmac.compare_digest(self._secrets[found], secret) else None

    def forget(self, agent: str) -> None:
        """Drop what is remembered about an agent that was removed."""
        secret = self._secrets.pop(agent, None)
        if secret is not None:
            self._agents.pop(self._digest(secret), None)

    def _digest(self, secret: str) -> bytes:
        return hashlib.blake2b(secret.encode(), digest_size=16, key=self._blind).digest()
