from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from agenttop.core.agents.spec import AgentSpec, Restart
from agenttop.core.config import Config, load
from agenttop.core.errors import ConfigError
from agenttop.core.gateway.providers import CallLimits
from agenttop.core.paths import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(config=tmp_path, state=tmp_path / "state")


def refusal(paths: Paths, text: str) -> ConfigError:
    paths.config_file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(paths)
    return caught.value


def test_no_file_is_all_defaults(paths: Paths) -> None:
    config = load(paths)
    assert config == Config()
    assert config.gateway.max_body == 32 << 20
    assert config.gateway.port is None
    assert config.defaults.backend == "subprocess"
    assert config.screen.mouse is False
    assert config.screen.window == "today"


def test_an_empty_file_is_all_defaults(paths: Paths) -> None:
    paths.config_file.write_text("")
    assert load(paths).model_dump() == Config().model_dump()


def test_three_providers_exist_without_being_declared(paths: Paths) -> None:
    found = {
        name: (provider.protocol, provider.base_url, provider.key_env, provider.auth)
        for name, provider in load(paths).providers.items()
    }
    assert found == {
        "anthropic": ("anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY", "inject"),
        "openai": ("openai", "https://api.openai.com", "OPENAI_API_KEY", "inject"),
        "gemini": ("gemini", "https://generativelanguage.googleapis.com", "GEMINI_API_KEY", "inject"),
    }


def test_everything_can_be_written(paths: Paths) -> None:
    paths.config_file.write_text(
        """
[providers.vllm]
protocol = "openai"
base_url = "http://127.0.0.1:8000"
key_env = "VLLM_KEY"

[providers.anthropic]
base_url = "http://127.0.0.1:9999"
auth = "passthrough"

[backends.docker]
host = "unix:///run/docker.sock"

[gateway]
port = 7171
max_body = "8M"

[kernel]
linger = "1m"
log_size = "1M"
log_count = 2
log_level = "debug"

[output]
bytes = "1G"
age = "2d"

[defaults]
backend = "docker"
restart = "on-failure"
stop_grace = "5s"
nice = 5

[keys]
"agent.kill" = ["f9", "ctrl+k"]
"agent.pause" = "p"

[screen]
theme = "dusk"
ascii = true
mouse = true
window = "hour"
refresh = "500ms"
"""
    )
    config = load(paths)
    assert config.providers["vllm"].key_env == "VLLM_KEY"
    assert config.providers["vllm"].name == "vllm"
    assert config.providers["anthropic"].base_url == "http://127.0.0.1:9999"
    assert config.providers["anthropic"].protocol == "anthropic"
    assert set(config.providers) == {"anthropic", "openai", "gemini", "vllm"}
    assert config.backends == {"docker": {"host": "unix:///run/docker.sock"}}
    assert (config.gateway.port, config.gateway.max_body) == (7171, 8 << 20)
    assert (config.kernel.linger, config.kernel.log_size, config.kernel.log_level) == (60.0, 1 << 20, "debug")
    assert (config.output.bytes, config.output.age) == (1 << 30, 2 * 86400.0)
    assert config.defaults.restart.policy == "on-failure"
    assert (config.defaults.stop_grace, config.defaults.nice) == (5.0, 5)
    assert config.keys == {"agent.kill": ["f9", "ctrl+k"], "agent.pause": ["p"]}
    assert (config.screen.theme, config.screen.window, config.screen.refresh) == ("dusk", "hour", 0.5)


def test_limits_fallbacks_prices_and_runaways_can_be_written(paths: Paths) -> None:
    paths.config_file.write_text(
        """
[providers.anthropic]
limits = { concurrency = 8, requests = 60, tokens = 400_000 }
fallback = "proxy"

[providers.anthropic.models."claude-opus-*"]
requests = 10

[providers.proxy]
protocol = "anthropic"
base_url = "http://127.0.0.1:4000"
key_env = "PROXY_KEY"

[models."claude-*"]
input = 3.00
output = 15
cache_read = 0.3
context = 1_000_000

[models."vllm/*"]
context = 32_768
max_output = 4096

[runaway]
enabled = false
window = "5m"
"""
    )
    config = load(paths)
    anthropic = config.providers["anthropic"]
    assert anthropic.limits == CallLimits(concurrency=8, requests=60, tokens=400_000)
    assert anthropic.models == {"claude-opus-*": CallLimits(requests=10)}
    assert anthropic.fallback == "proxy"
    assert anthropic.key_env == "ANTHROPIC_API_KEY"
    assert config.models["claude-*"].input == Decimal("3.0")
    assert config.models["vllm/*"].max_output == 4096
    assert (config.runaway.enabled, config.runaway.window, config.runaway.identical) == (False, 300.0, 60)


