"""Runs: started, ended, restarted, stopped, with what the journal and the table say of them."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from agenttop.core.agents.spec import AgentSpec, Restart, RestartMode
from agenttop.core.agents.states import Pause
from agenttop.core.api import FleetRequest, PauseRequest, RemoveRequest, RunRequest, StopRequest, Target
from agenttop.core.client import KernelClient
from agenttop.core.errors import BackendError, Conflict, Forbidden, NoSuchAgent, UsageError
from agenttop.core.http.callers import Caller
from agenttop.core.journal import events as ev
from agenttop.core.kernel import Kernel

from .conftest import ENVIRON, sh, until, until_processes, until_state

pytestmark = pytest.mark.anyio

QUICK = Restart(
    policy=RestartMode.ON_FAILURE, backoff=0.01, backoff_max=0.05, start_seconds=5, max_restarts=2
)


def alive(pid: int) -> bool:
    """Whether it still runs; one that only waits for init to take its status does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def kinds(client: KernelClient, ref: str) -> list[str]:
    return [event.kind async for event in client.events(refs=[ref])]


async def read(client: KernelClient, ref: str) -> bytes:
    return b"".join([chunk.data async for chunk in client.output(ref)])


async def test_a_run_is_started_seen_and_its_exit_code_kept(client: KernelClient) -> None:
    info = await client.run(sh("echo hi; exit 3"))
    assert (info.name, info.run, info.backend) == ("hello", 1, "subprocess")
    [ended] = await client.wait(["hello"], timeout=10)
    assert (ended.state, ended.exit_code, ended.detail) == ("error", 3, "exit 3")
    assert await read(client, "hello") == b"hi\n"
    assert await kinds(client, "hello") == ["AgentCreated", "RunStarting", "RunStarted", "RunExited"]


async def test_exit_zero_terminates(client: KernelClient) -> None:
    await client.run(sh("true"))
    [ended] = await client.wait(["hello"], timeout=10)
    assert (ended.state, ended.exit_code) == ("terminated", 0)


async def test_a_start_counts_after_start_seconds(client: KernelClient) -> None:
    info = await client.run(sh("sleep 60", restart=Restart(start_seconds=0.05)))
    assert info.state == "initializing"
    info = await until_state(client, "hello", "executing")
    assert info.pid is not None
    assert info.pids
    assert info.detail == "sh"


async def test_a_failing_agent_is_restarted_with_back_off_and_given_up(client: KernelClient) -> None:
    await client.run(sh("exit 7", restart=QUICK))
    [ended] = await client.wait(["hello"], timeout=20)
    assert (ended.state, ended.exit_code, ended.run) == ("error", 7, 3)
    assert (await kinds(client, "hello"))[-1] == "RestartGivenUp"


async def test_on_failure_leaves_success_alone_and_always_does_not(client: KernelClient) -> None:
    await client.run(sh("true", "once", restart=QUICK))
    [once] = await client.wait(["once"], timeout=10)
    assert once.run == 1
    always = QUICK.model_copy(update={"policy": RestartMode.ALWAYS})
    await client.run(sh("true", "again", restart=always))
    [again] = await client.wait(["again"], timeout=20)
    assert (again.run, again.state) == (3, "error")


async def test_a_stop_calls_a_pending_restart_off(client: KernelClient) -> None:
    slow = Restart(policy=RestartMode.ON_FAILURE, backoff=60)
    await client.run(sh("exit 1", restart=slow))
    await until_state(client, "hello", "error")

    async def scheduled() -> bool:
        return "RestartScheduled" in await kinds(client, "hello")

    await until(scheduled)
    [outcome] = await client.stop(StopRequest(refs=["hello"]))
    assert outcome.done == "restart called off"
    [ended] = await client.wait(["hello"], timeout=5)
    assert ended.run == 1


