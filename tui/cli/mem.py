"""``agenttop mem``: blocks of working memory, what recall remembers, notes of the archive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from agenttop.core.errors import UsageError

from .. import format as f
from . import messages, printing, remembering, working
from .options import Json, OptionalRefs, Yes, complete_agents
from .surroundings import elsewhere
from .syscall import ask

mem = typer.Typer(
    help="Memory: notes, blocks in the context, search, forget.",
    no_args_is_help=True,
)

Key = Annotated[str, typer.Argument(metavar="KEY", help="Of a note: parts joined by /.")]
Block = Annotated[str, typer.Argument(metavar="BLOCK", help="Name of a block.")]
Blocks = Annotated[list[str], typer.Argument(metavar="BLOCK...", help="Names of blocks.")]
Shared = Annotated[bool, typer.Option("--shared", help="In the namespace that all share.")]
Team = Annotated[bool, typer.Option("--team", help="In the namespace of the agent's team.")]
Space = Annotated[
    str | None, typer.Option("--namespace", "-N", help="shared, private, private/AGENT, team or team/NAME.")
]
Whose = Annotated[
    str | None,
    typer.Option(
        "--agent", metavar="AGENT", help="Whose; inside an agent its own.", autocompletion=complete_agents
    ),
]
Limit = Annotated[int, typer.Option("--limit", "-n", help="So many at most.")]
Expected = Annotated[
    int | None,
    typer.Option("--expected", metavar="VERSION", help="Only if it still has this one; 0: if it is new."),
]
Roles = Annotated[
    list[str] | None,
    typer.Option("--role", help="Only user, assistant, system, tool, output, message or working."),
]
Format = Annotated[
    Literal["jsonl", "markdown"], typer.Option("--format", help="A file, or a folder of Markdown.")
]

# --- notes ------------------------------------------------------------------------------------------


@mem.command()
def put(
    key: Key,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="The note; - for stdin.")] = None,
    shared: Shared = False,
    team: Team = False,
    namespace: Space = None,
    file: Annotated[Path | None, typer.Option("--file", help="The content of this file instead.")] = None,
    expected: Expected = None,
    as_json: Json = False,
) -> None:
    """Write a note. Without a namespace: an agent's own; a person's go to the shared one.

    Each write is a version of its own, with who wrote it.
    """
    remembering.put(
        key,
        text,
        shared=shared,
        team=team,
        namespace=namespace,
        file=file,
        expected=expected,
        as_json=as_json,
    )


@mem.command()
def get(
    key: Key, shared: Shared = False, team: Team = False, namespace: Space = None, as_json: Json = False
) -> None:
    """Print a note. Without a namespace: the agent's own, else its team's, else the shared one.

    Who wrote it is said on stderr, unless the agent did itself.
    """
    remembering.get(key, shared=shared, team=team, namespace=namespace, as_json=as_json)


@mem.command()
def ls(
    namespace: Annotated[str, typer.Argument(metavar="[NAMESPACE]", help="Only its notes, by key.")] = "",
    after: Annotated[str, typer.Option("--after", metavar="KEY", help="Go on behind this key.")] = "",
    agent: Whose = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List notes. Those of one namespace, or the newest of all."""
    found = ask("memory.notes", namespace=namespace, after=after, agent=agent, limit=limit)
    if as_json:
        printing.json(found)
        return
    rows = [
        [
            f"{note['namespace']}/{note['key']}",
            str(note["version"]),
            f.size(note["size"]),
            messages.moment(note["at"]),
            messages.writer(note["by_name"], note["by"]),
            "(file)" if note["file"] else note["text"],
        ]
        for note in found["notes"]
    ]
    header = ("NOTE", "VERSION", "SIZE", "WRITTEN", "BY", "TEXT")
    printing.table(header, rows, right=("VERSION", "SIZE"), drop=("SIZE", "VERSION", "WRITTEN"))


@mem.command()
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Words; any text will do.")],
    agent: Whose = None,
    tiers: Annotated[
        list[str] | None, typer.Option("--tier", help="Only working, recall or archival; again for more.")
    ] = None,
    mode: Annotated[str | None, typer.Option("--mode", help="words, meaning or hybrid.")] = None,
    roles: Roles = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", help="Of each tier; default 20.")] = None,
    as_json: Json = False,
) -> None:
    """Search blocks, recall and notes."""
    remembering.search(query, agent=agent, tiers=tiers, mode=mode, roles=roles, limit=limit, as_json=as_json)


# --- blocks -----------------------------------------------------------------------------------------


@mem.command()
def blocks(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[BLOCK...]", help="Print these in full.")
    ] = None,
    agent: Whose = None,
    as_json: Json = False,
) -> None:
    """List the blocks in an agent's context, or print some of them in full."""
    working.blocks(names, agent=agent, as_json=as_json)


