"""What several of these tests stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from anyio.abc import TaskGroup
from tests.support.repos import Repo


@pytest.fixture
async def tasks() -> AsyncIterator[TaskGroup]:
    """A task group that is cancelled when the test ends."""
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A repository with a commit."""
    return Repo(tmp_path / "proj")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where an agent's worktrees go."""
    return tmp_path / "state" / "worktrees" / "a1"