async def test_a_kill_ends_the_tree_with_proof_and_no_policy_restarts_it(client: KernelClient) -> None:
    always = Restart(policy=RestartMode.ALWAYS, backoff=0.01)
    await client.run(sh("sleep 60 & sleep 60 & wait", restart=always))
    await until_processes(client, "hello", 4)
    info = (await client.inspect("hello")).info
    [outcome] = await client.stop(StopRequest(refs=["hello"], how="kill"))
    assert outcome.error is None
    assert outcome.proof is not None
    assert outcome.proof["survivors"] == []
    assert "0 survivors" in outcome.done
    assert not [pid for pid in info.pids if alive(pid)]
    ended = (await client.inspect("hello")).info
    assert (ended.state, ended.detail, ended.run) == ("terminated", "killed", 1)


async def test_a_program_that_is_not_there_leaves_nothing(client: KernelClient, kernel: Kernel) -> None:
    request = RunRequest(spec=AgentSpec(name="hello", command=["/no/such/program"]), environ=ENVIRON)
    with pytest.raises(BackendError, match="/no/such/program"):
        await client.run(request)
    assert await client.agents(all=True) == []
    assert list(kernel.paths.agents.iterdir()) == []
    await client.run(sh("true"))


async def test_two_agents_of_one_name_are_refused_and_made_up_names_are_numbered(
    client: KernelClient,
) -> None:
    await client.run(sh("sleep 60"))
    with pytest.raises(Conflict, match="the name hello is taken"):
        await client.run(sh("sleep 60"))
    proposed = sh("sleep 60").model_copy(update={"name_given": False})
    assert (await client.run(proposed)).name == "hello-2"


async def test_simultaneous_requests_for_one_name_make_one_agent(client: KernelClient) -> None:
    refused = 0

    async def one() -> None:
        nonlocal refused
        try:
            await client.run(sh("sleep 60"))
        except Conflict:
            refused += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(one)
    assert refused == 7
    assert len(await client.agents()) == 1


async def test_an_unknown_backend_and_no_command_are_usage_errors(client: KernelClient) -> None:
    with pytest.raises(UsageError, match="unknown backend nowhere"):
        await client.run(sh("true", backend="nowhere"))
    with pytest.raises(UsageError, match="no command"):
        await client.run(RunRequest(spec=AgentSpec(name="hello")))


async def test_freeze_is_proven_and_resume_undoes_it(client: KernelClient) -> None:
    await client.run(sh("sleep 60 & while :; do sleep 0.01; done"))
    await until_processes(client, "hello", 3)
    [outcome] = await client.pause(PauseRequest(refs=["hello"]))
    assert outcome.error is None
    info = (await client.inspect("hello")).info
    assert (info.state, info.reason) == ("paused", "freeze")
    assert info.frozen is not None
    assert info.frozen[0] == info.frozen[1] >= 3
    [outcome] = await client.resume(Target(refs=["hello"]))
    assert outcome.done == "resumed"
    assert (await client.inspect("hello")).info.state in ("initializing", "executing")
    [outcome] = await client.resume(Target(refs=["hello"]))
    assert outcome.done == "not paused"


async def test_a_frozen_agent_can_be_killed(client: KernelClient) -> None:
    await client.run(sh("sleep 60 & wait"))
    await client.pause(PauseRequest(refs=["hello"]))
    [outcome] = await client.stop(StopRequest(refs=["hello"], how="kill"))
    assert outcome.error is None
    assert (await client.inspect("hello")).info.state == "terminated"


async def test_hold_shows_and_ended_agents_cannot_be_paused(client: KernelClient) -> None:
    await client.run(sh("sleep 60"))
    await client.pause(PauseRequest(refs=["hello"], how=Pause.HOLD))
    info = (await client.inspect("hello")).info
    assert (info.state, info.reason) == ("paused", "hold")
    await client.stop(StopRequest(refs=["hello"], how="kill"))
    for how in Pause:
        [outcome] = await client.pause(PauseRequest(refs=["hello"], how=how))
        assert outcome.error is not None
        assert outcome.error["code"] == "conflict"


async def test_unknown_and_known_references_are_each_answered(client: KernelClient) -> None:
    await client.run(sh("sleep 60"))
    outcomes = await client.pause(PauseRequest(refs=["nobody", "hello"]))
    assert [outcome.exit_code for outcome in outcomes] == [3, 0]
    with pytest.raises(NoSuchAgent):
        await client.inspect("nobody")


