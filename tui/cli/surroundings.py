"""What a command takes from where it is run: environment, folder, the agent around it."""

from __future__ import annotations

import os

from . import printing
from .kernel_call import chosen_hosts


def environment() -> dict[str, str]:
    """The caller's environment as it can travel; what is not UTF-8 is left out, and that is said."""
    if elsewhere():
        return {}
    good: dict[str, str] = {}
    for name, value in os.environ.items():
        try:
            (name + value).encode("utf-8")
        except UnicodeEncodeError:
            printing.note(
                f"the variable {name.encode('utf-8', 'replace').decode()} is not UTF-8 and was left out"
            )
        else:
            good[name] = value
    return good


def around() -> str | None:
    """The agent this command is run by, if one does."""
    return None if elsewhere() else os.environ.get("AGENTTOP_AGENT") or None


def elsewhere() -> bool:
    """Whether this command is about another machine: its folders and environment are not ours."""
    return any(host != "local" for host in chosen_hosts())
