"""Processes found and joined to their sessions: real processes, under the CLIs' names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.agents.spec import NAME
from agenttop.core.observe.contract import Found, Session, Tail
from agenttop.core.observe.processes import Processes, agents, open_files, option
from agenttop.core.observe.readers.claude import ClaudeObserver
from agenttop.core.observe.readers.claude_slug import slug
from agenttop.core.observe.readers.codex import CodexObserver
from agenttop.core.observe.watch import Observed, Watch, is_id, name

SH = shutil.which("dash") or "/bin/sh"
DEADLINE = 10.0

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a program under a CLI's name, with a home of its own; it ends when its stdin is closed."""
    started: list[subprocess.Popen[bytes]] = []

    def run(name: str, cwd: Path, script: str = "read line", **environ: str) -> subprocess.Popen[bytes]:
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        if not program.exists():
            shutil.copy(SH, program)
        cwd.mkdir(exist_ok=True)
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | environ
        process = subprocess.Popen(
            [str(program), "-c", f"echo; {script}"], cwd=cwd, env=environment, stdin=-1, stdout=-1
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"  # it has execed
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def watch() -> Watch:
    return Watch({"claude": ClaudeObserver(), "codex": CodexObserver()}, "boot")


def look(watched: Watch, *processes: subprocess.Popen[bytes]) -> list[Observed]:
    """What a look finds of these processes."""
    pids = {process.pid for process in processes}
    return [agent for agent in watched.refresh(time.time(), time.monotonic()) if agent.main.pid in pids]


def start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])


def pid_file(home: Path, pid: int, session: str, cwd: Path, begun: int | None = None) -> None:
    folder = home / ".claude" / "sessions"
    folder.mkdir(parents=True, exist_ok=True)
    told = {"pid": pid, "sessionId": session, "cwd": str(cwd), "procStart": str(begun or start_time(pid))}
    (folder / f"{pid}.json").write_text(json.dumps(told))


def transcript(home: Path, cwd: Path, session: str, prompt: str = "hello") -> Path:
    folder = home / ".claude" / "projects" / slug(os.path.realpath(cwd))
    folder.mkdir(parents=True, exist_ok=True)
    line = {
        "type": "user",
        "message": {"role": "user", "content": prompt},
        "timestamp": "2026-11-18T08:00:00Z",
    }
    path = folder / f"{session}.jsonl"
    path.write_text(json.dumps(line | {"sessionId": session, "cwd": str(cwd)}) + "\n")
    return path


def test_a_claude_is_joined_by_its_pid_file(tmp_path: Path, start: Start) -> None:
    process = start("claude", tmp_path / "w")
    pid_file(tmp_path, process.pid, "s1", tmp_path / "w")
    transcript(tmp_path, tmp_path / "w", "s1")
    (agent,) = look(watch(), process)
    assert agent.session is not None
    assert (agent.session.id, agent.session.exact) == ("s1", True)
    assert agent.view is not None
    assert (agent.view.prompt, agent.view.state.value) == ("hello", "planning")
    assert name(agent) == f"claude@{process.pid}"


def test_a_pid_file_of_another_process_with_the_same_pid_is_not_believed(
    tmp_path: Path, start: Start
) -> None:
    process = start("claude", tmp_path / "w")
    pid_file(tmp_path, process.pid, "stale", tmp_path / "w", begun=12345)
    transcript(tmp_path, tmp_path / "w", "stale")
    os.utime(transcript(tmp_path, tmp_path / "w", "stale"), (1, 1))
    (agent,) = look(watch(), process)
    assert agent.session is None


def test_without_a_pid_file_the_newest_transcript_of_the_folder_is_the_likeliest(
    tmp_path: Path, start: Start
) -> None:
    process = start("claude", tmp_path / "w")
    os.utime(transcript(tmp_path, tmp_path / "w", "old"), (1, 1))
    transcript(tmp_path, tmp_path / "w", "new")
    (agent,) = look(watch(), process)
    assert agent.session is not None
    assert (agent.session.id, agent.session.exact) == ("new", False)


def test_two_in_one_folder_do_not_get_each_others_transcript(tmp_path: Path, start: Start) -> None:
    one, two = start("claude", tmp_path / "w"), start("claude", tmp_path / "w")
    pid_file(tmp_path, one.pid, "s1", tmp_path / "w")
    transcript(tmp_path, tmp_path / "w", "s1")
    transcript(tmp_path, tmp_path / "w", "s2")
    sessions = {agent.main.pid: agent.session for agent in look(watch(), one, two)}
    assert sessions[one.pid] is not None
    assert sessions[one.pid].id == "s1"
    assert sessions[two.pid] is None


