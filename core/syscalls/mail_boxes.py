"""Handlers of the verbs by which people look at mailboxes: what waits, what is dead, who waits for whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..api import bus as api
from ..api.agents import Outcome
from ..bus.errors import NoSuchMailbox
from ..bus.mailbox import Mailbox
from ..bus.message import seq_of
from ..bus.writer import Batch
from ..errors import AgentTopError
from . import letters
from .caller import Caller
from .table import Syscalls

if TYPE_CHECKING:
    from ..mail.mailroom import Mailroom


class BoxCalls:
    """Mailboxes as people see them. Nothing in here takes anything out of one, but for dead letters."""

    def __init__(self, mailroom: Mailroom) -> None:
        self._room = mailroom
        self._bus = mailroom.bus
        self._directory = mailroom.directory

    def add_to(self, table: Syscalls) -> None:
        """Put the handlers into the table."""
        table.add(api.MAIL, self.mail)
        table.add(api.MAILBOXES, self.mailboxes)
        table.add(api.DEAD, self.dead)
        table.add(api.REVIVE, self.revive)
        table.add(api.DROP, self.drop)
        table.add(api.WAITS, self.waits)

    def _box(self, address: str) -> Mailbox:
        """The mailbox that is meant: open or closed, of an agent that is gone too, by its id.

        Raises:
            NoSuchMailbox: There never was one. NoSuchAgent: nobody is called so.
        """
        books = self._bus.pipeline.books
        box = books.box_of(address) or books.box_of(self._directory.mailbox(address))
        if box is None:
            raise NoSuchMailbox(
                f"{address[:80]} has no mailbox", "It ended before it had one", "See who has with mailboxes"
            )
        return box

    async def mail(self, caller: Caller, request: api.MailRequest) -> list[api.MessageInfo]:
        """What waits, in the order it arrived."""
        if not request.agent:
            await self._room.mailboxes.own(caller.mailbox)
        box = self._box(request.agent or caller.mailbox)
        chosen = list(box.letters.values())[: request.limit]
        messages = self._bus.pipeline.books.messages
        whole = await self._bus.mail.whole([messages[letter.seq] for letter in chosen])
        return [
            letters.info(message, self._directory, letter.attempts)
            for message, letter in zip(whole, chosen, strict=True)
        ]

    async def mailboxes(self, caller: Caller, request: api.NoRequest) -> list[api.MailboxInfo]:
        """The open ones, and closed ones with dead letters."""
        books = self._bus.pipeline.books
        boxes = [*books.names.values(), *(box for box in books.closed.values() if box.dead)]
        return [
            api.MailboxInfo(
                agent=box.name,
                name=self._directory.name(box.name),
                unread=len(box.letters),
                taken=sum(1 for _ in box.in_flight),
                limit=self._bus.limits.depth if box.name in books.names else 0,
                oldest=books.messages[box.oldest].at if box.oldest is not None else None,
                dead=len(box.dead),
                patterns=books.topics.patterns(box.number),
            )
            for box in boxes
        ]

    # --- dead letters ----------------------------------------------------------------------------

    async def dead(self, caller: Caller, request: api.DeadRequest) -> list[api.DeadInfo]:
        """The oldest ones first."""
        books = self._bus.pipeline.books
        boxes: Iterable[Mailbox] = (self._box(request.agent),) if request.agent else books.boxes.values()
        chosen = sorted(((seq, box) for box in boxes for seq in box.dead), key=lambda one: one[0])
        chosen = chosen[: request.limit]
        # As they are now: while payloads are read somebody may put one back.
        found = [(books.messages[seq], box.name, box.dead[seq]) for seq, box in chosen]
        whole = await self._bus.mail.whole([message for message, _, _ in found])
        return [
            api.DeadInfo(
                message=letters.info(message, self._directory, letter.attempts),
                agent=name,
                name=self._directory.name(name),
                reason=letter.reason,
                attempts=letter.attempts,
            )
            for message, (_, name, letter) in zip(whole, found, strict=True)
        ]

    async def revive(self, caller: Caller, request: api.DeadActRequest) -> list[Outcome]:
        """Back into the mailbox, as if they were new."""
        return await self._each(request, self._bus.mail.post_revive, "put back", grows=True)

    async def drop(self, caller: Caller, request: api.DeadActRequest) -> list[Outcome]:
        """Gone."""
        return await self._each(request, self._bus.mail.post_drop, "thrown away")

    async def _each(
        self,
        request: api.DeadActRequest,
        act: Callable[[str, int], Batch],
        done: str,
        *,
        grows: bool = False,
    ) -> list[Outcome]:
        box = self._box(request.agent)
        seqs = list(dict.fromkeys(map(seq_of, request.ids))) if request.ids else list(box.dead)
        name = self._directory.name(box.name)
        outcomes: list[Outcome] = []
        batch: Batch | None = None
        posted = 0
        for seq in seqs:
            if grows and batch is not None and box.depth + posted >= self._bus.limits.depth:
                # What is posted takes no room before it is durable.
                await batch
                batch, posted = None, 0
            try:
                batch = act(box.name, seq)
                posted += 1
                outcomes.append(Outcome(ref=f"m{seq}", id=box.name, name=name, done=done))
            except AgentTopError as error:
                outcomes.append(
                    Outcome(
                        ref=f"m{seq}",
                        id=box.name,
                        name=name,
                        error=error.to_dict(),
                        exit_code=error.exit_code,
                    )
                )
        if batch is not None:
            await batch
        return outcomes

    # --- waiting ---------------------------------------------------------------------------------

    async def waits(self, caller: Caller, request: api.NoRequest) -> api.WaitsInfo:
        """The open requests, oldest first, and the rings that stand."""
        books, name = self._bus.pipeline.books, self._directory.name
        return api.WaitsInfo(
            waits=[
                api.WaitInfo(
                    asker=one.asker,
                    asker_name=name(one.asker),
                    asked=one.asked,
                    asked_name=name(one.asked),
                    request=f"m{seq}",
                    since=books.messages[seq].at,
                    deadline=one.deadline,
                )
                for seq, one in sorted(books.requests.items())
            ],
            rings=[[name(one) for one in ring] for ring in self._room.deadlocks.standing(self._bus)],
        )
