"""The subprocess backend, held to the contract with every freeze mechanism there is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agenttop.backends import cgroups

from ..conftest import missing
from .contract import BackendContract
from .rig import Rig
from .subprocess_rig import SubprocessRig

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("mechanism", cgroups.MECHANISMS)
class TestSubprocess(BackendContract):
    @pytest.fixture
    async def rig(self, tmp_path: Path, mechanism: str) -> AsyncIterator[Rig]:
        state = tmp_path / "state"
        state.mkdir()
        settings = settings_for(state, mechanism)
        rig = SubprocessRig(state, settings)
        yield rig
        await rig.finish()


def settings_for(state: Path, mechanism: str) -> dict[str, str]:
    """Settings that force a mechanism, in the subtree this user was given if there is one."""
    settings = {"freeze": mechanism}
    given = {"cgroup": group} if (group := os.environ.get("AGENTTOP_TEST_CGROUP")) else {}
    if mechanism not in cgroups.choose(state, given).mechanisms:
        missing(mechanism, "no control group of this kind can be written here")
    return settings | given
