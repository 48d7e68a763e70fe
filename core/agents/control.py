"""What people do to agents that exist: pause, resume, stop, restart, nice, remove."""

from __future__ import annotations

import logging
import shutil
import signal as signals
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import anyio
import anyio.to_thread

from ..api import Outcome
from ..backend import Killed
from ..errors import AgentTopError, BackendError, BackendUnavailable, Conflict
from ..journal import events as ev
from ..journal.books import Books
from ..paths import Paths
from . import registry
from .agent import Agent
from .states import Pause
from .supervisor import Supervisor, Watched

if TYPE_CHECKING:
    from ..workspaces.desk import Workspaces
    from ..workspaces.removal import Left

log = logging.getLogger(__name__)

Act = Callable[[Agent], Awaitable[tuple[str, dict[str, Any] | None]]]


def failed(ref: str, error: AgentTopError, agent: Agent | None = None) -> Outcome:
    """The outcome of a verb that could not be done."""
    return Outcome(
        ref=ref,
        id=agent.id if agent else None,
        name=agent.name if agent else None,
        error=error.to_dict(),
        exit_code=error.exit_code,
    )


class Control:
    """The verbs. Each acts on one agent; ``each`` runs one over many and never stops half-way."""

    def __init__(
        self,
        books: Books,
        supervisor: Supervisor,
        paths: Paths,
        conversation: Callable[[Agent], str | None] = lambda agent: None,
        workspaces: Workspaces | None = None,
    ) -> None:
        """``conversation`` gives what a restarted run can go on with, ``None`` where it begins anew."""
        self._books = books
        self._supervisor = supervisor
        self._paths = paths
        self._conversation = conversation
        self._workspaces = workspaces

    async def each(
        self, refs: Sequence[str], act: Act, *, all: bool = False, children: bool = False
    ) -> list[Outcome]:
        """Run ``act`` on every selected agent at once; one outcome each, in the order asked."""
        chosen = registry.select(self._books.committed, refs, all=all, children=children)
        outcomes: list[Outcome | None] = [None] * len(chosen)

        async def one(index: int, ref: str, agent: Agent) -> None:
            try:
                done, proof = await act(agent)
            except AgentTopError as error:
                outcomes[index] = failed(ref, error, agent)
            except Exception as error:
                # The others are not left half done because of this one.
                log.exception("a verb on %s failed", agent.id)
                bug = AgentTopError(
                    f"this failed for {agent.name}",
                    f"{type(error).__name__}: {error}",
                    "See `agenttop kernel log` for the traceback",
                )
                outcomes[index] = failed(ref, bug, agent)
            else:
                notes = proof.pop("notes", []) if proof else []
                survivors = bool(proof and proof.get("survivors"))
                outcomes[index] = Outcome(
                    ref=ref,
                    id=agent.id,
                    name=agent.name,
                    done=done,
                    proof=proof or None,
                    exit_code=int(survivors),
                    notes=notes,
                )

        async with anyio.create_task_group() as tasks:
            for index, (ref, found) in enumerate(chosen):
                if isinstance(found, AgentTopError):
                    outcomes[index] = failed(ref, found)
                else:
                    tasks.start_soon(one, index, ref, found)
        return [outcome for outcome in outcomes if outcome is not None]

    def _live(self, agent: Agent, verb: str) -> Watched:
        run = self._supervisor.runs.get(agent.id)
        if run is None:
            state = agent.shown if agent.over else "being started or looked for"
            raise Conflict(f"{agent.name} cannot be {verb}", f"It has no running process ({state})")
        return run

    # --- pause -----------------------------------------------------------------------------------

    async def freeze(
        self, agent: Agent, by: str, only_if: Callable[[Agent], bool] = lambda agent: True
    ) -> tuple[str, dict[str, Any] | None]:
        """Stop the whole tree in RAM, with proof.

        Args:
            only_if: Asked when nothing else can be done to it any more; ``False``: it is left alone.

        Raises:
            Conflict: It has no run, or is being stopped.
            BackendError: Not every process could be stopped; those that were run on again.
        """
        async with self._supervisor.lock(agent.id):
            run = self._live(agent, "frozen")
            record = self._books.pending.agents[agent.id]
            if not only_if(record):
                return "left alone", None
            if record.stopping:
                raise Conflict(f"{agent.name} cannot be frozen", "It is being stopped")
            await self._books.commit(ev.AgentPaused(agent=agent.id, how=Pause.FREEZE, by=by))
            try:
                frozen = await run.backend.freeze(run.ref)
                if not frozen.complete:
                    await run.backend.thaw(run.ref)
                    raise BackendError(
                        f"{agent.name} is not frozen",
                        f"Only {frozen.frozen} of {frozen.total} processes stopped, so all were let go again",
                    )
            except (BackendError, OSError):
                await self._books.record(ev.AgentResumed(agent=agent.id, how=Pause.FREEZE, by="kernel"))
                raise
            await self._supervisor.happened(
                ev.AgentPaused(
                    agent=agent.id,
                    how=Pause.FREEZE,
                    by=by,
                    frozen=frozen.frozen,
                    total=frozen.total,
                    mechanism=frozen.mechanism,
                    seconds=frozen.seconds,
                )
            )
        return f"frozen {frozen.frozen}/{frozen.total}", frozen._asdict()

    async def leave_frozen(self, agent: Agent, by: str) -> None:
        """Whoever froze it would thaw it, but ``by`` wants it frozen: it is theirs to thaw from now on."""
        async with self._supervisor.lock(agent.id):
            record = self._books.pending.agents.get(agent.id)
            if record is None or record.freeze is None:
                return
            freeze = record.freeze
            await self._books.commit(
                ev.AgentPaused(
                    agent=agent.id,
                    how=Pause.FREEZE,
                    by=by,
                    frozen=freeze.frozen,
                    total=freeze.total,
                    mechanism=freeze.mechanism,
                )
            )

    async def thaw(
        self, agent: Agent, by: str, only_of: str | None = None
    ) -> tuple[str, dict[str, Any] | None]:
        """Undo a freeze only; a hold stays.

        Args:
            only_of: Whose freeze it must be; another's stays.

        Raises:
            BackendUnavailable: Its run has not been found again after the kernel's start.
        """
        async with self._supervisor.lock(agent.id):
            record = self._books.pending.agents.get(agent.id)
            if record is None or record.freeze is None or only_of not in (None, record.freeze.by):
                return "not frozen", None
            await self._run_on(record)
            await self._supervisor.happened(ev.AgentResumed(agent=agent.id, how=Pause.FREEZE, by=by))
        return "thawed", None

    async def hold(self, agent: Agent, by: str) -> tuple[str, dict[str, Any] | None]:
        """Let the gateway keep the agent's next model call.

        Raises:
            Conflict: It has ended, or its calls do not pass the gateway.
        """
        record = self._books.pending.agents.get(agent.id)
        if record is None or record.over:
            raise Conflict(f"{agent.name} cannot be held", f"It is {agent.shown}")
        if record.hold is None:
            await self._books.commit(ev.AgentPaused(agent=agent.id, how=Pause.HOLD, by=by))
        return "held", None

    async def resume(self, agent: Agent, by: str) -> tuple[str, dict[str, Any] | None]:
        """Undo freeze and hold.

        Raises:
            BackendUnavailable: It is frozen, and its run has not been found again after the kernel's start.
        """
        async with self._supervisor.lock(agent.id):
            record = self._books.pending.agents.get(agent.id)
            if record is None or record.pause is None:
                return "not paused", None
            if record.freeze is not None:
                await self._run_on(record)
            await self._supervisor.happened(ev.AgentResumed(agent=agent.id, by=by))
        return "resumed", None

    async def _run_on(self, agent: Agent) -> None:
        """Let its processes run on.

        Raises:
            BackendUnavailable: Its run has not been found again: said to be thawed it would stay frozen.
        """
        if run := self._supervisor.runs.get(agent.id):
            await run.backend.thaw(run.ref)
        elif agent.live:
            raise BackendUnavailable(
                f"{agent.name} is still frozen",
                f"Backend {agent.spec.backend} has not found its run again",
                "Resume it once that answers",
            )

    # --- ending ----------------------------------------------------------------------------------

    async def stop(
        self, agent: Agent, how: Literal["stop", "kill"], grace: float | None, by: str
    ) -> tuple[str, dict[str, Any] | None]:
        """End the whole tree, with proof.

        Raises:
            Conflict: Nothing of it runs and no restart was pending (``kill`` only).
        """
        if grace is None:
            grace = agent.spec.stop_grace if how == "stop" else 0.0
        first = self._books.journal.last_seq + 1
        pending_restart = agent.restart_at is not None
        killed = await self._supervisor.stop(agent.id, how=how, grace=grace, by=by)
        if killed is None:
            if pending_restart:
                return "restart called off", None
            if how == "kill":
                raise Conflict(f"{agent.name} cannot be killed", f"It is {agent.shown}")
            return "not running", None
        return ended(how, killed), proof_of(killed, first, self._books.journal.last_seq)

    async def restart(self, agent: Agent, by: str) -> tuple[str, dict[str, Any] | None]:
        """Stop what runs, then start a new run, which goes on with the conversation where it can."""
        killed = await self._supervisor.stop(agent.id, how="stop", grace=agent.spec.stop_grace, by=by)
        if killed is not None and killed.survivors:
            raise BackendError(
                f"{agent.name} was not restarted",
                f"{len(killed.survivors)} of its processes survived the stop",
            )
        resume = self._conversation(self._books.pending.agents.get(agent.id, agent))
        await self._supervisor.start(agent.id, "restart", by, resume)
        run = self._books.pending.agents[agent.id].run
        return f"restarted, run {run.number if run else '?'}", None

    async def signal(self, agent: Agent, signum: int) -> tuple[str, dict[str, Any] | None]:
        """Send one signal to the main program."""
        run = self._live(agent, "signalled")
        count = await run.backend.signal(run.ref, signum)
        return f"{signals.Signals(signum).name} sent to {count}", None

    # --- the rest --------------------------------------------------------------------------------

    async def nice(
        self, agent: Agent, value: int | None, delta: int | None, by: str
    ) -> tuple[str, dict[str, Any] | None]:
        """Set nice, or move it by ``delta`` within -20..19."""
        record = self._books.pending.agents.get(agent.id, agent)
        wanted = value if value is not None else max(-20, min(19, record.nice + (delta or 0)))
        if wanted != record.nice:
            await self._books.commit(ev.NiceChanged(agent=agent.id, nice=wanted, by=by))
            if run := self._supervisor.runs.get(agent.id):
                await run.backend.renice(run.ref, wanted)
        return f"nice {wanted}", None

    async def remove(
        self, agent: Agent, by: str, *, force: bool = False, discard: bool = False
    ) -> tuple[str, dict[str, Any] | None]:
        """Take an ended agent off the table and its output off the disk.

        Its worktree goes, too, if nothing would be lost by that, or that is told (``discard``).

        Raises:
            Conflict: It runs, or will be restarted, and ``force`` was not given.
        """
        if not agent.over and not force:
            raise Conflict(
                f"{agent.name} cannot be removed",
                f"It is {agent.shown}" if agent.live else "It will be restarted",
                "Stop it first, or remove it with --force",
            )
        if not agent.over:
            killed = await self._supervisor.stop(agent.id, how="kill", grace=0.0, by=by)
            if killed is not None and killed.survivors:
                raise BackendError(
                    f"{agent.name} was not removed",
                    f"{len(killed.survivors)} of its processes survived the kill",
                )
        async with self._supervisor.lock(agent.id):  # nothing can start a run of it meanwhile
            record = self._books.pending.agents.get(agent.id)
            if record is None:
                return "removed already", None
            if not record.over:
                raise Conflict(
                    f"{agent.name} was not removed", "It was started again meanwhile", "Stop it first"
                )
            await self._supervisor.forget([record])
            left, facts = await self._leave(record, discard)
            await self._books.commit(*facts, ev.AgentRemoved(agent=agent.id, by=by))
        self._supervisor.drop(agent.id)
        # After the journal: a crash in between leaves files, which the next start sweeps, not a
        # row whose output is gone.
        await anyio.to_thread.run_sync(
            lambda: shutil.rmtree(self._paths.agent_dir(agent.id), ignore_errors=True)
        )
        if left is None:
            return "removed", None
        return f"removed, {left.said}" if left.said else "removed", {"notes": left.notes}

    async def _leave(self, agent: Agent, discard: bool) -> tuple[Left | None, list[ev.Event]]:
        return await self._workspaces.leave(agent, discard=discard) if self._workspaces else (None, [])


def ended(how: str, killed: Killed) -> str:
    """What a stop or kill did, for a person."""
    verb = "killed" if how == "kill" else "stopped"
    if killed.survivors:
        pids = " ".join(map(str, killed.survivors[:8]))
        return f"not {verb}: {len(killed.survivors)} of {killed.processes} processes survive ({pids})"
    return f"{verb} {killed.ended}/{killed.processes} processes, 0 survivors, {killed.mechanism}"


def proof_of(killed: Killed, first: int, last: int) -> dict[str, Any]:
    """The proof as an outcome carries it; ``first`` and ``last`` are the journal rows that tell of it."""
    proof = killed._asdict()
    proof["survivors"] = list(killed.survivors)
    proof["steps"] = [step._asdict() for step in killed.steps]
    proof["events"] = [first, last]
    return proof
