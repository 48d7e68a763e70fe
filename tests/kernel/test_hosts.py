"""Several hosts as one kernel: real kernels, bridges and lines, and what becomes of them when one is cut."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import orjson
import pytest
from anyio.streams.text import TextReceiveStream

from agenttop.core import lock, quick
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import (
    Delta,
    EventInfo,
    PauseRequest,
    Row,
    RunRequest,
    Snapshot,
    StopRequest,
    Target,
    UsageRequest,
)
from agenttop.core.backend import MARKER, state_name
from agenttop.core.errors import AmbiguousAgent, Forbidden, KernelUnreachable, NoSuchAgent, UsageError
from agenttop.core.hosts import host as host_module
from agenttop.core.hosts import streams
from agenttop.core.hosts.address import Reach, parse
from agenttop.core.hosts.client import HostsClient
from agenttop.core.hosts.host import Host, HostAway
from agenttop.core.paths import Paths
from agenttop.core.remote import SocketClient

from ..support.lines import SHELL_FOR_SSH, agenttop, cut, hosts
from ..support.transcripts import START, Corpus
from .conftest import until

pytestmark = pytest.mark.anyio

FOREVER = ["/bin/sh", "-c", "while :; do sleep 0.1; done"]


class Machine:
    """A folder that stands for another machine: its own state, kernel and agents."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.paths = Paths.from_environ({"AGENTTOP_HOME": str(home)})

    def kernel(self) -> int:
        """The pid of its kernel."""
        return int(quick.ask(self.paths.socket, "/v1/status")["pid"])

    async def run(self, name: str) -> str:
        """Start an agent as somebody on that machine would; its id among several hosts."""
        async with SocketClient(self.paths.socket) as client:
            return f"{self.home.name}/{(await client.run(agent(name))).id}"

    async def kill(self, name: str) -> None:
        """End an agent as somebody on that machine would."""
        async with SocketClient(self.paths.socket) as client:
            await client.stop(StopRequest(refs=[name], how="kill"))

    async def events(self) -> int:
        """How many rows its journal has."""
        async with SocketClient(self.paths.socket) as client:
            return len([event async for event in client.events()])

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Nobody gets through to it."""
        file = cut(self.home)
        file.touch()
        try:
            yield
        finally:
            file.unlink()

    def leave(self) -> None:
        """End its agents and its kernel."""
        try:
            quick.ask(self.paths.socket, "/v1/stop", {"all": True, "how": "kill"})
            quick.ask(self.paths.socket, "/v1/shutdown", {"restart": False})
        except KernelUnreachable:
            return


@pytest.fixture
async def machines(home: Path, tmp_path: Path) -> AsyncIterator[dict[str, Machine]]:
    """Two of them; nothing of them is left."""
    found = {name: Machine(tmp_path / name) for name in ("box", "shed")}
    yield found
    for machine in found.values():
        await anyio.to_thread.run_sync(machine.leave)

        async def gone(path: Path = machine.paths.lock) -> bool:
            return lock.holder_of(path) is None

        await until(gone, "the kernel having left", 30)
        shutil.rmtree(machine.home, ignore_errors=True)


@asynccontextmanager
async def client_of(machines: dict[str, Machine], *names: str) -> AsyncIterator[HostsClient]:
    homes = {name: machines[name].home for name in names or machines}
    async with HostsClient(hosts(Paths.from_environ(), homes)) as client:
        yield client


def agent(name: str, host: str = "", command: list[str] = FOREVER, **spec: Any) -> RunRequest:
    return RunRequest(spec=AgentSpec(name=name, command=command, cwd="/tmp", **spec), host=host)


def ssh_of(client: HostsClient, label: str) -> int:
    """The process that is the line to a host."""
    pid = next(host for host in client.hosts if host.label == label).line_pid
    assert pid is not None
    return pid


def sever(client: HostsClient, label: str) -> None:
    """Cut the line: its process, which leads a session, and with it the bridge at its other end."""
    os.killpg(ssh_of(client, label), signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Everything below a process."""
    try:
        below = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [*below, *(further for child in below for further in descendants(child))]


