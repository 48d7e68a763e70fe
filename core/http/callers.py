"""Who is at the other end of a control connection, and what they may do.

A connection whose process belongs to an agent's tree has that agent's rights, not the owner's: it
may look at itself and its descendants and start children. (Same-user agents that want to get around
this can; containing them is the business of containers and sandboxes.)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread

from ..api import RunRequest
from ..backend import MARKER, state_name
from ..client import KernelClient
from ..errors import Forbidden, NoSuchAgent
from ..uds import Peer

_MARKED = re.compile(
    rb"(?:\A|\0)" + MARKER.encode() + rb"=(?:([0-9a-f]+)/)?([A-Za-z0-9_-]{1,64})\.\d+(?=\0|\Z)"
)
_PORT = re.compile(rb"(?:\A|\0)AGENTTOP_URL=http://[^/\0]*:(\d+)/")
_GROUP = re.compile(r"/agenttop-([0-9a-f]+)/([A-Za-z0-9_-]{1,64})\.\d+(?=/|\Z)")
_DEPTH = 64
"""How many ancestors are looked at."""


class Connection:
    """One accepted connection: its peer, and the caller once that was found out."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._caller: Caller | None = None

    async def caller(self, client: KernelClient) -> Caller:
        """Find out once per connection who this is.

        Raises:
            Forbidden: The process that connected has ended, so that nobody can tell.
        """
        if self._caller is None:
            marks = await anyio.to_thread.run_sync(marks_of, self.peer.pid)
            self._caller = await _identify(client, marks)
        return self._caller


class Caller:
    """The owner, or one of the owner's agents."""

    def __init__(self, client: KernelClient, agent: str | None = None) -> None:
        self._client = client
        self.agent = agent

    def must_be_owner(self) -> None:
        """Raise unless a person calls.

        Raises:
            Forbidden: An agent calls.
        """
        if self.agent is not None:
            raise self._forbidden("an agent may look at itself and its children, and start children")

    async def must_own(self, ref: str) -> None:
        """Raise unless ``ref`` is the caller itself or a descendant, or a person calls.

        Raises:
            Forbidden: An agent asks about a stranger.
            NoSuchAgent: Nobody has this reference.
        """
        if self.agent is not None:
            found = (await self._client.inspect(ref)).info.id
            if found not in await self.family():
                raise self._forbidden(f"{ref} is neither it nor its child")

    async def family(self) -> frozenset[str]:
        """The calling agent's id and those of all its descendants."""
        assert self.agent is not None
        children: dict[str, list[str]] = {}
        for info in await self._client.agents(all=True, pids=False):
            if info.parent:
                children.setdefault(info.parent, []).append(info.id)
        found, queue = {self.agent}, [self.agent]
        while queue:
            for child in children.get(queue.pop(), ()):
                if child not in found:
                    found.add(child)
                    queue.append(child)
        return frozenset(found)

    async def child(self, request: RunRequest) -> RunRequest:
        """The request as this caller may make it: an agent's is a child of its own, without keys.

        Raises:
            Forbidden: It asks for more than an agent may have.
        """
        if self.agent is None:
            return request
        own = (await self._client.inspect(self.agent)).spec
        if own is not None and own.sandbox:
            # Whoever is started is started by the kernel, outside, and in a folder of its choice.
            raise self._forbidden("an agent in a sandbox starts no others: they could write where it may not")
        spec = request.spec
        if spec.parent is not None:
            await self.must_own(spec.parent)
        if spec.pass_keys:
            raise self._forbidden("an agent cannot hand out provider keys")
        if spec.nice < 0:
            raise self._forbidden("an agent cannot raise its children's priority")
        team = spec.labels.get("team")
        if team is not None and (own is None or team != own.labels.get("team")):
            raise self._forbidden(f"it is not of the team {team!r}, so its children are not either")
        parent = spec.parent or self.agent
        return request.model_copy(update={"spec": spec.model_copy(update={"parent": parent})})

    def _forbidden(self, why: str) -> Forbidden:
        return Forbidden(
            f"agent {self.agent} may not do this", why, "Do it from a terminal that is not inside an agent"
        )


class Mark(NamedTuple):
    """A sign that a process belongs to an agent: of which kernel, as far as it tells."""

    agent: str
    port: int | None = None
    """That kernel's gateway, from the environment."""
    state: str | None = None
    """The hash of that kernel's state folder, from the mark or from the name of its cgroups."""


def marks_of(pid: int) -> list[Mark] | None:
    """What environments and cgroups of a process and its ancestors tell; ``None`` when it has ended."""
    found: list[Mark] = []
    for depth in range(_DEPTH):
        folder = Path(f"/proc/{pid}")
        try:
            stat = (folder / "stat").read_bytes()
        except OSError:
            return None if depth == 0 else found
        found += _marks(folder)
        pid = int(stat[stat.rindex(b")") + 2 :].split()[1])
        if pid <= 1:
            break
    return found


def _marks(folder: Path) -> list[Mark]:
    """What one process carries; another user's environment cannot be read, and such a one is not ours."""
    found: list[Mark] = []
    try:
        environ = (folder / "environ").read_bytes()
        port = _PORT.search(environ)
        number = int(port[1]) if port else None
        found += [
            Mark(match[2].decode(), port=number, state=match[1].decode() if match[1] else None)
            for match in _MARKED.finditer(environ)
        ]
        for line in (folder / "cgroup").read_text().splitlines():
            found += [Mark(agent, state=state) for state, agent in _GROUP.findall(line)]
    except OSError:
        return found
    return found


async def _identify(client: KernelClient, marks: list[Mark] | None) -> Caller:
    if marks is None:
        raise Forbidden("it cannot be told who is calling", "The process that connected has ended")
    if not marks:
        return Caller(client)
    status = await client.status()
    folder = state_name(Path(status.state_dir))
    for mark in dict.fromkeys(marks):
        # Ids are short: another kernel's agent (a developer's own, say) may have one of ours.
        if mark.port not in (None, status.port) or mark.state not in (None, folder):
            continue
        try:
            detail = await client.inspect(mark.agent)
        except NoSuchAgent:
            continue
        if detail.info.id == mark.agent:
            return Caller(client, mark.agent)
    return Caller(client)
