"""The coding agents that are tested for real: where they are found, how each is led to the gateway.

They are started as a person would, with the variables the kernel gives every agent: ``AGENTTOP_URL`` and
what is derived of it. No test of theirs uses anybody's settings or login: each has a home of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agenttop.core.agents.spec import AgentSpec

from ..conftest import REQUIRED, missing

#: Below this Qwen Code does not promise to start.
QWEN_NODE = 22

_NODE = "AGENTTOP_TEST_NODE"

#: As the tests were started: the ``home`` fixture takes all of agenttop's own variables away.
_ENVIRON = dict(os.environ)

_OPENCODE = {
    "autoupdate": False,
    "model": "gateway/gpt-5.1",
    "small_model": "gateway/gpt-5-mini",
    "provider": {
        "gateway": {
            "npm": "@ai-sdk/openai-compatible",
            "options": {"baseURL": "{env:OPENAI_BASE_URL}", "apiKey": "{env:OPENAI_API_KEY}"},
            "models": {"gpt-5.1": {"limit": {"context": 128_000, "output": 8_192}}, "gpt-5-mini": {}},
        }
    },
    "permission": {"bash": "allow"},
}

_CODEX = (
    "exec codex exec --json --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox"
    " -c analytics.enabled=false -c check_for_update_on_startup=false"
)


@dataclass(frozen=True)
class Cli:
    """One CLI, in one of the ways to lead it to a gateway.

    Attributes:
        name: Of the test, and of the agent.
        program: What is installed; also the mark of its tests.
        protocol: What it speaks.
        models: How many models it asks at once when it is given a prompt.
        gives_up: Whether it ends with an error when it was refused.
        script: A shell script that starts it; the prompt is ``$1``. Empty: the template of its name.
        env: What it needs in its environment besides.
        files: What it needs in its home, by path.
    """

    name: str
    program: str
    protocol: str
    script: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, object] = field(default_factory=dict)
    models: int = 1
    gives_up: bool = True

    def environ(self, path: str, home: Path) -> dict[str, str]:
        """The environment of the person who starts it, with the ``PATH`` on which it was found."""
        return {"PATH": path, "HOME": str(home), "TMPDIR": str(home / "tmp")}

    def spec(self, prompt: str, home: Path, **more: object) -> AgentSpec:
        """The agent that does this, with a home of its own that is made here."""
        for folder in ("work", "tmp"):
            (home / folder).mkdir(parents=True)
        for path, content in self.files.items():
            file = home / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(content))
        start: dict[str, object] = {"template": self.program}
        if self.script:
            start = {"command": ["/bin/sh", "-c", self.script, self.program, prompt], "env": dict(self.env)}
        return AgentSpec.model_validate(
            {"name": self.name, "prompt": prompt, "cwd": str(home / "work"), **start, **more}
        )


CLAUDE = Cli("claude", "claude", "anthropic")
CLIS = (
    CLAUDE,
    Cli(
        "codex",
        "codex",
        "openai",
        f"""{_CODEX} -c 'model_provider="gateway"' -c "model_providers.gateway={{name=\\"gateway\\","""
        """base_url=\\"$OPENAI_BASE_URL\\",env_key=\\"OPENAI_API_KEY\\",wire_api=\\"responses\\"}" "$1" """,
    ),
    Cli(
        "codex-built-in",
        "codex",
        "openai",
        # Tries a WebSocket first.
        f"""CODEX_API_KEY=$OPENAI_API_KEY {_CODEX} -c "openai_base_url=\\"$OPENAI_BASE_URL\\"" "$1" """,
    ),
    Cli(
        "gemini",
        "gemini",
        "gemini",
        """GEMINI_CLI_HOME=$HOME exec gemini -m gemini-2.5-pro --skip-trust -y -o json -p "$1" """,
        {"GEMINI_CLI_NO_RELAUNCH": "true"},
        {".gemini/settings.json": {"security": {"auth": {"selectedType": "gemini-api-key"}}}},
    ),
    Cli(
        "opencode",
        "opencode",
        "openai",
        """OPENCODE_CONFIG=$HOME/opencode.json exec opencode run --format json "$1" """,
        # It would fetch what plugins need, in the background, in every new home.
        {
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "npm_config_offline": "true",
        },
        {"opencode.json": _OPENCODE},
        models=2,  # a small one finds a title
    ),
    Cli(
        "qwen",
        "qwen",
        "openai",
        """OPENAI_MODEL=gpt-5.1 exec qwen --auth-type openai -y --output-format json "$1" """,
        # Now and then it would ask the model by itself what to remember, after the last answer.
        files={".qwen/settings.json": {"memory": {"enableManagedAutoMemory": False}}},
        gives_up=False,  # what a model says and what went wrong are one to it: status 0
    ),
)


def of_each(*clis: Cli) -> pytest.MarkDecorator:
    """One test for each as its ``cli``, marked with what it needs."""
    return pytest.mark.parametrize(
        "cli", [pytest.param(cli, id=cli.name, marks=getattr(pytest.mark, cli.program)) for cli in clis]
    )


def search_path(program: str) -> str:
    """The ``PATH`` on which ``program`` is found and can run; else skips the test (see ``missing``)."""
    path, problem = look_for(program)
    if problem:
        missing(program, problem)
    return path


def installed() -> Mapping[str, str]:
    """The same for all that are here, by program; one that is required and is not fails the test."""
    found = {program: look_for(program) for program in sorted({cli.program for cli in CLIS})}
    for program in sorted(REQUIRED & found.keys()):
        search_path(program)
    if all(problem for _, problem in found.values()):
        pytest.skip("none of these CLIs was found: " + ", ".join(found))
    return {program: path for program, (path, problem) in found.items() if not problem}


def look_for(program: str) -> tuple[str, str]:
    """The ``PATH`` for ``program``, ``$AGENTTOP_TEST_PROGRAM`` first, and what is in its way, or nothing."""
    variable = f"AGENTTOP_TEST_{program.upper()}"
    folders = [os.environ["PATH"]]
    if variable in _ENVIRON:
        folders.insert(0, os.path.dirname(_ENVIRON[variable]))
    elif shutil.which(program) is None:
        return "", f"neither ${variable} nor a {program} on the PATH was found"
    if program in ("qwen", "conformance"):
        if _NODE in _ENVIRON:
            folders.insert(0, os.path.dirname(_ENVIRON[_NODE]))
        return os.pathsep.join(folders), _too_old(os.pathsep.join(folders))
    return os.pathsep.join(folders), ""


def _too_old(path: str) -> str:
    """What is wrong with the Node on this ``PATH`` for Qwen Code and the conformance suite."""
    node = shutil.which("node", path=path)
    if node is None:
        return "it needs Node, and no node is on the PATH"
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    major = re.match(r"v(\d+)", said)
    if major is None or int(major[1]) < QWEN_NODE:
        return f"it needs Node {QWEN_NODE}, and {node} is {said}; ${_NODE} can name another one"
    return ""
