"""The three memory tiers as people and agents see them.

``agent`` is a name, id or id prefix; empty is the asking agent itself (a person must say whose). Namespaces
are ``shared``, ``private/AGENT`` (its id; in requests its name will do, and ``private`` alone is one's own)
and ``team/NAME``. All texts are hostile.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .model import Model
from .verbs import Request, Verb

Name = Annotated[str, Field(min_length=1, max_length=200)]
Key = Annotated[str, Field(min_length=1, max_length=600)]
Text = Annotated[str, Field(max_length=8 << 20)]
Tier = Literal["working", "recall", "archival"]
Mode = Literal["words", "meaning", "hybrid"]


class AgentRequest(Request):
    """About one agent's memory."""

    agent: str = ""


class BlockRequest(AgentRequest):
    """One block of an agent."""

    name: Name


class BlocksRequest(AgentRequest):
    """The blocks of an agent."""

    used: bool = False
    """They go into its context now, which counts as use."""


class BlockInfo(Model):
    """A block of working memory."""

    agent: str
    name: str
    text: str
    tokens: int
    limit: int
    version: int
    pinned: bool
    used_at: float
    changed_at: float
    changed_by: str


class WriteBlockRequest(BlockRequest):
    """Write, append to, or make a block."""

    text: Text
    append: bool = False
    expected: Annotated[int, Field(ge=0)] | None = None
    """The version this is based on; another one is a race, and nothing is written. 0: it is new."""
    limit: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Tokens it may have."""
    pinned: bool | None = None


class MovedInfo(Model):
    """What pressure moved out of working memory; its text is in recall."""

    block: str
    tokens: int


class WrittenInfo(Model):
    """A block after a write, and what had to go for it."""

    block: BlockInfo
    moved: list[MovedInfo] = Field(default_factory=list)


class PinRequest(BlockRequest):
    """Pin or unpin a block: pinned ones are never moved out."""

    pinned: bool = True


class VersionInfo(Model):
    """One state that a block or note was in."""

    version: int
    text: str
    at: float
    by: str
    run: int | None = None
    source: str = ""


class RecallRequest(AgentRequest):
    """An agent's history, newest first, or a search in it."""

    query: Annotated[str, Field(max_length=1_000)] = ""
    agents: list[str] | None = None
    """Several agents instead of ``agent``; a person's default is all."""
    roles: list[str] | None = None
    since: float | None = None
    until: float | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 20
    chars: Annotated[int, Field(ge=0)] = 0
    """So many characters of each text at most; 0: all."""


class EntryInfo(Model):
    """Something that recall remembers."""

    id: int
    at: float
    agent: str
    name: str
    run: int | None
    role: str
    """``user assistant system tool output message working``."""
    source: str
    """``call:<id>``, ``message:<id>``, ``output``, ``working:<name>``, ``import:<file>``."""
    text: str


class FoundInfo(Model):
    """What a search in recall found."""

    entries: list[EntryInfo]
    loose: bool = False
    """None has all the words; these have some."""


class PromoteRequest(AgentRequest):
    """Bring an entry of recall back into a block."""

    entry: int
    block: Name


class NoteRequest(Request):
    """One note or file."""

    namespace: Name = "shared"
    key: Key
    base64: bool = False
    """Answer with the bytes in base64 (of a file that is not text there is no other way)."""


class WriteNoteRequest(NoteRequest):
    """Write or make a note."""

    text: Text
    expected: Annotated[int, Field(ge=0)] | None = None
    moved_from: Literal["", "working", "recall"] = ""
    """The tier it comes from, for the record."""
    base64: bool = False
    """``text`` is a file's bytes in base64."""


class NoteInfo(Model):
    """A note in its newest version."""

    namespace: str
    key: str
    text: str
    version: int
    at: float
    by: str
    """Id of the agent or ``@NAME``, with ``by_name``."""
    by_name: str = ""
    run: int | None = None
    source: str = ""
    size: int = 0
    file: bool = False


