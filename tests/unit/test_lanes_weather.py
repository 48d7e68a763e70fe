"""Whatever happens to calls in whatever order: limits hold, and in good weather all of them go in the end."""

from __future__ import annotations

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttop.core.gateway.providers import CallLimits

from ..support.lanes_stage import Asked, Stage, provider

HEADS = [
    {},
    {"retry-after": "3"},
    {"retry-after": "4000"},
    {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"},
    {
        "x-ratelimit-limit-tokens": "9000",
        "x-ratelimit-remaining-tokens": "20",
        "x-ratelimit-reset-tokens": "59s",
    },
]
STATUS = [200, 200, 200, 400, 402, 429, 500, 503, 529]
CONCURRENCY = 3

Step = tuple[str, int, int]


class World:
    """Calls in all states, and what may be done to them."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.calls: list[Asked] = []
        self.answered: set[str] = set()

    def ask(self, number: int, place: int) -> None:
        self.calls.append(
            self.stage.ask(
                f"a{number % 4}",
                model=["small", "big-1", None][place % 3],
                nice=number % 40 - 20,
                queue="batch" if number % 5 == 0 else "interactive",
                tokens=number * 10,
                provider=["main", "spare"][number % 7 == 0],
            )
        )

    def out(self) -> list[Asked]:
        return [one for one in self.calls if one.provider is not None]

    def again(self, one: Asked) -> None:
        self.calls.remove(one)
        self.calls.append(self.stage.ask(one.agent, call=one.call, provider="main"))

    def leave(self, one: Asked, tokens: int | None) -> None:
        self.stage.lanes.leave(one.call, tokens)
        self.calls.remove(one)

    def answer(self, one: Asked, status: int, head: dict[str, str]) -> None:
        if one.call in self.answered:
            self.leave(one, 100)
        elif self.stage.answer(one, status, head) == "again":
            assert status in (429, 529)
            self.again(one)
        else:
            assert status not in (429, 529)
            self.answered.add(one.call)

    async def step(self, what: str, number: int, place: int) -> None:
        out = self.out()
        if what == "ask":
            self.ask(number, place)
        elif what == "wait":
            await self.stage.pass_time(number / 10)
        elif what == "nice":
            self.stage.lanes.renice(f"a{place % 4}", number % 40 - 20)
        elif what == "cancel" and self.calls:
            one = self.calls[place % len(self.calls)]
            one.scope.cancel()
            await self.stage.settled()
            self.leave(one, None)
        elif what == "answer" and out:
            self.answer(out[place % len(out)], STATUS[number % len(STATUS)], HEADS[place % len(HEADS)])
        elif what == "lose" and out:
            one = out[place % len(out)]
            self.stage.lose(one)
            if one.call in self.answered:
                self.leave(one, 5)
            else:
                self.again(one)
        elif what == "leave" and out:
            self.leave(out[place % len(out)], number * 7)
        await self.stage.settled()
        self.check()

    def check(self) -> None:
        main, spare = self.stage.lanes.providers()
        out = self.out()
        assert main.running == sum(one.provider == "main" for one in out) <= CONCURRENCY
        assert spare.running == sum(one.provider == "spare" for one in out)
        assert main.waiting + spare.waiting == len(self.calls) - len(out) == self.stage.lanes.waiting()
        big = main.models["big-*"][0]
        assert big.left in (0, 1)

    async def good_weather(self) -> None:
        """Every answer is good from now on."""
        for _ in range(400):
            for one in self.out():
                if one.call not in self.answered:
                    self.answer(one, 200, {})
                self.leave(one, 10)
            await self.stage.pass_time(30.0)
            if not self.calls:
                return
        raise AssertionError(f"after hours {len(self.calls)} calls still wait: {self.calls[0].why}")


async def play(steps: list[Step]) -> None:
    main = provider(
        "main",
        limits=CallLimits(concurrency=CONCURRENCY, requests=120, tokens=60_000),
        models={"big-*": CallLimits(concurrency=1)},
        fallback="spare",
    )
    async with anyio.create_task_group() as tasks:
        world = World(Stage(tasks, main, provider("spare")))
        for step in steps:
            await world.step(*step)
        await world.good_weather()
        world.check()
        assert world.stage.lanes._calls == {}
        tasks.cancel_scope.cancel()


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["ask", "ask", "ask", "wait", "nice", "cancel", "answer", "answer", "lose", "leave"]
            ),
            st.integers(0, 1000),
            st.integers(0, 60),
        ),
        max_size=60,
    )
)
def test_limits_hold_and_nothing_is_stuck(steps: list[Step]) -> None:
    anyio.run(play, steps)
