"""The subprocess backend, held to the contract with every freeze mechanism there is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from agenttop.backends import cgroups

from ..conftest import missing
from .contract import BackendContract
from .evidence import STORM
from .rig import DEADLINE, Rig
from .subprocess_rig import SubprocessRig

pytestmark = pytest.mark.anyio

#: Freezes in a row; by signal each takes passes over the whole of /proc.
_ROUNDS = {"cgroup2": 150, "cgroup1": 150, "signal": 20}


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

    async def test_a_tree_that_forks_all_the_time_is_frozen_every_time(
        self, rig: Rig, mechanism: str
    ) -> None:
        """Once is luck: the version 1 freezer misses some process of such a tree in 3 of 100 freezes."""
        launch = rig.sh(STORM)
        ref = await rig.start(launch)
        await rig.said(launch, "storm")
        with anyio.fail_after(2 * DEADLINE):
            for _ in range(_ROUNDS[mechanism]):
                frozen = await rig.backend.freeze(ref)
                assert frozen.complete, frozen
                await rig.backend.thaw(ref)


def settings_for(state: Path, mechanism: str) -> dict[str, str]:
    """Settings that force a mechanism, in the subtree this user was given if there is one."""
    settings = {"freeze": mechanism}
    given = {"cgroup": group} if (group := os.environ.get("AGENTTOP_TEST_CGROUP")) else {}
    if mechanism not in cgroups.choose(state, given).mechanisms:
        missing(mechanism, "no control group of this kind can be written here")
    return settings | given
