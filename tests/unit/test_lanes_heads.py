from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.gateway.lanes import heads
from agenttop.core.gateway.lanes.bucket import Bucket, Learned

WALL = 1_795_269_981.0


def raw(**headers: str) -> dict[bytes, bytes]:
    return {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}


def test_anthropics_limits_are_read() -> None:
    head = raw(
        anthropic_ratelimit_requests_limit="50",
        anthropic_ratelimit_requests_remaining="49",
        anthropic_ratelimit_requests_reset="2026-11-21T14:06:22Z",
        anthropic_ratelimit_input_tokens_limit="40000",
        anthropic_ratelimit_input_tokens_remaining="39000",
        anthropic_ratelimit_input_tokens_reset="2026-11-21T14:06:23Z",
        anthropic_ratelimit_output_tokens_limit="8000",
        anthropic_ratelimit_output_tokens_remaining="8000",
        anthropic_ratelimit_output_tokens_reset="2026-11-21T14:06:21Z",
    )
    assert heads.limits(head, WALL) == [
        ("requests", 50.0, 49.0, 1.0),
        ("input_tokens", 40_000.0, 39_000.0, 2.0),
        ("output_tokens", 8000.0, 8000.0, 0.0),
    ]


def test_openais_limits_are_read() -> None:
    head = raw(
        x_ratelimit_limit_requests="5000",
        x_ratelimit_remaining_requests="4999",
        x_ratelimit_reset_requests="12ms",
        x_ratelimit_limit_tokens="160000",
        x_ratelimit_remaining_tokens="0",
        x_ratelimit_reset_tokens="6m0s",
    )
    assert heads.limits(head, WALL) == [
        ("requests", 5000.0, 4999.0, 0.012),
        ("tokens", 160_000.0, 0.0, 360.0),
    ]
    assert heads.used_up(head, WALL)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0),
        ("0.5", 0.5),
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("1d", 86_400.0),
        ("120ms", 0.12),
        (str(int(WALL) + 90), 90.0),
        ("2026-11-21T14:07:21+00:00", 60.0),
        ("Sat, 21 Nov 2026 14:07:21 GMT", 60.0),
        ("2001-01-01T00:00:00Z", 0.0),
        ("99999999", heads.LONGEST),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("nan", None),
        ("1e5", None),
    ],
)
def test_times_come_in_many_forms(text: str, seconds: float | None) -> None:
    assert heads.seconds(text.encode(), {}, WALL) == (pytest.approx(seconds) if seconds is not None else None)


def test_a_date_is_taken_by_the_providers_own_clock() -> None:
    theirs = WALL + 7200
    head = {b"date": format_datetime(datetime.fromtimestamp(theirs, UTC), usegmt=True).encode()}
    until = format_datetime(datetime.fromtimestamp(theirs + 30, UTC), usegmt=True).encode()
    assert heads.seconds(until, head, WALL) == pytest.approx(30.0)


def test_a_used_up_window_says_when_without_a_retry_after() -> None:
    head = raw(
        anthropic_ratelimit_requests_limit="50",
        anthropic_ratelimit_requests_remaining="0",
        anthropic_ratelimit_requests_reset="2026-11-21T14:06:51Z",
    )
    assert heads.retry_after(head, WALL) == pytest.approx(30.0)
    assert heads.retry_after({**head, b"retry-after": b"7"}, WALL) == 7.0
    assert heads.retry_after({}, WALL) is None


@given(
    st.dictionaries(
        st.sampled_from(
            [name for group in heads._NAMES for name in group[1:]]
            + [b"retry-after", b"retry-after-ms", b"date", b"anthropic-ratelimit-unified-reset"]
        ),
        st.one_of(st.binary(max_size=80), st.from_regex(rb"\A[0-9TZ:., smhdGMT+-]{1,30}\Z")),
    ),
    st.booleans(),
)
def test_no_head_can_do_harm(head: dict[bytes, bytes], rejected: bool) -> None:
    if rejected:
        head = {**head, b"anthropic-ratelimit-unified-status": b"rejected"}
    for told in heads.limits(head, WALL):
        assert 0 <= told.left <= told.limit
        assert told.limit > 0
        assert told.reset is None or 0 <= told.reset <= heads.LONGEST
        learned = Learned(told.limit, 0.0)
        learned.observe(told.limit, told.left, told.reset, 0, 0.0)
        assert 0 <= learned.wait(0.0) <= 2 * heads.LONGEST
    wait = heads.retry_after(head, WALL)
    assert wait is None or 0 <= wait <= heads.LONGEST


@given(
    st.floats(0.1, 1e6),
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1e5)), max_size=50),
)
def test_a_bucket_gives_no_more_than_its_rate_and_a_burst(
    limit: float, steps: list[tuple[float, float]]
) -> None:
    bucket = Bucket.a_minute(limit, 0.0)
    now = given_out = largest = 0.0
    for pause, amount in steps:
        now += pause
        if bucket.wait(now) == 0.0:
            bucket.take(amount, now)
            given_out += amount
            largest = max(largest, amount)
    assert given_out <= bucket.capacity + now * limit / 60 + largest + 1e-3


def test_a_limit_of_a_day_is_not_taken_for_one_of_a_minute() -> None:
    learned = Learned(14_400.0, 0.0)
    learned.observe(14_400.0, 0.0, 86_400.0, 0, 0.0)
    assert learned.limit == pytest.approx(10.0)
    assert learned.wait(0.0) == pytest.approx(6.0)


@pytest.mark.parametrize("rejected", [False, True])
def test_no_wait_is_believed_beyond_the_longest_window(rejected: bool) -> None:
    head = {b"retry-after-ms": b"999999999999999"}
    if rejected:
        head[b"anthropic-ratelimit-unified-status"] = b"rejected"
    assert heads.retry_after(head, WALL) == heads.LONGEST
