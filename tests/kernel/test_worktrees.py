"""Agents in worktrees of their own under a real kernel: started, restarted, removed, found after a crash."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.support.repos import Repo

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import EventInfo, FleetRequest, RemoveRequest, RunRequest, StopRequest, Target
from agenttop.core.client import KernelClient
from agenttop.core.errors import AgentTopError, BackendError, Conflict, UsageError
from agenttop.core.journal import events as ev
from agenttop.core.kernel import Kernel
from agenttop.core.paths import Paths
from agenttop.core.workspaces import making, planning

from .conftest import ENVIRON, KernelMaker, sh, until, until_state

pytestmark = pytest.mark.anyio

#: Says where it works and stays.
STAY = "pwd > where; git branch --show-current > branch; exec sleep 600"


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "proj")
    repo.write(".gitignore", "where\nbranch\n")
    repo.commit("ignore what the agents write down")
    return repo


def own(repo: Repo, script: str = "true", name: str = "api", **spec: Any) -> RunRequest:
    return sh(script, name, **{"cwd": str(repo.path), "worktree": True, **spec})


async def events(client: KernelClient, ref: str) -> list[EventInfo]:
    return [event async for event in client.events(refs=[ref])]


async def tree_of(client: KernelClient, ref: str) -> Path:
    [planned] = [e for e in await events(client, ref) if e.kind == "WorktreePlanned"]
    return Path(planned.body["path"])


async def removed(client: KernelClient, ref: str, **how: Any) -> str:
    [outcome] = await client.remove(RemoveRequest(refs=[ref], **how))
    assert outcome.error is None, outcome
    return outcome.done


async def test_an_agent_works_in_its_own_worktree_on_its_own_branch(
    client: KernelClient, repo: Repo, paths: Paths
) -> None:
    info = await client.run(own(repo, STAY, cwd=str(repo.path / "src")))
    tree = paths.worktrees / f"api-{info.id}" / "proj"
    assert info.cwd == str(tree / "src")
    where = tree / "src" / "branch"

    async def written() -> bool:
        return where.exists() and where.read_text() == "agenttop/api\n"

    await until(written, "the agent saying its branch")
    assert (tree / "src" / "where").read_text() == f"{tree}/src\n"
    kinds = [event.kind for event in await events(client, info.id)]
    assert kinds[:5] == ["AgentCreated", "WorktreePlanned", "RunStarting", "WorktreeMade", "RunStarted"]


async def test_the_variables_of_a_git_hook_do_not_lead_it_out_of_there(
    client: KernelClient, repo: Repo
) -> None:
    request = own(repo, "git rev-parse --show-toplevel > where; git status > /dev/null; exec sleep 600")
    request.environ["GIT_DIR"] = str(repo.path / ".git")
    request.environ["GIT_INDEX_FILE"] = str(repo.path / ".git" / "index")
    info = await client.run(request)
    where = Path(info.cwd or "", "where")

    async def written() -> bool:
        return where.exists() and where.read_text().strip() == info.cwd

    await until(written, "git finding the worktree")


async def test_a_restarted_agent_keeps_its_worktree_and_what_is_in_it(
    client: KernelClient, repo: Repo
) -> None:
    await client.run(own(repo, "echo run >> notes; exec sleep 600"))
    tree = await tree_of(client, "api")

    async def runs(count: int) -> bool:
        return (tree / "notes").exists() and (tree / "notes").read_text() == "run\n" * count

    await until(lambda: runs(1), "the first run")
    await client.restart(Target(refs=["api"]))
    await until(lambda: runs(2), "two runs in one worktree")
    assert repo.worktrees() == [str(repo.path), str(tree)]


@pytest.mark.parametrize(
    ("where", "spec", "said"),
    [
        ("plain", {}, "no git repository"),
        ("proj", {"base": "nowhere"}, "no commit nowhere"),
        ("proj", {"branch": "main"}, "checked out in"),
        ("gone", {}, "no such folder"),
    ],
)
async def test_what_cannot_have_a_worktree_leaves_nothing(
    client: KernelClient, repo: Repo, paths: Paths, where: str, spec: dict[str, Any], said: str
) -> None:
    (repo.path.parent / "plain").mkdir()
    with pytest.raises((UsageError, Conflict), match=said):
        await client.run(own(repo, cwd=str(repo.path.parent / where), **spec))
    assert list(paths.agents.iterdir()) == []
    assert not paths.worktrees.exists()
    assert await client.agents(all=True) == []


async def test_a_program_that_is_not_there_leaves_neither_worktree_nor_branch(
    client: KernelClient, repo: Repo, paths: Paths
) -> None:
    spec = AgentSpec(name="api", command=["no-such-program"], cwd=str(repo.path), worktree=True)
    with pytest.raises(BackendError, match="no-such-program"):
        await client.run(RunRequest(spec=spec, environ=ENVIRON))
    assert repo.worktrees() == [str(repo.path)]
    assert repo.branches() == {"main"}
    assert [path for path in paths.worktrees.iterdir() if path.is_dir()] == []


async def test_agents_that_begin_at_once_have_a_branch_each(client: KernelClient, repo: Repo) -> None:
    infos = []

    async def run() -> None:
        request = own(repo, "exec sleep 600").model_copy(update={"name_given": False})
        infos.append(await client.run(request))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(run)
    looks = [await client.workspace(info.id) for info in infos]
    assert {look.branch for look in looks} == {"agenttop/api", *(f"agenttop/api-{n}" for n in range(2, 6))}
    assert all(look.worktree and look.shared_with == [] for look in looks)
    assert len(repo.worktrees()) == 6


async def test_of_agents_that_name_one_branch_one_has_it(client: KernelClient, repo: Repo) -> None:
    found: list[str] = []

    async def run(name: str) -> None:
        try:
            found.append((await client.run(own(repo, "exec sleep 600", name, branch="work"))).name)
        except AgentTopError as error:
            found.append(type(error).__name__)

    async with anyio.create_task_group() as tasks:
        for name in ("a", "b"):
            tasks.start_soon(run, name)
    assert sorted(found) in (["Conflict", "a"], ["Conflict", "b"])
    assert [agent.name for agent in await client.agents(all=True)] in (["a"], ["b"])


async def test_uncommitted_work_stays_when_its_agent_is_removed_and_it_is_said_where(
    client: KernelClient, repo: Repo
) -> None:
    await client.run(own(repo, "echo precious > work"))
    await client.wait(["api"], timeout=30)
    tree = await tree_of(client, "api")
    [outcome] = await client.remove(RemoveRequest(refs=["api"]))
    assert outcome.done == f"removed, its worktree stays in {tree} on branch agenttop/api: 1 new file"
    assert f"cd {tree}" in outcome.notes[0]
    assert "worktree remove --force" in outcome.notes[1]
    assert (tree / "work").read_text() == "precious\n"
    assert await client.agents(all=True) == []
    left = (await client.last_events(2))[0]
    assert (left.kind, left.body["kept"], left.body["path"]) == ("WorktreeLeft", "1 new file", str(tree))
    checks = {check.name: check for check in await client.checks()}
    assert str(tree) in checks["left worktrees"].found


async def test_a_clean_worktree_goes_with_its_agent(client: KernelClient, repo: Repo, paths: Paths) -> None:
    await client.run(own(repo))
    await client.wait(["api"], timeout=30)
    assert await removed(client, "api") == "removed, its worktree too"
    assert repo.worktrees() == [str(repo.path)]
    assert repo.branches() == {"main"}


async def test_commits_that_are_nowhere_else_keep_the_branch(client: KernelClient, repo: Repo) -> None:
    await client.run(own(repo, "echo x > work && git add work && git commit -qm work"))
    await client.wait(["api"], timeout=30)
    found = await client.workspace("api")
    assert (found.commits, found.files, found.uncommitted, found.insertions) == (1, 1, 0, 1)
    assert "its branch agenttop/api stays" in await removed(client, "api")
    assert repo("show", "agenttop/api:work") == "x"
    assert repo.worktrees() == [str(repo.path)]


async def test_work_is_deleted_only_when_that_is_told(client: KernelClient, repo: Repo) -> None:
    await client.run(own(repo, "echo x > work; exec sleep 600"))
    tree = await tree_of(client, "api")

    async def written() -> bool:
        return (tree / "work").exists()

    await until(written, "the work")
    assert (await client.workspace("api", "losses")).losses == ["new  work"]
    done = await removed(client, "api", force=True, discard=True)
    assert done == "removed, its worktree too, and in it 1 new file"
    assert not tree.exists()
    assert repo.worktrees() == [str(repo.path)]


async def test_a_worktree_in_which_another_agent_works_stays(client: KernelClient, repo: Repo) -> None:
    await client.run(own(repo))
    await client.wait(["api"], timeout=30)
    tree = await tree_of(client, "api")
    await client.run(sh("exec sleep 600", "helper", cwd=str(tree / "src")))
    assert "helper works in it" in await removed(client, "api", discard=True)
    assert (tree / "src").is_dir()


async def test_a_fleet_goes_up_changes_and_goes_down_with_its_worktrees(
    client: KernelClient, repo: Repo
) -> None:
    def fleet(script: str, **spec: Any) -> FleetRequest:
        base = {"command": ["/bin/sh", "-c", script], "cwd": str(repo.path), "worktree": True, **spec}
        specs = [AgentSpec.model_validate({**base, "name": f"w-{n}"}) for n in (1, 2)]
        return FleetRequest(fleet="/f.toml", specs=specs, environ=ENVIRON)

    assert {o.done for o in await client.up(fleet("exec sleep 600"))} == {"created"}
    first = await tree_of(client, "w-1")
    (first / "work").write_text("x")
    changed = await client.up(fleet("exec sleep 601", branch=None, base="main", cwd=str(repo.path / "src")))
    assert {o.done for o in changed} == {"changed"}, changed
    info = (await client.inspect("w-1")).info
    assert (info.run, info.cwd) == (2, str(first / "src"))
    elsewhere = Repo(repo.path.parent / "other")
    refused = await client.up(fleet("exec sleep 602", cwd=str(elsewhere.path)))
    assert all("keeps its worktree" in (o.error or {})["what"] for o in refused)
    assert {o.done for o in await client.up(fleet("exec sleep 601", cwd=str(repo.path / "src")))} <= {
        "changed", "unchanged"
    }  # fmt: skip
    done = {o.name: o.done for o in await client.down("/f.toml")}
    assert done["w-2"] == "removed, its worktree too"
    assert f"stays in {first}" in done["w-1"]
    assert repo.worktrees() == [str(repo.path), str(first)]


async def test_an_agent_that_is_given_a_worktree_later_gets_one(client: KernelClient, repo: Repo) -> None:
    def fleet(**spec: Any) -> FleetRequest:
        command = ["/bin/sh", "-c", "exec sleep 600"]
        spec = {"name": "api", "command": command, "cwd": str(repo.path), **spec}
        return FleetRequest(fleet="/f", specs=[AgentSpec.model_validate(spec)], environ=ENVIRON)

    await client.up(fleet())
    assert not (await client.workspace("api")).worktree
    await client.up(fleet(worktree=True))
    found = await client.workspace("api")
    assert (found.worktree, found.branch) == (True, "agenttop/api")
    await client.up(fleet())
    found = await client.workspace("api")
    assert (found.worktree, found.folder) == (False, str(repo.path))
    await client.stop(StopRequest(refs=["api"], how="kill"))
    assert await removed(client, "api") == "removed, its worktree too"


async def test_prune_keeps_what_rm_keeps(client: KernelClient, repo: Repo) -> None:
    await client.run(own(repo, "echo x > work", "a"))
    await client.run(own(repo, "true", "b"))
    await client.wait(["a", "b"], timeout=30)
    tree = await tree_of(client, "a")
    done = {outcome.name: outcome.done for outcome in await client.prune()}
    assert f"stays in {tree}" in done["a"]
    assert done["b"] == "removed, its worktree too"


# --- kill -9 between two steps --------------------------------------------------------------------


async def owed(kernel: Kernel, repo: Repo, tree_id: str = "a1b2c3d4") -> planning.Planned:
    """An agent in the journal whose kernel died before git was asked for anything."""
    found = planning.plan("api", str(repo.path), root=kernel.paths.worktrees / tree_id)
    tree = found.worktree
    spec = AgentSpec(
        name="api", command=["/bin/sh", "-c", "exec sleep 600"], cwd=str(repo.path), worktree=True
    )
    (kernel.paths.agents / tree_id).mkdir()
    await kernel.books.commit(
        ev.AgentCreated(agent=tree_id, spec=spec, owner="ana"),
        ev.WorktreePlanned(
            agent=tree_id, path=tree.path, folder=tree.folder, repository=tree.repository,
            branch=tree.branch, base=tree.base,
        ),
        ev.RunStarting(agent=tree_id, run=1),
    )  # fmt: skip
    return found


@pytest.mark.parametrize("step", ["planned", "half", "made"])
async def test_a_kernel_that_died_while_a_worktree_was_made_leaves_one_not_none_not_two(
    kernels: KernelMaker, repo: Repo, step: str
) -> None:
    async with kernels(leave=True) as kernel:
        tree = (await owed(kernel, repo)).worktree
        if step != "planned":
            making.make(tree)
        if step == "half":
            admin = making.private(tree.path)
            assert admin is not None
            (admin / "locked").write_text("initializing")
            shutil.rmtree(Path(tree.path, "src"))
    async with kernels() as kernel:
        client = kernel.client()
        await until_state(client, "api", "executing", "initializing")

        async def started() -> bool:
            return "RunStarted" in [event.kind for event in await events(client, "api")]

        await until(started, "the run being started")
        assert [e.kind for e in await events(client, "api")].count("WorktreeMade") == 1
        assert repo.worktrees() == [str(repo.path), tree.path]
        assert repo("status", "--porcelain", cwd=tree.path) == ""
        assert repo.branches() == {"main", "agenttop/api"}


async def test_a_kernel_that_died_between_deleting_and_writing_it_down_has_the_agent_still(
    kernels: KernelMaker, repo: Repo
) -> None:
    async with kernels(leave=True) as kernel:
        client = kernel.client()
        await client.run(own(repo))
        await client.wait(["api"], timeout=30)
        tree = await tree_of(client, "api")
        repo("worktree", "remove", str(tree))
        repo("branch", "-D", "agenttop/api")
        shutil.copytree(repo.path / "src", f"{tree}{planning.GONE}", dirs_exist_ok=True)
    async with kernels() as kernel:
        client = kernel.client()

        async def swept() -> bool:
            return not os.path.lexists(f"{tree}{planning.GONE}")

        await until(swept, "the rest being swept")
        await client.restart(Target(refs=["api"]))
        await client.wait(["api"], timeout=30)
        assert (await client.workspace("api")).branch == "agenttop/api"
        assert await removed(client, "api") == "removed, its worktree too"


# --- who shares a folder, and what is told ---------------------------------------------------------


async def test_who_starts_in_a_folder_where_another_works_is_told_and_it_is_written_down(
    client: KernelClient, repo: Repo
) -> None:
    alone = await client.run(sh("exec sleep 600", "one", cwd=str(repo.path)))
    assert alone.notes == []
    second = await client.run(sh("exec sleep 600", "two", cwd=str(repo.path / "src")))
    [note] = second.notes
    assert note.startswith(f"one works in {repo.path}, too")
    assert "--worktree" in note
    assert (await client.workspace("one")).shared_with == ["two"]
    [shared] = [e for e in await events(client, "two") if e.kind == "FolderShared"]
    assert shared.text == f"works with one in one folder: {repo.path}"
    apart = await client.run(own(repo, "exec sleep 600", "three"))
    assert not any("works in" in note for note in apart.notes)
    assert (await client.workspace("three")).shared_with == []
    await client.stop(StopRequest(refs=["two"], how="kill"))
    assert (await client.workspace("one")).shared_with == []


async def test_git_is_not_run_out_here_on_what_an_agent_in_a_sandbox_can_arrange(
    kernel: Kernel, client: KernelClient, repo: Repo, tmp_path: Path
) -> None:
    await client.run(own(repo, STAY))
    await client.run(sh("exec sleep 600", "plain", cwd=str(repo.path / "src")))
    spec = AgentSpec(name="caged", command=["/bin/true"], cwd=str(repo.path), sandbox=True)
    await kernel.books.commit(ev.AgentCreated(agent="caged1", spec=spec, owner="ana"))
    tree = await tree_of(client, "api")
    trap = tmp_path / "ran"
    repo("config", "filter.trap.clean", f"touch {trap}; cat")
    repo("config", "filter.trap.smudge", f"touch {trap}; cat")
    repo.write(".git/info/attributes", "* filter=trap\n")
    for top in (repo.path, tree):
        repo.write("README", "changed\n", top=top)
    for name, detail in (("plain", "diff"), ("api", "diff"), ("api", "losses")):
        assert "sandbox" in (await client.workspace(name, detail)).problem
    with pytest.raises(UsageError, match="caged"):
        await client.run(own(repo, name="second"))
    await client.stop(StopRequest(refs=["api"], how="kill"))
    assert "its worktree stays" in await removed(client, "api", discard=True)
    assert not trap.exists()
    await kernel.books.commit(ev.AgentRemoved(agent="caged1", by="ana"))
    assert (await client.workspace("plain")).problem == ""
    assert trap.exists()


async def test_a_fleet_in_one_folder_is_told_once(client: KernelClient, repo: Repo) -> None:
    specs = [AgentSpec(name=f"w-{n}", command=["sleep", "600"], cwd=str(repo.path)) for n in range(9)]
    outcomes = await client.up(FleetRequest(fleet="/f", specs=specs, environ=ENVIRON))
    [told] = [note for outcome in outcomes for note in outcome.notes]
    assert "and 3 more" in told
    rows = await client.last_events(100)
    [shared] = [event for event in rows if event.kind == "FolderShared"]
    assert (shared.agent, shared.body["count"]) == (None, 9)


async def test_what_an_agent_changed_counts_from_where_it_began(client: KernelClient, repo: Repo) -> None:
    base = repo("rev-parse", "HEAD")
    await client.run(sh("echo x > work && git add work && git commit -qm one", cwd=str(repo.path)))
    await client.wait(["hello"], timeout=30)
    found = await client.workspace("hello", "diff")
    assert (found.worktree, found.base, found.commits, found.files) == (False, base, 1, 1)
    assert "+x" in found.diff
    await client.run(sh("true", "elsewhere", cwd="/tmp"))
    nowhere = await client.workspace("elsewhere")
    assert (nowhere.repository, nowhere.base, nowhere.problem) == (None, None, "")


async def test_work_that_was_not_committed_before_is_told_at_the_start(
    client: KernelClient, repo: Repo
) -> None:
    repo.write("README", "changed")
    [note] = (await client.run(own(repo))).notes
    assert "1 file is not committed" in note
