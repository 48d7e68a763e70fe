"""Fixtures for every room: a home of its own, and the rule for parts that may be missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

#: Parts that must be there: `AGENTTOP_TEST_REQUIRE=docker,tmux,claude` turns a skip into a failure.
REQUIRED = frozenset(filter(None, os.environ.get("AGENTTOP_TEST_REQUIRE", "").split(",")))


def missing(part: str, why: str) -> None:
    """Skip because ``part`` is not on this machine, or fail if the caller requires it."""
    if part in REQUIRED:
        pytest.fail(f"{part} is required by AGENTTOP_TEST_REQUIRE but {why}", pytrace=False)
    pytest.skip(f"{part}: {why}")


@pytest.fixture
def anyio_backend() -> str:
    """The kernel runs on asyncio only: uvicorn, uvloop and aiodocker do."""
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An AGENTTOP_HOME of the test's own, and no trace of the developer's."""
    for name in list(os.environ):
        if (
            name.startswith(("AGENTTOP_", "ANTHROPIC_", "OPENAI_", "CLAUDE"))
            and name != "AGENTTOP_TEST_REQUIRE"
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AGENTTOP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
