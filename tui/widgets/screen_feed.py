"""Where a log view gets the text of a terminal from: what scrolled away, and the screen as it stands.

What a terminal is given is no text: programs draw. So the kernel is asked for what can be read there, when
something was printed and at most so often; while somebody scrolls or searches, the text stands still.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

import anyio

from agenttop.core.errors import AgentTopError

from .output_feed import BLOCK
from .output_lines import Stream

if TYPE_CHECKING:
    from agenttop.core.backend import Chunk
    from agenttop.core.client import KernelClient

#: Lines that scrolled away which are asked for as long as nobody wants more.
LINES = 1_000
#: As many as are kept, and more.
ALL = 1_000_000
#: Seconds between two looks at a screen that changes all the time.
PACE = 0.5


class ScreenFeed:
    """The text of one agent's terminal, given to ``show`` whole each time."""

    def __init__(self, client: KernelClient, ref: str, show: Callable[[list[str]], None]) -> None:
        self.client = client
        self.ref = ref
        self.may_skip = True
        """Whether what is shown follows the screen, or stands still because somebody reads."""
        self.more = False
        """Whether older lines may be kept than those that were shown: a line is as long as it was wrapped."""
        self._show = show
        self._some = anyio.Event()
        self._room = anyio.Event()
        self._failure: AgentTopError | None = None

    async def follow(self, deliver: Callable[[list[Chunk]], bool]) -> None:
        """Show the screen whenever it has changed, until the agent has ended; ``deliver`` is not needed.

        Raises:
            AgentTopError: The kernel or the agent is not there, or it has no screen.
        """
        self._failure = None
        ended = anyio.Event()
        failure: AgentTopError | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._listen, ended)
            try:
                await self._look_until(ended)
            except AgentTopError as error:
                failure = error
            group.cancel_scope.cancel()
        if failure or self._failure:
            raise failure or cast("AgentTopError", self._failure)

    async def _look_until(self, ended: anyio.Event) -> None:
        while True:
            over = ended.is_set()
            while not self.may_skip:
                self._room = anyio.Event()
                await self._room.wait()
            await self._look(LINES)
            if over:
                return
            await self._some.wait()
            self._some = anyio.Event()
            await anyio.sleep(PACE)

    async def _listen(self, ended: anyio.Event) -> None:
        """Notice that something was printed; what it was does not matter."""
        try:
            output = self.client.output(self.ref, follow=True, tail=0)
            async with aclosing(cast("AsyncGenerator[Chunk, None]", output)) as chunks:
                async for _ in chunks:
                    self._some.set()
        except AgentTopError as error:
            self._failure = error
        ended.set()
        self._some.set()

    async def _look(self, lines: int) -> None:
        found = (await self.client.history(self.ref, lines)).lines
        self.more = lines < ALL and bool(found)
        self._show(found)

    async def everything(self) -> None:
        """Show all that is kept.

        Raises:
            AgentTopError: The kernel or the agent is not there.
        """
        await self._look(ALL)

    def go_on(self) -> None:
        """Nobody reads any more: follow the screen."""
        self._room.set()

    async def block(
        self, start: Mapping[Stream, int], *, run: int | None = None, size: int = BLOCK
    ) -> list[Chunk]:
        """Nothing: a screen has no offsets."""
        return []
