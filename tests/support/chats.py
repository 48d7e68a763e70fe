"""Small transcripts of Gemini, Qwen, Copilot, aider, OpenCode and goose whose truth is known.

Lines and rows have the form that Gemini CLI 0.61, Qwen Code 0.24, Copilot CLI 1.0.102, aider 0.86.2 and
OpenCode 1.18 wrote in real runs, goose's that of its source. Everything that makes counting hard is in
them: replies written again under their id, twins, totals at the end, messages written anew without tokens.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from .transcripts import compact, stamp

T = 1_795_000_000.0
MODEL = "gpt-5.1"
CWD = "/work/p"

Tokens = tuple[int, int, int, int]
"""Input, cache read, cache write, output."""


@dataclass
class Chat:
    """A conversation that is being written.

    Attributes:
        lines: What its file has.
        truth: Tokens of its own calls, each once.
        others: Tokens of subagents' calls that are told in the same file.
    """

    seed: int = 1
    lines: list[str] = field(default_factory=list)
    truth: list[Tokens] = field(default_factory=list)
    others: list[Tokens] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.now = T
        self._serial = 0

    def say(self, line: dict[str, Any] | str) -> None:
        """Write one line."""
        self.lines.append(line if isinstance(line, str) else compact(line))

    def name(self, prefix: str) -> str:
        """A new id."""
        self._serial += 1
        return f"{prefix}-{self.seed}-{self._serial}"

    def tick(self) -> str:
        """Some seconds later, as a time."""
        self.now += self.random.uniform(0.1, 30)
        return stamp(self.now)

    def call(self, *, sub: bool = False, writes: bool = False) -> tuple[Tokens, int]:
        """Tokens of one more call, and how much of its output is reasoning."""
        pick = self.random.randrange
        usage = (pick(1, 5000), pick(0, 90_000), pick(0, 500) if writes else 0, pick(20, 3000))
        (self.others if sub else self.truth).append(usage)
        return usage, pick(0, 20)

    @property
    def data(self) -> bytes:
        """The file."""
        return "".join(line + "\n" for line in self.lines).encode()


def summed(calls: list[Tokens]) -> list[int]:
    """The sum of calls, bucket by bucket."""
    return [sum(call[place] for call in calls) for place in range(4)]


def gemini(seed: int = 1, turns: int = 3) -> Chat:
    """A chat of Gemini CLI, with a turn that was cancelled."""
    chat = Chat(seed)
    head = {"sessionId": f"g{seed}", "projectHash": "4fd1", "startTime": chat.tick(), "kind": "main"}
    chat.say(head)
    context = [{"text": "<session_context>\nToday"}]
    first = {"id": "c", "timestamp": chat.tick(), "type": "user", "content": context}
    chat.say({"$set": {"messages": [first], "lastUpdated": stamp(chat.now)}})
    for turn in range(turns):
        chat.say(gemini_user(chat.tick(), f"do {turn}", chat.name("u")))
        (fresh, read, _, out), thoughts = chat.call()
        reply = gemini_reply(chat.tick(), chat.name("r"), (fresh, read, 0, out), thoughts)
        chat.say(reply)
        chat.say({"$set": {"lastUpdated": stamp(chat.now)}})
        chat.say(reply | {"toolCalls": [{"id": "t1", "name": "run_shell_command", "status": "success"}]})
        (fresh, read, _, out), thoughts = chat.call()
        chat.say(gemini_reply(chat.tick(), chat.name("r"), (fresh, read, 0, out), thoughts))
    again = {"id": chat.name("r"), "timestamp": chat.tick(), "type": "gemini", "content": [], "tokens": None}
    chat.say({"$set": {"messages": [first, again]}})
    return chat


def gemini_user(time: str, text: str, identity: str = "u") -> dict[str, Any]:
    """What a person said."""
    return {"id": identity, "timestamp": time, "type": "user", "content": [{"text": text}]}


def gemini_reply(time: str, identity: str, usage: Tokens, thoughts: int = 0, **more: Any) -> dict[str, Any]:
    """A reply as it is first written."""
    fresh, read, _, out = usage
    tokens = {
        "input": fresh + read,
        "output": out - thoughts,
        "cached": read,
        "thoughts": thoughts,
        "tool": 0,
    }
    tokens["total"] = fresh + read + out
    line = {"id": identity, "timestamp": time, "type": "gemini", "content": "done", "thoughts": []}
    return line | {"tokens": tokens, "model": MODEL} | more


def qwen(seed: int = 1, turns: int = 3) -> Chat:
    """A chat of Qwen Code: telemetry and its twins, a reply without telemetry, a subagent's calls."""
    chat = Chat(seed)
    for turn in range(turns):
        chat.say(qwen_line(chat, "user", message={"role": "user", "parts": [{"text": f"do {turn}"}]}))
        for number in range(2):
            (fresh, read, _, out), thoughts = chat.call()
            usage = (fresh, read, 0, out)
            if number or turn != 1:
                chat.say(qwen_told(chat, usage, thoughts))
            tool = {"functionCall": {"id": f"c{turn}", "name": "run_shell_command", "args": {}}}
            chat.say(qwen_reply(chat, usage, thoughts, *([] if number else [tool])))
            if not number:
                chat.say(qwen_result(chat, f"c{turn}"))
    (fresh, read, _, out), thoughts = chat.call(sub=True)
    chat.say(qwen_told(chat, (fresh, read, 0, out), thoughts, subagent_id="general-1"))
    (fresh, read, _, out), thoughts = chat.call(sub=True)  # as version 0.15 tells it
    chat.say(qwen_told(chat, (fresh, read, 0, out), thoughts, prompt_id=f"q{seed}#general-1#0"))
    return chat


