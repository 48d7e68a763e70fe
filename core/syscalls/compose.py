"""Puts the table of system calls together: each room adds its handlers here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import mail, memory, selves
from .table import Syscalls

if TYPE_CHECKING:
    from ..kernel import Kernel


def table(kernel: Kernel) -> Syscalls:
    """All verbs of this kernel."""
    found = Syscalls()
    mail.add(found, kernel)
    selves.add(found, kernel)
    memory.add(found, kernel)
    return found