@mem.command()
def write(
    name: Block,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What it says; - for standard input.")],
    append: Annotated[bool, typer.Option("--append", "-a", help="Add it to what is there.")] = False,
    expected: Expected = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Tokens it may have.")] = None,
    pinned: Annotated[
        bool | None, typer.Option("--pin/--unpin", help="Never move it out; or let it go again.")
    ] = None,
    agent: Whose = None,
    as_json: Json = False,
) -> None:
    """Write a block. What does not fit moves to recall, and that is said."""
    working.write(
        name, text, append=append, expected=expected, limit=limit, pinned=pinned, agent=agent, as_json=as_json
    )


@mem.command()
def edit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A block; with a namespace the key of a note.")],
    shared: Shared = False,
    team: Team = False,
    namespace: Space = None,
    agent: Whose = None,
) -> None:
    """Edit a block or a note in $VISUAL or $EDITOR. Nothing is lost if somebody else writes meanwhile."""
    from . import editing

    where = remembering.space(shared, team, namespace)
    if where is None:
        editing.edit_block(name, agent)
    else:
        editing.edit_note(name, where)


@mem.command()
def pin(names: Blocks, agent: Whose = None, as_json: Json = False) -> None:
    """Pin blocks. They are never moved out of the context."""
    _pin(names, agent, True, as_json)


@mem.command()
def unpin(names: Blocks, agent: Whose = None, as_json: Json = False) -> None:
    """Unpin blocks."""
    _pin(names, agent, False, as_json)


def _pin(names: Sequence[str], agent: str | None, pinned: bool, as_json: bool) -> None:
    found = [ask("memory.pin", agent=agent, name=name, pinned=pinned) for name in names]
    if as_json:
        printing.json(found)
        return
    for block in found:
        printing.line(f.clean(f"{block['name']} {'pinned' if pinned else 'unpinned'}"))


@mem.command()
def evict(names: Blocks, agent: Whose = None, as_json: Json = False) -> None:
    """Move blocks' text to recall. Search finds it there, `promote` brings it back."""
    found = [ask("memory.evict", agent=agent, name=name) for name in names]
    if as_json:
        printing.json(found)
        return
    for name, written in zip(names, found, strict=True):
        moved = sum(one["tokens"] for one in written["moved"]) if written else 0
        printing.line(f.clean(f"{name} evicted, {f.tokens(moved)} tokens moved to recall"))


@mem.command()
def promote(
    entry: Annotated[int, typer.Argument(metavar="ENTRY", help="Number of an entry of recall.")],
    name: Block,
    agent: Whose = None,
    as_json: Json = False,
) -> None:
    """Bring an entry of recall back into a block."""
    written = ask("memory.promote", agent=agent, entry=entry, block=name)
    working.print_written(written, f"has entry {entry}", as_json)


@mem.command()
def versions(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A block; with a namespace the key of a note.")],
    diff: Annotated[bool, typer.Option("--diff", "-d", help="What each changed, as a patch.")] = False,
    shared: Shared = False,
    team: Team = False,
    namespace: Space = None,
    agent: Whose = None,
    as_json: Json = False,
) -> None:
    """Print the versions of a block or note, newest first, with who wrote each."""
    where = remembering.space(shared, team, namespace)
    if where is None:
        found = ask("memory.block-versions", agent=agent, name=name)
    else:
        found = ask("memory.note-versions", namespace=where, key=name)
    if as_json:
        printing.json(found)
        return
    older = [*found[1:], None]
    for version, before in zip(found, older, strict=True):
        by = f"by {messages.writer('', version['by'])}"
        said = (f"version {version['version']}", messages.moment(version["at"]), by, version["source"])
        printing.line(messages.facts(*said))
        for line in _changes(version, before) if diff else messages.quoted(version["text"]):
            printing.line(line)


def _changes(version: messages.Document, before: messages.Document | None) -> Iterable[str]:
    from difflib import unified_diff

    old = list(messages.lines_of(before["text"])) if before is not None else []
    new = list(messages.lines_of(version["text"]))
    for line in list(unified_diff(old, new, n=2, lineterm=""))[2:]:
        yield f"  {line}".rstrip()


# --- recall, moves, how full ------------------------------------------------------------------------


