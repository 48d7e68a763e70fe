"""The canned fleet's memory: that of ``api`` as the pictures have it, kept in lists so that it can change.

It is no mock of the memory's rules: a write replaces, a move moves, forgetting takes out.
"""

from __future__ import annotations

import re
from typing import Any

from agenttop.core.api import memory as api
from agenttop.core.errors import Conflict, NoSuchAgent, UsageError
from agenttop.core.memory.model import NotRemembered, WriteRace

from ..pilot.stage import StageClient
from .sample_fleet import NOW, ROWS

DAY = 86_400.0
MINUTE = 60.0
API = "b20c"
TEAM, WIKI = "team/checkout", "shared"


def _at(clock: str, days: int = 0) -> float:
    """A time of day of the pictures' day (UTC), or so many days before."""
    hours, minutes = clock.split(":")
    return NOW - (NOW % DAY) + int(hours) * 3600 + int(minutes) * MINUTE - days * DAY


def block(name: str, text: str, tokens: int, limit: int, **given: Any) -> api.BlockInfo:
    """A block of ``api``."""
    values: dict[str, Any] = {
        "agent": API, "version": 3, "pinned": False, "used_at": NOW - 40, "changed_at": NOW - 400,
        "changed_by": API,
    }  # fmt: skip
    return api.BlockInfo(name=name, text=text, tokens=tokens, limit=limit, **(values | given))


def blocks() -> list[api.BlockInfo]:
    """The working tier."""
    return [
        block(
            "task", "Make POST /orders idempotent by key. Expire keys after 24 h.", 1_900, 2_000, pinned=True
        ),
        block(
            "plan", "1 test 2 handler 3 index 4 docs\nNow: 3. Open: expiry race.", 1_700, 3_000, version=12
        ),
        block("style", "No new dependency. Typed. uv.", 1_200, 3_000, changed_by="a1f3", version=1),
    ]


_SAID = (
    ("14:05", "tool", "pytest: 1 failed, 38 passed: second_key_after_expiry FAILED"),
    ("14:04", "message", "review: is retry safe here?"),
    ("14:03", "assistant", "While that runs I check the index."),
    ("14:03", "tool", "spawn api-tests b7e4"),
    ("14:02", "tool", "edit orders.sql +4"),
    ("13:58", "working", "src/shop/api/orders.py src/shop/store.py tests/orders"),
    ("13:57", "assistant", "Three callers. Only the HTTP one may retry: a retry after expiry must be new."),
    ("13:55", "tool", "grep place_order: 11 hits"),
    ("13:51", "assistant", "I start with the failing test."),
    ("13:50", "user", "orders endpoint: idempotency keys"),
)


def entries() -> list[api.EntryInfo]:
    """The newest of the recall tier."""
    found = []
    for number, (clock, role, text) in enumerate(_SAID):
        at = _at(clock) + 30 - number / 100
        source = (
            "working:file list"
            if role == "working"
            else "message:m7"
            if role == "message"
            else f"call:c{number}"
        )
        found.append(
            api.EntryInfo(
                id=int(at * 1e6), at=at, agent=API, name="api", run=1, role=role, source=source, text=text
            )
        )
    return found


def note(key: str, text: str, version: int, by: str, at: float, namespace: str = TEAM) -> api.NoteInfo:
    """A note of the archive."""
    names = {row.id: row.name for row in ROWS}
    return api.NoteInfo(
        namespace=namespace, key=key, text=text, version=version, at=at, by=by, by_name=names.get(by, by),
        run=1, source="call:c3", size=len(text),
    )  # fmt: skip


def notes() -> list[api.NoteInfo]:
    """The newest of the archival tier."""
    return [
        note("orders.idempotency", "key + body hash, 24 h", 3, API, _at("14:01")),
        note("orders.error-codes", "409 for another body under one key", 7, "a1f3", _at("13:40")),
        note("db.conventions", "snake_case, no enum types", 2, "f4b2", _at("11:12"), WIKI),
        note("ci.flaky-tests", "test_second_key_after_expiry since Monday", 9, "39c6", _at("09:55"), WIKI),
        note("api.versioning", "in the path, never in a header", 1, "@ana", _at("10:00", 3), WIKI),
        note("money.rounding", "half even, in cents", 4, "@ana", _at("09:00", 3), WIKI),
    ]


