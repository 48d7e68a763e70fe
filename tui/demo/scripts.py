"""What each of the demo's agents is like: data, read by the agent program and by the fleet."""

from __future__ import annotations

from typing import NamedTuple

OPUS = "claude-opus-5-5"
SONNET = "claude-sonnet-5-5"
HAIKU = "claude-haiku-5-5"
HOUSE = "house-coder-30b"
"""A model that no price list knows: the agent that uses it is shown as unpriced."""


class Script(NamedTuple):
    """How one kind of agent works."""

    model: str
    tasks: tuple[str, ...]
    """What it is told, one after another, again from the start."""
    tools: str
    """The tools it uses in a task, in order."""
    guide: int = 6_000
    """Tokens of the guide that stands before every conversation."""
    reply: int = 0
    """Tokens of a reply; 0 leaves it to the model."""
    pause: float = 6.0
    """Seconds between tasks."""
    tool_seconds: float = 3.0
    """Seconds that a tool runs, about."""
    ends: str = ""
    """``crash`` after the first task, ``hang`` after it, ``done`` after all of them; else it goes on."""
    ignores_term: bool = False


SCRIPTS: dict[str, Script] = {
    "lead": Script(
        OPUS,
        ("split the checkout rewrite into tasks", "review what api and ui handed in", "plan the migration"),
        "Read+Grep+Task",
        guide=24_000,
        reply=240,
        tool_seconds=5,
    ),
    "coder": Script(
        SONNET,
        ("orders endpoint: idempotency keys", "replay the first reply on a retry", "expire keys after a day"),
        "Read+Grep+Read+Edit+Bash+Edit+Bash",
        guide=16_000,
        reply=160,
        pause=4,
    ),
    "tester": Script(
        SONNET,
        ("cover retry, replay and expiry", "find out why test_retry is flaky"),
        "Read+Edit+Bash+Bash",
        guide=9_000,
        reply=120,
        tool_seconds=4,
    ),
    "reviewer": Script(
        OPUS,
        ("is retry safe here?", "read the diff of orders.py with fresh eyes"),
        "Bash+Read+Read+Grep",
        guide=12_000,
        reply=320,
        pause=12,
    ),
    "triage": Script(
        HAIKU,
        ("label new issues as they arrive", "find duplicates of #4127"),
        "Grep+Read",
        guide=5_000,
        reply=60,
        pause=2,
        tool_seconds=0.8,
    ),
    "indexer": Script(
        HOUSE,
        ("index the wiki", "embed docs/"),
        "Glob+Read+Read+Read",
        guide=3_000,
        pause=1,
        tool_seconds=0.5,
    ),
    "crasher": Script(
        HAIKU, ("scrape the price list",), "Bash+Read", guide=4_000, ends="crash", tool_seconds=1.5
    ),
    "hanger": Script(SONNET, ("wait for the deploy to finish",), "Read+Bash", guide=8_000, ends="hang"),
    "stubborn": Script(
        HAIKU, ("upgrade dependencies one by one", "and once more"), "Bash+Edit+Bash", ignores_term=True
    ),
    "writer": Script(
        SONNET,
        ("API reference", "docs/idempotency.md"),
        "Read+Write",
        guide=7_000,
        reply=400,
        pause=1,
        ends="done",
    ),
}
