"""The backends in use: imported at first need, one object each, closed with the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anyio.abc import TaskGroup

from .. import backend
from ..backend import Backend, BackendContext, Doors
from ..clock import Clock
from ..errors import AgentTopError


class Backends:
    """Name → backend. ``[backends.NAME]`` of the configuration goes to each when it is made."""

    def __init__(
        self,
        state: Path,
        clock: Clock,
        doors: Doors,
        settings: Mapping[str, Mapping[str, Any]],
        tasks: TaskGroup,
    ) -> None:
        self._state = state
        self._clock = clock
        self._doors = doors
        self._settings = settings
        self._tasks = tasks
        self._made: dict[str, Backend] = {}

    def get(self, name: str) -> Backend:
        """The backend of this name.

        Raises:
            UsageError: No such backend is installed.
            BackendError: It cannot be imported.
        """
        if name not in self._made:
            cls = backend.load(name)
            made = cls(BackendContext(self._state, self._clock, self._doors, self._settings.get(name, {})))
            self._made[name] = made
            self._tasks.start_soon(made.run, name=f"backend {name}")
        return self._made[name]

    def batch(self, name: str) -> int:
        """How many runs this backend is given to start at once; 1 for one that cannot be had."""
        try:
            return self.get(name).batch
        except AgentTopError:
            return 1  # whoever starts there is told why

    def terminals(self, name: str) -> bool:
        """Whether runs there have terminals; false for a backend that cannot be had."""
        try:
            return self.get(name).terminals
        except AgentTopError:
            return False

    async def close(self) -> None:
        """Let go of all of them; runs go on."""
        for made in self._made.values():
            await made.close()
