"""Freezing a container by ``docker pause``, and proving it by the freezer's own word.

``docker pause`` is tried first, so that dockerd and its other users know. But runc, which does it, gives
up after a fraction of a second, and lets the processes run again while it tries: the version 1 freezer
has to wait until every process has had a moment of CPU, and under a limit on CPU or on a busy machine
that takes longer. Then the freezer is told here, and waited for; dockerd calls such a container running.
"""

from __future__ import annotations

import anyio
import anyio.to_thread

from agenttop.core.backend import Frozen, RunRef
from agenttop.core.clock import Clock
from agenttop.core.errors import BackendError

from .docker_cgroup import Group
from .docker_engine import EngineRefused
from .docker_find import Containers

#: Seconds in which ``docker pause`` is tried again, and those for the freezer's word.
_TRYING = 1.0
_PATIENCE = 5.0
_DOING = "cannot freeze"
#: What runc says when it gives up.
_GAVE_UP = "unable to freeze"


async def freeze(containers: Containers, clock: Clock, ref: RunRef, group: Group | None) -> Frozen:
    """Pause the container; the result says of how many processes it is proven.

    Args:
        group: The container's cgroups; without them dockerd's word is all there is.

    Raises:
        BackendError: It has ended, or dockerd refused.
    """
    began = clock.monotonic()
    info = await containers.live(ref, _DOING)
    if not info["State"]["Paused"] and not (group is not None and group.frozen()):
        await _pause(containers, clock, ref, group)
    if group is None:
        paused = (await containers.live(ref, _DOING))["State"]["Paused"]
        total = len(await containers.top(ref))
        return Frozen(total if paused else 0, total, "docker", clock.monotonic() - began)
    await _until_frozen(group)
    total = len(await anyio.to_thread.run_sync(group.pids))
    frozen = total if group.frozen() else 0
    return Frozen(frozen, total, "docker", clock.monotonic() - began)


async def thaw(containers: Containers, ref: RunRef, group: Group | None) -> None:
    """Let it run again, whoever froze it; harmless if it does.

    Raises:
        BackendError: It has ended, or dockerd refused.
    """
    doing = "cannot thaw"
    info = await containers.live(ref, doing)
    if info["State"]["Paused"]:
        await containers.post(ref, "unpause", doing)
    elif group is not None and group.told() and not await anyio.to_thread.run_sync(group.thaw):
        raise BackendError(doing, "Its freezer cannot be written by this user")


async def _pause(containers: Containers, clock: Clock, ref: RunRef, group: Group | None) -> None:
    end = clock.monotonic() + _TRYING
    while True:
        try:
            return await containers.post(ref, "pause", _DOING)
        except EngineRefused as refusal:
            if _GAVE_UP not in refusal.why:
                raise
            if clock.monotonic() > end:
                if group is None or not await anyio.to_thread.run_sync(group.freeze):
                    raise
                return None


async def _until_frozen(group: Group) -> None:
    with anyio.move_on_after(_PATIENCE):
        while not group.frozen():  # noqa: ASYNC110 - the freezer's file has no event to wait for
            await anyio.sleep(0.005)
