"""What the canned fleet says about the bus and about memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from inspect import isawaitable
from typing import Any

from agenttop.core.api.verbs import A, Q, Verb
from agenttop.core.errors import UsageError

from .sample_bus import SampleBus


class SampleSyscalls:
    """``answers[verb.name]`` is what a verb answers: a value, or a function of the request."""

    calls: list[tuple[str, Any]]
    _alive: Callable[[], None]

    def __init__(self) -> None:
        self.bus = SampleBus()
        self.answers: dict[str, Any] = self.bus.answers()

    async def call(self, verb: Verb[Q, A], request: Q) -> A:
        self._alive()
        self.calls.append((verb.name, request))
        answer = self._answer(verb, request)
        found: A = await answer if isawaitable(answer) else answer
        return found

    async def follow(self, verb: Verb[Q, A], request: Q) -> AsyncIterator[A]:
        self._alive()
        self.calls.append((verb.name, request))
        async for answer in self._answer(verb, request):
            yield answer

    def _answer(self, verb: Verb[Q, A], request: Q) -> Any:
        if verb.name not in self.answers:
            raise UsageError(f"the canned fleet does not answer {verb.name}")
        answer = self.answers[verb.name]
        return answer(request) if callable(answer) else answer
