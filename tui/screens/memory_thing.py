"""A block, an entry or a note: what the dialogs of the Memory pane are about, and how its text is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from agenttop.core.errors import AgentTopError

from ..memory import Whose

if TYPE_CHECKING:
    from agenttop.core.api.memory import BlockInfo, EntryInfo, NoteInfo, VersionInfo
    from agenttop.core.client import KernelClient

Kind = Literal["block", "entry", "note"]
#: Seconds around an entry's own moment in which it is found again; ids are microseconds.
NEAR = 0.00001


@dataclass(frozen=True)
class Thing:
    """One of them. ``text`` may be cut until it was read; ``version`` 0 is not there yet."""

    kind: Kind
    whose: Whose
    name: str
    """The block's name, the entry's role, the note's key."""
    namespace: str = ""
    id: int | None = None
    version: int = 0
    at: float = 0.0
    by: str = ""
    run: int | None = None
    source: str = ""
    text: str = ""
    tokens: int = 0
    limit: int | None = None
    pinned: bool = False
    file: bool = False

    @classmethod
    def block(cls, whose: Whose, one: BlockInfo) -> Thing:
        """A block."""
        return cls(
            "block", whose, one.name, version=one.version, at=one.changed_at, by=one.changed_by,
            text=one.text, tokens=one.tokens, limit=one.limit, pinned=one.pinned,
        )  # fmt: skip

    @classmethod
    def entry(cls, whose: Whose, one: EntryInfo) -> Thing:
        """An entry of recall."""
        return cls(
            "entry", whose, one.role, id=one.id, at=one.at, run=one.run, source=one.source, text=one.text
        )

    @classmethod
    def note(cls, whose: Whose, one: NoteInfo | Any) -> Thing:
        """A note."""
        return cls(
            "note", whose, one.key, namespace=one.namespace, version=one.version, at=one.at,
            by=one.by_name or one.by, run=one.run, source=one.source, text=one.text, file=one.file,
        )  # fmt: skip

    async def read(self, client: KernelClient) -> Thing:
        """The same with its whole text, as it is now.

        Raises:
            AgentTopError: It is not there any more, or cannot be read.
        """
        from agenttop.core.api import memory as api

        if self.kind == "note":
            asked = api.NoteRequest(host=self.whose.host, namespace=self.namespace, key=self.name)
            return Thing.note(self.whose, await client.call(api.NOTE, asked))
        if self.kind == "block":
            blocks = await client.call(api.BLOCKS, api.BlocksRequest(agent=self.whose.ref))
            for block in blocks:
                if block.name == self.name:
                    return Thing.block(self.whose, block)
            raise AgentTopError(f"There is no block {self.name} any more", "", "/ finds its text in recall")
        near = api.RecallRequest(agent=self.whose.ref, since=self.at - NEAR, until=self.at + NEAR, limit=200)
        for entry in (await client.call(api.RECALL, near)).entries:
            if entry.id == self.id:
                return Thing.entry(self.whose, entry)
        raise AgentTopError("This entry is not there any more", "It was forgotten, or its time was over")

    async def versions(self, client: KernelClient) -> Sequence[VersionInfo]:
        """Its versions, newest first.

        Raises:
            AgentTopError: It is not there any more.
        """
        from agenttop.core.api import memory as api

        if self.kind == "note":
            note = api.NoteRequest(host=self.whose.host, namespace=self.namespace, key=self.name)
            return await client.call(api.NOTE_VERSIONS, note)
        block = api.BlockRequest(agent=self.whose.ref, name=self.name)
        return await client.call(api.BLOCK_VERSIONS, block)

    async def write(
        self, client: KernelClient, text: str, expected: int
    ) -> tuple[Thing, list[tuple[str, int]]]:
        """Write it on top of version ``expected``; gives it as it is then, and what had to go for it.

        Raises:
            AgentTopError: Somebody wrote meanwhile (code ``write_race``), or it cannot be written.
        """
        from agenttop.core.api import memory as api

        if self.kind == "note":
            asked = api.WriteNoteRequest(
                host=self.whose.host, namespace=self.namespace, key=self.name, text=text, expected=expected
            )
            return Thing.note(self.whose, await client.call(api.WRITE_NOTE, asked)), []
        request = api.WriteBlockRequest(
            agent=self.whose.ref, name=self.name, text=text, expected=expected, limit=self.limit,
            pinned=self.pinned if not self.version else None,
        )  # fmt: skip
        written = await client.call(api.WRITE_BLOCK, request)
        return Thing.block(self.whose, written.block), [(one.block, one.tokens) for one in written.moved]

    def fresh(self, **given: Any) -> Thing:
        """The same with other values."""
        return replace(self, **given)

    @property
    def title(self) -> str:
        """How it is called in a title."""
        if self.kind == "entry":
            return f"Recall of {self.whose.name}: {self.name}"
        if self.kind == "note":
            return f"Note {self.namespace}/{self.name}"
        return f"Block {self.name} of {self.whose.name}"
