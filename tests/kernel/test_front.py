"""What is asked first is answered before the whole control API is there, and no differently."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
import orjson
import pytest

from agenttop.core import quick
from agenttop.core.client import KernelClient
from agenttop.core.errors import AgentTopError, UsageError
from agenttop.core.http.front import Front
from agenttop.core.http.serve import ControlServer
from agenttop.core.paths import Paths
from agenttop.core.remote import SocketClient
from agenttop.core.table import Snapshot

from .conftest import KernelMaker

pytestmark = pytest.mark.anyio


async def call(app: Any, path: str, query: bytes = b"") -> tuple[dict[str, Any], bytes]:
    """The start and the first piece of an answer; the stream is left after it."""
    sent: list[dict[str, Any]] = []
    left = anyio.Event()

    async def receive() -> dict[str, Any]:
        if any(message.get("body") for message in sent):
            return {"type": "http.disconnect"}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if message.get("body"):
            left.set()

    scope = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query,
        "headers": [], "http_version": "1.1", "scheme": "http", "server": None, "client": None, "state": {},
        "root_path": "",
    }  # fmt: skip
    with anyio.fail_after(20):
        await app(scope, receive, send)
    return sent[0], next(message["body"] for message in sent if message.get("body"))


@pytest.fixture
async def client(kernels: KernelMaker) -> AsyncIterator[KernelClient]:
    async with kernels() as kernel:
        yield kernel.client("ana")


async def test_status_and_watch_do_not_need_the_whole_api(client: KernelClient) -> None:
    front = Front(client)
    for path, query in (("/v1/status", b""), ("/v1/watch", b"window=hour")):
        start, body = await call(front, path, query)
        assert start["status"] == 200
        assert body
    assert front._whole is None
    assert (front.now, front.served) == (0, 2)


@pytest.mark.parametrize(("path", "query"), [("/v1/status", b""), ("/v1/watch", b"window=today")])
async def test_both_answer_with_the_same_head_and_form(client: KernelClient, path: str, query: bytes) -> None:
    front = Front(client)
    here, first = await call(front, path, query)
    whole, second = await call(await front.whole(), path, query)
    assert here["status"] == whole["status"] == 200
    drop = b"content-length"
    assert [h for h in here["headers"] if h[0] != drop] == [h for h in whole["headers"] if h[0] != drop]
    one, other = orjson.loads(first.splitlines()[0]), orjson.loads(second.splitlines()[0])
    assert list(one)[:1] == list(other)[:1]
    assert len(one) == len(other)


async def test_an_unknown_window_is_refused_by_the_whole_api(client: KernelClient) -> None:
    front = Front(client)
    start, body = await call(front, "/v1/watch", b"window=century")
    assert start["status"] == UsageError.status
    assert "window" in orjson.loads(body)["error"]["why"]


async def test_a_failure_nobody_foresaw_is_told_and_logged(
    client: KernelClient, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Front):
        async def _caller(self, scope: Any) -> Any:
            raise ZeroDivisionError("on purpose")

    start, body = await call(Broken(client), "/v1/watch", b"window=today")
    assert start["status"] == AgentTopError.status
    assert "ZeroDivisionError: on purpose" in orjson.loads(body)["error"]["why"]
    assert "/v1/watch failed" in caplog.text


async def test_requests_that_come_while_it_is_imported_are_all_answered(
    kernels: KernelMaker, paths: Paths
) -> None:
    async with kernels() as kernel:
        server = ControlServer(kernel.client("ana"), paths.socket)
        found: list[Any] = []

        async def ask(target: str) -> None:
            found.append(await anyio.to_thread.run_sync(quick.ask, paths.socket, target))

        async with server.running(), SocketClient(paths.socket) as remote:
            with anyio.fail_after(20):
                async with anyio.create_task_group() as tasks:
                    for target in ("/v1/agents", "/v1/templates", "/v1/status", "/openapi.json"):
                        tasks.start_soon(ask, target)
                    async for update in remote.watch():
                        assert isinstance(update, Snapshot)
                        break
            assert len(found) == 4
            described = next(one for one in found if isinstance(one, dict) and "paths" in one)
            assert {"/v1/status", "/v1/watch"} <= described["paths"].keys()
