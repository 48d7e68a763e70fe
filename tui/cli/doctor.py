"""``agenttop doctor``: what is found, what is missing, and how to get it."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from agenttop.core.errors import AgentTopError
from agenttop.core.paths import Paths

from ..format import clean
from . import printing
from .kernel_call import ask, call
from .options import Json
from .programs import versions

if TYPE_CHECKING:
    from agenttop.core.api import CheckInfo, TemplateInfo
    from agenttop.core.client import KernelClient

Level = Literal["ok", "warn", "missing"]
_MARKS: dict[str, str] = {"ok": "ok     ", "warn": "warning", "missing": "missing"}


class Finding(NamedTuple):
    """One line. ``needed``: agenttop cannot do its main job without it."""

    group: str
    name: str
    level: Level
    found: str
    hint: str = ""
    needed: bool = False


def doctor(
    agents: Annotated[
        bool, typer.Option("--agents", help="The agent CLIs' transcripts: where, and what is not understood.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check this machine. Exits 1 only when something that is needed does not work."""
    findings = [*_agents()] if agents else [*machine(), *_kernel()]
    if as_json:
        printing.json([finding._asdict() for finding in findings])
    else:
        _print(findings)
    broken = any(finding.needed and finding.level == "missing" for finding in findings)
    raise typer.Exit(int(broken))


def _print(findings: list[Finding]) -> None:
    """By group, in the order in which they come up; in a terminal what is long goes on below itself."""
    edge = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for group in dict.fromkeys(finding.group for finding in findings):
        printing.line(group)
        for finding in (finding for finding in findings if finding.group == group):
            text = clean(f"{finding.name}: {finding.found}" + (f". {finding.hint}." if finding.hint else ""))
            lead = f"  {_MARKS[finding.level]}  "
            printing.line(lead + text if edge is None else printing.hanging(lead, text, edge))


def machine() -> Iterator[Finding]:
    """What can be told without a kernel."""
    paths = Paths.from_environ()
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("machine", "python", "ok", f"{version} at {sys.executable}")
    yield _system()
    yield _state(paths)
    yield _lingering()
    yield _tool("tmux", "attach to agents that need a terminal", "Install tmux")
    yield _tool("git", "worktrees, and what agents changed", "Install git")
    yield _tool("ssh", "--host", "Install OpenSSH's client (openssh-client)")
    yield _tool("bwrap", "--sandbox for subprocess agents", "Install bubblewrap")
    yield from _terminal()


def _system() -> Finding:
    system = os.uname()
    good = system.sysname == "Linux"
    hint = "" if good else "agenttop needs Linux"
    return Finding(
        "machine", "system", "ok" if good else "missing", f"{system.sysname} {system.release}", hint, True
    )


def _state(paths: Paths) -> Finding:
    try:
        paths.make_state()
    except AgentTopError as error:
        return Finding("machine", "state", "missing", f"{error.what}, {error.why}", error.hint, needed=True)
    mode = stat.S_IMODE(paths.state.stat().st_mode)
    if mode & 0o077:
        return Finding(
            "machine", "state", "warn", f"{paths.state} has mode {mode:o}", f"chmod 700 {paths.state}"
        )
    return Finding("machine", "state", "ok", f"{paths.state}, mode {mode:o}")


def _lingering() -> Finding:
    """Whether logind kills what a login session leaves behind (logind.conf(5))."""
    if not Path("/run/systemd/system").is_dir():
        return Finding("machine", "logout", "ok", "no systemd, nothing ends agents at logout")
    if not _kills_user_processes():
        return Finding("machine", "logout", "ok", "KillUserProcesses=no")
    user = os.environ.get("USER", str(os.getuid()))
    if Path("/var/lib/systemd/linger", user).exists():
        return Finding("machine", "logout", "ok", f"KillUserProcesses=yes, but {user} lingers")
    return Finding(
        "machine", "logout", "warn", "KillUserProcesses=yes: logind ends agents and kernel at logout",
        f"Run `loginctl enable-linger {user}`",
    )  # fmt: skip


