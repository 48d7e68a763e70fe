"""Opening files that belong to somebody else: regular ones only.

A FIFO among a CLI's files would hang whoever opens it, a device such as /dev/zero whoever reads it; an
agent can put both there, also behind a link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor to read a regular file from; links are followed.

    Raises:
        OSError: It cannot be opened, or is no regular file.
        ValueError: There can be no such path.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", path)
        yield descriptor
    finally:
        os.close(descriptor)


def beginning(path: str, most: int) -> bytes:
    """The first ``most`` bytes of a file, or all of a shorter one.

    Raises:
        OSError, ValueError: As for ``opened``.
    """
    with opened(path) as descriptor:
        return os.pread(descriptor, most, 0)
