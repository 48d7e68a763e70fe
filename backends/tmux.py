"""The private tmux server in which terminals live: its socket, its configuration, its commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import anyio.to_thread

from agenttop.core.errors import BackendError, BackendUnavailable

#: Before 3.0 tmux cannot be told all that the configuration says.
OLDEST = (3, 0)
#: Pressed in a terminal, comes back from it; in the manner of tmux(1), "KEY BINDINGS".
DETACH_KEY = "C-\\"
HISTORY = 50_000
#: The status of a client that was left by the detach key; 0 is that of one whose session has ended.
LEFT = 90

#: Longest path, in bytes, that fits into a socket's address with its end (unix(7)).
_LONGEST = 107
_SOCKET = "tmux"
_CONFIG = "tmux.conf"
_GET = "Install it with: apt install tmux, dnf install tmux or apk add tmux; headless agents work without it"
_GONE = ("no server running", "error connecting", "lost server", "server exited")
_NO_SESSION = ("can't find session", "can't find pane", "can't find window", "no current target")
_KEY = re.compile(r"(?:[CMS]-)*(?:[!-~]|[A-Z][A-Za-z0-9]{1,15})")
_SECONDS = 20.0

_BASIC = """\
# Written by agenttop; changes are lost.
set -g default-terminal "{term}"
set -g status off
set -g history-limit {history}
# A terminal whose program has ended stays until all of its output is on disk.
set -g remain-on-exit on
set -gq remain-on-exit-format ""
set -g window-size latest
set -g update-environment ""
set -s escape-time 10
set -g focus-events on
set -gq extended-keys on
set -g mouse on
# What a program prints does not reach the terminal around it but as text.
set -s set-clipboard off
set -g set-titles off
set -gq allow-rename off
set -gq allow-passthrough off
set -g automatic-rename off
set -g monitor-bell on
set -g visual-bell off
# No key of tmux's own but the one that leads back and the one that scrolls.
set -g prefix None
set -g prefix2 None
unbind-key -a -T prefix
unbind-key -q -n MouseDown3Pane
unbind-key -q -n M-MouseDown3Pane
unbind-key -q -n MouseDown3Status
unbind-key -q -n MouseDown3StatusLeft
bind-key -n S-PageUp copy-mode -eu
# Without a word of tmux's own: whoever attached says what there is to say.
bind-key -n {detach} detach-client -E 'exit {left}'
# How long it is said how one gets back.
set -g display-time 4000
set -g message-style reverse
"""


class NoServer(BackendError):
    """There is no tmux server: nothing was started in one, or it was killed."""


class NoSession(BackendError):
    """The tmux server has no session of this name."""


def find() -> tuple[str, str]:
    """The path of tmux and its version.

    Raises:
        BackendUnavailable: There is none, or one that is too old.
    """
    path = shutil.which("tmux")
    if path is None:
        raise BackendUnavailable("there is no terminal for agents", "There is no tmux here", _GET)
    version = _version(path)
    numbers = re.search(r"(\d+)\.(\d+)", version)
    if numbers is not None and (int(numbers[1]), int(numbers[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise BackendUnavailable(
            "there is no terminal for agents", f"{path} is {version}, and {oldest} is needed", _GET
        )
    return path, version


@cache
def _version(path: str) -> str:
    done = subprocess.run([path, "-V"], capture_output=True, text=True, timeout=_SECONDS, check=False)
    return done.stdout.strip() or "of an unknown version"


@cache
def term() -> str:
    """What terminals of this server are called in terminfo(5): the best name this machine knows."""
    for folder in ("/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/local/share/terminfo"):
        if os.path.exists(f"{folder}/t/tmux-256color") or os.path.exists(f"{folder}/74/tmux-256color"):
            return "tmux-256color"
    return "screen-256color"


def spoken(key: str) -> str:
    """A key of tmux(1) as people say it: ``C-\\`` is ``Ctrl-\\``."""
    parts = re.fullmatch(r"((?:[CMS]-)*)(.+)", key)
    if parts is None:
        return key
    names = {"C-": "Ctrl-", "M-": "Alt-", "S-": "Shift-"}
    return "".join(names[part] for part in re.findall("[CMS]-", parts[1])) + parts[2]


def session(marker: str) -> str:
    """The name of a run's session: tmux takes no dots."""
    return marker.replace(".", "-")


