"""The verbs about the agent CLIs' own transcripts: what they say of the past, and what was not understood.

Nothing is read before somebody asks for the first time: a kernel that is started to run one agent has no
business with a gigabyte of conversations. Who has asked once will ask again, and the CLIs delete their
transcripts after some weeks: from then on each kernel reads what is new some time after its start and then
a few times a day, one file at a time, on a processor nobody else wants. Whoever asks meanwhile does not
wait for that: it is stopped, what it has read is kept, and the rest is read at full speed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import orjson

from .api import CheckInfo, TranscriptReport, TranscriptRequest
from .budget.prices import Prices
from .errors import AgentTopError, UsageError, from_dict
from .observe.contract import Oddities, observers
from .observe.index.reporting import checks, report
from .observe.index.roots import all_roots
from .observe.index.summing import Wish, zone
from .observe.pricing import Pricing
from .paths import Paths

log = logging.getLogger(__name__)

#: Seconds after the start in which nothing is read unasked: screens get their rows, runs are adopted.
QUIET = 10.0
#: Seconds between two readings unasked.
EVERY = 6 * 3600.0
#: At most so many processes read at once.
_READERS = 4
#: Of what a reading process complained, at most so many bytes.
_SAID = 1 << 16


class Transcripts:
    """Owns the scan index: everything that reads or writes it goes through here, one after the other.

    Args:
        environ: Says where the transcripts of whoever started this kernel lie.
        live: What the readers of running sessions did not understand, by CLI.
    """

    def __init__(
        self,
        paths: Paths,
        environ: Mapping[str, str],
        prices: Prices,
        live: Callable[[], Mapping[str, Oddities]] = dict,
    ) -> None:
        self._paths = paths
        self._environ = environ
        self._prices = prices
        self._live = live
        self._turn = anyio.Lock()
        self._unasked: anyio.CancelScope | None = None

    async def run(self) -> None:
        """Keep the index up to date unasked; a task of the kernel's."""
        pause = QUIET
        while True:
            await anyio.sleep(pause)
            pause = EVERY
            await self.catch_up()

    async def catch_up(self) -> bool:
        """Read what is new unasked, if anybody ever asked; whether that came to its end."""
        if not await anyio.Path(self._paths.transcripts).exists():
            return False
        async with self._turn:
            with anyio.CancelScope() as self._unasked:
                try:
                    await self._ask(want="reading", low=True, processes=1)
                except AgentTopError as error:
                    log.warning("%s", error)
                    return False
                finally:
                    self._unasked = None
                return True
        return False

    async def report(self, request: TranscriptRequest) -> TranscriptReport:
        """Sums over the calls in all transcripts, after what is new in them was read.

        Raises:
            AgentTopError: They cannot be read; the time zone, or a CLI, is not known.
        """
        zone(request.timezone)
        await anyio.to_thread.run_sync(_refuse_unknown, request.agents)
        wish = Wish(
            by=[*request.by],
            agents=request.agents,
            projects=request.projects,
            since=request.since,
            until=request.until,
            timezone=request.timezone,
        )
        told = await self._asked(want="sums", wish=wish._asdict(), environ=request.environ)
        await self._prices.ready()
        return await anyio.to_thread.run_sync(report, told, request, Pricing(self._prices))

    async def checks(self) -> list[CheckInfo]:
        """What was found of each CLI, and what was not understood; in groups, one of each CLI.

        Raises:
            AgentTopError: The transcripts cannot be read.
        """
        told = await self._asked(want="checks")
        found, failed = await anyio.to_thread.run_sync(observers)
        titles = {name: observer.title for name, observer in found.items()}
        return checks(told["checks"], titles, failed, self._live())

    async def _asked(self, *, environ: Mapping[str, str] | None = None, **question: Any) -> dict[str, Any]:
        if self._unasked is not None:
            self._unasked.cancel()
        async with self._turn:
            readers = min(os.cpu_count() or 1, _READERS)
            return await self._ask(**question, environ=environ, low=False, processes=readers)

    async def _ask(self, *, environ: Mapping[str, str] | None = None, **question: Any) -> dict[str, Any]:
        roots = await anyio.to_thread.run_sync(self._roots, environ or {})
        keeper = await anyio.to_thread.run_sync(_Keeper, self._paths)
        try:
            asked = {"index": str(self._paths.transcripts), "roots": roots, **question}
            return await anyio.to_thread.run_sync(partial(keeper.ask, asked), abandon_on_cancel=True)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(keeper.end)

    def _roots(self, environ: Mapping[str, str]) -> list[list[str]]:
        found, _ = observers()
        wheres = [(self._environ, _home(self._environ))]
        if environ:
            wheres.append((environ, _home({**self._environ, **environ})))
        return [[*root, name] for root, name in all_roots(found, wheres, self._paths).items()]


def _refuse_unknown(agents: Sequence[str]) -> None:
    found, failed = observers()
    for name in agents:
        if name not in found and name not in failed:
            raise UsageError(f"there is no agent CLI {name} here", hint=f"Take {', '.join(sorted(found))}")


def _home(environ: Mapping[str, str]) -> str:
    if home := environ.get("HOME"):
        return home
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/"


class _Keeper:
    """The process that reads, and its own readers; see ``observe.index.keeper``. All of this blocks."""

    def __init__(self, paths: Paths) -> None:
        self._asking, self._ending = threading.Lock(), threading.Lock()
        # The file is made here, so that nobody else can ever read it, whatever the umask.
        os.close(os.open(paths.transcripts, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        # It ends when the other end of this pipe is closed: when we end it, and when we are killed.
        inner, self._life = os.pipe()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (no pipe: its readers hold it, too)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "agenttop.core.observe.index.keeper", str(inner)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                pass_fds=[inner],
                process_group=0,
            )
        except BaseException:
            os.close(self._life)
            self._said.close()
            raise
        finally:
            os.close(inner)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer.

        Raises:
            AgentTopError: The one it answered, or how it ended without an answer.
        """
        with self._asking:
            try:
                self._in.write(orjson.dumps(question))
                self._in.close()
                out = self._out.read()
            except BrokenPipeError:
                out = b""
            self._end_group()
            self._said.seek(0)
            said = self._said.read(_SAID).decode(errors="replace").strip().splitlines()
        try:
            told: dict[str, Any] = orjson.loads(out)
        except ValueError:
            status = self._process.returncode
            why = said[-1] if said else f"The reading process ended with status {status}"
            raise AgentTopError("the transcripts cannot be read", why) from None
        if "error" in told:
            raise from_dict(told["error"])
        return told

    def end(self) -> None:
        """End it and its readers, if they have not ended, and wait for that."""
        self._end_group()
        os.close(self._life)
        with self._asking:  # whoever was given up sees their ends now
            with contextlib.suppress(BrokenPipeError):  # a question that it never took
                self._in.close()
            self._out.close()
            self._said.close()

    def _end_group(self) -> None:
        with self._ending:
            if self._process.returncode is None:  # not waited for, so the number is nobody else's
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