_MOVED = (
    ("14:01", "orders.idempotency", "working", "archival", "api wrote orders.idempotency v3", 400),
    ("13:58", "file list", "working", "recall", "file list went over its 2000 tokens", 1_900),
    ("13:41", "orders.error-codes", "archival", "working", "promoted", 600),
    ("13:22", "first plan", "working", "recall", "taken out", 1_100),
    ("12:50", "decision on keys", "recall", "archival", "kept by lead", 300),
    ("12:00", "ci.status", "archival", "", "expired after 1 d", 100),
    ("11:48", "db.conventions", "archival", "working", "promoted", 500),
    ("11:31", "issue thread 3980", "working", "recall", "least recently used", 2_200),
    ("11:09", "money.rounding", "archival", "working", "promoted", 200),
    ("10:52", "old test output", "working", "recall", "least recently used", 3_000),
)


def moves() -> list[api.MoveInfo]:
    """What moved today."""
    return [
        api.MoveInfo(
            id=900 - n,
            at=_at(clock),
            agent=API,
            what=what,
            source=source,
            target=target,
            why=why,
            tokens=tokens,
        )
        for n, (clock, what, source, target, why, tokens) in enumerate(_MOVED)
    ]


SPARK = (0, 0, 1, 2, 2, 3, 4, 4, 0, 0, 0, 0, 2, 3, 4, 3, 3, 2, 2, 1, 3, 4, 4, 3, 3, 2, 2, 3, 4, 4,
         3, 3, 4, 4, 3, 2, 2, 3, 3, 4, 4, 3, 2, 2, 3, 4, 4, 4, 3, 3, 4, 4, 3, 2, 3, 4, 4, 3, 4,
         4)  # fmt: skip


