"""What ``--host`` names, and the command lines of ``ssh`` that lead there.

Everything else about a host (keys, ports, jumps, a shared master connection) is the business of the
user's own ssh configuration, which is read as ever.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..errors import UsageError

if TYPE_CHECKING:
    from ..paths import Paths

LOCAL = "local"
"""The name of this machine's own kernel among hosts; an ssh alias of that name is reached as ``me@local``."""

MISSING = "agenttop-is-not-here"
"""What the far side says where it has no agenttop; exit status 127 may come from other things."""

_PLACES = "$HOME/.local/bin:$HOME/bin:/usr/local/bin"
"""Where pip, pipx and uv put programs; shells that are no login shells often do not look there."""

_NO_SHELL = frozenset("'\"`$\\;&<>|(){}*?!")
"""In no name of a host or user: ssh's own configuration may put names on a shell's command line."""

_NAME = re.compile(
    r"(?:(?P<user>[^@/\s:]+)@)?(?P<name>\[[0-9A-Fa-f:.%\w]+\]|[^@/\s:\[\]]+)(?::(?P<port>\d{1,5}))?"
)

COMMON = (
    "-T", "-x",
    "-o", "ConnectTimeout=10",
    "-o", "ServerAliveInterval=3", "-o", "ServerAliveCountMax=3",
    # What the user's configuration asks for at this host is meant for shells.
    "-o", "ClearAllForwardings=yes", "-o", "RemoteCommand=none", "-o", "PermitLocalCommand=no",
)  # fmt: skip


class Address(NamedTuple):
    """One host as the user named it."""

    text: str
    """What was typed."""
    label: str
    """How it is called on screen and before ``/`` in references; the bare name where that is plain."""
    target: str
    """ssh's own destination: ``user@name`` or an alias."""
    port: int | None

    @property
    def local(self) -> bool:
        """Whether this machine's own kernel is meant, without ssh."""
        return self.text == LOCAL


class Reach(NamedTuple):
    """How hosts are reached: ``[remote]`` of the configuration and ``AGENTTOP_SSH``."""

    ssh: tuple[str, ...] = ("ssh",)
    commands: Mapping[str, str] = {}
    """Host, as typed or by its label → the remote shell's words for agenttop there."""

    def command(self, address: Address) -> str | None:
        """The words for agenttop on this host; ``None``: look for it."""
        return self.commands.get(address.text) or self.commands.get(address.label)


def parse(texts: Sequence[str]) -> list[Address]:
    """The hosts, each once, with labels that tell them apart.

    Raises:
        UsageError: One cannot be a host.
    """
    found = list({address.text: address for address in map(_one, texts)}.values())
    short = [address.label for address in found]
    return [
        address if short.count(address.label) == 1 else address._replace(label=address.text)
        for address in found
    ]


def _one(text: str) -> Address:
    plain = text.removeprefix("ssh://").rstrip("/")
    match = _NAME.fullmatch(plain)
    # A leading "-" would be an option of ssh.
    wrong = plain.startswith("-") or not plain.isprintable() or _NO_SHELL & set(plain)
    if not match or match["name"].startswith("-") or wrong:
        raise UsageError(
            f"{text!r} is not a host", hint="Write USER@HOST, HOST:PORT, or a Host of your ssh configuration"
        )
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port < 65_536:
        raise UsageError(f"{text!r} is not a host", f"There is no port {port}")
    name = match["name"].strip("[]")
    user = f"{match['user']}@" if match["user"] else ""
    return Address(plain, name, user + name, port)


def reach(paths: Paths, environ: Mapping[str, str] | None = None) -> Reach:
    """How this user reaches hosts.

    Raises:
        UsageError: ``AGENTTOP_SSH`` cannot be read as a command.
        ConfigError: The configuration is wrong.
    """
    ssh: tuple[str, ...] = ("ssh",)
    commands: dict[str, str] = {}
    if paths.config_file.exists():
        from .. import config

        remote = config.load(paths).remote
        ssh = tuple(remote.ssh)
        commands = {name: host.command for name, host in remote.hosts().items() if host.command}
    if given := (os.environ if environ is None else environ).get("AGENTTOP_SSH"):
        try:
            ssh = tuple(shlex.split(given))
        except ValueError as error:
            raise UsageError("AGENTTOP_SSH is not a command", str(error)) from error
    return Reach(ssh or ("ssh",), commands)


def bridge_argv(address: Address, reach: Reach, *, asks: bool) -> list[str]:
    """The command that opens a line to the host's kernel.

    ``asks``: ssh may ask for passwords and about host keys on the terminal; else it fails instead.
    """
    options = [*COMMON, "-o", f"BatchMode={'no' if asks else 'yes'}"]
    command = reach.command(address)
    if command is None:
        there = f"command -v agenttop >/dev/null 2>&1 || {{ echo {MISSING} >&2; exit 127; }}; "
        command = there + "exec agenttop kernel bridge"
    else:
        command = f"{command} kernel bridge"  # no exec: it may begin with NAME=value
    return [*reach.ssh, *options, *_destination(address), _in_sh(command)]


def agenttop_argv(address: Address, reach: Reach, arguments: Sequence[str], *, terminal: bool) -> list[str]:
    """The command that runs agenttop itself over there, as if typed in a shell on that host."""
    command = f"{reach.command(address) or 'agenttop'} {shlex.join(arguments)}"
    options = [*COMMON[1:], "-t" if terminal else "-T"]
    return [*reach.ssh, *options, *_destination(address), _in_sh(command)]


def terminal_argv(address: Address, reach: Reach, argv: Sequence[str]) -> list[str]:
    """The command that runs ``argv`` of the host full-screen in this terminal; it ends within some ten
    seconds when the line is cut."""
    command = f"exec {shlex.join(argv)}"
    # At "info" ssh says good-bye in what is the screen again.
    options = [*COMMON[1:], "-o", "LogLevel=ERROR", "-t"]
    return [*reach.ssh, *options, *_destination(address), _in_sh(command)]


def _destination(address: Address) -> list[str]:
    port = [] if address.port is None else ["-p", str(address.port)]
    return [*port, "--", address.target]


def _in_sh(command: str) -> str:
    """The one word that the user's login shell there, whichever it is, is given."""
    script = f'PATH="$PATH:{_PLACES}"; export PATH; {command}'
    return f"exec sh -c {shlex.quote(script)}"
