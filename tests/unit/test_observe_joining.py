"""Which processes are which CLI, and which session is whose: never one session for two agents."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.observe.contract import Found, Session, observers
from agenttop.core.observe.processes import describe
from agenttop.core.observe.readers.claude_slug import slug
from agenttop.core.observe.readers.joining import Candidate, by_time

from ..support import chats
from ..support.chats import OpenCode, T

OBSERVERS = observers()[0]


def process(pid: int = 7, *argv: str, started: float = T, **more: Any) -> Found:
    """A process as it could be found; everything can be replaced."""
    argv = argv or ("node", "/usr/bin/x")
    comm = more.pop("comm", os.path.basename(argv[0])[:15])
    home, cwd = more.pop("home", "/home/p"), more.pop("cwd", "/w")
    found = Found(pid, pid * 100, 1, 0, comm, argv, None, cwd, {}, home, started, True, pid, "")
    return found._replace(**more)


@pytest.mark.parametrize(
    ("name", "argv", "comm"),
    [
        ("gemini", ["node", "/opt/npm/node_modules/.bin/gemini", "-p", "x"], "node"),
        ("gemini", ["/usr/bin/node", "--max-old-space-size=12052", "/opt/bin/gemini"], "MainThread"),
        ("gemini", ["node", "/x/node_modules/@google/gemini-cli/bundle/gemini.js"], "node"),
        ("qwen", ["node", "/opt/npm/node_modules/.bin/qwen"], "node"),
        ("qwen", ["/n/node", "--expose-gc", "/x/node_modules/@qwen-code/qwen-code/cli.js", "-y"], "node"),
        ("copilot", ["/x/node_modules/@github/copilot-linux-x64/copilot", "-p", "x"], "MainThread"),
        ("copilot", ["node", "/opt/npm/node_modules/.bin/copilot"], "node"),
        ("opencode", ["opencode", "run", "x"], "opencode"),
        ("opencode", ["node", "/x/node_modules/.bin/opencode"], "node"),
        ("aider", ["/v/bin/python3", "/v/bin/aider", "--model", "m"], "aider"),
        ("aider", ["python3.11", "-m", "aider"], "python3.11"),
        ("goose", ["/root/.local/bin/goose", "session"], "goose"),
        ("goose", ["goose"], "goose"),
        ("", ["goose", "-dir", "migrations", "postgres", "up"], "goose"),
        ("claude", ["claude"], "claude"),
        ("codex", ["node", "/x/node_modules/@openai/codex/bin/codex.js"], "node"),
        ("", ["node", "server.js", "gemini"], "node"),
        ("", ["vim", "/src/gemini"], "vim"),
        ("", ["python3", "-m", "http.server", "aider"], "python3"),
        ("", ["grep", "opencode"], "grep"),
        ("", ["bash", "-c", "qwen -p x"], "bash"),
        ("", ["node"], "node"),
        ("", [""], "node"),
    ],
)
def test_each_process_is_recognised_by_its_own_reader_only(name: str, argv: list[str], comm: str) -> None:
    found = process(7, *argv, comm=comm)
    assert [key for key in OBSERVERS if OBSERVERS[key].recognise(found)] == ([name] if name else [])


times = st.floats(T - 1000, T + 1000)


@given(starts=st.lists(times, min_size=1, max_size=5), begun=st.lists(times, max_size=8), data=st.data())
def test_no_session_is_given_to_two_and_none_to_one_that_began_later(
    starts: list[float], begun: list[float], data: st.DataObject
) -> None:
    processes = [process(10 + number, started=start) for number, start in enumerate(starts)]
    candidates = [
        Candidate(Session(f"s{n}", f"/s{n}", True), when, when + data.draw(st.floats(0, 500)))
        for n, when in enumerate(begun)
    ]
    taken = [session.session.id for session in candidates[:1]]
    found = by_time(processes, candidates, taken)
    ids = [session.id for session in found.values()]
    assert len(set(ids)) == len(ids)
    assert not set(ids) & set(taken)
    assert not any(session.exact for session in found.values())
    known = {candidate.session.id: candidate for candidate in candidates}
    for member in processes:
        if (session := found.get(member.key)) is not None:
            reached = known[session.id].changed if len(processes) == 1 else known[session.id].begun
            assert reached >= member.started - 2


def test_one_alone_follows_the_session_written_last_and_several_keep_their_first() -> None:
    one, two = process(1, started=T), process(2, started=T + 100)
    first = Candidate(Session("first", "/1", True), T + 1, T + 50)
    cleared = Candidate(Session("cleared", "/2", True), T + 60, T + 300)
    second = Candidate(Session("second", "/3", True), T + 101, T + 200)
    assert by_time([one], [first, cleared])[one.key].id == "cleared"
    both = by_time([two, one], [cleared, second, first])
    assert (both[one.key].id, both[two.key].id) == ("first", "second")
    assert by_time([process(3, started=T + 1000)], [first, cleared]) == {}


def gemini_home(home: Path, cwd: str, *sessions: tuple[str, float]) -> None:
    base = home / ".gemini"
    folder = base / "tmp" / "p" / "chats"
    folder.mkdir(parents=True, exist_ok=True)
    (base / "projects.json").write_text(json.dumps({"projects": {cwd: "p"}}))
    for name, begun in sessions:
        head = {
            "sessionId": name,
            "projectHash": "x",
            "startTime": datetime.fromtimestamp(begun, UTC).isoformat(),
        }
        path = folder / f"session-{name}.jsonl"
        path.write_text(json.dumps(head) + "\n")
        os.utime(path, (begun + 5, begun + 5))


def test_a_gemini_and_its_worker_are_one_and_two_geminis_in_a_folder_have_their_own(tmp_path: Path) -> None:
    gemini_home(tmp_path, "/w", ("a", T + 1), ("b", T + 101), ("old", T - 500))
    shim = process(10, "node", "/b/gemini", home=str(tmp_path))
    worker = process(11, "node", "/b/gemini", home=str(tmp_path), ppid=10, started=T + 1)
    alone = OBSERVERS["gemini"].join([shim, worker])
    assert [session.id for session in alone.values()] == ["b"], "written last"
    other = process(20, "node", "/b/gemini", home=str(tmp_path), started=T + 100)
    both = OBSERVERS["gemini"].join([shim, worker, other])
    assert {key[0]: session.id for key, session in both.items()} == {10: "a", 20: "b"}
    last = tmp_path / ".gemini" / "tmp" / "p" / "chats" / "session-a.jsonl"
    with last.open("a") as file:  # what a new process writes into the session before it
        file.write('{"$set":{"summary":"well"}}\n')
    assert [session.id for session in OBSERVERS["gemini"].join([shim, worker]).values()] == ["b"]
    elsewhere = process(30, "node", "/b/gemini", home=str(tmp_path), cwd="/elsewhere")
    assert OBSERVERS["gemini"].join([elsewhere]) == {}


@pytest.mark.parametrize("name", ["../../etc", ".", "", 5, None, ["p"]])
def test_a_project_that_is_no_plain_name_leads_nowhere(tmp_path: Path, name: object) -> None:
    gemini_home(tmp_path, "/w", ("a", T + 1))
    (tmp_path / ".gemini" / "projects.json").write_text(json.dumps({"projects": {"/w": name}}))
    assert OBSERVERS["gemini"].join([process(10, "node", "/b/gemini", home=str(tmp_path))]) == {}


def qwen_chat(home: Path, name: str, begun: float, runtime: dict[str, Any] | None = None) -> Path:
    folder = home / ".qwen" / "projects" / slug("/w") / "chats"
    folder.mkdir(parents=True, exist_ok=True)
    chat = chats.Chat(1)
    chat.now = begun
    path = folder / f"{name}.jsonl"
    path.write_text(chats.compact(chats.qwen_line(chat, "user", message={"parts": []})) + "\n")
    os.utime(path, (begun + 5, begun + 5))
    if runtime is not None:
        (folder / f"{name}.runtime.json").write_text(json.dumps(runtime))
    return path


def test_a_qwen_is_joined_by_what_it_wrote_about_its_process(tmp_path: Path) -> None:
    qwen_chat(tmp_path, "a", T + 1, {"pid": 11, "started_at": T + 2})
    qwen_chat(tmp_path, "stale", T + 50, {"pid": 11, "started_at": T - 900})
    for number, nonsense in enumerate(("soon", [1], {"at": 1})):  # an agent could write it
        qwen_chat(tmp_path, f"odd{number}", T - 99, {"pid": 11, "started_at": nonsense})
    qwen_chat(tmp_path, "b", T + 90)
    shim = process(10, "node", "/b/qwen", home=str(tmp_path))
    worker = process(11, "node", "/b/qwen", home=str(tmp_path), ppid=10)
    other = process(20, "node", "/b/qwen", home=str(tmp_path), started=T + 60)
    found = OBSERVERS["qwen"].join([shim, worker, other])
    assert {key[0]: (session.id, session.exact) for key, session in found.items()} == {
        10: ("a", True),
        20: ("b", False),
    }
    named = process(30, "node", "/b/qwen", "--resume", "stale", home=str(tmp_path))
    (session,) = OBSERVERS["qwen"].join([named]).values()
    assert (session.id, session.exact) == ("stale", True)
    hostile = process(30, "node", "/b/qwen", "--resume", "../../x", home=str(tmp_path), started=T + 9999)
    assert OBSERVERS["qwen"].join([hostile]) == {}


def test_an_opencode_is_joined_by_its_command_line_else_by_folder_and_time(tmp_path: Path) -> None:
    made = OpenCode(tmp_path / ".local" / "share" / "opencode" / "opencode.db")
    work = str(tmp_path)
    for name, parent in (("ses_a", None), ("ses_sub", "ses_a"), ("ses_b", None)):
        made.session(name, parent, directory=work)
        made.now += 100_000
    made.session("ses_c", directory="/elsewhere")
    one = process(10, "opencode", home=str(tmp_path), cwd=work, started=T)
    two = process(20, "opencode", home=str(tmp_path), cwd=work, started=T + 150)
    found = OBSERVERS["opencode"].join([one, two])
    assert {key[0]: (session.id, session.exact) for key, session in found.items()} == {
        10: ("ses_a", False),
        20: ("ses_b", False),
    }
    named = process(30, "opencode", "-s", "ses_a", home=str(tmp_path), cwd=work, started=T + 999)
    found = OBSERVERS["opencode"].join([one, named])
    assert found[named.key] == Session("ses_a", f"{made.path}#ses_a", True)
    assert found[one.key].id == "ses_b", "the other one's session is taken"
    given = process(40, "opencode", work, home=str(tmp_path), cwd="/", started=T)
    assert [session.id for session in OBSERVERS["opencode"].join([given]).values()] == ["ses_b"]
    made.close()


def test_two_aiders_in_one_repository_get_nothing_and_one_its_history(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "src").mkdir()
    history = tmp_path / ".aider.chat.history.md"
    history.write_text("# aider chat started at 2026-11-20 08:00:00\n")
    argv = ["/v/bin/python3", "/v/bin/aider"]
    one = process(10, *argv, cwd=str(tmp_path / "src"))
    two = process(20, *argv, cwd=str(tmp_path))
    (session,) = OBSERVERS["aider"].join([one]).values()
    assert (session.path, session.exact) == (str(history), False)
    assert OBSERVERS["aider"].join([one, two]) == {}
    named = process(30, *argv, "--chat-history-file", "other.md", cwd=str(tmp_path))
    (tmp_path / "other.md").touch()
    assert OBSERVERS["aider"].join([one, named])[named.key].path == str(tmp_path / "other.md")
    later = process(40, *argv, cwd=str(tmp_path), started=T * 2)
    assert OBSERVERS["aider"].join([later]) == {}, "nothing was written since it began"


def test_a_goose_is_joined_by_folder_and_time(tmp_path: Path) -> None:
    path = tmp_path / ".local" / "share" / "goose" / "sessions" / "sessions.db"
    chats.goose(path, (10, 1))
    begun = datetime(2026, 11, 18, 8, tzinfo=UTC).timestamp()
    found = process(10, "goose", home=str(tmp_path), cwd=chats.CWD, started=begun - 10)
    (session,) = OBSERVERS["goose"].join([found]).values()
    assert (session.id, session.exact) == ("20261118_1", False)
    assert OBSERVERS["goose"].join([found._replace(cwd="/elsewhere")]) == {}


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process called ``copilot`` that holds the file of its session open."""
    program = tmp_path / "copilot"
    shutil.copy(shutil.which("dash") or "/bin/sh", program)
    folder = tmp_path / ".copilot" / "session-state" / "c1"
    folder.mkdir(parents=True)
    script = f"exec 9>{folder}/inuse.$$.hold; echo; read line"
    made = subprocess.Popen([str(program), "-c", script], stdin=-1, stdout=-1)
    assert made.stdout is not None
    assert made.stdin is not None
    made.stdout.readline()
    yield made
    made.kill()
    made.wait()
    made.stdin.close()
    made.stdout.close()


def test_a_copilot_is_joined_by_the_file_it_holds_open(
    tmp_path: Path, holder: subprocess.Popen[bytes]
) -> None:
    found = describe(holder.pid, Path(f"/proc/{holder.pid}/cmdline").read_bytes(), 0.0)
    assert found is not None
    assert OBSERVERS["copilot"].recognise(found)
    (session,) = OBSERVERS["copilot"].join([found]).values()
    expected = tmp_path / ".copilot" / "session-state" / "c1" / "events.jsonl"
    assert session == Session("c1", str(expected), True)


@pytest.mark.parametrize("name", sorted(OBSERVERS))
def test_a_process_of_which_nothing_may_be_known_is_joined_to_nothing(name: str, tmp_path: Path) -> None:
    unknown = process(10, "x", cwd=None, environ=None, home=None)
    nowhere = process(11, "x", cwd=str(tmp_path), environ=None, home=str(tmp_path))
    assert OBSERVERS[name].join([unknown, nowhere]) == {}
    assert OBSERVERS[name].join([]) == {}
