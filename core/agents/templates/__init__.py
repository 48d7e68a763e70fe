"""The templates there are, and what they make of a spec.

Our own lie beside this file, the user's in ``templates`` of the
configuration folder; of two with one name the user's is taken.
"""

from __future__ import annotations

import difflib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import anyio

from ...api import TemplateInfo
from ...errors import AgentTopError, BackendError, ConfigError, UsageError
from ...paths import Paths
from ...tomlfile import TomlFile, merged_over
from .. import needs
from ..furnish import furnish
from ..spec import AgentSpec
from ..template import Found, Template, find

__all__ = [
    "PLACEHOLDER_KEY",
    "Found",
    "Template",
    "conversation",
    "environment",
    "expand",
    "find",
    "first_input",
    "get",
    "load",
    "names",
    "offered",
    "prepare",
    "resumed",
    "version",
    "waits",
]

_BUILT_IN = Path(__file__).parent

#: Clients refuse to start without a key; the gateway replaces this one by the provider's.
PLACEHOLDER_KEY = "agenttop"

_VERSION_SECONDS = 10.0


def names(paths: Paths) -> dict[str, Path]:
    """All templates: name → file, in the order of their names."""
    found = {file.stem: file for folder in (_BUILT_IN, paths.templates) for file in folder.glob("*.toml")}
    return dict(sorted(found.items()))


def load(path: Path) -> Template:
    """Read one template; its name is the file's.

    Raises:
        ConfigError: Naming file, line and field.
    """
    try:
        file = TomlFile.read(path)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no template file {path}") from error
    if "name" in file.data:
        raise file.wrong(["name"], "a template is named by its file")
    return file.validate(Template, {**file.data, "name": path.stem})


def get(paths: Paths, name: str) -> Template:
    """The template of this name.

    Raises:
        UsageError: There is none.
        ConfigError: Its file is wrong.
    """
    files = names(paths)
    if name not in files:
        close = difflib.get_close_matches(name, files, 1)
        hint = f"Did you mean {close[0]}?" if close else f"There are {', '.join(files)}"
        raise UsageError(f"there is no template {name}", hint=hint)
    return load(files[name])


def expand(spec: AgentSpec, paths: Paths, search: str | None = None) -> AgentSpec:
    """``spec`` with its template applied; what the spec itself says wins.

    A command that begins with an option (``-- --verbose``) is added to the template's command; any
    other takes its place. Nothing secret gets into the command.

    Args:
        search: The ``PATH`` in which the template's program is looked for; default: this process's.

    Raises:
        UsageError: No such template, or the template needs a prompt, a command or another backend.
        BackendError: Its program is not there; the hint says how to get it.
    """
    if spec.template is None:
        return spec
    template = get(paths, spec.template).on(spec.backend)
    said = merged_over(template.spec, spec.model_dump(exclude_defaults=True))
    merged = AgentSpec.model_validate({**said, "model": spec.model or template.model})
    _check_fit(template, merged)
    if merged.command and not merged.command[0].startswith("-"):
        return merged
    found = _program(template, merged, search)
    command = template.arguments(found, merged.prompt, merged.model, merged.command)
    stdin = merged.stdin or (template.prompt == "stdin" and merged.prompt is not None)
    return AgentSpec.model_validate({**merged.model_dump(), "command": command, "stdin": stdin})


def _check_fit(template: Template, spec: AgentSpec) -> None:
    if template.backends and spec.backend not in template.backends:
        where = ", ".join(template.backends)
        raise UsageError(
            f"the template {template.name} does not run on {spec.backend}", f"It runs on {where}"
        )
    own = bool(spec.command) and not spec.command[0].startswith("-")
    if template.needs_prompt and not spec.prompt and not own:
        raise UsageError(f"the template {template.name} needs a prompt", hint="Give it with --prompt")
    if not template.command and not own:
        raise UsageError(f"the template {template.name} needs a command", hint=template.get)


