"""Templates that extend others, those of installed packages, and the TOML they are shown as."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core import tomltext
from agenttop.core.agents import template_files, template_offers, templates
from agenttop.core.agents.spec import AgentSpec
from agenttop.core.errors import ConfigError
from agenttop.core.paths import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(config=tmp_path / "config", state=tmp_path / "state")


def declare(paths: Paths, name: str, text: str) -> Path:
    paths.templates.mkdir(parents=True, exist_ok=True)
    file = paths.templates / f"{name}.toml"
    file.write_text(text)
    return file


# -- extends


def test_a_template_takes_from_another_all_that_it_does_not_say_itself(paths: Paths) -> None:
    declare(
        paths,
        "reviewer",
        'extends = "claude"\ntitle = "Reviewer"\nmodel = "opus"\n[env]\nMINE = "1"\n[spec]\nnice = 5\n',
    )
    found, claude = templates.get(paths, "reviewer"), templates.get(paths, "claude")
    assert (found.name, found.title, found.model) == ("reviewer", "Reviewer", "opus")
    assert found.env == {**claude.env, "MINE": "1"}
    assert (found.command, found.files, found.interactive) == (
        claude.command,
        claude.files,
        claude.interactive,
    )
    assert found.spec == {"nice": 5}


def test_one_that_extends_its_own_name_extends_the_one_it_takes_the_place_of(paths: Paths) -> None:
    declare(paths, "claude", 'extends = "claude"\nmodel = "haiku"\n')
    found = templates.get(paths, "claude")
    assert (found.model, found.title) == ("haiku", "Claude Code")


def test_templates_extend_over_several_steps_and_the_nearest_wins(paths: Paths) -> None:
    declare(paths, "a", 'extends = "b"\n[env]\nX = "a"\n')
    declare(paths, "b", 'extends = "qwen"\nmodel = "m"\n[env]\nX = "b"\nY = "b"\n')
    found = templates.get(paths, "a")
    assert (found.env["X"], found.env["Y"], found.model, found.node) == ("a", "b", "m", 22)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('title = "x"\nextends = "cluade"\n', "line 2: extends: there is no template cluade"),
        ("extends = 1\n", "line 1: extends: this is the name of a template"),
        ('extends = "bad"\n', "line 1: extends: there is no template bad"),
        ('extends = "loop"\n', "extends: templates extend each other in a circle: bad → loop → bad"),
        ('extends = "claude"\nmodle = "x"\n', "line 2: modle: there is no such key; did you mean model?"),
        ('extends = "claude"\n[permissions]\nauto = "x"\n', "line 3: permissions.auto: "),
        ('extends = "custom"\nname = "y"\n', "line 2: name: a template is named by its file"),
        ('extends = "custom"\nprompt = "argument"\n', "prompt = 'argument' needs {prompt}"),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_field(paths: Paths, text: str, expected: str) -> None:
    declare(paths, "loop", 'extends = "bad"\n')
    file = declare(paths, "bad", text)
    with pytest.raises(ConfigError) as caught:
        templates.get(paths, "bad")
    assert expected in caught.value.what
    assert str(file) in caught.value.what or "loop" in caught.value.what


def test_a_fault_of_the_template_that_is_extended_is_told_of_its_own_file(paths: Paths) -> None:
    base = declare(paths, "base", "title = \n")
    declare(paths, "over", 'extends = "base"\n')
    with pytest.raises(ConfigError) as caught:
        templates.get(paths, "over")
    assert str(base) in caught.value.what


# -- packages


def installed(folder: Path, name: str, **files: str) -> EntryPoint:
    """An importable package with these TOML files, and the entry point that offers it."""
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text("")
    for stem, text in files.items():
        (package / f"{stem}.toml").write_text(text)
    return EntryPoint(name=name, value=name, group=template_files.GROUP)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def test_a_package_adds_templates_but_changes_none_of_ours(
    paths: Paths, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = installed(
        packages,
        "agenttop_test_extra",
        amp='title = "Amp"\ncommand = ["amp"]\n',
        claude='title = "Not ours"\n',
    )
    found = template_files.of_packages([point])
    assert {name: one.origin for name, one in found.items()} == {
        "amp": "agenttop_test_extra",
        "claude": "agenttop_test_extra",
    }
    monkeypatch.setattr(template_files, "_of_packages", lambda: found)
    assert templates.get(paths, "amp").title == "Amp"
    assert templates.get(paths, "claude").title == "Claude Code"
    assert template_files.sources(paths)["claude"].origin == "built-in"
    declare(paths, "amp", 'extends = "amp"\nmodel = "m"\n')
    mine = templates.get(paths, "amp")
    assert (mine.title, mine.model, template_files.sources(paths)["amp"].origin) == ("Amp", "m", "yours")


def test_a_package_that_cannot_be_imported_is_named_and_hides_no_other(
    paths: Paths, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (packages / "agenttop_test_broken.py").write_text("raise RuntimeError('no luck')\n")
    broken = EntryPoint(name="broken", value="agenttop_test_broken", group=template_files.GROUP)
    good = installed(packages, "agenttop_test_good", amp='title = "Amp"\n')
    found = template_files.of_packages([broken, good])
    monkeypatch.setattr(template_files, "_of_packages", lambda: found)
    offered = {info.name: info for info in template_offers.offered(paths, "/nowhere")}
    assert (offered["broken"].ready, "no luck" in offered["broken"].hint) == (False, True)
    assert offered["amp"].ready
    assert "broken" not in templates.names(paths)
    with pytest.raises(ConfigError, match="no luck"):
        templates.get(paths, "broken")


# -- shown as TOML


def test_what_is_shown_is_the_template_itself(paths: Paths, tmp_path: Path) -> None:
    """Put where the user's templates lie it means the same, with nothing left to extend."""
    declare(paths, "mine", 'extends = "claude"\n[spec]\nnice = 3\n')
    there = Paths(config=tmp_path / "other", state=tmp_path / "state")
    for info in template_offers.offered(paths, "/nowhere"):
        assert "extends" not in tomllib.loads(info.definition)
        declare(there, info.name, info.definition)
        assert templates.get(there, info.name) == templates.get(paths, info.name)


_KEYS = st.text(st.characters(codec="utf-8"), max_size=8)
_SCALARS = (
    st.text(st.characters(codec="utf-8"), max_size=30)
    | st.text(st.sampled_from('a"\\\n\r\t{}#\x7f'), max_size=12)
    | st.integers(-(2**63), 2**63 - 1)
    | st.booleans()
    | st.floats(allow_nan=False)
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(_KEYS, _VALUES, max_size=5))
def test_what_is_written_is_read_back_as_the_same(data: dict[str, object]) -> None:
    assert tomllib.loads(tomltext.dumps(data)) == data


def test_a_spec_keeps_to_the_template_it_was_made_of(paths: Paths) -> None:
    declare(paths, "fast", 'extends = "custom"\ncommand = ["true"]\n[spec]\nnice = 7\n')
    asked = AgentSpec.model_validate({"name": "a", "template": "fast"})
    assert (templates.expand(asked, paths).command, templates.expand(asked, paths).nice) == (["true"], 7)
