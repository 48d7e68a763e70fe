"""The processes of the pictures: the demo's own agents, run one at a time on a clock that is held.

The kernel, the gateway, the provider, the agents' program and the screen are the real ones. Played are only
the machine's part (process ids, CPU, memory), because a real machine gives other numbers every time.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from random import Random
from typing import Any

import anyio

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
    Step,
)
from agenttop.core.clock import ManualClock
from agenttop.core.errors import BackendError
from agenttop.tui.demo import agent as program
from agenttop.tui.demo import messages
from agenttop.tui.demo.agent import DemoAgent
from agenttop.tui.demo.parts import PARTS, Line
from agenttop.tui.demo.scripts import HAIKU, SCRIPTS, Script
from agenttop.tui.demo.talk import Talk

MiB = 1 << 20
FOR_EVER = 1e12
_BOX = Script(HAIKU, ("",), "Bash+Read", guide=6_900, reply=90, pause=3, tool_seconds=2)


class Ended(BaseException):
    """Raised inside an agent's thread to take it down."""


class Actor:
    """One run: the demo's agent in a thread that only moves while ``step`` is waited for."""

    def __init__(self, launch: Launch, pid: int) -> None:
        self.launch = launch
        self.pid = pid
        self.rng = Random(launch.marker)
        self.out = bytearray()
        self.err = bytearray()
        self.tool: list[str] = []
        self.talk: _Talk | None = None
        self.stopped = False
        self.exit: Exit | None = None
        self.ended = anyio.Event()
        self.cpu = self.rng.uniform(0.4, 3.0)
        self.share = self.rng.uniform(0.002, 0.04)
        self.memory = int(self.rng.uniform(21, 39) * MiB)
        self._go, self._parked = threading.Semaphore(0), threading.Semaphore(0)
        self._nap = 0.0
        self._over = False
        self._thread = threading.Thread(target=self._main, daemon=True)

    @property
    def part(self) -> str:
        """The name of its script; empty in a container, which has none."""
        command = list(self.launch.command)
        return command[command.index("--script") + 1] if "--script" in command else ""

    @property
    def script(self) -> Script:
        if self.part:
            return SCRIPTS[self.part]
        return _BOX._replace(tasks=(self.launch.spec.prompt or "",))

    def step(self) -> float | None:
        """Let it go on until it waits; how long it wants to wait, ``None`` when it ended. Blocks."""
        if not self._thread.ident:
            self._thread.start()
        else:
            self._go.release()
        self._parked.acquire()
        return None if self._over else self._nap

    def nap(self, seconds: float) -> None:
        """In the agent's thread: wait."""
        self._nap = seconds
        self._parked.release()
        self._go.acquire()
        if self.exit is not None:
            raise Ended

    def say(self, text: str = "") -> None:
        self.out += text.encode() + b"\n"

    def _main(self) -> None:
        _here.actor = self
        code = 0
        try:
            code = _Played(self).work()
        except (KeyError, messages.CallFailed) as error:
            self.err += f"{type(error).__name__}: {error}\n".encode()
            code = 1
        except Ended:
            pass
        self.exit = self.exit or Exit(code)
        self._over = True
        self._parked.release()

    def end(self, how: Exit) -> None:
        """It was killed."""
        self.exit = self.exit or how
        self._go.release()
        self.ended.set()

    def processes(self) -> list[Process]:
        """The program, and the tool it runs."""
        state = "T" if self.stopped else "S"
        command = " ".join(self.launch.command)
        found = [Process(self.pid, 1, self.pid, state, round(self.cpu, 2), self.memory, command)]
        for number, line in enumerate(self.tool, 1):
            parent = self.pid if number == 1 else self.pid + 1
            found.append(Process(self.pid + number, parent, self.pid, state, 0.01, 2 * MiB, line))
        return found


class _Talk(Talk):
    """Its part of the conversation; nobody else moves while it would wait for a reply, so it only tells."""

    silent = False
    """On hold: the kernel would let it wait with all it says, and nobody else would move."""

    def _tell(self, line: Line) -> None:
        super()._tell(line._replace(asks=False))

    def _try(self, verb: str, /, **fields: Any) -> Any:
        return None if self.silent else super()._try(verb, **fields)


class _Played(DemoAgent):
    """The demo's agent; only what takes time is played."""

    def __init__(self, actor: Actor) -> None:
        super().__init__(actor.launch.spec.name, actor.script, actor.launch.env)
        self._actor = actor
        self._talk = actor.talk = _Talk(PARTS.get(actor.part), actor.launch.env, program.say, 1.0)

    def _run(self, command: str, share: float, workers: int = 1) -> None:
        seconds = self._script.tool_seconds * share * self._rng.uniform(0.6, 1.6)
        nap = f"sleep {seconds:.3f}"
        self._actor.tool = [f"sh -c {command}; {nap}", *[nap] * workers]
        self._actor.cpu += 0.03
        self._actor.nap(seconds)
        self._actor.tool = []

    def _wait(self, seconds: float) -> None:
        self._actor.nap(seconds * self._rng.uniform(0.5, 1.5))

    def _after_task(self) -> None:
        if self._script.ends == "hang":
            program.say("● Bash(curl --no-buffer https://deploy.example/events)")
            self._actor.tool = ["sleep 1000000"]
            self._actor.nap(FOR_EVER)
        super()._after_task()


