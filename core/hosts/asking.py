"""Asking the kernels of several hosts: which of them, side by side; what becomes of those that are away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import AgentTopError, KernelUnreachable, UsageError
from . import streams
from .host import Host
from .marks import Marks
from .naming import Names
from .routes import Routes, in_order

if TYPE_CHECKING:
    from ..api import Outcome
    from ..remote import SocketClient

T = TypeVar("T")
R = TypeVar("R", bound=Any)


class Asking:
    """The hosts, their names, and how far each journal is known."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.hosts = list(hosts)
        self._routes = Routes(hosts)
        self._marks = Marks([host.label for host in hosts])
        self._seen: dict[str, int] = {}
        """The furthest place in each journal that anything told of."""

    def _names(self, host: Host) -> Names:
        return self._routes.names[host.label]

    def _saw(self, host: Host, seq: int) -> None:
        self._seen[host.label] = max(seq, self._seen.get(host.label, 0))

    def _mark(self) -> int:
        return self._marks.of(dict.fromkeys(self._routes.hosts, streams.FROM_NOW) | self._seen)

    def _there(self) -> list[Host]:
        """The hosts that can be asked; at least one.

        Raises:
            HostAway: None can.
        """
        there = [host for host in self.hosts if host.there_now]
        if not there:
            raise self.hosts[0].away()
        return there

    def _named(self, label: str) -> Host | None:
        if not label:
            return None
        for host in self.hosts:
            if label in (host.label, host.address.text):
                return host
        raise UsageError(
            f"there is no host {label} here", hint=f"Take one of {', '.join(self._routes.hosts)}"
        )

    def _the(self, host: Host | None, what: str) -> Host:
        """The host that was found, or the only one.

        Raises:
            UsageError: There are several.
        """
        if host := host or self._routes.only:
            return host
        raise UsageError(
            f"it is not said {what}", f"There are several hosts: {', '.join(self._routes.hosts)}",
            "Give one --host only",
        )  # fmt: skip

    async def _one(
        self,
        ref: str,
        ask: Callable[[SocketClient, str], Awaitable[R]],
        name: Callable[[Names, R], R] = lambda names, found: found,
    ) -> R:
        host, bare = await self._routes.split(ref)
        return name(self._names(host), await ask(host.client, bare))

    async def _every(
        self, ask: Callable[[SocketClient, Names], Awaitable[T]], among: set[str] | None = None
    ) -> list[tuple[Host, T]]:
        """The answers of all hosts that are there, side by side; one that is lost meanwhile is left out.

        Raises:
            AgentTopError: None answered, or one refused.
        """
        hosts = [host for host in self._there() if among is None or host.label in among]
        found: dict[str, T] = {}
        lost: list[AgentTopError] = []

        async def of(host: Host) -> None:
            try:
                found[host.label] = await ask(host.client, self._names(host))
            except KernelUnreachable as error:
                lost.append(error)

        await streams.side_by_side(of, hosts)
        if lost and not found:
            raise lost[0]
        return [(host, found[host.label]) for host in hosts if host.label in found]

    async def _lists(
        self, ask: Callable[[SocketClient], Awaitable[list[R]]], name: Callable[[Names, R], R]
    ) -> list[R]:
        found = await self._every(lambda client, names: ask(client))
        return [name(self._names(host), one) for host, ones in found for one in ones]

    async def _refs(self, refs: Sequence[str]) -> dict[str, list[str]]:
        """By host, which agents are asked about; all hosts and no names, where none are named."""
        if not refs:
            return {host.label: [] for host in self.hosts}
        found, wrong = await self._routes.group(refs)
        for error in wrong.values():
            raise error
        return found

    async def _asked(
        self,
        request: Any,
        ask: Callable[[SocketClient, Any], Awaitable[list[R]]],
        name: Callable[[Names, R], R],
    ) -> list[R]:
        asked = await self._refs(request.refs)
        found = await self._every(
            lambda client, names: ask(client, request.model_copy(update={"refs": asked[names.label]})),
            among=set(asked),
        )
        return [name(self._names(host), one) for host, ones in found for one in ones]

    async def _targets(
        self, request: Any, ask: Callable[[SocketClient, Any], Awaitable[T]]
    ) -> list[tuple[Host, T]]:
        """The answers of the hosts that a target means.

        Raises:
            AgentTopError: A reference means none, or a host is away.
        """
        if request.all:
            return await self._every(lambda client, names: ask(client, request))
        asked = await self._refs(request.refs)
        if not asked:
            return [(host, await ask(host.client, request)) for host in self._there()[:1]]
        return [
            (host, await ask(host.client, request.model_copy(update={"refs": asked[host.label]})))
            for host in self.hosts
            if host.label in asked
        ]

    async def _act(
        self, request: Any, ask: Callable[[SocketClient, Any], Awaitable[list[Outcome]]]
    ) -> list[Outcome]:
        """One outcome per agent, in the order of the references; hosts act side by side."""
        if not self._routes.several:
            return await self._alone(request, ask)
        if request.all:
            asked: dict[str, list[str]] = {host.label: [] for host in self.hosts}
            wrong: dict[str, AgentTopError] = {}
        else:
            asked, wrong = await self._routes.group(request.refs)
        done: dict[str, list[Outcome]] = {}

        async def of(host: Host) -> None:
            names, refs = self._names(host), asked[host.label]
            try:
                part = request.model_copy(update={"refs": refs})
                outcomes = await ask(host.client, part)
                done[host.label] = [names.outcome(outcome) for outcome in outcomes]
            except AgentTopError as error:
                done[host.label] = [_failed(ref, error) for ref in names.ids(refs) or [host.label]]

        await streams.side_by_side(of, [host for host in self.hosts if host.label in asked])
        results = [(label, done[label]) for label in asked]
        results += [(ref, [_failed(ref, error)]) for ref, error in wrong.items()]
        return in_order(self._qualified(request.refs, asked, wrong), results)

    def _qualified(
        self, refs: Sequence[str], asked: Mapping[str, list[str]], wrong: Mapping[str, AgentTopError]
    ) -> list[str]:
        """The references as outcomes carry them: with their host."""
        left = {label: list(bare) for label, bare in asked.items()}
        found: list[str] = []
        for ref in refs:
            if ref in wrong:
                found.append(ref)
                continue
            for label, bare in left.items():
                names = self._routes.names[label]
                if bare and bare[0] == names.bare(ref) and (names.owns(ref) or "/" not in ref):
                    found.append(names.id(bare.pop(0)))
                    break
        return found

    async def _alone(
        self, request: Any, ask: Callable[[SocketClient, Any], Awaitable[list[Outcome]]]
    ) -> list[Outcome]:
        (host,) = self.hosts
        names = self._names(host)
        return await ask(
            host.client, request.model_copy(update={"refs": [names.bare(ref) for ref in request.refs]})
        )


def _failed(ref: str, error: AgentTopError) -> Outcome:
    from ..api import Outcome

    return Outcome(ref=ref, error=error.to_dict(), exit_code=error.exit_code)
