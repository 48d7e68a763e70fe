"""One connection to dockerd, and its failures in words a person can act on.

aiodocker costs a quarter of a second to import, so it is imported when the first request is made.
"""

from __future__ import annotations

import base64
import errno
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agenttop.core.errors import BackendError, BackendUnavailable

if TYPE_CHECKING:
    import aiohttp
    from aiodocker import Docker
    from aiodocker.stream import Stream

#: Where dockerd listens when nothing says otherwise; the last ones are a rootless dockerd's.
SOCKETS = ("/run/docker.sock", "/var/run/docker.sock")

#: Seconds after which a dockerd that accepted a request but does not answer counts as unreachable.
PATIENCE = 120.0

_CANNOT_CONNECT = 900  # aiodocker's own number for "no connection"


class EngineRefused(BackendError):
    """dockerd answered, and the answer was no. ``answer`` is its HTTP status."""

    def __init__(self, what: str, why: str = "", hint: str = "", *, answer: int = 500) -> None:
        super().__init__(what, why, hint)
        self.answer = answer


class FileStat(NamedTuple):
    """What dockerd tells of a path inside a container."""

    directory: bool
    mode: int
    link: str


class Engine:
    """dockerd's API as far as this backend needs it. Reconnects by itself: no connection is kept idle."""

    def __init__(self, host: str | None = None) -> None:
        self.host = host or os.environ.get("DOCKER_HOST") or _default_host()
        self._client: Docker | None = None
        self._closed = False

    @property
    def local(self) -> bool:
        """Whether dockerd is reached by a Unix socket; its containers are then likely this machine's."""
        return self.host.startswith("unix://")

    async def close(self) -> None:
        """Close every connection, for good; containers run on."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def json(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        patience: float | None = PATIENCE,
    ) -> Any:
        """One request; the decoded answer, or ``None`` where there is no body.

        Args:
            doing: What this is for, as the start of an error: ``cannot start container x``.
            patience: Seconds to wait for the whole answer; ``None`` waits for ever.

        Raises:
            EngineRefused: dockerd said no.
            BackendUnavailable: dockerd could not be reached or did not answer.
        """
        import aiohttp

        with self._translated(doing):
            response = await self._connect()._do_query(
                path,
                method,
                params=params,
                data=json.dumps(body) if body is not None else None,
                timeout=aiohttp.ClientTimeout(total=patience),
            )
            try:
                data = await response.read()
            finally:
                response.close()
        return json.loads(data) if data.strip() else None

    async def info(self) -> dict[str, Any]:
        """dockerd's ``info``: its version, its cgroups, what it may limit."""
        return dict(await self.json("GET", "info", "cannot use docker", patience=20.0))

    async def listens(self) -> bool:
        """Whether dockerd takes a new connection; one that stops does not, while it still answers others."""
        try:
            await self.json("GET", "version", "cannot reach dockerd")
        except BackendUnavailable:
            return False
        return True

    async def load_image(self, archive: bytes, doing: str, change: str) -> str:
        """Make an image of a tar archive; its id. It has no name, so that nothing else finds it.

        Args:
            change: A line of a Dockerfile to apply (``LABEL key=value``).

        Raises:
            EngineRefused: dockerd said no.
            BackendUnavailable: dockerd could not be reached or did not answer.
        """
        import aiohttp

        with self._translated(doing):
            response = await self._connect()._do_query(
                "images/create",
                "POST",
                params={"fromSrc": "-", "changes": change},
                data=archive,
                headers={"Content-Type": "application/x-tar"},
                timeout=aiohttp.ClientTimeout(total=PATIENCE),
            )
            try:
                told = await response.read()
            finally:
                response.close()
        for line in reversed(told.splitlines()):
            status = json.loads(line)
            if "error" in status:
                raise EngineRefused(doing, str(status["error"]))
            if str(status.get("status", "")).startswith("sha256:"):
                return str(status["status"])
        raise EngineRefused(doing, "dockerd did not name the image it made")

    @asynccontextmanager
    async def stream(
        self, path: str, doing: str, params: Mapping[str, Any]
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """The body of a long answer; errors while reading it are translated too."""
        import aiohttp

        with self._translated(doing):
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE)
            response = await self._connect()._do_query(path, "GET", params=params, timeout=timeout)
            try:
                yield response.content
            finally:
                response.close()

    async def attach(self, container: str, *, stdin: bool = False) -> Stream:
        """A connection to the container's stdin, or to its stdout and stderr from now on."""
        with self._translated(f"cannot attach to container {container[:12]}"):
            of = self._connect().containers.container(container)
            stream = of.attach(stdin=True) if stdin else of.attach(stdout=True, stderr=True)
            await stream.__aenter__()
            return stream

    async def stat(self, container: str, path: str) -> FileStat | None:
        """What ``path`` is inside a container, or ``None`` if there is no such thing."""
        import aiohttp

        with self._translated(f"cannot look into container {container[:12]}"):
            try:
                response = await self._connect()._do_query(
                    f"containers/{container}/archive",
                    "HEAD",
                    params={"path": path},
                    timeout=aiohttp.ClientTimeout(total=PATIENCE),
                )
            except json.JSONDecodeError:  # a refusal to HEAD announces JSON and carries none
                return None
            raw = response.headers.get("X-Docker-Container-Path-Stat", "")
            response.close()
        try:
            found = json.loads(base64.b64decode(raw))
            return FileStat(bool(found["mode"] >> 31 & 1), int(found["mode"]), str(found["linkTarget"]))
        except (ValueError, KeyError, TypeError):
            return None

    def _connect(self) -> Docker:
        if self._closed:
            raise BackendUnavailable("cannot use docker", "The kernel is leaving")
        if self._client is None:
            self._client = _client(self.host)
        return self._client

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        import aiohttp
        from aiodocker.exceptions import DockerContextError, DockerError

        try:
            yield
        except DockerContextError as error:
            raise BackendUnavailable(doing, str(error), "Check `docker context ls`") from error
        except DockerError as error:
            if error.status == _CANNOT_CONNECT:
                raise self._unreachable(doing, error.__context__ or error) from error
            raise EngineRefused(doing, str(error.message).strip(), answer=error.status) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(doing, error) from error

    def _unreachable(self, doing: str, error: BaseException) -> BackendUnavailable:
        cause = getattr(error, "os_error", error)
        number = cause.errno if isinstance(cause, OSError) else None
        if number in (errno.EACCES, errno.EPERM):
            return BackendUnavailable(
                doing,
                f"You may not use dockerd's socket {self.host}",
                "Join the docker group (`sudo usermod -aG docker $USER`), log in again, "
                "then `agenttop kernel restart`",
            )
        if number == errno.ENOENT:
            return BackendUnavailable(
                doing,
                f"No dockerd listens at {self.host}",
                "Install Docker (Debian: `sudo apt install docker.io`), start it "
                "(`sudo systemctl start docker`) or set DOCKER_HOST",
            )
        if isinstance(error, TimeoutError):
            return BackendUnavailable(
                doing, f"dockerd at {self.host} does not answer", "Look at dockerd's log"
            )
        reason = os.strerror(number) if number else str(error) or type(error).__name__
        return BackendUnavailable(
            doing,
            f"dockerd at {self.host} cannot be reached: {reason}",
            "Start it: `sudo systemctl start docker`",
        )


def _default_host() -> str:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    rootless = (f"{runtime}/docker.sock",) if runtime else ()
    home = (str(Path("~/.docker/run/docker.sock").expanduser()),)
    found = next((path for path in (*SOCKETS, *rootless, *home) if Path(path).is_socket()), SOCKETS[1])
    return f"unix://{found}"


def _client(host: str) -> Docker:
    import aiohttp
    from aiodocker import Docker

    try:
        if host.startswith("unix://"):
            # Thousands of containers are waited for at once, hence no limit; a connection that was kept
            # would be a dead one after dockerd restarted, hence none is.
            connector = aiohttp.UnixConnector(host.removeprefix("unix://"), limit=0, force_close=True)
            client = Docker(url="http://docker", connector=connector)
            client._connection_info = host
            return client
        return Docker(url=host)
    except (ValueError, AssertionError) as error:
        raise BackendUnavailable(
            f"cannot use dockerd at {host}", str(error), "Check DOCKER_HOST or [backends.docker] host"
        ) from error
