"""Following streams that must be closed when their reader leaves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TypeVar, cast

T = TypeVar("T")


def closing(stream: AsyncIterator[T]) -> aclosing[AsyncGenerator[T, None]]:
    """Close a client's or a backend's stream at the end of a block, however the block is left.

    Their contracts promise iterators; all of them are generators, and have to be closed as such.
    """
    return aclosing(cast("AsyncGenerator[T, None]", stream))
