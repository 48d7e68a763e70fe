"""What is configured of the bus: who may write to whom, limits, shapes of messages; and its errors."""

from __future__ import annotations

import json

import pytest

from agenttop.core import config
from agenttop.core.api import bus as api
from agenttop.core.bus.errors import BadMessage, BusUnavailable, MailboxFull, TooFast
from agenttop.core.errors import ConfigError, Forbidden
from agenttop.core.kernel import Kernel
from agenttop.core.paths import Paths
from agenttop.core.syscalls.caller import Caller

from .conftest import KernelMaker, sh

pytestmark = pytest.mark.anyio

FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


def configured(paths: Paths, text: str) -> None:
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text(text)


async def agent(kernel: Kernel, name: str, **spec: object) -> Caller:
    made = await kernel.client("ana").run(sh(FOREVER, name=name, **spec))
    return Caller(made.id, "ana", 1)


async def test_the_first_rule_that_fits_decides(paths: Paths, kernels: KernelMaker) -> None:
    configured(
        paths,
        """
        [[bus.rules]]
        who = "label:team=a"
        to = "label:team=b"
        type = "alarm"
        action = "allow"

        [[bus.rules]]
        who = ["label:team=a"]
        to = ["label:team=b", "topic:b/**"]
        action = "deny"
        """,
    )
    async with kernels() as kernel:
        a = await agent(kernel, "a", labels={"team": "a"})
        b = await agent(kernel, "b", labels={"team": "b"})
        c = await agent(kernel, "c")
        for caller in (a, b, c):
            await kernel.syscalls.call(caller, api.INBOX, api.InboxRequest())

        async def send(caller: Caller, to: str, type_: str = "text") -> api.SentInfo:
            return await kernel.syscalls.call(caller, api.SEND, api.SendRequest(to=to, payload=1, type=type_))

        with pytest.raises(Forbidden, match="a may not send text to b"):
            await send(a, "b")
        await send(a, "b", "alarm")
        await send(a, "c")
        await send(b, "a")
        # Everybody is everybody it may write to.
        everybody = await send(c, "*")
        assert (await send(a, "*")).receivers == everybody.receivers - 1
        with pytest.raises(Forbidden, match="topic b/x"):
            await kernel.syscalls.call(a, api.PUBLISH, api.PublishRequest(topic="b/x", payload=1))
        await kernel.syscalls.call(a, api.PUBLISH, api.PublishRequest(topic="a/x", payload=1))
        # Whoever is asked may answer, and a person is bound by no rule.
        await kernel.client("ana").call(api.SEND, api.SendRequest(to="b", payload=1))


async def test_an_answer_needs_no_rule(paths: Paths, kernels: KernelMaker) -> None:
    import anyio

    configured(paths, '[[bus.rules]]\nwho = "b"\naction = "deny"\n')
    async with kernels() as kernel:
        a, b = await agent(kernel, "a"), await agent(kernel, "b")
        answers = []

        async def question() -> None:
            request = api.AskRequest(to="b", payload="?", timeout=40)
            answers.append(await kernel.syscalls.call(a, api.ASK, request))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(question)
            (asked,) = await kernel.syscalls.call(b, api.INBOX, api.InboxRequest(wait=40))
            await kernel.syscalls.call(b, api.REPLY, api.ReplyRequest(request=asked.id, payload="!"))
        assert answers[0].payload == "!"
        with pytest.raises(Forbidden):
            await kernel.syscalls.call(b, api.SEND, api.SendRequest(to="a", payload=1))


async def test_limits_are_those_of_the_file(paths: Paths, kernels: KernelMaker) -> None:
    configured(paths, '[bus]\ndepth = 2\npayload = "1K"\nrate = 0.001\nburst = 3\n')
    async with kernels() as kernel:
        a, _ = await agent(kernel, "a"), await agent(kernel, "b")

        async def send(payload: str) -> None:
            await kernel.syscalls.call(a, api.SEND, api.SendRequest(to="b", payload=payload))

        with pytest.raises(BadMessage, match="1024"):
            await send("x" * 2000)
        await send("1")
        await send("2")
        with pytest.raises(MailboxFull, match="mailbox of b is full"):
            await send("3")
        with pytest.raises(TooFast, match="a sends more"):
            await send("4")


async def test_payloads_fit_their_types_schema(paths: Paths, kernels: KernelMaker) -> None:
    shape = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "maximum": 9}}}
    configured(
        paths,
        '[bus.schemas.count]\nfile = "count.json"\n[bus.schemas.flag]\ntype = "boolean"\n',
    )
    (paths.config_file.parent / "count.json").write_text(json.dumps(shape))
    async with kernels() as kernel:
        a, _ = await agent(kernel, "a"), await agent(kernel, "b")

        async def send(payload: object, type_: str) -> None:
            request = api.SendRequest(to="b", payload=payload, type=type_)  # type: ignore[arg-type]
            await kernel.syscalls.call(a, api.SEND, request)

        await send({"n": 3}, "count")
        await send(True, "flag")
        await send("anything", "text")
        with pytest.raises(BadMessage, match="n: 10 is greater"):
            await send({"n": 10}, "count")
        with pytest.raises(BadMessage, match="required"):
            await send({}, "count")
        with pytest.raises(BadMessage, match="boolean"):
            await send("yes", "flag")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[bus]\ndepth = 0\n", "line 2: bus.depth"),
        ('[bus]\ndeadlock = "maybe"\n', "line 2: bus.deadlock"),
        ('[[bus.rules]]\nwho = "topic:x"\naction = "deny"\n', r"line 2: bus.rules\[0\].who"),
        ('[[bus.rules]]\nwho = "a b"\naction = "deny"\n', r"line 2: bus.rules\[0\].who"),
        ('[[bus.rules]]\nwho = "*"\n', r"bus.rules\[0\].action"),
        ('[[bus.rules]]\nto = "topic:x//y"\naction = "deny"\n', r"line 2: bus.rules\[0\].to"),
        ("[bus.schemas.x]\nminimum = 'a'\n", "bus.schemas.x"),
        ("[bus.schemas.x]\nfile = 'none.json'\n", "bus.schemas.x"),
        ("[bus]\ndpeth = 3\n", "dpeth"),
    ],
)
async def test_a_wrong_table_is_named(paths: Paths, kernels: KernelMaker, text: str, told: str) -> None:
    configured(paths, text)
    with pytest.raises(ConfigError, match=told):
        async with kernels():
            pass
    if "schemas" not in text:
        with pytest.raises(ConfigError, match=told):
            config.load(paths)


async def test_errors_of_the_mail_store_speak_of_the_mail_store(paths: Paths, kernels: KernelMaker) -> None:
    paths.make_state()
    paths.mail.mkdir()
    with pytest.raises(BusUnavailable, match="mail store") as raised:
        async with kernels():
            pass
    assert "journal" not in str(raised.value)
