"""The processes of a tree as rows: whole for the details pane, in short for the kill preview."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agenttop.core.api import ProcessInfo

from ..format import clean, size
from .paper import Row, column

#: Levels drawn; what is deeper stays at the last, so that a hostile tree cannot push its names away.
DEEPEST = 12


_SHELLS = frozenset(("sh", "bash", "dash", "ash", "zsh", "fish"))
_INTERPRETERS = ("python", "node", "ruby", "perl", "deno", "bun")


def program(command: str) -> str:
    """The name of what runs, without folders; for an interpreter the name of its script or module."""
    words = clean(command).split()
    if not words:
        return "?"
    name = words[0].rsplit("/", 1)[-1].lstrip("-") or "?"
    if name.startswith(_INTERPRETERS):
        script = next((word for word in words[1:] if not word.startswith("-")), "")
        return script.rsplit("/", 1)[-1] or name
    return name


def short(command: str) -> str:
    """A command with the folders of its program left out."""
    first, _, rest = clean(command).partition(" ")
    name = first.rsplit("/", 1)[-1] if first.startswith("/") else first
    return f"{name} {rest}" if rest else name


def below(processes: Sequence[ProcessInfo]) -> tuple[list[ProcessInfo], dict[int, list[ProcessInfo]]]:
    """The roots, and the children of each pid, in the order given."""
    pids = {process.pid for process in processes}
    children: dict[int, list[ProcessInfo]] = {}
    roots: list[ProcessInfo] = []
    for process in processes:
        if process.ppid in pids and process.ppid != process.pid:
            children.setdefault(process.ppid, []).append(process)
        else:
            roots.append(process)
    return roots, children


def walk(processes: Sequence[ProcessInfo]) -> Iterable[tuple[str, ProcessInfo]]:
    """Every process with the tree lines before it, parents first."""
    roots, children = below(processes)
    seen: set[int] = set()
    stack = [("", "", root, 0) for root in reversed(roots)]
    while stack:
        stem, branch, process, depth = stack.pop()
        if process.pid in seen:
            continue
        seen.add(process.pid)
        yield stem + branch, process
        under = children.get(process.pid, [])
        deeper = stem + ("" if not branch else "  " if branch == "└─" else "│ ") if depth < DEEPEST else stem
        stack += [
            (deeper, "└─" if number == len(under) - 1 else "├─", child, depth + 1)
            for number, child in reversed(list(enumerate(under)))
        ]
    for process in processes:
        if process.pid not in seen:
            yield "", process


def in_short(processes: Sequence[ProcessInfo]) -> list[tuple[str, ProcessInfo, str]]:
    """Roots and their children one a row, everything deeper named behind its ancestor.

    Gives ``(tree lines, process, text)``; ``text`` is ``bash, uv, pytest, 2 python``.
    """
    roots, children = below(processes)
    rows: list[tuple[str, ProcessInfo, str]] = []
    for root in roots:
        rows.append(("", root, short(root.command)))
        under = children.get(root.pid, [])
        for number, child in enumerate(under):
            branch = "└─" if number == len(under) - 1 else "├─"
            deeper = _descendants(child, children)
            if deeper and program(child.command) in _SHELLS:
                text = ", ".join([program(child.command), *_named(deeper)])
            else:
                text = short(child.command) + (f"  +{len(deeper)}" if deeper else "")
            rows.append((branch, child, text))
    return rows


def _descendants(process: ProcessInfo, children: Mapping[int, list[ProcessInfo]]) -> list[ProcessInfo]:
    found: list[ProcessInfo] = []
    seen = {process.pid}
    stack = list(children.get(process.pid, ()))
    while stack:
        child = stack.pop(0)
        if child.pid not in seen:
            seen.add(child.pid)
            found.append(child)
            stack = [*children.get(child.pid, ()), *stack]
    return found


def _named(processes: Iterable[ProcessInfo], most: int = 5) -> list[str]:
    counts: dict[str, int] = {}
    for process in processes:
        name = program(process.command)
        counts[name] = counts.get(name, 0) + 1
    names = [name if count == 1 else f"{count} {name}" for name, count in counts.items()]
    left = sum(list(counts.values())[most:])
    return [*names[:most], f"+{left}"] if left else names


HEADING: Row = [
    ("   PID ", "label"), ("S ", "label"), ("  CPU%", "label"), ("   MEM", "label"), ("    TIME+", "label"),
    (" COMMAND", "label"),
]  # fmt: skip


def table(processes: Sequence[ProcessInfo], cpu: Mapping[int, float | None]) -> list[Row]:
    """The whole tree as a table; ``cpu`` is per cent of one core by pid, ``None`` not known yet."""
    rows: list[Row] = []
    for lines, process in walk(processes):
        share = cpu.get(process.pid)
        busy = process.state == "R"
        rows.append([
            column(str(process.pid), 6, "muted", right=True), (" ", ""),
            (clean(process.state)[:1].ljust(2) or "? ", "state-executing bold" if busy else "muted"),
            column("-" if share is None else f"{share:.1f}", 6, "fg" if share else "muted", right=True),
            column(size(process.memory), 6, "fg", right=True),
            column(cpu_time(process.cpu_seconds), 9, "fg", right=True), (" ", ""),
            (lines, "rule"), (" " if not lines else "", ""),
            (clean(process.command), "bright" if busy else "fg"),
        ])  # fmt: skip
    return rows


def cpu_time(seconds: float) -> str:
    """CPU time as top writes it: ``0:41.20``, minutes and hundredths; whole hours from 1,000 minutes."""
    minutes, rest = divmod(max(0.0, seconds), 60)
    return (
        f"{int(minutes)}:{rest:05.2f}" if minutes < 1000 else f"{int(minutes // 60)}h{int(minutes % 60):02d}"
    )
