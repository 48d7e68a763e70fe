"""Who is at the other end of a loopback connection: asked of the kernel's socket table, not of the peer.

Linux tells for every TCP socket the inode by which its holders know it, the user who made it and the
control group it was made in (sock_diag(7), ``INET_DIAG_CGROUP_ID`` since 5.8). One question costs about
40 µs and is put once per connection.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable

from ..backend import SocketPeer
from ..doors import DOOR

_SOCK_DIAG = 4
_BY_FAMILY = 20
_ERROR = 2
_REQUEST = 1
_CGROUP_ID = 21
_ANY_COOKIE = 0xFFFF_FFFF
_ALL_STATES = 0xFFFF_FFFF
_HEADER = struct.Struct("=IHHII")
_FACTS = 16 + 4 + 48
"""Where queue lengths, user and inode stand: behind the header, four state bytes and the socket's id."""
_ATTRIBUTES = 16 + 72

Owns = Callable[[str, SocketPeer], Awaitable[bool | None]]
"""Whether a live agent (by id) has this socket; ``None`` where that cannot be told."""


def peer_of(near: tuple[str, int], far: tuple[str, int], door: str) -> SocketPeer | None:
    """The client's socket of a loopback TCP connection; ``None`` where the kernel does not tell.

    Args:
        near: Our own address of the connection.
        far: The client's.
        door: The key of the listener it came through.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as asked:
            asked.settimeout(1.0)  # the kernel answers at once; never hang on it
            asked.send(_question(far, near))
            return _facts(asked.recv(8192), door)
    except OSError:  # no such module, not allowed in this sandbox, the socket has gone
        return None


def _question(source: tuple[str, int], target: tuple[str, int]) -> bytes:
    family = socket.AF_INET6 if ":" in source[0] else socket.AF_INET
    identity = struct.pack("!HH", source[1], target[1]) + _address(family, source) + _address(family, target)
    identity += struct.pack("=III", 0, _ANY_COOKIE, _ANY_COOKIE)
    body = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES) + identity
    return _HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _REQUEST, 1, 0) + body


def _address(family: int, address: tuple[str, int]) -> bytes:
    return socket.inet_pton(family, address[0]).ljust(16, b"\0")


def _facts(data: bytes, door: str) -> SocketPeer | None:
    length, kind, *_ = _HEADER.unpack_from(data)
    if kind == _ERROR or length > len(data) or length < _ATTRIBUTES:
        return None
    uid, inode = struct.unpack_from("=II", data, _FACTS + 12)
    group = None
    at = _ATTRIBUTES
    while at + 4 <= length:
        size, attribute = struct.unpack_from("=HH", data, at)
        if size < 4:
            break
        if attribute == _CGROUP_ID and size >= 12:
            (group,) = struct.unpack_from("=Q", data, at + 4)
        at += (size + 3) & ~3
    return SocketPeer(door, inode, uid, group)


class Peers:
    """Holds a connection to the agent whose secret it shows: a stolen one is worth nothing elsewhere.

    Args:
        owns: The backends' knowledge of who has which socket.
    """

    def __init__(self, owns: Owns) -> None:
        self._owns = owns

    async def vouch(self, agent: str, listener: str, near: object, far: object) -> bool:
        """Whether this connection may speak for ``agent``; true where nobody can tell.

        Args:
            listener: The key of the listener it came through.
            near: ``getsockname`` of the accepted socket.
            far: ``getpeername`` of it.
        """
        door = listener.removeprefix(DOOR) if listener.startswith(DOOR) else ""
        peer: SocketPeer | None = None
        if isinstance(near, tuple) and isinstance(far, tuple) and len(near) >= 2 and len(far) >= 2:
            peer = peer_of((near[0], near[1]), (far[0], far[1]), door)
        if peer is None:
            peer = SocketPeer(door, None, None, None)
        return await self._owns(agent, peer) is not False
