"""Agents in containers, by dockerd: hardened, labelled, proven, and outliving the kernel.

``network`` decides what a container reaches: ``none`` nothing; ``gateway`` the kernel's gateway on its
own loopback and nothing else; ``open`` that and docker's bridge. The door is a listening socket that
the kernel opens inside the container's network namespace, which takes root; for those who are not, a
sidecar container opens it and hands it over.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
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

from . import docker_container as container_of
from . import docker_door, docker_sidecar, netns, output
from .docker_cgroup import Group, Identity, send
from .docker_engine import Engine, EngineRefused
from .docker_gate import Gate, find_init
from .docker_program import missing_program
from .docker_run import Run, exit_of, ref_of
from .docker_stop import Stop

if TYPE_CHECKING:
    from aiodocker.stream import Stream as Connection

log = logging.getLogger(__name__)

_WAIT_BACKOFF = (0.1, 5.0)
_FREEZE_SECONDS = 5.0
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
        self._sweeping = anyio.Lock()
        self._swept = False
        self._state_label = container_of.state_label(context.state)

    # --- what is there ---------------------------------------------------------------------------

    async def check(self) -> list[Check]:
        """dockerd's version and cgroups, whether it may be used, and whether the gateway network works."""
        try:
            info = await self._info()
        except BackendError as error:
            return [Check("dockerd", "missing", error.why or error.what, error.hint)]
        checks = [
            Check("dockerd", "ok", f"{info['ServerVersion']} at {self._engine.host}"),
            Check(
                "cgroups", "ok", f"v{info.get('CgroupVersion', '1')}, driver {info.get('CgroupDriver', '?')}"
            ),
        ]
        short = sorted({"memory", "cpus", "pids"} - _limits(info))
        if short:
            checks.append(
                Check("limits", "warn", f"no {', '.join(short)} limit", "Enable these cgroup controllers")
            )
        if not info.get("LiveRestoreEnabled"):
            found = "containers end when dockerd stops"
            checks.append(
                Check("live-restore", "warn", found, 'Set "live-restore": true in /etc/docker/daemon.json')
            )
        if self._may_open_doors:
            gate = "" if find_init() else ", but docker-init is missing: a first call may come too early"
            how = "through a sidecar container" if self._by_sidecar else "possible"
            checks.append(Check("network gateway", "warn" if gate else "ok", f"{how}{gate}"))
        else:
            hint = 'Use a local dockerd, or `network = "open"` or "none"'
            checks.append(Check("network gateway", "warn", "needs a dockerd on this machine", hint))
        return checks

    async def capabilities(self) -> Capabilities:
        """What dockerd here offers."""
        info = await self._info()
        network = ("gateway", "open", "none") if self._may_open_doors else ("open", "none")
        return Capabilities(freeze=("docker",), limits=frozenset(_limits(info)), stdin=True, network=network)

    # --- start, adopt, wait ----------------------------------------------------------------------

    async def start(self, launch: Launch) -> RunRef:
        """Create and start the run's container; one that is there already is taken, never doubled."""
        doing = f"cannot start {launch.spec.name}"
        if not launch.spec.image:
            raise BackendError(doing, "The docker backend needs an image", "Give one with --image")
        if launch.spec.network == "gateway" and not self._may_open_doors:
            raise BackendError(
                doing,
                f"Network gateway needs a dockerd on this machine, and {self._engine.host} is not",
                "Use network open or none, or a local dockerd",
            )
        found = await self._find(launch)
        if found is not None:
            if found["State"]["Status"] != "created":
                return (await self._take(launch, found)).ref
            await self._remove(found["Id"])  # a kernel died between create and start
        image = await self._image(launch)
        argv = container_of.command_of(launch, image)
        gate = await self._shut_gate(launch)
        try:
            return await self._create_and_start(launch, argv, gate)
        finally:
            if gate is not None:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(_open_gate, gate)

    async def adopt(self, launch: Launch, ref: RunRef | None) -> Adoption:
        """Find the run's container by its labels; one that was created and never started is removed."""
        found = await self._find(launch)
        if found is None:
            if ref is None:
                return Adoption("never_started")
            return Adoption("ended", ref, Exit(detail="the container was removed"))
        if found["State"]["Status"] == "created":
            await self._remove(found["Id"])
            return Adoption("never_started")
        run = await self._take(launch, found)
        if _is_live(found):
            return Adoption("alive", run.ref)
        await self._spooled(run.ref)
        return Adoption("ended", run.ref, exit_of(found))

    async def wait(self, ref: RunRef) -> Exit:
        """Wait through dockerd's absences; its container's exit status as dockerd tells it."""
        lost = False
        pause, longest = _WAIT_BACKOFF
        while True:
            try:
                info = await self._inspect(ref, "cannot wait")
                if not _is_live(info):
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
        await self._spooled(ref)
        ended = exit_of(info)
        if lost and ended.code != 0 and not ended.detail:
            return ended._replace(detail="dockerd stopped")
        return ended

    # --- look ------------------------------------------------------------------------------------

    async def processes(self, ref: RunRef) -> list[Process]:
        """From the container's cgroup; where that cannot be read, from ``docker top``."""
        group = await self._cgroup(ref)
        if group is not None:
            return await anyio.to_thread.run_sync(group.processes)
        try:
            info = await self._inspect(ref, "cannot list processes")
            return await self._top(ref) if _is_live(info) else []
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
        """``docker pause``, then the freezer's own word for it."""
        began = self.context.clock.monotonic()
        info = await self._live(ref, "cannot freeze")
        if not info["State"]["Paused"]:
            await self._post(ref, "pause", "cannot freeze")
        group = await self._cgroup(ref)
        if group is None:
            paused = (await self._live(ref, "cannot freeze"))["State"]["Paused"]
            total = len(await self._top(ref))
            return Frozen(total if paused else 0, total, "docker", self.context.clock.monotonic() - began)
        with anyio.move_on_after(_FREEZE_SECONDS):
            while not group.frozen():  # noqa: ASYNC110 - the freezer's file has no event to wait for
                await anyio.sleep(0.005)
        total = len(await anyio.to_thread.run_sync(group.pids))
        frozen = total if group.frozen() else 0
        return Frozen(frozen, total, "docker", self.context.clock.monotonic() - began)

    async def thaw(self, ref: RunRef) -> None:
        """``docker unpause``."""
        info = await self._live(ref, "cannot thaw")
        if info["State"]["Paused"]:
            await self._post(ref, "unpause", "cannot thaw")

    async def signal(self, ref: RunRef, signum: int) -> int:
        """To the main program itself where this user may, else through dockerd (and the init)."""
        info = await self._live(ref, "cannot signal")
        group = await self._cgroup(ref)
        main = _main(await anyio.to_thread.run_sync(group.processes), info) if group is not None else None
        if main is not None:
            try:
                return int(send(main, signum))
            except PermissionError:
                pass  # dockerd may
        await self._post(ref, "kill", "cannot signal", signal=str(signum))
        return 1

    async def stop(
        self, ref: RunRef, *, grace: float, on_step: Callable[[Step], None] | None = None
    ) -> Killed:
        """See ``docker_stop``. Works without dockerd where the processes may be signalled directly."""
        group = await self._cgroup(ref)
        info: dict[str, Any] | None = None
        try:
            info = await self._live(ref, "cannot stop")
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
        await self._live(ref, "cannot write to stdin")
        await run.stdin.write(data)

    async def renice(self, ref: RunRef, nice: int) -> None:
        """CPU shares by ``docker update``, so that dockerd knows them too."""
        await self._live(ref, "cannot renice")
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
        found = await self._find(launch)
        if found is not None:
            if _is_live(found):
                raise BackendError(
                    f"cannot remove the container of {launch.spec.name}", "It still runs", "Kill it first"
                )
            run = self._runs.get(found["Id"]) or self._run(launch, found)
            await run.spool.drain()
            await self._remove(found["Id"])
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

    @property
    def _may_open_doors(self) -> bool:
        return self._engine.local

    @property
    def _by_sidecar(self) -> bool:
        """Whether doors are opened by a container, because this process may not enter namespaces."""
        return self.context.settings.get("door") == "sidecar" or not netns.may_enter()

    async def _info(self) -> dict[str, Any]:
        return dict(await self._engine.json("GET", "info", "cannot use docker", patience=20.0))

    async def _image(self, launch: Launch) -> dict[str, Any]:
        image = launch.spec.image
        try:
            return dict(
                await self._engine.json("GET", f"images/{image}/json", f"cannot start {launch.spec.name}")
            )
        except EngineRefused as refusal:
            if refusal.answer != 404:
                raise
            why, hint = f"there is no image {image} here", f"Get it: `docker pull {image}`"
            raise BackendError(refusal.what, why, hint) from refusal

    async def _shut_gate(self, launch: Launch) -> Gate | None:
        if launch.spec.network == "none" or not self._may_open_doors:
            return None
        init = find_init()
        if init is None:
            return None
        try:
            return await anyio.to_thread.run_sync(Gate, launch.folder, init)
        except OSError as error:
            log.warning("no gate for %s, its first call may come too early: %s", launch.marker, error)
            return None

    async def _create_and_start(self, launch: Launch, argv: list[str], gate: Gate | None) -> RunRef:
        doing = f"cannot start {launch.spec.name}"
        file = gate.file if gate is not None else None
        init = True
        while True:
            body = container_of.config(launch, argv, self.context.state, gate=file, init=init)
            container = await self._create(launch, body, doing)
            try:
                info = await self._by_id(container, doing)
                if missing := await missing_program(self._engine, info, argv[0], launch):
                    raise BackendError(doing, missing, f"Look with `docker run --rm {launch.spec.image} ls`")
                live = await self._engine.attach(container)
                try:
                    await self._engine.json("POST", f"containers/{container}/start", doing)
                    run = await self._take(launch, await self._by_id(container, doing), live)
                except BaseException:
                    with anyio.CancelScope(shield=True):
                        await live.close()
                    raise
            except EngineRefused as refusal:
                await self._undo(container)
                if init and gate is None and "docker-init" in refusal.why:
                    init = False  # dockerd has none: the program is then the first process itself
                    continue
                raise
            except BaseException:
                await self._undo(container)
                raise
            return run.ref

    async def _create(self, launch: Launch, body: dict[str, Any], doing: str) -> str:
        names = container_of.names(launch, self.context.state)
        path = "containers/create"
        try:
            made = await self._engine.json("POST", path, doing, params={"name": names[0]}, body=body)
        except EngineRefused as refusal:
            if refusal.answer != 409:
                raise
            # Another kernel's container has the name, or a stranger's: not ours to touch.
            made = await self._engine.json("POST", path, doing, params={"name": names[1]}, body=body)
        return str(made["Id"])

    async def _undo(self, container: str) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await self._remove(container, force=True)
            except BackendError as error:
                log.warning(
                    "container %s was left behind; the next adoption removes it: %s", container[:12], error
                )

    async def _take(self, launch: Launch, info: dict[str, Any], live: Connection | None = None) -> Run:
        """Make this container a run of this kernel: its door, its output."""
        if _is_live(info):
            await self._door(launch, info)
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
            return _is_live(await self._inspect(ref, "cannot read a container's output"))

        return Run(self._engine, launch, ref, self.context.doors, running)

    async def _door(self, launch: Launch, info: dict[str, Any]) -> None:
        """Open the gateway's door inside the container, unless it is open."""
        key = docker_door.key(launch.marker)
        doors = self.context.doors
        if launch.spec.network == "none" or doors.has(key):
            return
        if not self._may_open_doors:
            if launch.spec.network == "gateway":
                log.warning("%s has no door to the gateway: this kernel may not open it", launch.marker)
            return
        doing = f"cannot open the gateway's door of {launch.spec.name}"
        if self._by_sidecar:
            await doors.add(key, await self._sidecar(info["Id"]))
            return
        try:
            pid = int(info["State"]["Pid"])
            listener = await anyio.to_thread.run_sync(docker_door.listen, pid, info["Id"], doors.port)
        except ProcessLookupError:
            if _is_live(await self._by_id(info["Id"], doing)):
                raise BackendError(doing, "dockerd's containers are not on this machine") from None
            return  # it has ended already
        except OSError as error:
            raise BackendError(doing, error.strerror or str(error)) from error
        await doors.add(key, listener)

    async def _sidecar(self, container: str) -> socket.socket:
        async with self._sweeping:
            if not self._swept:  # before the first of our own: what a kernel that was killed left
                await docker_sidecar.sweep(self._engine, self._state_label)
                self._swept = True
        rootless = "name=rootless" in ((await self._info()).get("SecurityOptions") or ())
        return await docker_sidecar.listen(
            self._engine,
            container,
            self.context.doors.port,
            self.context.state / "doors",
            self._state_label,
            rootless=rootless,
        )

    async def _find(self, launch: Launch) -> dict[str, Any] | None:
        """The run's container by its labels, whatever its name."""
        labels = container_of.labels(launch, self.context.state)
        wanted = [f"{key}={labels[key]}" for key in (container_of.LABEL_RUN, container_of.LABEL_STATE)]
        filters = json.dumps({"label": wanted})
        doing = f"cannot look for {launch.spec.name}"
        found = await self._engine.json(
            "GET", "containers/json", doing, params={"all": "1", "filters": filters}
        )
        try:
            return await self._by_id(found[0]["Id"], doing) if found else None
        except EngineRefused as refusal:
            if refusal.answer == 404:
                return None
            raise

    async def _by_id(self, container: str, doing: str) -> dict[str, Any]:
        return dict(await self._engine.json("GET", f"containers/{container}/json", doing))

    async def _inspect(self, ref: RunRef, doing: str) -> dict[str, Any]:
        """dockerd's view of a run, proven by its labels to be that run."""
        info = await self._by_id(ref["container"], doing)
        labels = info["Config"]["Labels"]
        expected = {container_of.LABEL_RUN: ref["run"], container_of.LABEL_STATE: self._state_label}
        if any(labels.get(key) != value for key, value in expected.items()):
            raise BackendError(doing, f"Container {ref['name']} is not this run's")
        return info

    async def _live(self, ref: RunRef, doing: str) -> dict[str, Any]:
        try:
            info = await self._inspect(ref, doing)
        except EngineRefused as refusal:
            if refusal.answer != 404:
                raise
            raise BackendError(doing, "Its container was removed") from refusal
        if not _is_live(info):
            raise BackendError(doing, "The run has ended")
        return info

    async def _cgroup(self, ref: RunRef) -> Group | None:
        """The run's cgroups while it lives; a path with the container's id in it is the proof."""
        run = self._runs.get(ref["container"])
        if run is not None and run.group is not None:
            return run.group if run.group.exists() else None
        group = await anyio.to_thread.run_sync(Group.of, int(ref["pid"]), ref["container"])
        if run is not None:
            run.group = group
        return group

    async def _post(self, ref: RunRef, verb: str, doing: str, **params: str) -> None:
        await self._engine.json("POST", f"containers/{ref['container']}/{verb}", doing, params=params)

    async def _remove(self, container: str, *, force: bool = False) -> None:
        path, params = f"containers/{container}", {"force": "1" if force else "0", "v": "1"}
        try:
            await self._engine.json("DELETE", path, "cannot remove a container", params=params)
        except EngineRefused as refusal:
            gone = refusal.answer == 404
            going = refusal.answer == 409 and "in progress" in refusal.why
            if not gone and not going:
                raise

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

    async def _top(self, ref: RunRef) -> list[Process]:
        params = {"ps_args": "-o pid,ppid,stat,rss,args"}
        answer = await self._engine.json(
            "GET", f"containers/{ref['container']}/top", "cannot list", params=params
        )
        return [
            Process(int(row[0]), int(row[1]), 0, row[2][:1], 0.0, int(row[3]) * 1024, row[4])
            for row in answer["Processes"]
        ]


def _is_live(info: Mapping[str, Any]) -> bool:
    return bool(info["State"]["Running"])


def _limits(info: Mapping[str, Any]) -> set[str]:
    keys = {"memory": "MemoryLimit", "cpus": "CpuCfsQuota", "pids": "PidsLimit"}
    return {limit for limit, key in keys.items() if info.get(key)}


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


def _open_gate(gate: Gate) -> None:
    gate.open()
    gate.file.unlink(missing_ok=True)
