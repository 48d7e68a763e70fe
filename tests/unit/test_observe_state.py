"""What transcripts say their agents do, and what readers do with what they do not understand."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agenttop.core.agents.agent import ObservedFreeze
from agenttop.core.agents.sampler import Load
from agenttop.core.agents.states import State, Waiting
from agenttop.core.budget.prices import Quote
from agenttop.core.journal.events import Usage
from agenttop.core.observe.contract import Activity, Found, Observer, Session, Tail, View, observers
from agenttop.core.observe.gauges import Tree
from agenttop.core.observe.proc import Stat
from agenttop.core.observe.readers.claude import ClaudeObserver
from agenttop.core.observe.readers.claude_slug import slug
from agenttop.core.observe.readers.codex import CodexObserver
from agenttop.core.observe.readers.tail import RECENT
from agenttop.core.observe.rows import info, row
from agenttop.core.observe.watch import Observed
from agenttop.core.table import WINDOWS

from ..support.transcripts import Corpus, stamp

T = 1_795_000_000.0
SOMEBODY = Activity(terminal=True, children=0)


class Scene:
    """A transcript that is written line by line."""

    def __init__(self, observer: Observer, path: Path) -> None:
        self.path = path
        self.tail: Tail = observer.tail(Session("s", str(path), True))

    def say(self, *lines: dict[str, Any] | str) -> None:
        with self.path.open("a") as file:
            for line in lines:
                file.write(line if isinstance(line, str) else json.dumps(line) + "\n")

    def view(self, now: float = T + 1, process: Activity | None = SOMEBODY) -> View:
        self.tail.refresh()
        return self.tail.view(now, process)


@pytest.fixture
def claude(tmp_path: Path) -> Scene:
    return Scene(ClaudeObserver(), tmp_path / "s.jsonl")


@pytest.fixture
def codex(tmp_path: Path) -> Scene:
    return Scene(CodexObserver(), tmp_path / "r.jsonl")


def user(content: Any, time: float = T, **more: Any) -> dict[str, Any]:
    line = {"type": "user", "message": {"role": "user", "content": content}, "timestamp": stamp(time)}
    return line | {"sessionId": "s", "cwd": "/w", "gitBranch": "main", "isSidechain": False} | more


def reply(*blocks: dict[str, Any], stop: str = "tool_use", time: float = T, **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 1, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 300}
    message = {"id": f"m{time}", "role": "assistant", "model": "claude-opus-4-8", "content": list(blocks)}
    message |= {"stop_reason": stop, "usage": usage | {"output_tokens": 4000}}
    line = {"type": "assistant", "message": message, "requestId": f"r{time}", "timestamp": stamp(time)}
    return line | {"sessionId": "s", "cwd": "/w", "isSidechain": False} | more


def tool(name: str, call: str = "t1") -> dict[str, Any]:
    return {"type": "tool_use", "id": call, "name": name, "input": {}}


def result(call: str = "t1") -> list[dict[str, Any]]:
    return [{"type": "tool_result", "tool_use_id": call, "content": "ok"}]


TEXT = {"type": "text", "text": "done"}


def test_a_turn_goes_from_planning_over_executing_to_idle(claude: Scene) -> None:
    states = []
    for line in (user("do it"), reply(tool("Bash")), user(result()), reply(TEXT, stop="end_turn")):
        claude.say(line)
        states.append(claude.view().state)
    assert states == [State.PLANNING, State.EXECUTING, State.PLANNING, State.IDLE]


def test_a_view_has_what_the_transcript_knows(claude: Scene) -> None:
    claude.say(user("do it"), reply(tool("Bash"), time=T + 1))
    view = claude.view()
    assert (view.session, view.model, view.cwd, view.branch) == ("s", "claude-opus-4-8", "/w", "main")
    assert (view.context, view.calls, view.usage.output, view.tool) == (4321, 1, 4000, "Bash")
    assert (view.detail, view.since, view.prompt) == ("Bash", T + 1, "do it")


def test_a_question_to_the_person_is_waiting_for_input_for_certain(claude: Scene) -> None:
    claude.say(user("do it"), reply(tool("AskUserQuestion")))
    view = claude.view(T)
    assert (view.state, view.reason, view.certain) == (State.WAITING, Waiting.INPUT, True)


@pytest.mark.parametrize(
    ("name", "after", "process", "state"),
    [
        ("Edit", 10, SOMEBODY, State.WAITING),
        ("Edit", 1, SOMEBODY, State.EXECUTING),  # it may yet be done
        ("Bash", 10, Activity(True, 1), State.EXECUTING),  # its process runs
        ("Bash", 10, Activity(False, 0), State.EXECUTING),  # nobody there to ask
        ("Bash", 10, None, State.EXECUTING),
        ("mcp__kernel__wait", 10, SOMEBODY, State.EXECUTING),  # works in a server's process
        ("Task", 10, SOMEBODY, State.EXECUTING),
    ],
)
def test_a_tool_that_neither_returns_nor_runs_waits_for_permission(
    claude: Scene, name: str, after: float, process: Activity | None, state: State
) -> None:
    claude.say(user("do it"), reply(tool(name)))
    view = claude.view(T + after, process)
    assert view.state is state
    assert view.certain is (state is State.EXECUTING)


def test_several_tools_are_executing_until_the_last_returned(claude: Scene) -> None:
    claude.say(user("do it"), reply(tool("Read"), tool("Task", "t2")), user(result()))
    assert claude.view().detail == "Task"
    claude.say(user(result("t2")))
    assert claude.view().state is State.PLANNING


def test_an_interruption_and_an_error_end_the_turn(claude: Scene) -> None:
    claude.say(
        user("do it"), reply(tool("Bash")), user([{"type": "text", "text": "[Request interrupted by user]"}])
    )
    assert (claude.view().state, claude.view().detail) == (State.IDLE, "interrupted")
    error = reply({"type": "text", "text": "API Error: 529"}, stop="stop_sequence", isApiErrorMessage=True)
    error["message"]["model"] = "<synthetic>"
    claude.say(user("again"), error)
    view = claude.view()
    assert (view.state, view.detail, view.model, view.calls) == (
        State.IDLE,
        "API Error: 529",
        "claude-opus-4-8",
        1,
    )


def test_a_sidechain_in_the_main_transcript_changes_nothing_but_the_tokens(claude: Scene) -> None:
    claude.say(user("do it"), reply(TEXT, stop="end_turn"), reply(tool("Bash"), time=T + 1, isSidechain=True))
    view = claude.view()
    assert (view.state, view.calls) == (State.IDLE, 2)


def test_subagents_are_children_with_their_own_tokens(claude: Scene) -> None:
    claude.say(user("do it"), reply(tool("Task")))
    folder = claude.path.with_suffix("") / "subagents"
    folder.mkdir(parents=True)
    (folder / "agent-a1.meta.json").write_text('{"agentType": "Explore"}')
    line = reply(tool("Grep"), isSidechain=True, agentId="a1")
    (folder / "agent-a1.jsonl").write_text(json.dumps(line) + "\n")
    (child,) = claude.view().children
    assert (child.id, child.name, child.view.state, child.view.usage.output) == (
        "a1",
        "Explore",
        State.EXECUTING,
        4000,
    )
    assert claude.view().usage.output == 4000


def test_what_is_not_understood_is_counted_by_kind(claude: Scene) -> None:
    claude.say({"type": "brand-new"}, {"type": "brand-new"}, "garbage\n", "[]\n", user("do it"))
    assert claude.view().state is State.PLANNING
    assert claude.tail.oddities.unknown == {"brand-new": 2}
    assert claude.tail.oddities.unreadable == 2


def test_half_a_line_is_read_when_its_end_is_there(claude: Scene) -> None:
    text = json.dumps(user("do it"))
    claude.say(text[:40])
    assert claude.view().since is None
    claude.say(text[40:] + "\n")
    assert claude.view().state is State.PLANNING
    assert claude.tail.oddities.unreadable == 0


def test_a_transcript_cut_off_or_replaced_is_read_anew(claude: Scene) -> None:
    claude.say(user("do it"), reply(TEXT, stop="end_turn"), reply(TEXT, stop="end_turn", time=T + 1))
    assert claude.view().calls == 2
    claude.path.write_text(json.dumps(user("other")) + "\n")
    assert (claude.view().calls, claude.view().prompt) == (0, "other")
    other = claude.path.with_suffix(".new")
    other.write_text(json.dumps(user("third, and longer than before")) + "\n")
    other.rename(claude.path)
    assert claude.view().prompt == "third, and longer than before"


def test_a_long_transcript_counts_all_calls_and_has_the_newest_state(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, 5, body=4000, tools=8000)
    path = corpus.claude_session("p", 400, T, hard=False)
    assert path.stat().st_size > 3 * RECENT
    scene = Scene(ClaudeObserver(), path)
    view = scene.view(T)
    assert view.calls == corpus.calls["claude"]
    assert [
        view.usage.input,
        view.usage.cache_read,
        view.usage.cache_write,
        view.usage.output,
    ] == corpus.total()
    assert scene.tail.oddities.unreadable == 0
    assert view.cwd == "/work/p"


def test_nothing_new_is_not_read(claude: Scene) -> None:
    claude.say(user("do it"))
    assert (claude.tail.refresh(), claude.tail.refresh()) == (True, False)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("/root/live/homes/9ce1/w", "-root-live-homes-9ce1-w"),
        ("/a b/c_d.e+é", "-a-b-c-d-e--"),
        ("/😀", "---"),
        ("/" + "x" * 300, "-" + "x" * 199),
    ],
)
def test_a_folders_name_is_mangled_as_claude_does(folder: str, name: str) -> None:
    assert slug(folder) == name


# --- Codex -----------------------------------------------------------------------------------------


def event(kind: str, time: float = T, **more: Any) -> dict[str, Any]:
    return {"timestamp": stamp(time), "type": "event_msg", "payload": {"type": kind} | more}


def item(kind: str, time: float = T, **more: Any) -> dict[str, Any]:
    return {"timestamp": stamp(time), "type": "response_item", "payload": {"type": kind} | more}


def test_a_codex_turn_goes_from_planning_over_executing_to_idle(codex: Scene) -> None:
    states = []
    for line in (
        event("task_started", model_context_window=258_400),
        item("function_call", name="shell", call_id="c1"),
        item("function_call_output", call_id="c1"),
        event("task_complete"),
    ):
        codex.say(line)
        states.append(codex.view().state)
    assert states == [State.PLANNING, State.EXECUTING, State.PLANNING, State.IDLE]
    assert codex.view().context_limit == 258_400


def test_a_codex_that_never_asks_is_executing_however_long(codex: Scene) -> None:
    codex.say(event("task_started"), item("function_call", name="shell", call_id="c1"))
    assert codex.view(T + 60).state is State.WAITING
    never = {
        "timestamp": stamp(T),
        "type": "turn_context",
        "payload": {"model": "gpt", "approval_policy": "never"},
    }
    codex.say(never)
    assert codex.view(T + 60).state is State.EXECUTING


def test_codex_tells_context_model_and_folder(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, 5, body=100, tools=100)
    path = corpus.codex_session(20, T)
    scene = Scene(CodexObserver(), path)
    view = scene.view()
    assert [
        view.usage.input,
        view.usage.cache_read,
        view.usage.cache_write,
        view.usage.output,
    ] == corpus.total()
    assert (view.cwd, view.context_limit, view.calls) == ("/work/codex", 258_400, 20)
    assert scene.tail.oddities.unknown == {}


# --- the door --------------------------------------------------------------------------------------


def test_a_view_becomes_a_row_of_the_live_table(claude: Scene) -> None:
    claude.say(user("do it"), reply(tool("AskUserQuestion"), time=T))
    main = Found(7, 8, 1, 0, "claude", ("claude",), None, "/w", {}, "/root", T - 5, True, 7, "")
    agent = Observed("a1b2c3", "claude", (main,), Session("s", "p", True), claude.view(T), None)
    price = partial(_dollars, 0.001)
    shown = row(agent, price, T)
    assert (shown.name, shown.state, shown.reason, shown.needs, shown.observed) == (
        *("claude@7", "waiting", "input"),
        *(True, True),
    )
    assert (shown.cost, shown.unpriced, shown.owner, shown.spark[-1]) == (4.0, False, "root", 4321)
    assert (shown.context_limit, shown.task) == (200_000, "/w  do it")
    told = info(agent, price, T)
    assert (told.observed, told.pid, told.pids, told.tokens.output, told.cwd) == (True, 7, [7], 4000, "/w")
    unpriced = row(agent, lambda observer, model, usage: Quote(None, None), T)
    assert (unpriced.cost, unpriced.unpriced) == (None, True)


def _dollars(each: float, observer: str, model: str, usage: Usage) -> Quote:
    return Quote(usage.output * each, 200_000)


def test_windows_hold_what_was_used_in_them_and_a_run_what_its_process_used(claude: Scene) -> None:
    for back in (90_000, 4_000, 600):
        claude.say(reply(time=T - back) | {"requestId": f"r{back}"})
    main = Found(7, 8, 1, 0, "claude", ("claude",), None, "/w", {}, "/root", T - 5_000, True, 7, "")
    agent = Observed("a", "claude", (main,), Session("s", "p", True), claude.view(T), None)
    calls = {window: row(agent, partial(_dollars, 1), T, window=window).output for window in WINDOWS}
    one = calls["hour"]
    assert one
    assert calls == {"hour": one, "run": 2 * one, "today": calls["today"], "total": 3 * one}
    assert calls["today"] in (one, 2 * one)  # yesterday's is not in it, wherever midnight is


def test_a_frozen_tree_is_shown_as_paused_and_what_somebody_else_stopped_too(claude: Scene) -> None:
    main = Found(7, 8, 1, 0, "claude", ("claude",), None, "/w", {}, "/root", T, True, 7, "")
    agent = Observed("a", "claude", (main,), None, None, None)
    process = Stat(7, "claude", "T", 1, 7, 7, -1, 0, 0, 8, 1)
    tree = Tree((process, process._replace(pid=8)), Load(0.0, 1, 2), 2, 0)
    freeze = ObservedFreeze("claude@7", "claude", "boot", ((7, 8),), T - 5, 2, 2, "signal", "ana")
    price = partial(_dollars, 1)
    ours = row(agent, price, T, tree=tree, freeze=freeze)
    assert (ours.pause, ours.detail, ours.since) == ("freeze", "frozen 2/2", T - 5)
    theirs = row(agent, price, T, tree=tree)
    assert (theirs.pause, theirs.detail) == ("freeze", "stopped 2/2")
    assert row(agent, price, T, tree=tree._replace(stopped=1)).pause is None
    assert row(agent, price, T, tree=tree._replace(stopped=0), freeze=freeze).pause is None


def test_the_built_in_observers_can_be_made() -> None:
    made, failed = observers(["claude", "codex"])
    assert (sorted(made), failed) == (["claude", "codex"], {})
