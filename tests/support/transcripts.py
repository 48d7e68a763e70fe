"""Transcripts whose truth is known: what a reader must find in them, kept while they are written.

Lines have the form that Claude Code 2.1 and Codex 0.169 wrote on a real machine, and everything that
makes counting hard: one line per content block, placeholders in the first, copies in other sessions,
replays in sidechains, usage keys inside tools' inputs and results, totals written again, forks that
repeat their parent, garbage, and a last line cut in the middle.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BUCKETS = ("input", "cache_read", "cache_write", "output")
CLAUDE_MODELS = ("claude-opus-4-8", "claude-sonnet-5-1", "claude-haiku-4-5")
CODEX_MODELS = ("gpt-6.1-sol", "gpt-5.5-codex")
START = 1_793_000_000  # 26 October 2026
DAY = 86_400

Key = tuple[str, str, str]
"""Agent, day (UTC), model."""


def stamp(seconds: float) -> str:
    """A time as both CLIs write it."""
    return (
        datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        + f"{int(seconds * 1000) % 1000:03d}Z"
    )


def compact(value: object) -> str:
    """JSON as both CLIs write it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@dataclass
class Corpus:
    """A home with transcripts below it, and their truth.

    Attributes:
        truth: Tokens by agent, day and model, in the order of ``BUCKETS``.
        calls: How many calls there are, by agent.
    """

    home: Path
    seed: int = 1
    body: int = 1800
    """Typical length of a text in a line, bytes."""
    tools: int = 6000
    """Typical length of a tool's result."""
    repeats: bool = True
    """Whether Codex writes totals again that did not move."""
    truth: dict[Key, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0, 0]))
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    files: list[Path] = field(default_factory=list)
    bytes: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        words = [
            "the",
            "handler",
            "keeps",
            "key",
            "order",
            "retry;",
            "def",
            "read(self):",
            '"said"',
            "é",
            "→ 日本",
            "\n",
        ]
        text = " ".join(self.random.choice(words) for _ in range(60_000))
        self._pool = compact(text)[1:-1]
        self._serial = 0
        self._told: list[list[str]] = []

    # --- shared ----------------------------------------------------------------------------

    def name(self, prefix: str) -> str:
        """A new id."""
        self._serial += 1
        return f"{prefix}{self.seed:02x}{self._serial:08x}{self.random.getrandbits(32):08x}"

    def uuid(self) -> str:
        """A new UUID-like id."""
        text = f"{self.random.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def text(self, typical: int) -> str:
        """Some text, escaped for JSON."""
        size = max(8, int(self.random.expovariate(1 / max(1, typical)))) if typical else 8
        size = min(size, len(self._pool) // 2)
        begin = self.random.randrange(len(self._pool) - size)
        # Never begins or ends inside an escape.
        begin = self._pool.index(" ", begin) if " " in self._pool[begin:] else 0
        end = self._pool.find(" ", begin + size)
        return self._pool[begin : end if end > 0 else None]

    def count(self, agent: str, when: float, model: str, usage: tuple[int, int, int, int]) -> None:
        """Put one call into the truth."""
        cell = self.truth[agent, stamp(when)[:10], model]
        for place, tokens in enumerate(usage):
            cell[place] += tokens
        self.calls[agent] += 1

    def write(self, path: Path, lines: list[str], cut: str = "") -> Path:
        """Write a transcript; ``cut`` is a last line without its end."""
        path.parent.mkdir(parents=True, exist_ok=True)
        data = ("".join(line + "\n" for line in lines) + cut).encode("utf-8")
        path.write_bytes(data)
        self.files.append(path)
        self.bytes += len(data)
        return path

    def total(self, agent: str | None = None) -> list[int]:
        """The truth's sum."""
        cells = [cell for key, cell in self.truth.items() if agent in (None, key[0])]
        return [sum(cell[place] for cell in cells) for place in range(4)]

    # --- Claude Code -----------------------------------------------------------------------

    def claude_usage(self) -> tuple[int, int, int, int]:
        """Tokens of one call: input, cache read, cache write, output."""
        pick = self.random.randrange
        return pick(3, 4000), pick(0, 90_000), pick(0, 9_000), pick(20, 3_000)

    def claude_block(
        self,
        session: str,
        cwd: str,
        message: str,
        request: str | None,
        when: float,
        model: str,
        usage: tuple[int, int, int, int],
        *,
        content: str | None = None,
        sidechain: str | None = None,
        output: int | None = None,
    ) -> str:
        """One content block's line of a message."""
        fresh, read, written, out = usage
        out = out if output is None else output
        content = content or f'{{"type":"text","text":"{self.text(self.body)}"}}'
        asked = f'"requestId":"{request}",' if request else ""
        agent = f'"agentId":"{sidechain}",' if sidechain else ""
        return (
            f'{{"parentUuid":"{self.uuid()}","isSidechain":{"true" if sidechain else "false"},{agent}'
            f'"message":{{'
            f'"id":"{message}","type":"message","role":"assistant","model":"{model}","content":[{content}],'
            f'"stop_reason":"tool_use","stop_sequence":null,"usage":{{"input_tokens":{fresh},'
            f'"cache_creation_input_tokens":{written},"cache_read_input_tokens":{read},"output_tokens":{out},'
            f'"server_tool_use":{{"web_search_requests":0,"web_fetch_requests":0}},"service_tier":"standard",'
            f'"cache_creation":{{"ephemeral_1h_input_tokens":{written // 3},'
            f'"ephemeral_5m_input_tokens":{written - written // 3}}},"inference_geo":"","iterations":[],'
            f'"speed":"standard"}},"stop_details":null}},{asked}"type":"assistant","uuid":"{self.uuid()}",'
            f'"timestamp":"{stamp(when)}","userType":"external","entrypoint":"cli","cwd":"{cwd}",'
            f'"sessionId":"{session}","version":"2.1.329","gitBranch":"main"}}'
        )

    def claude_result(self, session: str, cwd: str, when: float) -> str:
        """A tool's result: long, and sometimes with usage keys of its own."""
        inside = ',"usage":{"input_tokens":77777,"output_tokens":8888}' if self.random.random() < 0.1 else ""
        return (
            f'{{"parentUuid":"{self.uuid()}","isSidechain":false,"type":"user","message":{{"role":"user","content":'
            f'[{{"tool_use_id":"{self.name("toolu_")}","type":"tool_result","content":"{self.text(self.tools)}"}}]}},'
            f'"uuid":"{self.uuid()}","timestamp":"{stamp(when)}","toolUseResult":{{"stdout":"ok"{inside}}},'
            f'"cwd":"{cwd}","sessionId":"{session}","version":"2.1.329"}}'
        )

    def claude_session(
        self, project: str, messages: int, begun: float, *, hard: bool = True, cut: bool = False
    ) -> Path:
        """A session's transcript, with its subagents'. ``hard``: with everything that is difficult."""
        session, cwd, chance = self.uuid(), f"/work/{project}", self.random.random
        slug = cwd.replace("/", "-")
        folder = self.home / ".claude" / "projects" / slug
        lines = [compact({"type": "queue-operation", "operation": "enqueue", "sessionId": session})]
        if hard and self._told and chance() < 0.3:  # resumed: the lines of an earlier session again
            lines += self.random.choice(self._told)
        own: list[str] = []
        when = begun
        for _ in range(messages):
            when += self.random.uniform(1, 120)
            usage, model = self.claude_usage(), self.random.choice(CLAUDE_MODELS)
            message, request = self.name("msg_"), self.name("req_")
            self.count("claude", when, model, usage)
            blocks = self.random.choice((1, 1, 2, 2, 3, 4))
            early = hard and blocks > 1 and chance() < 0.1
            for block in range(blocks):
                content = None
                if hard and block == 0 and chance() < 0.02:
                    content = (
                        '{"type":"tool_use","id":"toolu_x","name":"Write","input":'
                        '{"usage":{"input_tokens":999999,"output_tokens":999999}}}'
                    )
                output = 1 + usage[3] // 9 if early and block == 0 else None
                own.append(
                    self.claude_block(
                        session, cwd, message, request, when, model, usage, content=content, output=output
                    )
                )
            if chance() < 0.5:
                own.append(self.claude_result(session, cwd, when))
            if hard and chance() < 0.01:
                own.append(self.random.choice(_GARBAGE))
        lines += own
        if hard:
            self._told.append(own[: self.random.randrange(1, 20)])
            if chance() < 0.4:
                self._subagent(folder / session, session, cwd, when, own)
        last = self.claude_block(
            session, cwd, self.name("msg_"), self.name("req_"), when, CLAUDE_MODELS[0], (1, 1, 1, 1)
        )
        return self.write(folder / f"{session}.jsonl", lines, cut=last[: len(last) // 2] if cut else "")

    def _subagent(self, folder: Path, session: str, cwd: str, when: float, parents: list[str]) -> None:
        agent = self.name("a")
        lines = []
        for line in parents[:3]:  # replayed with new request ids
            data = _loads(line)
            if isinstance(data, dict) and data.get("type") == "assistant":
                data |= {"isSidechain": True, "requestId": self.name("req_"), "agentId": agent}
                lines.append(compact(data))
        for _ in range(self.random.randrange(1, 12)):
            when += 1
            usage, model = self.claude_usage(), CLAUDE_MODELS[2]
            self.count("claude", when, model, usage)
            message, request = self.name("msg_"), self.name("req_")
            lines += [
                self.claude_block(session, cwd, message, request, when, model, usage, sidechain=agent)
                for _ in range(self.random.choice((1, 2)))
            ]
        self.write(folder / "subagents" / f"agent-{agent}.jsonl", lines)

    # --- Codex -----------------------------------------------------------------------------

    def codex_session(self, calls: int, begun: float, *, records: bool = True, fork: bool = False) -> Path:
        """A rollout. ``records``: of a version that writes ``token_usage_record``.

        ``fork``: a subagent's, of a version that repeats its parent's counts in the second of the fork.
        """
        thread = self.uuid()
        model, when, total = self.random.choice(CODEX_MODELS), begun, [0] * 5
        source: Any = (
            {"subagent": {"thread_spawn": {"parent_thread_id": self.uuid(), "depth": 1}}} if fork else "cli"
        )
        meta = {"id": thread, "cwd": "/work/codex", "cli_version": "0.169.0", "source": source}
        meta["base_instructions"] = {"text": "You are a coding agent. " * 40}
        lines = [self._codex(when, "session_meta", meta)]
        lines.append(
            self._codex(when, "turn_context", {"turn_id": self.uuid(), "cwd": "/work/codex", "model": model})
        )
        if fork:
            for _ in range(3):
                usage = self._codex_usage()
                total = [a + b for a, b in zip(total, usage, strict=True)]
                lines.append(self._counted(float(int(when)), total, usage))
            when += 5
        for _ in range(calls):
            when += self.random.uniform(1, 60)
            if self.random.random() < 0.1:
                model = self.random.choice(CODEX_MODELS)
                lines.append(self._codex(when, "turn_context", {"turn_id": self.uuid(), "model": model}))
            usage = self._codex_usage()
            total = [a + b for a, b in zip(total, usage, strict=True)]
            whole, read, written, output, _ = usage
            self.count("codex", when, model, (whole - read - written, read, written, output))
            lines.append(self._item(when, self.body * 2))
            lines.append(self._item(when, self.tools))
            if records:
                record = {"thread_id": thread, "response_id": self.name("resp_"), "usage": _codex(usage)}
                lines.append(
                    self._codex(when, "token_usage_record", record | {"thread_token_usage": _codex(total)})
                )
            lines.append(self._counted(when, total, usage))
            if self.repeats and self.random.random() < 0.2:
                lines.append(self._counted(when + 0.5, total, usage))
        day = datetime.fromtimestamp(begun, UTC)
        folder = self.home / ".codex" / "sessions" / day.strftime("%Y/%m/%d")
        return self.write(folder / f"rollout-{day.strftime('%Y-%m-%dT%H-%M-%S')}-{thread}.jsonl", lines)

    def _codex_usage(self) -> list[int]:
        pick = self.random.randrange
        read, written, fresh, output = pick(0, 80_000), pick(0, 3_000), pick(1, 5_000), pick(10, 2_000)
        return [read + written + fresh, read, written, output, output // 3]

    def _codex(self, when: float, kind: str, payload: dict[str, Any]) -> str:
        return compact({"timestamp": stamp(when), "type": kind, "payload": payload})

    def _item(self, when: float, size: int) -> str:
        return (
            f'{{"timestamp":"{stamp(when)}","type":"response_item","payload":{{"type":"message","role":"assistant",'
            f'"content":[{{"type":"output_text","text":"{self.text(size)}"}}]}}}}'
        )

    def _counted(self, when: float, total: list[int], last: list[int]) -> str:
        info = {
            "total_token_usage": _codex(total),
            "last_token_usage": _codex(last),
            "model_context_window": 258_400,
        }
        return self._codex(
            when, "event_msg", {"type": "token_count", "info": info, "rate_limits": {"primary": None}}
        )


_GARBAGE = (
    "not json at all",
    '{"type":"assistant","message":{"usage":{"input_tokens":"many"},"id":"m"},"timestamp":"2026-11-01T00:00:00Z"}',
    '{"type":"assistant","message":{"usage":{"input_tokens":5},"id":"m"},"timestamp":"yesterday"}',
    '{"type":"assistant","message":{"usage":{"input_tokens":12',
    '["input_tokens"]',
    "",
    '{"type":"new-kind-of-line","payload":{"deep":[1,2,3]}}',
)


def _loads(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _codex(usage: list[int]) -> dict[str, int]:
    whole, read, written, output, reasoning = usage
    return {
        "input_tokens": whole,
        "cached_input_tokens": read,
        "cache_write_input_tokens": written,
        "output_tokens": output,
        "reasoning_output_tokens": reasoning,
        "total_tokens": whole + output,
    }


def large(home: Path, size: int, progress: Callable[[int], None] | None = None) -> Corpus:
    """A corpus of about ``size`` bytes, two thirds of it Claude Code's, in files of some megabytes."""
    corpus = Corpus(home, repeats=False)
    number = 0
    while corpus.bytes < size:
        begun = START + (number % 25) * DAY + number % 7 * 3600
        if number % 3 < 2:
            corpus.claude_session(f"project{number % 12}", 340, begun, cut=number % 20 == 0)
        else:
            corpus.codex_session(290, begun, records=number % 2 == 0, fork=number % 30 == 5)
        number += 1
        if progress:
            progress(corpus.bytes)
    return corpus
