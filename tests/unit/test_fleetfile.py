from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.errors import ConfigError
from agenttop.core.fleetfile import load


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    return tmp_path / "fleet.toml"


def specs(path: Path, text: str) -> dict[str, AgentSpec]:
    path.write_text(text)
    return {spec.name: spec for spec in load(path).specs}


API = "[agents.api]\ncommand='x'\n"


def refusal(path: Path, text: str) -> ConfigError:
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value


def test_a_fleet_is_read_with_its_shorthands_written_out(fleet: Path) -> None:
    found = specs(
        fleet,
        """
[defaults]
labels = { team = "a", tier = "x" }
restart = "on-failure"
nice = 3

[agents.lead]
template = "claude"
prompt = "plan"

[agents.api]
command = "python 'my file.py' --fast"
parent = "lead"
labels = { tier = "y" }
restart = { max_restarts = 2 }
limits = { memory = "512M" }
count = 3

[agents.web]
command = ["python", "x.py"]
restart = "always"
nice = -1
""",
    )
    assert list(found) == ["lead", "api-1", "api-2", "api-3", "web"]
    api = found["api-2"]
    assert api.command == ["python", "my file.py", "--fast"]
    assert (api.parent, api.labels) == ("lead", {"team": "a", "tier": "y"})
    assert (api.restart.policy, api.restart.max_restarts) == ("on-failure", 2)
    assert api.limits.memory == 512 << 20
    assert (found["web"].restart.policy, found["web"].nice) == ("always", -1)
    assert found["lead"].template == "claude"


def test_the_fleet_is_named_by_its_absolute_path(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.write_text("[agents.a]\ncommand = 'true'\n")
    monkeypatch.chdir(fleet.parent)
    assert load(Path("fleet.toml")).path == fleet


def test_folders_count_from_the_file_wherever_one_stands(
    fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/home/somebody")
    found = specs(
        fleet,
        """
[agents]
here = { command = "x" }
below = { command = "x", cwd = "sub/../sub" }
home = { command = "x", cwd = "~/work" }
root = { command = "x", cwd = "/srv" }
box = { command = "x", backend = "docker", cwd = "/work", mounts = [{ source = "src", target = "/src" }] }
bare = { command = "x", backend = "docker" }
""",
    )
    folder = str(fleet.parent.resolve())
    assert [found[name].cwd for name in ("here", "below", "home", "root", "box", "bare")] == [
        folder, f"{folder}/sub", "/home/somebody/work", "/srv", "/work", None,
    ]  # fmt: skip
    assert found["box"].mounts[0].source == f"{folder}/src"


def test_parents_come_before_children_and_the_rest_stays_in_order(fleet: Path) -> None:
    text = "".join(
        f"[agents.{name}]\ncommand = 'x'\n" + (f"parent = '{parent}'\n" if parent else "")
        for name, parent in [("d", "c"), ("a", ""), ("c", "b"), ("e", ""), ("b", "")]
    )
    assert list(specs(fleet, text)) == ["b", "c", "d", "a", "e"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (API + "nice='high'\n", "line 3: agents.api.nice: Input should be a valid int"),
        (API + "nice=20\n", "line 3: agents.api.nice: Input should be less"),
        ("[defaults]\nnice='x'\n" + API, "line 2: defaults.nice: Input should be a valid int"),
        ("[agents.api]\ncomand='x'\n", "line 2: agents.api.comand: there is no such key; did you"),
        ("[agents.api]\nname='x'\n", "line 2: agents.api.name: there is no such key"),
        ("[defaults]\nname='x'\n[agents.a]\n", "line 2: defaults.name: there is no such key"),
        ("[agent.api]\n", "line 1: agent: there is no such key; did you mean agents?"),
        ("agents=5", "line 1: agents: this is a table"),
        ("[agents]\napi='x'\n", "line 2: agents.api: this is a table"),
        ("[agents.api]\ncommand=\"it's\"\n", "line 2: agents.api.command: No closing quotation"),
        ("[agents.api]\ncommand=['a', 5]\n", "line 2: agents.api.command[1]: Input should be a"),
        (API + "limits={ memory='big' }\n", "line 3: agents.api.limits.memory: 'big' is"),
        (API + "limits.mem=1\n", "line 3: agents.api.limits.mem: there is no such key"),
        (API + "restart='maybe'\n", "line 3: agents.api.restart.policy: Input should be"),
        (API + "count=0\n", "line 3: agents.api.count: a count is a number from 1"),
        (API + "count=true\n", "line 3: agents.api.count: a count is a number from 1"),
        (API + "parent='boss'\n", "line 3: agents.api.parent: 'boss': there is no such"),
        ("[agents.a]\nparent='b'\n[agents.b]\ncount=2\n", "line 2: agents.a.parent: 'b': it is one of 2"),
        ("[agents.a]\nparent='a'\n", "line 2: agents.a.parent: parents go round in a circle: a → a"),
        (
            "[agents.a]\nparent='b'\n[agents.b]\nparent='c'\n[agents.c]\nparent='b'\n",
            "line 4: agents.b.parent: parents go round in a circle: b → c → b",
        ),
        ("[agents.a-1]\n[agents.a]\ncount=1\n", "line 2: agents.a: the name a-1 is also made by agents.a-1"),
        ("[agents.'a b']\ncommand='x'\n", 'line 1: agents."a b".name: a name has letters'),
        ("[agents.\"a\\nb\"]\ncommand='x'\n", 'line 1: agents."a\\nb".name: a name has letters'),
        (API + "labels={ 'a b'='c' }\n", "line 3: agents.api.labels"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_file_line_and_field(fleet: Path, text: str, expected: str) -> None:
    assert refusal(fleet, text).what.startswith(f"{fleet} {expected}")


def test_a_name_that_only_the_last_of_many_makes_too_long_is_refused(fleet: Path) -> None:
    name = "a" * 61
    assert len(specs(fleet, f"[agents.{name}]\ncommand='x'\ncount = 9\n")) == 9
    assert "a name has letters" in refusal(fleet, f"[agents.{name}]\ncommand='x'\ncount = 10\n").what


def test_a_file_that_is_not_there_or_declares_nothing_says_so(fleet: Path) -> None:
    with pytest.raises(ConfigError, match="there is no fleet file"):
        load(fleet)
    assert "declares no agents" in refusal(fleet, "[defaults]\nnice = 1\n").what


NAMES = st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=4), min_size=1, max_size=8, unique=True)


@given(NAMES, st.data())
def test_any_forest_of_parents_is_ordered_and_complete(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "forest.toml"
    parents = {
        name: data.draw(st.none() | st.sampled_from(names[:index])) if index else None
        for index, name in enumerate(names)
    }
    written = data.draw(st.permutations(names))
    lines = []
    for name in written:
        lines.append(f"[agents.{name}]\ncommand = 'x'")
        if (parent := parents[name]) is not None:
            lines.append(f"parent = '{parent}'")
    path.write_text("\n".join(lines))
    found = [spec.name for spec in load(path).specs]
    assert sorted(found) == sorted(names)
    for name, parent in parents.items():
        assert parent is None or found.index(parent) < found.index(name)