class Table:
    """What a screen would show."""

    def __init__(self, client: HostsClient) -> None:
        self.rows: dict[str, Row] = {}
        self.gauges: dict[str, float | None] = {}
        self.snapshots = 0
        self._client = client
        self._news = anyio.Event()

    async def follow(self) -> None:
        changes = cast("Any", self._client.watch())
        async with aclosing(changes) as stream:
            async for change in stream:
                self._apply(change)

    def _apply(self, change: Snapshot | Delta) -> None:
        if isinstance(change, Snapshot):
            self.snapshots += 1
            self.rows.clear()
        else:
            for key in change.gone:
                assert self.rows.pop(key, None) is not None, "gone, but never shown"
        self.rows |= {row.id: row for row in change.rows}
        if change.header is not None:
            self.gauges = {gauge.name: gauge.away for gauge in change.header.hosts}
        self._news.set()

    async def shows(self, condition: Callable[[Table], bool], what: str) -> None:
        with anyio.move_on_after(40):
            while not condition(self):
                self._news = anyio.Event()
                await self._news.wait()
            return
        pytest.fail(f"{what}; shown are {self.rows} and {self.gauges}")


async def test_verbs_go_where_their_references_say(machines: dict[str, Machine]) -> None:
    async with client_of(machines) as client:
        here = await client.run(agent("api", "box"))
        there = await client.run(agent("api", "shed"))
        lone = await client.run(agent("lone", "shed"))
        assert (here.id.split("/")[0], there.id.split("/")[0]) == ("box", "shed")
        listed = {info.id for info in await client.agents() if not info.observed}
        assert listed == {here.id, there.id, lone.id}
        outcomes = await client.pause(PauseRequest(refs=["shed/api", "nobody", here.id, "lone", "api"]))
        assert [outcome.name for outcome in outcomes] == ["shed/api", None, "box/api", "shed/lone", None]
        assert [outcome.exit_code for outcome in outcomes] == [0, 3, 0, 0, 3]
        assert (await client.inspect("lone")).info.id == lone.id
        with pytest.raises(AmbiguousAgent, match="box/api or shed/api"):
            await client.inspect("api")
        with pytest.raises(NoSuchAgent):
            await client.inspect("attic/api")
        with pytest.raises(UsageError, match="box, shed"):
            await client.run(agent("other"))
        plan = await client.kill_plan(Target(all=True))
        assert {here.id, there.id, lone.id} <= {info.id for info in plan.agents} == set(plan.processes)
        done = await client.stop(StopRequest(refs=[there.id, "box/api"], how="kill"))
        assert [outcome.id for outcome in done] == [there.id, here.id]
        assert all(outcome.proof and not outcome.proof["survivors"] for outcome in done)
        assert await client.usage(UsageRequest(by=["agent"])) == []


async def test_children_are_started_beside_their_parent(machines: dict[str, Machine]) -> None:
    async with client_of(machines) as client:
        above = await client.run(agent("above", "shed"))
        below = await client.run(agent("below", parent=above.id))
        assert below.parent == above.id
        assert below.id.startswith("shed/")
        outcomes = await client.stop(StopRequest(refs=[above.id], how="kill", children=True))
        assert {outcome.id for outcome in outcomes} == {above.id, below.id}