_here = threading.local()
program.say = lambda text="": _here.actor.say(text)
messages._ATTEMPTS = 1


class Cast:
    """All actors, in the order they were started."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.actors: dict[str, Actor] = {}
        self.fresh: list[Actor] = []
        self.measured = False
        """From then on loads stay as they were."""
        self._pids = Random("pids")
        self._last = 4_100

    def take(self, launch: Launch) -> Actor:
        self._last += self._pids.randint(4, 60)
        actor = self.actors[launch.marker] = Actor(launch, self._last)
        self._last += 4
        self.fresh.append(actor)
        return actor


class PlayedBackend(Backend):
    """The contract over actors. Ends are proven as the real backends prove them: step by step."""

    cast: Cast
    mechanism = "cgroup2"

    def __init__(self, context: BackendContext) -> None:
        super().__init__(context)
        self.clock = self.cast.clock

    def _actor(self, ref: RunRef) -> Actor:
        return self.cast.actors[ref["marker"]]

    async def check(self) -> list[Check]:
        return [Check("freeze", "ok", self.mechanism)]

    async def capabilities(self) -> Capabilities:
        return Capabilities((self.mechanism,), frozenset({"memory", "cpus", "pids"}))

    async def start(self, launch: Launch) -> RunRef:
        actor = self.cast.take(launch)
        ref: RunRef = {"marker": launch.marker, "pid": actor.pid}
        if self.name == "docker":
            ref |= {"container": f"c0ffee{actor.pid:06x}", "name": f"agenttop-{launch.agent}"}
        return ref

    async def adopt(self, launch: Launch, ref: RunRef | None) -> Adoption:
        return Adoption("never_started")

    async def wait(self, ref: RunRef) -> Exit:
        actor = self._actor(ref)
        await actor.ended.wait()
        return actor.exit or Exit()

    async def processes(self, ref: RunRef) -> list[Process]:
        return self._actor(ref).processes()

    async def sample(self, refs: Mapping[str, RunRef]) -> dict[str, Sample]:
        if self.cast.measured:
            raise BackendError("the picture stands still")
        now = self.clock.monotonic()
        found = {}
        for key, ref in refs.items():
            actor = self._actor(ref)
            share = 0.0 if actor.stopped else actor.share + 0.02 * len(actor.tool)
            tree = actor.processes()
            memory = sum(process.memory for process in tree)
            found[key] = Sample(now * share + 10, memory, 0, 0, len(tree))
        return found

    async def freeze(self, ref: RunRef) -> Frozen:
        actor = self._actor(ref)
        actor.stopped = True
        count = len(actor.processes())
        return Frozen(count, count, self.mechanism, 0.004)

    async def thaw(self, ref: RunRef) -> None:
        self._actor(ref).stopped = False

    async def signal(self, ref: RunRef, signum: int) -> int:
        return 1

    async def stop(
        self, ref: RunRef, *, grace: float, on_step: Callable[[Step], None] | None = None
    ) -> Killed:
        actor = self._actor(ref)
        tree = actor.processes()
        count = len(tree)
        steps: list[Step] = []

        def did(what: str, evidence: str) -> None:
            steps.append(Step(self.clock.time(), what, evidence))
            if on_step:
                on_step(steps[-1])

        began = self.clock.time()
        if grace and actor.script.ignores_term:
            did(f"TERM sent to {count} processes", "pid and start time checked for each")
            self.clock.advance(grace)
            did(f"{count - 1} of {count} ended in {grace:g} s", f"{actor.pid} ignored TERM")
            did("KILL sent to 1 process", f"{actor.pid} python, start time checked")
            how = Exit(signal=signal.SIGKILL)
        else:
            did(
                f"{'TERM' if grace else 'KILL'} sent to {count} processes",
                "pid and start time checked for each",
            )
            how = Exit(signal=signal.SIGTERM if grace else signal.SIGKILL)
        self.clock.advance(0.012)
        did("cgroup.procs is empty", "0 survivors, 0 zombies")
        actor.end(how)
        return Killed(count, count, (), self.mechanism, self.clock.time() - began, tuple(steps))

    async def write(self, ref: RunRef, data: bytes | None) -> None:
        return

    async def output(
        self, launch: Launch, offsets: Mapping[str, int] | None = None, *, follow: bool = False
    ) -> AsyncIterator[Chunk]:
        actor = self.cast.actors[launch.marker]
        for stream, data in (("out", actor.out), ("err", actor.err)):
            start = (offsets or {}).get(stream, 0)
            if data[start:]:
                yield Chunk(stream, start, bytes(data[start:]))  # type: ignore[arg-type]
        if follow:
            await actor.ended.wait()

    async def trim(self, launch: Launch) -> None:
        return

    async def renice(self, ref: RunRef, nice: int) -> None:
        return

    async def forget(self, launch: Launch, ref: RunRef | None) -> None:
        return


def backends(cast: Cast) -> dict[str, type[Backend]]:
    """Both, by name."""
    return {
        name: type(f"Played{name.title()}", (PlayedBackend,), {"name": name, "cast": cast, "mechanism": how})
        for name, how in (("subprocess", "cgroup2"), ("docker", "docker"))
    }
