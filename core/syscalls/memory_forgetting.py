"""Forgetting for good, over all tiers at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..api import memory as api
from ..errors import Forbidden, UsageError
from ..memory.model import Forgotten
from .caller import Caller
from .memory_names import Names, who

if TYPE_CHECKING:
    from ..kernel import Kernel


class ForgettingCalls:
    """``memory.forget``: what each selecting field means, and that the journal hears of it."""

    def __init__(self, kernel: Kernel, names: Names) -> None:
        self._memory = kernel.memory
        self._names = names

    async def forget(self, caller: Caller, ask: api.ForgetRequest) -> api.ForgottenInfo:
        """Forget what the fields select; it returns when the bytes are gone.

        Raises:
            UsageError: Nothing is selected.
            Forbidden: It belongs to others.
        """
        if not (ask.entries or ask.query or ask.block or ask.key or ask.namespace or ask.everything):
            raise UsageError(
                "nothing was forgotten",
                "It was not said what",
                "Give entries, words, a block, a note or everything",
            )
        asker, gone = who(caller), Forgotten()
        memory, dry = self._memory, ask.dry
        if ask.entries:
            agents = await self._names.agents(caller, ask.agent)
            gone = gone.plus(await memory.forget_entries(asker, ids=ask.entries, agents=agents, dry=dry))
        if ask.query:
            agents = await self._names.agents(caller, ask.agent)
            gone = gone.plus(await memory.forget_words(asker, ask.query, agents, dry=dry))
        if ask.block:
            agent = await self._names.agent(caller, ask.agent)
            gone = gone.plus(await memory.forget_block(asker, agent, ask.block, dry=dry))
        if ask.key or ask.namespace:
            gone = gone.plus(await self._notes(caller, ask))
        if ask.everything:
            agent = await self._names.agent(caller, ask.agent)
            gone = gone.plus(await memory.forget_agent(asker, agent, dry=dry))
        return api.ForgottenInfo(blocks=gone.blocks, entries=gone.entries, notes=gone.notes, dry=dry)

    async def _notes(self, caller: Caller, ask: api.ForgetRequest) -> Forgotten:
        space = await self._names.namespace(caller, ask.namespace or "shared")
        if ask.key:
            return await self._memory.forget_note(who(caller), space, ask.key, dry=ask.dry)
        if caller.agent is not None and space != f"private/{caller.agent}":
            raise Forbidden(
                f"{caller.agent} may not forget all of {space}", "Others use it", "Name the note's key"
            )
        return await self._memory.forget_namespace(who(caller), space, dry=ask.dry)
