"""From a spec to a ``Launch``: the folder, the full environment and the command of one run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..backend import MARKER, Launch, mark
from ..errors import AgentTopError
from ..paths import Paths
from ..workspaces.git import LOCAL
from . import beginnings, conversation_files, environ, templates
from .agent import Agent


@dataclass(frozen=True, slots=True)
class Door:
    """How agents reach their gateway."""

    port: int
    secret: Callable[[str], str]
    """Agent id → its secret."""
    passthrough: frozenset[str] = frozenset()
    """Providers whose clients bring their own credentials."""

    def url(self, agent: str) -> str:
        """The agent's own base URL; a provider's name follows."""
        return f"http://127.0.0.1:{self.port}/a/{self.secret(agent)}"


class Given(NamedTuple):
    """What the kernel has for a run that is about to begin."""

    memory: str = ""
    """Its working memory, as Markdown; empty for none."""
    mail: str | None = None
    """What it is told first, where it goes on with a conversation."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that can be handed to its backend, and what its program is told first."""

    launch: Launch
    told: bytes | None
    waits: bool = False
    """It is given nothing to do and waits for a person at its terminal."""


class Launcher:
    """Prepares runs. Blocking (folders, a small file): call it in a worker thread."""

    def __init__(self, paths: Paths, door: Door) -> None:
        self._paths = paths
        self._door = door
        self.given: dict[str, Given] = {}
        """By agent; taken when its run is prepared."""

    def prepare(self, agent: Agent, run: int) -> Prepared:
        """Everything the backend needs; creates the run's folder (0700)."""
        given = self.given.pop(agent.id, Given())
        launch = self.describe(agent, run, given.mail)
        try:
            launch.folder.mkdir(mode=0o700)
        except FileExistsError:  # of a start that a crash cut short
            pass
        except FileNotFoundError:  # an agent without a kept environment
            launch.folder.mkdir(mode=0o700, parents=True)
        templates.prepare(
            agent.spec,
            self._paths,
            url=self._door.url(agent.id),
            folder=self._paths.agent_dir(agent.id),
            cwd=os.path.realpath(launch.cwd),
            home=launch.env.get("HOME", ""),
        )
        if agent.spec.backend != "docker":
            self._remind(agent, given.memory)
        if agent.origin is not None and agent.spec.worktree and agent.spec.template and _forks(agent):
            template = templates.get(self._paths, agent.spec.template)
            folder = self._paths.agent_dir(agent.id)
            conversation_files.settle(template, agent.origin.session, folder, os.path.realpath(launch.cwd))
        return Prepared(launch, self.first_input(agent), self.waits(agent))

    def remind(self, agent: Agent, memory: str) -> None:
        """Put its memory as it is now where it was put when its last run began; elsewhere nothing is put.

        For what was forgotten: the copies in its folder are to lose it too. Blocking.

        Raises:
            OSError: The disk does not take it.
        """
        file = self.memory_of(agent)
        if agent.spec.backend != "docker" and file.exists():
            self._remind(agent, memory)

    def _remind(self, agent: Agent, memory: str) -> None:
        """Put its working memory where its program looks, and where everybody else may."""
        folder = self._paths.agent_dir(agent.id)
        beginnings.write(folder / beginnings.MEMORY, memory)
        try:
            file = templates.get(self._paths, agent.spec.template).memory if agent.spec.template else None
        except AgentTopError:  # its template is gone, or wrong by now
            file = None
        if file is not None:
            beginnings.insert(folder / file, memory)

    def memory_of(self, agent: Agent) -> Path:
        """The file with its working memory, as its last run began with it."""
        return self._paths.agent_dir(agent.id) / beginnings.MEMORY

    def prepare_all(self, owed: Sequence[tuple[Agent, int]]) -> list[Prepared | AgentTopError | OSError]:
        """The same for several runs; what went wrong stands in the place of those that failed."""
        prepared: list[Prepared | AgentTopError | OSError] = []
        for agent, run in owed:
            try:
                prepared.append(self.prepare(agent, run))
            except (AgentTopError, OSError) as error:
                prepared.append(error)
        return prepared

    def folder_of(self, agent: Agent) -> str:
        """Where its runs work."""
        return self.describe(agent, agent.run.number if agent.run else 1).cwd

    def describe(self, agent: Agent, run: int, mail: str | None = None) -> Launch:
        """The same without touching the disk beyond reading the environment.

        Args:
            mail: What it is told if it goes on with a conversation.
        """
        spec = agent.spec
        kept, declared = environ.load(self._paths.agent_dir(agent.id))
        base = {} if spec.backend == "docker" else kept or environ.bare()
        env = {**base, **self._gateway_env(agent, base), **self._template(agent), **declared}
        if spec.worktree:  # variables of a git hook it was started from would lead it back out of there
            env = {name: value for name, value in env.items() if name not in LOCAL}
        env[MARKER] = mark(agent.id, run, self._paths.state)
        return Launch(
            agent=agent.id,
            run=run,
            spec=spec,
            folder=self._paths.run_dir(agent.id, run),
            command=tuple(self._command(agent, run, mail)),
            cwd=agent.cwd or kept.get("PWD") or os.path.expanduser("~"),
            env=env,
        )

    def _command(self, agent: Agent, run: int, mail: str | None) -> Sequence[str]:
        if agent.run is not None and agent.run.number == run and agent.run.resume is not None:
            if _forks(agent):
                return templates.forked(agent.spec, self._paths, agent.run.resume) or agent.spec.command
            return templates.resumed(agent.spec, self._paths, agent.run.resume, mail) or agent.spec.command
        return agent.spec.command

    def _template(self, agent: Agent) -> Mapping[str, str]:
        folder = str(self._paths.agent_dir(agent.id))
        return templates.environment(
            agent.spec,
            self._paths,
            url=self._door.url(agent.id),
            folder=folder,
            passthrough=self._door.passthrough,
        )

    def waits(self, agent: Agent) -> bool:
        """Whether its present run begins with nothing to do, at a terminal."""
        resumed = agent.run is not None and agent.run.resume is not None and not _forks(agent)
        try:
            return templates.waits(agent.spec, self._paths, resumed=resumed)
        except AgentTopError:  # its template is gone, or wrong by now
            return False

    def first_input(self, agent: Agent) -> bytes | None:
        """What the program is told on its stdin, which is then closed; ``None`` for nothing."""
        return templates.first_input(agent.spec, self._paths)

    def _gateway_env(self, agent: Agent, base: Mapping[str, str]) -> dict[str, str]:
        url = self._door.url(agent.id)
        env = {
            "AGENTTOP_AGENT": agent.id,
            "AGENTTOP_URL": url,
            "ANTHROPIC_BASE_URL": f"{url}/anthropic",
            "OPENAI_BASE_URL": f"{url}/openai/v1",
            "OPENAI_API_BASE": f"{url}/openai/v1",
            "GOOGLE_GEMINI_BASE_URL": f"{url}/gemini",
        }
        if agent.spec.backend != "docker":
            env["AGENTTOP_MEMORY"] = str(self.memory_of(agent))
            if self._paths.config == self._paths.state.parent:
                env["AGENTTOP_HOME"] = str(self._paths.config)
        for provider, name in (
            ("anthropic", "ANTHROPIC_API_KEY"),
            ("openai", "OPENAI_API_KEY"),
            ("gemini", "GEMINI_API_KEY"),
        ):
            own = provider in self._door.passthrough or agent.spec.share_login
            if not own and name not in agent.spec.pass_keys:
                env[name] = templates.PLACEHOLDER_KEY
        proxies = [part for key in ("NO_PROXY", "no_proxy") if (part := base.get(key))]
        env["NO_PROXY"] = env["no_proxy"] = ",".join(dict.fromkeys([*proxies, "127.0.0.1", "localhost"]))
        return env


def _forks(agent: Agent) -> bool:
    """Whether it has yet to begin in the copy of another's conversation."""
    return agent.origin is not None and agent.provider is None
