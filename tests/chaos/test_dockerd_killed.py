"""A dockerd that is killed under a living kernel: its containers end, which is said, and policies apply."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.backends.docker_fixtures import docker_image, own_dockerd  # noqa: F401 - fixtures
from tests.backends.docker_rig import PrivateDockerd
from tests.images import ensure

from .conftest import Shell, until

pytestmark = [pytest.mark.docker, pytest.mark.root, pytest.mark.timeout(180)]


def test_containers_of_a_killed_dockerd_end_and_come_back_by_policy(
    sh: Shell,
    home: Path,
    own_dockerd: PrivateDockerd,  # noqa: F811
) -> None:
    image = ensure(own_dockerd.env)
    home.mkdir()
    (home / "config.toml").write_text(f'[backends.docker]\nhost = "{own_dockerd.host}"\n')
    docker = ("--backend", "docker", "--image", image, "--network", "none")
    sh.ok("run", "--name", "once", *docker, "--", "sleep", "600")
    sh.ok(
        "run", "--name", "back", *docker, "--restart", "on-failure", "--backoff", "0.2s", "--", "sleep", "600"
    )
    sh.ok("run", "--name", "other", "--", "sleep", "600")
    other = sh.agents()["other"]["pid"]

    own_dockerd.kill()
    assert {agent["name"] for agent in sh.ps()} >= {"once", "back", "other"}
    said = sh.fails(1, "run", "--name", "new", *docker, "--", "true")
    assert "docker" in said
    assert sh.agents()["other"]["pid"] == other

    own_dockerd.start()
    once = until(
        lambda: (a := sh.agents()["once"])["state"] in ("error", "terminated") and a,
        "the end being noticed",
        60,
    )
    (ended,) = sh.happened("RunExited", name="once")
    assert (once["state"], once["detail"]) == ("error", "dockerd stopped")
    assert "dockerd stopped" in str(ended)
    back = until(lambda: (a := sh.agents()["back"])["run"] == 2 and a, "the restart", 60)
    assert back["state"] not in ("error", "terminated")
    assert sh.agents()["other"]["pid"] == other
    assert [agent["name"] for agent in sh.ps()].count("new") == 0
    sh.ok("kill", "--all", "--yes")
    sh.ok("rm", "once", "back")
