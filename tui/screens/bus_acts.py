"""What a person does on the Bus pane: read a message whole, write one, put dead letters back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenttop.core.errors import AgentTopError

from ..format import clean
from ..verbs import sentences
from ..widgets import bus_side
from .pane import PaneScreen

if TYPE_CHECKING:
    from agenttop.core.api.bus import DeadInfo, MessageRow

    from ..bus import BusPicture
    from ..bus_watch import BusWatch
    from ..widgets.trace_table import TraceTable

#: Seconds between two looks at the dead letters while they are on screen.
DEAD_EVERY = 2.0


class DeadLetters:
    """The dead letters that were found, and the one under the cursor."""

    def __init__(self) -> None:
        self.found: list[DeadInfo] | None = None
        self.problem = ""
        self.at = 0
        self.busy = False

    def learned(self, found: list[DeadInfo]) -> None:
        """What there is now; the cursor stays on its letter."""
        key = self._key(self.current)
        self.found, self.problem = list(reversed(found)), ""  # the newest on top, as in the trace
        keys = [self._key(letter) for letter in self.found]
        self.at = keys.index(key) if key in keys else max(0, min(self.at, len(keys) - 1))

    @staticmethod
    def _key(letter: DeadInfo | None) -> tuple[str, str] | None:
        return (letter.message.id, letter.agent) if letter is not None else None

    @property
    def current(self) -> DeadInfo | None:
        """The one under the cursor."""
        return self.found[self.at] if self.found and self.at < len(self.found) else None

    def go(self, by: int) -> None:
        """Move the cursor."""
        self.at = max(0, min(len(self.found or ()) - 1, self.at + by))

    def forget(self) -> None:
        """Another kernel is looked at."""
        self.found, self.at, self.problem = None, 0, ""


class BusActs(PaneScreen):
    """The acting keys of the pane; ``BusScreen`` gives what is declared here."""

    part: str
    picture: BusPicture
    feed: BusWatch
    letters: DeadLetters
    box: str | None

    @property
    def table(self) -> TraceTable:
        """The trace."""
        raise NotImplementedError

    def shown(self) -> dict[str, str]:
        """Which part is in which place."""
        raise NotImplementedError

    def _whole(self) -> bool:
        raise NotImplementedError

    def _paint(self) -> None:
        raise NotImplementedError

    def _chosen_box(self) -> str | None:
        raise NotImplementedError

    # --- dead letters --------------------------------------------------------------------------

    def _look_for_dead(self) -> None:
        if (
            self._whole()
            and "dead" in self.shown().values()
            and not self.letters.busy
            and not self.shell.lost
        ):
            self.letters.busy = True
            self.run_worker(self._ask_for_dead(), group="bus-dead")

    async def _ask_for_dead(self) -> None:
        from agenttop.core.api import bus

        client = self.shell.client
        try:
            if client is not None:
                self.letters.learned(await client.call(bus.DEAD, bus.DeadRequest(host=self.feed.host)))
        except AgentTopError as error:
            self.letters.problem = str(error)
        finally:
            self.letters.busy = False
        self._paint()

    def _dead_one(self) -> tuple[str, str, str] | None:
        """Mailbox, its name and id of the dead letter under the cursor; says so where there is none."""
        if self.part == "dead":
            if (letter := self.letters.current) is not None:
                return letter.agent, letter.name, letter.message.id
        elif (row := self.table.current) is not None and row.state.startswith("dead"):
            if row.to[:1] in ("#", "*"):
                self.shell.toast("It had several receivers", "d lists the dead letters one by one", "warn")
                return None
            return row.to, row.to, f"m{row.seq}"
        self.shell.toast("No dead letter here", "d lists them", "warn")
        return None

    def do_bus_revive(self) -> None:
        """Put the dead letter back into its mailbox."""
        if found := self._dead_one():
            self.run_worker(self._revive(*found), group="bus-acts")

    async def _revive(self, agent: str, name: str, message: str) -> None:
        from agenttop.core.api import bus

        client = self.shell.client
        if client is None:
            return
        try:
            request = bus.DeadActRequest(agent=agent, ids=[message], host=self.feed.host)
            outcomes = await client.call(bus.REVIVE, request)
        except AgentTopError as error:
            self.shell.toast(*sentences(error), "error")
            return
        self.shell.verbs.report(f"put back for {clean(name)}", outcomes)
        self._look_for_dead()

    def do_bus_drop(self) -> None:
        """Throw the dead letter away, after asking."""
        if found := self._dead_one():
            from .dead_drop import DropScreen

            agent, name, message = found
            letters = self.letters.found if self.part == "dead" else None
            others = sum(letter.agent == agent for letter in letters) if letters else 0
            screen = DropScreen(agent, name, message, self.feed.host, others)
            self.shell.push_screen(screen, lambda done: self._look_for_dead() if done else None)

    # --- reading and writing -------------------------------------------------------------------

    def _chosen_message(self) -> tuple[int, MessageRow | None] | None:
        if self.part == "dead":
            letter = self.letters.current
            return (int(letter.message.id[1:]), None) if letter is not None else None
        row = self.table.current
        return (row.seq, row) if row is not None else None

    def do_bus_open(self) -> None:
        """Everything about the message under the cursor; on a mailbox: only its messages."""
        if self.part == "boxes":
            box = next((box for box in self.picture.boxes if box.agent == self._chosen_box()), None)
            if box is not None:
                self.part = "trace"
                self.feed.filter(box.name)
                self._paint()
            return
        found = self._chosen_message()
        if found is None:
            self.shell.toast("No message here", "m writes one", "warn")
            return
        from .message import MessageScreen

        self.shell.push_screen(MessageScreen(found[0], self.feed.host, found[1]))

    def do_agent_message(self) -> None:
        """Write a message: to the mailbox, or to the receiver of the message, under the cursor."""
        from .send import SendScreen

        self.shell.push_screen(SendScreen(self._addressee(), host=self.feed.host))

    def _addressee(self) -> str:
        if self.part == "boxes":
            boxes = {box.agent: box.name for box in bus_side.sorted_boxes(self.picture.boxes)}
            return boxes.get(self._chosen_box() or "", "")
        if self.part == "dead":
            return self.letters.current.name if self.letters.current is not None else ""
        row = self.table.current
        return "" if row is None else row.sender if row.to == "*" else row.to
