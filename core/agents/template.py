"""``Template``: a named, reusable partial spec, described by a TOML file."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from .spec import AgentSpec, MailMode, Name, Permission
from .template_parts import (
    Interactive,
    Mcp,
    Part,
    Permissions,
    When,
    check_arguments,
    check_environment,
    check_files,
    check_path,
    check_placeholders,
    filled,
    joined,
)

#: What a template's ``[spec]`` cannot say: the rest of the template does, or the person.
_NOT_IN_SPEC = ("name", "template", "command", "prompt", "model")


class Template(Part):
    """How to start one kind of agent.

    Placeholders are ``{program} {prompt} {model} {session}`` in the command and
    ``{url} {key} {folder} {model}`` in the environment. The base URL carries the agent's secret and
    arguments are there for all to see, so that ``{url}`` and ``{key}`` are refused in a command.
    """

    name: Name
    title: str
    programs: list[str] = Field(default_factory=list)
    """Programs that will do, the best first; none for a template that brings no program."""
    get: str = ""
    """How to get the program: a sentence."""
    provider: Name | None = None
    protocol: Literal["anthropic", "openai", "gemini"] | None = None
    backends: list[Name] = Field(default_factory=list)
    """Where it can run; empty for anywhere."""
    prompt: Literal["argument", "stdin", "none"] = "none"
    """How the prompt reaches the program; ``none``: it is only shown as the agent's task."""
    needs_prompt: bool = False
    model: str | None = None
    """The model where the spec names none; ``None`` leaves the choice to the program."""
    command: list[str] = Field(default_factory=list)
    """The headless form, without prompt and model."""
    model_arguments: list[str] = Field(default_factory=list)
    prompt_arguments: list[str] = Field(default_factory=list)
    resume_arguments: list[str] = Field(default_factory=list)
    """What makes the program go on with ``{session}``; empty where it cannot."""
    resume_prompt: str | None = "Go on where you were stopped."
    """What it is told then; ``None``: nothing, it waits for a person."""
    fork_arguments: list[str] = Field(default_factory=list)
    """What makes the program begin in a copy of ``{session}``; empty where it cannot."""
    conversation: dict[str, str] = Field(default_factory=dict)
    """Where conversations lie: pattern in the agent's folder (``{session}``; ``**`` for any depth) → where
    the program looks for those of its working folder (``{project}``); empty where that does not matter."""
    bound_to_folder: bool = False
    """Whether it finds a conversation only in the working folder that was begun in."""
    interactive: Interactive | None = None
    """In a terminal; ``None``: it runs in none."""
    node: int | None = None
    """The oldest Node.js it runs on, if it needs one."""
    home: bool = False
    """Whether it needs a home folder of the person's that it can write."""
    not_below: list[str] = Field(default_factory=list)
    """Folders in which the agent's own must not lie, or the program does not work."""
    env: dict[str, str] = Field(default_factory=dict)
    own: dict[str, str] = Field(default_factory=dict)
    """Variables that give it a configuration folder of its own; each path in them is made."""
    files: dict[str, str] = Field(default_factory=dict)
    """What is in the agent's folder before its first run: path there → text, with placeholders."""
    login: dict[str, str] = Field(default_factory=dict)
    """With ``share_login``: path in the agent's folder → the person's own file it is a link to."""
    when: list[When] = Field(default_factory=list)
    permissions: Permissions | None = None
    """What it may do unasked; ``None``: nothing is known of that."""
    mcp: Mcp | None = None
    """How an MCP server is attached; ``None``: it cannot be."""
    mail: MailMode = "read"
    """How mail comes to it, where the spec does not say; ``turn`` for a program that cannot read it."""
    memory: str | None = None
    """The file in the agent's folder that the program takes its instructions from at its start, whatever the
    folder it works in: its working memory is written there. ``None``: it has no such file."""
    spec: dict[str, Any] = Field(default_factory=dict)
    """Other fields of the spec: labels, limits, restart, …"""

    @field_validator("command", "model_arguments", "prompt_arguments", "resume_arguments", "fork_arguments")
    @classmethod
    def _no_secret_in_arguments(cls, arguments: list[str]) -> list[str]:
        check_arguments(arguments)
        return arguments

    @field_validator("files")
    @classmethod
    def _files_are_its_own(cls, files: dict[str, str]) -> dict[str, str]:
        check_files(files)
        return files

    @field_validator("memory")
    @classmethod
    def _memory_is_its_own(cls, path: str | None) -> str | None:
        if path is not None:
            check_path(path)
        return path

    @field_validator("login")
    @classmethod
    def _links_are_its_own(cls, login: dict[str, str]) -> dict[str, str]:
        for path, source in login.items():
            check_path(path)
            if not source.startswith(("~/", "/")):
                raise ValueError(f"{source} is neither an absolute path nor one that begins with ~/")
        return login

    @field_validator("conversation")
    @classmethod
    def _conversations_are_its_own(cls, places: dict[str, str]) -> dict[str, str]:
        for pattern, place in places.items():
            check_path(pattern)
            check_placeholders(pattern, frozenset({"session"}), "a pattern")
            if place:
                check_path(place)
                check_placeholders(place, frozenset({"project"}), "a folder")
        return places

    @field_validator("env", "own")
    @classmethod
    def _known_placeholders(cls, env: dict[str, str]) -> dict[str, str]:
        check_environment(env)
        return env

    @model_validator(mode="after")
    def _whole(self) -> Template:
        for key in _NOT_IN_SPEC:
            if key in self.spec:
                raise ValueError(f"[spec] cannot have {key}")
        AgentSpec.model_validate({**self.spec, "name": self.name})
        if self.prompt == "argument" and not self.prompted:
            raise ValueError("prompt = 'argument' needs {prompt} in prompt_arguments or command")
        return self

    def on(self, backend: str) -> Template:
        """The form that runs on a backend: the interactive one in a terminal."""
        form = self.interactive
        if backend != "terminal" or form is None:
            return self
        said = {
            name: value
            for name in ("model_arguments", "prompt_arguments", "resume_arguments", "fork_arguments")
            if (value := getattr(form, name)) is not None
        }
        if form.permissions is not None:
            said["permissions"] = form.permissions.also(self.permissions)
        env = {**self.env, **form.env}
        update = {"command": form.command, "needs_prompt": False, "resume_prompt": None, "env": env}
        update["mail"] = form.mail
        return self.model_copy(update=update | said)

    def attached(self) -> Template:
        """The same with an MCP server attached, whose URL is then to be among the values (``mcp``)."""
        if self.mcp is None:
            return self
        update = {
            "command": [*self.command, *self.mcp.arguments],
            "env": joined(self.env, self.mcp.env),
            "files": joined(self.files, self.mcp.files),
        }
        return self.model_copy(update=update)

    def permission(self, spec: AgentSpec) -> Permission | None:
        """What this agent may do unasked; ``None`` where its own arguments say it, or nobody knows.

        A person at a terminal is asked. A headless agent has nobody to ask, and must not wait.

        Raises:
            ValueError: The template cannot do what the spec wants.
        """
        wanted: Permission = spec.permissions or ("ask" if spec.backend == "terminal" else "auto")
        if self.permissions is None or self.permissions.arguments(wanted) is None:
            if spec.permissions is not None:
                raise ValueError(
                    f"the template {self.name} has no permissions = {wanted!r} on {spec.backend}"
                )
            return None
        return None if self.permissions.decided(spec.command) else wanted

    @property
    def prompted(self) -> bool:
        """Whether a prompt gets into its command."""
        return any("{prompt}" in part for part in self._arguments())

    def _arguments(self) -> list[str]:
        return [*self.command, *self.prompt_arguments]

    def arguments(
        self,
        program: str,
        prompt: str | None,
        model: str | None,
        more: list[str],
        permission: Permission | None = None,
    ) -> list[str]:
        """The whole command; ``more`` are arguments of the person's own, put before the prompt."""
        values = {"program": program, "prompt": prompt, "model": model}
        parts = [*self.command, *(self.model_arguments if model else ())]
        if self.permissions is not None and permission is not None:
            parts += self.permissions.arguments(permission) or ()
        parts = [filled(part, values) or "" for part in parts] + more
        if self.prompt == "argument" and prompt is not None:
            parts += [filled(part, values) or "" for part in self.prompt_arguments]
        return parts

    def resumed(self, spec: AgentSpec, session: str, prompt: str | None = None) -> list[str] | None:
        """The command that goes on with a conversation; ``None`` where the program cannot.

        It is the agent's own command, with another prompt: what the person added to it stays.

        Args:
            prompt: What it is told instead of ``resume_prompt``.
        """
        if not self.resume_arguments or self.prompt != "argument":
            return None
        prompt = self.resume_prompt if prompt is None else prompt
        values = {"session": session, "prompt": prompt}
        told = self.prompt_arguments if prompt is not None else []
        return self.untold(spec) + [filled(part, values) or "" for part in [*self.resume_arguments, *told]]

    def forked(self, spec: AgentSpec, session: str) -> list[str] | None:
        """The command that begins in a copy of a conversation, with the agent's own prompt if it has one."""
        if not self.fork_arguments or self.prompt != "argument":
            return None
        begun = [filled(part, {"session": session}) or "" for part in self.fork_arguments]
        return self.untold(spec) + begun + self.told(spec.prompt)

    def told(self, prompt: str | None) -> list[str]:
        """The arguments that tell the program its prompt."""
        if prompt is None or self.prompt != "argument":
            return []
        return [filled(part, {"prompt": prompt}) or "" for part in self.prompt_arguments]

    def untold(self, spec: AgentSpec) -> list[str]:
        """The agent's command without its prompt."""
        told = self.told(spec.prompt)
        ends = bool(told) and spec.command[-len(told) :] == told
        return list(spec.command[: -len(told)] if ends else spec.command)

    def goes_on_with(self, session: str | None, *, begun: bool) -> str | None:
        """What ``resumed`` is to be given; ``None`` where there is no conversation to go on with.

        Args:
            session: The client's own id of it, where its calls tell one.
            begun: Whether it has made a call.
        """
        if not self.resume_arguments or not begun:
            return None
        if any("{session}" in part for part in self.resume_arguments):
            return session
        return session or ""

    def waits(self, prompt: str | None, *, resumed: bool) -> bool:
        """Whether its interactive form waits for a person from the start on."""
        if self.interactive is None:
            return False
        if resumed:
            return self.resume_prompt is None
        return prompt is None or self.prompt != "argument" or not self.prompt_arguments

    def environment(self, spec: AgentSpec, values: Mapping[str, str | None]) -> dict[str, str]:
        """The variables for one agent. One whose placeholder has no value is left out."""
        wanted = {**self.env, **self.own}
        for when in self.when:
            if when.holds(spec):
                wanted |= when.env
        return {name: text for name, value in wanted.items() if (text := filled(value, values)) is not None}


class Found(NamedTuple):
    """Where a template's program is. ``path`` is ``None`` where there is none of it."""

    program: str
    path: str | None
    hint: str = ""

    @property
    def ready(self) -> bool:
        """Whether the template could start here."""
        return not self.program or self.path is not None


def find(template: Template, search: str | None = None) -> Found:
    """Look for the template's program in ``search`` (a ``PATH``; default: this process's own)."""
    for program in template.programs:
        path = shutil.which(program, path=search)
        if path is not None:
            return Found(program, path)
    return Found(template.programs[0] if template.programs else "", None, template.get)
