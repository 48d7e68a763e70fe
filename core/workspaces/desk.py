"""``Workspaces``: the kernel's side of worktrees and folders. git runs in worker threads, few at a time."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from ..agents.agent import Agent
from ..agents.spec import AgentSpec
from ..agents.worktree import Worktree
from ..api import CheckInfo, Outcome, WorkspaceInfo
from ..api.workspaces import Detail
from ..errors import AgentTopError, UsageError
from ..journal import events as ev
from ..journal.books import Books
from ..paths import Paths
from . import head, looking, making, planning, removal, sharing
from .contained import arranged, contained
from .git import Git
from .losses import CACHES, losses
from .patch import SCRATCH
from .planning import GONE
from .sharing import Place

log = logging.getLogger(__name__)

T = TypeVar("T")

#: How many gits look, and how many make or remove worktrees, at the same time.
LOOKING, MAKING = 2, 4

#: The file in an agent's folder that says which commit was checked out when it began.
BEGAN = "began"

#: Why git is not asked.
ARRANGED = "an agent works there in a sandbox, and git is not run on what it may have arranged there"

#: Names that a remark about a shared folder has; more are counted.
NAMED = 5


class Workspaces:
    """Plans, makes, looks at and removes what agents work in."""

    def __init__(
        self,
        books: Books,
        paths: Paths,
        folder_of: Callable[[Agent], str],
        caches: Collection[str] = (),
        observed: Callable[[], Iterable[Place]] = lambda: (),
    ) -> None:
        """``folder_of`` tells where an agent works (it may read files); ``caches`` are names of folders."""
        self._books = books
        self._paths = paths
        self._folder_of = folder_of
        self._caches = CACHES | set(caches)
        self._observed = observed
        self._looking = anyio.CapacityLimiter(LOOKING)
        self._making = anyio.CapacityLimiter(MAKING)
        self._remarks: dict[str, list[str]] = {}

    async def _with_git(
        self, work: Callable[[Git], T], seconds: float, limiter: anyio.CapacityLimiter, *, reading: bool
    ) -> T:
        """Run ``work`` in a thread; when the waiting for it is cancelled, its git is ended."""
        stop = threading.Event()
        try:
            return await anyio.to_thread.run_sync(
                lambda: work(Git(seconds, stop, reading=reading)), limiter=limiter, abandon_on_cancel=True
            )
        finally:
            stop.set()

    # --- beginning -------------------------------------------------------------------------------

    async def plan(
        self, agent: str, spec: AgentSpec, caller: Mapping[str, str], existing: Worktree | None = None
    ) -> list[ev.Event]:
        """What to write down with an agent that is to work in a worktree: nothing for any other.

        Args:
            caller: The environment it is started from.
            existing: The worktree it has already, which it keeps; only the subfolder may be another.

        Raises:
            UsageError: There is no repository, or no commit, to make one of.
            Conflict: The branch cannot be taken, or the folder is in another repository than the worktree.
            GitError: git is missing or failed.
        """
        if not spec.worktree:
            return []
        cwd = spec.cwd or caller.get("PWD") or str(Path.home())
        found = await self._with_git(
            partial(self._plan, agent, spec, cwd, existing), planning.SECONDS, self._looking, reading=True
        )
        self._remarks[agent] = found.notes
        if existing is not None and found.worktree.folder == existing.folder:
            return []
        tree = found.worktree
        return [
            ev.WorktreePlanned(
                agent=agent,
                path=tree.path,
                folder=tree.folder,
                repository=tree.repository,
                branch=tree.branch,
                base=tree.base,
                ours=tree.ours,
            )
        ]

    def _plan(
        self, agent: str, spec: AgentSpec, cwd: str, existing: Worktree | None, git: Git
    ) -> planning.Planned:
        if name := arranged(cwd, self._contained()):
            raise UsageError(
                f"cannot make a worktree of {cwd}",
                f"{name} works there in a sandbox, and git would run here what it may have arranged",
                f"Look at the settings of the repository, then remove {name}",
            )
        if existing is not None:
            return planning.moved(existing, spec.name, cwd, git)
        return planning.plan(
            spec.name,
            cwd,
            root=planning.fresh(self._paths.worktrees, f"{spec.name}-{agent}"),
            branch=spec.branch,
            base=spec.base,
            planned=self.reserved(),
            git=git,
        )

    def free(self, place: Sequence[ev.Event]) -> bool:
        """Whether no other agent was given one of these branches, until just before they are written down."""
        wanted = [(e.repository, e.branch) for e in place if isinstance(e, ev.WorktreePlanned)]
        return len(set(wanted)) == len(wanted) and not self.reserved().intersection(wanted)

    def reserved(self) -> set[tuple[str, str]]:
        """The branches of all worktrees in the books: a planned one may not have been made yet."""
        return {
            (agent.worktree.repository, agent.worktree.branch)
            for agent in list(self._books.pending.agents.values())
            if agent.worktree is not None
        }

    async def furnish(self, agents: Sequence[Agent]) -> dict[str, AgentTopError]:
        """Have their folders ready before they are started; who cannot be started, and why."""
        failures: dict[str, AgentTopError] = {}

        async def furnish(agent: Agent, tree: Worktree) -> None:
            try:
                await self._with_git(partial(making.make, tree), making.SECONDS, self._making, reading=False)
                if not tree.made:
                    await self._books.commit(
                        ev.WorktreeMade(agent=agent.id, path=tree.path, branch=tree.branch)
                    )
            except AgentTopError as error:
                failures[agent.id] = error

        async with anyio.create_task_group() as tasks:
            for agent in agents:
                if agent.spec.worktree and agent.worktree is not None:
                    tasks.start_soon(furnish, agent, agent.worktree)
            if first := [agent for agent in agents if agent.run is None or agent.run.number == 1]:
                await anyio.to_thread.run_sync(self._note, first)
        return failures

    def _note(self, agents: Sequence[Agent]) -> None:
        """Keep which commit agents begin at, for those that have no worktree that says so."""
        commits: dict[str, str | None] = {}
        for agent in agents:
            if agent.spec.worktree or agent.spec.cwd is None or contained(agent.spec):
                continue
            cwd = agent.spec.cwd
            if cwd not in commits:
                commits[cwd] = head.commit(cwd)
            if (found := commits[cwd]) is not None:
                try:
                    (self._paths.agent_dir(agent.id) / BEGAN).write_text(found)
                except OSError as error:  # what it changes is then counted from what is checked out
                    log.warning("the commit %s begins at was not kept: %s", agent.id, error)

    # --- ending ----------------------------------------------------------------------------------

    async def leave(
        self, agent: Agent, *, discard: bool = False
    ) -> tuple[removal.Left | None, list[ev.Event]]:
        """Take an ended agent's worktree away, as far as nothing is lost by it, and what to write down."""
        self._remarks.pop(agent.id, None)
        tree = agent.worktree
        if tree is None:
            return None, []
        places, contained_ones = self._places(), self._contained()

        def dispose(git: Git) -> removal.Left:
            if contained_ones and arranged(tree.path, contained_ones):
                return removal.stays(tree, ARRANGED)
            inside = [place.name for place in places if place.id != agent.id and _inside(place, tree)]
            return removal.dispose(tree, discard=discard, others=inside, caches=self._caches, git=git)

        left = await self._with_git(dispose, removal.SECONDS, self._making, reading=False)
        event = ev.WorktreeLeft(
            agent=agent.id,
            path=tree.path,
            branch=tree.branch,
            repository=tree.repository,
            kept=left.kept,
            branch_kept=left.branch_kept,
        )
        return left, [event]

    def sweep(self) -> None:
        """Delete what was moved away to be deleted, and copies that a crash left. Blocking."""
        if not self._paths.worktrees.is_dir():
            return
        known = self._known()
        for old in [*self._paths.worktrees.glob(f"*/*{GONE}"), *self._paths.worktrees.glob(f"{SCRATCH}*")]:
            if str(old) not in known:
                shutil.rmtree(old, ignore_errors=True)

    def _known(self) -> set[str]:
        """The worktrees of all agents there are."""
        agents = list(self._books.pending.agents.values())
        return {agent.worktree.path for agent in agents if agent.worktree is not None}

    def abandoned(self) -> list[Path]:
        """Worktrees of agents that were removed: work that is kept until somebody takes it. Blocking."""
        if not self._paths.worktrees.is_dir():
            return []
        known = self._known()
        folders = [folder for folder in self._paths.worktrees.iterdir() if folder.name[:1] != "."]
        found = [tree for folder in folders if folder.is_dir() for tree in folder.iterdir()]
        return sorted(tree for tree in found if str(tree) not in known)

    async def checks(self) -> list[CheckInfo]:
        """The line of ``doctor`` about worktrees that outlived their agents; none where there are none."""
        left = await anyio.to_thread.run_sync(self.abandoned)
        if not left:
            return []
        listed = ", ".join(map(str, left[:NAMED])) + (
            f" and {len(left) - NAMED} more" if left[NAMED:] else ""
        )
        hint = "They have work in no commit; git worktree remove --force PATH deletes one"
        return [CheckInfo(group="kernel", name="left worktrees", level="warn", found=listed, hint=hint)]

    # --- looking ---------------------------------------------------------------------------------

    async def look(self, agent: Agent, detail: Detail = "") -> WorkspaceInfo:
        """An agent's folder as git sees it now; for ``losses``, its worktree, wherever it works by now."""
        places = self._places()

        others = self._contained()

        def look(git: Git) -> WorkspaceInfo:
            own = agent.worktree if agent.spec.worktree or detail == "losses" else None
            folder = own.path if own is not None and detail == "losses" else self._folder_of(agent)
            if contained(agent.spec) or (others and arranged(folder, others)):
                return WorkspaceInfo(
                    folder=folder, problem=ARRANGED, shared_with=self._with(folder, agent.id, places)
                )
            base = own.base if own is not None else self._began(agent)
            found = self._look(folder, base, detail, git)
            found.worktree = own is not None
            found.shared_with = self._with(folder, agent.id, places)
            if detail == "losses" and own is not None:
                found.losses = losses(own, caches=self._caches).lines()
            return found

        return await self._with_git(look, looking.SECONDS, self._looking, reading=True)

    async def look_at(self, agent: str, folder: str | None, detail: Detail = "") -> WorkspaceInfo:
        """The same for an agent of nobody's: where it began is not known."""
        if folder is None:
            return WorkspaceInfo(folder="", problem="where it works is not known")
        places = self._places()

        others = self._contained()

        def look(git: Git) -> WorkspaceInfo:
            if others and arranged(folder, others):
                return WorkspaceInfo(
                    folder=folder, problem=ARRANGED, shared_with=self._with(folder, agent, places)
                )
            found = self._look(folder, None, detail, git)
            found.shared_with = self._with(folder, agent, places)
            return found

        return await self._with_git(look, looking.SECONDS, self._looking, reading=True)

    def _look(self, folder: str, base: str | None, detail: Detail, git: Git) -> WorkspaceInfo:
        return looking.look(folder, base=base, scratch=self._paths.worktrees, diff=detail == "diff", git=git)

    def _with(self, folder: str, agent: str, places: Sequence[Place]) -> list[str]:
        return [place.name for place in sharing.sharers(folder, places, but=agent)]

    def _began(self, agent: Agent) -> str | None:
        try:
            return (self._paths.agent_dir(agent.id) / BEGAN).read_text().strip() or None
        except FileNotFoundError:
            return None

    def _contained(self) -> list[Agent]:
        return [agent for agent in list(self._books.pending.agents.values()) if contained(agent.spec)]

    def _places(self) -> list[Place]:
        """Who works where now: this kernel's live agents, and the observed ones."""
        ours = [
            Place(agent.id, agent.name, agent.cwd)
            for agent in self._books.pending.agents.values()
            if agent.live and agent.cwd is not None
        ]
        return [*ours, *self._observed()]

    # --- remarks ---------------------------------------------------------------------------------

    async def remarks(self, agents: Sequence[Agent]) -> dict[str, list[str]]:
        """What whoever started these agents should know of their folders, by agent.

        A folder that they share with others is written down, too: once for each that is shared.
        """
        found = {agent.id: self._remarks.pop(agent.id, []) for agent in agents}
        started = {agent.id for agent in agents if agent.live and agent.cwd is not None}
        if not started:
            return found
        places = self._places()
        groups = await anyio.to_thread.run_sync(sharing.groups, places)
        events: list[ev.Event] = []
        for folder, group in groups.items():
            new = [place for place in group if place.id in started]
            if len(group) < 2 or not new:
                continue
            others = [place.name for place in group if place is not new[0]]
            alone = len(new) == 1
            names = others if alone else [place.name for place in group]
            events.append(
                ev.FolderShared(
                    agent=new[0].id if alone else None, folder=folder, names=names[:NAMED], count=len(names)
                )
            )
            found[new[0].id] = [*found[new[0].id], _shared(new[0].name, others, folder)]
        if events:
            try:
                await self._books.commit(*events)
            except AgentTopError as error:  # the agents run; only the remark is not kept
                log.warning("a shared folder was not written down: %s", error)
        return found

    async def remarked(self, outcomes: list[Outcome]) -> list[Outcome]:
        """The outcomes of ``up`` with what one should know of the folders of what was started."""
        agents = self._books.committed.agents
        done = {"created", "changed", "started"}
        started = [agents[o.id] for o in outcomes if o.id in agents and o.done in done]
        found = await self.remarks(started)
        return [o.model_copy(update={"notes": found.get(o.id or "", [])}) for o in outcomes]


def _shared(name: str, others: Sequence[str], folder: str) -> str:
    named = ", ".join(others[:NAMED]) + (f" and {len(others) - NAMED} more" if len(others) > NAMED else "")
    verb = "works" if len(others) == 1 else "work"
    return f"{named} {verb} in {folder}, too, where {name} does: with --worktree each has its own files"


def _inside(place: Place, tree: Worktree) -> bool:
    """Whether an agent works in a worktree."""
    real, top = sharing.spot(place.folder).real, os.path.realpath(tree.path)
    return real == top or real.startswith(top + os.sep)
