from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.api import TemplateInfo
from agenttop.core.errors import BackendError, UsageError
from agenttop.tui.screens.launch import LaunchScreen, broken, command_line, free_name, request

from .stage import StageClient, shows, stage, text, typed, until

pytestmark = pytest.mark.anyio

ORDINARY = st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126), max_size=40)


@given(ORDINARY, ORDINARY)
def test_the_equal_command_says_the_same_to_a_shell(task: str, model: str) -> None:
    words = command_line(
        {"template": "claude", "task": task, "model": model, "backend": "subprocess", "nice": "0"}
    )
    said = shlex.split(" ".join(words))
    expected = ["agenttop", "run", "--template", "claude"]
    expected += ["--model", model.strip()] if model.strip() else []
    expected += ["--prompt", task.strip()] if task.strip() else []
    assert said == expected


@given(st.lists(ORDINARY.filter(bool), min_size=1, max_size=5))
def test_a_command_of_ones_own_stands_after_two_dashes_word_by_word(command: list[str]) -> None:
    words = command_line({"template": "custom", "command": shlex.join(command)})
    said = shlex.split(" ".join(words))
    assert said[: said.index("--")] == ["agenttop", "run"]
    assert said[said.index("--") + 1 :] == command
    assert request({"template": "custom", "command": shlex.join(command)}, {}, ()).spec.command == command


@given(
    st.lists(ORDINARY.filter(lambda word: " " not in word and word), min_size=1, max_size=12),
    st.integers(20, 80),
)
def test_a_broken_command_is_still_the_same_command(words: list[str], width: int) -> None:
    quoted = [shlex.quote(word) for word in words]
    assert shlex.split("\n".join(broken(quoted, width)).replace("\\\n", "")) == words  # as sh does


def test_home_is_left_to_the_shell() -> None:
    assert "--cwd ~/'my src'" in command_line({"template": "claude", "cwd": "~/my src"})


def test_the_first_free_name_is_taken() -> None:
    assert free_name("claude", ()) == "claude"
    assert free_name("claude", ("claude", "claude-2")) == "claude-3"


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"template": "custom", "command": "  "}, "Command is empty"),
        ({"template": "custom", "command": "echo 'open"}, "Command cannot be read"),
        ({"template": "claude", "name": "two words"}, "Name cannot be used"),
        ({"template": "claude", "nice": "many"}, "Nice cannot be used"),
        ({"template": "claude", "nice": "40"}, "Nice cannot be used"),
        ({"template": "claude", "budget": "much"}, "Budget cannot be used"),
    ],
)
def test_what_cannot_be_names_the_field(values: dict[str, str], what: str) -> None:
    with pytest.raises(UsageError) as caught:
        request(values, {}, ())
    assert caught.value.what == what


@pytest.mark.parametrize(
    ("values", "option", "limit"),
    [
        ({"budget": " $5/day ", "breach": "ask"}, "--budget '$5/day'", ("day", 5, None, "ask")),
        ({"budget": "9k tok", "breach": "deny"}, "--budget '9k tok deny'", ("total", None, 9_000, "deny")),
    ],
)  # fmt: skip
def test_a_budget_is_taken_as_the_command_takes_it(
    values: dict[str, str], option: str, limit: tuple[object, ...]
) -> None:
    values = {"template": "claude", **values}
    made = request(values, {}, ()).spec.budget
    assert made is not None
    assert (made.window, made.usd, made.tokens, made.action) == limit
    assert option in command_line(values)


def test_without_a_budget_a_breach_means_nothing() -> None:
    values = {"template": "claude", "budget": "", "breach": "kill"}
    assert request(values, {}, ()).spec.budget is None
    assert "--budget" not in " ".join(command_line(values))


async def test_a_template_is_started_with_what_was_typed() -> None:
    client = StageClient()
    async with stage(client, press=("n",)) as (app, pilot):
        await shows(pilot, "New agent", "Claude Code 2.1.329", "aider: not found on PATH", "$5/day")
        await pilot.press("tab", *typed("write it's log"), "tab", *typed("changelog"))
        await shows(pilot, "agenttop run --template claude --name changelog")
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, LaunchScreen))
    ((verb, sent),) = client.calls
    assert verb == "run"
    assert (sent.spec.template, sent.spec.name, sent.spec.prompt) == ("claude", "changelog", "write it's log")
    assert sent.name_given
    assert sent.environ


async def test_without_a_name_one_is_proposed_and_said_to_be() -> None:
    client = StageClient()
    async with stage(client, press=("n",)) as (app, pilot):
        await shows(pilot, "left empty: claude")
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, LaunchScreen))
    assert client.calls[0][1].spec.name == "claude"
    assert not client.calls[0][1].name_given


