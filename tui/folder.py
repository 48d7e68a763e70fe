"""Watching the folder one agent works in, at a calm pace: git is asked, and a large repository is slow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from agenttop.core.api import WorkspaceInfo
from agenttop.core.errors import AgentTopError

if TYPE_CHECKING:
    from agenttop.core.client import KernelClient

#: Seconds between two looks, and how many times what the last one took.
EVERY, TIMES = 5.0, 10.0


class FolderWatch:
    """What git last said of an agent's folder; ``None`` before the first look."""

    def __init__(
        self, client: Callable[[], KernelClient | None], ref: str, changed: Callable[[], None]
    ) -> None:
        self.info: WorkspaceInfo | None = None
        self._client = client
        self._ref = ref
        self._changed = changed

    async def run(self) -> None:
        """Look for as long as the screen is open; while no kernel answers, what was seen stays."""
        while True:
            began = time.monotonic()
            client = self._client()
            if client is not None:
                try:
                    found = await client.workspace(self._ref)
                except AgentTopError as error:
                    # The screen's own look meets the same trouble and says so in its head.
                    found = self.info or WorkspaceInfo(folder="", problem=error.what)
                if found != self.info:
                    self.info = found
                    self._changed()
            took = time.monotonic() - began
            await anyio.sleep(max(EVERY if client is not None else 0.2, TIMES * took))