def qwen_line(chat: Chat, kind: str, **more: Any) -> dict[str, Any]:
    """One line."""
    about = {"uuid": chat.name("l"), "sessionId": f"q{chat.seed}", "timestamp": chat.tick(), "type": kind}
    return about | {"cwd": CWD, "version": "0.24.4"} | more


def qwen_told(chat: Chat, usage: Tokens, thoughts: int = 0, **more: Any) -> dict[str, Any]:
    """The telemetry of a call."""
    fresh, read, _, out = usage
    event = {"event.name": "qwen-code.api_response", "response_id": chat.name("chatcmpl"), "model": MODEL}
    event |= {
        "input_token_count": fresh + read,
        "output_token_count": out,
        "total_token_count": fresh + read + out,
    }  # type: ignore[dict-item]
    event |= {"cached_content_token_count": read, "thoughts_token_count": thoughts}  # type: ignore[dict-item]
    event |= {"prompt_id": f"q{chat.seed}########0"} | more
    return qwen_line(chat, "system", subtype="ui_telemetry", systemPayload={"uiEvent": event})


def qwen_reply(chat: Chat, usage: Tokens, thoughts: int = 0, *parts: dict[str, Any]) -> dict[str, Any]:
    """A reply, with the same numbers."""
    fresh, read, _, out = usage
    told = {"promptTokenCount": fresh + read, "candidatesTokenCount": out, "thoughtsTokenCount": thoughts}
    told |= {"totalTokenCount": fresh + read + out, "cachedContentTokenCount": read}
    message = {"role": "model", "parts": [{"text": "well"}, *parts]}
    return qwen_line(
        chat, "assistant", model=MODEL, message=message, usageMetadata=told, contextWindowSize=272_000
    )


def qwen_result(chat: Chat, call: str) -> dict[str, Any]:
    """A tool's result."""
    parts = [{"functionResponse": {"id": call, "name": "run_shell_command", "response": {"output": "ok"}}}]
    return qwen_line(chat, "tool_result", message={"role": "user", "parts": parts})


def copilot(seed: int = 1, turns: int = 3) -> Chat:
    """A session of Copilot CLI with a subagent and the totals at its end."""
    chat = Chat(seed)
    chat.say(copilot_line(chat, "session.start", {"sessionId": f"c{seed}", "context": {"cwd": CWD}}))
    for turn in range(turns):
        chat.say(copilot_line(chat, "user.message", {"content": f"do {turn}"}))
        usage, thoughts = chat.call(writes=True)
        chat.say(copilot_record(chat, usage, thoughts))
        if turn == 1:
            usage, thoughts = chat.call(sub=True, writes=True)
            chat.say(copilot_line(chat, "subagent.started", {"agentName": "explore"}, "a1"))
            chat.say(copilot_record(chat, usage, thoughts, "a1"))
    total = summed(chat.truth + chat.others)
    usage_all = {"inputTokens": sum(total[:3]), "outputTokens": total[3], "cacheReadTokens": total[1]}
    chat.say(copilot_line(chat, "session.shutdown", {"modelMetrics": {MODEL: {"usage": usage_all}}}))
    return chat


