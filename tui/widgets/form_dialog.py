"""``FormDialog``: a dialog whose body is a form. Nothing typed is lost while it is open."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget

from .dialog import Dialog, Result
from .fields import Form


class FormDialog(Dialog[Result]):
    """Base of the dialogs that ask for something to be typed or chosen.

    A subclass says in ``_lay_out()`` which fields there are now and what stands below them.

    Attributes:
        error: What was wrong with what was typed last; any change of a field takes it away.
        busy: Whether the kernel is being asked: until it answers, nothing can be asked again.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "field(1)", show=False, priority=True),
        Binding("shift+tab", "field(-1)", show=False, priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.error = ""
        self.busy = False

    def body(self) -> Iterable[Widget]:
        """The form."""
        yield Form(id="form")

    @property
    def form(self) -> Form:
        """The fields."""
        return self.query_one(Form)

    def body_height(self, width: int) -> int:
        """All fields and what stands below them."""
        return len(self.form.rows)

    def _lay_out(self) -> None:
        """Set the form's fields and the rows below them, and fit the box around them."""
        raise NotImplementedError

    @on(Form.Changed)
    def _changed(self) -> None:
        self.error = ""
        self._lay_out()

    @on(Form.LaidOut)
    def _laid_out(self) -> None:
        self.fit()

    def action_field(self, step: int) -> None:
        """The next field, or the one before."""
        self.form.go(step)
