"""The heading above the agents of one host, where several kernels are shown in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.strip import Strip

from . import format as f
from .lines import Part, strip

if TYPE_CHECKING:
    from agenttop.core.api import HostGauge

    from .look import Look
    from .model import FleetModel


def host_line(host: str, model: FleetModel, look: Look, width: int, now: float) -> Strip:
    """``─ box ── 3 agents ───``, or since when it is away, why, and when it is called again."""
    palette, rule = look.palette, look.glyphs.rule
    header = model.shown_header
    gauge = next((one for one in header.hosts if one.name == host), None) if header is not None else None
    lost = gauge is not None and gauge.away is not None
    name: Part = (f" {f.clean(host)} ", palette("num-stale" if lost else "bright", bold=True, italic=lost))
    line = palette("rule")
    parts: list[Part] = [(rule, line), name, (rule, line)]
    count = model.hosts.get(host, 0)
    if lost and gauge is not None:
        parts += [(f" {_away(gauge, now)} ", palette("state-waiting")), (rule, line)]
        parts.append((f" {look.plain(f.clean(gauge.why))} ", palette("num-stale", italic=True)))
    else:
        parts.append((f" {count} agent{'s' * (count != 1)} ", palette("muted")))
    used = sum(f.width(text) for text, _ in parts)
    return strip([*parts, (rule * max(0, width - used), line)], width, line, look.glyphs.mark)


def _away(gauge: HostGauge, now: float) -> str:
    assert gauge.away is not None
    text = f"away {f.age(now - gauge.away)}"
    if gauge.next_try is None:
        return f"{text}, not called again"
    return f"{text}, called again in {max(0, round(gauge.next_try - now))}s"
