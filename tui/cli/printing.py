"""What commands print: data on stdout, complaints on stderr, one line per object done."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from agenttop.core.errors import AgentTopError, UsageError, from_dict

from ..format import clean, cut, width
from ..main import complain

if TYPE_CHECKING:
    from agenttop.core.api import Outcome

#: Cells that a table's last column, which takes the rest, has at least.
_LEAST = 12


def line(text: str) -> None:
    """One line of data."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """One line beside the data."""
    sys.stderr.write(f"agenttop: {clean(text)}\n")


def notes(sentences: Iterable[str]) -> None:
    """What one should know beside what was done, a line each."""
    for sentence in sentences:
        note(sentence)


def json(document: Any) -> None:
    """A JSON document, indented for a person where one reads."""
    import orjson

    option = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
    if sys.stdout.isatty():
        option |= orjson.OPT_INDENT_2
    sys.stdout.flush()
    sys.stdout.buffer.write(orjson.dumps(document, option=option))


def outcomes(done: Sequence[Outcome], *, as_json: bool = False) -> int:
    """Each outcome as a line or an error; gives the exit status they ask for."""
    if as_json:
        json([outcome.model_dump() for outcome in done])
    for outcome in done:
        if outcome.error is not None:
            complain(from_dict(outcome.error))
        elif not as_json:
            line(clean(f"{outcome.name or outcome.ref} {outcome.done}".rstrip()))
            _survivors(outcome)
    # What is to be known of several is said once.
    notes(dict.fromkeys(note for outcome in done for note in outcome.notes))
    return status(done)


def _survivors(outcome: Outcome) -> None:
    survivors = (outcome.proof or {}).get("survivors")
    if survivors:
        listed = ", ".join(str(pid) for pid in survivors)
        complain(AgentTopError(f"processes of {outcome.name} survived", f"Still there: {listed}"))


def status(done: Sequence[Outcome]) -> int:
    """0 when all was done; what failed alike gives its own status, different failures give 1."""
    codes = {outcome.exit_code or int(outcome.error is not None) for outcome in done} - {0}
    return codes.pop() if len(codes) == 1 else int(bool(codes))


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[str] = (),
    drop: Sequence[str] = (),
    whole: bool = False,
) -> None:
    """Columns as wide as their widest value, two spaces apart.

    A pipe gets everything. In a terminal the columns of ``drop`` go, the first one first, until the last
    column has some cells; then that one is cut to the edge, or told ``whole`` on several lines.
    """
    body = [[clean(cell) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(header, *body, strict=True)]
    edge = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    least = 3 * _LEAST if whole else _LEAST
    kept = list(range(len(header)))
    for name in drop if edge is not None else ():
        if edge is None or sum(widths[i] + 2 for i in kept[:-1]) + min(widths[-1], least) <= edge:
            break
        kept.remove(header.index(name))
    numeric = [name in set(right) for name in header]
    written = []
    for row in (header, *body):
        cells = [_cell(row[i], widths[i], numeric[i]) for i in kept]
        if edge is None or not whole:
            text = "  ".join(cells).rstrip()
            written.append(text if edge is None else cut(text, edge))
        else:
            written.append(hanging("  ".join([*cells[:-1], ""]), row[kept[-1]], edge))
    sys.stdout.write("\n".join(written) + "\n")


def hanging(lead: str, text: str, edge: int) -> str:
    """``text`` behind ``lead``, on as many lines as it takes below each other; no word is broken."""
    import textwrap

    return textwrap.fill(
        text, max(edge, width(lead) + _LEAST), initial_indent=lead, subsequent_indent=" " * width(lead),
        break_long_words=False, break_on_hyphens=False,
    ) or lead.rstrip()  # fmt: skip


def _cell(text: str, cells: int, right: bool) -> str:
    padding = " " * (cells - width(text))
    return padding + text if right else text + padding


def confirm(question: str, yes: bool) -> None:
    """Ask before something that cannot be undone.

    Raises:
        UsageError: There is nobody to ask, and ``--yes`` was not given.
        KeyboardInterrupt: The answer was no.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(question.rstrip("?") + " needs an answer", "This is not a terminal", "Say --yes")
    sys.stderr.write(f"{clean(question)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise AgentTopError("nothing was done", "The answer was not yes")
