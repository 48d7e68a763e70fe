"""The holder: a few MB that keep the kernel's listening sockets open while the kernel is away.

Run as ``python -I -S holder_process.py LISTENER_FD SOCKET_PATH`` by ``agenttop.core.holder``; it
imports nothing but parts of the standard library. It accepts no connection on what it keeps: calls
made while no kernel runs wait in the backlog.

The protocol, over ``SOCK_SEQPACKET``, one packet a message, fields separated by NUL:

=========================  ==================================================================
``hello PID START``        ``ok HOLDER_PID`` or ``busy PID``: who the kernel is; first message
``put KEY`` + descriptor   ``ok``; replaces and closes what was kept under ``KEY``
``get KEY``                ``ok`` + a duplicate, or ``none``
``drop KEY``               ``ok`` or ``none``; closes it
``list``                   one ``key KEY`` for each, then ``end``
``who``                    ``ok HOLDER_PID KERNEL_PID``; needs no ``hello``
``bye``                    ``ok``; closes everything and ends
=========================  ==================================================================

It also ends when its socket file is gone or is another's: then its state folder was removed.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import struct
import sys

MESSAGE = 4096
"""Longest message in bytes; longer ones are cut by the system and refused."""

LOOK = 2000
"""Milliseconds between two looks at the socket file."""

Link = socket.socket


def start_time(pid: int) -> str:
    """Field 22 of ``/proc/PID/stat``, or an empty string when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return ""
    return stat[stat.rindex(b")") + 2 :].split()[19].decode()


class Leaving(Exception):
    """The holder was told to leave."""


class Holder:
    """The kept descriptors, and who may change them."""

    def __init__(self, listener: Link, path: str) -> None:
        self.listener = listener
        self.path = path
        self.kept: dict[bytes, int] = {}
        self.links: dict[int, Link] = {}
        self.kernel: tuple[int, str] | None = None
        self.kernel_link: int | None = None
        found = os.stat(path)
        self.file = (found.st_dev, found.st_ino)

    def at_home(self) -> bool:
        """Whether the socket file is still ours."""
        try:
            found = os.stat(self.path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self.file

    def run(self) -> None:
        """Serve until the state folder is gone.

        Raises:
            Leaving: The kernel said so.
        """
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        while True:
            ready = poll.poll(LOOK)
            if not ready and not self.at_home():
                return
            for fd, _ in ready:
                if fd == self.listener.fileno():
                    self.accept(poll)
                elif not self.serve(self.links[fd]):
                    poll.unregister(fd)
                    self.links.pop(fd).close()
                    if self.kernel_link == fd:
                        self.kernel_link = None

    def accept(self, poll: select.poll) -> None:
        """Take one connection, of our own user only."""
        try:
            link, _ = self.listener.accept()
        except OSError:
            return
        credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if struct.unpack("3i", credentials)[1] not in (os.geteuid(), 0):
            link.close()
            return
        # Nobody may stop the holder by not reading: two seconds, then the connection ends.
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 2, 0))
        self.links[link.fileno()] = link
        poll.register(link, select.POLLIN)

    def serve(self, link: Link) -> bool:
        """Answer one message; ``False`` when the connection is over."""
        fds: list[int] = []
        try:
            data, fds, flags, _ = socket.recv_fds(link, MESSAGE, 4)
            if not data:
                return False
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                link.send(b"refused\0message too long")
                return True
            return self.answer(link, data.split(b"\0"), fds)
        except ValueError:
            link.send(b"refused\0not a number")
            return True
        except OSError:
            return False
        finally:
            for fd in fds:
                os.close(fd)

    def answer(self, link: Link, words: list[bytes], fds: list[int]) -> bool:
        """One verb; descriptors left in ``fds`` are closed by the caller."""
        verb = words[0]
        if verb == b"who":
            kernel = self.kernel[0] if self.kernel else 0
            link.send(b"ok\0%d\0%d" % (os.getpid(), kernel))
        elif verb == b"hello" and len(words) == 3:
            self.hello(link, int(words[1]), words[2].decode())
        elif self.kernel_link != link.fileno():
            link.send(b"refused\0say hello first")
        elif verb == b"put" and len(words) == 2 and len(fds) == 1:
            self.close(words[1])
            self.kept[words[1]] = fds.pop()
            link.send(b"ok")
        elif verb == b"get" and len(words) == 2:
            fd = self.kept.get(words[1])
            if fd is None:
                link.send(b"none")
            else:
                socket.send_fds(link, [b"ok"], [fd])
        elif verb == b"drop" and len(words) == 2:
            link.send(b"ok" if self.close(words[1]) else b"none")
        elif verb == b"list":
            for key in self.kept:
                link.send(b"key\0" + key)
            link.send(b"end")
        elif verb == b"bye":
            self.leave()
            link.send(b"ok")
            raise Leaving
        else:
            link.send(b"refused\0unknown message")
        return True

    def hello(self, link: Link, pid: int, start: str) -> None:
        """Let a kernel in, unless the one before it still lives and is connected."""
        if self.kernel_link is not None and self.kernel is not None and self.kernel != (pid, start):
            old, began = self.kernel
            if start_time(old) == began:
                link.send(b"busy\0%d" % old)
                return
        self.kernel = (pid, start)
        self.kernel_link = link.fileno()
        link.send(b"ok\0%d" % os.getpid())

    def close(self, key: bytes) -> bool:
        """Close what is kept under ``key``, if anything is."""
        fd = self.kept.pop(key, None)
        if fd is not None:
            os.close(fd)
        return fd is not None

    def leave(self) -> None:
        """Close everything, so that it is over before the answer arrives."""
        for key in list(self.kept):
            self.close(key)
        if self.at_home():
            os.unlink(self.path)
        self.listener.close()


def settle() -> None:
    """Be nobody's child in spirit: own name, no folder kept busy, as many descriptors as allowed."""
    os.chdir("/")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with open("/proc/self/comm", "w") as file:
            file.write("agenttop-holder")
    except OSError:
        return  # a name is a courtesy


def main(argv: list[str]) -> None:
    """Serve on the listener whose descriptor is the first argument."""
    listener = socket.socket(fileno=int(argv[1]))
    os.set_inheritable(listener.fileno(), False)
    holder = Holder(listener, argv[2])
    settle()
    try:
        holder.run()
    except Leaving:
        return


if __name__ == "__main__":
    main(sys.argv)
