"""Forgetting for good, over all tiers at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio.to_thread

from ..agents import giving
from ..api import memory as api
from ..errors import Forbidden, UsageError
from ..memory.model import Forgotten, MemoryUnavailable
from .caller import Caller
from .memory_names import Names, who

if TYPE_CHECKING:
    from ..kernel import Kernel


def _check_one(ask: api.ForgetRequest) -> None:
    """See that one thing is said: two would be both, and who gives two means what they have in common."""
    said = (ask.entries, ask.query, ask.block, ask.key or ask.namespace, ask.everything)
    if sum(map(bool, said)) == 1:
        return
    raise UsageError(
        "nothing was forgotten",
        "Several things were given" if any(said) else "It was not said what",
        "Give one of these: entries, words, a block, a note or namespace, everything",
    )


class ForgettingCalls:
    """``memory.forget``: what each selecting field means, and that the journal hears of it."""

    def __init__(self, kernel: Kernel, names: Names) -> None:
        self._kernel = kernel
        self._memory = kernel.memory
        self._names = names

    async def forget(self, caller: Caller, ask: api.ForgetRequest) -> api.ForgottenInfo:
        """Forget what the fields select; it returns when the bytes are gone.

        Raises:
            UsageError: Nothing is selected, or in two ways.
            Forbidden: It belongs to others.
        """
        _check_one(ask)
        # What is on its way into recall would be remembered afterwards.
        await self._kernel.recorder.catch_up()
        if ask.key or ask.namespace:
            gone = await self._notes(caller, ask)
        else:
            gone = await self._of_agents(caller, ask)
        return api.ForgottenInfo(blocks=gone.blocks, entries=gone.entries, notes=gone.notes, dry=ask.dry)

    async def _of_agents(self, caller: Caller, ask: api.ForgetRequest) -> Forgotten:
        asker, memory, dry = who(caller), self._memory, ask.dry
        if ask.entries or ask.query:
            agents = await self._names.agents(caller, ask.agent)
            if ask.entries:
                gone = await memory.forget_entries(asker, ids=ask.entries, agents=agents, dry=dry)
            else:
                gone = await memory.forget_words(asker, ask.query, agents, dry=dry)
        else:
            agent = await self._names.agent(caller, ask.agent)
            agents = [agent]
            if ask.block:
                gone = await memory.forget_block(asker, agent, ask.block, dry=dry)
            else:
                gone = await memory.forget_agent(asker, agent, dry=dry)
        if not dry:
            await self._remind(agents)
        return gone

    async def _remind(self, ids: Sequence[str] | None) -> None:
        """Rewrite the files that agents' runs began with (``None``: everybody's): they may still have it.

        Raises:
            MemoryUnavailable: One cannot be written.
        """
        known = self._kernel.books.committed.agents
        chosen = list(known.values()) if ids is None else [known[id] for id in ids if id in known]
        texts = await giving.texts(self._memory, [agent.id for agent in chosen])

        def write() -> None:
            for agent in chosen:
                self._kernel.launcher.remind(agent, texts.get(agent.id, ""))

        try:
            await anyio.to_thread.run_sync(write)
        except OSError as error:
            raise MemoryUnavailable(
                "what was forgotten is gone from the memory, but not from every file that runs began with",
                f"{error.filename}: {error.strerror}",
                "Make room or see whose it is; the agent's next start writes it anew",
            ) from error

    async def _notes(self, caller: Caller, ask: api.ForgetRequest) -> Forgotten:
        space = await self._names.namespace(caller, ask.namespace or "shared")
        if ask.key:
            return await self._memory.forget_note(who(caller), space, ask.key, dry=ask.dry)
        if caller.agent is not None and space != f"private/{caller.agent}":
            raise Forbidden(
                f"{caller.agent} may not forget all of {space}", "Others use it", "Name the note's key"
            )
        return await self._memory.forget_namespace(who(caller), space, dry=ask.dry)
