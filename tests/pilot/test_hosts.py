"""Several hosts on the screen: a heading for each, rows sorted below it, and one that is away."""

from __future__ import annotations

import pytest

from agenttop.core.api import HostGauge, PauseRequest, Row
from agenttop.core.errors import AmbiguousAgent
from agenttop.tui.app import AgentTopApp
from agenttop.tui.commands import find

from ..support.sample import NOW, header, row
from .stage import StageClient, shows, stage, text, until

pytestmark = pytest.mark.anyio


def on(host: str, key: str, name: str, cost: float) -> Row:
    """A row as the merged client tells it."""
    return row(f"{host}/{key}", name, "executing")._replace(host=host, cost=cost)


ROWS = (
    on("box", "a1b2", "api", 1.0),
    on("box", "c3d4", "builder", 3.0),
    on("shed", "e5f6", "api", 9.0),
    on("shed", "a7b8", "tester", 2.0),
)
GAUGES = (HostGauge("box"), HostGauge("shed"), HostGauge("attic", NOW - 75, "No route to host", NOW + 8))


def client() -> StageClient:
    return StageClient(ROWS, header(ROWS)._replace(hosts=GAUGES))


def table(app: AgentTopApp) -> list[str]:
    """Headings and names, top down."""
    return [f"-{line.host}" if line.host else app.model.rows[line.id].name for line in app.model.lines]


async def test_each_host_is_a_group_sorted_within() -> None:
    async with stage(client()) as (app, pilot):
        shown = await shows(pilot, "─ box ─ 2 agents ─", "─ shed ─ 2 agents ─", "3 hosts")
        assert table(app) == ["-box", "builder", "api", "-shed", "api", "tester", "-attic"]
        assert "box/a1b2" not in shown  # the heading says it once
        assert "─ attic ─ away 1m, called again in 8s ─ No route to host ─" in shown
        await pilot.press("I")
        await until(pilot, lambda: table(app)[1:3] == ["api", "builder"])
        assert table(app) == ["-box", "api", "builder", "-shed", "tester", "api", "-attic"]


async def test_the_cursor_passes_headings_in_the_direction_it_goes() -> None:
    async with stage(client()) as (app, pilot):
        visited = []
        for key in ("home", "down", "down", "down", "down", "up", "up", "end", "home"):
            await pilot.press(key)
            visited.append(app.model.cursor)
        assert visited == [
            "box/c3d4", "box/a1b2", "shed/e5f6", "shed/a7b8", "shed/a7b8", "shed/e5f6", "box/a1b2",
            "shed/a7b8", "box/c3d4",
        ]  # fmt: skip
        # The heading of the first row stays on screen.
        assert "─ box ─" in text(app)


async def test_keys_act_on_the_cursor_s_host() -> None:
    one = client()
    async with stage(one, press=("down", "down", "p")) as (app, pilot):
        await until(pilot, lambda: bool(one.calls))
        name, request = one.calls[-1]
        assert name == "pause"
        assert isinstance(request, PauseRequest)
        assert request.refs == ["shed/e5f6"]
        assert find(app, "shed/api").id == "shed/e5f6"
        assert find(app, "tester").id == "shed/a7b8"
        assert find(app, "c3d").id == "box/c3d4"
        with pytest.raises(AmbiguousAgent, match="box/api or shed/api"):
            find(app, "api")


@pytest.mark.parametrize("size", [(80, 24), (120, 34)])
async def test_a_host_gone_silent_keeps_its_rows_as_last_seen(size: tuple[int, int]) -> None:
    one = client()
    async with stage(one, size) as (app, pilot):
        await shows(pilot, "─ shed ─ 2 agents")
        gone = tuple(found._replace(stale=NOW - 38) for found in ROWS if found.host == "shed")
        gauges = (GAUGES[0], HostGauge("shed", NOW - 38, "Nothing came over it for 8 s"), GAUGES[2])
        sums = header(ROWS)._replace(hosts=gauges)
        one.push(*gone, sums=sums)
        shown = await shows(pilot, "stale 38s", "─ shed ─ away 38s, not called again ─", "STALE")
        assert shown.count("stale 38s") == 2
        assert not app.lost
        assert "─ box ─ 2 agents" in shown
        one.push(*ROWS[2:], sums=header(ROWS)._replace(hosts=GAUGES))
        await until(pilot, lambda: "stale" not in text(app))


async def test_an_agent_is_launched_beside_the_cursor() -> None:
    one = client()
    async with stage(one, press=("end", "n")) as (_, pilot):
        await shows(pilot, "New agent on shed")


async def test_without_hosts_there_is_no_heading() -> None:
    async with stage() as (app, _):
        assert not [line for line in app.model.lines if line.host]
