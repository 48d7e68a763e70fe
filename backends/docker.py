"""Agents in containers, by dockerd: hardened, labelled, proven, and outliving the kernel.

``network`` decides what a container reaches: ``none`` nothing; ``gateway`` the kernel's gateway on its
own loopback and nothing else; ``open`` that and docker's bridge. The door is a listening socket that
the kernel opens inside the container's network namespace, which takes root; for those who are not, a
sidecar container opens it and hands it over.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import anyio.abc
import anyio.to_thread

from agenttop.core.backend import (
    Adoption,
    Backend,
    BackendContext,
    Capabilities,
    Check,
    Chunk,
    Exit,
    Frozen,
    Killed,
    Launch,
    Process,
    RunRef,
    Sample,
    SocketPeer,
    Step,
)
from agenttop.core.errors import BackendError, BackendUnavailable
from agenttop.core.nice import weight

from . import docker_doctor, docker_door, docker_freeze, output
from .docker_cgroup import Group, Identity, send
from .docker_door import Opener
from .docker_engine import Engine, EngineRefused
from .docker_find import Containers, is_live
from .docker_run import Run, exit_of, ref_of
from .docker_start import Start
from .docker_stop import Stop

if TYPE_CHECKING:
    from aiodocker.stream import Stream as Connection

_WAIT_BACKOFF = (0.1, 5.0)
_SPOOL_SECONDS = 30.0


class DockerBackend(Backend):
    """Runs agents in containers.

    Settings: ``host`` (a dockerd's address, default: DOCKER_HOST or local); ``door = "sidecar"`` opens doors
    by a sidecar container even where the kernel could enter the containers' namespaces itself.
    """

    name: ClassVar[str] = "docker"

    def __init__(self, context: BackendContext) -> None:
        super().__init__(context)
        host = context.settings.get("host")
        self._engine = Engine(str(host) if host else None)
        self._runs: dict[str, Run] = {}
        self._tasks: anyio.abc.TaskGroup | None = None
        self._idle: anyio.Event | None = None
        self._containers = Containers(self._engine, context.state)
        self._opener = Opener(
            self._engine, self._containers, context, sidecar=context.settings.get("door") == "sidecar"
        )

    # --- what is there ---------------------------------------------------------------------------

    async def check(self) -> list[Check]:
        """dockerd's version and cgroups, whether it may be used, and whether the gateway network works."""
        try:
            info = await self._engine.info()
        except BackendError as error:
            return [Check("dockerd", "missing", error.why or error.what, error.hint)]
        return docker_doctor.checks(info, self._engine.host, self._opener)

    async def capabilities(self) -> Capabilities:
        """What dockerd here offers."""
        info = await self._engine.info()
        network = ("gateway", "open", "none") if self._opener.possible else ("open", "none")
        return Capabilities(
            freeze=("docker",), limits=frozenset(docker_doctor.limits(info)), stdin=True, network=network
        )

    # --- start, adopt, wait ----------------------------------------------------------------------

    async def start(self, launch: Launch) -> RunRef:
        """Create and start the run's container; one that is there already is taken, never doubled."""
        doing = f"cannot start {launch.spec.name}"
        if not launch.spec.image:
            raise BackendError(doing, "The docker backend needs an image", "Give one with --image")
        if launch.spec.network == "gateway" and not self._opener.possible:
            raise BackendError(
                doing,
                f"Network gateway needs a dockerd on this machine, and {self._engine.host} is not",
                "Use network open or none, or a local dockerd",
            )
        found = await self._containers.find(launch)
        if found is not None:
            if found["State"]["Status"] != "created":
                return (await self._take(launch, found)).ref
            await self._containers.remove(found["Id"])  # a kernel died between create and start
        start = Start(self._engine, self._containers, self.context.state, launch, self._take)
        run = await start(gated=launch.spec.network != "none" and self._opener.possible)
        return run.ref

    async def adopt(self, launch: Launch, ref: RunRef | None) -> Adoption:
        """Find the run's container by its labels; one that was created and never started is removed."""
        found = await self._containers.find(launch)
        if found is None:
            if ref is None:
                return Adoption("never_started")
            return Adoption("ended", ref, Exit(detail="the container was removed"))
        if found["State"]["Status"] == "created":
            await self._containers.remove(found["Id"])
            return Adoption("never_started")
        run = await self._take(launch, found)
        if is_live(found):
            return Adoption("alive", run.ref)
        await self._spooled(run.ref)
        return Adoption("ended", run.ref, exit_of(found))

    async def wait(self, ref: RunRef) -> Exit:
        """Wait through dockerd's absences; its container's exit status as dockerd tells it."""
        lost = False
        pause, longest = _WAIT_BACKOFF
        while True:
            try:
                info = await self._containers.inspect(ref, "cannot wait")
                if not is_live(info):
                    break
                path = f"containers/{ref['container']}/wait"
                await self._engine.json("POST", path, "cannot wait", patience=None)
                pause = _WAIT_BACKOFF[0]
            except BackendUnavailable:
                lost = True
                await anyio.sleep(pause)
                pause = min(longest, pause * 2)
            except EngineRefused as refusal:
                if refusal.answer != 404:
                    raise
                return Exit(detail="the container was removed")
        ended = exit_of(info)
        unexplained = ended.code != 0 and not ended.detail
        # dockerd, when it stops, still answers what it was asked before, and then ends its containers.
        lost = lost or (unexplained and not await self._engine.listens())
        await self._spooled(ref)
        return ended._replace(detail="dockerd stopped") if lost and unexplained else ended

    # --- look ------------------------------------------------------------------------------------

    async def processes(self, ref: RunRef) -> list[Process]:
        """From the container's cgroup; where that cannot be read, from ``docker top``."""
        group = await self._cgroup(ref)
        if group is not None:
            return await anyio.to_thread.run_sync(group.processes)
        try:
            info = await self._containers.inspect(ref, "cannot list processes")
            return await self._containers.top(ref) if is_live(info) else []
        except EngineRefused:
            return []

    async def owns(self, ref: RunRef, peer: SocketPeer) -> bool | None:
        """A container on the network ``gateway`` speaks through its own door and no other."""
        own = docker_door.key(ref["run"])
        if peer.door or self.context.doors.has(own):
            return peer.door == own
        return None

    async def sample(self, refs: Mapping[str, RunRef]) -> dict[str, Sample]:
        """From kept descriptors of cgroup files; dockerd is not asked."""
        groups: dict[str, Group] = {}
        for key, ref in refs.items():
            run = self._runs.get(ref["container"])
            group = run.group if run is not None and run.group is not None else await self._cgroup(ref)
            if group is not None:
                groups[key] = group
        return await anyio.to_thread.run_sync(_sample_all, groups)

    async def pids(self, refs: Mapping[str, RunRef]) -> dict[str, list[int]]:
        """From the containers' cgroups; where those cannot be read, dockerd is asked one by one."""
        groups: dict[str, Group] = {}
        others: dict[str, RunRef] = {}
        for key, ref in refs.items():
            run = self._runs.get(ref["container"])
            group = run.group if run is not None and run.group is not None else await self._cgroup(ref)
            if group is not None:
                groups[key] = group
            else:
                others[key] = ref
        found = await anyio.to_thread.run_sync(_pids_of_all, groups)
        return {**found, **(await super().pids(others) if others else {})}

    # --- control ---------------------------------------------------------------------------------

    async def freeze(self, ref: RunRef) -> Frozen:
        """``docker pause``, and the freezer's own word for it."""
        return await docker_freeze.freeze(self._containers, self.context.clock, ref, await self._cgroup(ref))

    async def thaw(self, ref: RunRef) -> None:
        """``docker unpause``, or the freezer where that was told directly."""
        await docker_freeze.thaw(self._containers, ref, await self._cgroup(ref))

    async def signal(self, ref: RunRef, signum: int) -> int:
        """To the main program itself where this user may, else through dockerd (and the init)."""
        info = await self._containers.live(ref, "cannot signal")
        group = await self._cgroup(ref)
        main = _main(await anyio.to_thread.run_sync(group.processes), info) if group is not None else None
        if main is not None:
            try:
                return int(send(main, signum))
            except PermissionError:
                pass  # dockerd may
        await self._containers.post(ref, "kill", "cannot signal", signal=str(signum))
        return 1

    async def stop(
        self, ref: RunRef, *, grace: float, on_step: Callable[[Step], None] | None = None
    ) -> Killed:
        """See ``docker_stop``. Works without dockerd where the processes may be signalled directly."""
        group = await self._cgroup(ref)
        info: dict[str, Any] | None = None
        try:
            info = await self._containers.live(ref, "cannot stop")
        except BackendUnavailable:
            if group is None:
                raise
        init = int(ref["pid"]) if info is None or _has_init(info) else -1
        stop = Stop(self._engine, self.context.clock, ref["container"], ref["name"], group, init, on_step)
        return await stop.run(info, grace)

    async def write(self, ref: RunRef, data: bytes | None) -> None:
        """To the container's stdin, with dockerd's back-pressure."""
        run = self._runs.get(ref["container"])
        if run is None or run.stdin is None:
            raise BackendError(
                "cannot write to stdin", "The agent was started without one", "Set stdin = true"
            )
        await self._containers.live(ref, "cannot write to stdin")
        await run.stdin.write(data)

    async def renice(self, ref: RunRef, nice: int) -> None:
        """CPU shares by ``docker update``, so that dockerd knows them too."""
        await self._containers.live(ref, "cannot renice")
        path = f"containers/{ref['container']}/update"
        await self._engine.json("POST", path, "cannot renice", body={"CpuShares": weight(nice)})

    # --- output ----------------------------------------------------------------------------------

    def output(
        self, launch: Launch, offsets: Mapping[str, int] | None = None, *, follow: bool = False
    ) -> AsyncIterator[Chunk]:
        """From the copy in the run's folder. dockerd passes output on by lines (or 16 kB without one)."""
        runs = (run for run in self._runs.values() if run.ref["run"] == launch.marker)
        run = next(runs, None) if follow else None
        ended = run.spool.done.is_set if run is not None else _yes
        return output.read(launch.folder, offsets, follow=follow, ended=ended)

    async def trim(self, launch: Launch) -> None:
        """Hold the copy to the spec; dockerd rotates its own."""
        run = next((run for run in self._runs.values() if run.ref["run"] == launch.marker), None)
        async with run.spool.writing if run is not None else contextlib.nullcontext():
            await anyio.to_thread.run_sync(_trim, launch, self.context.clock.time())

    # --- end -------------------------------------------------------------------------------------

    async def forget(self, launch: Launch, ref: RunRef | None) -> None:
        """Remove the ended run's container, its door and what the holder keeps for it.

        Raises:
            BackendError: It still runs.
            BackendUnavailable: dockerd is away; ask again.
        """
        await self.context.doors.remove(docker_door.key(launch.marker))
        found = await self._containers.find(launch)
        if found is not None:
            if is_live(found):
                raise BackendError(
                    f"cannot remove the container of {launch.spec.name}", "It still runs", "Kill it first"
                )
            run = self._runs.get(found["Id"]) or self._run(launch, found)
            await run.spool.drain()
            await self._containers.remove(found["Id"])
            await run.forget()
            self._runs.pop(found["Id"], None)

    async def run(self) -> None:
        """Copies the output of every live container until cancelled."""
        idle = self._idle = anyio.Event()
        try:
            async with anyio.create_task_group() as self._tasks:
                for run in self._runs.values():
                    self._tasks.start_soon(run.spool.follow)
                await anyio.sleep_forever()
        finally:
            self._tasks = None
            idle.set()

    async def close(self) -> None:
        """Close every connection; containers, doors and stdins stay."""
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()
        if self._idle is not None:
            await self._idle.wait()
        for run in self._runs.values():
            await run.close()
        self._runs.clear()
        await self._engine.close()

    # --- inside ----------------------------------------------------------------------------------

    async def _take(self, launch: Launch, info: dict[str, Any], live: Connection | None = None) -> Run:
        """Make this container a run of this kernel: its door, its output."""
        if is_live(info):
            await self._opener.open(launch, info)
        run = self._runs.get(info["Id"])
        if run is None:
            run = self._runs[info["Id"]] = self._run(launch, info)
            if live is not None:
                run.spool.watch(live)
            if self._tasks is not None:
                self._tasks.start_soon(run.spool.follow)
        return run

    def _run(self, launch: Launch, info: dict[str, Any]) -> Run:
        ref = ref_of(info)

        async def running() -> bool:
            return is_live(await self._containers.inspect(ref, "cannot read a container's output"))

        return Run(self._engine, launch, ref, self.context.doors, running)

    async def _cgroup(self, ref: RunRef) -> Group | None:
        """The run's cgroups while it lives; a path with the container's id in it is the proof."""
        run = self._runs.get(ref["container"])
        if run is not None and run.group is not None:
            return run.group if run.group.exists() else None
        group = await anyio.to_thread.run_sync(Group.of, int(ref["pid"]), ref["container"])
        if run is not None:
            run.group = group
        return group

    async def _spooled(self, ref: RunRef) -> None:
        """Return when the ended run's output was copied, by its follower or here."""
        run = self._runs.get(ref["container"])
        if run is None:
            return
        if self._tasks is None:
            await run.spool.follow()
            return
        with anyio.move_on_after(_SPOOL_SECONDS):
            await run.spool.done.wait()


def _has_init(info: Mapping[str, Any]) -> bool:
    return bool(info["HostConfig"].get("Init")) or str(info["Path"]).startswith("/.agenttop/")


def _main(processes: list[Process], info: Mapping[str, Any]) -> Identity | None:
    """The agent's own program: the init's eldest child, or the first process where there is no init."""
    first = int(info["State"]["Pid"])
    for one in processes:
        if (one.ppid if _has_init(info) else one.pid) == first:
            return Identity(one.pid, one.start_time)
    return None


def _sample_all(groups: dict[str, Group]) -> dict[str, Sample]:
    return {key: sample for key, group in groups.items() if (sample := group.sample()) is not None}


def _pids_of_all(groups: dict[str, Group]) -> dict[str, list[int]]:
    return {key: pids for key, group in groups.items() if (pids := group.pids())}


def _yes() -> bool:
    return True


def _trim(launch: Launch, now: float) -> None:
    limits = launch.spec.output
    written = [path.stat().st_mtime for name in output.STREAMS if (path := launch.folder / name).exists()]
    output.trim(launch.folder, 0 if written and now - max(written) > limits.age else limits.bytes)
