"""``agenttop logs``: what agents printed. Raw where a program reads it, harmless on a terminal."""

from __future__ import annotations

import codecs
import os
import re
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from . import printing
from .kernel_call import call
from .options import Refs

if TYPE_CHECKING:
    from agenttop.core.backend import Chunk
    from agenttop.core.client import KernelClient

Stream = Literal["out", "err"]
_FILES: dict[str, int] = {"out": 1, "err": 2}

SLACK = 4 << 20
"""Bytes an agent may print between finding the last lines and following, before all is read again."""
ALL = 1_000_000
"""Lines of a terminal: as many as are kept, and more."""


def logs(
    refs: Refs,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until they have ended.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="Only so many lines of each stream.")
    ] = None,
    stream: Annotated[str | None, typer.Option("--stream", help="Only out, or only err.")] = None,
    run: Annotated[int | None, typer.Option("--run", min=1, help="Which run; default: the last.")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Of a terminal: every byte it got, with all that moves its cursor.")
    ] = False,
) -> None:
    """Print agents' output. Their stdout on stdout, their stderr on stderr.

    It is kept byte for byte, as the agent wrote it, so its lines carry no times to choose by: take --tail
    or --run here, or `agenttop events` for what happened when.

    Of an agent in a terminal the text that can be read there is printed, as `agenttop history` does. With
    --follow, --run or --raw it is what its terminal got: of a program that draws see `agenttop attach`.
    """
    from agenttop.core.errors import UsageError

    if stream not in (None, "out", "err"):
        raise UsageError(f"there is no stream {stream}", hint="Take out or err")

    async def print_all(client: KernelClient) -> None:
        import anyio

        async def one(ref: str, writer: Writer) -> None:
            if follow and not raw:
                await _tell_of_drawing(client, ref)
            if not (follow or raw or run) and await _print_screen(client, ref, writer, tail):
                return
            await _print(client, ref, writer, follow_on=follow, tail=tail, run=run)

        if len(refs) == 1:
            await one(refs[0], Writer(only=stream))
            return
        prefix = max(map(len, refs))
        if not follow:
            for ref in refs:
                await one(ref, Writer(only=stream, prefix=f"{ref:<{prefix}} | "))
            return
        async with anyio.create_task_group() as tasks:
            for ref in refs:
                tasks.start_soon(one, ref, Writer(only=stream, prefix=f"{ref:<{prefix}} | "))

    call(print_all)


async def _print(
    client: KernelClient, ref: str, writer: Writer, *, follow_on: bool, tail: int | None, run: int | None
) -> None:
    start: dict[str, int] = {}
    size = None
    if tail is not None:
        start, size = await _last_lines(client, ref, tail, run)
    async with aclosing(
        cast("AsyncGenerator[Chunk, None]", client.output(ref, follow=follow_on, run=run, tail=size))
    ) as chunks:
        async for chunk in chunks:
            writer.write(_from(chunk, start))
    writer.finish()


async def _tell_of_drawing(client: KernelClient, ref: str) -> None:
    """Say once, to a person, where an agent in a terminal is seen better."""
    from agenttop.core.errors import BackendError, Conflict

    if not os.isatty(1):
        return
    try:
        found = await client.history(ref, 0)
    except (BackendError, Conflict):
        return
    printing.note(f"{found.name} has a terminal; if it draws there, see `agenttop attach {found.name}`")


async def _print_screen(client: KernelClient, ref: str, writer: Writer, tail: int | None) -> bool:
    """Write the text of an agent's terminal; false if it has none."""
    from agenttop.core.backend import Chunk
    from agenttop.core.errors import Conflict, NoTerminal

    try:
        found = (await client.history(ref, ALL if tail is None else tail)).lines
    except (NoTerminal, Conflict):  # nothing of it has begun: no output either
        return False
    if tail is not None:
        found = found[-tail:] if tail else []
    text = "".join(f"{line}\n" for line in found)
    writer.write(Chunk("out", 0, text.encode("utf-8", "surrogateescape")))
    writer.finish()
    return True


def _from(chunk: Chunk, start: dict[str, int]) -> Chunk:
    """``chunk`` without what lies before the wanted offset of its stream; that counts for one run only."""
    skip = start.get(chunk.stream, 0) - chunk.offset
    if skip <= 0:
        start.pop(chunk.stream, None)
        return chunk
    return chunk._replace(offset=chunk.offset + skip, data=chunk.data[skip:])


