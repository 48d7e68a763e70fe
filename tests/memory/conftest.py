from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agenttop.core.clock import ManualClock
from agenttop.core.memory.memory import Memory
from agenttop.core.memory.model import Limits
from agenttop.core.memory.names import access_by_teams

TEAMS = {"a1": ["red"], "a2": ["red"], "a3": []}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def memory(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Memory]:
    access = access_by_teams(lambda agent: TEAMS.get(agent, []))
    limits = Limits(block_tokens=20, agent_tokens=50, blocks=8, block_versions=3)
    async with Memory(tmp_path / "memory.db", clock, access, limits=limits) as memory:
        yield memory
