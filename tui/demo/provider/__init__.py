"""A mock model provider: pace, tools, caching and usage as in life, and misbehaviour on request.

Its ledger is the truth that meters are compared with. ``MockProvider`` runs inside a test,
``python -m agenttop.tui.demo.provider`` is the same as a process. A new protocol is one more module
with a ``Dialect`` (see ``ask``).
"""

from __future__ import annotations

from .pace import INSTANT
from .service import MockProvider
from .truth import Entry, Truth, Usage, key_digest

__all__ = ["INSTANT", "Entry", "MockProvider", "Truth", "Usage", "key_digest"]
