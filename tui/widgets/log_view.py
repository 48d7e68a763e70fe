"""``LogView``: an agent's output as it comes, followed or scrolled, searched, wrapped or cut.

A line API widget: only the lines on screen are ever rendered, and a rendered row is kept under the
identity of its line, so that following a busy agent paints new rows only.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, ClassVar

from rich.cells import chop_cells
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.cache import LRUCache
from textual.events import Resize
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.worker import Worker

from agenttop.core.errors import AgentTopError

from .output_feed import BLOCK, OutputFeed
from .output_lines import Line, Stream
from .output_window import OutputWindow
from .paper import Ink, Piece, ink_of, length
from .screen_feed import ScreenFeed

if TYPE_CHECKING:
    from agenttop.core.backend import Chunk
    from agenttop.core.client import KernelClient

#: One row of the screen: a line, and which of its characters stand there.
Row = tuple[Line, int, int]

#: Blocks read back by one search before it asks to be continued.
SEARCH_BLOCKS = 64

SHOWN: dict[str, str] = {"both": "out", "out": "err", "err": "both"}


class LogView(ScrollView, can_focus=True):
    """The output of one agent, both streams; the error stream has a mark in the gutter."""

    DEFAULT_CSS = """
    LogView { scrollbar-size: 0 0; background: $bg; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "rows(-1)", show=False),
        Binding("down", "rows(1)", show=False),
        Binding("pageup", "pages(-1)", show=False),
        Binding("pagedown", "pages(1)", show=False),
        Binding("home", "oldest", show=False),
        Binding("end", "follow", show=False),
        Binding("f", "toggle_follow", show=False),
        Binding("w", "toggle_wrap", show=False),
        Binding("s", "streams", show=False),
        Binding("left", "columns(-8)", show=False),
        Binding("right", "columns(8)", show=False),
        Binding("n", "next(1)", show=False),
        Binding("N", "next(-1)", show=False),
    ]

    class Changed(Message):
        """What ``status`` says has changed."""

        def __init__(self, view: LogView) -> None:
            super().__init__()
            self.view = view

        @property
        def control(self) -> LogView:
            """The view that changed."""
            return self.view

    class Failed(Message):
        """The output could not be read."""

        def __init__(self, error: AgentTopError) -> None:
            super().__init__()
            self.error = error

    def __init__(self, client: KernelClient | None = None, ref: str = "", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.window = OutputWindow()
        self.following = True
        self.wrap = False
        self.shown = "both"
        self.needle = ""
        self.problem = ""
        self.ended = False
        self._feed: OutputFeed | ScreenFeed | None = None
        if client is not None:
            self._feed = OutputFeed(client, ref)
        self._rows: list[Row] = []
        self._partial = 0
        self._column = 0
        self._found: Line | None = None
        self._found_row = -1
        self._worker: Worker[None] | None = None
        self._reader: Worker[Any] | None = None
        self._strips: LRUCache[tuple[object, ...], Strip] = LRUCache(1024)

    # --- what goes on -------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Begin at the tail."""
        if self._feed is not None:
            self._start()

    def attach(self, client: KernelClient, ref: str, *, terminal: bool = False) -> None:
        """Read from this client from now on: the first, or the one after a kernel was lost.

        Of an agent in a ``terminal`` the text that can be read there is shown, not what it printed.
        """
        self._feed = ScreenFeed(client, ref, self._show_text) if terminal else OutputFeed(client, ref)
        self._feed.may_skip = self.following
        if self.window.lines and not self.following:
            return  # Somebody reads here; End or f goes on.
        self._start()

    def clear(self) -> None:
        """Forget what is shown; the next output begins anew."""
        self.window.clear()
        self._layout()
        self._resized()

    def _start(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
        self.problem, self.ended = "", False
        self._worker = self.run_worker(self._follow(), group="follow", exclusive=True)

    async def _follow(self) -> None:
        assert self._feed is not None
        try:
            await self._feed.follow(self.feed)
            self.ended = True
        except AgentTopError as error:
            self.problem = str(error)
            self.post_message(self.Failed(error))
        self._tell()

    def feed(self, chunks: list[Chunk]) -> bool:
        """Show what was printed next; false when there is no room until somebody scrolls down."""
        window, skipped = self.window, self.window.skipped
        change = window.append(chunks)
        if change.cleared:
            self._layout()
        else:
            self._forget(change.dropped)
            self._extend(window.lines[len(window.lines) - min(change.added, len(window.lines)) :])
        self._resized()
        if window.skipped != skipped or not self.following:
            self._tell()
        return self.following or not window.full()

    def _show_text(self, lines: list[str]) -> None:
        """Show these and nothing else; what is on screen keeps its distance from the end."""
        from agenttop.core.backend import Chunk

        below = len(self._rows) - self.scroll_offset.y
        self.window.clear()
        text = "\n".join(lines[-self.window.max_lines :])
        self.window.append([Chunk("out", 0, text.encode("utf-8", "replace"))])
        self._layout()
        self._resized()
        if not self.following:
            y = min(max(0, len(self._rows) - below), self._bottom())
            self.scroll_to(y=y, animate=False, force=True, immediate=True)

    @property
    def _more_above(self) -> bool:
        return self.window.more_above or (self._feed is not None and self._feed.more)

    @property
    def ascii(self) -> bool:
        """Whether there is no Unicode here."""
        return ink_of(self.app).ascii

    @property
    def status(self) -> str:
        """One phrase for the rule above the log."""
        if self.problem:
            return self.problem
        parts = []
        if self.window.skipped and self.following:
            parts.append(f"{'...' if self.ascii else '…'} {megabytes(self.window.skipped)} skipped")
        if self.shown != "both":
            parts.append(f"only {self.shown}")
        if self.following:
            parts.append("ended" if self.ended else "following")
        else:
            below = max(0, len(self._rows) - self.scroll_offset.y - self.size.height)
            parts.append(f"{below} below, f follow")
        return "  ".join(parts)

    def _tell(self) -> None:
        self.post_message(self.Changed(self))

    # --- rows ---------------------------------------------------------------------------------

    def _width(self) -> int:
        return max(1, self.size.width - 1)

    def _split(self, line: Line) -> list[Row]:
        width = self._width()
        if not self.wrap or line.cells <= width:
            return [(line, 0, len(line.text))]
        rows, position = [], 0
        for piece in chop_cells(line.text, width):
            rows.append((line, position, position + len(piece)))
            position += len(piece)
        return rows

    def _visible(self, line: Line) -> bool:
        return self.shown == "both" or line.mark or line.stream == self.shown

    def _extend(self, lines: list[Line]) -> None:
        if self._partial:
            del self._rows[-self._partial :]
        for line in lines:
            if self._visible(line):
                self._rows += self._split(line)
        before = len(self._rows)
        for line in self.window.partial():
            if self._visible(line):
                self._rows += self._split(line)
        self._partial = len(self._rows) - before

    def _layout(self) -> None:
        self._rows, self._partial = [], 0
        self._extend(self.window.lines)

    def _forget(self, count: int) -> None:
        """Take the rows of the ``count`` oldest lines away; what is on screen stays where it is."""
        if not count:
            return
        first = self.window.lines[0] if self.window.lines else None
        at = next((i for i, row in enumerate(self._rows) if row[0] is first), len(self._rows))
        del self._rows[:at]
        if not self.following:
            self.scroll_to(y=max(0, self.scroll_offset.y - at), animate=False, force=True, immediate=True)

    def _resized(self) -> None:
        self.virtual_size = Size(self.size.width, len(self._rows))
        if self.following:
            self.scroll_to(y=self._bottom(), animate=False, force=True, immediate=True)
        self.refresh()

    def _bottom(self) -> int:
        return max(0, len(self._rows) - self.size.height)

    def on_resize(self, event: Resize) -> None:
        """Another width wraps elsewhere; the first line on screen stays the first."""
        top = self._top_line()
        self._layout()
        self._resized()
        self._bring(top)

    def _top_line(self) -> Line | None:
        y = self.scroll_offset.y
        return self._rows[y][0] if y < len(self._rows) else None

    def _bring(self, line: Line | None) -> None:
        if self.following or line is None:
            return
        at = next((i for i, row in enumerate(self._rows) if row[0] is line), None)
        if at is not None:
            self.scroll_to(y=min(at, self._bottom()), animate=False, force=True, immediate=True)

    # --- painting -----------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One row of the screen."""
        index = y + self.scroll_offset.y
        width = self.size.width
        ink = ink_of(self.app, "bg")
        if index >= len(self._rows):
            return ink.strip([], width)
        line, start, end = self._rows[index]
        # A line that has not ended is a new object each time, so identity is content here.
        key = (line, start, width, self._column, self.wrap, self.needle, line is self._found, ink)
        strip = self._strips.get(key)
        if strip is None:
            strip = self._strips[key] = self._paint(line, start, end, width, ink)
        return strip

    def _paint(self, line: Line, start: int, end: int, width: int, ink: Ink) -> Strip:
        if line.mark:
            left: list[Piece] = [("── ", "rule"), (line.text, "muted"), (" ", "rule")]
            return ink.strip([*left, ("─" * max(0, width - length(left)), "rule")], width)
        base = ink.style("fg bold" if line is self._found else "fg")
        gutter = Segment(ink.text("▎") if line.stream == "err" else " ", ink.style("bad"))
        segments: list[Segment] = []
        for run_start, run_end, style in line.runs:
            a, b = max(run_start, start), min(run_end, end)
            if a < b:
                shown = style.without_color if ink.palette.mono else style
                segments += self._marked(line.text[a:b], base + shown, ink)
        strip = Strip(segments)
        if self._column and not self.wrap:
            strip = strip.crop(self._column)
        if strip.cell_length > width - 1:
            strip = Strip.join(
                [strip.crop(0, max(0, width - 2)), Strip([Segment(ink.text("…"), ink.style("muted"))])]
            )
        return Strip.join([Strip([gutter]), strip]).adjust_cell_length(width, base).simplify()

    def _marked(self, text: str, style: Style, ink: Ink) -> list[Segment]:
        shown = text if not ink.ascii or text.isascii() else text.encode("ascii", "replace").decode()
        if not self.needle:
            return [Segment(shown, style)]
        match = ink.style("sort-fg/sort-bg bold")
        haystack, segments, position = self._fold(text), [], 0
        while (at := haystack.find(self.needle, position)) >= 0:
            end = at + len(self.needle)
            segments += [Segment(shown[position:at], style), Segment(shown[at:end], match)]
            position = end
        return [*segments, Segment(shown[position:], style)]

    def _fold(self, text: str) -> str:
        """Small letters search both cases, as in less -i; lengths must stay, or marks would shift."""
        if self.needle != self.needle.lower():
            return text
        lower = text.lower()
        return lower if len(lower) == len(text) else text

    # --- moving -------------------------------------------------------------------------------

    def action_rows(self, count: int) -> None:
        """Scroll; beyond the ends more is read from the kernel."""
        self._go(self.scroll_offset.y + count)

    def action_pages(self, count: int) -> None:
        """Scroll by a screen less one row."""
        self._go(self.scroll_offset.y + count * max(1, self.size.height - 1))

    def action_columns(self, count: int) -> None:
        """Scroll lines that are cut to the left and right."""
        self._column = 0 if self.wrap else max(0, self._column + count)
        self.refresh()

    def action_oldest(self) -> None:
        """Go to the oldest line in memory; again: read what is before it."""
        self._go(0 if self.scroll_offset.y else -1)

    def _go(self, y: int) -> None:
        bottom = self._bottom()
        if y < 0 and self._more_above:
            self._read_back()
        self._set_following(y >= bottom and not self._detached)
        if y > bottom:
            if self._detached:
                self._read_on()
            elif self._feed is not None:
                self._feed.go_on()
        self.scroll_to(y=min(max(0, y), bottom), animate=False, force=True, immediate=True)
        self._tell()

    _detached = False
    """Whether newer lines were dropped while reading back: the follower was stopped."""

    def _set_following(self, following: bool) -> None:
        self.following = following
        if self._feed is not None:
            self._feed.may_skip = following
            if following:
                self._feed.go_on()

    def action_follow(self) -> None:
        """Go to the newest line and stay there."""
        if self._detached or self._held():
            self._detached = False
            self.window.clear()
            self._layout()
            self._set_following(True)
            self._start()
        self._set_following(True)
        self.window.skipped = 0
        self._resized()
        self._tell()

    def _held(self) -> bool:
        return self.window.full() and not self.following and not self.ended and self._feed is not None

    def action_toggle_follow(self) -> None:
        """Follow, or stop here."""
        if self.following:
            self._set_following(False)
            self._tell()
        else:
            self.action_follow()

    def action_toggle_wrap(self) -> None:
        """Wrap long lines, or cut them."""
        top = self._top_line()
        self.wrap, self._column = not self.wrap, 0
        self._layout()
        self._resized()
        self._bring(top)
        self._tell()

    def action_streams(self) -> None:
        """Show both streams, only out, only err."""
        top = self._top_line()
        self.shown = SHOWN[self.shown]
        self._layout()
        self._resized()
        self._bring(top)
        self._tell()

    # --- reading beyond the ends --------------------------------------------------------------

    def _read_back(self) -> None:
        if self._feed is not None and (self._reader is None or self._reader.is_finished):
            self._reader = self.run_worker(self._read_older(), group="read")

    def _read_on(self) -> None:
        if self._feed is not None and (self._reader is None or self._reader.is_finished):
            self._reader = self.run_worker(self._newer(), group="read")

    async def _read_older(self) -> None:
        await self._older()

    async def _older(self) -> int:
        """Read the block before the oldest line; returns how many rows that gave."""
        assert self._feed is not None
        if isinstance(self._feed, ScreenFeed):
            before = len(self._rows)
            await self._everything(self._feed)
            return max(0, len(self._rows) - before)
        low: dict[Stream, int] = {stream: at for stream, at in self.window.low.items() if at > 0}
        if not low:
            return 0
        start: dict[Stream, int] = {stream: max(0, at - BLOCK) for stream, at in low.items()}
        try:
            chunks = await self._feed.block(start, run=self.window.run)
        except AgentTopError as error:
            self.post_message(self.Failed(error))
            return 0
        top = self._top_line()
        change = self.window.prepend(chunks)
        for stream, at in low.items():
            if self.window.low.get(stream) == at:
                self.window.at_start(stream, at)
        if change.dropped and not self._detached:
            self._detached = True
            if self._worker is not None:
                self._worker.cancel()
        self._layout()
        gained = (
            self._row_of(self.window.lines[change.added]) if change.added < len(self.window.lines) else None
        )
        stay = self._row_of(top)
        if stay is None:  # what was on screen had to go: show where the older output meets the rest
            stay = gained or len(self._rows)
        self._resized()
        self.scroll_to(y=min(stay, self._bottom()), animate=False, force=True, immediate=True)
        self._tell()
        return len(self._rows) if gained is None else gained

    async def _everything(self, feed: ScreenFeed) -> None:
        try:
            await feed.everything()
        except AgentTopError as error:
            self.post_message(self.Failed(error))

    def _row_of(self, line: Line | None) -> int | None:
        return next((i for i, row in enumerate(self._rows) if row[0] is line), None)

    async def _newer(self) -> None:
        """Read the block after the newest line in memory."""
        assert self._feed is not None
        try:
            chunks = await self._feed.block(self.window.high, run=self.window.run)
        except AgentTopError as error:
            self.post_message(self.Failed(error))
            return
        if chunks:
            self.feed(chunks)
        else:
            self.action_follow()

    # --- searching ----------------------------------------------------------------------------

    def search(self, needle: str) -> None:
        """Find ``needle`` upwards from here, as one looks for what just went by."""
        self.needle, self.problem = needle, ""
        self._found, self._found_row = None, -1
        self.refresh()
        if needle:
            self.action_next(-1)

    def action_next(self, direction: int) -> None:
        """Go to the next match downwards (1) or upwards (-1)."""
        if not self.needle:
            return
        if self._jump(direction):
            self.problem = ""
        elif direction < 0 and self._more_above:
            self.problem = "searching"
            self.run_worker(self._search_back(), group="search", exclusive=True)
        else:
            self.problem = f"nothing {'above' if direction < 0 else 'below'}"
        self._tell()

    def _jump(self, direction: int, here: int | None = None) -> bool:
        """Go to the next match from row ``here`` (default: the last match, else what is on screen)."""
        matches = [
            i for i, row in enumerate(self._rows) if self.needle in self._fold(row[0].text[row[1] : row[2]])
        ]
        if here is None and self._found is not None:
            here = self._row_of(self._found)
        if here is None:
            here = len(self._rows) if self.following else self.scroll_offset.y + self.size.height
        at = bisect_left(matches, here)
        if direction > 0 and at < len(matches) and matches[at] == here:
            at += 1
        elif direction < 0:
            at -= 1
        if not 0 <= at < len(matches):
            return False
        row = matches[at]
        self._found = self._rows[row][0]
        if not self.scroll_offset.y <= row < self.scroll_offset.y + self.size.height:
            self._set_following(False)
            middle = row - self.size.height // 2
            self.scroll_to(y=min(max(0, middle), self._bottom()), animate=False, force=True, immediate=True)
        self._set_following(self.following and row >= self._bottom())
        self.refresh()
        return True

    async def _search_back(self) -> None:
        self._set_following(False)
        for _ in range(SEARCH_BLOCKS):
            gained = await self._older() if self._more_above else 0
            if not gained:
                self.problem = "nothing above"
                break
            if self._jump(-1, gained):
                self.problem = ""
                break
        else:
            self.problem = f"nothing in {megabytes(SEARCH_BLOCKS * BLOCK)}; N goes on"
        self._tell()


def megabytes(count: int) -> str:
    """A size for a person: ``812 kB``, ``18 MB``."""
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{max(1, count // 1000)} kB"
