"""Launch: an agent from a template or a command of one's own, and the command line that does the same."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import ValidationError
from rich.cells import cell_len
from textual.binding import Binding, BindingType

from agenttop.core.agents.spec import AgentSpec
from agenttop.core.api import RunRequest, TemplateInfo
from agenttop.core.errors import AgentTopError, UsageError

from ..attaching import TERMINAL
from ..format import clean
from ..widgets.dialog import Chip
from ..widgets.fields import Choose, Field, Option, Text
from ..widgets.form_dialog import FormDialog
from ..widgets.paper import Row, rule, wrapped

#: The template that is none: a command of one's own.
CUSTOM = "custom"
BREACHES = ("ask", "deny", "freeze", "kill")
#: Which template is chosen first where several are ready; the others follow by name.
PREFERRED = ("claude", "codex", "gemini", "opencode", "qwen", "copilot")
BACKENDS = ("subprocess", TERMINAL, "docker")
NETWORKS = ("gateway", "open", "none")


def request(
    values: Mapping[str, str], environ: Mapping[str, str], taken: Iterable[str], *, elsewhere: bool = False
) -> RunRequest:
    """What the form asks for; ``elsewhere``: of a kernel on another machine.

    Raises:
        UsageError: A value cannot be; the message names the field.
    """
    template = values.get("template", "")
    custom = template in ("", CUSTOM)
    name = values.get("name", "").strip()
    docker = values.get("backend") == "docker"
    try:
        command = shlex.split(values.get("command", "")) if custom else []
    except ValueError as error:
        raise UsageError("Command cannot be read", str(error), "Close the quotes") from error
    if custom and not command:
        raise UsageError("Command is empty", "There is nothing to start", "Type a program and its arguments")
    fields: dict[str, object] = {
        "name": name or free_name(proposal(template, command), taken),
        "template": None if custom else template,
        "backend": values.get("backend") or "subprocess",
        "command": command,
        "cwd": _folder(values.get("cwd", "").strip(), elsewhere),
        "worktree": values.get("worktree") == "yes",
        "prompt": None if custom else values.get("task", "").strip() or None,
        "model": None if custom else values.get("model", "").strip() or None,
        "parent": values.get("parent", "").strip() or None,
        "nice": _number(values.get("nice", "0")),
        "budget": _budget(values) or None,
    }
    if docker:
        fields |= {
            "image": values.get("image", "").strip() or None,
            "network": values.get("network") or "gateway",
        }
    try:
        spec = AgentSpec.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the form"
        raise UsageError(
            f"{where.capitalize()} cannot be used", first["msg"].removeprefix("Value error, ")
        ) from error
    return RunRequest(spec=spec, name_given=bool(name), environ=dict(environ))


def _budget(values: Mapping[str, str]) -> str:
    """As ``--budget`` takes it: ``$5/day deny``; nothing where none was typed."""
    text, breach = values.get("budget", "").strip(), values.get("breach", BREACHES[0])
    return f"{text} {breach}" if text and breach != BREACHES[0] else text


def _folder(text: str, elsewhere: bool) -> str | None:
    """Where it works; on another machine ``~`` is not our home, and is found there."""
    if not text:
        return None
    return text if elsewhere else str(Path(text).expanduser())


def _number(text: str) -> int:
    try:
        return int(text.strip() or "0")
    except ValueError as error:
        raise UsageError(
            "Nice cannot be used", f"{text!r} is not a number", "-20 is first, 19 is last"
        ) from error


def proposal(template: str, command: Sequence[str]) -> str:
    """A name for an agent that was given none."""
    if template and template != CUSTOM:
        return template
    program = Path(command[0]).name if command else "agent"
    kept = "".join(char for char in program if char.isalnum() or char in "_.-").strip("_.-")
    return kept[:40] or "agent"


def free_name(name: str, taken: Iterable[str]) -> str:
    """``claude``, or with the first number that nobody has: ``claude-2``."""
    there = set(taken)
    number = 2
    found = name
    while found in there:
        found, number = f"{name}-{number}", number + 1
    return found


def command_line(values: Mapping[str, str]) -> list[str]:
    """The equal command, as shell words that are quoted already."""
    template = values.get("template", "")
    custom = template in ("", CUSTOM)
    words = ["agenttop", "run"]

    def option(name: str, value: str | None, default: str = "") -> None:
        if value and value.strip() and value.strip() != default:
            words.append(f"--{name} {_quoted(value.strip())}")

    if not custom:
        option("template", template)
    option("name", values.get("name"))
    option("cwd", values.get("cwd"))
    if values.get("worktree") == "yes":
        words.append("--worktree")
    if not custom:
        option("model", values.get("model"))
    if values.get("backend") == TERMINAL:
        words.append("-t")
    else:
        option("backend", values.get("backend"), "subprocess")
    if values.get("backend") == "docker":
        option("image", values.get("image"))
        option("network", values.get("network"), "gateway")
    option("budget", _budget(values))
    option("nice", values.get("nice"), "0")
    option("parent", values.get("parent"))
    if custom:
        try:
            command = shlex.join(shlex.split(values.get("command", "")))
        except ValueError:
            command = values.get("command", "")
        words.append(f"-- {command}")
    else:
        option("prompt", values.get("task"))
    return words


def _quoted(value: str) -> str:
    """As the shell wants it; a leading ``~/`` stays outside, or it would not be expanded."""
    if value == "~" or (value.startswith("~/") and "\n" not in value):
        return "~/" + (shlex.quote(value[2:]) if value[2:] else "") if value != "~" else "~"
    return shlex.quote(value)


def broken(words: Sequence[str], width: int) -> list[str]:
    """The words in lines of at most ``width`` cells, broken between words where that is possible."""
    lines = [""]
    for word in words:
        line = f"{lines[-1]} {word}" if lines[-1].strip() else lines[-1] + word
        if cell_len(line) > width - 2 and lines[-1].strip():
            lines[-1] += " \\"
            lines.append("  " + word)
        else:
            lines[-1] = line
    return lines


class LaunchScreen(FormDialog[str]):
    """The form; it stays as it is when the kernel refuses. Closes with the id of the new agent."""

    WIDTH = 100
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "start", show=False, priority=True),
        Binding("ctrl+s", "start_and_attach", show=False, priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.templates: list[TemplateInfo] = []
        self.host = ""
        """On which of several hosts: that of the cursor's row when the dialog opened."""
        here = _at_home(str(Path.cwd()))
        self.inputs: dict[str, Field] = {
            "template": Choose("template", "Template", [Option(CUSTOM)], CUSTOM, chips=True),
            "task": Text("task", "Task", cells=56, tall=2, note="what it is told first"),
            "command": Text("command", "Command", cells=56, tall=2, note="program and arguments"),
            "name": Text("name", "Name", cells=22),
            "cwd": Text("cwd", "Folder", here, cells=34, note="where it works"),
            "worktree": Choose("worktree", "Worktree", [Option("no"), Option("yes")], "no",
                               note="yes: a git branch and folder of its own"),
            "model": Text("model", "Model", cells=34),
            "backend": Choose("backend", "Backend", value="subprocess"),
            "image": Text("image", "Image", cells=34, note="a local image; nothing is pulled"),
            "budget": Text("budget", "Budget", cells=22, note="$5/day, 2M tokens/hour; empty: none"),
            "breach": Choose("breach", "On breach", [Option(name) for name in BREACHES], "ask"),
            "nice": Text("nice", "Nice", "0", cells=10, note="-20 first … 19 last"),
            "parent": Text("parent", "Parent", cells=22),
            "network": Choose("network", "Network", [Option(name) for name in NETWORKS], "gateway"),
        }  # fmt: skip

    @property
    def values(self) -> dict[str, str]:
        """What was typed and chosen."""
        return {name: found.value for name, found in self.inputs.items()}

    def on_mount(self) -> None:
        """Show the form at once, the templates when the kernel has told them."""
        self._choose_host()
        self.head(f"New agent on {clean(self.host)}" if self.host else "New agent", "n")
        self._lay_out()
        self.form.focus()
        self.run_worker(self._ask())

    def _choose_host(self) -> None:
        """The host of the cursor's row, else the first one; its folders are not this machine's."""
        model = self.shell.model
        hosts = model.header.hosts if model.header is not None else ()
        if not hosts:
            return
        self.host = model.current.host if model.current is not None else hosts[0].name
        folder = self.inputs["cwd"]
        if self.host != "local" and isinstance(folder, Text):
            folder.value, folder.at = "~", 1

    async def _ask(self) -> None:
        try:
            self.templates = await self.client.templates()
        except AgentTopError as error:
            self.error = str(error)
        template = self.inputs["template"]
        assert isinstance(template, Choose)
        offered = [Option(t.name, why="" if t.ready else t.hint or "not found") for t in self.templates]
        template.options = [*(option for option in offered if option.value != CUSTOM), Option(CUSTOM)]
        ready = sorted((t.name for t in self.templates if t.ready and t.name != CUSTOM), key=_preference)
        if ready and not self.values["command"]:
            template.value = ready[0]
        self._changed()

    # --- what is shown ------------------------------------------------------------------------

    @property
    def chosen(self) -> TemplateInfo | None:
        """The chosen template, unless it is a command of one's own."""
        name = self.values["template"]
        return next((t for t in self.templates if t.name == name != CUSTOM), None)

    def _lay_out(self) -> None:
        """Which fields there are depends on template and backend; how close they stand, on the height."""
        self._notes()
        custom = self.chosen is None
        docker = self.values["backend"] == "docker"
        self.inputs["worktree"].off = docker
        if docker:
            self.inputs["worktree"].value = "no"
        roomy = self.size.height >= 32
        names = ["template", "", "command" if custom else "task", "", "name", "cwd"]
        names += [] if custom else ["model"]
        names += [
            "backend",
            *(["image"] if docker else ["worktree"]),
            "",
            "budget",
            "breach",
            "nice",
            "parent",
            "network",
        ]
        fields = [self.inputs[name] if name else None for name in names if name or roomy]
        self.form.set(fields, self._tail(roomy))
        self.fit()

    def _notes(self) -> None:
        chosen, values = self.chosen, self.values
        there = [row.name for row in self.shell.model.rows.values()]
        name = values["name"].strip()
        free = free_name(proposal(values["template"], values["command"].split()), there)
        said = "taken" if name in there else "free" if name else f"left empty: {free}"
        self._note("name", said)
        self._note(
            "model", f"left empty: {chosen.model}" if chosen and chosen.model else "left empty: its own"
        )
        self._note("parent", ", ".join(sorted(there)[:5]) + (" …" if len(there) > 5 else ""))
        missing = [f"{t.name}: {t.hint or 'not found'}" for t in self.templates if not t.ready]
        if len(missing) > 2:
            missing = [f"{len(missing)} others cannot start here: `agenttop templates` says why"]
        notes = [f"{chosen.title} {chosen.found}".strip() if chosen else "a program of your own", *missing]
        template = self.inputs["template"]
        assert isinstance(template, Choose)
        template.below = "; ".join(notes) if self.size.height > 24 else ""
        backend = self.inputs["backend"]
        assert isinstance(backend, Choose)
        offered = chosen.backends if chosen and chosen.backends else list(BACKENDS)
        if chosen and not chosen.interactive:
            offered = [name for name in offered if name != TERMINAL]
        backend.options = [
            Option(name, why="" if name in offered else "not with this template") for name in BACKENDS
        ]
        if backend.value not in offered:
            backend.value = offered[0]
        self._note("backend", "you talk to it there" if backend.value == TERMINAL else "")
        in_terminal = backend.value == TERMINAL
        self.inputs["breach"].off = not values["budget"].strip()
        self._note("breach", "" if values["budget"].strip() else "with a budget: not used here")
        self._note("task", "may be empty: you tell it" if in_terminal else "what it is told first")
        docker = backend.value == "docker"
        self.inputs["network"].off = not docker
        self._note("network", "" if docker else "docker only: not used here")

    def _note(self, name: str, text: str) -> None:
        self.inputs[name].note = text

    def _tail(self, roomy: bool) -> list[Row]:
        width = self.inner_width
        blank: list[Row] = [[]] if roomy else []
        command = [
            [(f" {line}", "fg")] for line in broken([clean(w) for w in command_line(self.values)], width - 2)
        ]
        rows: list[Row] = [*blank, rule("The same on the command line", width), *command, *blank]
        if self.error:
            return [*rows, *wrapped(self.error, width - 2, "bad bold", 1)]
        if self.busy:
            return [*rows, [(" Starting", "warn bold")]]
        chosen = self.chosen
        if chosen and chosen.needs_prompt and not (self.in_terminal or self.values["task"].strip()):
            hint = "   or ^S, and you tell it in its terminal" if self.can_attach else ""
            return [*rows, [(" It needs a task", "warn bold"), (hint, "muted")]]
        return [*rows, [(" Will start now", "good"), ("   its key stays in the kernel", "muted")]]

    @property
    def in_terminal(self) -> bool:
        """Whether a person can get in front of what is started."""
        return self.values["backend"] == TERMINAL

    @property
    def can_attach(self) -> bool:
        """Whether it could be started in a terminal."""
        backend = self.inputs["backend"]
        assert isinstance(backend, Choose)
        return any(option.value == TERMINAL and not option.why for option in backend.options)

    def chips(self) -> Sequence[Chip]:
        """Start, or not."""
        return (
            Chip("Enter", "Start", "good bold"),
            Chip("^S", "Start, and attach", off=not self.can_attach),
            Chip("Tab", "Next field"),
            Chip("Esc", "Cancel"),
        )

    # --- keys ---------------------------------------------------------------------------------

    def action_start_and_attach(self) -> None:
        """Start it in a terminal and get in front of it; the detach key leads back to the fleet."""
        if self.can_attach and not self.busy:
            self.inputs["backend"].value = TERMINAL
            self._lay_out()
            self.action_start(attach=True)

    def action_start(self, attach: bool = False) -> None:
        """Start it; what is wrong is said here, and nothing typed is lost."""
        if self.busy:
            return
        try:
            names = [row.name for row in self.shell.model.rows.values()]
            asked = request(self.values, os.environ, names, elsewhere=self.host not in ("", "local"))
        except AgentTopError as error:
            self._refused(error)
            return
        self.busy, self.error = True, ""
        self._lay_out()
        self.run_worker(self._start(asked, attach))

    async def _start(self, asked: RunRequest, attach: bool) -> None:
        try:
            info = await self.client.run(asked.model_copy(update={"host": self.host}))
        except AgentTopError as error:
            self._refused(error)
            return
        shell = self.shell
        said = f"run {info.run or 1}, {info.backend}"
        if self.in_terminal and not attach:
            said += f"; {shell.attaching.key} attaches"
        if not attach:
            shell.toast(f"{info.name} started", said, "good")
        for note in info.notes:
            shell.toast(clean(info.name), clean(note), "warn")
        self.dismiss(info.id)
        if self.in_terminal:
            shell.await_row(info.id)
        if attach:
            shell.attaching.enter(info.id)

    def _refused(self, error: AgentTopError) -> None:
        self.busy, self.error = False, str(error)
        self._lay_out()
        self.form.action_scroll_to_row(len(self.form.rows))


def _preference(name: str) -> tuple[int, str]:
    return (PREFERRED.index(name) if name in PREFERRED else len(PREFERRED), name)


def _at_home(path: str) -> str:
    home = str(Path.home())
    return "~" + path[len(home) :] if path == home or path.startswith(home + "/") else path
