"""What a person does to agents from the screen: through the client, in workers, told in toasts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Literal

from agenttop.core.errors import AgentTopError, from_dict

from .format import clean

if TYPE_CHECKING:
    from agenttop.core.api import Outcome, Row
    from agenttop.core.client import KernelClient

    from .app import AgentTopApp

Call = Callable[["KernelClient"], Awaitable["list[Outcome]"]]

#: So many agents are named in a toast; more are counted.
NAMED = 3


class Verbs:
    """The acting keys. Each takes the rows it acts on and returns at once."""

    def __init__(self, app: AgentTopApp) -> None:
        self._app = app

    def pause(self, rows: Sequence[Row]) -> None:
        """Freeze the rows; if all of them are paused, resume them."""
        self._pause_or_resume(rows, "freeze")

    def hold(self, rows: Sequence[Row]) -> None:
        """Keep the rows' next model call; if all are paused, release them."""
        self._pause_or_resume(rows, "hold")

    def _pause_or_resume(self, rows: Sequence[Row], how: str) -> None:
        from agenttop.core.agents.states import Pause
        from agenttop.core.api import PauseRequest, Target

        refs = [row.id for row in rows]
        if all(row.pause for row in rows):
            self._do("resumed", rows, lambda client: client.resume(Target(refs=refs)))
            return
        free = [row.id for row in rows if not row.pause]
        request = PauseRequest(refs=free, how=Pause(how))
        self._do("frozen" if how == "freeze" else "held", rows, lambda client: client.pause(request))

    def nice(self, rows: Sequence[Row], delta: int) -> None:
        """Change nice by ``delta``."""
        from agenttop.core.api import NiceRequest

        request = NiceRequest(refs=[row.id for row in rows], delta=delta)
        self._do("reniced", rows, lambda client: client.nice(request))

    def set_nice(self, rows: Sequence[Row], nice: int) -> None:
        """Set nice."""
        from agenttop.core.api import NiceRequest

        request = NiceRequest(refs=[row.id for row in rows], nice=nice)
        self._do("reniced", rows, lambda client: client.nice(request))

    def resume(self, rows: Sequence[Row]) -> None:
        """Undo freeze and hold."""
        from agenttop.core.api import Target

        request = Target(refs=[row.id for row in rows])
        self._do("resumed", rows, lambda client: client.resume(request))

    def restart(self, rows: Sequence[Row]) -> None:
        """Stop what runs, then start a new run."""
        from agenttop.core.api import Target

        request = Target(refs=[row.id for row in rows])
        self._do("restarted", rows, lambda client: client.restart(request))

    def answer(self, rows: Sequence[Row], answer: Literal["once", "deny"]) -> None:
        """Let one held call of each through, or refuse the held calls."""
        from agenttop.core.api import AnswerRequest

        request = AnswerRequest(refs=[row.id for row in rows], answer=answer)
        done = "one call let through" if answer == "once" else "denied"
        self._do(done, rows, lambda client: client.answer(request))

    def send(self, row: Row, text: str) -> None:
        """Type a line for an agent: into its terminal, or into its stdin."""

        async def act(client: KernelClient) -> list[Outcome]:
            from agenttop.core.api import Outcome, PressRequest

            await client.write(row.id, text.encode() if row.attach else text.encode() + b"\n")
            if row.attach:
                await client.press(PressRequest(ref=row.id, keys=["Enter"]))
            return [Outcome(ref=row.id, id=row.id, name=row.name, done="was told")]

        self._do("was told", [row], act)

    def fork(self, row: Row, prompt: str) -> None:
        """Begin a new agent in the conversation of another."""

        async def act(client: KernelClient) -> list[Outcome]:
            from agenttop.core.api import Outcome

            from .screens.fork import asked

            info = await client.fork(asked(row, prompt))
            return [Outcome(ref=row.id, id=info.id, name=info.name, done=f"forked from {row.name}")]

        self._do("forked", [row], act)

    def _do(self, done: str, rows: Sequence[Row], call: Call) -> None:
        self._app.run_worker(self._perform(done, call), group="verbs", exit_on_error=True)

    async def _perform(self, done: str, call: Call) -> None:
        client = self._app.client
        if client is None:
            self._app.toast("No kernel answers", "nothing was done", "error")
            return
        try:
            outcomes = await call(client)
        except AgentTopError as error:
            self._app.toast(*sentences(error), "error")
            return
        self.report(done, outcomes)

    def report(self, done: str, outcomes: Sequence[Outcome]) -> None:
        """One toast for what was done, one for each error (the first few)."""
        good = [outcome for outcome in outcomes if outcome.error is None]
        bad = [outcome for outcome in outcomes if outcome.error is not None]
        if good:
            names = ", ".join(clean(outcome.name or outcome.ref) for outcome in good[:NAMED])
            title = names if len(good) <= NAMED else f"{len(good)} agents"
            said = sorted({clean(outcome.done) for outcome in good if outcome.done})
            self._app.toast(
                f"{title} {done}" if len(said) != 1 else title, said[0] if len(said) == 1 else names, "good"
            )
        for outcome in bad[:NAMED]:
            self._app.toast(*sentences(from_dict(outcome.error or {})), "error")
        if not outcomes:
            self._app.toast("Nothing to do", "no agent is in a state for this", "warn")


def sentences(error: AgentTopError) -> tuple[str, str]:
    """An error as a toast's two lines; together they are the command line's own text."""
    rest = AgentTopError("", error.why, error.hint)
    return clean(error.what), clean(str(rest))