def _program(template: Template, spec: AgentSpec, search: str | None) -> str:
    """The program's name, to be found by whoever starts it in the environment it gets."""
    if spec.backend == "docker" or not template.programs:
        return template.programs[0] if template.programs else ""
    found = find(template, search)
    if found.path is None:
        looked = " or ".join(template.programs)
        raise BackendError(
            f"{template.title} is not installed", f"There is no {looked} in PATH", template.get
        )
    if wrong := needs.missing(template, search):
        raise BackendError(f"{template.title} cannot be started", wrong)
    return found.program


def environment(spec: AgentSpec, paths: Paths, *, url: str, folder: str) -> Mapping[str, str]:
    """What the template adds to the environment of one agent.

    Args:
        url: The agent's base URL at the gateway, with its secret and without a provider.
        folder: The agent's own folder; a container does not have it, so that variables which name
            it are left out there.
    """
    if spec.template is None:
        return {}
    here = folder if spec.backend != "docker" else None
    values = {"url": url, "key": PLACEHOLDER_KEY, "folder": here, "model": spec.model}
    return get(paths, spec.template).on(spec.backend).environment(spec, values)


def prepare(spec: AgentSpec, paths: Paths, *, url: str, folder: Path, cwd: str, home: str) -> None:
    """Make what the template's program needs in the agent's own folder. Blocking; a container has none."""
    if spec.template is None or spec.backend == "docker":
        return
    values = {"url": url, "key": PLACEHOLDER_KEY, "folder": str(folder), "model": spec.model, "cwd": cwd}
    template = get(paths, spec.template)
    furnish(template, folder, values, home=home, share_login=spec.share_login)


def resumed(spec: AgentSpec, paths: Paths, session: str) -> list[str] | None:
    """The command that goes on with a conversation; ``None`` where there is no such thing."""
    return (
        get(paths, spec.template).on(spec.backend).resumed(spec, session)
        if spec.template is not None
        else None
    )


def conversation(spec: AgentSpec, paths: Paths, session: str | None, *, begun: bool) -> str | None:
    """What ``resumed`` is to be given; ``None`` where there is nothing to go on with."""
    if spec.template is None:
        return None
    return get(paths, spec.template).on(spec.backend).conversation(session, begun=begun)


def waits(spec: AgentSpec, paths: Paths, *, resumed: bool) -> bool:
    """Whether the program waits for a person at its terminal from the start on."""
    if spec.template is None or spec.backend != "terminal":
        return False
    return get(paths, spec.template).on(spec.backend).waits(spec.prompt, resumed=resumed)


def first_input(spec: AgentSpec, paths: Paths) -> bytes | None:
    """What is written to the program's stdin, which is then closed; ``None`` for nothing."""
    if spec.template is None or spec.prompt is None or get(paths, spec.template).prompt != "stdin":
        return None
    return spec.prompt.encode()


def offered(paths: Paths, search: str | None = None) -> list[TemplateInfo]:
    """All templates for the launch dialog; a broken one is there, not ready, with what is wrong."""
    return [_offer(name, file, search, paths) for name, file in names(paths).items()]


def _offer(name: str, file: Path, search: str | None, paths: Paths) -> TemplateInfo:
    try:
        template = load(file)
    except AgentTopError as error:
        return TemplateInfo(name=name, title=name, ready=False, hint=str(error))
    found = find(template, search)
    wrong = needs.missing(template, search) if found.ready else found.hint
    return TemplateInfo(
        name=name,
        title=template.title,
        ready=found.ready and not wrong,
        found=found.path or "",
        hint=wrong or needs.caution(template, paths.agents),
        backends=list(template.backends),
        model=template.model,
    )


async def version(found: Found) -> str:
    """The first line the program prints for ``--version``; empty where it cannot tell."""
    if found.path is None:
        return ""
    try:
        with anyio.fail_after(_VERSION_SECONDS):
            done = await anyio.run_process(
                [found.path, "--version"],
                check=False,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=dict(os.environ),
            )
    except (OSError, TimeoutError):
        return ""
    lines = done.stdout.decode("utf-8", "replace").splitlines() if done.returncode == 0 else []
    return "".join(char for char in lines[0] if char.isprintable())[:80] if lines else ""