def test_a_folder_with_a_long_name_is_found_by_its_beginning(tmp_path: Path, start: Start) -> None:
    cwd = tmp_path / ("x" * 220)
    process = start("claude", cwd)
    pid_file(tmp_path, process.pid, "s1", cwd)
    path = transcript(tmp_path, cwd, "s1")
    path.parent.rename(path.parent.with_name(f"{path.parent.name}-a1b2c3"))
    (agent,) = look(watch(), process)
    assert agent.view is not None
    assert agent.view.prompt == "hello"


def test_after_clear_the_new_transcript_is_followed(tmp_path: Path, start: Start) -> None:
    process = start("claude", tmp_path / "w")
    pid_file(tmp_path, process.pid, "s1", tmp_path / "w")
    os.utime(transcript(tmp_path, tmp_path / "w", "s1"), (time.time() - 1, time.time() - 1))
    watched = watch()
    (before,) = look(watched, process)
    transcript(tmp_path, tmp_path / "w", "s2", "after")
    deadline = time.monotonic() + DEADLINE
    while True:
        (agent,) = look(watched, process)
        assert agent.session is not None
        if agent.session.id == "s2":
            break
        assert time.monotonic() < deadline
    assert agent.view is not None
    assert agent.view.prompt == "after"
    assert agent.id == before.id


def test_a_codex_is_joined_by_the_rollout_it_holds_open(tmp_path: Path, start: Start) -> None:
    thread = "01a1fccc-30d1-7961-a4f5-77c0d5ee1a71"
    path = tmp_path / f"rollout-2026-11-21T06-30-02-{thread}.jsonl"
    meta = {
        "timestamp": "2026-11-21T06:30:02Z",
        "type": "session_meta",
        "payload": {"id": thread, "cwd": "/x/y"},
    }
    path.write_text(json.dumps(meta) + "\n")
    process = start("codex", tmp_path / "w", f"exec 9>>{path}; echo; read line")
    assert process.stdout is not None
    process.stdout.readline()
    assert str(path) in open_files(process.pid)
    (agent,) = look(watch(), process)
    assert agent.session is not None
    assert (agent.session.id, agent.session.exact) == (thread, True)
    assert agent.view is not None
    assert agent.view.cwd == "/x/y"


def test_what_ended_is_gone_and_an_exec_is_seen(tmp_path: Path, start: Start) -> None:
    process = start("waiter", tmp_path / "w", f"read line; exec {tmp_path}/bin/claude -c 'echo; read line'")
    shutil.copy(SH, tmp_path / "bin" / "claude")
    watched = watch()
    assert look(watched, process) == []
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    process.stdout.readline()
    assert [agent.main.comm for agent in look(watched, process)] == ["claude"]
    process.kill()
    process.wait()
    assert look(watched, process) == []


def test_what_carries_our_mark_is_managed_and_what_carries_another_kernels_is_observed(
    tmp_path: Path, start: Start
) -> None:
    process = start("claude", tmp_path / "w", AGENTTOP_RUN="0123456789ab/a1b2.3")
    observers = {"claude": ClaudeObserver()}
    assert look(Watch(observers, "boot", kernel="0123456789ab"), process) == []
    (other,) = look(Watch(observers, "boot", kernel="ba9876543210"), process)
    assert other.managed == ""
    followed: list[str] = []
    watched = Watch(observers, "boot", kernel="0123456789ab", follows=lambda a: followed.append(a) is None)
    (own,) = look(watched, process)
    assert (own.managed, followed) == ("a1b2", ["a1b2"])


def test_what_lost_our_mark_below_a_managed_process_is_managed_all_the_same(
    tmp_path: Path, start: Start
) -> None:
    (tmp_path / "bin").mkdir(exist_ok=True)
    shutil.copy(SH, tmp_path / "bin" / "codex")
    script = f"env -i {tmp_path}/bin/codex -c 'echo; read line; :'; :"
    process = start("wrapper", tmp_path / "w", script, AGENTTOP_RUN="0123456789ab/a1b2.3")
    assert process.stdout is not None
    process.stdout.readline()
    found = Watch({"codex": CodexObserver()}, "boot", kernel="0123456789ab").refresh(0, time.monotonic())
    assert [agent for agent in found if str(tmp_path) in agent.main.argv[0]] == []


def test_a_glance_finds_what_grew_and_a_look_does_not_take_a_view_anew_without_need(
    tmp_path: Path, start: Start
) -> None:
    process = start("claude", tmp_path / "w")
    pid_file(tmp_path, process.pid, "s1", tmp_path / "w")
    path = transcript(tmp_path, tmp_path / "w", "s1")
    watched = watch()
    (before,) = look(watched, process)
    assert [agent for agent in watched.glance(time.time()) if agent.id == before.id] == []
    (same,) = look(watched, process)
    assert same.view is before.view
    with path.open("a") as file:
        file.write(path.read_text().replace("hello", "again"))
    (grown,) = [agent for agent in watched.glance(time.time()) if agent.id == before.id]
    assert grown.view is not None
    assert grown.view.prompt == "again"


