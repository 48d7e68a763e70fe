"""``agenttop completion``: what a shell evaluates to complete our commands."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from . import printing


class Shell(StrEnum):
    """Shells that can be taught."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="Whose language to print.")]) -> None:
    """Print shell completion. For bash: eval "$(agenttop completion bash)"."""
    from typer._completion_shared import get_completion_script

    script = get_completion_script(prog_name="agenttop", complete_var="_AGENTTOP_COMPLETE", shell=shell.value)
    printing.line(script)
