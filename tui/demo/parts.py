"""What each of the demo's agents says to the others and keeps in mind: data, by script."""

from __future__ import annotations

from typing import NamedTuple


class Line(NamedTuple):
    """Something said: to an agent, to everybody (``*``), to the owner (``@me``) or on a topic (``#…``)."""

    to: str
    text: str
    asks: bool = False
    """A reply is waited for."""
    expires: float | None = None
    """Seconds after which it is no longer delivered."""


class Part(NamedTuple):
    """How one kind of agent takes part. After its n-th task it says the n-th line, writes the n-th note."""

    blocks: tuple[tuple[str, str, int], ...] = ()
    """Name, text and limit in tokens of its working memory; the first one is pinned."""
    lines: tuple[Line, ...] = ()
    topics: tuple[str, ...] = ()
    """What it subscribes to."""
    notes: tuple[tuple[str, str], ...] = ()
    """Keys and texts for the shared archive."""
    answers: tuple[str, ...] = ("Will do.",)
    """What it replies when it is asked."""
    log: str = ""
    """The block that grows with every task, until pressure moves its beginning to recall."""


_PLAN = "1. test\n2. handler\n3. index\n4. docs\nNow: 3. Open: expiry race."
_STYLE = "No new dependency. Typed. Errors say what to do."

PARTS: dict[str, Part] = {
    "lead": Part(
        blocks=(
            ("task", "Make POST /orders idempotent by key. Keys expire after 24 h.", 400),
            ("plan", _PLAN, 400),
        ),
        lines=(
            Line("ui", "cart needs the new error codes, see orders.error-codes"),
            Line("#plans/checkout", "order of work: orders, cart, docs"),
            Line("scrape", "price list moved to /v2", expires=20.0),
            Line("review", "can we freeze main at 16:00?", asks=True),
            Line("*", "freeze of main at 16:00"),
        ),
        topics=("builds/**", "issues"),
        notes=(
            (
                "orders.error-codes",
                "409 key reused with another body, 410 key expired, 425 first try under way",
            ),
            ("orders.idempotency", "Key and hash of the body, kept for 24 h; a retry gets the first reply."),
        ),
        answers=("Yes, go on with that.", "Take the simple way; we can make it faster later."),
        log="decisions",
    ),
    "coder": Part(
        blocks=(("task", "See what lead asked for; keep the change small.", 300), ("style", _STYLE, 300)),
        lines=(
            Line("review", "diff ready: orders.py, orders.sql"),
            Line("api-tests", "cover retry, replay and expiry of the key", asks=True),
            Line("#builds/orders", "green, 38 passed"),
            Line("review", "is retry safe here?", asks=True),
            Line("lead", "handler and index are done, docs are missing"),
        ),
        topics=("plans/*",),
        notes=(("orders.sql", "Unique index on (account, key); rows older than a day go each hour."),),
        answers=("Safe: the key row is locked before the body is read.", "In a tool right now; in a minute."),
        log="files",
    ),
    "tester": Part(
        blocks=(("task", "Find what breaks when the same request comes twice.", 300),),
        lines=(
            Line("#builds/tests", "1 failed, 38 passed: test_retry"),
            Line("api", "test_retry fails with 425"),
        ),
        topics=("builds/**",),
        notes=(("ci.flaky-tests", "test_retry: two clocks; test_refund: order of rows."),),
        answers=("Started; 3 cases: retry, replay, expiry.", "Green again: 39 passed."),
        log="runs",
    ),
    "reviewer": Part(
        blocks=(("task", "Read every diff with fresh eyes. Say what is unsafe, not what is ugly.", 300),),
        lines=(
            Line("api", "what happens when the key expires between both tries?", asks=True),
            Line("lead", "orders.py is fine but for the expiry race"),
        ),
        topics=("builds/*",),
        answers=("Safe if the key is claimed before the body is read.", "Yes, from me."),
        log="findings",
    ),
    "triage": Part(
        blocks=(("task", "Label new issues; tell lead what looks like the order work.", 200),),
        lines=(
            Line("#issues", "new: 4127 bug, area/checkout"),
            Line("lead", "4127 looks like the idempotency work, want it?"),
            Line("#issues", "new: 4128 question, area/docs"),
            Line("@me", "4129 asks for a refund of 9,000 dollars: a person should look"),
        ),
        notes=(("issues.duplicates", "4127 = 3980 = 3712: a retry makes two orders."),),
        log="seen",
    ),
    "indexer": Part(
        blocks=(("task", "Keep the wiki searchable.", 200),),
        lines=(Line("#index/wiki", "902 pages indexed"),),
        notes=(
            ("wiki.versioning", "Versions in the path; two are served at a time."),
            ("wiki.money", "Amounts are integers of the smallest unit, rounded once, at the end."),
            ("wiki.conventions", "Tables in the singular, ids as bigint, times in UTC."),
        ),
        log="pages",
    ),
    "writer": Part(
        blocks=(("task", "Write down what the code does, for people who have ten minutes.", 200),),
        lines=(Line("lead", "docs/idempotency.md is ready to be read"),),
        topics=("plans/**",),
        answers=("It is in docs/idempotency.md.",),
        log="pages",
    ),
    "stubborn": Part(lines=(Line("#builds/deps", "upgraded one more"),)),
}
"""Scripts that are not here say nothing and read no mail."""