class NotesRequest(AgentRequest):
    """Notes by key; a person who names an agent is told what that agent may use."""

    namespace: str = ""
    """Empty: all that the asker may read."""
    after: str = ""
    limit: Annotated[int, Field(ge=1, le=200)] = 100


class SpaceInfo(Model):
    """A namespace that the asker may use."""

    name: str
    notes: int
    write: bool


class NotesInfo(Model):
    """Namespaces, and the notes of the one asked for (newest of all, where none was), texts cut."""

    spaces: list[SpaceInfo]
    notes: list[NoteInfo]
    total: int
    embeddings: str = "off"
    """The model's name, or why there is no search by meaning."""


class SearchRequest(AgentRequest):
    """Search in all tiers at once."""

    query: Annotated[str, Field(min_length=1, max_length=1_000)]
    tiers: list[Tier] = Field(default=["working", "recall", "archival"])
    mode: Mode = "hybrid"
    """Of the archive."""
    roles: list[str] | None = None
    since: float | None = None
    until: float | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 20
    """Of each tier."""


class HitInfo(Model):
    """Something a search found: a block, an entry of recall or a note."""

    tier: Tier
    agent: str = ""
    name: str = ""
    """Name of the agent."""
    title: str
    """The block's name, the entry's role, the note's ``namespace/key``."""
    text: str
    """The part around the words that were found."""
    at: float
    by: str = ""
    id: int | None = None
    """Of an entry."""
    version: int | None = None
    source: str = ""
    meaning: bool = False
    """It was found by its meaning."""


class SearchInfo(Model):
    """The answer of a search, by tier, best first."""

    hits: list[HitInfo]
    loose: bool = False
    degraded: str = ""
    """Why there was no search by meaning; empty if there was, or none was asked for."""
    seconds: float = 0.0


class FillInfo(Model):
    """How much an agent has in each tier."""

    agent: str
    name: str
    blocks: int
    working_tokens: int
    working_limit: int
    recall_entries: int
    recall_bytes: int = 0
    recall_tokens: int = 0
    recall_spark: list[int] = Field(default_factory=list)
    """Entries in each of the last 60 minutes, oldest first."""
    archival_notes: int


class MovesRequest(AgentRequest):
    """What went from tier to tier, newest first."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50


class MoveInfo(Model):
    """Something went from one tier to another."""

    id: int
    at: float
    agent: str
    what: str
    source: str
    target: str
    """A tier; empty: it expired."""
    why: str
    tokens: int


class ForgetRequest(AgentRequest):
    """Forget for good: rows, indexes, files. At least one of the selecting fields is given."""

    entries: list[int] = Field(default_factory=list, max_length=10_000)
    query: Annotated[str, Field(max_length=1_000)] = ""
    """All that has all of these words, in all tiers of ``agent`` (a person without one: of everybody)."""
    block: str = ""
    namespace: str = ""
    key: str = ""
    everything: bool = False
    """All that ``agent`` has."""
    dry: bool = False
    """Count only."""


class ForgottenInfo(Model):
    """How much is really gone."""

    blocks: int = 0
    entries: int = 0
    notes: int = 0
    dry: bool = False


class ExportRequest(AgentRequest):
    """Write memory to a file (JSONL) or folder (Markdown) on the kernel's machine."""

    path: Name
    """Absolute."""
    format: Literal["jsonl", "markdown"] = "jsonl"
    namespace: str = ""
    """Only this namespace; empty with an empty ``agent``: everything."""


class ImportRequest(AgentRequest):
    """Bring JSONL or a folder of Markdown in."""

    path: Name
    format: Literal["jsonl", "markdown"] = "jsonl"
    namespace: str = "shared"
    """Where Markdown goes."""


class TradedInfo(Model):
    """What was exported or imported."""

    blocks: int
    entries: int
    notes: int
    skipped: list[str] = Field(default_factory=list)


