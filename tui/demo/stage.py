"""The demo's stage: a temporary home, its configuration, the provider, and the reaper."""

from __future__ import annotations

import json
import os
import secrets
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from agenttop.core.errors import AgentTopError
from agenttop.core.paths import Paths

from .box import image_name
from .cleanup import clean
from .fleet import ASKING, BUDGETS

_READY_SECONDS = 20.0
_SOCKET_NAME = 40
"""Bytes to leave for what lies below the home: socket paths end at 107."""


class Options(NamedTuple):
    """What the person asked for."""

    seed: int = 1
    speed: str = "1"
    containers: bool = True


class Stage:
    """``with Stage(options) as stage``: on leaving, and on any other end of this process, nothing is left.

    The reaper is started before anything that it would have to clean up, apart from the empty home.
    """

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self.home = Path()
        self.provider_url = ""
        self.problems: list[str] = []
        self._pipe = -1
        self._reaper: subprocess.Popen[bytes] | None = None
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        if os.environ.get("AGENTTOP_URL"):
            raise AgentTopError(
                "no demo is started inside an agent",
                "AGENTTOP_URL is set, and the agent's end would be the demo's",
                "Start it from a terminal that is not inside an agent",
            )
        self.home = _make_home()
        try:
            self._start_reaper()
            self._start_provider()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def paths(self) -> Paths:
        """Where the demo's kernel lives."""
        return Paths.from_environ({"AGENTTOP_HOME": str(self.home)})

    @property
    def image(self) -> str:
        """The name of the image for containers, whether or not it could be made."""
        return image_name(self.home)

    @property
    def truth_file(self) -> Path:
        """The provider's ledger, NDJSON."""
        return self.home / "truth.ndjson"

    @property
    def fleet_log(self) -> Path:
        """What bringing the fleet up said."""
        return self.home / "fleet.log"

    def environ(self) -> dict[str, str]:
        """The environment of everything that belongs to this demo, with the marker the reaper looks for."""
        kept = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith("AGENTTOP_") or k == "AGENTTOP_TEST_REQUIRE"
        }
        return {**kept, **self.marker}

    @property
    def marker(self) -> dict[str, str]:
        """What the reaper finds this demo's processes by."""
        return {"AGENTTOP_HOME": str(self.home), "AGENTTOP_DEMO": str(self.home)}

    def spawn(self, module: str, *arguments: str, output: Path, pass_fds: tuple[int, ...] = ()) -> None:
        """Start one of the demo's own modules in a session of its own, its output into a file."""
        with output.open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=pass_fds,
                env=self.environ(),
            )
        self._children.append(child)

    def bring_up(self) -> None:
        """Start the fleet beside us, so that the screen need not wait for it."""
        options = json.dumps(self.options._asdict())
        self.spawn("agenttop.tui.demo.bring_up", "--options", options, output=self.fleet_log)

    def brought_up(self) -> int:
        """Wait for ``bring_up``; its exit status."""
        return self._children[-1].wait()

    def close(self) -> None:
        """Take everything down and wait for it; what was left is in ``problems``."""
        if not self.home.name:
            return
        if self._reaper is None:
            self.problems = clean(self.home, None)
        else:
            os.close(self._pipe)
            said, _ = self._reaper.communicate()
            self.problems = said.decode("utf-8", "replace").splitlines()
            if self._reaper.returncode and not self.problems:  # somebody killed it: it is up to us
                self.problems = clean(self.home, self.image)
            self._reaper = None
        for child in self._children:
            child.wait()
        self._children.clear()
        self.home = Path()

    def _start_reaper(self) -> None:
        watched = os.pidfd_open(os.getpid())
        reading, self._pipe = os.pipe()
        image = ["--image", self.image] if self.options.containers else []
        environ = {k: v for k, v in self.environ().items() if k not in self.marker}
        self._reaper = subprocess.Popen(
            [
                *(sys.executable, "-m", "agenttop.tui.demo.reaper", "--home", str(self.home), *image),
                *("--pidfd", str(watched), "--pipe", str(reading)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(watched, reading),
            cwd="/",
            env=environ,
        )
        os.close(watched)
        os.close(reading)

    def _start_provider(self) -> None:
        key = self.home / "provider.key"
        key.touch(mode=0o600)
        key.write_text(secrets.token_hex(16))
        reading, writing = os.pipe()
        try:
            self.spawn(
                "agenttop.tui.demo.provider",
                *("--seed", str(self.options.seed), "--speed", self.options.speed),
                *("--truth", str(self.truth_file), "--key-file", str(key), "--ready-fd", str(writing)),
                output=self.home / "provider.log",
                pass_fds=(writing,),
            )
        finally:
            os.close(writing)
        port = _read_port(reading)
        if not port:
            raise AgentTopError(
                "the demo's provider did not start", (self.home / "provider.log").read_text()[-500:].strip()
            )
        self.provider_url = f"http://127.0.0.1:{port}"
        self.paths.config_file.write_text(
            "# Written by agenttop demo; gone with it.\n"
            '[providers.anthropic]\nprotocol = "anthropic"\n'
            f'base_url = "{self.provider_url}"\nkey_file = "{key}"\nauth = "inject"\n'
            # What else runs on this machine is no part of the play.
            "[observe]\nenabled = false\n" + BUDGETS + ASKING
        )


def _make_home() -> Path:
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) > 107 - _SOCKET_NAME - len("/agenttop-demo-12345678"):
        parent = "/tmp"
    try:
        return Path(tempfile.mkdtemp(prefix="agenttop-demo-", dir=parent))
    except OSError as error:
        raise AgentTopError(
            "cannot make a folder for the demo", str(error), "Set TMPDIR to a folder you can write"
        ) from error


def _read_port(reading: int) -> str:
    """The port, once the provider listens; empty if it ended or took too long."""
    try:
        ready, _, _ = select.select([reading], [], [], _READY_SECONDS)
        return os.read(reading, 16).decode().strip() if ready else ""
    finally:
        os.close(reading)
