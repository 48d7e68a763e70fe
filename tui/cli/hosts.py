"""``--host``: a command or the screen on kernels of other machines. Imported only where a host is named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from agenttop.core.errors import AgentTopError, UsageError
from agenttop.core.hosts import address, dial
from agenttop.core.hosts.client import HostsClient
from agenttop.core.hosts.host import Host
from agenttop.core.paths import Paths

from ..main import complain
from . import printing
from .kernel_call import checked

if TYPE_CHECKING:
    from agenttop.core.client import KernelClient

T = TypeVar("T")

#: Commands that are about the machine they run on: they run over there, as if typed in a shell.
THERE = frozenset(("kernel", "doctor"))
#: Commands that have no business on another machine.
HERE = frozenset(("demo", "completion"))


class Hosts:
    """The named hosts, called while the terminal is still free to be asked on.

    Raises:
        UsageError: One cannot be a host.
        AgentTopError: None of them can be reached; the first one's reason.
    """

    def __init__(self, names: Sequence[str], paths: Paths) -> None:
        self._paths = paths
        self._reach = address.reach(paths)
        self._addresses = address.parse(names)
        away = [one for one in self._addresses if not one.local]
        results = dial.call_all(away, self._reach, terminal=dial.has_terminal())
        self._first = dict(zip((one.label for one in away), results, strict=True))
        self.errors = [result for result in results if isinstance(result, AgentTopError)]
        if len(self.errors) == len(self._addresses):
            raise self.errors[0]

    def client(self) -> HostsClient:
        """A client of them; the first one takes over what was called."""
        first, self._first = self._first, {}
        return HostsClient(
            [Host(one, self._paths, self._reach, first=first.get(one.label)) for one in self._addresses]
        )

    def close(self) -> None:
        """End the calls that no client took over."""
        for result in self._first.values():
            if isinstance(result, dial.Called):
                dial.end(result.process)


def call(names: Sequence[str], work: Callable[[KernelClient], Awaitable[T]]) -> tuple[T, bool]:
    """Run ``work`` with a client of these hosts; also whether all of them were there.

    Hosts that are away are told on stderr, as are lines that are lost and come back meanwhile.

    Raises:
        AgentTopError: What a kernel said, or why none can be reached.
    """
    import anyio

    hosts = Hosts(names, Paths.from_environ())

    async def body() -> tuple[T, bool]:
        async with hosts.client() as client:
            if len(client.hosts) == 1 and (absence := client.hosts[0].absence) is not None:
                raise absence.error
            away = [host for host in client.hosts if host.absence is not None]
            for host in away:
                complain(host.away())
            for host in client.hosts:
                host.listen(_Telling(host).changed)
            return await work(client), not away

    try:
        return anyio.run(body)
    finally:
        hosts.close()


class _Telling:
    """Says on stderr when a host goes and comes back while a command runs."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._away = host.absence is not None

    def changed(self) -> None:
        away = self._host.absence is not None
        if away != self._away:
            self._away = away
            printing.note(str(self._host.away()) if away else f"{self._host.label} is back")


def ask(names: Sequence[str], target: str, body: Any) -> tuple[Any, bool]:
    """One question of the control API to these hosts, as plain JSON; lists of several hosts are one.

    Raises:
        UsageError: This can be asked of one host at a time only.
        AgentTopError: What a kernel said, or why none can be reached.
    """

    async def question(client: KernelClient) -> Any:
        assert isinstance(client, HostsClient)
        if len(client.hosts) == 1:
            (host,) = client.hosts
            if not host.address.local and isinstance(body, dict) and "environ" in body:
                # It speaks of places on this machine.
                return await host.client.plain(target, {**body, "environ": {}})
            return await host.client.plain(target, body)
        return await _several(client, target, body)

    return call(names, question)


async def _several(client: HostsClient, target: str, body: Any) -> Any:
    from agenttop.core.api import CallsRequest, TranscriptRequest, UsageRequest

    parts = urlsplit(target)
    said = {name: values[-1] == "true" for name, values in parse_qs(parts.query).items()}
    match parts.path:
        case "/v1/agents":
            found: Sequence[Any] = await client.agents(**said)
        case "/v1/approvals":
            found = await client.approvals()
        case "/v1/budgets":
            found = await client.budgets()
        case "/v1/providers":
            found = await client.providers()
        case "/v1/calls":
            found = await client.model_calls(CallsRequest.model_validate(body))
        case "/v1/usage":
            found = await client.usage(UsageRequest.model_validate(body))
        case "/v1/transcripts":
            report = await client.transcripts(TranscriptRequest.model_validate(body))
            return report.model_dump(mode="json")
        case path if path.startswith("/v1/call/"):
            return await _called(client, path.removeprefix("/v1/call/"), body)
        case _:
            raise UsageError(
                "this is asked of one host at a time", "Several were named", "Give one --host only"
            )
    return [one.model_dump(mode="json") for one in found]


async def _called(client: KernelClient, name: str, body: Any) -> Any:
    """A verb of the bus or of memory: its agent says which host is meant."""
    from agenttop.core.api import bus, memory, selves
    from agenttop.core.api.verbs import Verb

    verbs: list[Verb[Any, Any]] = [*bus.VERBS, *memory.VERBS, *selves.VERBS]
    verb = next(verb for verb in verbs if verb.name == name)
    answer = await client.call(verb, checked(verb.request, **body))
    return verb.answer.dump_python(answer, mode="json")


def run_there(names: Sequence[str], arguments: Sequence[str]) -> int:
    """Run ``agenttop ARGUMENTS`` on the one named host, over ssh; gives its exit status.

    Raises:
        UsageError: Several hosts are named, or this machine.
        AgentTopError: There is no ssh.
    """
    places = address.parse(names)
    if len(places) != 1 or places[0].local:
        raise UsageError(
            f"`agenttop {arguments[0]}` is about one machine", f"Named are {', '.join(names)}",
            "Give one --host, or none for this machine",
        )  # fmt: skip
    sys.stdout.flush()
    asks = sys.stdin.isatty() and sys.stdout.isatty()
    argv = address.agenttop_argv(places[0], address.reach(Paths.from_environ()), arguments, terminal=asks)
    try:
        return subprocess.run(argv, check=False).returncode
    except OSError as error:
        raise AgentTopError(
            f"{argv[0]} cannot be run", error.strerror or str(error), "Install OpenSSH's client"
        ) from error