@mem.command()
def history(
    ref: Annotated[
        str | None, typer.Argument(metavar="[AGENT]", help="Whose.", autocompletion=complete_agents)
    ] = None,
    query: Annotated[str, typer.Option("--grep", "-g", metavar="WORDS", help="Only with these words.")] = "",
    roles: Roles = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """Print what was said to and by an agent, newest first. Calls, output and messages."""
    found = ask("memory.recall", agent=ref, query=query, roles=roles or None, limit=limit)
    if as_json:
        printing.json(found)
        return
    for entry in found["entries"]:
        said = (messages.moment(entry["at"]), f"agent {entry['name']}", entry["role"], entry["source"])
        printing.line(messages.facts(*said, f"entry {entry['id']}"))
        for line in messages.quoted(entry["text"]):
            printing.line(line)
    if found["loose"]:
        printing.note("nothing has all of these words; this has some")


@mem.command()
def moves(
    ref: Annotated[
        str | None, typer.Argument(metavar="[AGENT]", help="Whose.", autocompletion=complete_agents)
    ] = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List what moved from tier to tier, and why, newest first."""
    found = ask("memory.moves", agent=ref, limit=limit)
    if as_json:
        printing.json(found)
        return
    rows = [
        [
            messages.moment(move["at"]),
            move["agent"] or f.UNKNOWN,
            move["what"],
            move["source"],
            move["target"] or "expired",
            f.tokens(move["tokens"]),
            move["why"],
        ]
        for move in found
    ]
    printing.table(("TIME", "AGENT", "WHAT", "FROM", "TO", "TOKENS", "WHY"), rows, right=("TOKENS",))


@mem.command()
def fill(refs: OptionalRefs = None, as_json: Json = False) -> None:
    """Show how full agents' tiers are. Without a name: the agent's own; of people all agents'."""
    from .syscall import inside

    names = refs or ([""] if inside() else [agent["name"] for agent in ask("agents")])
    found = [ask("memory.fill", agent=name) for name in names]
    if as_json:
        printing.json(found)
        return
    rows = [
        [
            one["name"],
            str(one["blocks"]),
            f"{f.tokens(one['working_tokens'])}/{f.tokens(one['working_limit'])}",
            f.tokens(one["recall_entries"]),
            f.size(one["recall_bytes"]),
            f.tokens(one["archival_notes"]),
        ]
        for one in found
    ]
    header = ("AGENT", "BLOCKS", "WORKING", "RECALL", "BYTES", "NOTES")
    printing.table(header, rows, right=header[1:])


# --- forgetting, taking out, bringing in ------------------------------------------------------------


@mem.command()
def forget(
    agent: Whose = None,
    entries: Annotated[
        list[int] | None, typer.Option("--entry", metavar="ENTRY", help="Entries of recall, by number.")
    ] = None,
    query: Annotated[
        str, typer.Option("--words", metavar="WORDS", help="Whatever has all of these words, in all tiers.")
    ] = "",
    block: Annotated[str, typer.Option("--block", metavar="BLOCK", help="A block, with its versions.")] = "",
    note: Annotated[str, typer.Option("--note", metavar="KEY", help="A note, with its versions.")] = "",
    namespace: Annotated[
        str, typer.Option("--namespace", "-N", help="Of the note; alone: all notes in it.")
    ] = "",
    everything: Annotated[
        bool, typer.Option("--everything", help="All that the agent has, in all tiers.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how much it would be.")] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Forget for good. Rows, indexes and files; what will go is counted and asked first."""
    fields: dict[str, Any] = {
        "agent": agent,
        "entries": entries or [],
        "query": query,
        "block": block,
        "key": note,
        "namespace": namespace,
        "everything": everything,
    }
    plan = ask("memory.forget", **fields, dry=True)
    if not dry_run and any(plan[tier] for tier in ("blocks", "entries", "notes")):
        printing.confirm(f"forget {_amounts(plan)}, for good?", yes)
        plan = ask("memory.forget", **fields, dry=False)
    if as_json:
        printing.json(plan)
    else:
        printing.line(f"{_amounts(plan)} {'would be forgotten' if plan['dry'] else 'forgotten'}")


def _amounts(counts: messages.Document) -> str:
    named = (("blocks", "block"), ("entries", "entry"), ("notes", "note"))
    return ", ".join(f"{counts[many]} {one if counts[many] == 1 else many}" for many, one in named)


@mem.command("export")
def export_(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A new file; for markdown a folder.")],
    format: Format = "jsonl",
    agent: Whose = None,
    namespace: Annotated[str, typer.Option("--namespace", "-N", help="Only this namespace.")] = "",
    as_json: Json = False,
) -> None:
    """Write memory to a file. Of one agent, of one namespace, or of all; people only."""
    done = ask("memory.export", path=_absolute(path), format=format, agent=agent, namespace=namespace)
    _traded(done, "written", as_json)


@mem.command("import")
def import_(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="What was exported, or a folder of Markdown.")],
    format: Format = "jsonl",
    agent: Whose = None,
    namespace: Annotated[str, typer.Option("--namespace", "-N", help="Where Markdown goes.")] = "shared",
    as_json: Json = False,
) -> None:
    """Bring a file into memory; people only. What is there already is left as it is."""
    done = ask("memory.import", path=_absolute(path), format=format, agent=agent, namespace=namespace)
    _traded(done, "brought in", as_json)


def _absolute(path: Path) -> str:
    """The path as the kernel needs it: it may run in another folder, but on this machine."""
    if elsewhere():
        if not path.is_absolute():
            raise UsageError(f"{path} is not absolute", "It lies on the other machine", "Begin it with /")
        return str(path)
    return str(path.expanduser().absolute())


def _traded(done: messages.Document, how: str, as_json: bool) -> None:
    if as_json:
        printing.json(done)
        return
    printing.line(f"{_amounts(done)} {how}")
    printing.notes(f"left out: {reason}" for reason in done["skipped"])
