"""A message from a person: to an agent, a topic or everybody; sent, or asked and the reply waited for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError
from textual.binding import Binding, BindingType
from textual.worker import Worker

from agenttop.core.api import bus
from agenttop.core.errors import AgentTopError, UsageError

from ..format import clean
from ..widgets.dialog import Chip
from ..widgets.fields import Choose, Field, Option, Text
from ..widgets.form_dialog import FormDialog
from ..widgets.paper import Row, rule, wrapped
from .message import payload_rows

if TYPE_CHECKING:
    from agenttop.core.api.verbs import Request

SEND, ASK = "send", "ask"
TEXT, JSON = "text", "JSON"


def request(values: Mapping[str, str], host: str, cause: str | None = None) -> Request:
    """What the form asks for: a ``SendRequest``, ``AskRequest`` or, to ``#topic``, a ``PublishRequest``.

    Raises:
        UsageError: A value cannot be; the message names the field.
    """
    to = values["to"].strip()
    if not to:
        raise UsageError("To is empty", "", "An agent's name, @person, #topic, or * for everybody")
    fields: dict[str, Any] = {
        "payload": _payload(values["payload"], values["format"]), "host": host, "cause": cause,
        "type": values["type"].strip() or ("json" if values["format"] == JSON else "text"),
        "priority": values["priority"],
    }  # fmt: skip
    asks = values["how"] == ASK
    if asks and (to[:1] == "#" or to == "*"):
        raise UsageError("Many cannot be asked", "A request has one receiver", "Choose send")
    try:
        if to[:1] == "#":
            return bus.PublishRequest(topic=to[1:], **fields)
        if asks:
            return bus.AskRequest(to=to, timeout=_seconds(values["timeout"]), **fields)
        return bus.SendRequest(to=to, **fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = str(first["loc"][0]) if first["loc"] else "message"
        said = str(first["msg"]).removeprefix("Value error, ")
        raise UsageError(f"{where.capitalize()} cannot be used", said) from error


def _payload(text: str, how: str) -> Any:
    if not text.strip():
        raise UsageError("Nothing to send", "The text is empty")
    if how != JSON:
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError("This is no JSON", str(error), 'As {"path": "orders.py"}; or choose text') from error


def _seconds(text: str) -> float:
    try:
        return float(text.strip() or "60")
    except ValueError as error:
        raise UsageError("Wait cannot be used", f"{clean(text)} is not a number of seconds", "60") from error


class SendScreen(FormDialog[str]):
    """The form. Closes with the message's id; of a question with the reply's, after it was read."""

    WIDTH = 92
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "send", show=False, priority=True)]

    def __init__(self, to: str = "", *, host: str = "", cause: str | None = None) -> None:
        super().__init__()
        self.host, self.cause = host, cause
        self.reply: bus.MessageInfo | None = None
        self._asking: Worker[None] | None = None
        self.inputs: dict[str, Field] = {
            "to": Text("to", "To", clean(to), cells=28, note="agent, @person, #topic, * everybody"),
            "payload": Text("payload", "Text", cells=66, tall=4),
            "format": Choose("format", "As", [Option(TEXT), Option(JSON)], TEXT, chips=True),
            "type": Text("type", "Type", cells=20, note="empty: text or json"),
            "priority": Choose("priority", "Priority", [Option(str(n)) for n in range(10)], "4", chips=True,
                               note="9 goes first"),
            "how": Choose("how", "Then", [Option(SEND, "send"), Option(ASK, "ask, wait")], SEND, chips=True),
            "timeout": Text("timeout", "Wait", "60", cells=8, note="seconds for the reply"),
        }  # fmt: skip

    @property
    def values(self) -> dict[str, str]:
        """What was typed and chosen."""
        return {name: field.value for name, field in self.inputs.items()}

    def on_mount(self) -> None:
        """Show the form."""
        self._lay_out()
        if self.inputs["to"].value:
            self.form.go(1)
        self.form.focus()

    # --- what is shown ------------------------------------------------------------------------

    def _lay_out(self) -> None:
        self.inputs["timeout"].off = self.values["how"] != ASK
        roomy = self.size.height >= 28
        names = ["to", "payload", "", "format", "type", "priority", "", "how", "timeout"]
        fields = [self.inputs[name] if name else None for name in names if name or roomy]
        self.form.set(fields, self._tail())
        self.head("New message", f"on {clean(self.host)}, as you" if self.host else "as you: a person")
        self.fit()

    def _tail(self) -> list[Row]:
        width = self.inner_width
        if self.error:
            return [[], *wrapped(self.error, width - 2, "bad bold", 1)]
        if self.reply is not None:
            head = rule(f"Reply from {clean(self.reply.sender_name)}", width, clean(self.reply.type))
            return [[], head, *payload_rows(self.reply.payload, width)]
        if self.busy:
            said = "Waiting for the reply; Esc stops waiting" if self._asking is not None else "Sending it"
            return [[], [(f" {said}", "warn bold")]]
        return [
            [],
            [(" It is durable when it is sent; the receiver is told that a person wrote it.", "muted")],
        ]

    def chips(self) -> Sequence[Chip]:
        """Send it, or not."""
        if self.reply is not None:
            return (Chip("Enter", "Close", "good bold"), Chip("Esc", "Close"))
        verb = "Ask" if self.values["how"] == ASK else "Send"
        esc = "Stop waiting" if self.busy and self._asking is not None else "Cancel"
        return (
            Chip("Enter", verb, "good bold", off=self.busy), Chip("Tab", "Next field"),
            Chip("paste", "Several lines"), Chip("Esc", esc),
        )  # fmt: skip

    # --- keys ---------------------------------------------------------------------------------

    def action_send(self) -> None:
        """Send it; what is wrong is said here, and nothing typed is lost."""
        if self.reply is not None:
            self.dismiss(self.reply.id)
            return
        if self.busy:
            return
        try:
            wanted = request(self.values, self.host, self.cause)
        except AgentTopError as error:
            self._refused(error)
            return
        self.busy, self.error = True, ""
        if isinstance(wanted, bus.AskRequest):
            self._asking = self.run_worker(self._ask(wanted))
        else:
            self.run_worker(self._send(wanted))
        self._lay_out()

    async def _send(self, wanted: Request) -> None:
        try:
            if isinstance(wanted, bus.PublishRequest):
                sent = await self.client.call(bus.PUBLISH, wanted)
            else:
                assert isinstance(wanted, bus.SendRequest)
                sent = await self.client.call(bus.SEND, wanted)
        except AgentTopError as error:
            self._refused(error)
            return
        if not self.is_mounted:
            return
        said = f"to {clean(self.values['to'].strip())}"
        if sent.receivers != 1:
            said += f", {sent.receivers} receivers"
        if sent.full:
            said += f"; {sent.full} had no room: dead letters there"
        self.shell.toast(f"{clean(sent.id)} was sent", said, "warn" if sent.full else "good")
        self.dismiss(sent.id)

    async def _ask(self, wanted: bus.AskRequest) -> None:
        try:
            self.reply = await self.client.call(bus.ASK, wanted)
        except AgentTopError as error:
            self._refused(error)
            return
        finally:
            self._asking = None
        self.busy = False
        self._shown()

    def _refused(self, error: AgentTopError) -> None:
        self.busy, self.error, self._asking = False, str(error), None
        self._shown()

    def _shown(self) -> None:
        if self.query("#form"):  # else it was closed meanwhile
            self._lay_out()
            self.form.action_scroll_to_row(len(self.form.rows))

    def action_close(self) -> None:
        """Stop waiting for a reply; then close."""
        if self._asking is not None:
            self._asking.cancel()
            self._asking, self.busy = None, False
            self.error = "You stopped waiting: the request is closed, a reply to it is refused."
            self._shown()
        else:
            self.dismiss(self.reply.id if self.reply is not None else None)
