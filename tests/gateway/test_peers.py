"""A connection's other end is told by the kernel's socket table, and a secret is worth nothing elsewhere."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from agenttop.core.backend import SocketPeer
from agenttop.core.gateway.peers import Peers, peer_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_socket_at_the_other_end_is_told_by_inode_and_user(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()[:2]) as client:
            accepted, _ = listener.accept()
            with accepted:
                near, far = accepted.getsockname()[:2], accepted.getpeername()[:2]
                peer = peer_of(near, far, "")
        assert peer is not None
        assert peer.uid == os.getuid()
        assert peer.inode
    del client


def test_another_process_is_told_apart() -> None:
    program = (
        "import socket,sys,os\n"
        "s=socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "print(os.fstat(s.fileno()).st_ino, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        with subprocess.Popen(
            [sys.executable, "-c", program, port], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            accepted, _ = listener.accept()
            with accepted:
                peer = peer_of(accepted.getsockname(), accepted.getpeername(), "")
                assert other.stdout is not None
                assert peer is not None
                assert peer.inode == int(other.stdout.readline())
            assert other.stdin is not None
            other.stdin.close()


def test_a_connection_that_is_gone_is_not_told() -> None:
    assert peer_of(("127.0.0.1", 1), ("127.0.0.1", 2), "") is None


@pytest.mark.parametrize(("known", "vouched"), [(True, True), (None, True), (False, False)])
async def test_only_what_is_known_to_be_a_stranger_is_turned_away(known: bool | None, vouched: bool) -> None:
    asked: list[tuple[str, SocketPeer]] = []

    async def owns(agent: str, peer: SocketPeer) -> bool | None:
        asked.append((agent, peer))
        return known

    assert await Peers(owns).vouch("a1", "door:docker:a1.1", None, None) is vouched
    assert asked == [("a1", SocketPeer("docker:a1.1", None, None, None))]