async def test_remove_takes_ended_agents_only_unless_forced(client: KernelClient, kernel: Kernel) -> None:
    info = await client.run(sh("sleep 60"))
    [outcome] = await client.remove(RemoveRequest(refs=["hello"]))
    assert outcome.error is not None
    assert "--force" in outcome.error["hint"]
    [outcome] = await client.remove(RemoveRequest(refs=["hello"], force=True))
    assert outcome.done == "removed"
    assert not kernel.paths.agent_dir(info.id).exists()
    assert await client.agents(all=True) == []


async def test_restart_makes_a_new_run_of_the_same_agent(client: KernelClient) -> None:
    first = await client.run(sh("echo run; sleep 60"))
    [outcome] = await client.restart(Target(refs=["hello"]))
    assert outcome.done == "restarted, run 2"
    again = (await client.inspect("hello")).info
    assert (again.id, again.run) == (first.id, 2)
    assert again.state in ("initializing", "executing")


async def test_up_creates_changes_and_leaves_alone(client: KernelClient) -> None:
    lead = AgentSpec(name="lead", command=["sleep", "60"], cwd="/tmp")
    api = AgentSpec(name="api", command=["sleep", "60"], cwd="/tmp", parent="lead", env={"K": "secret-1"})
    request = FleetRequest(fleet="/x/fleet.toml", specs=[lead, api], environ=ENVIRON)
    assert [o.done for o in await client.up(request)] == ["created", "created"]
    assert [o.done for o in await client.up(request)] == ["unchanged", "unchanged"]
    changed = request.model_copy(update={"specs": [lead, api.model_copy(update={"env": {"K": "secret-2"}})]})
    assert [o.done for o in await client.up(changed)] == ["unchanged", "changed"]
    detail = await client.inspect("api")
    assert detail.info.run == 2
    assert detail.info.parent == (await client.inspect("lead")).info.id
    soft = request.model_copy(
        update={"specs": [lead.model_copy(update={"labels": {"a": "b"}})], "prune": True}
    )
    assert [(o.name, o.done) for o in await client.up(soft)] == [("lead", "changed"), ("api", "removed")]
    assert (await client.inspect("lead")).info.run == 1
    assert [o.done for o in await client.down("/x/fleet.toml")] == ["removed"]
    assert await client.agents(all=True) == []
    assert await client.down("/x/fleet.toml") == []


async def test_values_of_the_environment_are_not_in_the_journal(client: KernelClient, kernel: Kernel) -> None:
    request = sh("echo $TOKEN-$INHERITED-$ANTHROPIC_API_KEY", env={"TOKEN": "s3cr3t-declared"})
    request.environ.update(INHERITED="s3cr3t-inherited", ANTHROPIC_API_KEY="s3cr3t-key")
    info = await client.run(request)
    await client.wait(["hello"], timeout=10)
    assert await read(client, "hello") == b"s3cr3t-declared-s3cr3t-inherited-agenttop\n"
    for record in await kernel.journal.read(0):
        assert b"s3cr3t" not in record.body
    kept = kernel.paths.agent_dir(info.id) / "environ.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert b"s3cr3t-key" not in kept.read_bytes()


async def test_kill_plan_names_every_process_and_sends_nothing(client: KernelClient) -> None:
    await client.run(sh("sleep 60 & wait", "lead"))
    await client.run(sh("sleep 60", "child", parent="lead"))
    await until_processes(client, "lead", 3)
    await until_processes(client, "child", 2)
    plan = await client.kill_plan(Target(refs=["lead"], children=True))
    assert [info.name for info in plan.agents] == ["lead", "child"]
    assert {p.command for tree in plan.processes.values() for p in tree} >= {"sleep 60"}
    assert plan.untouched == 0
    assert len(await client.agents()) == 2


