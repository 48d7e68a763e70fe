from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path

import pytest

from agenttop.core.agents import template_offers, templates
from agenttop.core.agents.spec import AgentSpec, Restart, RestartMode
from agenttop.core.errors import BackendError, ConfigError, UsageError
from agenttop.core.paths import Paths

URL = "http://127.0.0.1:7171/a/SECRET"
ALLOWED = "--dangerously-skip-permissions"
ASKING = ("--permission-mode", "default")
MCP = '--mcp-config={"mcpServers":{"agenttop":{"type":"http","url":"${AGENTTOP_URL}/mcp","alwaysLoad":true}}}'


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(config=tmp_path / "config", state=tmp_path / "state")


@pytest.fixture
def search(tmp_path: Path) -> str:
    """A PATH with a program called claude and nothing else."""
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho '2.1.0 (Claude Code)'\n")
    program.chmod(0o755)
    return str(program.parent)


def declare(paths: Paths, name: str, text: str) -> None:
    paths.templates.mkdir(parents=True, exist_ok=True)
    (paths.templates / f"{name}.toml").write_text(text)


def spec(**fields: object) -> AgentSpec:
    return AgentSpec.model_validate({"name": "a", **fields})


def test_every_template_that_comes_with_us_is_valid(paths: Paths) -> None:
    assert list(templates.names(paths)) == [
        "aider", "claude", "codex", "copilot", "custom", "gemini", "goose", "opencode", "qwen",
    ]  # fmt: skip
    for name in templates.names(paths):
        assert templates.get(paths, name).name == name


def test_a_spec_without_a_template_stays_as_it_is(paths: Paths) -> None:
    plain = spec(command=["x"])
    assert templates.expand(plain, paths) is plain
    assert templates.environment(plain, paths, url=URL, folder="/f") == {}


def test_claude_gets_prompt_and_model_as_arguments_that_cannot_be_taken_for_options(
    paths: Paths, search: str
) -> None:
    asked = spec(template="claude", prompt="--help {model}", model="opus")
    assert templates.expand(asked, paths, search).command == [
        "claude", "-p", "--output-format", "stream-json", "--verbose", MCP,
        "--model", "opus", ALLOWED, "--", "--help {model}",
    ]  # fmt: skip


def test_without_a_model_the_program_chooses(paths: Paths, search: str) -> None:
    command = templates.expand(spec(template="claude", prompt="hi"), paths, search).command
    assert "--model" not in command
    assert command[-2:] == ["--", "hi"]


def test_claude_finds_its_gateway_its_key_and_its_own_folder_in_its_environment(paths: Paths) -> None:
    found = templates.environment(spec(template="claude"), paths, url=URL, folder="/state/agents/a1")
    assert found == {
        "ANTHROPIC_BASE_URL": f"{URL}/anthropic",
        "ANTHROPIC_API_KEY": templates.PLACEHOLDER_KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CONFIG_DIR": "/state/agents/a1/claude",
    }


def test_a_container_is_not_given_a_folder_it_does_not_have(paths: Paths) -> None:
    boxed = spec(template="claude", backend="docker")
    found = templates.environment(boxed, paths, url=URL, folder="/state/agents/a1")
    assert "CLAUDE_CONFIG_DIR" not in found
    assert found["ANTHROPIC_BASE_URL"] == f"{URL}/anthropic"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"command": ["claude", ALLOWED]}, os.geteuid() == 0),
        ({"command": ["claude"]}, False),
        ({"command": ["claude", ALLOWED], "backend": "docker"}, False),
        ({"command": ["claude", ALLOWED], "backend": "docker", "user": "root:root"}, True),
        ({"command": ["claude", ALLOWED], "backend": "docker", "user": "0"}, True),
        ({"command": ["claude", ALLOWED], "backend": "docker", "user": "1000"}, False),
    ],
)
def test_claude_is_told_of_a_sandbox_only_as_root_and_without_permissions(
    paths: Paths, fields: dict[str, object], told: bool
) -> None:
    found = templates.environment(spec(template="claude", **fields), paths, url=URL, folder="/f")
    assert ("IS_SANDBOX" in found) is told


