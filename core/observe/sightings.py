"""The part of the kernel that knows the agents which somebody else started.

Once a second while somebody looks, a worker thread joins processes to sessions, takes the views and makes
the rows; between two such looks it only reads on in transcripts that grew. What a screen shows is what the
last look found: building a row costs the event loop nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple

import anyio
import anyio.to_thread

from ..agents.agent import ObservedFreeze
from ..api import Header
from ..budget.prices import Prices
from ..clock import Clock
from ..config import ObserveTable
from ..errors import AmbiguousAgent, NoSuchAgent
from ..journal.books import Books
from ..table import Row
from ..workspaces.sharing import Place
from . import rows
from .board import Board, Sums, summed
from .contract import Child, Oddities, observers
from .gauges import Gauges, Tree
from .pricing import Pricing
from .watch import Observed, Watch, name

log = logging.getLogger(__name__)

#: Seconds between two glances at transcripts that are followed.
GLANCE = 0.6
#: Agents that are looked at in a second; of more the processes are looked at more seldom.
MANY = 100
#: Trees that are measured in one look of many; the others' turn comes in the next ones.
TREES = 50
#: Seconds for which a look begins to read transcripts: after them the rows are shown without what they say.
PATIENCE = 0.2
#: The same of the first look.
FIRST = 0.05
#: Seconds between two looks at frozen agents while nobody watches.
SELDOM = 10.0
#: After so many seconds what was seen is looked at again before it is told, or done anything to.
OLD = 2.0
#: Until it is so old, in seconds, a process is compared with the managed trees in each look: its run may be
#: being written down just now.
YOUNG = 5.0


class Look(NamedTuple):
    """What one look found, complete: the next one replaces it."""

    agents: dict[str, Observed] = {}  # noqa: RUF012 (never written to)
    trees: dict[str, Tree] = {}  # noqa: RUF012
    rows: dict[str, dict[str, Row]] = {}  # noqa: RUF012
    """By window, by id; subagents too."""
    sums: dict[str, Sums] = {}  # noqa: RUF012
    """By window."""
    frozen: Mapping[str, ObservedFreeze] = {}
    """What the books said when it began."""


class Sightings:
    """Finds observed agents, names them, and keeps their rows.

    Args:
        kernel: The name of our own state folder: what carries its mark is managed.
        looked_at: The windows of the open watches.
        pids: Gives the live pids of all managed agents' trees.
        follows: Which managed agents' transcripts are wanted, by id; see ``managed``.
    """

    def __init__(
        self,
        config: ObserveTable,
        books: Books,
        prices: Prices,
        clock: Clock,
        boot: str,
        kernel: str,
        looked_at: Callable[[], set[str]],
        pids: Callable[[], Awaitable[set[int]]],
        follows: Callable[[str], bool] = lambda agent: False,
    ) -> None:
        self._config = config
        self._books = books
        self.quote = Pricing(prices)
        self._clock = clock
        self._boot, self._kernel, self._follows = boot, kernel, follows
        self._looked_at = looked_at
        self._pids = pids
        self._compared: set[str] = set()
        self._titles: dict[str, str] = {}
        self._board = Board(self.quote)
        self._watch: Watch | None = None
        self._gauges: Gauges | None = None
        self._turn = anyio.Lock()
        self._began = -1e9
        self._asked: set[str] = set()
        """Windows that somebody looks at, or did in the last look."""
        self._wake = anyio.Event()
        self.last = Look()
        self.failed: dict[str, str] = {}
        """Readers that could not be imported, with the reason."""
        self.managed: list[Observed] = []
        """The programs of managed agents that are followed: their transcripts may tell what they wait for."""
        self.touched: Callable[[Iterable[str]], None] = lambda ids: None
        """Called with the ids of rows that changed, came or went."""
        self.looked: list[Callable[[], Awaitable[None]]] = []
        """Called after each look, one after the other."""

    @property
    def enabled(self) -> bool:
        """Whether observed agents are looked for."""
        return self._config.enabled

    # --- looking ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look for as long as the kernel lives: often while somebody watches, else hardly ever."""
        while self.enabled:
            self._wake = anyio.Event()
            if not self._looked_at():
                with anyio.move_on_after(SELDOM if self._books.pending.observed else None):
                    await self._wake.wait()
            try:
                await self._watched()
            except OSError as error:  # no descriptors left: that must not end the kernel
                log.warning("observed agents were not looked at: %s", error)
                await anyio.sleep(self._config.interval)

    async def _watched(self) -> None:
        """Look once at everything, and until it is due again at what was written."""
        await self.look(whole=False)
        # What many agents write is still read at each glance; who comes and goes is seen a little later.
        interval = max(self._config.interval, len(self.last.agents) / MANY)
        due = self._clock.monotonic() + interval
        while self._looked_at() and (rest := due - self._clock.monotonic()) > 0:
            await anyio.sleep(min(rest, GLANCE))
            if rest > GLANCE:
                await self._glance()

    def begin(self) -> None:
        """Somebody begins to watch: look now."""
        self._wake.set()

    async def look(self, *, whole: bool = True) -> None:
        """Look at everything now; unless ``whole``, at the trees of a part of many."""
        if not self.enabled:
            return
        asked = self._clock.monotonic()
        async with self._turn:
            if self._began >= asked and self._looked_at() <= self._asked:
                return  # somebody else asked meanwhile, and this look is ours, too
            while True:
                unread = await self._look(whole)
                if not unread:
                    return

    async def _look(self, whole: bool) -> bool:
        """One look; whether a transcript is still to be read."""
        frozen = dict(self._books.committed.observed)
        wall, monotonic = self._clock.time(), self._clock.monotonic()
        windows = self._looked_at() or self._asked
        found, managed, unread = await anyio.to_thread.run_sync(
            self._look_now, wall, monotonic, windows, frozen, whole
        )  # whoever asked may leave: the thread is waited for all the same, the next one needs what it has
        found = await self._without_managed(found, wall)
        self._began, self._asked, self.managed = monotonic, windows, managed
        await self._show(found)
        return unread

    async def _without_managed(self, found: Look, now: float) -> Look:
        """What belongs to a managed tree and carries no mark (taken away, or unreadable) is none."""
        fresh = [agent for key, agent in found.agents.items() if key not in self._compared]
        if not fresh:
            return found
        managed = await self._pids()
        self._compared &= found.agents.keys()
        self._compared |= {agent.id for agent in fresh if now - agent.main.started > YOUNG}
        wrong = {agent.id: agent for agent in fresh if agent.main.pid in managed}
        if not wrong or self._watch is None:
            return found
        for agent in wrong.values():
            self._watch.disown(agent)
        kept = {
            window: {key: row for key, row in made.items() if key.partition(".")[0] not in wrong}
            for window, made in found.rows.items()
        }
        return found._replace(
            agents={key: agent for key, agent in found.agents.items() if key not in wrong},
            rows=kept,
            sums={window: summed(made) for window, made in kept.items()},
        )

    async def _glance(self) -> None:
        async with self._turn:
            frozen = dict(self._books.committed.observed)
            found = await anyio.to_thread.run_sync(
                self._glance_now, self._clock.time(), frozen
            )  # waited for in any case, see ``_look``
            if found is not None:
                await self._show(found)

    async def _show(self, found: Look) -> None:
        """Make it what is known, and tell whose rows changed."""
        before, self.last = self.last, found
        changed: set[str] = set()
        for window, fresh in found.rows.items():
            old = before.rows.get(window, {})
            changed |= {key for key, row in fresh.items() if old.get(key) != row}
        shown = next(iter(found.rows.values()), {})
        for old in before.rows.values():
            changed |= old.keys() - shown.keys()
        if changed or found.sums != before.sums:
            self.touched(changed)
        for told in self.looked:
            await told()

    # --- in the thread ---------------------------------------------------------------------------

    def _look_now(
        self,
        wall: float,
        monotonic: float,
        windows: set[str],
        frozen: Mapping[str, ObservedFreeze],
        whole: bool,
    ) -> tuple[Look, list[Observed], bool]:
        watch, gauges = self._readers()
        seen = watch.refresh(wall, monotonic, PATIENCE if self.last.agents else FIRST)
        agents = {agent.id: agent for agent in seen if not agent.managed}
        trees = gauges.look(agents.values(), monotonic, None if whole else TREES, frozen)
        # A zombie is in /proc until its parent asks how it ended, and is nobody any more.
        agents = {key: agent for key, agent in agents.items() if trees[key].processes}
        found = self._built(agents, trees, windows, wall, frozen)
        self._board.keep(windows, agents)
        return found, [agent for agent in seen if agent.managed], watch.unread

    def _glance_now(self, wall: float, frozen: Mapping[str, ObservedFreeze]) -> Look | None:
        """Only those whose transcripts grew are built anew."""
        watch, _ = self._readers()
        last = self.last
        moved = watch.glance(wall)
        if managed := {agent.id: agent for agent in moved if agent.managed}:
            self.managed = [managed.get(agent.id, agent) for agent in self.managed]
        grown = {agent.id: agent for agent in moved if agent.id in last.agents}
        if not grown:
            return last if managed else None
        agents = {**last.agents, **grown}
        built = self._built(grown, last.trees, set(last.rows), wall, frozen)
        merged = {window: {**last.rows[window], **fresh} for window, fresh in built.rows.items()}
        sums = {window: summed(made) for window, made in merged.items()}
        return Look(agents, last.trees, merged, sums, last.frozen)

    def _readers(self) -> tuple[Watch, Gauges]:
        if self._watch is None or self._gauges is None:
            made, self.failed = observers(self._config.clis)
            self._titles = {key: observer.title for key, observer in made.items()}
            self._watch = Watch(made, self._boot, kernel=self._kernel, follows=self._follows)
            self._gauges = Gauges(self._watch.census)
        return self._watch, self._gauges

    def _built(
        self,
        agents: Mapping[str, Observed],
        trees: dict[str, Tree],
        windows: set[str],
        now: float,
        frozen: Mapping[str, ObservedFreeze],
    ) -> Look:
        built = {window: self._board.rows(agents.values(), trees, frozen, window, now) for window in windows}
        sums = {window: summed(made) for window, made in built.items()}
        return Look(dict(agents), trees, built, sums, frozen)

    # --- asking ----------------------------------------------------------------------------------

    def find(self, ref: str) -> Observed | tuple[Observed, Child] | None:
        """The observed agent, or subagent, of this name, id, or beginning of one id.

        Raises:
            AmbiguousAgent: The beginning of several ids.
        """
        if not ref:
            return None
        begun: list[Observed | tuple[Observed, Child]] = []
        for agent in self.last.agents.values():
            if ref in (agent.id, name(agent)):
                return agent
            if agent.id.startswith(ref):
                begun.append(agent)
            for child in agent.view.children if agent.view is not None else ():
                if ref in (rows.child_id(agent, child), rows.child_name(agent, child)):
                    return agent, child
        if len(begun) > 1:
            raise AmbiguousAgent(f"{ref} is the beginning of {len(begun)} ids", "", "Give more characters")
        return begun[0] if begun else None

    async def known(self, ref: str) -> Observed | tuple[Observed, Child]:
        """The same, as it is now: looked for again unless it was seen a moment ago.

        Raises:
            NoSuchAgent: There is none.
        """
        found = self.find(ref)
        if found is None or self._clock.monotonic() - self._began > OLD:
            await self.look()
            found = self.find(ref)
        if found is None:
            shown = ref if ref and ref.isprintable() else repr(ref)
            raise NoSuchAgent(f"no agent {shown[:80]}", "", "`agenttop ps --all` lists every agent")
        return found

    def row(self, agent: str, window: str) -> Row | None:
        """The row of an observed agent, or subagent, as last seen."""
        return self.last.rows.get(window, {}).get(agent)

    def ids(self, window: str) -> list[str]:
        """The ids of all rows of a window."""
        return list(self.last.rows.get(window, ()))

    def header(self, header: Header, window: str) -> Header:
        """``header`` with what the rows of observed agents add to it; budgets and providers are without."""
        sums = self.last.sums.get(window)
        if sums is None or not self.last.agents:
            return header
        return header._replace(
            input=header.input + sums.usage.input,
            cache_read=header.cache_read + sums.usage.cache_read,
            cache_write=header.cache_write + sums.usage.cache_write,
            output=header.output + sums.usage.output,
            cost=round(header.cost + sums.cost, 9),
            cost_exact=header.cost_exact and sums.exact,
            unpriced=header.unpriced + sums.unpriced,
            context=header.context + sums.context,
            context_limit=header.context_limit + sums.context_limit,
            agents_cpu=round(header.agents_cpu + sums.cpu, 1),
            agents_memory=header.agents_memory + sums.memory,
        )

    def title(self, observer: str) -> str:
        """The name a CLI gives itself."""
        return self._titles.get(observer, observer)

    def places(self) -> list[Place]:
        """The folders that the observed agents work in, as last seen."""
        return [
            Place(agent.id, name(agent), folder)
            for agent in self.last.agents.values()
            if (folder := (agent.view.cwd if agent.view else None) or agent.main.cwd)
        ]

    def working_in(self, folder: str) -> list[str]:
        """The names of the observed agents that work in a folder, as last seen."""
        return [
            name(agent)
            for agent in self.last.agents.values()
            if folder in (agent.main.cwd, agent.view.cwd if agent.view else None)
        ]

    def oddities(self) -> Oddities:
        """What the readers of live sessions did not understand."""
        return self._watch.oddities() if self._watch is not None else Oddities()

    def oddities_of_each(self) -> dict[str, Oddities]:
        """The same by observer."""
        return self._watch.oddities_of_each() if self._watch is not None else {}
