"""Fixtures of the docker backend's tests; test modules import what they use."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.backends.docker_rig import PrivateDockerd, Rig, docker_problem, free_port, private_dockerd, rig
from tests.conftest import missing
from tests.images import borrowed, busybox


@pytest.fixture(scope="session")
def docker_image() -> Iterator[str]:
    """The busybox image in the machine's dockerd, removed at the end unless another session uses it."""
    if problem := docker_problem():
        missing("docker", problem)
    if busybox() is None:
        missing("docker", "no static busybox to make an image from")
    with borrowed() as name:
        yield name


@pytest.fixture
async def docker_rig(docker_image: str, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Rig]:
    """The backend over the machine's dockerd, with a state folder of the test's own."""
    async with rig(tmp_path, docker_image, free_port()) as made:
        yield made


@pytest.fixture
def own_dockerd(docker_image: str) -> Iterator[PrivateDockerd]:
    """A dockerd that may be stopped and killed."""
    if os.geteuid() != 0:
        pytest.skip("root is needed to start a dockerd")
    with private_dockerd() as made:
        yield made
