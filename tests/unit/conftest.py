"""What several of these tests stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from anyio.abc import TaskGroup


@pytest.fixture
async def tasks() -> AsyncIterator[TaskGroup]:
    """A task group that is cancelled when the test ends."""
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()
