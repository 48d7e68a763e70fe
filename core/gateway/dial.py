"""Opening connections to providers: TLS with verification, through a proxy where one is set."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

import anyio

from ..errors import AgentTopError, ConfigError
from .providers import Origin

_MAX_PROXY_ANSWER = 16 << 10
P = TypeVar("P", bound=asyncio.Protocol)


class Unreachable(AgentTopError):
    """No connection to the provider: nothing of the request was sent."""

    status = 502
    code = "unreachable"


class Dialer:
    """Opens connections.

    Args:
        environ: ``HTTPS_PROXY`` and ``NO_PROXY`` (either case, lower first, as curl has it) apply
            to https providers; ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` replace the system's
            authorities, as they do in OpenSSL.
        seconds: For all of look-up, TCP, proxy and TLS.
    """

    def __init__(self, environ: Mapping[str, str], seconds: float) -> None:
        self._environ = environ
        self._seconds = seconds
        self._context: ssl.SSLContext | None = None
        self._proxy = environ.get("https_proxy") or environ.get("HTTPS_PROXY") or ""
        self._no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""

    async def warm(self) -> None:
        """Load the certificate authorities off the loop; it takes tens of milliseconds."""
        if self._context is None:
            self._context = await anyio.to_thread.run_sync(self._make_context)

    async def dial(self, origin: Origin, factory: Callable[[], P]) -> P:
        """A connected protocol.

        Raises:
            Unreachable: With the cause.
            ConfigError: The proxy setting or the certificate file cannot be used.
        """
        try:
            with anyio.fail_after(self._seconds):
                if origin.scheme == "https":
                    await self.warm()
                return await self._dial(origin, factory)
        except TimeoutError as error:
            raise Unreachable(
                f"{origin.authority} was not reached", f"No connection within {self._seconds:g} s"
            ) from error
        except ssl.SSLError as error:
            raise Unreachable(f"{origin.authority} was not reached", _tls_text(error)) from error
        except OSError as error:
            raise Unreachable(f"{origin.authority} was not reached", error.strerror or str(error)) from error

    async def _dial(self, origin: Origin, factory: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        if origin.scheme == "unix":
            return (await loop.create_unix_connection(factory, origin.host))[1]
        if origin.scheme == "http":
            return (await loop.create_connection(factory, origin.host, origin.port))[1]
        if self._proxy and not proxy_bypass_environment(origin.host, {"no": self._no_proxy}):
            return await self._dial_through(origin, factory)
        _, protocol = await loop.create_connection(
            factory, origin.host, origin.port, ssl=self._context, server_hostname=origin.host
        )
        return protocol

    async def _dial_through(self, origin: Origin, factory: Callable[[], P]) -> P:
        proxy = urlsplit(self._proxy if "://" in self._proxy else f"http://{self._proxy}")
        if proxy.scheme != "http" or not proxy.hostname:
            raise ConfigError(
                "HTTPS_PROXY is not used", "Only http:// proxies are understood", "Set it to http://HOST:PORT"
            )
        loop = asyncio.get_running_loop()
        raw, tunnel = await loop.create_connection(_Tunnel, proxy.hostname, proxy.port or 80)
        try:
            raw.write(_connect_request(origin, proxy.username, proxy.password))
            await tunnel.opened
            protocol = factory()
            assert self._context is not None
            transport = await loop.start_tls(raw, protocol, self._context, server_hostname=origin.host)
        except BaseException:
            raw.abort()
            raise
        if transport is None:
            raise OSError("the proxy closed the connection")
        protocol.connection_made(transport)
        return protocol

    def _make_context(self) -> ssl.SSLContext:
        file, folder = self._environ.get("SSL_CERT_FILE"), self._environ.get("SSL_CERT_DIR")
        try:
            context = ssl.create_default_context(cafile=file or None, capath=folder or None)
        except OSError as error:
            raise ConfigError(f"SSL_CERT_FILE={file} cannot be used", error.strerror or str(error)) from error
        context.set_alpn_protocols(["http/1.1"])
        return context


def _tls_text(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted: {error.verify_message}"
    return f"TLS failed: {error.reason or error}"


def _connect_request(origin: Origin, user: str | None, password: str | None) -> bytes:
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    target = f"{host}:{origin.port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if user is not None:
        pair = f"{unquote(user)}:{unquote(password or '')}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class _Tunnel(asyncio.Protocol):
    """Waits for a proxy's answer to CONNECT."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answer = b""

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if b"\r\n\r\n" not in self._answer:
            if len(self._answer) > _MAX_PROXY_ANSWER:
                self._fail("the proxy did not speak HTTP")
            return
        words = self._answer.split(b"\r\n", 1)[0].split(b" ", 2)
        if len(words) >= 2 and words[0].startswith(b"HTTP/1.") and words[1][:1] == b"2":
            if not self.opened.done():
                self.opened.set_result(None)
        else:
            self._fail(f"the proxy answered {b' '.join(words[1:]).decode('latin-1')[:100]!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the proxy closed the connection")

    def _fail(self, why: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(OSError(why))
            self.opened.exception()  # noted, so that an abandoned one is not reported as never retrieved
