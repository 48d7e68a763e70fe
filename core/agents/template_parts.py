"""What a template consists of: its forms, its permissions, its conditions, its MCP attachment."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..tomlfile import merged_over
from .spec import AgentSpec, MailMode, Permission

_PLACEHOLDER = re.compile(r"\{([a-z]+)\}")

IN_COMMAND = frozenset({"program", "prompt", "model", "session"})
IN_ENV = frozenset({"url", "key", "folder", "model"})
IN_FILES = IN_ENV | {"cwd"}
_OF_MCP = frozenset({"mcp"})


class Part(BaseModel):
    """A table of a template file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class When(Part):
    """Variables that are set only if all the conditions that are given hold."""

    root: bool | None = None
    """Whether the program runs as root."""
    argument: str | None = None
    """An argument that is in the command."""
    env: dict[str, str]

    def holds(self, spec: AgentSpec) -> bool:
        """Whether it applies to this agent."""
        if self.root is not None and self.root != _as_root(spec):
            return False
        return self.argument is None or self.argument in spec.command


def _as_root(spec: AgentSpec) -> bool:
    if spec.backend == "docker":
        return spec.user is not None and spec.user.split(":")[0] in ("0", "root")
    return os.geteuid() == 0


class Permissions(Part):
    """What the program may do without asking, by the arguments that say so; ``None``: it cannot do that.

    ``ask``: whatever its own rules make it ask for is asked; where nobody can answer, it is refused.
    ``auto``: it asks nobody. What a sandbox of its own forbids stays forbidden in both.
    """

    ask: list[str] | None = None
    auto: list[str] | None = None
    unless: list[str] = Field(default_factory=list)
    """Options that say it already: a person who gives one has decided."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        for arguments in (self.ask or [], self.auto or []):
            check_arguments(arguments)
        if self.ask is None and self.auto is None:
            raise ValueError("give the arguments of ask, of auto, or of both")
        return self

    def arguments(self, permission: Permission) -> list[str] | None:
        """Those of one kind."""
        return self.ask if permission == "ask" else self.auto

    def also(self, other: Permissions | None) -> Permissions:
        """The same; where it names no options that say it already, those of the other form."""
        return self if self.unless or other is None else self.model_copy(update={"unless": other.unless})

    def decided(self, arguments: Iterable[str]) -> bool:
        """Whether one of the person's own arguments says it."""
        return any(argument.split("=")[0] in self.unless for argument in arguments)


class Interactive(Part):
    """The form for a terminal with a person in front of it; what is not said is as in the headless one."""

    command: list[str]
    """Without prompt and model; the program waits for a person when it is given no prompt."""
    model_arguments: list[str] | None = None
    prompt_arguments: list[str] | None = None
    resume_arguments: list[str] | None = None
    fork_arguments: list[str] | None = None
    permissions: Permissions | None = None
    env: dict[str, str] = Field(default_factory=dict)
    """Besides the template's own."""
    mail: MailMode = "turn"
    """How mail comes to it, where the spec does not say."""

    @model_validator(mode="after")
    def _no_secret_in_arguments(self) -> Self:
        going_on = (self.resume_arguments, self.fork_arguments)
        for arguments in (self.command, self.model_arguments, self.prompt_arguments, *going_on):
            check_arguments(arguments or [])
        check_environment(self.env)
        return self


class Mcp(Part):
    """How an MCP server is attached at launch; ``{mcp}`` is its URL, a secret of the agent's.

    A variable or a file the template has already is joined with it, see ``joined``.
    """

    arguments: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> Self:
        check_arguments(self.arguments)
        for value in self.env.values():
            check_placeholders(value, IN_ENV | _OF_MCP, "the environment")
        check_files(self.files, IN_FILES | _OF_MCP)
        return self


def check_arguments(arguments: Iterable[str]) -> None:
    """Raise ValueError for what cannot stand in a command: it is there for all to see."""
    for argument in arguments:
        check_placeholders(argument, IN_COMMAND, "a command")


def check_environment(env: Mapping[str, str]) -> None:
    """Raise ValueError for a placeholder the environment does not have."""
    for value in env.values():
        check_placeholders(value, IN_ENV, "the environment")


def check_files(files: Mapping[str, str], known: frozenset[str] = IN_FILES) -> None:
    """Raise ValueError for a file outside the agent's folder, or an unknown placeholder in one."""
    for path, text in files.items():
        check_path(path)
        check_placeholders(text, known, "a file")


def check_path(path: str) -> None:
    """Raise ValueError for what is not a path inside the agent's folder."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise ValueError(f"{path} is not a path inside the agent's folder")


def check_placeholders(text: str, known: frozenset[str], where: str) -> None:
    """Raise ValueError for a placeholder that is not ``known``."""
    for name in _PLACEHOLDER.findall(text):
        if name not in known:
            choice = ", ".join(f"{{{one}}}" for one in sorted(known))
            raise ValueError(f"{{{name}}} cannot stand in {where}; {choice} can")


def filled(text: str, values: Mapping[str, str | None]) -> str | None:
    """``text`` with its placeholders replaced, once: a value's own braces stay as they are."""
    if any(values.get(name) is None for name in _PLACEHOLDER.findall(text)):
        return None
    return _PLACEHOLDER.sub(lambda match: values[match[1]] or "", text)


def joined(texts: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """``texts`` and ``more``: under one name JSON objects become one, other texts follow each other."""
    found = dict(texts)
    for name, text in more.items():
        old = found.get(name)
        if old is None:
            found[name] = text
        elif (table := _table(old)) is not None and (added := _table(text)) is not None:
            found[name] = json.dumps(merged_over(table, added), indent=2)
        else:
            found[name] = f"{old.rstrip()}\n\n{text.lstrip()}"
    return found


def _table(text: str) -> dict[str, Any] | None:
    try:
        table = json.loads(text)
    except ValueError:
        return None
    return table if isinstance(table, dict) else None
