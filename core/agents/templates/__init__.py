"""The templates there are, and what they make of a spec."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path

from ...errors import BackendError, UsageError
from ...paths import Paths
from ...tomlfile import merged_over
from .. import needs
from ..furnish import furnish, home_of
from ..spec import AgentSpec, MailMode, Permission
from ..template import Found, Template, find
from ..template_files import read, source, sources

__all__ = [
    "PLACEHOLDER_KEY",
    "Found",
    "Template",
    "conversation",
    "environment",
    "expand",
    "find",
    "first_input",
    "forked",
    "get",
    "names",
    "prepare",
    "resumed",
    "waits",
]

#: Clients refuse to start without a key; the gateway replaces this one by the provider's.
PLACEHOLDER_KEY = "agenttop"


def names(paths: Paths) -> dict[str, Path]:
    """All templates: name → file, in the order of their names."""
    return {name: found.file for name, found in sources(paths).items() if not found.wrong}


def get(paths: Paths, name: str) -> Template:
    """The template of this name.

    Raises:
        UsageError: There is none.
        ConfigError: Its file is wrong.
    """
    return read(paths, source(paths, name))[0]


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
    template = get(paths, spec.template)
    said = merged_over(template.spec, spec.model_dump(exclude_defaults=True))
    merged = AgentSpec.model_validate({**said, "model": spec.model or template.model})
    template = _fitted(template, merged)
    own = bool(merged.command) and not merged.command[0].startswith("-")
    _check_fit(template, merged, own=own)
    if own:
        return merged
    found = _program(template, merged, search)
    may = _permission(template, merged)
    command = template.arguments(found, merged.prompt, merged.model, merged.command, may)
    stdin = merged.stdin or (template.prompt == "stdin" and merged.prompt is not None)
    ready = {"command": command, "stdin": stdin, "permissions": may, "mail": _mail(template, merged)}
    return AgentSpec.model_validate({**merged.model_dump(), **ready})


def _mail(template: Template, spec: AgentSpec) -> MailMode:
    """How mail comes to it: a program without tools to read it is told of it, if it can go on at all."""
    if spec.mail is not None:
        return spec.mail
    toolless = template.mcp is not None and spec.mcp is False and bool(template.resume_arguments)
    return "turn" if template.mail == "read" and toolless else template.mail


def _fitted(template: Template, spec: AgentSpec) -> Template:
    """The form that this agent is started in."""
    form = template.on(spec.backend)
    return form if spec.mcp is False else form.attached()


def _permission(template: Template, spec: AgentSpec) -> Permission | None:
    try:
        return template.permission(spec)
    except ValueError as error:
        form = template.permissions
        can = [one for one in ("ask", "auto") if form is not None and form.arguments(one) is not None]
        raise UsageError(str(error), hint=f"It has {', '.join(can)}" if can else "Leave it out") from error


def _check_fit(template: Template, spec: AgentSpec, *, own: bool) -> None:
    if template.backends and spec.backend not in template.backends:
        where = ", ".join(template.backends)
        raise UsageError(
            f"the template {template.name} does not run on {spec.backend}", f"It runs on {where}"
        )
    if spec.share_login and not template.login:
        raise UsageError(f"the template {template.name} has no login to share", hint="Leave share_login out")
    if own and spec.permissions is not None:
        raise UsageError(
            "permissions are for a template's own command", "Another one takes its place", "Leave them out"
        )
    if template.needs_prompt and not spec.prompt and not own:
        raise UsageError(f"the template {template.name} needs a prompt", hint="Give it with --prompt")
    if spec.prompt and template.prompt == "argument" and not template.prompted and not own:
        raise UsageError(
            f"the template {template.name} takes no prompt on {spec.backend}",
            hint="Start it without one, and type it there",
        )
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
        hint = f"Install Node.js {template.node} and put it first in PATH"
        raise BackendError(f"{template.title} cannot be started", wrong, hint)
    return found.program


def environment(
    spec: AgentSpec, paths: Paths, *, url: str, folder: str, passthrough: Set[str] = frozenset()
) -> Mapping[str, str]:
    """What the template adds to the environment of one agent.

    Args:
        url: The agent's base URL at the gateway, with its secret and without a provider.
        folder: The agent's own folder; a container does not have it, so that variables which name
            it are left out there.
        passthrough: Providers whose clients bring their own credentials: no key stands in their way.
    """
    if spec.template is None:
        return {}
    template = _fitted(get(paths, spec.template), spec)
    here = folder if spec.backend != "docker" else None
    own = spec.share_login or template.provider in passthrough
    key = None if own else PLACEHOLDER_KEY
    values = {"url": url, "mcp": mcp_url(url), "key": key, "folder": here, "model": spec.model}
    found = template.environment(spec, values)
    return {name: value for name, value in found.items() if name not in spec.pass_keys}


def prepare(spec: AgentSpec, paths: Paths, *, url: str, folder: Path, cwd: str, home: str) -> None:
    """Make what the template's program needs in the agent's own folder. Blocking; a container has none.

    Raises:
        BackendError: The program would not work in this home.
    """
    if spec.template is None or spec.backend == "docker":
        return
    values = {
        "url": url,
        "mcp": mcp_url(url),
        "key": PLACEHOLDER_KEY,
        "folder": str(folder),
        "model": spec.model,
        "cwd": cwd,
    }
    template = _fitted(get(paths, spec.template), spec)
    theirs = home_of(home)
    if template.home and (wrong := needs.unusable(theirs)):
        hint = "Set HOME to a folder that can be written"
        raise BackendError(
            f"{template.title} cannot be started", f"It needs a home folder, and {wrong}", hint
        )
    furnish(template, folder, values, home=theirs, share_login=spec.share_login)


def mcp_url(url: str) -> str:
    """Where an agent reaches the kernel's MCP server, by its base URL; as secret as that is."""
    return f"{url}/mcp"


def resumed(spec: AgentSpec, paths: Paths, session: str, prompt: str | None = None) -> list[str] | None:
    """The command that goes on with a conversation, told ``prompt``; ``None`` where there is none."""
    return (
        get(paths, spec.template).on(spec.backend).resumed(spec, session, prompt)
        if spec.template is not None
        else None
    )


def forked(spec: AgentSpec, paths: Paths, session: str) -> list[str] | None:
    """The command that begins in a copy of a conversation; ``None`` where there is no such thing."""
    if spec.template is None:
        return None
    return get(paths, spec.template).on(spec.backend).forked(spec, session)


def conversation(spec: AgentSpec, paths: Paths, session: str | None, *, begun: bool) -> str | None:
    """What ``resumed`` is to be given; ``None`` where there is nothing to go on with.

    A container takes what was said in it with it.
    """
    if spec.template is None or spec.backend == "docker":
        return None
    return get(paths, spec.template).on(spec.backend).goes_on_with(session, begun=begun)


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