def test_a_command_of_ones_own_takes_the_place_of_the_templates(paths: Paths) -> None:
    own = spec(template="claude", command=["/opt/claude", "x"])
    assert templates.expand(own, paths, "/nowhere").command == ["/opt/claude", "x"]


def test_options_of_ones_own_are_added_before_the_prompt(paths: Paths, search: str) -> None:
    asked = spec(template="claude", command=[ALLOWED], prompt="hi")
    command = templates.expand(asked, paths, search).command
    assert command[0] == "claude"
    assert command[-3:] == [ALLOWED, "--", "hi"]


def test_a_missing_program_says_how_to_get_it(paths: Paths) -> None:
    with pytest.raises(BackendError) as caught:
        templates.expand(spec(template="claude", prompt="hi"), paths, "/nowhere")
    assert caught.value.what == "Claude Code is not installed"
    assert "npm install -g @anthropic-ai/claude-code" in caught.value.hint


def test_a_container_brings_its_own_program(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    boxed = spec(template="claude", prompt="hi", backend="docker")
    assert templates.expand(boxed, paths, "/nowhere").command[0] == "claude"


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"template": "claude"}, "the template claude needs a prompt"),
        ({"template": "custom"}, "the template custom needs a command"),
        ({"template": "cluade"}, "there is no template cluade"),
        (
            {"template": "claude", "prompt": "x", "backend": "moon"},
            "the template claude does not run on moon",
        ),
    ],
)
def test_what_a_template_cannot_do_without_is_said(
    paths: Paths, search: str, fields: dict[str, object], what: str
) -> None:
    with pytest.raises(UsageError) as caught:
        templates.expand(spec(**fields), paths, search)
    assert caught.value.what == what
    assert caught.value.why or caught.value.hint


def test_custom_runs_the_command_it_is_given(paths: Paths) -> None:
    asked = spec(template="custom", command=["python", "x.py"], prompt="shown only")
    assert templates.expand(asked, paths, "/nowhere") == asked


def test_the_spec_wins_over_the_template_field_by_field(paths: Paths) -> None:
    declare(
        paths,
        "mine",
        """
title = "Mine"
command = ["echo"]
model = "small"
[spec]
nice = 5
labels = { team = "a", tier = "x" }
restart = { policy = "always", max_restarts = 9 }
limits = { memory = "1G" }
""",
    )
    asked = spec(template="mine", labels={"tier": "y"}, restart={"max_restarts": 2}, nice=3)
    found = templates.expand(asked, paths)
    assert (found.nice, found.labels) == (3, {"team": "a", "tier": "y"})
    assert found.restart == Restart(policy=RestartMode.ALWAYS, max_restarts=2)
    assert (found.limits.memory, found.model, found.command) == (1 << 30, "small", ["echo"])


def test_the_users_template_takes_the_place_of_ours(paths: Paths) -> None:
    declare(paths, "claude", 'title = "Ours, wrapped"\ncommand = ["wrap"]\n')
    assert templates.get(paths, "claude").title == "Ours, wrapped"
    assert templates.expand(spec(template="claude"), paths).command == ["wrap"]


def test_a_prompt_on_stdin_opens_stdin_and_is_not_in_the_command(paths: Paths) -> None:
    declare(paths, "reader", 'title = "R"\ncommand = ["cat"]\nprompt = "stdin"\n')
    asked = templates.expand(spec(template="reader", prompt="hällo"), paths)
    assert (asked.command, asked.stdin) == (["cat"], True)
    assert templates.first_input(asked, paths) == "hällo".encode()
    assert templates.first_input(spec(template="custom", prompt="x"), paths) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('title = "x"\ncommand = ["x", "{url}"]\n', "line 2: command: {url} cannot stand in a command"),
        ('title = "x"\ncommand = ["x", "--key={key}"]\n', "line 2: command: {key} cannot stand in a command"),
        ('title = "x"\n[env]\nA = "{prompt}"\n', "line 2: env: {prompt} cannot stand in the environment"),
        ('title = "x"\ncomand = []\n', "line 2: comand: there is no such key; did you mean command?"),
        ('title = "x"\nname = "y"\n', "line 2: name: a template is named by its file"),
        ('title = "x"\nprompt = "argument"\n', "prompt = 'argument' needs {prompt}"),
        ('title = "x"\n[spec]\ncommand = ["x"]\n', "[spec] cannot have command"),
        ("command = []\n", "title: this is required"),
    ],
)
def test_a_wrong_template_file_is_named_by_line_and_field(paths: Paths, text: str, expected: str) -> None:
    declare(paths, "bad", text)
    with pytest.raises(ConfigError) as caught:
        templates.get(paths, "bad")
    assert str(paths.templates / "bad.toml") in caught.value.what
    assert expected in caught.value.what