def test_a_fallback_is_never_sent_other_credentials(paths: Paths) -> None:
    error = refusal(
        paths,
        "[providers.a]\nprotocol = 'openai'\nbase_url = 'http://h'\nauth = 'passthrough'\n"
        "[providers.openai]\nauth = 'passthrough'\nfallback = 'a'\n",
    )
    assert "line 7: providers.openai.fallback: a has auth = 'passthrough'" in error.what


@pytest.mark.parametrize(
    ("text", "line", "field", "message"),
    [
        ("[gateway]\n\nport = 'x'\n", 3, "gateway.port", "Input should be a valid integer"),
        ("[gateway]\nport = 80\n", 2, "gateway.port", "greater than or equal to 1024"),
        ("gateway.max_body = '12 apples'\n", 1, "gateway.max_body", "'12 apples' is not a size such as 512M"),
        ("[kernel]\nlingr = 5\n", 2, "kernel.lingr", "there is no such key; did you mean linger?"),
        ("# x\n[gatway]\nport = 1\n", 2, "gatway", "did you mean gateway?"),
        ("[screen]\nzzz = 1\n", 2, "screen.zzz", "known are theme, ascii, mouse, window, refresh"),
        (
            "[defaults]\nrestart = 'sometimes'\n",
            2,
            "defaults.restart.policy",
            "'never', 'on-failure' or 'always'",
        ),
        ("[defaults]\nrestart = { polcy = 'never' }\n", 2, "defaults.restart.polcy", "did you mean policy?"),
        ("[keys]\na = ['x', 5]\n", 2, "keys.a[1]", "valid string"),
        ("[screen]\nwindow = 'year'\n", 2, "screen.window", "'run', 'hour', 'today' or 'total'"),
        (
            "[providers.x]\nbase_url = 'http://h'\nkey_env = 'K'\n",
            1,
            "providers.x.protocol",
            "this is required",
        ),
        (
            "[providers.anthropic]\nbase_ur = 'x'\n",
            2,
            "providers.anthropic.base_ur",
            "did you mean base_url?",
        ),
        ("[providers.anthropic]\nname = 'x'\n", 2, "providers.anthropic.name", "no such key"),
        ("[providers.anthropic]\nbase_url = 'ftp://x'\n", 2, "providers.anthropic.base_url", "http://HOST"),
        (
            "[providers.anthropic]\nlimits = { requests = 0 }\n",
            2,
            "providers.anthropic.limits.requests",
            "greater than 0",
        ),
        (
            "[providers.anthropic]\n[providers.anthropic.models.'claude-*']\nconcurency = 1\n",
            3,
            'providers.anthropic.models."claude-*".concurency',
            "did you mean concurrency?",
        ),
        (
            "[providers.anthropic]\nfallback = 'x'\n",
            2,
            "providers.anthropic.fallback",
            "there is no provider x",
        ),
        (
            "[providers.anthropic]\nfallback = 'openai'\n",
            2,
            "providers.anthropic.fallback",
            "openai speaks openai",
        ),
        (
            "[providers.openai]\nfallback = 'openai'\n",
            2,
            "providers.openai.fallback",
            "its own fallback",
        ),
        ("[models.'gpt-*']\ninput = 1\n", 1, 'models."gpt-*"', "a price has input and output at least"),
        ("[models.x]\ncontext = 0\n", 2, "models.x.context", "greater than or equal to 1"),
        ("[runaway]\nidentical = 1\n", 2, "runaway.identical", "greater than or equal to 2"),
        ("[providers]\nanthropic = 5\n", 2, "providers.anthropic", "this is a table"),
        ("providers = 5\n", 1, "providers", "valid dictionary"),
        ("[backends]\ndocker = 1\n", 2, "backends.docker", "valid dictionary"),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_field(
    paths: Paths, text: str, line: int, field: str, message: str
) -> None:
    error = refusal(paths, text)
    assert error.what.startswith(f"{paths.config_file} line {line}: {field}: ")
    assert message in error.what


def test_all_that_is_wrong_is_said_at_once(paths: Paths) -> None:
    error = refusal(paths, "[gateway]\nport = 'x'\n[screen]\nmouse = 'x'\n")
    assert "line 2: gateway.port" in error.what
    assert "line 4: screen.mouse" in error.why


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\nb = \n", 2), ("a = 1\n\n[x\n", 3), ("x = [1,\n2", 2), ("a = 1\na = 2\n", 2)],
)
def test_a_syntax_error_names_its_line(paths: Paths, text: str, line: int) -> None:
    assert refusal(paths, text).what.startswith(f"{paths.config_file} line {line}: ")


def test_text_that_is_not_utf8_names_its_line(paths: Paths) -> None:
    paths.config_file.write_bytes(b"# fine\n# \xff\n")
    with pytest.raises(ConfigError, match=r"line 2: this is not UTF-8"):
        load(paths)


def test_a_file_that_cannot_be_read_says_why(paths: Paths) -> None:
    paths.config_file.mkdir()
    with pytest.raises(ConfigError, match=r"cannot read .* Is a directory"):
        load(paths)


def test_a_key_file_that_others_can_read_is_refused_at_its_line(paths: Paths) -> None:
    key = paths.config / "key"
    key.write_text("secret-value")
    key.chmod(0o640)
    error = refusal(paths, "[providers.anthropic]\nkey_file = 'key'\n")
    assert f"line 2: providers.anthropic.key_file: {key} can be read by others (mode 0640)" in error.what
    assert error.hint == f"chmod 600 {key}"
    assert "secret-value" not in str(error)
    key.chmod(0o600)
    provider = load(paths).providers["anthropic"]
    assert (provider.key_file, provider.key_env) == (key, None)


def test_a_key_file_that_is_not_there_yet_is_no_error(paths: Paths) -> None:
    paths.config_file.write_text("[providers.anthropic]\nkey_file = '~/nowhere/key'\n")
    assert load(paths).providers["anthropic"].key_file == Path("~/nowhere/key").expanduser()


def test_a_value_only_its_user_can_judge_can_still_be_named_by_line(paths: Paths) -> None:
    paths.config_file.write_text("[keys]\n'agent.fly' = 'f'\n")
    error = load(paths).wrong("keys", "agent.fly", message="there is no such action")
    assert error.what == f'{paths.config_file} line 2: keys."agent.fly": there is no such action'


def test_defaults_fill_only_what_a_spec_leaves_open(paths: Paths) -> None:
    paths.config_file.write_text(
        "[defaults]\nnice = 5\nrestart = { policy = 'always', max_restarts = 9 }\n[output]\nbytes = '1M'\n"
    )
    config = load(paths)
    given = AgentSpec(name="a", command=["x"], restart=Restart(max_restarts=2))
    found = config.complete(given)
    assert (found.nice, found.restart.policy, found.restart.max_restarts) == (5, "always", 2)
    assert (found.output.bytes, found.output.age) == (1 << 20, given.output.age)
    assert config.complete(AgentSpec(name="a", nice=-3)).nice == -3
    assert Config().complete(given) == given


def test_idle_agents_are_frozen_after_what_the_file_says_unless_a_spec_says_otherwise(paths: Paths) -> None:
    paths.config_file.write_text("[idle]\nfreeze_after = '30m'\n")
    config = load(paths)
    plain = AgentSpec(name="a", command=["x"])
    assert config.complete(plain).idle.freeze_after == 1800
    for said, seconds in (("never", 0), ("90s", 90), (5, 5)):
        spec = AgentSpec.model_validate({**plain.model_dump(), "idle": {"freeze_after": said}})
        assert config.complete(spec).idle.freeze_after == seconds
    assert Config().complete(plain).idle.freeze_after is None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[idle]\nfreeze_after = 'soon'\n", "line 2: idle.freeze_after: 'soon' is not a duration"),
        ("[idle]\nfreeze_afer = '30m'\n", "line 2: idle.freeze_afer"),
        ("[notify]\nbell = 'loud'\n", "line 2: notify.bell"),
        ("[notify]\n\nbells = true\n", "line 3: notify.bells"),
    ],
)
def test_a_wrong_value_of_life_names_its_line_and_field(paths: Paths, text: str, place: str) -> None:
    assert place in refusal(paths, text).what
