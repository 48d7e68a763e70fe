"""What an agent can do with its own files must not hang, hide or end anybody else."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.agents.states import State
from agenttop.core.budget.prices import Prices
from agenttop.core.journal.events import Usage
from agenttop.core.observe import regular, rows
from agenttop.core.observe.believed import CHILDREN, believed
from agenttop.core.observe.contract import Child, Found, Observer, Session, View
from agenttop.core.observe.pricing import Pricing
from agenttop.core.observe.readers.aider import AiderObserver
from agenttop.core.observe.readers.claude import ClaudeObserver
from agenttop.core.observe.readers.database import opened
from agenttop.core.observe.watch import Observed, Watch

from ..support.clis import Clis, line, now, reply, say


@pytest.fixture
def clis(tmp_path: Path) -> Iterator[Clis]:
    made = Clis(tmp_path)
    yield made
    made.close()


def look(*pids: int, **observers: Observer) -> list[Observed]:
    watched = Watch(observers or {"claude": ClaudeObserver()}, "boot")
    return [agent for agent in watched.refresh(time.time(), time.monotonic()) if agent.main.pid in pids]


def test_a_folder_whose_name_is_no_text_is_shown_as_far_as_it_is_one(clis: Clis) -> None:
    pid = clis.start("claude", "READY; read line", os.fsdecode(b"w\xff"))
    (agent,) = look(pid)
    price = Pricing(Prices({}))
    assert orjson.dumps([*rows.row(agent, price, now())])
    assert (rows.info(agent, price, now()).cwd or "").endswith("/w?")
    assert rows.info(agent, price, now()).model_dump_json()


ANYTHING: list[Any] = [5, -1, 1 << 63, 1e308, True, [], ["x"], {}, {"a": [1]}, "x" * 9_000, "\x1b]0;x\x07"]


@pytest.mark.parametrize("wrong", ANYTHING, ids=lambda value: repr(value)[:12])
def test_lines_with_anything_in_any_place_make_a_row_that_every_screen_can_take(
    clis: Clis, wrong: Any
) -> None:
    pid = clis.start("claude", "READY; read line")
    path = clis.session(pid, "s1")
    say(path, line("user", "go", now()), reply(1, now()))
    for key in ("cwd", "gitBranch", "timestamp", "requestId", "isSidechain", "isMeta", "type"):
        say(path, line("user", "go", now()) | {key: wrong}, reply(2, now()) | {key: wrong})
    for key in ("model", "usage", "content", "stop_reason", "id"):
        made = reply(3, now())
        made["message"][key] = wrong
        say(path, made)
    for key in ("input_tokens", "output_tokens", "cache_read_input_tokens"):
        made = reply(4, now())
        made["message"]["usage"][key] = wrong
        say(path, made)
    say(path, reply(5, now(), {"type": "tool_use", "id": wrong, "name": "Bash"}, stop="tool_use"))
    say(path, reply(6, now(), {"type": "tool_use", "id": "t", "name": wrong}, stop="tool_use"))
    with path.open("a") as file:
        file.write(json.dumps(line("user", "go", now()) | {"sessionId": wrong}) + "\n")
    (agent,) = look(pid)
    price = Pricing(Prices({}))
    for window in ("run", "hour", "today", "total"):
        row = rows.row(agent, price, now(), window=window)
        assert len(orjson.dumps([*row])) < 20_000
        assert isinstance(row.model, str)
        assert 0 <= (row.context or 0) < 1 << 53
    assert rows.info(agent, price, now()).tokens.output >= 42


WILD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.integers())
)


@given(wild=st.lists(WILD, min_size=14, max_size=14), state=st.sampled_from(list(State)))
def test_whatever_a_reader_says_is_something_that_a_row_can_hold(wild: list[Any], state: State) -> None:
    names = [
        "session",
        "detail",
        "since",
        "model",
        "cwd",
        "branch",
        "context",
        "context_limit",
        "last_call",
        "tool",
        "prompt",
    ]
    view = View(
        **dict(zip(names, wild, strict=False)),
        state=state,
        reason=None,
        certain=True,
        usage=Usage(),
        usages={},
        minutes={},
        calls=0,
    )
    nested = view._replace(children=tuple(Child(wild[11], wild[12], view) for _ in range(CHILDREN + 9)))
    agent = Observed("oaaaaaaa", "claude", (FOUND,), Session("s", "/s", True), believed(nested), None)
    price = Pricing(Prices({}))
    orjson.dumps([*rows.row(agent, price, 1e9)])
    assert len(list(rows.child_rows(agent, price, 1e9))) == CHILDREN


FOUND = Found(1, 1, 0, 0, "claude", ("claude",), None, "/w", None, "/", 1.0, False, 1, "")


def test_a_pipe_or_a_device_among_an_agents_files_hangs_nobody(clis: Clis) -> None:
    one, two = (clis.start("claude", "READY; read line", folder) for folder in ("a", "b"))
    pipe, zero = clis.session(one, "s1", "a"), clis.session(two, "s2", "b")
    pipe.unlink()
    os.mkfifo(pipe)
    zero.unlink()
    zero.symlink_to("/dev/zero")
    found = look(one, two)
    assert [agent.view and agent.view.calls for agent in found] == [0, 0]
    told = clis.home / ".claude" / "sessions" / f"{one}.json"
    told.unlink()
    os.mkfifo(told)
    assert len(look(one, two)) == 2


def test_devices_that_a_command_line_names_are_not_read(clis: Clis) -> None:
    pid = clis.start("aider", "READY; read line", AIDER_CHAT_HISTORY_FILE="/dev/zero")
    assert len(look(pid, aider=AiderObserver())) == 1
    pid = clis.start("aider", "READY; read line", "b", AIDER_ANALYTICS_LOG="/dev/zero")
    (clis.home / "b" / ".aider.chat.history.md").write_text("# aider chat started at 2026-01-01 00:00:00\n")
    assert len(look(pid, aider=AiderObserver())) == 1


@pytest.mark.parametrize("beside", ["", "-wal", "-shm", "-journal"])
def test_a_pipe_beside_a_database_hangs_nobody(tmp_path: Path, beside: str) -> None:
    path = tmp_path / "opencode.db"
    if beside:
        path.write_bytes(b"SQLite format 3\0" + b"\x10\0\x02\x02" + bytes(80))
    os.mkfifo(f"{path}{beside}")
    with pytest.raises(OSError, match="not a regular file"), opened(str(path)):
        pass


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abcdef")
    (tmp_path / "link").symlink_to("file")
    assert regular.beginning(str(tmp_path / "link"), 3) == b"abc"
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="Not a regular file"):
            regular.beginning(str(path), 3)


def test_an_agent_whose_session_cannot_be_told_does_not_hide_the_others(clis: Clis) -> None:
    one, two = (clis.start("claude", "READY; read line", folder) for folder in ("a", "b"))
    say(clis.session(one, "s1", "a"), line("user", "go", now()), reply(1, now()))
    clis.session(two, "s2", "b")
    told = clis.home / ".claude" / "sessions" / f"{two}.json"
    told.write_text(json.dumps(json.loads(told.read_text()) | {"cwd": "/a\0b"}))
    good, bad = look(one, two)
    assert good.view is not None
    assert (good.view.usage.output, bad.session) == (42, None)


@pytest.mark.parametrize(
    "argv",
    [
        ("vim", "/usr/lib/node_modules/@anthropic-ai/claude-code/cli.js"),
        ("grep", "-n", "/usr/lib/node_modules/@anthropic-ai/claude-code/cli.js"),
        ("bash", "-c", "claude --resume"),
        ("grep", "-r", "claude"),
        ("tmux", "new", "-s", "claude"),
    ],
)
def test_what_only_names_the_cli_is_not_it(argv: tuple[str, ...]) -> None:
    assert not ClaudeObserver().recognise(FOUND._replace(comm=argv[0], argv=argv))


@pytest.mark.parametrize("node", ["node", "MainThread", "bun"])
def test_node_with_its_script_is_it(node: str) -> None:
    argv = ("node", "--no-warnings", "/x/node_modules/@anthropic-ai/claude-code/cli.js")
    assert ClaudeObserver().recognise(FOUND._replace(comm=node, argv=argv))


def test_kinds_of_lines_that_nobody_knows_do_not_fill_the_memory(tmp_path: Path) -> None:
    clis = Clis(tmp_path)
    pid = clis.start("claude", "READY; read line")
    try:
        path = clis.session(pid, "s1")
        say(path, *({"type": f"{number}" + "x" * 1_000} for number in range(2_000)))
        watched = Watch({"claude": ClaudeObserver()}, "boot")
        watched.refresh(time.time(), time.monotonic())
        unknown = watched.oddities().unknown
        assert sum(unknown.values()) >= 500
        assert sum(map(len, unknown)) < 100_000
    finally:
        clis.close()
