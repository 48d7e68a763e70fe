"""A kernel with its control socket, from start to orderly end: what daemon and embedded kernel run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import anyio

from .config import Config
from .http.serve import ControlServer
from .kernel import Kernel
from .lock import KernelRunning, Lock
from .paths import Paths
from .uds import answers

log = logging.getLogger(__name__)

PATIENCE = 15.0
"""Seconds to wait for the lock of a kernel that is leaving."""

STOPPING = 2.0
"""Seconds in which a stop that was proven may still become durable when the kernel leaves."""

QUIET = 1.0
"""Seconds after the start in which the first screen gets its fleet undisturbed."""


class AlreadyRunning(KernelRunning):
    """Another kernel of this state directory answers; it can simply be used."""

    code = "already_running"


def take_lock(paths: Paths, patience: float = PATIENCE) -> Lock:
    """The lock of this state directory; waits while the kernel that has it is leaving.

    Blocks; call it before there is an event loop or in a thread.

    Raises:
        AlreadyRunning: Another kernel has it and answers.
        KernelRunning: It has it and does not answer, for ``patience`` seconds.
    """
    lock = Lock(paths.lock)
    deadline = time.monotonic() + patience
    while True:
        try:
            lock.take()
        except KernelRunning as error:
            if answers(paths.socket):
                raise AlreadyRunning(error.what, error.why, error.hint) from error
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return lock


async def serve(
    paths: Paths,
    config: Config,
    *,
    ready: Callable[[Kernel], None],
    complete: Callable[[], None] | None = None,
    stop: anyio.Event | None = None,
    embedded: bool = False,
) -> str:
    """Run a kernel until it is asked to leave; gives the reason. The caller holds the lock.

    Args:
        ready: Called once clients can connect.
        complete: Called once everything is imported, some time later.
        stop: Set by the owner of this process to end the kernel.
        embedded: It lives in a client's process, and does not leave while that lives.

    Raises:
        AgentTopError: The kernel cannot start.
    """
    kernel = Kernel(paths, config, embedded=embedded)
    async with kernel.running():
        server = ControlServer(kernel.client(), paths.socket)
        async with server.running(), anyio.create_task_group() as tasks:
            ready(kernel)
            if not embedded:
                tasks.start_soon(_leave_when_idle, kernel, server, config.kernel.linger)
            tasks.start_soon(_leave_when_homeless, kernel, paths.state)
            tasks.start_soon(_complete, server, complete)
            if stop is not None:
                tasks.start_soon(_leave_when_told, kernel, stop)
            await kernel.finished.wait()
            tasks.cancel_scope.cancel()
        # Nobody can start an agent any more, so this is the last word on whether there are any.
        await _until_stopped(kernel)
        if kernel.idle:
            await kernel.doors.dismiss()
        log.info("leaving: %s", kernel.ending)
    return kernel.ending


async def _until_stopped(kernel: Kernel) -> None:
    """Let agents whose trees are gone already get their end into the journal."""
    with anyio.move_on_after(STOPPING):
        while any(not agent.over for agent in kernel.books.pending.agents.values()):
            if any(not agent.over and not agent.stopping for agent in kernel.books.pending.agents.values()):
                return
            await kernel.books.next_commit()


def cause(error: BaseException) -> BaseException:
    """The one failure in the bundle of a task group, for a person to read."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _complete(server: ControlServer, told: Callable[[], None] | None) -> None:
    """Import the rest of the control API when whoever started this kernel has what it came for."""
    await anyio.sleep(QUIET)
    await server.complete()
    if told is not None:
        told()


async def _leave_when_told(kernel: Kernel, stop: anyio.Event) -> None:
    await stop.wait()
    kernel.finish("asked to stop")


async def _leave_when_idle(kernel: Kernel, server: ControlServer, linger: float) -> None:
    """Leave after ``linger`` seconds in which nothing ran and nobody asked anything."""
    busy, served = time.monotonic(), -1
    while True:
        await anyio.sleep(min(1.0, max(linger / 5, 0.02)))
        activity = server.activity
        if activity.now or activity.served != served or not kernel.idle:
            busy, served = time.monotonic(), activity.served
        elif time.monotonic() - busy >= linger:
            kernel.finish("nothing was left to look after")
            return


async def _leave_when_homeless(kernel: Kernel, state: Path) -> None:
    """Leave when the state folder was removed: nothing can be kept, and nobody can find this kernel."""
    home = anyio.Path(state)
    while await home.exists():  # noqa: ASYNC110 - nobody tells; two seconds are soon enough
        await anyio.sleep(2.0)
    kernel.finish("the state folder was removed")
