"""Agents that somebody else started: found, shown, and acted on, with real processes."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import cast

import pytest

from agenttop.core.agents.states import Pause
from agenttop.core.api import (
    AgentInfo,
    BudgetRequest,
    Delta,
    NiceRequest,
    PauseRequest,
    RemoveRequest,
    SignalRequest,
    Snapshot,
    StopRequest,
    Target,
)
from agenttop.core.budget.budget import Budget
from agenttop.core.client import KernelClient
from agenttop.core.errors import AgentTopError, Conflict, NoSuchAgent
from agenttop.core.journal import events as ev
from agenttop.core.kernel import Kernel
from agenttop.core.observe import acts
from agenttop.core.observe.proc import Stat, everything
from agenttop.core.paths import Paths

from ..support.clis import Clis, line, now, reply, say, start_time, states
from .conftest import KernelMaker, sh, until, until_state

pytestmark = pytest.mark.anyio

#: A tree of three: the CLI, and two tools of it.
TREE = "sleep 600 & sleep 600 & READY; wait"


@pytest.fixture(autouse=True)
def observing(paths: Paths) -> None:
    """The tests of this file do ask for what else runs on this machine."""
    paths.config.mkdir(parents=True, exist_ok=True)
    paths.config_file.write_text("[observe]\nenabled = true\n")


@pytest.fixture
def clis(tmp_path: Path) -> Iterator[Clis]:
    made = Clis(tmp_path / "person")
    yield made
    made.close()


async def find(client: KernelClient, pid: int) -> AgentInfo | None:
    """The observed agent whose topmost process this is, among all that other tests started."""
    return next((info for info in await client.agents() if info.observed and info.pid == pid), None)


async def found(client: KernelClient, pid: int) -> AgentInfo:
    info = await find(client, pid)
    assert info is not None
    return info


async def test_an_agent_of_somebody_else_is_listed_with_its_whole_tree(
    client: KernelClient, clis: Clis
) -> None:
    pid = clis.start("claude", TREE)
    say(clis.session(pid, "s1"), line("user", "fix it", now()), reply(1, now()))
    info = await found(client, pid)
    assert (info.name, info.backend, info.template, info.observed) == (
        f"claude@{pid}",
        "observed",
        "claude",
        True,
    )
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert sorted(info.pids) == sorted([pid, *map(int, children)])
    assert len(info.pids) == 3
    assert info.tokens.model_dump() == {"input": 1000, "cache_read": 5000, "cache_write": 200, "output": 42}
    assert (info.model, info.context_tokens, info.state) == ("claude-opus-4-5", 6242, "idle")
    assert info.cost_usd is not None
    assert info.cost_usd > 0
    for ref in (info.id, info.id[:6], info.name):
        detail = await client.inspect(ref)
        assert (detail.info.id, detail.spec) == (info.id, None)
    assert detail.observed is not None
    assert (detail.observed.session, detail.observed.session_exact, detail.observed.prompt) == (
        "s1",
        True,
        "fix it",
    )
    assert sorted(process.pid for process in detail.processes) == sorted(info.pids)


async def test_it_is_gone_when_it_has_ended_and_not_listed_where_a_person_does_not_want_that(
    kernels: KernelMaker, paths: Paths, clis: Clis
) -> None:
    pid = clis.start("claude", "READY; read line")
    async with kernels() as kernel:
        info = await found(kernel.client(), pid)
        os.kill(pid, signal.SIGKILL)

        async def gone() -> bool:
            return await find(kernel.client(), pid) is None

        await until(gone)  # although nobody has asked yet how it ended: it is a zombie
        clis.reap(pid)
        with pytest.raises(NoSuchAgent):
            await kernel.client().inspect(info.id)
    other = clis.start("claude", "READY; read line")
    paths.config_file.write_text("[observe]\nenabled = false\n")
    async with kernels() as kernel:
        assert await find(kernel.client(), other) is None
    paths.config_file.write_text('[observe]\nenabled = true\nclis = ["codex"]\n')
    async with kernels() as kernel:
        assert await find(kernel.client(), other) is None


async def test_freeze_stops_every_process_and_resume_lets_all_go_on(client: KernelClient, clis: Clis) -> None:
    pid = clis.start("claude", TREE)
    info = await found(client, pid)
    (outcome,) = await client.pause(PauseRequest(refs=[info.name]))
    assert (outcome.error, outcome.done) == (None, "frozen 3/3")
    assert outcome.proof is not None
    assert (outcome.proof["frozen"], outcome.proof["mechanism"]) == (3, "signal")
    assert states(*info.pids) == "TTT"
    frozen = await found(client, pid)
    assert (frozen.state, frozen.reason, frozen.frozen) == ("paused", "freeze", [3, 3])
    (outcome,) = await client.resume(Target(refs=[info.id]))
    assert (outcome.error, outcome.done) == (None, "resumed")
    assert "T" not in states(*info.pids)
    assert (await found(client, pid)).frozen is None
    texts = [event.text for event in await client.last_events(9, [info.id])]
    assert [text.partition(" by ")[0] for text in texts] == [
        "observed: freeze asked for",
        "observed: frozen 3/3, signal",
        "observed: resumed",
    ]
    assert {event.name for event in await client.last_events(9, [info.id])} == {info.name}


async def test_kill_ends_a_tree_that_forks_all_the_time_and_proves_it(
    client: KernelClient, clis: Clis
) -> None:
    pid = clis.start("claude", "READY; while :; do sleep 600 & sleep 0.003; done")
    info = await found(client, pid)
    plan = await client.kill_plan(Target(refs=[info.id]))
    assert [agent.id for agent in plan.agents] == [info.id]
    assert plan.processes[info.id][0].pid == pid
    (outcome,) = await client.stop(StopRequest(refs=[info.id], how="kill"))
    assert outcome.error is None
    assert outcome.proof is not None
    assert outcome.proof["survivors"] == []
    assert outcome.proof["processes"] == outcome.proof["ended"] > 1
    assert outcome.proof["steps"][-1]["ok"]
    clis.reap(pid)
    assert [process for process in everything().values() if process.session == pid] == []
    assert await find(client, pid) is None


async def test_stop_gives_a_grace_and_thaws_what_is_frozen(client: KernelClient, clis: Clis) -> None:
    pid = clis.start("claude", "trap 'exit 0' TERM; READY; read line")
    info = await found(client, pid)
    await client.pause(PauseRequest(refs=[info.id]))
    (outcome,) = await client.stop(StopRequest(refs=[info.id], how="stop", grace=30))
    assert outcome.proof is not None
    assert [step["what"] for step in outcome.proof["steps"]] == [
        "TERM sent to 1 process",
        "thawed 1 process",
        "1 ended by themselves",
        "no process of the tree is left",
    ]


async def test_what_left_for_a_session_of_its_own_is_not_killed(client: KernelClient, clis: Clis) -> None:
    server = clis.home / "server"
    script = f"setsid sh -c 'sleep 600 & echo $! > {server}.new; mv {server}.new {server}'"
    pid = clis.start("claude", f"{script}; READY; read x")

    async def written() -> bool:
        return server.exists()

    await until(written)
    left = int(server.read_text())
    try:
        info = await found(client, pid)
        assert left not in info.pids
        await client.stop(StopRequest(refs=[info.id], how="kill"))
        assert states(left) == "S"
    finally:
        os.kill(left, signal.SIGKILL)


async def test_a_frozen_one_is_remembered_by_the_next_kernel(kernels: KernelMaker, clis: Clis) -> None:
    pid = clis.start("claude", TREE)
    async with kernels() as kernel:
        assert kernel.idle
        info = await found(kernel.client(), pid)
        await kernel.client().pause(PauseRequest(refs=[info.id]))
        assert not kernel.idle
    async with kernels() as kernel:
        assert not kernel.idle
        again = await found(kernel.client(), pid)
        assert (again.id, again.name, again.detail) == (info.id, info.name, "frozen 3/3")
        assert states(*info.pids) == "TTT"
        (outcome,) = await kernel.client().resume(Target(refs=[info.id]))
        assert outcome.done == "resumed"
        assert kernel.idle
        assert "T" not in states(*info.pids)


async def test_a_frozen_one_can_be_let_go_although_nobody_looks_for_such_any_more(
    kernels: KernelMaker, paths: Paths, clis: Clis
) -> None:
    pid = clis.start("claude", TREE)
    async with kernels() as kernel:
        info = await found(kernel.client(), pid)
        await kernel.client().pause(PauseRequest(refs=[info.id]))
    paths.config_file.write_text("[observe]\nenabled = false\n")
    async with kernels() as kernel:
        assert not kernel.idle
        (outcome,) = await kernel.client().resume(Target(refs=[info.name]))
        assert outcome.done == "resumed"
        assert kernel.idle
    assert "T" not in states(*info.pids)


async def test_a_freeze_that_a_killed_kernel_did_not_finish_is_finished(
    kernels: KernelMaker, clis: Clis
) -> None:
    pid = clis.start("claude", TREE)
    async with kernels() as kernel:
        info = await found(kernel.client(), pid)
        asked = ev.ObservedPaused(
            agent=info.id,
            name=info.name,
            by="ana",
            observer="claude",
            boot_id=kernel.boot,
            processes=[(one, start_time(one)) for one in info.pids],
        )
        await kernel.books.commit(asked)  # and then it was killed
    async with kernels() as kernel:

        async def frozen() -> bool:
            return kernel.books.committed.observed[info.id].total == 3

        await until(frozen)
        assert states(*info.pids) == "TTT"
        await kernel.client().resume(Target(refs=[info.id]))


async def test_books_forget_a_frozen_one_that_ended_or_that_somebody_else_let_go(
    kernel: Kernel, clis: Clis
) -> None:
    client = kernel.client()
    one, two = clis.start("claude", "READY; read x", "a"), clis.start("claude", "READY; read x", "b")
    ids = [(await found(client, pid)).id for pid in (one, two)]
    await client.pause(PauseRequest(refs=ids))
    os.kill(one, signal.SIGKILL)
    clis.reap(one)
    os.kill(two, signal.SIGCONT)

    async def forgotten() -> bool:
        await client.agents()
        return not kernel.books.committed.observed

    await until(forgotten)
    details = [event.text for event in await client.last_events(9, ids)][-2:]
    assert sorted(details) == ["observed: ended while frozen", "observed: let go by somebody else"]


async def test_what_an_agent_that_was_killed_while_frozen_left_stopped_is_let_go(
    kernel: Kernel, clis: Clis
) -> None:
    client = kernel.client()
    pid = clis.start("claude", "setsid sleep 600 & READY; wait")
    info = await found(client, pid)
    (child,) = set(info.pids) - {pid}
    try:
        await client.pause(PauseRequest(refs=[info.id]))
        assert states(pid, child) == "TT"
        os.kill(pid, signal.SIGKILL)
        clis.reap(pid)

        async def forgotten() -> bool:
            await client.agents()
            return not kernel.books.committed.observed

        await until(forgotten)
        assert states(child) == "S"
        (*_, last) = await client.last_events(9, [info.id])
        assert last.text == "observed: ended while frozen; 1 processes that it left were let go"
    finally:
        os.kill(child, signal.SIGKILL)


async def test_a_frozen_one_that_ended_without_a_kernel_is_forgotten_although_nobody_looks_for_such(
    kernels: KernelMaker, paths: Paths, clis: Clis
) -> None:
    pid = clis.start("claude", TREE)
    async with kernels() as kernel:
        info = await found(kernel.client(), pid)
        await kernel.client().pause(PauseRequest(refs=[info.id]))
    for one in info.pids:
        os.kill(one, signal.SIGKILL)
    clis.reap(pid)
    paths.config_file.write_text("[observe]\nenabled = false\n")
    async with kernels() as kernel:

        async def idle() -> bool:
            return kernel.idle

        await until(idle)


async def test_a_freeze_that_fails_leaves_nothing_stopped(
    kernel: Kernel, clis: Clis, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = clis.start("claude", TREE)
    info = await found(kernel.client(), pid)
    real, sent = acts.send, []

    def fails(process: Stat, signum: int) -> bool:
        sent.append(signum)
        if signum == signal.SIGSTOP and len(sent) == 2:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(process, signum)

    monkeypatch.setattr(acts, "send", fails)
    with pytest.raises(OSError, match="Too many open files"):
        await kernel.observed.freeze(kernel.sightings.last.agents[info.id], "ana")
    assert sent[0] == signal.SIGSTOP
    assert "T" not in states(*info.pids)
    assert not kernel.books.committed.observed


async def test_what_is_told_of_one_is_how_it_is_now_although_nobody_watches(
    kernel: Kernel, clis: Clis
) -> None:
    pid = clis.start("claude", "READY; read line")
    client = kernel.client()
    info = await found(client, pid)
    path = clis.session(pid, "s1")
    say(path, line("user", "go", now()), reply(1, now()))

    async def told() -> bool:
        return (await client.inspect(info.id)).info.tokens.output == 42

    await until(told)
    os.kill(pid, signal.SIGKILL)
    clis.reap(pid)

    async def gone() -> bool:
        try:
            await client.inspect(info.id)
        except NoSuchAgent:
            return True
        return False

    await until(gone)


async def test_what_only_managed_agents_can_have_done_to_them_says_so(
    client: KernelClient, clis: Clis
) -> None:
    pid = clis.start("claude", "READY; read line")
    name = (await found(client, pid)).name
    target = Target(refs=[name])
    refused = [
        *await client.pause(PauseRequest(refs=[name], how=Pause.HOLD)),
        *await client.restart(target),
        *await client.remove(RemoveRequest(refs=[name])),
    ]
    errors = [outcome.error for outcome in refused]
    budget = Budget(name="b", scope="agent", target=name, usd=1)  # type: ignore[arg-type]
    for ask in (
        lambda: client.attach(name),
        lambda: client.history(name),
        lambda: client.write(name, b"x"),
        lambda: client.set_budget(BudgetRequest(budget=budget)),
        lambda: anext(client.output(name)),
    ):
        with pytest.raises(AgentTopError) as error:
            await ask()  # type: ignore[no-untyped-call]
        assert isinstance(error.value, Conflict)
        errors.append(error.value.to_dict())
    assert len(errors) == 8
    for told in errors:
        assert told is not None
        assert told["why"].startswith("It is observed: not started by this kernel")
    assert (await client.kill_plan(target)).impossible["hold"].startswith("observed")


async def test_all_means_all_managed_agents_and_halt_leaves_the_others_alone(
    client: KernelClient, clis: Clis
) -> None:
    pid = clis.start("claude", "READY; read line")
    await found(client, pid)
    await client.halt()
    await client.unhalt()
    assert await client.stop(StopRequest(all=True, how="kill")) == []
    assert "T" not in states(pid)
    assert await find(client, pid) is not None


async def test_signals_and_nice_reach_the_program(client: KernelClient, clis: Clis) -> None:
    pid = clis.start("claude", "trap 'echo; exit 3' USR1; READY; while :; do sleep 0.05; done")
    name = (await found(client, pid)).name
    (outcome,) = await client.nice(NiceRequest(refs=[name], nice=7))
    assert outcome.done == "nice 7"
    assert os.getpriority(os.PRIO_PROCESS, pid) == 7
    assert (await found(client, pid)).nice == 7
    (outcome,) = await client.signal(SignalRequest(refs=[name], signal=signal.SIGUSR1))
    assert outcome.done == "SIGUSR1 sent to 1"
    clis.reap(pid)


async def test_a_managed_agents_own_programs_are_not_observed(client: KernelClient, clis: Clis) -> None:
    program = clis.program("claude")
    made = await client.run(sh(f"env -i {program} -c 'sleep 600; :'; :", "wrapped"))

    async def runs() -> list[str]:
        processes = (await client.inspect(made.id)).processes
        return [process.command for process in processes if process.command.startswith(str(program))]

    assert await until(runs)
    info = (await client.inspect(made.id)).info
    assert [other.name for other in await client.agents() if set(other.pids) & set(info.pids)] == ["wrapped"]


async def test_a_verb_on_several_does_both_kinds(client: KernelClient, clis: Clis) -> None:
    pid = clis.start("claude", TREE)
    made = await client.run(sh("while :; do sleep 0.05; done"))
    info = await found(client, pid)
    outcomes = await client.pause(PauseRequest(refs=[info.name, made.id, "nobody"]))
    assert {outcome.ref: outcome.exit_code for outcome in outcomes} == {info.name: 0, made.id: 0, "nobody": 3}
    await client.resume(Target(refs=[info.name, made.id]))


async def test_a_subagent_has_a_row_of_its_own_and_no_process(client: KernelClient, clis: Clis) -> None:
    pid = clis.start("claude", TREE)
    path = clis.session(pid, "s1")
    say(path, line("user", "go", now()), reply(1, now()))
    below = path.with_suffix("") / "subagents"
    below.mkdir(parents=True)
    say(below / "agent-a1b2c3d4e5.jsonl", reply(2, now()) | {"isSidechain": True, "agentId": "a1b2c3d4e5"})
    (below / "agent-a1b2c3d4e5.meta.json").write_text('{"agentType": "Explore"}')
    info = await found(client, pid)
    (child,) = [other for other in await client.agents() if other.parent == info.id]
    assert (child.name, child.pids, child.tokens.output) == (f"Explore@{pid}.a1b2c3d4", [], 42)
    assert info.tokens.output == 42
    assert (await client.inspect(child.name)).info.id == child.id
    (outcome,) = await client.stop(StopRequest(refs=[child.name], how="kill"))
    assert outcome.error is not None
    assert outcome.error["hint"] == f"Act on {info.name}"
    assert "T" not in states(pid)


async def test_a_watch_shows_its_row_each_new_line_and_its_end_and_the_header_is_the_sum(
    client: KernelClient, clis: Clis
) -> None:
    pid = clis.start("claude", "READY; read line")
    path = clis.session(pid, "s1")
    say(path, line("user", "go", now()), reply(1, now()))
    rows = {}
    stream = cast("AsyncGenerator[Snapshot | Delta, None]", client.watch("total"))
    async with aclosing(stream) as changes:
        seen = _outputs(changes, rows, pid)
        assert await anext(seen) == 42
        say(path, reply(2, now()))
        assert await anext(seen) == 84
        os.kill(pid, signal.SIGKILL)
        clis.reap(pid)
        assert await anext(seen) is None


async def _outputs(
    changes: AsyncIterator[Snapshot | Delta], rows: dict[str, object], pid: int
) -> AsyncIterator[int | None]:
    """The output tokens of the agent with this pid, each time they change; ``None`` when its row is gone."""
    known: dict[str, object] = {}
    header, last = None, -1
    async for change in changes:
        known |= {row.id: row for row in change.rows}
        for key in getattr(change, "gone", ()):
            known.pop(key, None)
        header = change.header or header
        assert header is not None
        assert header.output == sum(row.output for row in known.values())  # type: ignore[attr-defined]
        mine = [row for row in known.values() if row.name == f"claude@{pid}"]  # type: ignore[attr-defined]
        if mine and mine[0].output not in (0, last):  # type: ignore[attr-defined]
            last = mine[0].output  # type: ignore[attr-defined]
            yield last
        if not mine and last > 0:
            yield None
            return


async def test_an_open_question_in_a_terminal_makes_a_managed_agent_wait_for_input(
    client: KernelClient, clis: Clis, tmp_path: Path
) -> None:
    if not any(os.access(f"{folder}/tmux", os.X_OK) for folder in os.environ["PATH"].split(":")):
        pytest.skip("tmux: not on the PATH")
    program = clis.program("claude")
    (clis.home / "w").mkdir()
    request = sh("", "asks", backend="terminal", cwd=str(clis.home / "w"))
    spec = request.spec.model_copy(update={"command": [str(program), "-c", "sleep 600; :"]})
    made = await client.run(
        request.model_copy(update={"spec": spec, "environ": {**request.environ, "HOME": str(clis.home)}})
    )
    await until_state(client, made.id, "executing", "idle", "waiting")

    async def main() -> int | None:
        processes = (await client.inspect(made.id)).processes
        return next((p.pid for p in processes if p.command.startswith(str(program))), None)

    path = clis.session(await until(main), "s1")
    question = {"type": "tool_use", "id": "t1", "name": "AskUserQuestion", "input": {}}
    say(path, line("user", "go", now()), reply(1, now(), question, stop="tool_use"))

    async def asked() -> AgentInfo | None:
        await client.agents()
        info = (await client.inspect(made.id)).info
        return info if (info.state, info.reason) == ("waiting", "input") and info.detail else None

    info: AgentInfo = await until(asked, seconds=30)
    assert info.detail == "AskUserQuestion"
    assert info.tokens.output == 0  # the gateway is the meter of record
    answer = [{"type": "tool_result", "tool_use_id": "t1", "content": "yes"}]
    say(path, line("user", answer, now()))

    async def goes_on() -> bool:
        await client.agents()
        return (await client.inspect(made.id)).info.state in ("planning", "executing")

    await until(goes_on, seconds=30)
