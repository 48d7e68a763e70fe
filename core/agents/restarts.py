"""The restart policy: what follows the end of a run. Pure, so that every case can be tested.

After supervisord: a run's start counts after ``start_seconds`` (``RunReady``), which forgets earlier
failures; failures in a row are waited out with exponential back-off; after ``max_restarts`` of them
the agent stays in error. A run that ends by itself before its start counts is a failure for policy
``always`` even with status 0: a program that ends at once is not restarted for ever.
"""

from __future__ import annotations

from typing import Literal

from ..backend import Exit
from ..journal.events import RestartGivenUp, RestartScheduled, RunExited
from .agent import Agent, Run
from .spec import RestartMode

Cause = Literal["exit", "start_failed", "reboot", "lost"]

#: The end of a run, and what follows it; committed together, so that no crash comes between.
Ending = tuple[RunExited] | tuple[RunExited, RestartScheduled] | tuple[RunExited, RestartGivenUp]


def ending(
    agent: Agent,
    run: Run,
    ended: Exit,
    cause: Cause,
    now: float,
    stopping: Literal["stop", "kill"] | None = None,
) -> Ending:
    """The events that record the end of ``agent``'s live run at ``now`` (wall clock).

    ``stopping`` tells of a stop that the journal could not take when it was asked for.
    """
    stopping = agent.stopping or stopping
    known: Literal["stopped", "killed"] | Cause = cause
    if stopping is not None and cause == "exit":
        known = "killed" if stopping == "kill" else "stopped"
    exited = RunExited(
        agent=agent.id,
        run=run.number,
        code=ended.code,
        signal=ended.signal,
        cause=known,
        detail=ended.detail,
        failed=ended.failed and stopping is None,
        seconds=max(0.0, now - run.starting),
    )
    policy = agent.spec.restart
    if stopping is not None or policy.policy is RestartMode.NEVER:
        return (exited,)
    if policy.policy is RestartMode.ON_FAILURE and not exited.failed:
        return (exited,)
    counts = exited.failed or not run.ready
    failures = agent.failures + counts
    if failures > policy.max_restarts:
        return exited, RestartGivenUp(agent=agent.id, failures=failures)
    at = now + policy.delay(max(failures, 1))
    return exited, RestartScheduled(agent=agent.id, at=at, failures=failures)
