"""What can be said of each template before it is used: in lists, by ``doctor``, at the launch."""

from __future__ import annotations

import os

from .. import tomltext
from ..api import TemplateInfo
from ..errors import AgentTopError
from ..paths import Paths
from . import needs
from .template import Template, find
from .template_files import Source, read, sources


def offered(paths: Paths, search: str | None = None) -> list[TemplateInfo]:
    """All templates; a broken one is there, not ready, with what is wrong. Blocking."""
    return [_offer(name, found, search, paths) for name, found in sources(paths).items()]


def _offer(name: str, source: Source, search: str | None, paths: Paths) -> TemplateInfo:
    try:
        template, data = read(paths, source)
    except AgentTopError as error:
        return TemplateInfo(
            name=name, title=name, ready=False, hint=str(error), origin=source.origin, file=str(source.file)
        )
    found = find(template, search)
    wrong = needs.missing(template, search) if found.ready else found.hint
    if found.ready and wrong:
        wrong += f". Install Node.js {template.node} and put it first in PATH"
    return TemplateInfo(
        name=name,
        title=template.title,
        ready=found.ready and not wrong,
        found=found.path or "",
        hint=wrong or needs.caution(template, paths.agents),
        backends=list(template.backends),
        model=template.model,
        origin=source.origin,
        file=str(source.file),
        interactive=_interactive(template),
        needs_prompt=template.needs_prompt,
        prompt_in_terminal=template.on("terminal").prompted,
        resumes=bool(template.resume_arguments),
        permissions=_permissions(template),
        permissions_in_terminal=_permissions(template.on("terminal")) if _interactive(template) else [],
        node=needs.node(template, search),
        login=needs.login(template, os.path.expanduser("~")),
        definition=tomltext.dumps(data),
    )


def _interactive(template: Template) -> bool:
    """Whether it can run in a terminal."""
    if template.backends and "terminal" not in template.backends:
        return False
    return template.interactive is not None or not template.command


def _permissions(template: Template) -> list[str]:
    form = template.permissions
    return [one for one in ("ask", "auto") if form is not None and form.arguments(one) is not None]