class SampleMemory:
    """Answers of the memory's verbs; ``memory_calls`` has the names of those that were asked."""

    answers: dict[str, Any]

    def __init__(self) -> None:
        self.block_list = blocks()
        self.entry_list = entries()
        self.note_list = notes()
        self.move_list = moves()
        self.older = 861
        """Entries there are besides those listed."""
        self.block_texts: dict[tuple[str, int], str] = {("plan", 11): "1 test 2 handler\nNow: 2."}
        self.note_texts: dict[tuple[str, int], str] = {
            ("orders.idempotency", 2): "key alone, 24 h", ("orders.idempotency", 1): "key alone",
        }  # fmt: skip
        for verb in api.VERBS:
            name = verb.name.removeprefix("memory.").replace("-", "_")
            self.answers[verb.name] = getattr(self, f"_{name}")

    def _of(self, request: api.AgentRequest) -> bool:
        known = {row.id: row for row in ROWS} | {row.name: row for row in ROWS}
        if request.agent and request.agent not in known:
            raise NoSuchAgent(f"no agent {request.agent}", "", "agenttop ps lists them")
        return not request.agent or known[request.agent].id == API

    # --- working

    def _blocks(self, request: api.BlocksRequest) -> list[api.BlockInfo]:
        return list(self.block_list) if self._of(request) else []

    def _block(self, name: str) -> api.BlockInfo | None:
        return next((one for one in self.block_list if one.name == name), None)

    def _write_block(self, request: api.WriteBlockRequest) -> api.WrittenInfo:
        old = self._block(request.name)
        version = old.version if old is not None else 0
        if request.expected is not None and request.expected != version:
            raise WriteRace(
                f"block {request.name} was not written",
                f"It is at version {version} by a1f3, and this was based on {request.expected}",
                "Read it again, and write what you mean on top of that",
            )
        text = f"{old.text}\n{request.text}" if old is not None and request.append else request.text
        limit = request.limit or (old.limit if old is not None else 2_000)
        pinned = old.pinned if old is not None and request.pinned is None else bool(request.pinned)
        fresh = block(
            request.name, text, (len(text) + 3) // 4, limit, version=version + 1, pinned=pinned,
            changed_by="@ana", changed_at=NOW,
        )  # fmt: skip
        if old is not None:
            self.block_texts[old.name, old.version] = old.text
        self.block_list = [one for one in self.block_list if one.name != request.name] + [fresh]
        return api.WrittenInfo(block=fresh)

    def _pin(self, request: api.PinRequest) -> api.BlockInfo:
        fresh = self._there(request.name).model_copy(update={"pinned": request.pinned})
        self.block_list = [fresh if one.name == request.name else one for one in self.block_list]
        return fresh

    def _there(self, name: str) -> api.BlockInfo:
        found = self._block(name)
        if found is None:
            raise NotRemembered(f"there is no block {name}")
        return found

    def _evict(self, request: api.BlockRequest) -> api.WrittenInfo:
        gone = self._there(request.name)
        if gone.pinned:
            raise Conflict(f"block {gone.name} was not moved", "It is pinned", "Unpin it first")
        self.block_list.remove(gone)
        self._remember("working", gone.text, f"working:{gone.name}")
        move = api.MoveInfo(
            id=self.move_list[0].id + 1, at=NOW, agent=API, what=gone.name, source="working", target="recall",
            why="taken out", tokens=gone.tokens,
        )  # fmt: skip
        self.move_list.insert(0, move)
        return api.WrittenInfo(block=gone, moved=[api.MovedInfo(block=gone.name, tokens=gone.tokens)])

    def _remember(self, role: str, text: str, source: str) -> None:
        entry = api.EntryInfo(
            id=int(NOW * 1e6), at=NOW, agent=API, name="api", run=1, role=role, source=source, text=text
        )
        self.entry_list.insert(0, entry)

    def _block_versions(self, request: api.BlockRequest) -> list[api.VersionInfo]:
        now = self._there(request.name)
        kept = [(version, text) for (name, version), text in self.block_texts.items() if name == now.name]
        found = [(now.version, now.text), *sorted(kept, reverse=True)]
        return [
            api.VersionInfo(version=v, text=t, at=NOW - 100 * (now.version - v), by=API) for v, t in found
        ]

    # --- recall

    def _recall(self, request: api.RecallRequest) -> api.FoundInfo:
        found = [
            one for one in self.entry_list
            if (request.until is None or one.at <= request.until)
            and (request.since is None or one.at >= request.since)
        ] if self._of(request) else []  # fmt: skip
        return api.FoundInfo(entries=found[: request.limit])

    def _promote(self, request: api.PromoteRequest) -> api.WrittenInfo:
        (entry,) = [one for one in self.entry_list if one.id == request.entry]
        return self._write_block(api.WriteBlockRequest(name=request.block, text=entry.text, append=True))

    # --- archival

    def _note(self, request: api.NoteRequest) -> api.NoteInfo:
        for one in self.note_list:
            if (one.namespace, one.key) == (request.namespace, request.key):
                return one
        raise NotRemembered(f"there is no note {request.key}")

    def _write_note(self, request: api.WriteNoteRequest) -> api.NoteInfo:
        old = next((one for one in self.note_list if one.key == request.key), None)
        version = old.version if old is not None else 0
        if request.expected is not None and request.expected != version:
            raise WriteRace(f"note {request.key} was not written", f"It is at version {version} by lead")
        if old is not None:
            self.note_texts[old.key, old.version] = old.text
            self.note_list.remove(old)
        fresh = note(request.key, request.text, version + 1, "@ana", NOW, request.namespace)
        self.note_list.insert(0, fresh)
        return fresh

    def _notes(self, request: api.NotesRequest) -> api.NotesInfo:
        mine = self._of(request)
        counts = {f"private/{API}": 22, TEAM: 37, WIKI: 902} if mine else {WIKI: 902}
        spaces = [api.SpaceInfo(name=name, notes=n, write=name != WIKI) for name, n in counts.items()]
        if request.after:
            return api.NotesInfo(spaces=spaces, notes=[], total=0)
        usable = [request.namespace] if request.namespace else list(counts)
        found = [one for one in self.note_list if one.namespace in usable]
        total = sum(counts[name] for name in usable)
        return api.NotesInfo(spaces=spaces, notes=found[: request.limit], total=total)

    def _note_versions(self, request: api.NoteRequest) -> list[api.VersionInfo]:
        now = self._note(request)
        kept = [(version, text) for (key, version), text in self.note_texts.items() if key == now.key]
        found = [(now.version, now.text), *sorted(kept, reverse=True)]
        return [
            api.VersionInfo(version=v, text=t, at=now.at - 100 * (now.version - v), by=now.by)
            for v, t in found
        ]

    # --- all tiers

    def _fill(self, request: api.AgentRequest) -> api.FillInfo:
        if not self._of(request):
            row = next(row for row in ROWS if request.agent in (row.id, row.name))
            return api.FillInfo(
                agent=row.id, name=row.name, blocks=0, working_tokens=0, working_limit=8_000,
                recall_entries=0, archival_notes=0,
            )  # fmt: skip
        count = self.older + len(self.entry_list)
        return api.FillInfo(
            agent=API, name="api", blocks=len(self.block_list), working_limit=8_000,
            working_tokens=sum(one.tokens for one in self.block_list), recall_entries=count,
            recall_bytes=11 << 20, recall_tokens=1_900_000, recall_spark=list(SPARK), archival_notes=22,
        )  # fmt: skip

    def _moves(self, request: api.MovesRequest) -> list[api.MoveInfo]:
        return self.move_list[: request.limit] if self._of(request) else []

    def _search(self, request: api.SearchRequest) -> api.SearchInfo:
        words = re.findall(r"\w+", request.query.lower())
        hits = [
            *(
                api.HitInfo(tier="working", agent=API, name="api", title=one.name, text=one.text,
                            at=one.changed_at, version=one.version)
                for one in self.block_list if any(word in one.text.lower() for word in words)
            ),
            *(
                api.HitInfo(tier="archival", title=f"{one.namespace}/{one.key}", text=one.text, at=one.at,
                            by=one.by, version=one.version)
                for one in self.note_list if any(word in one.text.lower() for word in words)
            ),
            *(
                api.HitInfo(tier="recall", agent=API, name="api", title=one.role, text=one.text,
                            at=one.at, id=one.id)
                for one in self.entry_list if any(word in one.text.lower() for word in words)
            ),
        ]  # fmt: skip
        return api.SearchInfo(hits=hits, seconds=0.003)

    def _forget(self, request: api.ForgetRequest) -> api.ForgottenInfo:
        block_names, ids, keys = self._selected(request)
        done = api.ForgottenInfo(blocks=len(block_names), entries=len(ids), notes=len(keys), dry=request.dry)
        if not request.dry:
            self.block_list = [one for one in self.block_list if one.name not in block_names]
            self.entry_list = [one for one in self.entry_list if one.id not in ids]
            self.note_list = [one for one in self.note_list if one.key not in keys]
        return done

    def _selected(self, request: api.ForgetRequest) -> tuple[set[str], set[int], set[str]]:
        if request.everything:
            return {one.name for one in self.block_list}, {one.id for one in self.entry_list}, set()
        words = re.findall(r"\w+", request.query.lower())

        def says(text: str) -> bool:
            return bool(words) and all(word in text.lower() for word in words)

        return (
            {one.name for one in self.block_list if one.name == request.block or says(one.text)},
            {one.id for one in self.entry_list if one.id in request.entries or says(one.text)},
            {one.key for one in self.note_list if one.key == request.key or says(one.text)},
        )

    def _export(self, request: api.ExportRequest) -> api.TradedInfo:
        if not request.path.startswith("/"):
            raise UsageError("nothing was exported", "The path is not absolute")
        return api.TradedInfo(blocks=len(self.block_list), entries=self.older, notes=len(self.note_list))

    def _import(self, request: api.ImportRequest) -> api.TradedInfo:
        return api.TradedInfo(blocks=0, entries=0, notes=0)


class MemoryClient(SampleMemory, StageClient):
    """The fleet on stage, with the memory of ``api``."""

    def __init__(self, *args: Any) -> None:
        StageClient.__init__(self, *args)
        SampleMemory.__init__(self)