BLOCKS: Verb[BlocksRequest, list[BlockInfo]] = Verb(
    "memory.blocks", BlocksRequest, list[BlockInfo], "The working blocks of an agent.", agents=True,
    ref="agent",
)  # fmt: skip
WRITE_BLOCK: Verb[WriteBlockRequest, WrittenInfo] = Verb(
    "memory.write-block",
    WriteBlockRequest,
    WrittenInfo,
    "Write to a working block.",
    agents=True,
    ref="agent",
)
PIN: Verb[PinRequest, BlockInfo] = Verb(
    "memory.pin", PinRequest, BlockInfo, "Pin or unpin a block.", agents=True, ref="agent"
)
EVICT: Verb[BlockRequest, WrittenInfo | None] = Verb(
    "memory.evict",
    BlockRequest,
    WrittenInfo | None,
    "Move a block's text to recall.",
    agents=True,
    ref="agent",
)
BLOCK_VERSIONS: Verb[BlockRequest, list[VersionInfo]] = Verb(
    "memory.block-versions", BlockRequest, list[VersionInfo], "Versions of a block, newest first.",
    agents=True, ref="agent",
)  # fmt: skip
RECALL: Verb[RecallRequest, FoundInfo] = Verb(
    "memory.recall", RecallRequest, FoundInfo, "An agent's history, or a search in it.", agents=True,
    ref="agent",
)  # fmt: skip
PROMOTE: Verb[PromoteRequest, WrittenInfo] = Verb(
    "memory.promote",
    PromoteRequest,
    WrittenInfo,
    "Bring an entry back into a block.",
    agents=True,
    ref="agent",
)
NOTE: Verb[NoteRequest, NoteInfo] = Verb("memory.note", NoteRequest, NoteInfo, "One note.", agents=True)
WRITE_NOTE: Verb[WriteNoteRequest, NoteInfo] = Verb(
    "memory.write-note", WriteNoteRequest, NoteInfo, "Write a note.", agents=True
)
NOTES: Verb[NotesRequest, NotesInfo] = Verb(
    "memory.notes", NotesRequest, NotesInfo, "Namespaces, and notes by key.", agents=True, ref="agent"
)
NOTE_VERSIONS: Verb[NoteRequest, list[VersionInfo]] = Verb(
    "memory.note-versions", NoteRequest, list[VersionInfo], "Versions of a note, newest first.", agents=True
)
SEARCH: Verb[SearchRequest, SearchInfo] = Verb(
    "memory.search", SearchRequest, SearchInfo, "Search all tiers.", agents=True, ref="agent"
)
FILL: Verb[AgentRequest, FillInfo] = Verb(
    "memory.fill", AgentRequest, FillInfo, "How full an agent's tiers are.", agents=True, ref="agent"
)
MOVES: Verb[MovesRequest, list[MoveInfo]] = Verb(
    "memory.moves", MovesRequest, list[MoveInfo], "What moved between the tiers.", agents=True, ref="agent"
)
FORGET: Verb[ForgetRequest, ForgottenInfo] = Verb(
    "memory.forget", ForgetRequest, ForgottenInfo, "Forget for good.", agents=True, ref="agent"
)
EXPORT: Verb[ExportRequest, TradedInfo] = Verb(
    "memory.export", ExportRequest, TradedInfo, "Write memory to files.", ref="agent"
)
IMPORT: Verb[ImportRequest, TradedInfo] = Verb(
    "memory.import", ImportRequest, TradedInfo, "Bring files into memory.", ref="agent"
)

VERBS: tuple[Verb[Any, Any], ...] = (
    BLOCKS, WRITE_BLOCK, PIN, EVICT, BLOCK_VERSIONS, RECALL, PROMOTE, NOTE, WRITE_NOTE, NOTES, NOTE_VERSIONS,
    SEARCH, FILL, MOVES, FORGET, EXPORT, IMPORT,
)  # fmt: skip
