"""One line that says what of the table is not as it should be: stale rows, an ailing kernel."""

from __future__ import annotations

from textual.strip import Strip

from .. import format as f
from ..keys import shown
from ..lines import Lines, Part, strip

#: So many agents are named; more are counted.
NAMED = 4


class Notice(Lines):
    """Hidden while all is well."""

    @property
    def needed(self) -> bool:
        """Whether there is anything to say."""
        model = self.shell.model
        header = model.header
        return bool(model.stale or (header is not None and (header.problem or header.halted)))

    def build(self, width: int, height: int) -> list[Strip]:
        """The line: what ails the kernel goes first."""
        look, model = self.shell.look, self.shell.model
        palette = look.palette
        parts: list[Part] = [(" ", palette("fg"))]
        if model.header is not None and model.header.problem:
            parts += [(" KERNEL ", palette("badge-fg", "bad", bold=True)),
                      ("  " + f.clean(model.header.problem), palette("bad"))]  # fmt: skip
        elif model.header is not None and model.header.halted:
            parts += [(" HALTED ", palette("badge-fg", "bad", bold=True)),
                      ("  " + self._halted(), palette("bad"))]  # fmt: skip
        elif model.stale:
            parts += [(" STALE ", palette("badge-fg", "state-waiting", bold=True)),
                      ("  " + self._stale(), palette("state-waiting"))]  # fmt: skip
        return [strip(parts, width, palette("fg"), look.glyphs.mark)]

    def _halted(self) -> str:
        keys = self.shell.keys.by_id["agent.freeze_all"].keys
        undo = f"{shown(keys[0])} lets all go on." if keys else "agenttop unhalt lets all go on."
        if self.size.width < 100:
            return f"Every call is held, every agent frozen. {undo}"
        return f"The kill switch is on: every model call is held and every managed agent is frozen. {undo}"

    def _stale(self) -> str:
        model = self.shell.model
        rows = [model.rows[key] for key in model.stale]
        since = min(row.stale for row in rows if row.stale is not None)
        backends = ", ".join(sorted({f.clean(row.backend) for row in rows}))
        hosts = sorted({f.clean(row.host) for row in rows if row.host})
        if hosts:
            age = f.age(self.shell.clock.time() - since)
            what = "Its agents run on and are shown as last seen; tokens and $ are those of then."
            return f"{', '.join(hosts)} is away for {age}. {what}"
        names = ", ".join(sorted(f.clean(row.name) for row in rows)[:NAMED])
        if len(rows) > NAMED:
            names += f" and {len(rows) - NAMED} more"
        age = f.age(self.shell.clock.time() - since)
        what = f"State and processes of {names}: as last seen. Tokens, $: exact."
        return f"{backends} has not answered for {age}. {what}"