class Server:
    """The server of one state folder. It starts with its first session and leaves with its last."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.detach_key = str(settings.get("detach_key", DETACH_KEY))
        self._history = int(settings.get("history", HISTORY))
        self._written = False

    def prepare(self) -> None:
        """Write the configuration. Blocking.

        Raises:
            BackendUnavailable: No tmux that would do.
            BackendError: A setting cannot be used.
        """
        find()
        if self._written:
            return
        if not _KEY.fullmatch(self.detach_key):
            raise BackendError(
                f"backends.terminal.detach_key = {self.detach_key!r} cannot be used",
                "It is no key as tmux names them",
                "Take one such as C-\\ or C-] or F12",
            )
        self.folder.mkdir(mode=0o700, exist_ok=True)
        # Of each thread its own: several agents may be the first.
        temporary = self.folder / f"{_CONFIG}.{threading.get_ident()}"
        temporary.write_text(
            _BASIC.format(term=term(), history=self._history, detach=_quoted(self.detach_key), left=LEFT)
        )
        temporary.replace(self.folder / _CONFIG)
        self._written = True

    def command(self, *arguments: str) -> list[str]:
        """A whole command line, for a process whose working folder is ``folder``."""
        path = str(self.folder / _SOCKET)
        # A path that is too long for a socket's address is said from where the server stands.
        where = path if len(os.fsencode(path)) <= _LONGEST else _SOCKET
        return [find()[0], "-u", "-S", where, "-f", str(self.folder / _CONFIG), *arguments]

    def attaching(self, name: str) -> list[str]:
        """The command line to exec in a person's terminal, inside another tmux too, from any folder."""
        return [
            "env",
            *("-u", "TMUX", "-u", "TMUX_PANE", "-C", str(self.folder)),
            *self.command("attach-session", "-t", f"={name}", ";", "display-message", self._way_back()),
        ]

    def _way_back(self) -> str:
        """Shown over the last line for some seconds; tmux would read signs of its own and dates in it."""
        said = f" {spoken(self.detach_key)} leads back: the agent runs on "
        return said.replace("#", "##").replace("%", "%%")

    async def __call__(self, *arguments: str, data: bytes | None = None) -> str:
        """Run tmux commands (``";"`` between them); what they print.

        Raises:
            NoServer: It does not run; commands that make a session start it.
            NoSession: There is no such session.
            BackendError: tmux refused.
        """
        return await anyio.to_thread.run_sync(partial(self._run, arguments, data))

    def _run(self, arguments: Sequence[str], data: bytes | None) -> str:
        # Not by the event loop: uvloop's pipes are sockets, of which a client of tmux sees no end.
        try:
            done = subprocess.run(
                self.command(*arguments),
                input=data or b"",
                capture_output=True,
                check=False,
                cwd=self.folder,
                env=_environ(),
                timeout=_SECONDS,
            )
        except FileNotFoundError as error:
            raise NoServer("there is no terminal server", str(error)) from error
        except subprocess.TimeoutExpired as error:
            raise BackendError(
                "the terminal server does not answer", f"Not within {_SECONDS:.0f} s"
            ) from error
        if done.returncode != 0:
            raise _refused(done.stderr.decode("utf-8", "replace").strip(), arguments)
        return done.stdout.decode("utf-8", "replace")


def _refused(said: str, arguments: Sequence[str]) -> BackendError:
    if any(part in said for part in _GONE):
        return NoServer("there is no terminal server", said)
    if any(part in said for part in _NO_SESSION):
        return NoSession("there is no such terminal", said)
    return BackendError(f"tmux refused {arguments[0]}", said or "It did not say why")


def _environ() -> dict[str, str]:
    """Of the server and its clients: nobody's settings, and UTF-8 whatever the machine's language is."""
    # The home is for finding all processes of one kernel; nothing of this reaches a program.
    home = {"AGENTTOP_HOME": found} if (found := os.environ.get("AGENTTOP_HOME")) else {}
    return {
        **home,
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.path.expanduser("~"),
        "SHELL": "/bin/sh",
        "TERM": "screen",
        "LC_ALL": "C.UTF-8",
    }


def _quoted(key: str) -> str:
    return "'" + key.replace("'", "'\\''") + "'"
