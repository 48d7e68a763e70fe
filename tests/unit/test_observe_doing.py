"""What the transcripts of Gemini, Qwen, Copilot, aider, OpenCode, goose, Claude and Codex say is going on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agenttop.core.agents.states import State, Waiting
from agenttop.core.observe.contract import Activity, Session, Tail, View, observers

from ..support import chats
from ..support.chats import Chat, OpenCode
from ..support.transcripts import Corpus, stamp

T = chats.T
OBSERVERS = observers()[0]
SOMEBODY = Activity(terminal=True, children=0)
BUSY = Activity(terminal=True, children=1)
USAGE = (100, 50, 0, 20)


class Scene:
    """A transcript that is written line by line, and its view."""

    def __init__(self, kind: str, path: Path, session: str = "s") -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.tail: Tail = OBSERVERS[kind].tail(Session(session, str(path), True))

    def say(self, *lines: dict[str, Any] | str, path: Path | None = None) -> None:
        with (path or self.path).open("a") as file:
            for line in lines:
                file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")

    def view(self, process: Activity | None = SOMEBODY, now: float | None = None) -> View:
        self.tail.refresh()
        return self.tail.view(now or T + 3600, process)

    def states(self, *lines: dict[str, Any] | str, process: Activity | None = SOMEBODY) -> list[State]:
        """The state after each line."""
        states = []
        for line in lines:
            self.say(line)
            states.append(self.view(process).state)
        return states


# --- Gemini --------------------------------------------------------------------------------------


def test_a_gemini_turn_ends_idle_but_never_for_certain(tmp_path: Path) -> None:
    scene = Scene("gemini", tmp_path / "p" / "chats" / "session-1.jsonl")
    scene.say({"sessionId": "g1", "projectHash": "x"})
    reply = chats.gemini_reply(stamp(T + 1), "r1", USAGE)
    called = reply | {"toolCalls": [{"id": "t", "name": "run_shell_command", "status": "success"}]}
    returned = {"type": "user", "timestamp": stamp(T + 2), "id": "u2", "content": [{"functionResponse": {}}]}
    states = scene.states(
        chats.gemini_user(stamp(T), "do it"),
        reply,
        called,
        returned,
        chats.gemini_reply(stamp(T + 3), "r2", USAGE),
    )
    assert states == [State.PLANNING, State.IDLE, State.PLANNING, State.PLANNING, State.IDLE]
    view = scene.view()
    assert (view.certain, view.prompt, view.tool) == (False, "do it", "run_shell_command")
    assert (view.session, view.model, view.context, view.calls) == ("g1", chats.MODEL, 170, 2)


def test_a_process_below_a_gemini_says_that_a_tool_runs(tmp_path: Path) -> None:
    scene = Scene("gemini", tmp_path / "session-1.jsonl")
    scene.say(chats.gemini_user(stamp(T), "do it"), chats.gemini_reply(stamp(T), "r1", USAGE))
    server = 1  # there before the tool: a server of its own
    assert scene.view(Activity(True, server)).state is State.IDLE
    assert scene.view(Activity(True, server + 1)).state is State.EXECUTING
    assert scene.view(Activity(True, server)).state is State.IDLE


def test_a_geminis_subagents_are_its_children(tmp_path: Path) -> None:
    scene = Scene("gemini", tmp_path / "chats" / "session-1.jsonl", "g1")
    scene.say({"sessionId": "g1", "projectHash": "x"}, chats.gemini_user(stamp(T), "do it"))
    assert scene.view().children == ()
    sub = tmp_path / "chats" / "g1" / "a1.jsonl"
    sub.parent.mkdir()
    scene.say({"sessionId": "a1", "projectHash": "x", "kind": "subagent"}, path=sub)
    scene.say(chats.gemini_reply(stamp(T), "r1", USAGE), path=sub)
    (child,) = scene.view().children
    assert (child.id, child.view.usage.output, scene.view().usage.output) == ("a1", 20, 0)


# --- Qwen ----------------------------------------------------------------------------------------


def test_a_qwen_turn_goes_from_planning_over_executing_to_idle(tmp_path: Path) -> None:
    chat, scene = Chat(1), Scene("qwen", tmp_path / "p" / "chats" / "s.jsonl")
    tool = {"functionCall": {"id": "c1", "name": "run_shell_command", "args": {}}}
    states = scene.states(
        chats.qwen_line(chat, "user", message={"role": "user", "parts": [{"text": "do it"}]}),
        chats.qwen_told(chat, USAGE),
        chats.qwen_reply(chat, USAGE, 0, tool),
        chats.qwen_result(chat, "c1"),
        chats.qwen_reply(chat, (7, 0, 0, 1)),
    )
    assert states == [State.PLANNING, State.PLANNING, State.WAITING, State.PLANNING, State.IDLE]
    view = scene.view()
    assert (view.prompt, view.cwd, view.context_limit, view.calls) == ("do it", chats.CWD, 272_000, 2)


def test_a_qwen_that_runs_its_tool_or_has_nobody_to_ask_is_executing(tmp_path: Path) -> None:
    chat, scene = Chat(1), Scene("qwen", tmp_path / "p" / "chats" / "s.jsonl")
    tool = {"functionCall": {"id": "c1", "name": "run_shell_command", "args": {}}}
    scene.say(chats.qwen_reply(chat, USAGE, 0, tool))
    view = scene.view()
    assert (view.state, view.reason, view.certain) == (State.WAITING, Waiting.INPUT, False)
    assert scene.view(BUSY).state is State.EXECUTING
    assert scene.view(Activity(False, 0)).state is State.EXECUTING


def test_a_qwens_subagents_are_its_children_with_and_without_a_chat_of_their_own(tmp_path: Path) -> None:
    chat, scene = Chat(1), Scene("qwen", tmp_path / "p" / "chats" / "s.jsonl")
    scene.say(chats.qwen_told(chat, USAGE), chats.qwen_told(chat, (5, 0, 0, 6), subagent_id="explore-1"))
    scene.say(chats.qwen_told(chat, (7, 0, 0, 8), prompt_id="q1#general-2#0"))
    folder = tmp_path / "p" / "subagents" / "s"
    folder.mkdir(parents=True)
    (folder / "agent-explore-1.meta.json").write_text('{"agentType": "explore"}')
    line = chats.qwen_line(chat, "user", message={"role": "user", "parts": [{"text": "look"}]})
    scene.say(line | {"isSidechain": True}, path=folder / "agent-explore-1.jsonl")
    view = scene.view()
    assert view.usage.output == 20
    assert [(child.name, child.view.usage.output, child.view.prompt) for child in view.children] == [
        ("explore", 6, "look"),
        ("general-2", 8, ""),
    ]
    assert [child.view.model for child in view.children] == [chats.MODEL, chats.MODEL]


# --- Copilot -------------------------------------------------------------------------------------


def test_a_copilot_says_for_certain_that_it_asks(tmp_path: Path) -> None:
    chat, scene = Chat(1), Scene("copilot", tmp_path / "events.jsonl")
    call = {"toolCallId": "t1", "toolName": "bash"}
    asked = {"requestId": "q1", "permissionRequest": {"kind": "shell", "fullCommandText": "rm -rf x"}}
    states = scene.states(
        chats.copilot_line(
            chat, "session.start", {"sessionId": "c1", "context": {"cwd": chats.CWD, "branch": "b"}}
        ),
        chats.copilot_line(chat, "user.message", {"content": "do it"}),
        chats.copilot_line(chat, "assistant.turn_start", {}),
        chats.copilot_record(chat, USAGE),
        chats.copilot_line(chat, "assistant.message", {"toolRequests": [call]}),
        chats.copilot_line(chat, "tool.execution_start", call),
        chats.copilot_line(chat, "permission.requested", asked),
    )
    assert states == [*[State.IDLE], *[State.PLANNING] * 4, State.EXECUTING, State.WAITING]
    view = scene.view(None)
    assert (view.reason, view.certain, view.detail) == (Waiting.INPUT, True, "rm -rf x")
    states = scene.states(
        chats.copilot_line(chat, "permission.completed", {"requestId": "q1"}),
        chats.copilot_line(chat, "tool.execution_complete", call),
        chats.copilot_line(chat, "assistant.message", {"toolRequests": []}),
    )
    assert states == [State.EXECUTING, State.PLANNING, State.IDLE]
    assert (view.session, view.cwd, view.branch, view.context_limit) == ("c1", chats.CWD, "b", 128_000)


def test_a_copilots_subagent_is_its_child_and_its_tokens_are_not_the_parents(tmp_path: Path) -> None:
    chat, scene = Chat(1), Scene("copilot", tmp_path / "events.jsonl")
    scene.say(
        chats.copilot_line(chat, "user.message", {"content": "do it"}),
        chats.copilot_record(chat, USAGE),
        chats.copilot_line(
            chat, "subagent.started", {"agentName": "explore", "agentDisplayName": "Eve"}, "a1"
        ),
        chats.copilot_record(chat, (1, 2, 3, 4), 0, "a1"),
    )
    view = scene.view()
    (child,) = view.children
    assert (child.name, child.view.usage.output, child.view.usage.cache_write) == ("Eve", 4, 3)
    assert (view.usage.output, view.calls) == (20, 1)


# --- aider ---------------------------------------------------------------------------------------


def test_an_aider_is_planning_between_a_message_and_its_tokens(tmp_path: Path) -> None:
    scene = Scene("aider", tmp_path / ".aider.chat.history.md")
    scene.say(chats.aider(9, 2).data.decode())  # an earlier chat in the same folder
    states = scene.states(
        "# aider chat started at 2026-11-20 08:00:00",
        "> Main model: openai/gpt-5.1 with diff edit format  ",
        "#### fix it  ",
        "Well",
        "> Tokens: 2.3k sent, 35 received. Cost: $0.0033 message, $0.0033 session.  ",
    )
    assert states == [State.IDLE, State.IDLE, State.PLANNING, State.PLANNING, State.IDLE]
    view = scene.view()
    assert (view.prompt, view.model, view.usage.input, view.calls) == ("fix it", "openai/gpt-5.1", 2300, 1)


# --- OpenCode ------------------------------------------------------------------------------------


@pytest.fixture
def opencode(tmp_path: Path) -> Iterator[OpenCode]:
    database = OpenCode(tmp_path / "opencode.db")
    yield database
    database.close()


def test_an_opencode_turn_goes_from_planning_over_executing_to_idle(opencode: OpenCode) -> None:
    opencode.session("ses_a")
    tail = OBSERVERS["opencode"].tail(Session("ses_a", f"{opencode.path}#ses_a", True))

    def state(process: Activity | None = SOMEBODY) -> State:
        tail.refresh()
        return tail.view(opencode.now / 1000 + 60, process).state

    opencode.user("ses_a", "do it")
    assert state() is State.PLANNING
    message = opencode.begin("ses_a")
    assert state() is State.PLANNING
    part = opencode.tool("ses_a", message, "bash")
    assert [state(BUSY), state(Activity(False, 0)), state()] == [
        *[State.EXECUTING, State.EXECUTING],
        State.WAITING,
    ]
    opencode.returned(part, "bash")
    assert state() is State.PLANNING
    opencode.end("ses_a", message, USAGE, "tool-calls")
    assert state() is State.PLANNING
    opencode.end("ses_a", opencode.begin("ses_a"), (7, 8, 9, 12))
    assert state() is State.IDLE
    view = tail.view(opencode.now / 1000, None)
    assert (view.prompt, view.tool, view.cwd, view.model) == ("do it", "bash", chats.CWD, chats.MODEL)
    assert (view.calls, view.context, view.usage.output) == (2, 36, 32)
    assert tail.refresh() is False


def test_an_opencode_error_and_a_question_are_told(opencode: OpenCode) -> None:
    opencode.session("ses_a")
    tail = OBSERVERS["opencode"].tail(Session("ses_a", f"{opencode.path}#ses_a", True))
    message = opencode.begin("ses_a")
    opencode.tool("ses_a", message, "question")
    tail.refresh()
    view = tail.view(opencode.now / 1000, None)
    assert (view.state, view.reason, view.certain) == (State.WAITING, Waiting.INPUT, True)
    error = {"name": "APIError", "data": {"message": "no money"}}
    opencode.end("ses_a", opencode.begin("ses_a"), (0, 0, 0, 0), error=error)
    tail.refresh()
    view = tail.view(opencode.now / 1000, None)
    assert (view.state, view.detail) == (State.IDLE, "no money")


def test_opencodes_subagents_are_children_with_sessions_of_their_own(opencode: OpenCode) -> None:
    opencode.session("ses_a")
    opencode.session("ses_b", parent="ses_a", title="Look around (@general subagent)")
    opencode.end("ses_a", opencode.begin("ses_a"), USAGE)
    opencode.end("ses_b", opencode.begin("ses_b"), (1, 2, 3, 4))
    tail = OBSERVERS["opencode"].tail(Session("ses_a", f"{opencode.path}#ses_a", True))
    tail.refresh()
    view = tail.view(T, None)
    assert (view.usage.output, [(c.name, c.view.usage.output) for c in view.children]) == (
        20,
        [("Look around (@general subagent)", 4)],
    )
    opencode.db.execute("DELETE FROM session WHERE id = 'ses_b'")
    opencode.end("ses_a", opencode.begin("ses_a"), (1, 2, 3, 5))
    assert tail.refresh()
    view = tail.view(T, None)
    assert (view.usage.output, [child.view.usage.output for child in view.children]) == (25, [4])


# --- goose ---------------------------------------------------------------------------------------


def test_a_goose_session_tells_state_prompt_and_context(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    tail = OBSERVERS["goose"].tail(Session("20261118_1", f"{path}#20261118_1", False))
    states = []
    for totals, message in (
        ((10, 1), ("user", [{"type": "text", "text": "do it"}])),
        (
            (20, 2),
            ("assistant", [{"type": "toolRequest", "id": "t", "toolCall": {"value": {"name": "x__y"}}}]),
        ),
        ((20, 2), ("user", [{"type": "toolResponse", "id": "t"}])),
        ((30, 3), ("assistant", [{"type": "text", "text": "done"}])),
    ):
        chats.goose(path, totals, message)
        tail.refresh()
        states.append(tail.view(T, None).state)
    assert states == [State.PLANNING, State.EXECUTING, State.PLANNING, State.IDLE]
    view = tail.view(T, None)
    assert (view.prompt, view.tool, view.context, view.usage.input) == ("do it", "x__y", 777, 30)


# --- Claude's own word, Codex's children -----------------------------------------------------------


def claude(tmp_path: Path, **told: Any) -> Tail:
    transcript, beside = tmp_path / "s1.jsonl", tmp_path / "7.json"
    message = {"role": "user", "content": "do it"}
    line = {"type": "user", "message": message, "timestamp": stamp(T), "sessionId": "s1", "cwd": "/w"}
    transcript.write_text(json.dumps(line) + "\n")
    beside.write_text(json.dumps({"sessionId": "s1", "statusUpdatedAt": (T + 2) * 1000} | told))
    tail = OBSERVERS["claude"].tail(Session("s1", str(transcript), True, str(beside)))
    tail.refresh()
    return tail


@pytest.mark.parametrize(
    ("told", "state", "detail"),
    [
        ({"status": "busy"}, State.PLANNING, ""),
        ({"status": "idle"}, State.IDLE, ""),
        ({"status": "waiting", "waitingFor": "permission prompt"}, State.WAITING, "permission prompt"),
        ({"status": "idle", "statusUpdatedAt": (T - 60) * 1000}, State.PLANNING, ""),  # the prompt came later
        ({"status": "waiting", "sessionId": "other"}, State.PLANNING, ""),
        ({"status": "dreaming"}, State.PLANNING, ""),
        ({"status": ["busy"]}, State.PLANNING, ""),
        ({}, State.PLANNING, ""),
    ],
)
def test_claudes_own_word_on_its_state_is_believed(
    tmp_path: Path, told: dict[str, Any], state: State, detail: str
) -> None:
    view = claude(tmp_path, **told).view(T + 3, SOMEBODY)
    assert (view.state, view.detail, view.certain) == (state, detail, True)


def test_a_change_of_claudes_own_word_is_something_new(tmp_path: Path) -> None:
    tail = claude(tmp_path, status="busy")
    assert tail.refresh() is False
    beside = tmp_path / "7.json"
    beside.write_text(json.dumps({"sessionId": "s1", "status": "idle", "statusUpdatedAt": (T + 5) * 1000}))
    assert tail.refresh() is True
    assert tail.view(T + 6, SOMEBODY).state is State.IDLE
    beside.write_text("{half")
    os.utime(beside, (1, 1))
    assert tail.refresh() is False


def test_a_codex_shows_its_subagents_and_theirs(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, 5, body=100, tools=100)
    path = corpus.codex_session(4, T)
    thread = path.stem[-36:]
    tail = OBSERVERS["codex"].tail(Session(thread, str(path), True))
    tail.refresh()
    assert tail.view(T, None).children == ()
    parents, found = {"a": thread, "b": "a", "c": "elsewhere"}, {}
    for number, (name, parent) in enumerate(parents.items()):
        other = corpus.codex_session(2, T + 1 + number)
        own = found[name] = other.stem[-36:]
        above = found.get(parent, parent if parent == thread else "0" * 8 + "-" + "0" * 27)
        meta = {"id": own, "parent_thread_id": above, "cwd": "/w", "agent_nickname": f"Nick {name}"}
        head = json.dumps(
            {"timestamp": stamp(T), "type": "session_meta", "payload": meta}, separators=(",", ":")
        )
        lines = other.read_text().splitlines()[1:]
        other.write_text("\n".join([head, *lines]) + "\n")
    tail.refresh()
    view = tail.view(T, None)
    assert [(child.id, child.name) for child in view.children] == [
        (found["a"], "Nick a"),
        (found["b"], "Nick b"),
    ]
    assert [child.view.calls for child in view.children] == [2, 2]
    assert view.calls == 4
