"""One agent of the demo: ``python -m agenttop.tui.demo.agent --script coder``.

An ordinary program to the kernel. It asks a model what to do, does it in short child processes, tells the
model how that went, talks with the others meanwhile, and prints what a coding agent prints.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from .messages import CallFailed, Messages
from .parts import PARTS
from .scripts import SCRIPTS, Script
from .talk import Talk

_TOOLS = ("Bash", "Read", "Grep", "Glob", "Edit", "Write", "Task")
_WORDS = ("order", "retry", "store", "index", "cart", "refund", "ledger", "clock", "key", "batch", "schema")


def say(text: str = "") -> None:
    """Print a line now: whoever follows the output wants it at once."""
    print(text, flush=True)  # noqa: T201  an agent's output is its purpose


class DemoAgent:
    """Works through a script until it ends, crashes or hangs as the script says."""

    def __init__(self, name: str, script: Script, environ: Mapping[str, str]) -> None:
        run = environ.get("AGENTTOP_RUN", f"{name}.1")
        self._script = script
        self._name = name
        self._rng = random.Random(f"{environ.get('AGENTTOP_DEMO_SEED', '0')}.{name}.{run.rpartition('.')[2]}")
        speed = environ.get("AGENTTOP_DEMO_SPEED", "1")
        self._speed = 1e9 if speed == "instant" else float(speed)
        self._messages = Messages(environ, lambda text: say(f"  ⚠ {text}"))
        self._model = environ.get("AGENTTOP_MODEL") or script.model
        self._talk = Talk(PARTS.get(name), environ, say, self._speed)
        self._history: list[dict[str, Any]] = []
        self._system = [_marked(self._guide())]

    def work(self, tasks: int | None = None) -> int:
        """Do ``tasks`` tasks (default: as the script says); returns the exit status."""
        say(f"✻ {self._name} · {self._model}")
        self._talk.begin()
        number = 0
        while tasks is None or number < tasks:
            if self._script.ends == "done" and number == len(self._script.tasks):
                say("● Done. Nothing is left on the list.")
                break
            task = self._script.tasks[number % len(self._script.tasks)]
            self._task(task)
            self._after_task()
            self._talk.done(number, task, self._text(60))
            number += 1
            if number % 8 == 0:
                self._history.clear()
                say("● Compacted the conversation.")
            self._wait(self._script.pause)
        return 0

    def _after_task(self) -> None:
        if self._script.ends == "crash":
            say("Traceback (most recent call last):")
            say('  File "scrape.py", line 41, in <module>')
            raise KeyError("price")
        if self._script.ends == "hang":
            say("● Bash(curl --no-buffer https://deploy.example/events)")
            subprocess.run(["sleep", "1000000"], stdin=subprocess.DEVNULL, check=False)

    # --- one task -------------------------------------------------------------------------------

    def _task(self, task: str) -> None:
        say()
        say(f"> {task}")
        wish = f"tools={self._script.tools}"
        if self._script.reply:
            wish += f" output={int(self._script.reply * self._rng.uniform(0.6, 1.5))}"
        self._history.append({"role": "user", "content": f"{task}\n[[mock:{wish}]]"})
        while True:
            message = self._messages.create(self._request())
            self._history.append({"role": "assistant", "content": message["content"]})
            calls = [block for block in message["content"] if block["type"] == "tool_use"]
            for block in message["content"]:
                if block["type"] == "text" and block["text"]:
                    say(f"  {block['text']}")
            if not calls:
                return
            results = [
                {"type": "tool_result", "tool_use_id": call["id"], "content": self._use(call)}
                for call in calls
            ]
            self._history.append({"role": "user", "content": results})
            self._talk.listen(0)

    def _request(self) -> dict[str, Any]:
        """The whole conversation, marked for the cache where it will go on next time."""
        *before, last = self._history
        content = last["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        marked = [*blocks[:-1], {**blocks[-1], "cache_control": {"type": "ephemeral"}}, self._reminder()]
        return {
            "model": self._model,
            "max_tokens": 8192,
            "thinking": {"type": "enabled", "budget_tokens": 4096},
            "system": self._system,
            "tools": [{"name": name, "input_schema": {"type": "object"}} for name in _TOOLS],
            "messages": [*before, {"role": last["role"], "content": marked}],
        }

    def _reminder(self) -> dict[str, Any]:
        """What stands behind the mark, new each time and never kept: the fresh input of a call."""
        words = self._text(self._rng.randint(10, 160))
        return {"type": "text", "text": f"<reminder>Open files: {words}</reminder>"}

    def _guide(self) -> str:
        words = (self._rng.choice(_WORDS) for _ in range(self._script.guide * 4 // 6))
        return f"You are {self._name}. " + " ".join(words)

    # --- tools ----------------------------------------------------------------------------------

    def _use(self, call: dict[str, Any]) -> str:
        given = call["input"]
        match call["name"]:
            case "Bash":
                return self._bash(str(given.get("command", "true")))
            case "Read":
                say(f"● Read({given.get('file_path')})")
                lines = self._rng.randint(12, 240)
                self._run("cat /dev/null", 0.3)
                say(f"  └ {lines} lines")
                return self._text(lines * 6)
            case "Grep" | "Glob":
                say(f"● {call['name']}({given.get('pattern')}, src/)")
                self._run("true", 0.5)
                found = self._rng.randint(1, 24)
                say(f"  └ {found} matches in {max(1, found // 2)} files")
                return self._text(found * 8)
            case "Edit":
                say(f"● Edit({given.get('file_path')})")
                for sign, text in (("-", given.get("old_string")), ("+", given.get("new_string"))):
                    for line in str(text).splitlines():
                        say(f"  {sign} {line}")
                return "ok"
            case "Task":
                say(f"● Task({given.get('description')})")
                self._run("true", 2.0)
                return self._text(120)
        say(f"● {call['name']}({given.get('file_path', '')})")
        self._run("true", 0.4)
        return "ok"

    def _bash(self, command: str) -> str:
        say(f"● Bash({command})")
        if "pytest" not in command:
            self._run("true", 1.0)
            say(
                "  └ (no output)"
                if "diff" not in command
                else "  └ 3 files changed, 61 insertions(+), 12 deletions(-)"
            )
            return self._text(40)
        passed = 0
        files = ("test_create", "test_retry", "test_refund")
        for number, name in enumerate(files, 1):
            self._run("true", 1.0, workers=2)
            dots = "." * self._rng.randint(6, 14)
            passed += len(dots)
            say(f"  tests/orders/{name}.py {dots:<44}[{number * 100 // len(files):>3}%]")
        say(f"  {passed} passed in {self._rng.uniform(2, 9):.2f}s")
        return f"{passed} passed\n" + self._text(60)

    def _run(self, command: str, share: float, workers: int = 1) -> None:
        """Run a real child process for about as long as the tool would take."""
        seconds = self._script.tool_seconds * share * self._rng.uniform(0.6, 1.6) / self._speed
        if seconds < 0.001:
            line = command
        else:
            nap = f"sleep {seconds:.3f}"
            line = f"{command}; " + " & ".join([nap] * workers) + (" & wait" if workers > 1 else "; true")
        ended = subprocess.run(["sh", "-c", line], stdin=subprocess.DEVNULL, check=False)
        if ended.returncode:
            say(f"  └ exit {ended.returncode}")

    def _text(self, words: int) -> str:
        return " ".join(self._rng.choice(_WORDS) for _ in range(words))

    def _wait(self, seconds: float) -> None:
        self._talk.listen(seconds * self._rng.uniform(0.5, 1.5) / self._speed)


def _marked(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": "1h"}}


def _leave(signum: int, frame: object) -> NoReturn:
    # Not print: the signal may have come in the middle of one, and a buffer is not entered twice.
    os.write(1, f"  got {signal.Signals(signum).name}, leaving\n".encode())
    raise SystemExit(128 + signum)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one agent; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m agenttop.tui.demo.agent", description=__doc__)
    parser.add_argument("--script", choices=sorted(SCRIPTS), required=True)
    parser.add_argument("--tasks", type=int, help="stop after so many")
    options = parser.parse_args(argv)
    script = SCRIPTS[options.script]
    signal.signal(signal.SIGTERM, signal.SIG_IGN if script.ignores_term else _leave)
    try:
        return DemoAgent(options.script, script, os.environ).work(options.tasks)
    except CallFailed as error:
        say(f"  ✗ {error}")
        return 1
    except KeyError as error:
        print(f"KeyError: {error}", file=sys.stderr, flush=True)  # noqa: T201  how a program crashes
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
