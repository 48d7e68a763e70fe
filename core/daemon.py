"""The kernel as a process of its own: ``python -m agenttop.core.daemon --state DIR --config DIR``.

It leaves the session, terminal and cgroups of whoever started it, and reports on the descriptor
``--report`` either ``ready``, ``already`` (another kernel answers) or its error as JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import detach, pace
from .errors import AgentTopError
from .paths import Paths

if TYPE_CHECKING:
    from .config import Config


def main(argv: list[str] | None = None) -> int:
    """Become a daemon and run the kernel of the given state directory."""
    options = _parse(sys.argv[1:] if argv is None else argv)
    if not options.foreground:
        detach.become_daemon()
    # A starter that gave up must not end the kernel when it reports.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        _run(Paths(config=options.config, state=options.state), options.report, leave=not options.foreground)
    except Exception as error:
        from .service import cause

        found = cause(error)
        if isinstance(found, AgentTopError):
            return _failed(options.report, found)
        _failed(options.report, AgentTopError("the kernel cannot start", f"{type(found).__name__}: {found}"))
        raise
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="agenttop.core.daemon", allow_abbrev=False)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--report", type=int, default=None, help="file descriptor")
    parser.add_argument("--foreground", action="store_true", help="for service managers")
    return parser.parse_args(argv)


def _run(paths: Paths, report: int | None, *, leave: bool) -> None:
    # Imports make half a million objects that live for ever: no collector over them, now or later.
    gc.disable()
    paths.make_state()
    os.umask(0o077)
    from .service import AlreadyRunning, take_lock

    try:
        lock = take_lock(paths)
    except AlreadyRunning:
        _report(report, "already")
        return
    from . import config, log

    chosen = config.load(paths)
    log.to_file(paths.log, chosen.kernel.log_size, chosen.kernel.log_count, chosen.kernel.log_level)
    # A service manager knows its service by the cgroup.
    stayed = detach.leave_cgroups() if leave else []
    detach.raise_limits()
    _serve(paths, chosen, report, stayed)
    lock.release()


def _serve(paths: Paths, config: Config, report: int | None, stayed: list[str]) -> None:
    import logging

    import anyio

    from .kernel import Kernel
    from .service import serve

    logger = logging.getLogger(__name__)

    def ready(kernel: Kernel) -> None:
        pace.steady()
        _report(report, "ready")
        logger.info(
            "kernel %d answers at %s, gateway on port %d", os.getpid(), paths.socket, kernel.doors.port
        )
        for group in stayed:
            logger.info("could not leave cgroup %s", group)

    async def body() -> None:
        stop = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_signals, stop)
            await serve(paths, config, ready=ready, complete=gc.freeze, stop=stop)
            tasks.cancel_scope.cancel()

    anyio.run(body, backend_options={"use_uvloop": True})


async def _signals(stop: object) -> None:
    import anyio

    assert isinstance(stop, anyio.Event)
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        async for signum in received:
            if signum != signal.SIGHUP:  # a terminal that goes away is no reason to leave
                stop.set()


def _failed(report: int | None, error: AgentTopError) -> int:
    _report(report, json.dumps(error.to_dict()))
    if report is None:
        sys.stderr.write(f"agenttop: {error}\n")
    return error.exit_code


def _report(report: int | None, text: str) -> None:
    """Tell the starter, once; one that has given up meanwhile does not matter."""
    if report is None:
        return
    try:
        os.write(report, text.encode())
        os.close(report)
    except (BrokenPipeError, OSError):
        return


if __name__ == "__main__":
    sys.exit(main())
