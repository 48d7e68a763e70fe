"""The kernel: composes the subsystems, owns their task group, and is what clients talk to."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pwd
import resource
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.to_thread

from . import __version__, statekey, views
from .acts import AgentActs
from .agents import launch, template_offers, templates
from .agents.backends import Backends
from .agents.control import Control
from .agents.conversations import Conversations
from .agents.creation import Creation
from .agents.environ import PROVIDER_KEYS
from .agents.forking import Forking
from .agents.idling import Idling
from .agents.lastwords import LastWords
from .agents.launch import Launcher
from .agents.progress import Progress
from .agents.spec import AgentSpec
from .agents.supervisor import Supervisor
from .agents.terminals import Terminals
from .agents.trimming import Trimmer
from .api import CheckInfo, KernelStatus, ProviderInfo, TemplateInfo
from .backend import SocketPeer, state_name
from .budget.prices import Prices
from .bus.bus import Bus
from .clock import Clock, SteadyClock, SystemClock
from .config import Config
from .doors import GatewayDoors
from .errors import AgentTopError
from .feed import Feed
from .gateway.calls import CallDesk
from .gateway.gateway import Gateway
from .gateway.identity import Identity
from .gateway.limits import Limits
from .gateway.meters import Meters
from .gateway.peers import Peers
from .gateway.providers import KeyRing, Provider
from .halt import KillSwitch
from .journal import events as ev
from .journal.books import Books
from .journal.journal import Journal
from .local import LocalClient
from .mail.mailroom import Mailroom
from .memory.keeping import compose as keeping
from .memory.keeping.house import House
from .memory.keeping.keeper import Keeper
from .memory.memory import Memory
from .money import Money
from .observe.asking import Asking
from .observe.control import ObservedControl
from .observe.sightings import Sightings
from .paths import Paths
from .recording import recorder, telling, tiers
from .rows import Machine
from .syscalls.door import AgentDoor
from .syscalls.mcp.door import McpDoor
from .transcripts import Transcripts
from .unbroken import Unbroken
from .workspaces.desk import Workspaces

if TYPE_CHECKING:
    from .agents.turns import Turns
    from .memory.sources.recorder import Recorder
    from .memory.sources.tiers import Tiers
    from .syscalls.table import Syscalls

log = logging.getLogger(__name__)

#: How long clients wait at start for runs to be adopted; backends that answer later go on meanwhile.
ADOPTION = 0.5

#: Seconds between looks at the journal's health and the checkpoint.
HOUSEKEEPING = 1.0

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """The machine's boot id; another one means that every run has ended."""
    return _BOOT_ID.read_text().strip()


