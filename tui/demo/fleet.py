"""The demo's fleet, declared: who is in it, who is whose child, and what is special about each."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from agenttop.core.agents.spec import AgentSpec, Restart, RestartMode

from .scripts import SCRIPTS

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR")


BUDGETS = """
[budgets]
day = "$20/day"
shop = { limit = "$8/day", scope = "label", target = "team=shop" }
"""
"""Tables for the kernel's configuration: what the fleet may spend."""

ASKING = 'support = { limit = "$0.08/hour", scope = "label", target = "team=support" }\n'
"""One more, so small that after some minutes it asks what is to become of the agent it stopped."""


class _Member(NamedTuple):
    name: str
    script: str
    parent: str | None = None
    nice: int = 0
    labels: Mapping[str, str] = {}
    more: Mapping[str, Any] = {}


_FLEET = (
    _Member("lead", "lead", labels={"team": "shop"}),
    _Member("api", "coder", "lead", labels={"team": "shop", "area": "orders"}),
    _Member("api-tests", "tester", "api", labels={"team": "shop", "area": "orders"}),
    _Member("ui", "coder", "lead", 5, {"team": "shop", "area": "cart"}),
    _Member("docs", "writer", "lead", 10, {"team": "shop"}),
    _Member("review", "reviewer", "lead", labels={"team": "shop"}),
    _Member("triage", "triage", nice=10, labels={"team": "support"}),
    _Member("embed", "indexer", nice=19, labels={"team": "search"}),
    _Member(
        "scrape",
        "crasher",
        labels={"team": "search"},
        more={"restart": Restart(policy=RestartMode.ON_FAILURE, start_seconds=60, max_restarts=3, backoff=2)},
    ),
    _Member("deploy-watch", "hanger", labels={"team": "ops"}),
    _Member("nightly", "stubborn", nice=15, labels={"team": "ops"}, more={"stop_grace": 3.0}),
)

_BOXES = (("sandbox-a", "changelog from the git log"), ("sandbox-b", "fuzz the cart parser"))


def specs(*, seed: int, speed: str, home: str, cwd: str, image: str | None) -> list[AgentSpec]:
    """The specs, parents before children; with ``image`` two containers too."""
    env = {"AGENTTOP_DEMO": home, "AGENTTOP_DEMO_SEED": str(seed), "AGENTTOP_DEMO_SPEED": speed}
    found = [
        AgentSpec(
            name=member.name,
            command=[sys.executable, "-m", "agenttop.tui.demo.agent", "--script", member.script],
            cwd=cwd,
            env=env,
            prompt=SCRIPTS[member.script].tasks[0],
            model=SCRIPTS[member.script].model,
            labels=dict(member.labels),
            parent=member.parent,
            nice=member.nice,
            **member.more,
        )
        for member in _FLEET
    ]
    for number, (name, task) in enumerate(_BOXES if image else ()):
        found.append(
            AgentSpec(
                name=name,
                backend="docker",
                image=image,
                command=["/bin/sh", "/agent.sh", name],
                env={**env, "TASK": task, "PAUSE": str(3 + 2 * number)},
                prompt=task,
                labels={"team": "sandbox"},
                stop_grace=3.0,
            )
        )
    return found


def environ() -> dict[str, str]:
    """What the agents get of the caller's environment: enough to start Python, and no keys."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ}
