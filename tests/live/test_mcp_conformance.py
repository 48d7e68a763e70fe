"""The official conformance suite for MCP servers, run by an agent against the kernel it runs under."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from agenttop.core.agents.spec import AgentSpec

from ..conftest import missing
from .agent_clis import look_for
from .managed import open_house

pytestmark = [pytest.mark.anyio, pytest.mark.conformance, pytest.mark.timeout(400)]

NOT_OURS = Path(__file__).with_name("mcp_conformance.yml")
"""What does not apply, and why."""
APPLY = (
    "server-initialize", "ping", "tools-list", "server-sse-polling", "server-sse-multiple-streams",
    "dns-rebinding-protection",
)  # fmt: skip


async def test_the_server_conforms_as_far_as_the_suite_applies(home: Path, tmp_path: Path) -> None:
    path, problem = look_for("conformance")
    if problem:
        missing("conformance", problem)
    allowed = shlex.quote(str(NOT_OURS))
    suite = f'exec conformance server --url "$AGENTTOP_URL/mcp" --suite all --expected-failures {allowed}'
    async with open_house(home) as house:
        # Only an agent's own processes may speak for it, the suite's among them.
        command = ["/bin/sh", "-c", suite]
        spec = AgentSpec(name="suite", command=command, cwd=str(tmp_path))
        started = await house.start(
            spec, {"PATH": path, "HOME": str(tmp_path), "LANG": os.environ.get("LANG", "C")}
        )
        ended = await house.ended(started.id, 240)
    assert ended.info.exit_code == 0, ended.out[-6000:] + ended.err
    for name in APPLY:
        assert f"✓ {name}:" in ended.out, ended.out[-6000:]
