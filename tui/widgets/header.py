"""The header: meters on the left, sums and counts on the right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.strip import Strip

from .. import format as f
from ..lines import Lines, Part, strip
from ..look import Look
from ..meters import Meter, parts

if TYPE_CHECKING:
    from agenttop.core.api import Header as Sums
    from agenttop.core.table import ProviderGauge

    from ..model import FleetModel

#: How states are counted: key, word, letter, in this order.
STATES = (
    ("executing", "X"), ("planning", "P"), ("idle", "I"), ("waiting", "W"), ("paused", "F"), ("error", "E"),
    ("initializing", "N"), ("terminated", "T"),
)  # fmt: skip

#: What the fleet's budget covers, as its meter says it.
BUDGET_WINDOWS = {"day": " today", "hour": " this hour", "task": " this task", "total": " in total"}

#: Cells of the right column: short words below ``ROOMY`` columns, full words from there.
ROOMY, NARROW_TEXT, WIDE_TEXT, THREE = 118, 37, 68, 160


def height(lines: int) -> int:
    """How many lines the header takes on a terminal of so many lines."""
    return 4 if lines >= 24 else 2 if lines >= 16 else 1


def _text_cells(width: int) -> int:
    """Cells of the right column on a terminal of so many columns."""
    return WIDE_TEXT + (width >= 180) * 9 if width >= ROOMY else NARROW_TEXT


def _token_meters(sums: Sums | None, words: tuple[str, str]) -> list[Meter]:
    if sums is None or not sums.providers:
        return [Meter("TOK", (), 1, "-" if sums is None else "no calls yet", quiet=True)]
    return [
        Meter(
            f.clean(gauge.label),
            (
                ("tok-input", gauge.input), ("tok-cache-read", gauge.cache_read),
                ("tok-cache-write", gauge.cache_write), ("tok-output", gauge.output),
            ),
            gauge.limit or gauge.peak,
            _token_text(gauge.input + gauge.cache_read + gauge.cache_write + gauge.output, gauge.limit,
                        gauge.peak, words),
            quiet=not gauge.peak and not gauge.limit,
        )
        for gauge in sorted(sums.providers, key=_fullness, reverse=True)
    ]  # fmt: skip


def _fullness(gauge: ProviderGauge) -> tuple[float, float]:
    used = gauge.input + gauge.cache_read + gauge.cache_write + gauge.output
    return (used / gauge.limit if gauge.limit else 0.0, used)


def _token_text(used: int, limit: int | None, peak: int, words: tuple[str, str]) -> str:
    if limit:
        return f"{f.tokens(used)}/{f.tokens(limit)} {words[0]}"
    if not peak and not used:
        return "no calls yet"
    return f"{f.tokens(used)} {words[0]}  no limit"


def _budget_meter(sums: Sums | None, window: str) -> Meter:
    if sums is None or sums.budget_limit is None or sums.budget_spent is None:
        return Meter("BUD", (), 1, "-" if sums is None else "no fleet budget", quiet=True)
    used = 100 * sums.budget_spent / sums.budget_limit if sums.budget_limit else 100
    spent, when = f.level(used), BUDGET_WINDOWS.get(sums.budget_window, "")
    return Meter(
        "BUD",
        (
            (spent, sums.budget_spent),
            ("state-needs-you" if spent == "warn" else "warn", sums.budget_reserved),
        ),
        sums.budget_limit,
        f"${sums.budget_spent:.2f}/${sums.budget_limit:.2f}{when}",
    )


def _context_meter(sums: Sums | None, words: tuple[str, str]) -> Meter:
    if sums is None:
        return Meter("CTX", (), 1, "-", quiet=True)
    if not sums.context_limit:
        return Meter("CTX", (), 1, f.tokens(sums.context), quiet=True)
    fresh = max(0, sums.context - sums.context_cached)
    return Meter(
        "CTX",
        (("tok-cache-read", sums.context_cached), ("tok-input", fresh)),
        sums.context_limit,
        f"{f.tokens(sums.context)}/{f.tokens(sums.context_limit)} {words[1]}",
    )


def _host_meters(sums: Sums | None) -> list[Meter]:
    if sums is None:
        return [Meter("CPU", (), 1, "-", quiet=True), Meter("MEM", (), 1, "-", quiet=True)]
    cores = sums.agents_cpu / 100
    kernel = sums.kernel_cpu / 100
    return [
        Meter("CPU", (("good", cores), ("link", kernel)), sums.host_cores,
              f"{cores:.1f}/{sums.host_cores} cores"),
        Meter("MEM", (("good", sums.agents_memory), ("link", sums.kernel_memory)), sums.host_memory,
              f"{f.size(sums.agents_memory)}/{f.size(sums.host_memory)} agents"),
    ]  # fmt: skip


class Header(Lines):
    """Four lines, two or one, by the height of the terminal."""

    DEFAULT_CSS = "Header { height: 4; }"

    @property
    def _model(self) -> FleetModel:
        return self.shell.model

    def build(self, width: int, height: int) -> list[Strip]:
        """The lines for this size."""
        look = self.shell.look
        if height == 1:
            return [self._one_line(width, look)]
        sums = self._model.shown_header
        roomy = width >= ROOMY
        words = ("tok/min", "in context") if roomy else ("tok/m", "ctx")
        tokens = _token_meters(sums, words)
        fixed = [_budget_meter(sums, self._model.window), _context_meter(sums, words)]
        host = _host_meters(sums)
        texts = self._texts(look, roomy, _text_cells(width))
        if width >= THREE and height == 4:
            columns = [tokens[:4], [*fixed, *host]]
        elif height == 4:
            columns = [([*tokens[:2], *fixed] if len(tokens) > 1 else [*tokens, *fixed, host[0]])[:4]]
        else:
            columns = [[tokens[0], fixed[0]]]
        return self._lay(columns, texts, width, height, look)

    def _lay(
        self, columns: list[list[Meter]], texts: list[list[Part]], width: int, height: int, look: Look
    ) -> list[Strip]:
        roomy = width >= ROOMY
        text_cells = _text_cells(width)
        margin = 1 if roomy else 0
        gap = 3 if roomy else 2
        stale = self.shell.lost
        cells = (width - margin - text_cells - gap * len(columns)) // len(columns)
        fill = look.palette("fg")
        lines: list[Strip] = []
        for number in range(height):
            line: list[Part] = [(" " * margin, fill)]
            if cells >= 12:
                for meters in columns:
                    line += self._meter(meters, number, cells, look, stale, gap)
            line += texts[number] if number < len(texts) else []
            lines.append(strip(line, width, fill, look.glyphs.mark))
        return lines

    def _meter(
        self, meters: list[Meter], number: int, cells: int, look: Look, stale: bool, gap: int
    ) -> list[Part]:
        palette = look.palette
        if number >= len(meters):
            return [(" " * (cells + gap), palette("fg"))]
        width = 5 if cells > 50 else 4
        mark: Part = ("?", palette("state-needs-you", bold=True)) if stale else (" ", palette("fg"))
        return [
            *parts(meters[number], cells, look, stale=stale, width=min(width, 4)), mark,
            (" " * (gap - 1), palette("fg")),
        ]  # fmt: skip

    # --- the texts on the right ----------------------------------------------------------------

    def _texts(self, look: Look, roomy: bool, cells: int) -> list[list[Part]]:
        lines = [
            self._agents(look, roomy, cells),
            self._needs(look, roomy),
            self._sums(look, roomy),
            self._spend(look, roomy),
        ]
        if self.shell.lost:
            stale = look.palette("num-stale")
            lines = [[(text, stale) for text, _ in line] for line in lines]
        return lines

    def _agents(self, look: Look, roomy: bool, cells: int) -> list[Part]:
        palette, model = look.palette, self._model
        if not model.known:
            return [("Agents: ", palette("label")), ("-", palette("muted"))]
        line: list[Part] = [
            ("Agents: ", palette("label")),
            (str(len(model.rows)), palette("bright", bold=True)),
        ]
        words = [f" {count} {state}" for state, _ in STATES if (count := model.counts.get(state, 0))]
        # Words only where all of them fit, else the table's letters: never half a word.
        roomy = roomy and sum(len(text) for text, _ in line) + 1 + len("".join(words)) <= cells
        for number, (state, mark) in enumerate(STATES):
            count = model.counts.get(state, 0)
            if not count:
                continue
            line.append(("  " if number == 0 or len(line) == 2 else " ", palette("fg")))
            name = "state-waiting" if state == "waiting" else f"state-{state}"
            if roomy:
                line += [(str(count), palette(name, bold=True)), (f" {state}", palette("fg"))]
            else:
                line += [(str(count), palette("bright", bold=True)), (mark, palette(name, bold=True))]
        return line

    def _needs(self, look: Look, roomy: bool) -> list[Part]:
        palette, model = look.palette, self._model
        sums = model.shown_header
        if sums is None:
            return [("Need you: ", palette("label")), ("-", palette("muted"))]
        needing = model.needing_you
        badge: Part = (
            (f" {needing} ", palette("badge-fg", "state-needs-you", bold=True))
            if needing and self.shell.marks
            else (str(needing), palette("fg"))
        )
        line: list[Part] = [*self._halted(sums, look), ("Need you: ", palette("label")), badge]
        if model.rows:
            line += [
                ("  Held calls: " if roomy else "  Held: ", palette("label")),
                (str(sums.held), palette("bright", bold=True) if sums.held else palette("muted")),
            ]
            if roomy or not sums.halted:
                line += self._load(sums, look, roomy)
        return line

    def _halted(self, sums: Sums, look: Look) -> list[Part]:
        """The kill switch is on: said first, and not by colour alone."""
        if not sums.halted:
            return []
        return [(" HALTED ", look.palette("badge-fg", "bad", bold=True)), ("  ", look.palette("fg"))]

    def _load(self, sums: Sums, look: Look, roomy: bool) -> list[Part]:
        palette = look.palette
        if sums.load is not None:
            one, five, fifteen = (f"{value:.2f}" for value in sums.load)
            label = "  Token load: " if roomy else "  Load "
            hot = "bad" if sums.load[0] > 1 else "bright"
        else:
            one, five, fifteen = (f.tokens(value) for value in sums.rates)
            label = "  Tok/min: " if roomy else "  Tok/m "
            hot = "bright"
        line = [(label, palette("label")), (one, palette(hot, bold=True))]
        return [*line, (f" {five}", palette("fg")), (f" {fifteen}", palette("muted"))] if roomy else line

    def _sums(self, look: Look, roomy: bool) -> list[Part]:
        palette, model = look.palette, self._model
        sums = model.shown_header
        line: list[Part] = [(f"{model.window.capitalize()}: ", palette("label"))]
        if sums is None:
            return [*line, ("-", palette("muted"))]
        if not (
            sums.input or sums.cache_read or sums.cache_write or sums.output or sums.cost or sums.unpriced
        ):
            return [*line, ("$0.00", palette("fg"))]
        cache = sums.cache_read + sums.cache_write
        counts = (
            ("in ", sums.input, "tok-input"), ("cache ", cache, "tok-cache-read"),
            ("out ", sums.output, "tok-output"),
        )  # fmt: skip
        for number, (word, value, name) in enumerate(counts):
            if roomy:
                line += [(word, palette(name)), (f.tokens(value) + " ", palette("bright", bold=True))]
            else:
                line += [
                    ("+" if number else "", palette("muted")),
                    (f.tokens(value), palette(name, bold=True)),
                ]
        return [*line, *self._cost(sums, look, roomy)]

    def _cost(self, sums: Sums, look: Look, roomy: bool) -> list[Part]:
        palette, glyphs = look.palette, look.glyphs
        sign = glyphs.at_least if sums.unpriced else "" if sums.cost_exact else "~"
        line: list[Part] = [(f" {sign}${sums.cost:.2f}", palette("bright", bold=True))]
        if roomy:
            notes = [f"${self._model.observed_cost:.2f} observed"] if self._model.observed_cost else []
            notes += [f"{sums.unpriced} unpr."] if sums.unpriced else []
            line.append(("  " + ", ".join(notes), palette("muted")))
        return line

    def _spend(self, look: Look, roomy: bool) -> list[Part]:
        palette, model = look.palette, self._model
        sums = model.shown_header
        if sums is None:
            return [("Spend: ", palette("label")), ("-", palette("muted"))]
        if not model.rows:
            up = f.uptime(self.shell.clock.time() - sums.kernel_started)
            return [("Up ", palette("label")), (up, palette("fg")), *self._kernel(sums, look, roomy)]
        line: list[Part] = [
            ("Spend: ", palette("label")),
            (f"${sums.spend_hour:.2f}/h", palette("bright", bold=True)),
        ]
        if sums.budget_limit is not None and sums.budget_spent is not None and sums.spend_hour > 0:
            left = sums.budget_limit - sums.budget_spent - sums.budget_reserved
            line.append(
                (f"  ${sums.budget_limit:.0f} lasts {f.age(3600 * left / sums.spend_hour)}", palette("muted"))
            )
            if not roomy:
                return line
        return [*line, *self._kernel(sums, look, roomy)]

    def _kernel(self, sums: Sums, look: Look, roomy: bool) -> list[Part]:
        palette = look.palette
        line: list[Part] = [
            ("  kernel ", palette("label")),
            (f"{sums.kernel_cpu:.1f}% {f.size(sums.kernel_memory)}", palette("fg")),
        ]
        if roomy:
            line += [
                ("  tty ", palette("label")),
                (f"{f.size(self.shell.written_rate)}/s", palette("fg")),
            ]
        return line

    def _one_line(self, width: int, look: Look) -> Strip:
        """All there is room for on a terminal of a few lines."""
        palette, model = look.palette, self._model
        sums = model.shown_header
        if sums is None:
            return strip([("agenttop", palette("label")), (" -", palette("muted"))], width, palette("fg"))
        line: list[Part] = [
            (str(len(model.rows)), palette("bright", bold=True)),
            (" agents", palette("label")),
        ]
        if sums.halted:
            line += [(" ", palette("fg")), *self._halted(sums, look)[:1]]
        if model.needing_you and self.shell.marks:
            line += [
                (" ", palette("fg")),
                (f" {model.needing_you} ", palette("badge-fg", "state-needs-you", bold=True)),
            ]
        for state, mark in STATES:
            if count := model.counts.get(state, 0):
                line += [(f" {count}", palette("fg")), (mark, palette(f"state-{state}", bold=True))]
        for text, style in (
            (f"  ${sums.spend_hour:.2f}/h", palette("bright", bold=True)),
            (f"  {f.tokens(sums.rates[0])} tok/m", palette("fg")),
        ):
            if sum(f.width(part) for part, _ in line) + len(text) <= width:
                line.append((text, style))
        return strip(line, width, palette("fg"), look.glyphs.mark)