class Kernel:
    """One kernel on one state directory. Whoever makes it holds the lock (``core.lock``).

    Args:
        environ: Where provider keys are read from, and where this user's transcripts lie.
        boot: The boot id; tests give another one to simulate a reboot.
        machine: What the header says of the machine; default: this one.
    """

    def __init__(
        self,
        paths: Paths,
        config: Config,
        *,
        clock: Clock | None = None,
        environ: Mapping[str, str] | None = None,
        boot: str | None = None,
        embedded: bool = False,
        machine: Machine | None = None,
    ) -> None:
        self._machine = machine
        self.paths = paths
        self.config = config
        self.clock = SteadyClock(clock or SystemClock())
        self.embedded = embedded
        self.boot = boot or boot_id()
        self._environ = dict(os.environ if environ is None else environ)
        self.keys = KeyRing(dict(self._environ))
        self.meters = Meters()
        self.started = self.clock.time()
        self.finished = anyio.Event()
        self.ending = ""
        self.journal: Journal
        self.books: Books
        self.doors: GatewayDoors
        self.gateway: Gateway
        self.desk: CallDesk
        self.backends: Backends
        self.supervisor: Supervisor
        self.launcher: Launcher
        self.control: Control
        self.creation: Creation
        self.forking: Forking
        self.switch: KillSwitch
        self.idling: Idling
        self.last_words: LastWords
        self.money: Money
        self.terminals: Terminals
        self.transcripts: Transcripts
        self.trimmer: Trimmer
        self.sightings: Sightings
        self.observed: ObservedControl
        self.feed: Feed
        self.unbroken: Unbroken
        self.workspaces: Workspaces
        self.bus: Bus
        self.mailroom: Mailroom
        self.progress: Progress
        self.memory: Memory
        self.keeper: Keeper
        self.recorder: Recorder
        self.turns: Turns
        self.tiers: Tiers
        self.mcp: McpDoor

    # --- life ------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Kernel]:
        """Open the books, adopt what runs, serve agents; on exit agents run on.

        Raises:
            AgentTopError: The state folder, the journal or the gateway's port cannot be used.
        """
        self.paths.make_state()
        key = await anyio.to_thread.run_sync(statekey.load, self.paths.key)
        self.journal = await Journal.open(self.paths.journal, self.clock)
        self.clock.not_before(self.journal.last_ts)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.journal.close)
            self.books = Books(self.journal)
            await self.books.open()
            self.mailroom = Mailroom(self.books, self.clock, self.config, user(), key)
            self.bus = await stack.enter_async_context(await self.mailroom.open(self.paths.mail))
            self.memory, self.keeper = keeping.compose(self, self._teams, user())
            await stack.enter_async_context(self.memory)
            self.mcp = McpDoor(self)
            await stack.enter_async_context(self.mcp.running())
            self._compose_gateway(key)
            await stack.enter_async_context(self.gateway.running())
            await stack.enter_async_context(self.doors.running())
            tasks = await stack.enter_async_context(anyio.create_task_group())
            self._compose_agents(key, tasks)
            await self._begin()
            tasks.start_soon(self._housekeeping, name="housekeeping")
            tasks.start_soon(self.feed.run, name="feed")
            tasks.start_soon(self.mailroom.run, name="mail")
            tasks.start_soon(self.progress.run, name="progress")
            tasks.start_soon(self.sightings.run, name="sightings")
            tasks.start_soon(self.trimmer.run, name="trimming")
            tasks.start_soon(self.desk.run, name="desk")
            tasks.start_soon(self._read_keyring, name="keyring")
            tasks.start_soon(self.transcripts.run, name="transcripts")
            tasks.start_soon(self.money.made.run, name="budgets")
            tasks.start_soon(self.idling.run, name="idling")
            tasks.start_soon(self.last_words.run, name="last words")
            tasks.start_soon(self.keeper.run, name="memory")
            tasks.start_soon(self.recorder.run, name="recall")
            tasks.start_soon(self.turns.run, name="turns")
            tasks.start_soon(self.tiers.run, name="tiers")
            try:
                await self._adopt(tasks)
                yield self
            finally:
                with anyio.CancelScope(shield=True):
                    await self._end()
                tasks.cancel_scope.cancel()

    def _compose_gateway(self, key: bytes) -> None:
        self.identity = Identity(key)
        prices = Prices(self.config.prices())
        self.desk = CallDesk(
            self.books,
            self.meters,
            self.identity,
            prices,
            self.clock,
            self.keys,
            providers=self.config.providers,
            unpriced=self.config.budgets.unpriced,
            runaway=self.config.runaway,
        )
        self.desk.gate.excused = House.belongs
        self.money = Money(self.books, self.desk, self.meters, self.clock)
        self.sightings = Sightings(
            self.config.observe,
            self.books,
            prices,
            self.clock,
            self.boot,
            state_name(self.paths.state),
            lambda: self.feed.windows,
            lambda: views.managed_pids(self.supervisor),
            self._in_terminal,
        )
        self.transcripts = Transcripts(self.paths, self._environ, prices, self.sightings.oddities_of_each)
        limits = Limits(body_bytes=self.config.gateway.max_body)
        vouch = Peers(self._owns).vouch if self.config.gateway.check_peers else None
        door = AgentDoor(self)
        door.follow()
        self.gateway = Gateway(
            self.desk, self.config.providers, self.keys, self.clock, limits, prices=prices, vouch=vouch,
            syscalls=door, apps={"mcp": self.mcp.app},
        )  # fmt: skip
        self.doors = GatewayDoors(self.paths, self.gateway, self.config.gateway.port)

    def _compose_agents(self, key: bytes, tasks: anyio.abc.TaskGroup) -> None:
        self.unbroken = Unbroken(tasks)
        passthrough = frozenset(n for n, p in self.config.providers.items() if p.auth == "passthrough")
        door = launch.Door(self.doors.port, self.identity.secret, passthrough)
        self.launcher = Launcher(self.paths, door)
        self.backends = Backends(self.paths.state, self.clock, self.doors, self.config.backends, tasks)
        self.supervisor = Supervisor(self.books, self.backends, self.launcher, self.clock, tasks)
        conversations = Conversations(self.paths)
        self.supervisor.conversation = conversations.after_end
        disposable = self.config.worktrees.disposable
        self.workspaces = Workspaces(
            self.books, self.paths, self.launcher.folder_of, disposable, self.sightings.places
        )
        self.supervisor.furnish = self.workspaces.furnish
        self.control = Control(self.books, self.supervisor, self.paths, conversations.of, self.workspaces)
        self.creation = Creation(
            self.books,
            self.supervisor,
            self.control,
            self.paths,
            key,
            expand=self._expand,
            complete=self.config.complete,
            key_names=self._key_names,
            workspaces=self.workspaces,
        )
        self.creation.remembered = self.keeper.remembered
        self.forking = Forking(self.books, self.creation, conversations, self.paths)
        self.switch = KillSwitch(self.books, self.control, self.clock, self.desk.wake, self.desk.jobs.do)
        self.idling = Idling(self.books, self.supervisor, self.control, self.clock)
        self.supervisor.watched = self._watched
        self.desk.jobs.acts = AgentActs(self.books, self.control, self.supervisor, conversations.resumable)
        self.terminals = Terminals(self.books, self.supervisor, self.backends, self.clock, self.idling.wake)
        self.trimmer = Trimmer(self.supervisor, self.books, self.paths)
        self.feed = Feed(
            self.books,
            self.meters,
            self.supervisor,
            self.clock,
            self.started,
            lambda: self.problem,
            self._machine,
            self.desk.lanes,
            self.backends.terminals,
        )
        self.last_words = LastWords(self.books, self.backends, self.launcher, self.feed.touch)
        self.feed.last_words = self.last_words.of
        self.feed.mail, self.mailroom.touched = self.mailroom.gauge, self.feed.sighted
        self.mailroom.resumable = conversations.resumable
        self.progress = Progress(self.books)
        self.observed = ObservedControl(self.books, self.sightings, self.supervisor, self.clock, self.boot)
        self.mailroom.directory.observed = lambda ref: self.observed.managed_only(ref, "written to")
        self.recorder = recorder(self)
        self.desk.hears = self.recorder.hears
        self.turns, self.tiers = telling(self, conversations), tiers(self)
        self.feed.sightings, self.sightings.touched = self.sightings, self.feed.sighted
        self.sightings.looked += [self.observed.noticed, Asking(self.books, self.sightings).told]

    async def _begin(self) -> None:
        """What must be in the journal before any agent can make a call."""
        self.rebooted = self.books.committed.boot_id not in ("", self.boot)
        cut = await self.desk.settle_crashed()
        await self.books.commit(ev.KernelStarted(version=__version__, pid=os.getpid(), boot_id=self.boot))
        await self.money.made.declare("config", self.config.budgets.declared, "")
        if cut:
            log.warning("%d calls were cut by the last kernel's end; settled from what was seen", cut)
        await self.doors.open()

    async def _adopt(self, tasks: anyio.abc.TaskGroup) -> None:
        done = anyio.Event()

        async def adopt() -> None:
            await self.supervisor.adopt_all(self.rebooted)
            await self.observed.finish()
            await self._sweep()
            done.set()

        tasks.start_soon(adopt, name="adoption")
        with anyio.move_on_after(ADOPTION):
            await done.wait()

    async def _sweep(self) -> None:
        """Remove the folders of agents that are not in the journal: a crash was between the two."""
        known = set(self.books.pending.agents)
        young = time.time() - 60  # as files' times are: an agent on its way into the journal

        def sweep() -> None:
            for folder in self.paths.agents.iterdir():
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile by whom it belongs to
                    if folder.name not in known and folder.stat().st_mtime < young:
                        shutil.rmtree(folder, ignore_errors=True)
            self.workspaces.sweep()

        await anyio.to_thread.run_sync(sweep)

    async def _end(self) -> None:
        await self.doors.close()
        await self.gateway.close(grace=0.0)
        await self.recorder.finish()
        try:
            await self.mailroom.finish()
            await self.books.commit(ev.KernelStopped(reason=self.ending))
            await self.books.checkpoint(force=True)
        except AgentTopError as error:
            log.warning("the journal did not take the kernel's end: %s", error)
        await self.backends.close()

    def _watched(self, agent_id: str) -> None:
        self.switch.watched(agent_id)
        self.idling.watched(agent_id)

    def _teams(self, agent_id: str) -> tuple[str, ...]:
        """The teams an agent is in, by its label ``team``."""
        agent = self.books.pending.agents.get(agent_id)
        team = agent.spec.labels.get("team") if agent is not None else None
        return (team,) if team else ()

    def _in_terminal(self, agent_id: str) -> bool:
        agent = self.books.pending.agents.get(agent_id)
        return agent is not None and agent.spec.backend == "terminal"

    async def _owns(self, agent: str, peer: SocketPeer) -> bool | None:
        """Whether a connection comes from this agent's tree, as its backend knows it."""
        run = self.supervisor.runs.get(agent)
        if run is None:
            return None
        try:
            return await run.backend.owns(run.ref, peer)
        except AgentTopError as error:
            log.info("whose a connection is cannot be told: %s", error)
            return None

    async def _read_keyring(self) -> None:
        """Read the provider keys that lie in the system's keyring; calls that wait for them go on."""
        wanted = [provider for provider in self.config.providers.values() if provider.key_keyring]
        if not wanted:
            return
        try:
            found = await anyio.to_thread.run_sync(self.keys.read_keyring, wanted, abandon_on_cancel=True)
        except AgentTopError as error:
            log.warning("%s", error)
            return
        for name in found:
            self.desk.came(name)

    def finish(self, reason: str) -> None:
        """Ask whoever runs this kernel to leave ``running``."""
        self.ending = self.ending or reason
        self.finished.set()

    async def _housekeeping(self) -> None:
        while True:
            await anyio.sleep(HOUSEKEEPING)
            failed = self.books.problem
            if not await self.books.heal():
                continue
            if failed:
                log.warning("the journal works again; it had said: %s", failed)
                self.supervisor.adopt_missed()
            try:
                await self.books.checkpoint()
            except AgentTopError as error:
                log.warning("no checkpoint: %s", error)

    # --- what clients ask ------------------------------------------------------------------------

    def client(self, owner: str | None = None) -> LocalClient:
        """A client in this process; ``owner`` stands in the journal as who did it."""
        return LocalClient(self, owner or user())

    @functools.cached_property
    def syscalls(self) -> Syscalls:
        """What agents and people ask of bus, memory and themselves; imported when first asked for."""
        from .syscalls import compose

        return compose.table(self)

    def take_keys(self, environ: Mapping[str, str]) -> None:
        """Keep the provider keys among a caller's variables, for calls that wait for them."""
        names = {p.key_env for p in self.config.providers.values() if p.key_env}
        keys = {
            name: environ[name]
            for name in names
            if environ.get(name) and environ[name] != templates.PLACEHOLDER_KEY
        }
        if keys:
            self.desk.supply(keys)

    def _key_names(self) -> frozenset[str]:
        return PROVIDER_KEYS | {p.key_env for p in self.config.providers.values() if p.key_env}

    def _expand(self, spec: AgentSpec, search: str | None) -> AgentSpec:
        return templates.expand(spec, self.paths, search)

    async def templates(self) -> list[TemplateInfo]:
        """The templates that ``run --template`` knows."""
        return await anyio.to_thread.run_sync(template_offers.offered, self.paths)

    @property
    def idle(self) -> bool:
        """Nothing left to look after: no live run, no restart pending, no frozen observed agent, nobody
        watching, no mail that somebody is about to read."""
        if self.feed.readers or self.gateway.in_flight or self.books.pending.observed:
            return False
        if self.mailroom.awaited:
            return False
        return all(agent.over for agent in self.books.pending.agents.values())

    @property
    def problem(self) -> str:
        """What ails the journal or the doors, or empty."""
        ailing = (self.books.problem, self.doors.problem, self.recorder.problem, self.mailroom.problem)
        return "; ".join(text for text in ailing if text)

    def status(self) -> KernelStatus:
        """Who this kernel is and how it fares."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return KernelStatus(
            pid=os.getpid(),
            version=__version__,
            port=self.doors.port,
            agents=sum(not agent.over for agent in self.books.committed.agents.values()),
            started_at=self.started,
            state_dir=str(self.paths.state),
            boot_id=self.boot,
            embedded=self.embedded,
            seq=self.journal.last_seq,
            healthy=not self.problem,
            problem=self.books.problem,
            gateway_problem=self.doors.problem,
            mail_problem=self.mailroom.problem,
            memory_problem=self.recorder.problem,
            recall_dropped=self.recorder.dropped,
            cpu_seconds=used.ru_utime + used.ru_stime,
            memory=self.feed.header("run").kernel_memory,
            missing_keys=sorted(self.desk.missing_keys),
        )

    def providers(self) -> list[ProviderInfo]:
        """Every provider as the gateway sees it now."""
        found = []
        for info in self.desk.lanes.providers():
            provider = self.config.providers[info.name]
            key = "clients" if provider.auth == "passthrough" else self._key_state(provider)
            found.append(info.model_copy(update={"key": key}))
        return found

    def _key_state(self, provider: Provider) -> Literal["present", "missing"]:
        try:
            return "present" if self.keys.get(provider) else "missing"
        except AgentTopError:
            return "missing"

    def checks(self) -> list[CheckInfo]:
        """The kernel's own lines of ``doctor``."""
        gateway = f"127.0.0.1:{self.doors.port}"
        checks = [CheckInfo(group="kernel", name="gateway", level="ok", found=gateway), self.recorder.check()]
        for name, provider in self.config.providers.items():
            try:
                key = self.keys.get(provider)
            except AgentTopError as error:
                checks.append(CheckInfo(group="providers", name=name, level="warn", found=str(error)))
                continue
            if provider.auth == "passthrough":
                checks.append(
                    CheckInfo(group="providers", name=name, level="ok", found="the clients' own credentials")
                )
            elif key is None:
                hint = (
                    f"Put the key into {provider.key_file}, mode 0600"
                    if provider.key_env is None
                    else f"Set {provider.key_env} where agenttop is started"
                )
                checks.append(
                    CheckInfo(group="providers", name=name, level="warn", found="no key", hint=hint)
                )
            else:
                checks.append(
                    CheckInfo(group="providers", name=name, level="ok", found=f"key in {provider.key_name}")
                )
        return checks


def user() -> str:
    """The name of the user this process belongs to."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
