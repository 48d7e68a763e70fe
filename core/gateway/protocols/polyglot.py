"""A provider's protocol together with the other dialects it may serve beside its own.

Anthropic and Google answer Chat Completions too, vLLM and LiteLLM answer Messages: what is metered must
not depend on which of them an agent asks. The operation tells the dialect; credentials stay the home's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..desk import RefusalKind
from ..http1 import Header
from .base import AnswerReader, RequestFacts, StreamFilter, WireProtocol


class Polyglot(WireProtocol):
    """``home`` for everything of its own, ``others`` for what is only theirs."""

    def __init__(self, home: WireProtocol, others: Sequence[WireProtocol]) -> None:
        self.name = home.name
        self.home = home
        self._dialects = (home, *(dialect for dialect in others if dialect is not home))
        self._of = {name: dialect for dialect in self._dialects for name in dialect.operations}
        self.operations = frozenset(self._of)
        # A client may bring a credential in another dialect's header: it goes nowhere either.
        self.credential_headers = frozenset().union(*(d.credential_headers for d in self._dialects))
        self.credential_queries = home.credential_queries

    def operation(self, method: str, path: str) -> str | None:
        """The first dialect's that knows it."""
        found = (dialect.operation(method, path) for dialect in self._dialects)
        return next((operation for operation in found if operation is not None), None)

    def _dialect(self, operation: str) -> WireProtocol:
        return self._of.get(operation, self.home)

    def read_request(
        self, operation: str, headers: Sequence[Header], body: bytes, path: str = ""
    ) -> RequestFacts:
        """See the base class."""
        return self._dialect(operation).read_request(operation, headers, body, path)

    def reader(
        self,
        operation: str,
        status: int,
        headers: Mapping[bytes, bytes],
        *,
        event_bytes: int,
        answer_bytes: int,
        facts: RequestFacts | None = None,
    ) -> AnswerReader:
        """See the base class."""
        return self._dialect(operation).reader(
            operation, status, headers, event_bytes=event_bytes, answer_bytes=answer_bytes, facts=facts
        )

    def credentials(self, key: str) -> list[Header]:
        """The home's."""
        return self.home.credentials(key)

    def request_id(self, headers: Mapping[bytes, bytes]) -> str | None:
        """The home's."""
        return self.home.request_id(headers)

    def error_body(self, status: int, message: str) -> bytes:
        """The home's."""
        return self.home.error_body(status, message)

    def refusal(self, operation: str, kind: RefusalKind, message: str) -> tuple[int, bytes]:
        """See the base class."""
        return self._dialect(operation).refusal(operation, kind, message)

    def keep_alive(self, operation: str, facts: RequestFacts, target: bytes) -> tuple[bytes, ...]:
        """See the base class."""
        return self._dialect(operation).keep_alive(operation, facts, target)

    def error_event(self, operation: str, status: int, message: str) -> bytes:
        """See the base class."""
        return self._dialect(operation).error_event(operation, status, message)

    def refuses_addition(self, status: int) -> bool:
        """The same for all."""
        return self.home.refuses_addition(status)

    def stream_filter(self, operation: str, facts: RequestFacts) -> StreamFilter | None:
        """See the base class."""
        return self._dialect(operation).stream_filter(operation, facts)