def copilot_line(chat: Chat, kind: str, data: dict[str, Any], agent: str = "") -> dict[str, Any]:
    """One line."""
    line = {"type": kind, "data": data, "id": chat.name("e"), "timestamp": chat.tick(), "parentId": None}
    return line | {"agentId": agent} if agent else line


def copilot_record(chat: Chat, usage: Tokens, thoughts: int = 0, agent: str = "") -> dict[str, Any]:
    """What one call used."""
    fresh, read, written, out = usage
    told = {
        "model": MODEL,
        "inputTokens": fresh + read + written,
        "outputTokens": out,
        "cacheReadTokens": read,
    }
    told |= {"cacheWriteTokens": written, "reasoningTokens": thoughts, "maxPromptTokens": 128_000}
    told |= {"apiCallId": chat.name("chatcmpl")}
    return copilot_line(chat, "session.usage_record", {"usage": told}, agent)


def aider(seed: int = 1, turns: int = 3) -> Chat:
    """A chat history of aider; counts below a thousand, so that none is rounded."""
    chat = Chat(seed)
    chat.say("")
    chat.say(f"# aider chat started at {datetime.fromtimestamp(T):%Y-%m-%d %H:%M:%S}")
    chat.say("")
    chat.say(f"> Main model: openai/{MODEL} with diff edit format  ")
    for turn in range(turns):
        fresh, out = chat.random.randrange(1, 999), chat.random.randrange(1, 999)
        chat.truth.append((fresh, 0, 0, out))
        chat.say(f"#### do {turn}  ")
        chat.say("")
        chat.say("Well, `code` and **more**")
        chat.say(f"> Tokens: {fresh} sent, {out} received. Cost: $0.0033 message, $0.0033 session.  ")
    return chat


#: Formats of lines, with the writer of each.
WRITERS: dict[str, Callable[[int, int], Chat]] = {
    "aider": aider,
    "copilot": copilot,
    "gemini": gemini,
    "qwen": qwen,
}


# --- databases -----------------------------------------------------------------------------------

_OPENCODE = """
CREATE TABLE session (id text PRIMARY KEY, project_id text NOT NULL, parent_id text, directory text NOT NULL,
    title text NOT NULL, tokens_input integer DEFAULT 0 NOT NULL, tokens_output integer DEFAULT 0 NOT NULL,
    time_created integer NOT NULL, time_updated integer NOT NULL);
CREATE TABLE message (id text PRIMARY KEY, session_id text NOT NULL, time_created integer NOT NULL,
    time_updated integer NOT NULL, data text NOT NULL);
CREATE INDEX message_session_time_created_id_idx ON message (session_id, time_created, id);
CREATE TABLE part (id text PRIMARY KEY, message_id text NOT NULL, session_id text NOT NULL,
    time_created integer NOT NULL, time_updated integer NOT NULL, data text NOT NULL);
CREATE INDEX part_message_id_id_idx ON part (message_id, id);
"""