def test_a_look_without_patience_shows_agents_before_their_transcripts_are_read(
    tmp_path: Path, start: Start
) -> None:
    process = start("claude", tmp_path / "w")
    pid_file(tmp_path, process.pid, "s1", tmp_path / "w")
    transcript(tmp_path, tmp_path / "w", "s1")
    watched = watch()
    found = watched.refresh(time.time(), time.monotonic(), patience=0.0)
    assert [agent.view for agent in found if agent.main.pid == process.pid] == [None]
    assert watched.unread
    (agent,) = look(watched, process)
    assert agent.view is not None


@given(st.lists(st.tuples(st.integers(1, 5_000_000), st.integers(1, 1 << 60)), unique_by=lambda key: key[0]))
def test_names_and_ids_are_unique_and_no_managed_agents(keys: list[tuple[int, int]]) -> None:
    watched = watch()
    ids = [watched._id(key) for key in keys]
    assert len(set(ids)) == len(keys)
    assert all(is_id(one) and not set(one[:4]) <= set("0123456789abcdef") for one in ids)
    main = Found(7, 8, 1, 0, "claude", ("claude",), None, "/w", {}, "/root", 0.0, True, 7, "")
    names = [
        name(Observed(one, "claude", (main._replace(pid=key[0], start_time=key[1]),), None, None, None))
        for one, key in zip(ids, keys, strict=True)
    ]
    assert len(set(names)) == len(keys)
    assert not any(NAME.fullmatch(one) for one in names)


def test_a_shim_and_its_worker_are_one_agent_and_an_agent_started_by_another_is_its_child(
    tmp_path: Path, start: Start
) -> None:
    (tmp_path / "bin").mkdir(exist_ok=True)
    shutil.copy(SH, tmp_path / "bin" / "codex")
    inner = f'{tmp_path}/bin/codex -c "echo; read line; :"; :'
    process = start("claude", tmp_path / "w", f"{tmp_path}/bin/claude -c '{inner}'; :")
    assert process.stdout is not None
    process.stdout.readline()
    found = watch().refresh(time.time(), time.monotonic())
    own = [agent for agent in found if str(tmp_path) in agent.main.argv[0]]
    assert [(agent.observer, len(agent.processes)) for agent in own] == [("claude", 2), ("codex", 1)]
    assert own[1].parent == own[0].id
    assert process.stdin is not None
    process.stdin.close()  # all of them end
    process.wait(DEADLINE)


class Broken(CodexObserver):
    """A reader that fails in one way or another."""

    def __init__(self, how: str) -> None:
        self.how = how

    def join(self, processes: Sequence[Found]) -> dict[tuple[int, int], Session]:
        if self.how == "join":
            raise RuntimeError("join")
        return {process.key: Session("s", "/nowhere", True) for process in processes}

    def tail(self, session: Session) -> Tail:
        raise RuntimeError("tail")


@pytest.mark.parametrize("how", ["join", "tail"])
def test_a_reader_that_fails_hides_nobody(
    how: str, tmp_path: Path, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = start("codex", tmp_path / "w"), start("claude", tmp_path / "v")
    pid_file(tmp_path, two.pid, "s1", tmp_path / "v")
    transcript(tmp_path, tmp_path / "v", "s1")
    watched = Watch({"codex": Broken(how), "claude": ClaudeObserver()}, "boot")
    for _ in range(3):
        found = {agent.main.pid: agent for agent in look(watched, one, two)}
        assert found[one.pid].view is None
        assert found[two.pid].view is not None
    assert [record.message for record in caplog.records] == ["the reader of codex failed to join"]


def test_groups_begin_with_the_topmost_process(tmp_path: Path, start: Start) -> None:
    process = start("claude", tmp_path / "w")
    found = Processes({"claude": ClaudeObserver()}).refresh(time.monotonic())["claude"]
    group = agents(found)[process.pid, start_time(process.pid)]
    assert [member.pid for member in group] == [process.pid]


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        (["claude", "--resume", "a"], "a"),
        (["claude", "--resume=a"], "a"),
        (["claude", "--resume", "a", "--resume=b"], "b"),
        (["claude", "--resume"], None),
        (["claude"], None),
    ],
)
def test_options_are_read_in_both_forms(argv: list[str], value: str | None) -> None:
    assert option(argv, "--resume") == value


def test_an_id_that_is_a_path_leads_nowhere(tmp_path: Path, start: Start) -> None:
    process = start("claude", tmp_path / "w")
    pid_file(tmp_path, process.pid, "../../../etc/passwd", tmp_path / "w")
    (agent,) = look(watch(), process)
    assert agent.session is None