async def test_a_refusal_is_shown_and_nothing_typed_is_lost() -> None:
    client = StageClient()
    client.refusal = BackendError("claude was not started", "no such program", "Install it, or set PATH")
    async with stage(client, press=("n", "tab", *typed("keep me"))) as (app, pilot):
        await pilot.press("enter")
        await shows(pilot, "claude was not started. no such program. Install it, or set PATH.", "keep me")
        client.refusal = None
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, LaunchScreen))
    assert client.calls[0][1].spec.prompt == "keep me"


async def test_templates_that_cannot_start_are_passed_over() -> None:
    async with stage(press=("n",)) as (app, pilot):
        await shows(pilot, "Claude Code")
        screen = app.screen
        assert isinstance(screen, LaunchScreen)
        seen = []
        for _ in range(4):
            seen.append(screen.values["template"])
            await pilot.press("right")
        assert seen == ["claude", "codex", "custom", "claude"]


class Bare(StageClient):
    """A machine on which most CLIs are missing."""

    async def templates(self) -> list[TemplateInfo]:
        lacking = [TemplateInfo(name=f"t{n}", title="T", ready=False, hint=f"install t{n}") for n in range(5)]
        return [*await super().templates(), *lacking]


async def test_many_templates_that_cannot_start_are_told_in_one_line() -> None:
    async with stage(Bare(), press=("n",)) as (_, pilot):
        shown = await shows(pilot, "others cannot start here: `agenttop templates` says why")
        assert "install t0" not in shown


async def test_containers_ask_for_an_image_and_a_network() -> None:
    client = StageClient()
    async with stage(client, press=("n", "left")) as (app, pilot):
        await shows(pilot, "Command")
        await pilot.press("tab", *typed("sleep 5"), "tab", "tab", "tab", "right", "right")
        await shows(pilot, "Image", "--backend docker")
        await pilot.press("tab", *typed("busybox"), "enter")
        await until(pilot, lambda: not isinstance(app.screen, LaunchScreen))
    spec = client.calls[0][1].spec
    assert (spec.backend, spec.image, spec.network, spec.command) == (
        "docker",
        "busybox",
        "gateway",
        ["sleep", "5"],
    )


async def test_pasted_text_loses_its_control_characters() -> None:
    async with stage(press=("n", "tab")) as (app, pilot):
        from textual.events import Paste

        await shows(pilot, "Task")
        app.screen.query_one("#form").post_message(Paste("one\x1b[2J two\nthree"))
        await shows(pilot, "one two")
        screen = app.screen
        assert isinstance(screen, LaunchScreen)
        assert screen.values["task"] == "one two\nthree"


@pytest.mark.parametrize(("size", "theme"), [((80, 24), "mono"), ((40, 10), "ansi")])
async def test_every_field_can_be_reached_on_a_small_terminal(size: tuple[int, int], theme: str) -> None:
    async with stage(size=size, theme=theme, ascii=True, press=("n",)) as (app, pilot):
        await shows(pilot, "Template")
        screen = app.screen
        assert isinstance(screen, LaunchScreen)
        for _ in range(9):
            await pilot.press("tab")
            assert text(app).isascii()
            label = next(found.label for found in screen.inputs.values() if found.id == screen.form.focus_id)
            assert label in text(app)


async def test_the_box_is_as_high_as_its_fields() -> None:
    async with stage(size=(80, 24), press=("n",)) as (_, pilot):
        shown = await shows(pilot, "It needs a task", "Cancel")
        lines = shown.splitlines()
        start = next(n for n, line in enumerate(lines) if "It needs a task" in line)
        chips = next(n for n, line in enumerate(lines) if " Enter  Start" in line)
        assert chips - start <= 2


async def test_no_hint_is_cut_where_the_form_has_its_full_width() -> None:
    async with stage(press=("n",)) as (_, pilot):
        await shows(pilot, "what it is told first", "-20 first … 19 last")
        await pilot.press("left")
        await shows(pilot, "program and arguments")


async def test_the_kernels_own_custom_template_asks_for_a_command() -> None:
    class Bare(StageClient):
        async def templates(self) -> list[TemplateInfo]:
            """As where no agent CLI is installed; the kernel itself names ``custom``."""
            return [
                TemplateInfo(name="claude", title="Claude Code", ready=False, hint="npm install"),
                TemplateInfo(name="custom", title="A program of your own", ready=True),
            ]

    client = Bare()
    async with stage(client, press=("n",)) as (_, pilot):
        await shows(pilot, "program and arguments", "Command")
        await pilot.press("tab", *typed("sleep 99"), "enter")
        await until(pilot, lambda: bool(client.calls))
    ((verb, request),) = client.calls
    assert (verb, request.spec.command) == ("run", ["sleep", "99"])
