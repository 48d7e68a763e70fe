"""``AgentDoor``: an agent's own door, for programs with an event loop."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.abc
from anyio.abc import SocketAttribute

from .wire import CONNECT, PATIENCE, Answer, Tries, door_of, quiet, repeatable, request, silent, waiting

if TYPE_CHECKING:
    from ..api.verbs import A, Q, Verb

_IDLE = 16


class AgentDoor:
    """Calls at an agent's own door; many at a time, from any number of tasks.

    A call that is cancelled hangs up, and the kernel stops waiting for what it was to wait for.

    Args:
        url: Where it is; default: ``AGENTTOP_URL`` of this program.
        patience: Seconds for which a kernel that is away is called again.

    Raises:
        NotAnAgent: This program is no agent.
    """

    def __init__(self, url: str | None = None, *, patience: float = PATIENCE) -> None:
        self._door = door_of(url)
        self._patience = patience
        self._idle: list[anyio.abc.SocketStream] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        while self._idle:
            await anyio.aclose_forcefully(self._idle.pop())

    async def call(self, verb: Verb[Q, A], asked: Q) -> A:
        """The answer, checked; raises as ``ask``."""
        fields = asked.model_dump(mode="json", exclude_unset=True)
        return verb.answer.validate_json(await self.ask(verb.name, fields))

    async def ask(self, name: str, fields: Mapping[str, Any]) -> bytes:
        """The answer's JSON.

        Raises:
            AgentTopError: What the kernel said.
            KernelUnreachable: It is away; ``AnswerLost`` where it cannot be known whether it was done.
        """
        data = request(self._door, name, fields)
        tries = Tries(name, repeatable(name, fields), self._patience)
        while True:
            sent = False
            try:
                link = await self._link()
                sent = True
                answer = await self._exchange(link, name, data, waiting(fields))
            except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
                await anyio.sleep(tries.failed(error, sent=sent))
            else:
                return tries.result(answer)

    async def _link(self) -> anyio.abc.SocketStream:
        """A connection that nobody has hung up."""
        while self._idle:
            link = self._idle.pop()
            if quiet(link.extra(SocketAttribute.raw_socket).fileno()):
                return link
            await anyio.aclose_forcefully(link)
        with anyio.fail_after(CONNECT):
            return await anyio.connect_tcp(self._door.host, self._door.port)

    async def _exchange(self, link: anyio.abc.SocketStream, name: str, data: bytes, silence: float) -> Answer:
        answer = Answer()
        try:
            with anyio.move_on_after(silence) as scope:
                await link.send(data)
                while not answer.complete:
                    answer.feed(await link.receive(1 << 20))
                    scope.deadline = anyio.current_time() + silence
            if not answer.complete:
                raise silent(name, silence)
        except BaseException:
            await anyio.aclose_forcefully(link)
            raise
        if answer.reusable and len(self._idle) < _IDLE:
            self._idle.append(link)
        else:
            await link.aclose()
        return answer