async def test_a_child_that_has_ended_is_not_in_the_plan_but_one_that_was_named_is(
    client: KernelClient,
) -> None:
    await client.run(sh("sleep 60", "lead"))
    done = await client.run(sh("true", "done", parent="lead"))
    await client.wait(["done"], timeout=10)
    plan = await client.kill_plan(Target(refs=["lead"], children=True))
    assert [agent.name for agent in plan.agents] == ["lead"]
    named = await client.kill_plan(Target(refs=[done.id[:4]]))
    assert [agent.name for agent in named.agents] == ["done"]
    assert "stop" in named.impossible


async def test_a_fleet_starts_without_those_that_cannot(client: KernelClient, kernel: Kernel) -> None:
    """Fifty are several batches; two of them fail, one before and one after its folder is made."""
    forever = ["/bin/sh", "-c", "exec sleep 600"]
    specs = [
        AgentSpec(name=f"agent-{n}", command=forever, cwd="/tmp", labels={"n": str(n)}) for n in range(50)
    ]
    specs[7] = specs[7].model_copy(update={"command": ["no-such-program-anywhere"]})
    specs[40] = specs[40].model_copy(update={"cwd": "/no/such/folder"})
    specs[41] = specs[41].model_copy(update={"env": {"ITS": "own"}})
    outcomes = await client.up(FleetRequest(fleet="/fifty", specs=specs, environ=ENVIRON))
    assert [outcome.name or outcome.ref for outcome in outcomes] == [spec.name for spec in specs]
    failed = {outcome.ref: outcome.error["what"] for outcome in outcomes if outcome.error}
    assert failed == {
        "agent-7": "cannot start no-such-program-anywhere",
        "agent-40": "cannot start in /no/such/folder",
    }
    agents = {info.name: info for info in await client.agents(all=True)}
    assert len(agents) == 48
    for info in agents.values():
        assert info.run == 1
        assert info.pid is not None
        assert alive(info.pid)
        assert await kinds(client, info.name) == ["AgentCreated", "RunStarting", "RunStarted"]
    # One environment is one file; who has values of its own has a file of its own.
    kept = {name: kernel.paths.agent_dir(info.id) / "environ.json" for name, info in agents.items()}
    assert kept["agent-0"].stat().st_ino == kept["agent-1"].stat().st_ino
    assert kept["agent-0"].stat().st_ino != kept["agent-41"].stat().st_ino
    # A change of one is not a change of the others.
    specs[1] = specs[1].model_copy(update={"env": {"NEW": "value"}})
    await client.up(FleetRequest(fleet="/fifty", specs=[specs[1]], environ=ENVIRON))
    assert b"NEW" in kept["agent-1"].read_bytes()
    assert b"NEW" not in kept["agent-0"].read_bytes()


async def test_an_agent_in_a_sandbox_starts_nobody_outside_of_it(
    kernel: Kernel, client: KernelClient
) -> None:
    for name, sandbox in (("caged", True), ("free", False)):
        spec = AgentSpec(name=name, command=["/bin/true"], cwd="/tmp", sandbox=sandbox)
        await kernel.books.commit(ev.AgentCreated(agent=f"{name}1", spec=spec, owner="ana"))
    assert (await Caller(client, "free1").child(sh("true"))).spec.parent == "free1"
    for asked in (sh("true"), sh("true", sandbox=True, cwd="/etc")):
        with pytest.raises(Forbidden, match="sandbox"):
            await Caller(client, "caged1").child(asked)


async def test_an_agent_makes_no_child_that_belongs_to_anothers_team(
    kernel: Kernel, client: KernelClient
) -> None:
    for name, labels in (("red", {"team": "red"}), ("none", {})):
        spec = AgentSpec(name=name, command=["/bin/true"], cwd="/tmp", labels=labels)
        await kernel.books.commit(ev.AgentCreated(agent=f"{name}1", spec=spec, owner="ana"))
    assert await Caller(client, "red1").child(sh("true", labels={"team": "red", "role": "any"}))
    for parent, team in (("red1", "blue"), ("none1", "red")):
        with pytest.raises(Forbidden, match="team"):
            await Caller(client, parent).child(sh("true", labels={"team": team}))
