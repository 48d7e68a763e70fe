"""One module per wire protocol, and ``PROTOCOLS``, the one to use for each provider."""

from __future__ import annotations

from .anthropic import Anthropic
from .base import WireProtocol
from .gemini import Gemini
from .openai import OpenAI
from .polyglot import Polyglot

_DIALECTS: tuple[WireProtocol, ...] = (Anthropic(), OpenAI(), Gemini())
PROTOCOLS: dict[str, WireProtocol] = {home.name: Polyglot(home, _DIALECTS) for home in _DIALECTS}