def _kills_user_processes() -> bool:
    value = "no"
    folders = ("/usr/lib/systemd", "/run/systemd", "/etc/systemd")
    for folder in folders:
        for file in [Path(folder, "logind.conf"), *sorted(Path(folder, "logind.conf.d").glob("*.conf"))]:
            if file.is_file():
                for line in file.read_text("utf-8", "replace").splitlines():
                    key, _, said = line.partition("=")
                    if key.strip() == "KillUserProcesses":
                        value = said.strip().lower()
    return value in ("yes", "true", "1", "on")


def _tool(name: str, what: str, hint: str) -> Finding:
    path = shutil.which(name)
    return Finding(
        "machine", name, "ok" if path else "warn", path or f"not found: no {what}", "" if path else hint
    )


def _terminal() -> Iterator[Finding]:
    term = os.environ.get("TERM", "")
    if not sys.stdout.isatty():
        yield Finding("screen", "terminal", "ok", "none here; the commands need none")
        return
    size = os.get_terminal_size()
    small = size.columns < 80 or size.lines < 24
    yield Finding(
        "screen", "size", "warn" if small else "ok", f"{size.columns}×{size.lines}",
        "The screen wants 80×24" if small else "",
    )  # fmt: skip
    dumb = term in ("", "dumb")
    yield Finding(
        "screen",
        "TERM",
        "warn" if dumb else "ok",
        term or "not set",
        "Set TERM=xterm-256color" if dumb else "",
    )
    yield _colours()
    utf = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    yield Finding(
        "screen", "encoding", "ok" if utf else "warn", sys.stdout.encoding or "unknown",
        "" if utf else "Set LANG=C.UTF-8, or use --ascii",
    )  # fmt: skip


def _colours() -> Finding:
    if os.environ.get("NO_COLOR"):
        return Finding("screen", "colours", "ok", "none (NO_COLOR)")
    if os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return Finding("screen", "colours", "ok", "16 million")
    if "256color" in os.environ.get("TERM", ""):
        hint = "If it can do more, set COLORTERM=truecolor"
        return Finding("screen", "colours", "ok", "256", hint)
    return Finding("screen", "colours", "warn", "16", "Set TERM=xterm-256color if the terminal can do it")


def _agents() -> Iterator[Finding]:
    """What the readers of transcripts found, and did not understand; nothing of it is needed."""
    for check in ask("/v1/agent-checks", patient=True):
        yield Finding(check["group"], check["name"], check["level"], check["found"], check["hint"])


def _kernel() -> Iterator[Finding]:
    """What only the kernel knows; one that cannot be reached or started is what needs repair."""

    async def ask(client: KernelClient) -> tuple[list[CheckInfo], list[TemplateInfo]]:
        return await client.checks(), await client.templates()

    try:
        checks, templates = call(ask)
    except AgentTopError as error:
        why = ", ".join(part for part in (error.what, error.why) if part)
        yield Finding("kernel", "kernel", "missing", why, error.hint, needed=True)
        return
    yield Finding("kernel", "kernel", "ok", f"answers at {Paths.from_environ().socket}")
    # One backend that works is needed, and the others are a choice.
    for check in checks:
        needed = check.group == "subprocess" and check.level == "missing"
        yield Finding(check.group, check.name, check.level, check.found, check.hint, needed)
    yield from _templates(templates)


def _templates(templates: list[TemplateInfo]) -> Iterator[Finding]:
    """Each program with what it says of itself, its Node.js, and the login that an agent could be lent."""
    said = versions(template.found for template in templates if template.found)
    for template in templates:
        level: Level = "ok" if template.ready and not template.hint else "warn"
        parts = [template.title]
        if template.found:
            version = said[template.found] or "does not answer --version"
            parts = [f"{version} at {template.found}"]
            level = level if said[template.found] else "warn"
        parts += [f"Node.js {template.node}"] if template.node else []
        parts += [f"your login {template.login} can be lent with --share-login"] if template.login else []
        yield Finding("templates", template.name, level, ", ".join(parts), template.hint)
