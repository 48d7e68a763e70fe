"""The data of the three tiers, their bounds, and what can go wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from ..errors import AgentTopError, Conflict

Tier = Literal["working", "recall", "archival"]
Role = Literal["user", "assistant", "system", "tool", "output", "message", "working"]
"""Whose words an entry of recall has; ``output`` is what a program printed, ``working`` was in a block."""
ROLES: frozenset[str] = frozenset(("user", "assistant", "system", "tool", "output", "message", "working"))
Count = Callable[[str], int]
"""Tokens of a text, exact or estimated."""


def estimate(text: str) -> int:
    """Tokens of a text, estimated without its model's tokenizer: four bytes of UTF-8 each, rounded up."""
    return (len(text.encode("utf-8", "replace")) + 3) // 4


class MemoryUnavailable(AgentTopError):
    """The memory's file cannot be read or written (full disk, damage, no permission)."""

    status: ClassVar[int] = 503
    code: ClassVar[str] = "memory_unavailable"


class MemoryRefused(AgentTopError):
    """What was asked for breaks a bound or a rule of the memory: too long, a bad name, a pinned block."""

    exit_code: ClassVar[int] = 2
    status: ClassVar[int] = 400
    code: ClassVar[str] = "memory_refused"


class NotRemembered(AgentTopError):
    """There is no such block, entry or note (or the asker may not know that there is)."""

    status: ClassVar[int] = 404
    code: ClassVar[str] = "not_remembered"


class WriteRace(Conflict):
    """Somebody else wrote since the version this write was based on.

    Attributes:
        version: The version there is now.
    """

    code: ClassVar[str] = "write_race"

    def __init__(self, what: str, why: str = "", hint: str = "", *, version: int = 0) -> None:
        super().__init__(what, why, hint)
        self.version = version


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of everything an agent can put in. Bytes are of UTF-8."""

    block_tokens: int = 2_000
    """Of one block, unless it was made with a limit of its own."""
    agent_tokens: int = 8_000
    """Of all blocks of one agent together."""
    blocks: int = 64
    """Of one agent."""
    block_versions: int = 50
    """Kept of one block; older ones are in recall."""
    write_bytes: int = 1 << 20
    """Of one text that is written to a block or a note, or added to recall."""
    part_chars: int = 32_768
    """A longer text becomes several entries of recall."""
    file_bytes: int = 8 << 20
    note_versions: int = 100
    """Kept of one note."""
    results: int = 200
    """Of one search."""
    query_chars: int = 1_000
    notes: int = 100_000
    import_lines: int = 100_000


class Block(NamedTuple):
    """A named part of an agent's context."""

    agent: str
    name: str
    text: str
    tokens: int
    limit: int
    """Tokens it may have."""
    version: int
    """1 and up; each write adds one."""
    pinned: bool
    """Never moved out by pressure."""
    used_at: float
    changed_at: float
    changed_by: str


class Version(NamedTuple):
    """One state that a block or a note was in."""

    version: int
    text: str
    at: float
    by: str
    run: int | None = None
    source: str = ""


class Said(NamedTuple):
    """Something to be remembered in recall."""

    agent: str
    role: Role
    text: str
    at: float
    """Seconds since the epoch."""
    run: int | None = None
    source: str = ""
    """Where it came from; see ``EntryInfo``."""
    key: str | None = None
    """The same key of the same agent is remembered once, and never again once it was forgotten: calls
    repeat the whole conversation each time."""


class Entry(NamedTuple):
    """Something that recall remembers."""

    id: int
    """Microseconds since the epoch, made unique: the order of ids is the order in time."""
    agent: str
    run: int | None
    role: str
    source: str
    text: str

    @property
    def at(self) -> float:
        """When it was said, seconds since the epoch."""
        return self.id / 1e6


class Found(NamedTuple):
    """Answer of a search in recall, newest first."""

    entries: list[Entry]
    loose: bool
    """No entry has all the words: these have some of them, those with most first."""


class Who(NamedTuple):
    """Who asks: an agent, or a person (``agent`` is ``None``), who may see and do everything."""

    agent: str | None
    run: int | None = None
    source: str = ""
    person: str = ""
    """The person's name."""

    @property
    def name(self) -> str:
        """What stands in provenance: an agent's id, or ``@`` and a person's name."""
        if self.agent is not None:
            return self.agent
        return f"@{self.person}" if self.person else "person"


class Note(NamedTuple):
    """A note or file of the archive, in its newest version."""

    id: int
    namespace: str
    key: str
    text: str
    """Empty for a file that is not text."""
    file: bytes | None
    version: int
    at: float
    by: str
    run: int | None
    source: str


class NoteHead(NamedTuple):
    """A note in a list: its text is cut, its bytes are only counted."""

    namespace: str
    key: str
    text: str
    version: int
    at: float
    by: str
    run: int | None
    source: str
    size: int
    """Bytes of a file; of a note, of its text."""
    file: bool


class Hit(NamedTuple):
    """A note that a search found."""

    note: Note
    score: float
    """Higher is better; comparable only within one search."""
    by: Literal["words", "meaning", "both"]


class Hits(NamedTuple):
    """Answer of a search in the archive, best first."""

    hits: list[Hit]
    loose: bool = False
    degraded: str = ""
    """Why there was no search by meaning, or not over everything; empty if all is well."""


class Move(NamedTuple):
    """Something that went from one tier to another; ids and sizes, never the text."""

    id: int
    at: float
    agent: str
    what: str
    """Name of the block or note."""
    source: Tier
    target: Tier
    why: str
    tokens: int


class Fill(NamedTuple):
    """How much one agent has in each tier."""

    blocks: int
    working_tokens: int
    working_limit: int
    recall_entries: int
    recall_bytes: int
    recall_tokens: int
    """Estimated from the bytes."""
    recall_spark: list[int]
    """Entries in each of the last 60 minutes, oldest first."""
    archival_notes: int
    """Notes of its own private namespace, and notes it wrote elsewhere."""


class Forgotten(NamedTuple):
    """How much is really gone; what a journal may keep of it."""

    blocks: int = 0
    entries: int = 0
    notes: int = 0

    def plus(self, other: Forgotten) -> Forgotten:
        """Both together."""
        return Forgotten(self.blocks + other.blocks, self.entries + other.entries, self.notes + other.notes)


def clean(text: str) -> str:
    """A text as it can be stored: halves of surrogate pairs, which are no characters, are replaced."""
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text


def bounded(text: str, limit: int, what: str) -> str:
    """The cleaned text.

    Raises:
        MemoryRefused: It is longer than ``limit`` bytes.
    """
    text = clean(text)
    size = len(text.encode())
    if size > limit:
        raise MemoryRefused(
            f"{what} is too long", f"It has {size} bytes of at most {limit}", "Write it in parts"
        )
    return text
