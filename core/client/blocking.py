"""An agent's own door for programs without an event loop, and for the ``agenttop`` command inside agents."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import KernelUnreachable
from .wire import (
    CONNECT,
    PATIENCE,
    Answer,
    Tries,
    door_of,
    quiet,
    repeatable,
    request,
    silent,
    waiting,
)

if TYPE_CHECKING:
    from ..api.verbs import A, Q, Verb

_IDLE = 4


class BlockingDoor:
    """Calls at an agent's own door, one after the other or from several threads.

    Args:
        url: Where it is; default: ``AGENTTOP_URL`` of this program.
        patience: Seconds for which a kernel that is away is called again.

    Raises:
        NotAnAgent: This program is no agent.
    """

    def __init__(self, url: str | None = None, *, patience: float = PATIENCE) -> None:
        self._door = door_of(url)
        self._patience = patience
        self._idle: list[socket.socket] = []

    def close(self) -> None:
        """Hang up."""
        while self._idle:
            self._idle.pop().close()

    def call(self, verb: Verb[Q, A], asked: Q) -> A:
        """The answer, checked; raises as ``ask``."""
        fields = asked.model_dump(mode="json", exclude_unset=True)
        return verb.answer.validate_json(self.ask(verb.name, fields))

    def ask(self, name: str, fields: Mapping[str, Any]) -> bytes:
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
                link = self._link()
                sent = True
                answer = self._exchange(link, data, waiting(fields))
            except TimeoutError as error:
                if sent:
                    raise silent(name, waiting(fields)) from error
                time.sleep(tries.failed(error, sent=sent))
            except OSError as error:
                time.sleep(tries.failed(error, sent=sent))
            else:
                return tries.result(answer)

    def _link(self) -> socket.socket:
        """A connection that nobody has hung up."""
        while self._idle:
            try:
                link = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if quiet(link.fileno()):
                return link
            link.close()
        link = socket.create_connection((self._door.host, self._door.port), CONNECT)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link

    def _exchange(self, link: socket.socket, data: bytes, silence: float) -> Answer:
        answer = Answer()
        try:
            link.settimeout(silence)
            _send(link, data)
            while not answer.complete:
                piece = link.recv(1 << 20)
                if not piece:
                    raise ConnectionResetError("it hung up in the middle of an answer")
                answer.feed(piece)
        except (OSError, KernelUnreachable):
            link.close()
            raise
        if answer.reusable and len(self._idle) < _IDLE:
            self._idle.append(link)
        else:
            link.close()
        return answer


def _send(link: socket.socket, data: bytes) -> None:
    """Send a call; one that was refused before its end has an answer to be read."""
    try:
        link.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        if quiet(link.fileno()):
            raise
