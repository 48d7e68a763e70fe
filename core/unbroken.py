"""Work that is carried to its end although whoever asked for it has left."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from .errors import KernelUnreachable

log = logging.getLogger(__name__)

T = TypeVar("T")


class Unbroken:
    """Runs verbs in the kernel's own task group.

    A verb is several steps (written down, done, proven). A client that is cancelled, hangs up or dies
    between two of them must not leave an agent half stopped or half started: only its waiting ends.
    """

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks

    async def __call__(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of ``work``, which goes on when the waiting for it is cancelled.

        Raises:
            KernelUnreachable: The kernel left before the work was done.
        """
        results: list[T] = []
        failures: list[Exception] = []
        done = anyio.Event()
        waiting = True

        async def carry() -> None:
            try:
                results.append(await work())
            except Exception as error:  # noqa: BLE001 - raised to whoever waits, or logged
                if not waiting:
                    log.warning("after its client had left: %s: %s", type(error).__name__, error)
                failures.append(error)
            finally:
                done.set()

        self._tasks.start_soon(carry, name="verb")
        try:
            await done.wait()
        finally:
            waiting = False
        if failures:
            raise failures[0]
        if not results:
            raise KernelUnreachable("the kernel left while this was done", "", "Ask again; the agents run on")
        return results[0]
