"""An agent's folder as rows: the details' section, and the page with everything known of it."""

from __future__ import annotations

from agenttop.core.api import WorkspaceInfo

from ..format import clean
from .paper import Row, counted, rule, several, wrapped


def section(info: WorkspaceInfo | None, width: int) -> list[Row]:
    """``+120 -33 in 7 files   2 commits   3 not committed``, and who works there, too."""
    side = _branch(info) if info is not None else ""
    rows: list[Row] = [rule("Workspace", width, side)]
    if info is None:
        return [*rows, [(" -", "muted")]]
    rows.append([(" ", ""), *_sums(info)])
    if info.shared_with and info.repository is not None:  # a home or /tmp is shared by nature
        rows.append([(" ! ", "warn bold"), (f"{several(info.shared_with)} {_works(info)} here, too", "warn")])
    return rows


def page(info: WorkspaceInfo | None, width: int) -> list[Row]:
    """Everything about the folder, and how to see more."""
    if info is None:
        return [[], [(" asking git", "muted")]]
    facts = {
        "folder": info.folder,
        "repository": info.repository or "-",
        "branch": (info.branch or "-") + (", in a worktree of its own" if info.worktree else ""),
        "begun at": info.base or "not known: changes count from what is checked out",
        "shared with": several(info.shared_with, most=20) or "nobody",
    }
    rows: list[Row] = [[], [(" changed".ljust(15), "label"), *_sums(info)]]
    for name, text in facts.items():
        ink = "warn" if name == "shared with" and info.shared_with else "fg"
        lines = wrapped(text, max(10, width - 16), ink, 15)
        rows += [[(f" {name}".ljust(15), "label"), *lines[0][1:]], *lines[1:]]
    if info.repository is not None:
        rows += [[], [(" d", "label bold"), (" shows the diff, new files too", "muted")]]
    return rows


def _branch(info: WorkspaceInfo) -> str:
    if info.repository is None:
        return ""
    name = clean(info.branch) if info.branch else "on no branch"
    return f"{name}, own worktree" if info.worktree else name


def _works(info: WorkspaceInfo) -> str:
    return "works" if len(info.shared_with) == 1 else "work"


def _sums(info: WorkspaceInfo) -> Row:
    if info.problem and info.files is None:
        return [(f"not known: {clean(info.problem)}", "warn")]
    if info.repository is None:
        return [("in no git repository", "muted")]
    row: Row = []
    if info.files:
        row += [(f"+{info.insertions:,}", "good"), (" ", ""), (f"-{info.deletions:,}", "bad")]
        row.append((f" in {counted(info.files, 'file')}", "fg"))
    elif info.files == 0:
        row.append(("no change", "muted"))
    if info.commits:
        row.append((f"   {counted(info.commits, 'commit')}", "fg"))
    if info.uncommitted:
        row.append((f"   {info.uncommitted:,} not committed", "warn"))
    if info.problem:
        row.append((f"   {clean(info.problem)}", "warn"))
    return row
