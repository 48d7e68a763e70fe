"""What the live tests share: the real Claude Code, and a fleet's home."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from ..conftest import missing
from . import agent_clis


def find_claude() -> str | None:
    """``$AGENTTOP_TEST_CLAUDE``, else the one on the PATH."""
    return os.environ.get("AGENTTOP_TEST_CLAUDE") or shutil.which("claude")


@pytest.fixture
def claude() -> str:
    """The path of the real Claude Code CLI."""
    found = find_claude()
    if found is None:
        missing("claude", "neither $AGENTTOP_TEST_CLAUDE nor a claude on the PATH was found")
    assert found is not None
    return found


@pytest.fixture
def claude_environ(tmp_path: Path) -> Mapping[str, str]:
    """A clean environment with a home of its own, so that no one's settings or login are used."""
    scratch = tmp_path / "claude-home"
    scratch.mkdir()
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(scratch),
        "CLAUDE_CONFIG_DIR": str(scratch / ".claude"),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }


@pytest.fixture
def search_path(request: pytest.FixtureRequest) -> str:
    """The PATH for the ``cli`` of a test; skips where it is not installed."""
    cli: agent_clis.Cli = request.getfixturevalue("cli")
    return agent_clis.search_path(cli.program)


@pytest.fixture
def installed() -> Mapping[str, str]:
    """The PATH for each agent CLI that is here, by its program; skips where there is none."""
    return agent_clis.installed()
