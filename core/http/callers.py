"""Who is at the other end of a control connection, and what they may do.

A connection whose process belongs to an agent's tree has that agent's rights, not the owner's: it
may look at itself and its descendants and start children. (Same-user agents that want to get around
this can; containing them is the business of containers and sandboxes.)
"""

from __future__ import annotations

import re
from pathlib import Path

import anyio.to_thread

from ..api import RunRequest
from ..backend import MARKER
from ..client import KernelClient
from ..errors import Forbidden, NoSuchAgent
from ..uds import Peer

_MARKED = re.compile(rb"(?:\A|\0)" + MARKER.encode() + rb"=([A-Za-z0-9_-]{1,64})\.\d+(?:\0|\Z)")
_GROUP = re.compile(r"(?:\A|[/:-])([A-Za-z0-9]{4,64})\.\d+(?=/|\Z)")
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
            markers = await anyio.to_thread.run_sync(markers_of, self.peer.pid)
            self._caller = await _identify(client, markers)
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
        spec = request.spec
        if spec.parent is not None:
            await self.must_own(spec.parent)
        if spec.pass_keys:
            raise self._forbidden("an agent cannot hand out provider keys")
        if spec.nice < 0:
            raise self._forbidden("an agent cannot raise its children's priority")
        parent = spec.parent or self.agent
        return request.model_copy(update={"spec": spec.model_copy(update={"parent": parent})})

    def _forbidden(self, why: str) -> Forbidden:
        return Forbidden(
            f"agent {self.agent} may not do this", why, "Do it from a terminal that is not inside an agent"
        )


def markers_of(pid: int) -> list[str] | None:
    """Ids of agents whose tree ``pid`` seems to be in, from environments and cgroups of it and its ancestors.

    ``None`` when the process has ended.
    """
    found: list[str] = []
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


def _marks(folder: Path) -> list[str]:
    """What one process carries; another user's environment cannot be read and is not ours."""
    found: list[str] = []
    try:
        found += [match.decode() for match in _MARKED.findall((folder / "environ").read_bytes())]
        for line in (folder / "cgroup").read_text().splitlines():
            found += _GROUP.findall(line.split(":", 2)[2])
    except OSError:
        return found
    return found


async def _identify(client: KernelClient, markers: list[str] | None) -> Caller:
    if markers is None:
        raise Forbidden("it cannot be told who is calling", "the process that connected has ended")
    for marker in dict.fromkeys(markers):
        try:
            detail = await client.inspect(marker)
        except NoSuchAgent:
            continue  # another kernel's agent (a developer's own), or a look-alike
        if detail.info.id == marker:
            return Caller(client, marker)
    return Caller(client)