class OpenCode:
    """A database of OpenCode's that somebody writes to, and the truth of its calls by session."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.executescript(_OPENCODE)
        self.truth: dict[str, list[Tokens]] = {}
        self.now = int(T * 1000)
        self._serial = 0

    def close(self) -> None:
        """Leave, as the program does when it ends."""
        self.db.close()

    def session(self, name: str, parent: str | None = None, directory: str = CWD, title: str = "") -> str:
        """A new session."""
        self.truth[name] = []
        values = (name, "global", parent, directory, title or name, self.now, self.now)
        self.db.execute(
            "INSERT INTO session (id, project_id, parent_id, directory, title, time_created, time_updated)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            values,
        )
        return name

    def user(self, session: str, text: str) -> None:
        """A person said something."""
        message = self._message(session, {"role": "user", "time": {"created": self.now}})
        self._part(session, message, {"type": "text", "text": text})

    def begin(self, session: str) -> str:
        """A call begins; its message has no tokens yet."""
        return self._message(session, self._assistant((0, 0, 0, 0)))

    def tool(self, session: str, message: str, name: str, status: str = "running") -> str:
        """A tool is called."""
        state = {"status": status, "input": {}, "time": {"start": self.now}}
        return self._part(session, message, {"type": "tool", "tool": name, "callID": "c1", "state": state})

    def returned(self, part: str, name: str) -> None:
        """The tool's result is there."""
        self.now += 1000
        times = {"start": self.now - 1000, "end": self.now}
        state = {"status": "completed", "input": {}, "output": "x" * 2000, "time": times}
        data = {"type": "tool", "tool": name, "callID": "c1", "state": state}
        self.db.execute(
            "UPDATE part SET data = ?, time_updated = ? WHERE id = ?", (compact(data), self.now, part)
        )

    def end(self, session: str, message: str, usage: Tokens, finish: str = "stop", **more: Any) -> None:
        """The call ended; what it used goes into the session's totals too."""
        self.now += 1000
        data = self._assistant(usage) | {"finish": finish} | more
        data["time"]["completed"] = self.now
        self.truth[session].append(usage)
        self.db.execute(
            "UPDATE message SET data = ?, time_updated = ? WHERE id = ?", (compact(data), self.now, message)
        )
        self.db.execute(
            "UPDATE session SET time_updated = ?, tokens_input = tokens_input + ?,"
            " tokens_output = tokens_output + ? WHERE id = ?",
            (self.now, usage[0], usage[3], session),
        )

    def _assistant(self, usage: Tokens) -> dict[str, Any]:
        fresh, read, written, out = usage
        thought = out // 3
        tokens = {"input": fresh, "output": out - thought, "reasoning": thought}
        return {
            "role": "assistant",
            "modelID": MODEL,
            "providerID": "gw",
            "time": {"created": self.now},
            "tokens": tokens | {"cache": {"read": read, "write": written}},
        }

    def _message(self, session: str, data: dict[str, Any]) -> str:
        self.now += 1000
        self._serial += 1
        name = f"msg_{self._serial:04}"
        self.db.execute(
            "INSERT INTO message VALUES (?, ?, ?, ?, ?)", (name, session, self.now, self.now, compact(data))
        )
        return name

    def _part(self, session: str, message: str, data: dict[str, Any]) -> str:
        self._serial += 1
        name = f"prt_{self._serial:04}"
        self.db.execute(
            "INSERT INTO part VALUES (?, ?, ?, ?, ?, ?)",
            (name, message, session, self.now, self.now, compact(data)),
        )
        return name


_GOOSE = """
CREATE TABLE sessions (id TEXT PRIMARY KEY, name TEXT NOT NULL DEFAULT '', session_type TEXT NOT NULL
    DEFAULT 'user', working_dir TEXT NOT NULL, created_at TIMESTAMP, updated_at TIMESTAMP,
    total_tokens INTEGER, accumulated_input_tokens INTEGER, accumulated_output_tokens INTEGER,
    model_config_json TEXT);
CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, session_id TEXT NOT NULL, role TEXT NOT NULL,
    content_json TEXT NOT NULL, created_timestamp INTEGER NOT NULL);
"""


def goose(path: Path, totals: tuple[int, int], *messages: tuple[str, list[dict[str, Any]]]) -> None:
    """Write goose's database with one session: its running totals, and its messages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'sessions'").fetchone():
            db.executescript(_GOOSE)
            db.execute(
                "INSERT INTO sessions (id, name, working_dir, created_at, updated_at, model_config_json)"
                " VALUES ('20261118_1', 'shop', ?, '2026-11-18 08:00:00', '2026-11-18 08:00:00', ?)",
                (CWD, compact({"model_name": MODEL})),
            )
        db.execute(
            "UPDATE sessions SET accumulated_input_tokens = ?, accumulated_output_tokens = ?,"
            " total_tokens = 777, updated_at = datetime('2026-11-18 08:00:00', ? || ' seconds')",
            (*totals, str(sum(totals) % 3000)),
        )
        for role, content in messages:
            db.execute(
                "INSERT INTO messages (session_id, role, content_json, created_timestamp)"
                " VALUES ('20261118_1', ?, ?, ?)",
                (role, compact(content), int(T)),
            )
