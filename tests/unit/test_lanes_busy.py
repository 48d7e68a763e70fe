"""A provider that says "too much": one for all, and one that tries."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import anyio
import pytest

from agenttop.core.agents.states import Waiting
from agenttop.core.gateway.lanes import times
from agenttop.core.gateway.providers import CallLimits

from ..support.lanes_stage import Asked, Stage, provider

pytestmark = pytest.mark.anyio


class Fleet:
    """Agents whose calls all get the same answer after a while."""

    def __init__(self, stage: Stage, count: int, seconds: float = 0.1) -> None:
        self.stage = stage
        self.sent: list[float] = []
        self.seconds = seconds
        self.answer: tuple[int, dict[str, str]] = (200, {})
        self.through = 0
        self.asked = [stage.ask(f"a{number}") for number in range(count)]
        self._seen: list[Asked] = []

    async def run(self, seconds: float) -> None:
        end = self.stage.now + seconds
        while True:
            await self.stage.settled()
            self._send()
            if self.stage.now >= end - 1e-9:
                return
            await self.stage.pass_time(min(0.05, end - self.stage.now))

    def _send(self) -> None:
        for place, one in enumerate(self.asked):
            if one.provider is not None and not any(seen is one for seen in self._seen):
                self._seen.append(one)
                self.sent.append(self.stage.now)
                self.stage.after(self.seconds, lambda place=place: self._answered(place))  # type: ignore[misc]

    def _answered(self, place: int) -> None:
        one = self.asked[place]
        if self.stage.answer(one, *self.answer) == "again":
            self.asked[place] = self.stage.ask(one.agent, call=one.call)
        else:
            self.through += 1
            self.stage.lanes.leave(one.call, 1000)


async def test_a_fleet_of_fifty_sends_one_probe_each_time(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    fleet = Fleet(stage, 50)
    fleet.answer = (429, {"retry-after": "5"})
    await fleet.run(26.0)
    assert len(fleet.sent) == 6, fleet.sent
    assert all(
        5.0 <= after - before <= 5.3 for before, after in zip(fleet.sent, fleet.sent[1:], strict=False)
    )
    assert stage.lanes.waiting() == 50 or stage.lanes.providers()[0].running == 1
    assert all(one.whys and one.whys[-1][0] is Waiting.RATE_LIMIT for one in fleet.asked)
    fleet.answer = (200, {})
    await fleet.run(60.0)
    assert fleet.through == 50
    assert stage.lanes.waiting() == 0


async def test_fifty_answers_of_too_much_at_once_are_one(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    fleet = Fleet(stage, 1)
    await fleet.run(1.0)
    fleet.asked += [stage.ask(f"b{number}") for number in range(50)]
    fleet.answer = (429, {})
    await fleet.run(0.05)
    assert len(fleet.sent) == 51
    await fleet.run(0.5)
    # No retry-after: the first pause is about a second, not doubled fifty times.
    retry_at = stage.lanes.providers()[0].retry_at
    assert retry_at is not None
    assert retry_at - stage.clock.time() < 1.0
    await fleet.run(1.2)
    assert len(fleet.sent) == 52


async def test_without_a_retry_after_the_pauses_double_up_to_a_minute(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    fleet = Fleet(stage, 10, seconds=0.0)
    fleet.answer = (529, {})
    await fleet.run(400.0)
    pauses = [after - before for before, after in zip(fleet.sent, fleet.sent[1:], strict=False)]
    for pause, meant in zip(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60], strict=False):
        assert 0.8 * meant - 0.1 <= pause <= meant + 0.1
    assert len(pauses) >= 9


async def test_after_it_half_as_many_run_and_then_more(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    fleet = Fleet(stage, 1)
    await fleet.run(1.0)
    fleet.asked += [stage.ask(f"b{number}") for number in range(40)]
    fleet.answer = (429, {"retry-after": "2"})
    await fleet.run(0.2)
    assert len(fleet.sent) == 41
    fleet.answer = (200, {})
    fleet.seconds = 0.5
    await fleet.run(2.1)
    assert len(fleet.sent) == 42  # one tries
    await fleet.run(0.6)
    assert len(fleet.sent) <= 42 + 21
    assert len(fleet.sent) >= 42 + 15
    await fleet.run(10.0)
    assert fleet.through == 41
    # Nobody needs the window any more, so that after a while there is none.
    await fleet.run(70.0)
    fleet.asked += [stage.ask(f"c{number}") for number in range(100)]
    sent = len(fleet.sent)
    await fleet.run(0.1)
    assert len(fleet.sent) - sent == 100


async def test_the_call_that_was_turned_away_goes_first_among_its_agents(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider(limits=CallLimits(concurrency=1)))
    first, second = stage.ask("a"), stage.ask("a")
    await stage.settled()
    assert stage.answer(first, 429, {"retry-after": "1"}) == "again"
    first_again = stage.ask("a", call=first.call)
    await stage.pass_time(1.1)
    assert (first_again.provider, second.provider) == ("anthropic", None)


async def test_a_cold_lane_opens_after_two_seconds_without_an_answer(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    asked = [stage.ask(f"a{number}") for number in range(10)]
    await stage.pass_time(1.9)
    assert sum(one.provider is not None for one in asked) == 1
    await stage.pass_time(0.2)
    assert all(one.provider is not None for one in asked)
    assert not any(one.whys for one in asked)


async def test_a_probe_whose_client_left_is_followed_by_another(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    first, second = stage.ask("a"), stage.ask("b")
    await stage.settled()
    stage.lanes.leave(first.call, None)
    await stage.settled()
    assert second.provider == "anthropic"


@pytest.mark.parametrize("form", ["seconds", "date", "unified", "milliseconds"])
async def test_a_far_reset_keeps_the_lane_closed_until_then(tasks: anyio.abc.TaskGroup, form: str) -> None:
    stage = Stage(tasks, provider())
    reset = stage.clock.time() + 3600
    headers = {
        "seconds": {"retry-after": "3600"},
        "milliseconds": {"retry-after-ms": "3600000"},
        "date": {"retry-after": format_datetime(datetime.fromtimestamp(reset, UTC), usegmt=True)},
        "unified": {
            "anthropic-ratelimit-unified-status": "rejected",
            "anthropic-ratelimit-unified-reset": str(int(reset)),
        },
    }[form]
    first, other = stage.ask("a"), stage.ask("b")
    await stage.settled()
    assert stage.answer(first, 429, headers) == "again"
    again = stage.ask("a", call=first.call)
    await stage.settled()
    assert again.why == other.why == f"anthropic until {times.until(reset, stage.clock.time())}"
    info = stage.lanes.providers()[0]
    assert info.retry_at == pytest.approx(reset, abs=1.0)
    assert info.waiting == 2
    await stage.pass_time(3590)
    assert (again.provider, other.provider) == (None, None)
    assert len(other.whys) == 1
    await stage.pass_time(11)
    assert [again.provider, other.provider].count("anthropic") == 1
    tried = again if again.provider else other
    assert stage.answer(tried) == "pass"
    await stage.settled()
    assert again.provider == other.provider == "anthropic"


async def test_a_machine_that_slept_tries_when_the_wall_clock_says_so(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    first = stage.ask("a")
    await stage.settled()
    stage.answer(first, 429, {"retry-after": "18000"})
    again = stage.ask("a", call=first.call)
    await stage.pass_time(60)
    assert again.provider is None
    stage.clock.now += 20_000  # the monotonic clock stood still meanwhile
    await stage.pass_time(31)
    assert again.provider == "anthropic"


async def test_no_money_and_no_permission_are_for_the_client(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    for status in (400, 401, 402, 403, 404, 500, 503):
        asked = stage.ask()
        await stage.settled()
        assert stage.answer(asked, status, {"retry-after": "3600"}) == "pass"
        stage.lanes.leave(asked.call, 0)
    asked = stage.ask()
    await stage.settled()
    assert asked.provider == "anthropic"


def told(requests: tuple[int, int] = (50, 49), tokens: tuple[int, int] = (40_000, 40_000)) -> dict[str, str]:
    reset = "2026-11-21T14:06:30Z"  # in a few seconds, by the stage's clock
    return {
        "anthropic-ratelimit-requests-limit": str(requests[0]),
        "anthropic-ratelimit-requests-remaining": str(requests[1]),
        "anthropic-ratelimit-requests-reset": reset,
        "anthropic-ratelimit-tokens-limit": str(tokens[0]),
        "anthropic-ratelimit-tokens-remaining": str(tokens[1]),
        "anthropic-ratelimit-tokens-reset": reset,
    }


async def test_limits_are_learned_from_the_answers(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    first = stage.ask(tokens=10)
    await stage.settled()
    stage.answer(first, 200, told(requests=(60, 5)))
    stage.lanes.leave(first.call, 10)
    asked = [stage.ask(f"a{number}", tokens=10) for number in range(20)]
    await stage.settled()
    assert sum(one.provider is not None for one in asked) == 5
    assert asked[-1].why == "anthropic: its limit of 60 requests a minute"
    await stage.pass_time(3.01)
    assert sum(one.provider is not None for one in asked) == 8
    info = stage.lanes.providers()[0]
    assert {(limit.what, limit.limit, limit.source) for limit in info.models["m"]} == {
        ("requests", 60, "learned"),
        ("tokens", 40_000, "learned"),
    }
    assert stage.lanes.limit("anthropic") == 40_000


async def test_one_models_learned_limit_holds_no_other_up(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    big, small = stage.ask(model="big", tokens=10), stage.ask(model="small", tokens=10)
    await stage.settled()
    stage.answer(big, 200, told(requests=(50, 0)))
    await stage.settled()
    stage.answer(small, 200, told(requests=(50, 40)))
    waiting, going = stage.ask(model="big", tokens=10), stage.ask(model="small", tokens=10)
    await stage.settled()
    assert (waiting.provider, going.provider) == (None, "anthropic")
    # Turned away on a model that has used up its own limit: the other goes on.
    await stage.pass_time(1.3)
    assert waiting.provider == "anthropic"
    assert stage.answer(waiting, 429, {**told(requests=(50, 0)), "retry-after": "30"}) == "again"
    again, other = stage.ask(call=waiting.call, model="big"), stage.ask(model="small", tokens=10)
    await stage.pass_time(20)
    assert (again.provider, other.provider) == (None, "anthropic")
    await stage.pass_time(11)
    assert again.provider == "anthropic"


async def test_models_nobody_has_are_not_remembered(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    for number in range(200):
        asked = stage.ask(model=f"model-{number}", tokens=1)
        await stage.settled()
        stage.answer(asked, 404 if number % 2 else 200, told())
        stage.lanes.leave(asked.call, 0)
    assert len(stage.lanes.providers()[0].models) == 64


async def test_an_answer_late_from_before_opens_nothing(tasks: anyio.abc.TaskGroup) -> None:
    stage = Stage(tasks, provider())
    warm = stage.ask()
    await stage.settled()
    stage.answer(warm)
    slow, fast = stage.ask("a"), stage.ask("b")
    await stage.settled()
    assert stage.answer(fast, 429, {"retry-after": "30"}) == "again"
    again = stage.ask("b", call=fast.call)
    assert stage.answer(slow, 200) == "pass"
    await stage.pass_time(29)
    assert again.provider is None
    await stage.pass_time(2)
    assert again.provider == "anthropic"


async def test_a_retry_after_nobody_can_mean_is_not_believed(tasks: anyio.abc.TaskGroup) -> None:
    for value in ("-5", "nan", "inf", "1e9", "soon", "9" * 40, "\xff"):
        stage = Stage(tasks, provider())
        asked = stage.ask()
        await stage.settled()
        assert stage.answer(asked, 429, {"retry-after": value}) == "again"
        again = stage.ask(call=asked.call)
        await stage.pass_time(1.3)
        assert again.provider == "anthropic", value
        stage.lanes.leave(again.call, None)


def test_moments_are_as_exact_as_one_waits_for_them() -> None:
    now = 1_795_269_981.0
    assert len(times.until(now + 5, now)) == len("12:03:20")
    assert len(times.until(now + 3600, now)) == len("14:05")
    assert len(times.until(now + 5 * 86_400, now)) == len("Nov 22 14:05")
