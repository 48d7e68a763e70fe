"""The gateway's port: chosen once per state directory, durable before use, never moved."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

from .errors import AgentTopError, UsageError

LOW, HIGH = 20_000, 32_767
"""Where ports are looked for first: above the services, below Linux's own ephemeral range."""

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
HOST = "127.0.0.1"
BACKLOG = 4096
"""Calls that may wait for a kernel that is away; the system holds it to ``net.core.somaxconn``."""
TRIES = 200


class PortTaken(AgentTopError):
    """Somebody else listens on the gateway's port."""

    status = 409
    code = "port_taken"


def listener(file: Path, wanted: int | None = None) -> socket.socket:
    """The gateway's listening socket, on this state directory's port.

    Args:
        file: Where the port is kept. The first call chooses one and writes it there.
        wanted: The port the configuration asks for, if it does.

    Raises:
        PortTaken: The port is somebody else's; agents know it, so no other is taken.
        UsageError: The configuration asks for another port than the one agents know.
        AgentTopError: The file cannot be read or written, or is not a port.
    """
    port = read(file)
    if port is None:
        return _choose(file, wanted)
    if wanted is not None and wanted != port:
        raise UsageError(
            f"the gateway cannot move to port {wanted}",
            f"This state directory's agents know it on port {port}",
            f"Take the setting back, or remove all agents and then {file}",
        )
    return _bind_or_explain(port)


def read(file: Path) -> int | None:
    """The stored port, or ``None`` when none was chosen yet.

    Raises:
        AgentTopError: The file holds something else, or cannot be read.
    """
    try:
        text = file.read_text().strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise AgentTopError(f"cannot read {file}", str(error)) from error
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65_535:
        raise AgentTopError(
            f"{file} is not a port",
            f"It says {text[:40]!r}",
            "Remove it; agents that run now must then be restarted",
        )
    return int(text)


def candidates(low: int, high: int) -> list[int]:
    """Ports to choose from, outside the ephemeral range ``low``..``high``."""
    preferred = [port for port in range(LOW, HIGH + 1) if not low <= port <= high]
    return preferred or [port for port in range(1024, 65_536) if not low <= port <= high]


def _choose(file: Path, wanted: int | None) -> socket.socket:
    for port in [wanted] if wanted is not None else _random_ports():
        try:
            bound = bind(port)
        except OSError as error:
            if wanted is not None:
                raise _taken(port, error) from error
            continue
        try:
            _write(file, port)
        except OSError as error:
            bound.close()
            raise AgentTopError(f"cannot write {file}", error.strerror or str(error)) from error
        return bound
    raise AgentTopError("no port is free for the gateway", f"{TRIES} were tried between {LOW} and {HIGH}")


def _random_ports() -> Iterator[int]:
    low, high = (int(word) for word in EPHEMERAL.read_text().split())
    ports = candidates(low, high)
    yield from random.sample(ports, min(TRIES, len(ports)))


def _write(file: Path, port: int) -> None:
    fresh = file.with_name(f".port.{os.getpid()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, f"{port}\n".encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.rename(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def bind(port: int) -> socket.socket:
    """Listen on loopback. ``SO_REUSEADDR`` passes over connections in TIME_WAIT, never over a listener."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((HOST, port))
        bound.listen(BACKLOG)
    except BaseException:
        bound.close()
        raise
    return bound


def _bind_or_explain(port: int) -> socket.socket:
    try:
        return bind(port)
    except OSError as error:
        raise _taken(port, error) from error


def _taken(port: int, error: OSError) -> PortTaken:
    who = owner(port)
    return PortTaken(
        f"the gateway's port {port} cannot be used",
        f"{who} listens on it" if who else (error.strerror or str(error)),
        "End that program: the agents know this port, so the gateway never moves",
    )


def owner(port: int) -> str:
    """Which process listens on loopback ``port``, as ``NAME (pid N)``; empty where it cannot be seen."""
    links = {f"socket:[{inode}]" for inode in _listening(port)}
    for process in Path("/proc").iterdir() if links else ():
        if not process.name.isdigit():
            continue
        try:
            if any(os.readlink(fd) in links for fd in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue  # it ended, or is another user's
    return ""


def _listening(port: int) -> Iterator[str]:
    """Inodes of sockets in state LISTEN (0A) on ``port``, from /proc/net/tcp and tcp6 (proc(5))."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]