async def test_an_agent_gets_the_far_side_s_environment(
    machines: dict[str, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client_of(machines, "box") as client:
        monkeypatch.setenv("ONLY_HERE", "1")
        show = ["/bin/sh", "-c", "echo ${ONLY_HERE-no} $PWD"]
        request = RunRequest(spec=AgentSpec(name="env", command=show), environ={"ONLY_HERE": "1"})
        await client.run(request)
        await client.wait(["env"])
        said = b"".join([chunk.data async for chunk in client.output("env")])
        assert said.decode().split() == ["no", str(Path.home())]


async def test_a_cut_line_shows_stale_rows_and_loses_nothing(machines: dict[str, Machine]) -> None:
    async with client_of(machines) as client, anyio.create_task_group() as tasks:
        box = await client.run(agent("here", "box"))
        shed = await client.run(agent("there", "shed"))
        table = Table(client)
        tasks.start_soon(table.follow)
        await table.shows(lambda t: {box.id, shed.id} <= t.rows.keys(), "both agents")
        far = await machines["shed"].run("before")
        await table.shows(lambda t: far in t.rows, "an agent that somebody else started there")
        with machines["shed"].cut_off():
            sever(client, "shed")
            await table.shows(lambda t: t.gauges.get("shed") is not None, "shed being away")
            assert all((row.stale is not None) == (row.host == "shed") for row in table.rows.values())
            with pytest.raises(HostAway, match="shed is away"):
                await client.inspect("shed/there")
            (refused,) = await client.pause(PauseRequest(refs=["shed/there"]))
            assert refused.error is not None
            assert refused.error["code"] == "host_away"
            (done,) = await client.pause(PauseRequest(refs=["box/here"]))
            assert done.error is None
            await table.shows(lambda t: t.rows[box.id].pause == "freeze", "the other host going on")
            fresh = await machines["shed"].run("meanwhile")
            await machines["shed"].kill("before")
        client.try_now()
        await table.shows(lambda t: t.gauges.get("shed") is None, "shed being back")
        await table.shows(
            lambda t: fresh in t.rows and t.rows[far].state == "terminated", "what happened there"
        )
        assert not [row for row in table.rows.values() if row.stale is not None]
        assert table.snapshots == 1
        tasks.cancel_scope.cancel()


async def test_events_and_output_go_on_where_they_were(machines: dict[str, Machine], tmp_path: Path) -> None:
    end = tmp_path / "end"
    ticks = f"n=0; while [ ! -e {end} ]; do n=$((n+1)); echo line $n; sleep 0.01; done"
    async with client_of(machines) as client:
        made = await client.run(agent("ticks", "box", ["/bin/sh", "-c", ticks]))
        await client.run(agent("other", "shed"))
        seen: list[tuple[str, int]] = []
        printed = bytearray()
        enough = anyio.Event()

        def note(event: EventInfo) -> None:
            seen.append((event.name or "", event.seq))

        async def follow_events() -> None:
            async with aclosing(cast("Any", client.events(follow=True))) as events:
                async for event in events:
                    note(event)

        async def follow_output() -> None:
            async with aclosing(cast("Any", client.output(made.id, follow=True))) as chunks:
                async for chunk in chunks:
                    printed.extend(chunk.data)
                    enough.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow_events)
            async with anyio.create_task_group() as outputs:
                outputs.start_soon(follow_output)
                cut_lines: list[int | None] = [None]

                async def another_line() -> bool:
                    return client.hosts[0].line_pid not in cut_lines

                for _ in range(3):  # each cut falls somewhere else
                    await until(another_line, "the line coming back", 40)
                    enough = anyio.Event()
                    await enough.wait()
                    cut_lines.append(ssh_of(client, "box"))
                    sever(client, "box")
                end.touch()
            kept = machines["box"].paths.run_dir(made.id.removeprefix("box/"), 1) / "out"
            assert printed == kept.read_bytes()
            (ended,) = await client.wait([made.id])
            assert ended.exit_code == 0

            async def told() -> bool:
                return (
                    len([name for name, _ in seen if name.startswith("box")])
                    == await machines["box"].events()
                )

            await until(told, "every event of box, once", 30)
            tasks.cancel_scope.cancel()
        order = [seq for _, seq in seen]
        assert order == sorted(set(order))
        # Any of the numbers is a place to go on from, in both journals.
        half = order[len(order) // 2]
        rest = [event async for event in client.events(since=half)]
        assert len(rest) == len(order) - len(order) // 2 - 1


async def test_a_kernel_killed_there_is_started_again_over_the_same_line(
    machines: dict[str, Machine],
) -> None:
    async with client_of(machines, "box") as client, anyio.create_task_group() as tasks:
        made = await client.run(agent("survivor"))
        table = Table(client)
        tasks.start_soon(table.follow)
        await table.shows(lambda t: made.id in t.rows, "the agent")
        line = ssh_of(client, "box")
        before = machines["box"].kernel()
        os.kill(before, signal.SIGKILL)

        async def another() -> bool:
            try:
                return (await client.status()).pid != before
            except KernelUnreachable:
                return False

        await until(another, "another kernel", 40)
        await table.shows(lambda t: t.gauges == {"box": None} and t.rows[made.id].stale is None, "the host")
        assert ssh_of(client, "box") == line
        assert (await client.inspect("survivor")).info.ended_at is None
        tasks.cancel_scope.cancel()


async def test_a_bridge_is_its_own_process_s_and_no_more(machines: dict[str, Machine]) -> None:
    """Whoever ssh let in is the owner; a bridge inside an agent's tree has that agent's rights."""
    async with client_of(machines, "box") as client:
        made = await client.run(agent("insider"))
        mark = f"{state_name(machines['box'].paths.state)}/{made.id}.1"
        way = Reach(SHELL_FOR_SSH, {"box": f"{MARKER}={mark} {agenttop(machines['box'].home, check=False)}"})
        async with HostsClient([Host(parse(["box"])[0], Paths.from_environ(), way)]) as insider:
            with pytest.raises(Forbidden):
                await insider.pause(PauseRequest(all=True))
            assert (await insider.inspect("insider")).info.id == made.id
        (done,) = await client.pause(PauseRequest(refs=["insider"]))
        assert done.error is None


async def test_leaving_ends_the_lines_and_their_bridges(machines: dict[str, Machine]) -> None:
    async with client_of(machines) as client:
        lines = [ssh_of(client, label) for label in machines]
        below = [child for line in lines for child in descendants(line)]
        assert below

    async def gone() -> bool:
        return not [pid for pid in [*lines, *below] if Path(f"/proc/{pid}").exists()]

    await until(gone, "the end of the lines and bridges", 30)


async def test_a_host_without_agenttop_says_so_and_is_not_called_again(home: Path, tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    way = Reach(("/bin/sh", "-c", f"PATH={tmp_path}; HOME={tmp_path}; {SHELL_FOR_SSH[2]}", "ssh"))
    async with HostsClient([Host(parse(["bare"])[0], Paths.from_environ(), way)]) as client:
        absence = client.hosts[0].absence
        assert absence is not None
        assert "there is no agenttop on bare" in str(absence.error)
        assert absence.next_try is None
        with pytest.raises(HostAway, match="There is no agenttop"):
            await client.agents()


async def test_a_line_that_was_good_is_called_again_at_once_however_often_it_was_lost(
    machines: dict[str, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_module, "STEADY", 0.0)
    async with client_of(machines, "box") as client:
        (host,) = client.hosts
        for _ in range(3):
            attempts: list[int] = []

            def note(seen: list[int] = attempts) -> None:
                if host.absence is not None:
                    seen.append(host.absence.attempt)

            unlisten = host.listen(note)
            life = host.life
            sever(client, "box")
            with anyio.fail_after(60):
                await host.up(after=life)
            unlisten()
            assert attempts == [1]


async def test_followed_events_may_be_left_while_more_of_them_wait(
    machines: dict[str, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "AHEAD", 1)
    async with client_of(machines) as client:
        for name in machines:
            await client.run(agent(f"on-{name}", name))
        async with aclosing(cast("Any", client.events(follow=True))) as rows:
            await anext(rows)
            # Now both hosts have more to tell than may wait.
            await anyio.wait_all_tasks_blocked()
        assert len(await client.agents()) == 2


def reached(machines: dict[str, Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command line reach them."""
    paths = Paths.from_environ()
    paths.config_file.parent.mkdir(parents=True, exist_ok=True)
    tables = [
        f'[remote.{name}]\ncommand = "{agenttop(one.home, check=False)}"' for name, one in machines.items()
    ]
    paths.config_file.write_text("\n".join(tables))
    monkeypatch.setenv("AGENTTOP_SSH", shlex.join(SHELL_FOR_SSH))


async def test_the_newest_events_come_before_those_that_follow(
    machines: dict[str, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    reached(machines, monkeypatch)
    async with client_of(machines) as client:
        for name in machines:
            await client.run(agent(f"on-{name}", name))
        words = [*agenttop().split(), "--host", "box", "--host", "shed", "events", "-f", "--json"]
        async with await anyio.open_process(words) as process:
            assert process.stdout is not None
            lines = TextReceiveStream(process.stdout)
            said = ""
            with anyio.fail_after(60):
                while not all(f"on-{name}" in said for name in machines):
                    said += await lines.receive()
                await client.run(agent("late", "box"))
                while "box/late" not in said or not said.endswith("\n"):
                    said += await lines.receive()
            process.terminate()
    seen = [orjson.loads(one) for one in said.splitlines()]
    started = [one["name"] for one in seen if one["kind"] == "AgentCreated"]
    assert sorted(started) == ["box/late", "box/on-box", "shed/on-shed"]


async def test_a_command_about_a_machine_is_never_about_another(
    machines: dict[str, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    reached(machines, monkeypatch)
    for options in (["--host", "box"], ["--ascii", "--host", "box"], ["--theme", "--host", "--host=box"]):
        words = [*agenttop().split(), *options, "kernel", "status", "--json"]
        async with client_of(machines, "box"):
            done = await anyio.run_process(words, check=False, stderr=None)
        assert orjson.loads(done.stdout)["state_dir"] == str(machines["box"].paths.state)


async def test_transcripts_there_are_not_looked_for_in_places_of_here(
    machines: dict[str, Machine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "nothing"))
    reached(machines, monkeypatch)
    mine = Corpus(tmp_path / "mine", 1, body=40, tools=60)
    mine.claude_session("shop", 3, START, hard=False)
    words = [*agenttop().split(), "--host", "box", "usage", "--json"]
    async with client_of(machines, "box"):  # its kernel runs from now on
        monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "mine" / ".claude"))
        done = await anyio.run_process(words, check=False, stderr=None)
    assert orjson.loads(done.stdout)["total"]["calls"] == 0