async def _last_lines(
    client: KernelClient, ref: str, count: int, run: int | None
) -> tuple[dict[str, int], int | None]:
    """Offsets at which the last ``count`` lines of each stream begin, and how much to ask for to get them."""
    size = max(count, 1) * 256
    while True:
        ends: dict[str, bytearray] = {}
        begins: dict[str, int] = {}
        async with aclosing(
            cast("AsyncGenerator[Chunk, None]", client.output(ref, run=run, tail=size))
        ) as chunks:
            async for chunk in chunks:
                begins.setdefault(chunk.stream, chunk.offset)
                ends.setdefault(chunk.stream, bytearray()).extend(chunk.data)
        starts = {name: begins[name] + _line_start(data, count) for name, data in ends.items()}
        # A stream whose start is where the data begins may have more lines before it.
        if all(starts[name] > begins[name] or begins[name] == 0 or len(ends[name]) < size for name in starts):
            longest = max((begins[name] + len(data) - starts[name] for name, data in ends.items()), default=0)
            return starts, longest + SLACK
        size *= 8


def _line_start(data: bytearray, count: int) -> int:
    """Index in ``data`` where its last ``count`` lines begin; an unfinished line counts as one."""
    if count == 0:
        return len(data)
    end = len(data) - 1 if data.endswith(b"\n") else len(data)
    for _ in range(count):
        end = data.rfind(b"\n", 0, end)
        if end < 0:
            return 0
    return end + 1


async def follow(client: KernelClient, ref: str, writer: Writer) -> None:
    """Write an agent's whole output as it comes, until it has ended for good."""
    await _print(client, ref, writer, follow_on=True, tail=None, run=None)


class Writer:
    """Sends chunks to stdout and stderr.

    On a terminal escape sequences other than colours are taken out, as the output of an agent could
    otherwise retitle, clear or type into it. Elsewhere every byte is passed on as it is.
    """

    def __init__(self, only: str | None = None, prefix: str = "") -> None:
        self._only = only
        self._prefix = prefix
        sys.stdout.flush()
        self._harmless = {name: Harmless() if os.isatty(fd) else None for name, fd in _FILES.items()}
        self._rest: dict[str, bytes] = {}

    def write(self, chunk: Chunk) -> None:
        """Pass one piece on."""
        if not chunk.data or self._only not in (None, chunk.stream):
            return
        data = bytes(chunk.data)
        if (harmless := self._harmless[chunk.stream]) is not None:
            data = harmless.feed(data).encode("utf-8", "replace")
        if self._prefix:
            data = self._prefixed(chunk.stream, data)
        _write_all(_FILES[chunk.stream], data)

    def finish(self) -> None:
        """Pass on what was kept back."""
        for name, harmless in self._harmless.items():
            tail = harmless.finish().encode("utf-8", "replace") if harmless is not None else b""
            if self._prefix and (rest := self._rest.pop(name, b"") + tail):
                tail = self._prefix.encode() + rest + b"\n"
            _write_all(_FILES[name], tail)

    def _prefixed(self, stream: str, data: bytes) -> bytes:
        """Whole lines with the prefix before each; an unfinished one waits, up to 64 KiB."""
        data = self._rest.pop(stream, b"") + data
        *lines, rest = data.split(b"\n")
        if len(rest) > 65_536:
            lines.append(rest)
            rest = b""
        if rest:
            self._rest[stream] = rest
        return b"".join(self._prefix.encode() + line + b"\n" for line in lines)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


_COLOUR = r"\x1b\[[0-9;:]*m"
_ESCAPE = re.compile(
    rf"({_COLOUR})"
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # other CSI
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC, DCS, SOS, PM, APC with their text
    r"|\x9b[0-?]*[ -/]*[@-~]"
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]"  # controls but tab and newline
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?\Z|\x9b[0-?]*[ -/]*\Z")
_LONGEST = 4096
"""Characters an escape sequence may have before it is taken for text."""


class Harmless:
    """Bytes of one stream, in any pieces → text that can only print, break lines and set colours."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> str:
        """The text that ``data`` completes."""
        text = self._rest + self._decode.decode(data)
        self._rest = ""
        if (cut := _UNFINISHED.search(text)) and len(text) - cut.start() <= _LONGEST:
            text, self._rest = text[: cut.start()], text[cut.start() :]
        return _strip(text)

    def finish(self) -> str:
        """What is left, and the end of any colour."""
        text, self._rest = self._rest + self._decode.decode(b"", final=True), ""
        return _strip(text).replace("\x1b", "") + "\x1b[0m"


def _strip(text: str) -> str:
    kept = _ESCAPE.sub(lambda match: match[1] or "", text.replace("\r\n", "\n").replace("\r", "\n"))
    return re.sub(rf"\x1b(?!{_COLOUR[4:]})", "", kept)
