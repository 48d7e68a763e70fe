"""The state key: 32 random bytes that agents' secrets and digests are derived from."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from .errors import AgentTopError

SIZE = 32


def load(path: Path) -> bytes:
    """Read the key, or make it: durable and mode 0600 before anything is derived from it.

    Raises:
        AgentTopError: The file is not a key, or cannot be made.
    """
    try:
        if (key := _read(path)) is not None:
            return key
        _make(path)
        key = _read(path)
    except OSError as error:
        raise AgentTopError(
            f"cannot use the state key {path}", error.strerror or str(error), "Check the state folder"
        ) from error
    assert key is not None  # made a line above
    return key


def _read(path: Path) -> bytes | None:
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(key) != SIZE:
        raise AgentTopError(
            f"{path} is not a state key",
            f"It has {len(key)} bytes instead of {SIZE}",
            "Remove it; agents that run now will have to be started again",
        )
    path.chmod(0o600)
    return key


def _make(path: Path) -> None:
    temporary = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(SIZE))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        # link, not rename: of two kernels started at once the first one's key stays.
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
