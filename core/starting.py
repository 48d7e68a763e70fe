"""A kernel on its way: the process is started, and reports on a pipe when it answers.

Light to import, so that a screen can have its kernel started before it is itself there: the two
then come up side by side.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping

from . import uds
from .errors import AgentTopError, KernelUnreachable, from_dict
from .paths import Paths

START = 30.0
"""Seconds a kernel may take to answer (a long journal is folded first)."""


class Starting:
    """One start of a kernel as a process of its own; ``wait`` or ``close`` it.

    Raises:
        KernelUnreachable: This is inside an agent.
        AgentTopError: The state folder cannot be used.
    """

    def __init__(self, paths: Paths) -> None:
        import subprocess

        refuse_inside_agent(paths)
        paths.make_state()
        self._paths = paths
        self._reading, writing = os.pipe()
        command = [sys.executable, "-P", "-m", "agenttop.core.daemon", "--report", str(writing)]
        command += ["--state", str(paths.state), "--config", str(paths.config)]
        try:
            # The process forks and ends at once; its grandchild is the kernel.
            self._process = subprocess.Popen(
                command,
                # The kernel has no use for pydantic's plug-ins; looking for them reads every
                # installed package's metadata, a tenth of its start.
                env={**os.environ, "PYDANTIC_DISABLE_PLUGINS": "__all__"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(writing,),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._reading)
            raise
        finally:
            os.close(writing)

    def wait(self, timeout: float = START) -> None:
        """Return when it, or one started meanwhile, answers. Blocks; closes.

        Raises:
            AgentTopError: It cannot start; what it reported.
            KernelUnreachable: It ended without a word, or is silent for ``timeout`` seconds.
        """
        try:
            self._await_report(time.monotonic() + timeout)
        finally:
            self.close()

    def close(self) -> None:
        """Listen no longer; the kernel goes its own way."""
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1
            self._process.wait()

    def _await_report(self, deadline: float) -> None:
        import select

        told = b""
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._reading], [], [], left)[0]:
                raise KernelUnreachable(
                    "the kernel does not answer",
                    f"It was started, and is silent at {self._paths.socket}",
                    f"See {self._paths.log}",
                )
            piece = os.read(self._reading, 65_536)
            if not piece:
                break
            told += piece
        if told == b"already":
            if not uds.answers(self._paths.socket):
                raise KernelUnreachable(
                    "the kernel went away", "Another one ran, and has just ended", "Try again"
                )
        elif told != b"ready":
            raise self._told(told)

    def _told(self, told: bytes) -> AgentTopError:
        if not told:
            return KernelUnreachable(
                "the kernel did not start", "It ended without a word", f"See {self._paths.log}"
            )
        import json

        return from_dict(json.loads(told))


def begin(paths: Paths) -> Starting | None:
    """Start a kernel where none answers and one may be started; whoever connects next waits for it.

    Never fails: ``connect`` meets what stands in the way again, and reports it.
    """
    if inside_agent() or uds.answers(paths.socket):
        return None
    try:
        return Starting(paths)
    except (AgentTopError, OSError):
        return None


def inside_agent(environ: Mapping[str, str] | None = None) -> bool:
    """Whether this process belongs to an agent: ``AGENTTOP_URL`` is set."""
    return bool((os.environ if environ is None else environ).get("AGENTTOP_URL"))


def refuse_inside_agent(paths: Paths) -> None:
    """Raise where the kernel would be an agent's.

    Raises:
        KernelUnreachable: This is inside an agent.
    """
    if inside_agent():
        raise KernelUnreachable(
            f"no kernel is started for {paths.state}",
            "This is inside an agent (AGENTTOP_URL is set), and its end would be the kernel's",
            "Start agenttop from a terminal that is not inside an agent",
        )