def test_all_templates_are_offered_with_what_is_missing_and_a_broken_one_hides_no_other(
    paths: Paths, search: str
) -> None:
    declare(paths, "bad", "titel = 1\n")
    found = {info.name: info for info in template_offers.offered(paths, search)}
    assert list(found) == list(templates.names(paths))
    assert (found["bad"].ready, "did you mean title?" in found["bad"].hint) == (False, True)
    assert (found["claude"].ready, found["claude"].found) == (True, f"{search}/claude")
    assert found["claude"].backends == ["subprocess", "docker", "terminal"]
    assert found["custom"].ready
    missing = {info.name: info for info in template_offers.offered(paths, "/nowhere")}["claude"]
    assert (missing.ready, "npm install" in missing.hint) == (False, True)


def test_a_resumed_run_keeps_what_the_person_added_and_gets_another_prompt(paths: Paths) -> None:
    template = templates.get(paths, "claude")
    command = template.arguments("claude", "do it", "opus", ["--add-dir", "x"])
    spec = AgentSpec(name="a", template="claude", prompt="do it", command=command)
    resumed = templates.resumed(spec, paths, "s-1")
    assert resumed is not None
    assert resumed[: len(command) - 2] == command[:-2]
    assert resumed[len(command) - 2 :] == ["--resume", "s-1", "--", template.resume_prompt]
    custom = AgentSpec(name="a", template="custom", command=["true"])
    assert templates.resumed(custom, paths, "s-1") is None
    assert templates.resumed(AgentSpec(name="a", command=["true"]), paths, "s-1") is None


# -- the interactive form, an agent's own folder, what a program needs


def furnished(paths: Paths, asked: AgentSpec, cwd: str = "/work", home: str = "") -> Path:
    folder, home = paths.agent_dir("a1"), home or str(paths.config.parent)
    templates.prepare(asked, paths, url=URL, folder=folder, cwd=cwd, home=home)
    return folder


def test_in_a_terminal_a_template_takes_its_interactive_form_and_no_prompt_is_needed(
    paths: Paths, search: str
) -> None:
    asked = spec(template="claude", backend="terminal")
    assert templates.expand(asked, paths, search).command == ["claude", MCP, *ASKING]
    told = spec(template="claude", backend="terminal", prompt="-p", model="opus")
    expanded = templates.expand(told, paths, search)
    assert expanded.command == ["claude", MCP, "--model", "opus", *ASKING, "--", "-p"]
    assert templates.resumed(expanded, paths, "S") == [
        "claude", MCP, "--model", "opus", *ASKING, "--resume", "S",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="needs a prompt"):
        templates.expand(spec(template="claude"), paths, search)


@pytest.mark.parametrize("name", ["claude", "codex", "gemini", "qwen"])
def test_settings_are_whole_whatever_the_folder_is_called_and_for_the_owner_only(
    paths: Paths, name: str
) -> None:
    cwd = '/a "quoted"\\folder with {url}'
    folder = furnished(paths, spec(template=name, model="m"), cwd)
    path = next(iter(templates.get(paths, name).files))
    file = folder / path
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    settings = json.loads(text) if path.endswith(".json") else tomllib.loads(text)
    if "projects" in settings:
        assert list(settings["projects"]) == [cwd]
    if name == "codex":
        assert settings["model_providers"]["agenttop"]["base_url"] == f"{URL}/openai/v1"


