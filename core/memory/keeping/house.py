"""The kernel's own model calls: through its own gateway, as an agent of the table that only makes calls.

Embeddings and summaries serve all agents and people, also those that have ended. So they are made by an
agent of their own, ``memory``: it has no process, ``ps --all`` shows what it used, budgets, rate limits, the
kill switch and the journal treat its calls as any other's, and it can be removed (it is made anew when the
next call needs it).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio
import orjson

from ...agents import registry
from ...agents.agent import Agent
from ...agents.spec import AgentSpec
from ...errors import AgentTopError, KernelUnreachable
from ...journal import events as ev
from ..vectors import EmbeddingFailed

if TYPE_CHECKING:
    from ...gateway.providers import Provider
    from ...journal.books import Books

BACKEND = "kernel"
"""No backend has this name: an agent with it has no processes."""
_LONGEST = 64 << 20
"""Bytes of an answer: 64 texts in 8,192 numbers each."""


class House:
    """Asks models on the kernel's behalf.

    Args:
        secret: An agent's secret.
        port: The gateway's, once it is open.
        owner: Whose kernel this is.
    """

    def __init__(
        self,
        books: Books,
        secret: Callable[[str], str],
        port: Callable[[], int],
        providers: Mapping[str, Provider],
        owner: str,
    ) -> None:
        self._books = books
        self._secret = secret
        self._port = port
        self.providers = providers
        self._owner = owner
        self._making = anyio.Lock()

    @staticmethod
    def belongs(agent: Agent) -> bool:
        """Whether this is the agent that makes these calls: nobody can start one of its backend."""
        return agent.spec.backend == BACKEND

    async def agent(self) -> str:
        """The id of the agent that makes these calls."""
        async with self._making:
            fleet = self._books.pending
            found = next((agent for agent in fleet.agents.values() if self.belongs(agent)), None)
            if found is not None:
                return found.id
            id = registry.new_id(fleet.agents)
            spec = AgentSpec(name=registry.free_name(fleet, "memory"), backend=BACKEND)
            await self._books.commit(
                ev.AgentCreated(agent=id, spec=spec, owner=self._owner),
                ev.RunStarting(agent=id, run=1),
                ev.RunExited(agent=id, run=1, code=0, detail="makes the kernel's own calls"),
            )
            return id

    async def post(self, provider: str, path: str, body: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Ask a provider; the answer's JSON.

        Raises:
            EmbeddingFailed: It is not there, refuses, or answers something else; or the budget does.
            JournalUnavailable: The kernel takes no calls now.
        """
        target = f"/a/{self._secret(await self.agent())}/{provider}{path}"
        try:
            with anyio.fail_after(seconds):
                status, raw = await self._exchange(target, orjson.dumps(body))
        except TimeoutError as error:
            raise _failed(provider, f"It did not answer within {seconds:g} s") from error
        except (OSError, KernelUnreachable) as error:
            raise _failed(provider, str(error)) from error
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise _failed(provider, f"It answered {status}, and no JSON") from error
        if status != 200 or not isinstance(answer, dict):
            raise _failed(provider, _why(status, answer))
        return answer

    async def _exchange(self, target: str, body: bytes) -> tuple[int, bytes]:
        from ...http.connection import Connection

        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(longest=_LONGEST), "127.0.0.1", self._port()
        )
        try:
            status = await connection.send("POST", target, body, "application/json")
            return status, await connection.body()
        finally:
            connection.close()


def _failed(provider: str, why: str) -> AgentTopError:
    return EmbeddingFailed(f"{provider} gave no answer", why, "See the calls of the agent memory")


def _why(status: int, answer: object) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    text = error.get("message") if isinstance(error, dict) else None
    return f"It answered {status}" + (f": {text[:300]}" if isinstance(text, str) else "")
