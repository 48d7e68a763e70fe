"""Reaching providers: TLS with verification, the CONNECT proxy, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest

pytestmark = pytest.mark.anyio
WHOLE = json.dumps({"model": "claude-opus-5-5", "max_tokens": 9, "messages": []}).encode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate for ``localhost``: the file to trust, and the provider's side of it."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", context


async def ask(bench: Any) -> bytes:
    reader, writer = await bench.connect()
    writer.write(bench.post(WHOLE, headers="Connection: close\r\n"))
    with anyio.fail_after(20):
        answer = await reader.read()
    writer.close()
    return answer


class Proxy:
    """A CONNECT proxy that keeps what it was asked for."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            writer.write(self.answer)
            if b" 200 " in self.answer:
                host, _, port = head.split(b" ")[1].decode().rpartition(":")
                there = await asyncio.open_connection(host, int(port))
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self.pump, reader, there[1])
                    tasks.start_soon(self.pump, there[0], writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self.tasks.discard(task)

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


async def test_tls_is_verified_against_ssl_cert_file(open_bench: Any, authority: Any) -> None:
    async with open_bench(
        context=authority[1], host="localhost", environ={"SSL_CERT_FILE": str(authority[0])}
    ) as bench:
        for _ in range(2):
            assert (await ask(bench)).startswith(b"HTTP/1.1 200")
        assert bench.provider.connections == 1
        assert [s.exact for s in bench.desk.settled] == [True, True]


async def test_an_unknown_certificate_is_not_accepted(open_bench: Any, authority: Any) -> None:
    async with open_bench(context=authority[1], host="localhost") as bench:
        answer = await ask(bench)
        assert answer.startswith(b"HTTP/1.1 429")
        assert b"certificate was not accepted" in answer
        assert [s.outcome for s in bench.desk.settled] == ["unreachable"]
        assert not bench.provider.seen


async def test_a_certificate_file_that_is_missing_is_named(open_bench: Any, authority: Any) -> None:
    async with open_bench(
        context=authority[1], host="localhost", environ={"SSL_CERT_FILE": "/no/such.pem"}
    ) as bench:
        answer = await ask(bench)
        assert b"SSL_CERT_FILE=/no/such.pem" in answer
        assert [s.outcome for s in bench.desk.settled] == ["unreachable"]


@pytest.mark.parametrize("auth", ["", "user:p%40ss@"])
async def test_https_goes_through_the_proxy(open_bench: Any, authority: Any, wire: Any, auth: str) -> None:
    proxy = Proxy()
    async with wire.listening(proxy.take, proxy.tasks) as port:
        environ = {"SSL_CERT_FILE": str(authority[0]), "HTTPS_PROXY": f"http://{auth}127.0.0.1:{port}"}
        async with open_bench(context=authority[1], host="localhost", environ=environ) as bench:
            assert (await ask(bench)).startswith(b"HTTP/1.1 200")
            (head,) = proxy.heads
            assert head.startswith(f"CONNECT localhost:{bench.provider.port} HTTP/1.1\r\n".encode())
            assert (b"Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in head) == bool(auth)
            assert len(bench.provider.seen) == 1


@pytest.mark.parametrize("no_proxy", ["localhost", "*", "example.com, .localhost,localhost"])
async def test_no_proxy_goes_around_it(open_bench: Any, authority: Any, no_proxy: str) -> None:
    environ = {"SSL_CERT_FILE": str(authority[0]), "HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": no_proxy}
    async with open_bench(context=authority[1], host="localhost", environ=environ) as bench:
        assert (await ask(bench)).startswith(b"HTTP/1.1 200")


async def test_http_providers_do_not_use_the_https_proxy(open_bench: Any) -> None:
    async with open_bench(environ={"HTTPS_PROXY": "http://127.0.0.1:1"}) as bench:
        assert (await ask(bench)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"", b"x" * 20_000]
)
async def test_a_proxy_that_refuses_is_told_as_that(
    open_bench: Any, authority: Any, wire: Any, answer: bytes
) -> None:
    proxy = Proxy(answer)
    async with wire.listening(proxy.take, proxy.tasks) as port:
        environ = {"SSL_CERT_FILE": str(authority[0]), "https_proxy": f"127.0.0.1:{port}"}
        async with open_bench(context=authority[1], host="localhost", environ=environ) as bench:
            seen = await ask(bench)
            assert seen.startswith(b"HTTP/1.1 429")
            assert b"proxy" in seen
            assert [s.outcome for s in bench.desk.settled] == ["unreachable"]


async def test_a_proxy_of_an_unknown_kind_is_refused(open_bench: Any, authority: Any) -> None:
    environ = {"SSL_CERT_FILE": str(authority[0]), "HTTPS_PROXY": "socks5://127.0.0.1:1"}
    async with open_bench(context=authority[1], host="localhost", environ=environ) as bench:
        assert b"Only http:// proxies" in await ask(bench)


async def test_a_name_that_does_not_exist_is_unreachable(open_bench: Any) -> None:
    async with open_bench(host="no-such-host.invalid") as bench:
        assert (await ask(bench)).startswith(b"HTTP/1.1 429")
        assert [s.outcome for s in bench.desk.settled] == ["unreachable"]


async def test_a_connection_that_does_not_come_about_times_out(
    open_bench: Any, authority: Any, wire: Any
) -> None:
    from agenttop.core.gateway.limits import Limits

    tasks: set[asyncio.Task[None]] = set()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with wire.listening(mute, tasks) as port:
        environ = {"SSL_CERT_FILE": str(authority[0]), "HTTPS_PROXY": f"http://127.0.0.1:{port}"}
        limits = Limits(connect_seconds=0.2, tick_seconds=0.02)
        async with open_bench(
            context=authority[1], host="localhost", environ=environ, limits=limits
        ) as bench:
            answer = await ask(bench)
            assert answer.startswith(b"HTTP/1.1 429")
            assert b"No connection within 0.2 s" in answer