def test_settings_a_program_or_a_person_changed_stay(paths: Paths) -> None:
    asked = spec(template="codex")
    file = furnished(paths, asked) / "codex" / "config.toml"
    file.write_text("changed = true\n")
    furnished(paths, asked)
    assert file.read_text() == "changed = true\n"


def test_a_login_is_lent_only_when_that_was_asked_for(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "auth.json").write_text("{}")
    own = furnished(paths, spec(template="codex"), home=str(tmp_path)) / "codex" / "auth.json"
    assert not own.is_symlink()
    own.unlink()
    link = furnished(paths, spec(template="codex", share_login=True), home=str(tmp_path))
    assert (link / "codex" / "auth.json").resolve() == tmp_path / ".codex" / "auth.json"


def test_a_container_gets_no_folder_of_the_hosts(paths: Paths) -> None:
    asked = spec(template="qwen", backend="docker", image="x", model="m")
    assert not furnished(paths, asked).exists()
    found = templates.environment(asked, paths, url=URL, folder="/f")
    assert "QWEN_HOME" not in found
    assert found["OPENAI_MODEL"] == "m"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[files]\n"../x" = ""\n', "inside the agent's folder"),
        ('[files]\n"/x" = ""\n', "inside the agent's folder"),
        ('[files]\nx = "{prompt}"\n', "cannot stand in a file"),
        ('[login]\nx = "secrets"\n', "neither an absolute path"),
        ('[interactive]\ncommand = ["x", "{url}"]\n', "cannot stand in a command"),
        ('[own]\nX = "{session}"\n', "cannot stand in the environment"),
    ],
)
def test_a_template_cannot_reach_out_of_its_folder_or_put_a_secret_where_it_is_seen(
    paths: Paths, text: str, expected: str
) -> None:
    declare(paths, "bad", 'title = "Bad"\n' + text)
    with pytest.raises(ConfigError) as caught:
        templates.get(paths, "bad")
    assert expected in str(caught.value)


def with_node(folder: Path, said: str) -> str:
    folder.mkdir(exist_ok=True)
    for name, line in (("qwen", "qwen"), ("node", said)):
        (folder / name).write_text(f"#!/bin/sh\necho {line}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def test_a_program_whose_node_is_too_old_is_not_started_and_says_which_it_is(
    paths: Paths, tmp_path: Path
) -> None:
    asked = spec(template="qwen", prompt="x")
    old, new = with_node(tmp_path / "old", "v20.1.0"), with_node(tmp_path / "new", "v22.0.1")
    with pytest.raises(BackendError, match=f"needs Node.js 22, and {old}/node is v20.1.0"):
        templates.expand(asked, paths, old)
    assert templates.expand(asked, paths, new).command[0] == "qwen"
    offered = {info.name: info for info in template_offers.offered(paths, old)}["qwen"]
    assert (offered.ready, "v20.1.0" in offered.hint) == (False, True)


def test_codex_below_tmp_is_ready_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "codex").write_text("#!/bin/sh\n")
    (tmp_path / "codex").chmod(0o755)
    for state, warned in ((Path("/tmp/somewhere"), True), (Path("/srv/somewhere"), False)):
        paths = Paths(config=tmp_path / "config", state=state)
        info = {info.name: info for info in template_offers.offered(paths, str(tmp_path))}["codex"]
        assert (info.ready, "/tmp" in info.hint) == (True, warned)


def test_a_conversation_is_gone_on_with_by_its_id_or_as_the_latest_but_only_if_it_has_begun(
    paths: Paths,
) -> None:
    claude, gemini, plain = spec(template="claude"), spec(template="gemini"), spec(command=["x"])
    assert templates.conversation(claude, paths, "S", begun=True) == "S"
    assert templates.conversation(claude, paths, None, begun=True) is None
    assert templates.conversation(claude, paths, "S", begun=False) is None
    assert templates.conversation(gemini, paths, None, begun=True) == ""
    assert templates.conversation(plain, paths, "S", begun=True) is None
