"""What the journal tells of mail: seals that prove it without saying it, dead letters, and no text."""

from __future__ import annotations

import pytest

from agenttop.core.api import StopRequest
from agenttop.core.api import bus as api
from agenttop.core.bus.message import Message
from agenttop.core.journal import events as ev
from agenttop.core.kernel import Kernel
from agenttop.core.mail import seals

from .conftest import KernelMaker, sh, until

pytestmark = pytest.mark.anyio

FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
DEADLINE = 40.0


async def seals_of(kernel: Kernel) -> list[ev.MailSealed]:
    found = [record.event() for record in await kernel.journal.tail(100, kinds=["MailSealed"])]
    return [event for event in found if isinstance(event, ev.MailSealed)]


async def sealed(kernel: Kernel, seq: int) -> list[ev.MailSealed]:
    async def look() -> list[ev.MailSealed]:
        found = await seals_of(kernel)
        return found if found and found[-1].last >= seq else []

    result: list[ev.MailSealed] = await until(look, f"a seal up to m{seq}", DEADLINE)
    return result


async def test_seals_cover_every_message_once_and_prove_it(kernels: KernelMaker) -> None:
    said: list[Message] = []
    async with kernels(leave=True) as kernel:
        await kernel.client("ana").run(sh(FOREVER, name="a"))
        kernel.bus.pipeline.listen(
            lambda items: said.extend(item for item in items if isinstance(item, Message))
        )
        sent = ""
        for number in range(25):
            request = api.SendRequest(to="a", payload=f"secret {number}" * 40)
            sent = (await kernel.client("ana").call(api.SEND, request)).id
        await sealed(kernel, int(sent[1:]))
        # What is not sealed yet when a kernel ends is sealed by its end.
        await kernel.client("ana").call(api.SEND, api.SendRequest(to="a", payload="last secret"))
        key = kernel.paths.key.read_bytes()
    async with kernels() as kernel:
        found = await seals_of(kernel)
        assert kernel.books.committed.sealed == said[-1].seq
        for seal in found:
            those = [message for message in said if seal.first <= message.seq <= seal.last]
            assert len(those) == seal.count
            assert seals.digest(key, those) == seal.digest
            changed = [those[0]._replace(payload=b'"other"'), *those[1:]]
            assert seals.digest(key, changed) != seal.digest
            assert seals.digest(b"x" * 32, those) != seal.digest
        assert sum(seal.count for seal in found) == len(said) == 26
        assert 1 <= len(found) < 26
        everything = b"".join([record.body for record in await kernel.journal.read(0, limit=10_000)])
        assert b"secret" not in everything


async def test_mail_that_a_killed_kernel_did_not_seal_is_sealed_by_the_next(kernels: KernelMaker) -> None:
    async with kernels(leave=True) as kernel:
        await kernel.client("ana").run(sh(FOREVER, name="a"))
        request = api.SendRequest(to="a", payload="x" * 1000)
        sent = (await kernel.client("ana").call(api.SEND, request)).id
        message = kernel.bus.pipeline.books.messages[int(sent[1:])]
        kernel.mailroom.trace.digest()
        kernel.mailroom._sealer.take()  # as if it had been killed right before
        key = kernel.paths.key.read_bytes()
    async with kernels() as kernel:
        (seal,) = await sealed(kernel, message.seq)
        assert (seal.first, seal.last, seal.count) == (message.seq, message.seq, 1)
        assert seal.digest == seals.digest(key, [message])


async def test_dead_letters_are_told_together(kernel: Kernel) -> None:
    made = await kernel.client("ana").run(sh(FOREVER, name="a"))
    for _ in range(30):
        await kernel.client("ana").call(api.SEND, api.SendRequest(to="a", payload="x"))
    await kernel.client("ana").stop(StopRequest(refs=["a"], how="kill"))

    async def told() -> bool:
        found = [record.event() for record in await kernel.journal.tail(100, kinds=["MailDied"])]
        events = [event for event in found if isinstance(event, ev.MailDied)]
        assert len(events) <= 3
        assert {(event.agent, event.name, event.reason) for event in events} <= {(made.id, "a", "closed")}
        return sum(event.count for event in events) == 30

    await until(told, "30 dead letters in the journal", DEADLINE)
    shown = [one.text for one in await kernel.client("ana").last_events(20)]
    assert any("from @ana" in text and "dead letter" in text and text.endswith(": closed") for text in shown)
