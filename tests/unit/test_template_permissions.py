"""What an agent may do unasked, the login it is lent, the MCP server it finds."""

from __future__ import annotations

import json
import os
import pwd
import tomllib
from pathlib import Path

import pytest

from agenttop.core.agents import needs, template_offers, templates
from agenttop.core.agents.furnish import home_of
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.errors import BackendError, ConfigError, UsageError
from agenttop.core.paths import Paths

URL = "http://127.0.0.1:7171/a/SECRET"
EACH = ("claude", "codex", "gemini", "opencode", "qwen", "copilot", "aider")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(config=tmp_path / "config", state=tmp_path / "state")


@pytest.fixture
def search(tmp_path: Path) -> str:
    """A PATH with every program the templates want, and a Node that is new enough."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in (*EACH, "goose", "node"):
        (folder / name).write_text("#!/bin/sh\necho v24.0.0\n")
        (folder / name).chmod(0o755)
    return str(folder)


def spec(**fields: object) -> AgentSpec:
    return AgentSpec.model_validate({"name": "a", "prompt": "do it", **fields})


def declare(paths: Paths, name: str, text: str) -> None:
    paths.templates.mkdir(parents=True, exist_ok=True)
    (paths.templates / f"{name}.toml").write_text(text)


# -- permissions


@pytest.mark.parametrize("name", EACH)
def test_headless_nobody_is_asked_and_at_a_terminal_the_person_is(
    paths: Paths, search: str, name: str
) -> None:
    form = templates.get(paths, name).permissions
    assert form is not None
    assert form.auto
    headless = templates.expand(spec(template=name), paths, search)
    assert headless.permissions == "auto"
    assert set(form.auto) <= set(headless.command)
    there = spec(template=name, backend="terminal", prompt=None)
    seated = templates.expand(there, paths, search)
    assert seated.permissions == "ask"
    assert not set(form.auto) & set(seated.command)


@pytest.mark.parametrize("name", [name for name in EACH if name != "aider"])
def test_asking_headless_is_what_the_program_refuses_by_itself(paths: Paths, search: str, name: str) -> None:
    form = templates.get(paths, name).permissions
    assert form is not None
    assert form.auto is not None
    found = templates.expand(spec(template=name, permissions="ask"), paths, search)
    assert found.permissions == "ask"
    assert form.auto[-1] not in found.command


@pytest.mark.parametrize("name", EACH)
def test_in_a_terminal_nobody_is_asked_only_if_that_was_said(paths: Paths, search: str, name: str) -> None:
    asked = spec(template=name, backend="terminal", prompt=None, permissions="auto")
    form = templates.get(paths, name).on("terminal").permissions
    assert form is not None
    assert form.auto
    assert set(form.auto) <= set(templates.expand(asked, paths, search).command)


def test_what_a_template_cannot_do_is_refused_and_says_what_it_can(paths: Paths, search: str) -> None:
    with pytest.raises(UsageError) as caught:
        templates.expand(spec(template="aider", permissions="ask"), paths, search)
    assert caught.value.what == "the template aider has no permissions = 'ask' on subprocess"
    assert caught.value.hint == "It has auto"
    with pytest.raises(UsageError, match="Another one takes its place"):
        templates.expand(spec(template="claude", permissions="ask", command=["x"]), paths, search)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("claude", ["--permission-mode", "plan"]),
        ("claude", ["--allowedTools=Bash"]),
        ("codex", ["--sandbox", "read-only"]),
        ("gemini", ["--approval-mode=auto_edit"]),
        ("copilot", ["--allow-tool=write"]),
    ],
)
def test_a_person_whose_own_arguments_say_it_has_decided(
    paths: Paths, search: str, name: str, said: list[str]
) -> None:
    found = templates.expand(spec(template=name, command=said), paths, search)
    form = templates.get(paths, name).permissions
    assert form is not None
    assert found.permissions is None
    attached = templates.get(paths, name).mcp
    ours = attached.arguments if attached is not None else []
    assert [p for p in found.command if p.split("=")[0] in form.unless and p not in ours] == said[:1]


def test_the_users_template_may_decide_for_all_that_are_made_of_it(paths: Paths, search: str) -> None:
    declare(paths, "careful", 'extends = "gemini"\n[spec]\npermissions = "ask"\n')
    assert templates.expand(spec(template="careful"), paths, search).permissions == "ask"
    told = spec(template="careful", permissions="auto")
    assert "--yolo" in templates.expand(told, paths, search).command


def test_a_prompt_that_would_get_lost_is_refused(paths: Paths, search: str) -> None:
    with pytest.raises(UsageError) as caught:
        templates.expand(spec(template="aider", backend="terminal"), paths, search)
    assert caught.value.what == "the template aider takes no prompt on terminal"
    assert "type it there" in caught.value.hint


def test_the_form_is_that_of_the_backend_the_template_itself_names(paths: Paths, search: str) -> None:
    declare(paths, "seat", 'extends = "claude"\n[spec]\nbackend = "terminal"\n')
    found = templates.expand(spec(template="seat", prompt=None), paths, search)
    attached = ["claude", *getattr(templates.get(paths, "claude").mcp, "arguments", ())]
    assert (found.backend, found.command) == ("terminal", [*attached, "--permission-mode", "default"])


# -- logins, keys, homes


def test_a_shared_login_is_not_hidden_by_a_placeholder_key(paths: Paths) -> None:
    for name in ("claude", "codex"):
        lent = spec(template=name, share_login=True)
        found = templates.environment(lent, paths, url=URL, folder="/f")
        assert templates.PLACEHOLDER_KEY not in found.values()
        own = templates.environment(spec(template=name), paths, url=URL, folder="/f")
        assert templates.PLACEHOLDER_KEY in own.values()


def test_a_shared_login_is_there_instead_of_the_placeholders_and_a_program_may_change_it(
    paths: Paths, tmp_path: Path
) -> None:
    (tmp_path / ".codex").mkdir()
    person = tmp_path / ".codex" / "auth.json"
    for shared in (False, True):
        folder = paths.agent_dir(f"a{shared}")
        asked = spec(template="codex", share_login=shared)
        templates.prepare(asked, paths, url=URL, folder=folder, cwd="/w", home=str(tmp_path))
        auth = folder / "codex" / "auth.json"
        assert auth.is_symlink() is shared
        assert person.exists() is False
        if not shared:
            assert json.loads(auth.read_text()) == {"OPENAI_API_KEY": templates.PLACEHOLDER_KEY}


def test_who_brings_credentials_of_their_own_keeps_them(paths: Paths) -> None:
    asked = spec(template="claude", pass_keys=["ANTHROPIC_API_KEY"])
    assert "ANTHROPIC_API_KEY" not in templates.environment(asked, paths, url=URL, folder="/f")
    through = templates.environment(
        spec(template="claude"), paths, url=URL, folder="/f", passthrough={"anthropic"}
    )
    assert "ANTHROPIC_API_KEY" not in through


def test_a_login_there_is_none_of_is_refused(paths: Paths, search: str) -> None:
    with pytest.raises(UsageError, match="no login to share"):
        templates.expand(spec(template="gemini", share_login=True), paths, search)


def test_a_login_is_found_where_the_person_has_it(paths: Paths, tmp_path: Path) -> None:
    template = templates.get(paths, "claude")
    assert needs.login(template, str(tmp_path)) == ""
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / ".credentials.json").write_text("{}")
    assert needs.login(template, str(tmp_path)) == str(tmp_path / ".claude" / ".credentials.json")


@pytest.mark.parametrize("said", ["", "relative/home"])
def test_a_home_that_is_none_is_the_one_the_system_knows(
    paths: Paths, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home_of(said) == pwd.getpwuid(os.geteuid()).pw_dir
    folder = paths.agent_dir("a1")
    asked = spec(template="codex", share_login=True)
    templates.prepare(asked, paths, url=URL, folder=folder, cwd="/w", home=said)
    assert os.readlink(folder / "codex" / "auth.json") == f"{home_of('')}/.codex/auth.json"


@pytest.mark.parametrize("name", ["opencode", "qwen", "copilot"])
def test_a_program_that_would_fail_or_hang_in_a_home_is_not_started_in_it(
    paths: Paths, tmp_path: Path, name: str
) -> None:
    asked, folder = spec(template=name, model="m"), paths.agent_dir("a1")
    with pytest.raises(BackendError) as caught:
        templates.prepare(asked, paths, url=URL, folder=folder, cwd="/w", home=str(tmp_path / "none"))
    assert caught.value.why == f"It needs a home folder, and {tmp_path}/none is not there"
    templates.prepare(asked, paths, url=URL, folder=folder, cwd="/w", home=str(tmp_path))
    templates.prepare(spec(template="claude"), paths, url=URL, folder=folder, cwd="/w", home="/none")


def test_a_home_with_spaces_is_taken_as_it_is(paths: Paths, tmp_path: Path) -> None:
    folder, home = paths.agent_dir("a b"), str(tmp_path / "my home")
    templates.prepare(
        spec(template="claude", share_login=True), paths, url=URL, folder=folder, cwd="/w", home=home
    )
    assert os.readlink(folder / "claude" / ".credentials.json") == f"{home}/.claude/.credentials.json"


def test_a_conversation_that_went_with_its_container_is_not_gone_on_with(paths: Paths) -> None:
    boxed = spec(template="claude", backend="docker", image="x")
    assert templates.conversation(boxed, paths, "S", begun=True) is None


# -- an MCP server


@pytest.mark.parametrize(
    ("name", "path", "table"),
    [
        ("gemini", "gemini/.gemini/settings.json", "mcpServers"),
        ("qwen", "qwen/settings.json", "mcpServers"),
        ("copilot", "copilot/mcp-config.json", "mcpServers"),
        ("codex", "codex/config.toml", "mcp_servers"),
    ],
)
def test_a_server_is_attached_in_the_settings_and_what_was_there_stays(
    paths: Paths, name: str, path: str, table: str
) -> None:
    plain, template = templates.get(paths, name), templates.get(paths, name).attached()
    read = json.loads if path.endswith(".json") else tomllib.loads
    settings = read(template.files[path])
    (server,) = settings[table].values()
    assert "{mcp}" in server.values()
    if path in plain.files:
        before = read(plain.files[path])
        assert before.items() <= settings.items()
    assert template.command == [*plain.command, *(plain.mcp.arguments if plain.mcp else ())]


def test_claudes_server_is_in_its_arguments_and_the_address_is_not(paths: Paths, search: str) -> None:
    for backend in ("subprocess", "docker"):
        asked = spec(template="claude", backend=backend, image="x" if backend == "docker" else None)
        command = templates.expand(asked, paths, search).command
        (said,) = [part for part in command if part.startswith("--mcp-config=")]
        server = json.loads(said.removeprefix("--mcp-config="))["mcpServers"]["agenttop"]
        assert server == {"type": "http", "url": "${AGENTTOP_URL}/mcp", "alwaysLoad": True}
    settings = json.loads(templates.get(paths, "claude").attached().files["claude/settings.json"])
    assert settings["permissions"]["allow"] == ["mcp__agenttop"]
    assert settings["skipDangerousModePermissionPrompt"]


@pytest.mark.parametrize("name", EACH)
def test_who_wants_no_server_gets_none_and_a_template_can_say_so(
    paths: Paths, search: str, name: str
) -> None:
    declare(paths, "quiet", f'extends = "{name}"\n[spec]\nmcp = false\n')
    with_it, without = spec(template=name), spec(template=name, mcp=False)
    plain = templates.get(paths, name)
    for asked in (
        templates.expand(without, paths, search),
        templates.expand(spec(template="quiet"), paths, search),
    ):
        env = templates.environment(asked, paths, url=URL, folder="/f")
        assert f"{URL}/mcp" not in "".join(env.values())
        assert not {*getattr(plain.mcp, "arguments", ())} & {*asked.command}
        templates.prepare(
            asked, paths, url=URL, folder=paths.state / asked.name, cwd="/w", home=str(paths.config.parent)
        )
        written = "".join(p.read_text() for p in (paths.state / asked.name).rglob("*") if p.is_file())
        assert "/mcp" not in written
    env = templates.environment(templates.expand(with_it, paths, search), paths, url=URL, folder="/f")
    folder = paths.state / "with"
    templates.prepare(with_it, paths, url=URL, folder=folder, cwd="/w", home=str(paths.config.parent))
    told = [*env.values(), *(p.read_text() for p in folder.rglob("*") if p.is_file())]
    command = templates.expand(with_it, paths, search).command
    assert plain.mcp is None or any("/mcp" in text for text in [*told, *command])
    assert not any("SECRET" in part for part in command)


def test_opencodes_server_is_in_the_variable_that_has_its_settings(paths: Paths) -> None:
    asked = spec(template="opencode", model="m")
    values = {"url": URL, "key": "k", "folder": "/f", "model": "m", "mcp": f"{URL}/mcp"}
    found = templates.get(paths, "opencode").attached().environment(asked, values)
    settings = json.loads(found["OPENCODE_CONFIG_CONTENT"])
    assert settings["mcp"]["agenttop"]["url"] == f"{URL}/mcp"
    assert settings["model"] == "agenttop/m"


@pytest.mark.parametrize("name", EACH)
def test_without_a_server_nothing_is_said_of_one(paths: Paths, name: str) -> None:
    template = templates.get(paths, name)
    assert "{mcp}" not in json.dumps([template.command, template.env, template.files])


def test_a_servers_secret_is_refused_in_a_command(paths: Paths) -> None:
    declare(paths, "bad", 'extends = "claude"\n[mcp]\narguments = ["--mcp-config={mcp}"]\n')
    with pytest.raises(ConfigError, match="cannot stand in a command"):
        templates.get(paths, "bad")


# -- what is offered


def test_the_launch_is_told_what_each_form_takes(paths: Paths, search: str) -> None:
    found = {info.name: info for info in template_offers.offered(paths, search)}
    claude, aider, custom = found["claude"], found["aider"], found["custom"]
    assert (claude.interactive, claude.needs_prompt, claude.prompt_in_terminal, claude.resumes) == (
        (True,) * 4
    )
    assert (claude.permissions, claude.permissions_in_terminal) == (["ask", "auto"], ["ask", "auto"])
    assert (aider.permissions, aider.permissions_in_terminal) == (["auto"], ["ask", "auto"])
    assert (aider.interactive, aider.prompt_in_terminal) == (True, False)
    assert (custom.interactive, custom.needs_prompt, custom.permissions) == (True, False, [])
    assert (found["qwen"].node, claude.node, claude.origin) == ("v24.0.0", "", "built-in")
