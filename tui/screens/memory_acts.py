"""What the keys of the Memory pane do: open, edit, pin, move, forget; and the search as it is typed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal

from textual import events
from textual.timer import Timer
from textual.worker import Worker

from agenttop.core.errors import AgentTopError, KernelUnreachable

from ..format import clean, tokens
from ..memory import MemoryReader, Whose, moved_from, split_title
from ..verbs import sentences
from ..widgets.memory_archival import ArchivalPart
from ..widgets.memory_moves import MovesPart
from ..widgets.memory_recall import RecallPart
from ..widgets.memory_search import SearchPart
from ..widgets.memory_working import WorkingPart
from .memory_thing import Thing
from .pane import PaneScreen

if TYPE_CHECKING:
    from agenttop.core.api.memory import WrittenInfo
    from agenttop.core.client import KernelClient

#: What the archive says where no embedding model is configured.
OFF = "off"
#: Seconds from the last key typed to the search.
DEBOUNCE = 0.15


class MemoryActs(PaneScreen):
    """The part of the pane that acts; ``MemoryScreen`` gives what is declared here."""

    ref: str
    focus_on: str
    reader: MemoryReader | None
    working: WorkingPart
    recall: RecallPart
    archival: ArchivalPart
    moves: MovesPart
    search: SearchPart
    _soon: Timer | None

    @property
    @abstractmethod
    def whose(self) -> Whose | None:
        """The agent whose memory is shown."""

    @abstractmethod
    def paint(self) -> None:
        """Draw all parts."""

    @abstractmethod
    def look_now(self) -> None:
        """Ask at once, and for everything."""

    @abstractmethod
    def focus_part(self, name: str) -> None:
        """Let the cursor be in a part."""

    @abstractmethod
    def choose_space(self, name: str) -> None:
        """List the notes of one namespace."""

    @abstractmethod
    def _whole(self) -> bool:
        """False once the screen is being taken apart."""

    # --- what is meant -------------------------------------------------------------------------

    def thing(self) -> Thing | None:
        """The block, entry or note under the cursor."""
        whose = self.whose
        if whose is None or whose.observed:
            return None
        if self.focus_on == "working" and (block := self.working.chosen):
            return Thing.block(whose, block)
        if self.focus_on == "recall" and (entry := self.recall.chosen):
            return Thing.entry(whose, entry)
        if self.focus_on == "archival" and (note := self.archival.chosen):
            return Thing.note(whose, note)
        if self.focus_on == "search" and (hit := self.search.chosen):
            return self._found(whose, hit)
        if self.focus_on == "moves" and (move := self.moves.chosen):
            return self._moved(whose, move)
        return None

    def _found(self, whose: Whose, hit: Any) -> Thing:
        """What a search found, which may be another agent's."""
        if hit.agent and hit.agent != whose.id and hit.tier != "archival":
            rows = self.shell.model.rows.values()
            owner = next(
                (row for row in rows if row.host == whose.host and Whose.of(row).id == hit.agent), None
            )
            ref = f"{whose.host}/{hit.agent}" if whose.host else hit.agent
            whose = Whose.of(owner) if owner is not None else Whose(ref, hit.agent, hit.name, whose.host)
        if hit.tier == "archival":
            namespace, key = split_title(hit.title)
            return Thing(
                "note", whose, key, namespace=namespace, version=hit.version or 0, at=hit.at, text=hit.text
            )
        if hit.tier == "recall":
            return Thing("entry", whose, hit.title, id=hit.id, at=hit.at, text=hit.text, source=hit.source)
        return Thing("block", whose, hit.title, version=hit.version or 0, at=hit.at, text=hit.text)

    def _moved(self, whose: Whose, move: Any) -> Thing | None:
        """Where the text of a movement is now, as far as it is known here."""
        for block in self.working.blocks:
            if move.target == "working" and block.name == move.what:
                return Thing.block(whose, block)
        for note in self.archival.notes:
            if move.target == "archival" and note.key == move.what:
                return Thing.note(whose, note)
        entries = [one for one in self.recall.entries if moved_from(one.source) == move.what]
        if move.target == "recall" and entries:
            return Thing.entry(whose, min(entries, key=lambda one: abs(one.at - move.at)))
        return None

    def _of(self, kinds: tuple[str, ...], what: str) -> Thing | None:
        """The thing under the cursor if it is of these kinds; says what this key is for where it is not."""
        thing = self.thing()
        if thing is None or thing.kind not in kinds:
            self.shell.toast(f"Nothing to {what} here", f"the cursor is on no {' or '.join(kinds)}", "warn")
            return None
        return thing

    # --- keys ----------------------------------------------------------------------------------

    def do_memory_open(self) -> None:
        """The whole text with its provenance; of a namespace, its notes."""
        if self.focus_on == "archival" and (name := self.archival.at_space):
            self.choose_space("" if name == self.archival.space else name)
            return
        thing = self.thing()
        if thing is None:
            if self.focus_on == "moves" and self.moves.chosen:
                self.shell.toast("Its text is not among what is shown", "/ finds it", "warn")
            return
        from .memory_item import ItemScreen

        self.app.push_screen(ItemScreen(thing), lambda done: self._then(thing, done))

    def _then(self, thing: Thing, done: str | None) -> None:
        """Go on from the opened thing with another key."""
        actions: dict[str, Callable[[Thing], None]] = {
            "edit": self.edit, "versions": self.versions, "promote": self.promote, "evict": self.evict,
            "archive": self.archive, "forget": self.forget, "pin": self.pin,
        }  # fmt: skip
        if done:
            actions[done](thing)

    def do_memory_edit(self) -> None:
        """Change a block or note."""
        if thing := self._of(("block", "note"), "edit"):
            self.edit(thing)

    def edit(self, thing: Thing, text: str | None = None) -> None:
        """The editor; ``text`` is there instead of the thing's own."""
        from .memory_edit import EditScreen

        self.app.push_screen(EditScreen(thing, text=text), self._changed)

    def do_memory_new(self) -> None:
        """A new block or note."""
        whose = self.whose
        if whose is None or whose.observed:
            self.shell.toast("No memory here", "this agent was not started by agenttop", "warn")
            return
        from .memory_place import PlaceScreen

        kind: Literal["block", "note"] = "note" if self.focus_on == "archival" else "block"
        screen = PlaceScreen(whose, "new", kind, self._spaces(), self._blocks())
        self.app.push_screen(screen, lambda place: self.edit(place) if place is not None else None)

    def _spaces(self) -> list[str]:
        return [one.name for one in self.archival.spaces if one.write]

    def _blocks(self) -> list[str]:
        return [one.name for one in self.working.blocks]

    def do_memory_pin(self) -> None:
        """Pin a block, or unpin it."""
        if thing := self._of(("block",), "pin"):
            self.pin(thing)

    def pin(self, thing: Thing) -> None:
        """Pin, or unpin."""
        from agenttop.core.api import memory as api

        pinned = not thing.pinned
        request = api.PinRequest(agent=thing.whose.ref, name=thing.name, pinned=pinned)
        word = "pinned: it is never moved out" if pinned else "not pinned any more"
        self.act(lambda client: client.call(api.PIN, request), lambda _: (clean(thing.name), word))

    def do_memory_promote(self) -> None:
        """Bring an entry or a note into a working block."""
        if thing := self._of(("entry", "note"), "promote"):
            self.promote(thing)

    def promote(self, thing: Thing) -> None:
        """Ask into which block."""
        from .memory_place import PlaceScreen

        screen = PlaceScreen(thing.whose, "promote", "block", [], self._blocks(), thing)
        self.app.push_screen(screen, lambda place: self._promote(thing, place))

    def _promote(self, thing: Thing, place: Thing | None) -> None:
        from agenttop.core.api import memory as api

        if place is None:
            return
        if thing.kind == "entry":
            request = api.PromoteRequest(agent=thing.whose.ref, entry=thing.id or 0, block=place.name)
            self.act(lambda client: client.call(api.PROMOTE, request), self._written)
            return

        async def copy(client: KernelClient) -> WrittenInfo:
            note = await thing.read(client)
            text = api.WriteBlockRequest(agent=thing.whose.ref, name=place.name, text=note.text, append=True)
            return await client.call(api.WRITE_BLOCK, text)

        self.act(copy, self._written)

    def _written(self, written: WrittenInfo) -> tuple[str, str]:
        """What was written, and what had to go for it."""
        block = written.block
        title = f"{clean(block.name)} v{block.version}: {tokens(block.tokens)}/{tokens(block.limit)} tokens"
        gone = ", ".join(f"{clean(one.block)} {tokens(one.tokens)}" for one in written.moved)
        return title, f"moved to recall: {gone}" if gone else "nothing had to go for it"

    def do_memory_evict(self) -> None:
        """Move a block's text to recall."""
        if thing := self._of(("block",), "evict"):
            self.evict(thing)

    def evict(self, thing: Thing) -> None:
        """Move it; nothing is lost, so it is not asked."""
        from agenttop.core.api import memory as api

        request = api.BlockRequest(agent=thing.whose.ref, name=thing.name)
        told = f"moved to recall: {tokens(thing.tokens)} tokens; / finds them"
        self.act(lambda client: client.call(api.EVICT, request), lambda _: (clean(thing.name), told))

    def do_memory_archive(self) -> None:
        """Keep a block or an entry as a note."""
        if thing := self._of(("block", "entry"), "archive"):
            self.archive(thing)

    def archive(self, thing: Thing) -> None:
        """Ask for namespace and key."""
        from .memory_place import PlaceScreen

        screen = PlaceScreen(thing.whose, "archive", "note", self._spaces(), self._blocks(), thing)
        self.app.push_screen(screen, lambda place: self._archive(thing, place))

    def _archive(self, thing: Thing, place: Thing | None) -> None:
        from agenttop.core.api import memory as api

        if place is None:
            return

        async def write(client: KernelClient) -> api.NoteInfo:
            whole = await thing.read(client)
            request = api.WriteNoteRequest(
                host=thing.whose.host, namespace=place.namespace, key=place.name, text=whole.text,
                moved_from="working" if thing.kind == "block" else "recall",
            )  # fmt: skip
            return await client.call(api.WRITE_NOTE, request)

        self.act(
            write, lambda note: (f"{clean(note.key)} v{note.version}", f"kept in {clean(note.namespace)}")
        )

    def do_memory_versions(self) -> None:
        """Its versions, and what is different between any two."""
        if thing := self._of(("block", "note"), "compare"):
            self.versions(thing)

    def versions(self, thing: Thing) -> None:
        """The versions; one that is taken back is edited before it is written."""
        from .memory_versions import VersionsScreen

        def done(text: str | None) -> None:
            if text is not None:
                self.edit(thing, text)

        self.app.push_screen(VersionsScreen(thing), done)

    def do_memory_forget(self) -> None:
        """Forget for good; says first what would go."""
        whose = self.whose
        if whose is None or whose.observed:
            self.shell.toast("Nothing to forget here", "this agent was not started by agenttop", "warn")
            return
        self.forget(self.thing())

    def forget(self, thing: Thing | None) -> None:
        """The dialog that counts first."""
        from .memory_forget import ForgetScreen

        whose = thing.whose if thing is not None else self.whose
        if whose is not None:
            search = self.search.search
            query = search.query.strip()
            self.app.push_screen(ForgetScreen(whose, thing, query, everybody=search.everybody), self._changed)

    def do_memory_export(self) -> None:
        """Write it to files."""
        whose = self.whose
        if whose is None or whose.observed:
            self.shell.toast("Nothing to export here", "this agent was not started by agenttop", "warn")
            return
        from .memory_export import ExportScreen

        self.app.push_screen(ExportScreen(whose, [one.name for one in self.archival.spaces]))

    def _changed(self, done: object) -> None:
        if done:
            self.look_now()

    def act(
        self, call: Callable[[KernelClient], Awaitable[Any]], told: Callable[[Any], tuple[str, str]]
    ) -> None:
        """Do something in a worker, say what came of it, and look anew."""
        self.run_worker(self._act(call, told), group="memory-acts")

    async def _act(
        self, call: Callable[[KernelClient], Awaitable[Any]], told: Callable[[Any], tuple[str, str]]
    ) -> None:
        client = self.shell.client
        try:
            if client is None:
                raise KernelUnreachable("no kernel answers", "Nothing was done", "Try again when it is back")
            answer = await call(client)
        except AgentTopError as error:
            self.shell.toast(*sentences(error), "error")
        else:
            self.shell.toast(*told(answer), "good")
        if self._whole():
            self.look_now()

    # --- the search ----------------------------------------------------------------------------

    def do_look_search(self) -> None:
        """Type a search; it is made as it is typed."""
        self.search.typing = True
        self.focus_part("search")

    def do_memory_everybody(self) -> None:
        """Search the memory of all agents, or of this one again."""
        self.search.search.everybody = not self.search.search.everybody
        self._search_later(0)
        self.focus_part("search")

    def type_key(self, event: events.Key) -> bool:
        """A key while a search is typed; whether it was the line's."""
        field = self.search.field
        if event.key in ("escape", "ctrl+c"):
            self.search.typing = False
            self.clear_search()
        elif event.key in ("enter", "tab"):
            self.search.typing = False
            self._search_later(0)
        elif event.key in ("up", "down"):
            self.search.move(self.search.place + (1 if event.key == "down" else -1))
        elif field.key(event.key) or self._typed(event):
            self._search_later(DEBOUNCE)
        else:
            return event.key not in ("f1", "f10", "ctrl+p", "ctrl+f")
        self.paint()
        return True

    def _typed(self, event: events.Key) -> bool:
        if event.is_printable and event.character and len(self.search.field.value) < 1_000:
            self.search.field.insert(event.character)
            return True
        return False

    def on_paste(self, event: events.Paste) -> None:
        """Pasted text goes into the line that is typed."""
        if self.search.typing:
            event.stop()
            self.search.field.insert(clean(event.text)[: 1_000 - len(self.search.field.value)])
            self._search_later(DEBOUNCE)
            self.paint()

    def clear_search(self) -> None:
        """No search any more."""
        field, search = self.search.field, self.search.search
        if self._soon is not None:
            self._soon.stop()
            self._soon = None
        field.value, field.at = "", 0
        search.query = search.answered = search.problem = ""
        search.found, search.busy = None, False
        self.paint()

    def _search_later(self, seconds: float) -> None:
        """Search when nothing more was typed for so long; ``0`` at once."""
        search = self.search.search
        search.query = self.search.field.value
        if self._soon is not None:
            self._soon.stop()
            self._soon = None
        if not search.query.strip():
            self.clear_search()
        elif seconds:
            self._soon = self.set_timer(seconds, self._search_now)
        else:
            self._search_now()

    def _search_now(self) -> None:
        self.search.search.busy = True
        _: Worker[None] = self.run_worker(self._search, group="memory-search", exclusive=True)

    async def _search(self) -> None:
        """Ask, and show the answer if it is still what is asked for."""
        search, whose, client = self.search.search, self.whose, self.shell.client
        query = search.query
        if whose is None or whose.observed or client is None or not query.strip():
            search.busy = False
            return
        try:
            words = self.reader is not None and self.reader.known.embeddings == OFF
            found, problem = await search.ask(client, whose, words=words), ""
        except AgentTopError as error:
            found, problem = None, str(error)
        if search.query == query:
            search.found, search.problem, search.answered, search.busy = found, problem, query, False
        if self._whole():
            self.paint()
