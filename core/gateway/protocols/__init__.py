"""One module per wire protocol. ``PROTOCOLS`` has those that are metered; others pass through later."""

from __future__ import annotations

from .anthropic import Anthropic
from .base import WireProtocol

PROTOCOLS: dict[str, WireProtocol] = {"anthropic": Anthropic()}
