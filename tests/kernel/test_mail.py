"""The bus in the kernel: who has a mailbox, who is meant, and the verbs, however they are reached."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from agenttop.core.api import bus as api
from agenttop.core.api import selves
from agenttop.core.client import KernelClient
from agenttop.core.errors import AgentTopError, NoSuchAgent
from agenttop.core.kernel import Kernel
from agenttop.core.paths import Paths
from agenttop.core.syscalls.caller import Caller

from .conftest import KernelMaker, reached, sh

pytestmark = pytest.mark.anyio

FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


@pytest.fixture(params=["local", "socket"])
async def client(
    request: pytest.FixtureRequest, kernels: KernelMaker, paths: Paths
) -> AsyncIterator[KernelClient]:
    async with reached(request.param, kernels, paths) as client:
        yield client


async def test_a_person_sends_and_the_agents_mailbox_has_it(client: KernelClient) -> None:
    made = await client.run(sh(FOREVER))
    sent = await client.call(api.SEND, api.SendRequest(to="hello", payload={"a": [1, None, "ü"]}))
    assert sent.to == made.id
    (found,) = await client.call(api.MAIL, api.MailRequest(agent="hello"))
    assert found.id == sent.id
    assert found.payload == {"a": [1, None, "ü"]}
    assert found.from_person
    assert found.to_name == "hello"
