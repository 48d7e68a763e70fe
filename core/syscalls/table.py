"""The table of system calls: every verb's handler, found by name, with its caller checked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from ..api.verbs import A, Q, Request, Verb
from ..errors import Forbidden, UsageError
from .caller import Caller


class Syscalls:
    """Verbs and their handlers; rooms put theirs in when the kernel is composed."""

    def __init__(self) -> None:
        self._handlers: dict[str, tuple[Verb[Any, Any], Callable[[Caller, Any], Any]]] = {}

    def add(self, verb: Verb[Q, A], handler: Callable[[Caller, Q], Awaitable[A]]) -> None:
        """Let ``handler`` answer ``verb``."""
        self._handlers[verb.name] = (verb, handler)

    def add_stream(self, verb: Verb[Q, A], handler: Callable[[Caller, Q], AsyncIterator[A]]) -> None:
        """Let ``handler`` answer ``verb``, which goes on answering."""
        self._handlers[verb.name] = (verb, handler)

    @property
    def verbs(self) -> Iterable[Verb[Any, Any]]:
        """What can be asked."""
        return [verb for verb, _ in self._handlers.values()]

    def named(self, name: str) -> Verb[Any, Any]:
        """The verb of this name.

        Raises:
            UsageError: There is none.
        """
        found = self._handlers.get(name)
        if found is None:
            raise UsageError(f"there is no call {name[:80]!r}", "", f"There are {', '.join(self._handlers)}")
        return found[0]

    async def call(self, caller: Caller, verb: Verb[Q, A], request: Q) -> A:
        """The answer.

        Raises:
            Forbidden: An agent asks what only a person may.
            AgentTopError: As the handler says.
        """
        answer: A = await self._handler(caller, verb, request)
        return answer

    def follow(self, caller: Caller, verb: Verb[Q, A], request: Q) -> AsyncIterator[A]:
        """The answers of a stream verb; raises as ``call``."""
        answers: AsyncIterator[A] = self._handler(caller, verb, request)
        return answers

    def _handler(self, caller: Caller, verb: Verb[Any, Any], request: Request) -> Any:
        known = self.named(verb.name)
        if caller.agent is not None and not known.agents:
            raise Forbidden(
                f"agent {caller.agent} may not call {known.name}",
                "Only a person may",
                "Ask the person who started it",
            )
        return self._handlers[known.name][1](caller, request)
