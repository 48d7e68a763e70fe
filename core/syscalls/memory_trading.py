"""Memory out to files and in again; only people may ask, and every path is absolute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..api import memory as api
from ..errors import UsageError
from ..memory import trade
from ..memory.exchange import Skipped
from .caller import Caller
from .memory_names import Names, who

if TYPE_CHECKING:
    from ..kernel import Kernel


class TradingCalls:
    """``memory.export`` and ``memory.import``."""

    def __init__(self, kernel: Kernel, names: Names) -> None:
        self._memory = kernel.memory
        self._names = names

    async def export(self, caller: Caller, ask: api.ExportRequest) -> api.TradedInfo:
        """Write a file or folder that is not there yet.

        Raises:
            UsageError: The path is not absolute; Markdown of no namespace.
            MemoryRefused: It is there already, or cannot be written.
        """
        path = _path(ask.path)
        asker = who(caller)
        space = await self._names.namespace(caller, ask.namespace) if ask.namespace else ""
        agents = [await self._names.agent(caller, ask.agent)] if ask.agent else None
        if ask.format == "markdown":
            if not space:
                raise UsageError("which namespace?", "A folder of Markdown has the notes of one", "Name it")
            return api.TradedInfo(
                blocks=0, entries=0, notes=await trade.export_markdown(self._memory, asker, path, space)
            )
        done = await trade.export_lines(self._memory, asker, path, agents, [space] if space else None)
        return api.TradedInfo(blocks=done.blocks, entries=done.entries, notes=done.notes)

    async def bring(self, caller: Caller, ask: api.ImportRequest) -> api.TradedInfo:
        """Bring a file or folder in; ``agent``: blocks and recall become this agent's, whosever they were.

        Raises:
            MemoryRefused: A line is wrong, with its number; nothing was taken.
        """
        path = _path(ask.path)
        asker = who(caller)
        if ask.format == "markdown":
            space = await self._names.namespace(caller, ask.namespace)
            done = await trade.import_markdown(self._memory, asker, path, space)
        else:
            agent = await self._names.agent(caller, ask.agent) if ask.agent else ""
            done = await trade.import_lines(self._memory, asker, path, agent)
        return api.TradedInfo(
            blocks=done.blocks,
            entries=done.entries,
            notes=done.notes,
            skipped=[_skipped(one) for one in done.skipped],
        )


def _path(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or "\0" in text or ".." in path.parts:
        raise UsageError(f"{text[:80]!r} is no absolute path", "", "Begin with /, and leave .. out")
    return path


def _skipped(one: Skipped) -> str:
    return f"{one.path}: {one.why}"
