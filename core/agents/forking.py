"""Forks: a new agent that begins in a copy of another's conversation. The other goes on unharmed.

Only copies are made of what lies in the other's folder, before the new agent is in the journal; they are
the new agent's own from then on. It is a child of the other, so that the other's budget covers both.
"""

from __future__ import annotations

from functools import partial

import anyio.to_thread

from ..api import ForkRequest, RunRequest
from ..errors import AgentTopError, BackendError, Conflict, UsageError
from ..journal import events as ev
from ..journal.books import Books
from ..paths import Paths
from . import conversation_files, environ, registry, templates
from .agent import Agent
from .conversations import Conversations
from .creation import Beginning, Creation
from .spec import AgentSpec
from .template import Template


class Forking:
    """The verb ``fork``."""

    def __init__(self, books: Books, creation: Creation, conversations: Conversations, paths: Paths) -> None:
        self._books = books
        self._creation = creation
        self._conversations = conversations
        self._paths = paths

    async def fork(self, request: ForkRequest, owner: str) -> Agent:
        """Begin a new agent in the conversation of another; durable and running on return.

        Raises:
            NoSuchAgent: There is no such agent.
            UsageError: Its client cannot fork, or is told nothing to do.
            Conflict: It has said nothing yet, or the name is taken.
            BackendError: Nothing is kept of its conversation, or the fork could not be started.
        """
        agent = registry.resolve(self._books.committed, request.ref)
        template = await anyio.to_thread.run_sync(self._template, agent)
        if template.needs_prompt and not request.prompt:
            raise UsageError(
                f"a fork of {agent.name} needs a prompt", "It works without a person", "Give it with --prompt"
            )
        session = self._conversations.of(agent)
        if session is None:
            raise Conflict(
                f"{agent.name} cannot be forked", "It has no conversation yet: no model call of it is known"
            )
        folder = self._paths.agent_dir(agent.id)
        kept, declared = await anyio.to_thread.run_sync(environ.load, folder)
        spec = _spec(agent, template, request, declared)

        async def bring(new: str) -> None:
            copy = partial(
                conversation_files.copy, template, session, folder, self._paths.agent_dir(new), agent.name
            )
            try:
                await anyio.to_thread.run_sync(copy)
            except OSError as error:
                raise BackendError(
                    f"{agent.name} was not forked", f"{error.filename}: {error.strerror}", "Is the disk full?"
                ) from error

        run = RunRequest(spec=spec, name_given=request.name is not None, environ=kept)
        beginning = Beginning(ev.Origin(agent.id, session), bring)
        return await self._creation.run(run, owner, beginning)

    def _template(self, agent: Agent) -> Template:
        """Its template in the form that runs on its backend, if that can fork."""
        spec = agent.spec
        what = f"{agent.name} cannot be forked"
        if spec.template is None:
            raise UsageError(what, "It runs a command of its own, whose conversation is not known")
        try:
            template = templates.get(self._paths, spec.template).on(spec.backend)
        except AgentTopError as error:
            raise UsageError(what, str(error)) from error
        if not template.fork_arguments:
            raise UsageError(what, f"{template.title} cannot begin in a copy of a conversation")
        if spec.backend == "docker":
            raise UsageError(what, "Its conversation is inside its container")
        if spec.worktree and template.bound_to_folder:
            why = f"{template.title} finds a conversation only in the folder it was begun in"
            raise UsageError(what, f"{why}, and a fork has a worktree of its own")
        return template


def _spec(agent: Agent, template: Template, request: ForkRequest, declared: dict[str, str]) -> AgentSpec:
    """The new agent's spec: the other's, told something else."""
    spec = agent.spec
    return AgentSpec.model_validate(
        {
            **spec.model_dump(),
            "name": request.name or spec.name,
            "prompt": request.prompt,
            "command": [*template.untold(spec), *template.told(request.prompt)],
            "env": declared,
            "blocks": {},
            "parent": agent.id,
            "budget": None,
            "nice": agent.nice,
            "branch": None,
            # What the other has in no commit stays with it.
            "base": f"refs/heads/{agent.worktree.branch}" if spec.worktree and agent.worktree else spec.base,
        }
    )
