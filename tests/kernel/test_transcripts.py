"""The kernel's reading of transcripts: when, by whom, for how long, and that nothing of it is left behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import psutil
import pytest

from agenttop.core.api import TranscriptRequest
from agenttop.core.budget.prices import Prices
from agenttop.core.embedded import EmbeddedClient
from agenttop.core.errors import AgentTopError, UsageError
from agenttop.core.observe.index.keeper import answer
from agenttop.core.paths import Paths
from agenttop.core.transcripts import Transcripts

from ..support.transcripts import START, Corpus

pytestmark = pytest.mark.anyio

PATIENCE = 60

#: A CLI of somebody else's: its reader never ends, or only where nobody waits for it.
SLOW = """
import os, time
from agenttop.core.observe.index.history import Root

class Calls:
    suffix = ".slow"
    calls, odd, facts, models, restart, state = {{}}, 0, {{}}, {{}}, False, {{}}
    def __init__(self, state=None):
        pass
    def feed(self, buffer, end):
        while {condition}:
            time.sleep(0.02)

class Observer:
    name, title = "slow", "Slow"
    def recognise(self, process):
        return False
    def roots(self, environ, home):
        return [Root("slow", home + "/slow", __name__ + ":Calls")]
    def join(self, processes):
        return {{}}
"""

Install = Callable[[str], None]


@pytest.fixture
def slow_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package that brings an observer whose reader works as long as a condition holds."""

    def install(condition: str) -> None:
        site, name = tmp_path / "site", f"slowcli_{tmp_path.name}"
        info = site / "slowcli-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text(SLOW.format(condition=condition))
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slowcli\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[agenttop.observers]\nslow = {name}:Observer\n")
        monkeypatch.syspath_prepend(site)
        monkeypatch.setenv("PYTHONPATH", str(site))
        (tmp_path / "slow").mkdir()
        for number in range(3):  # so large that several processes read them; they are holes
            with (tmp_path / "slow" / f"{number}.slow").open("wb") as file:
                file.write(b"line\n")
                file.truncate(20 << 20)

    return install


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path / "config", tmp_path / "state")
    made.make_state()
    return made


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    made = Corpus(tmp_path, 1, body=40, tools=60)
    made.claude_session("p", 10, START)
    made.codex_session(5, START)
    return made


@pytest.fixture
def transcripts(tmp_path: Path, paths: Paths) -> Transcripts:
    return Transcripts(paths, {"HOME": str(tmp_path)}, Prices())


def below(pid: int | None = None) -> list[psutil.Process]:
    """The keepers and readers among the descendants of a process."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if any("agenttop.core.observe." in word for word in child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


async def until(condition: Callable[[], object], what: str) -> None:
    with anyio.fail_after(PATIENCE):
        while not condition():
            await anyio.sleep(0.02)


def gone(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


async def test_the_sums_are_those_of_the_transcripts(transcripts: Transcripts, corpus: Corpus) -> None:
    report = await transcripts.report(TranscriptRequest(by=["agent"], timezone="UTC"))
    told = {row.keys[0]: [row.input, row.cache_read, row.cache_write, row.output] for row in report.rows}
    assert told == {agent: corpus.total(agent) for agent in ("claude", "codex")}
    assert report.total.calls == sum(corpus.calls.values())
    assert report.files == len(corpus.files)
    assert below() == []


async def test_a_kernel_in_this_process_answers_too(
    corpus: Corpus, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loop runs in a thread, where the end of a process is not told to loops."""
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    async with await EmbeddedClient.start(paths) as client:
        report = await client.transcripts(TranscriptRequest())
        checks = await client.agent_checks()
    assert report.total.calls == sum(corpus.calls.values())
    assert {check.level for check in checks if check.group == "Codex"} == {"ok"}
    assert below() == []


async def test_what_managed_agents_wrote_into_their_own_folders_is_there(
    transcripts: Transcripts, corpus: Corpus, paths: Paths, tmp_path: Path
) -> None:
    for number in range(10):
        made = Corpus(tmp_path / f"agent{number}", number + 2, body=40, tools=60)
        made.claude_session("p", 3, START, hard=False)
        (paths.agents / f"a{number}").mkdir()
        (made.home / ".claude").rename(paths.agents / f"a{number}" / "claude")
    (paths.agents / "stray").write_text("")
    report = await transcripts.report(TranscriptRequest())
    assert report.total.calls == sum(corpus.calls.values()) + 30
    said = [check for check in await transcripts.checks() if check.group == "Claude Code"]
    assert [check.found for check in said if check.name == "folders"] == ["5 more, of managed agents"]


async def test_nothing_is_read_before_somebody_asks_and_then_unasked_too(
    transcripts: Transcripts, corpus: Corpus, paths: Paths
) -> None:
    assert not await transcripts.catch_up()
    assert not paths.transcripts.exists()
    await transcripts.report(TranscriptRequest())
    corpus.claude_session("later", 5, START)
    assert await transcripts.catch_up()
    roots = [["claude", f"{corpus.home}/.claude/projects", "", "claude"]]
    question = {"index": str(paths.transcripts), "roots": roots, "processes": 1, "want": "reading"}
    done = answer(question)["refresh"]
    assert (done["files"], done["read"]) == (len(corpus.files) - 1, 0)


async def test_only_the_user_can_read_the_index(
    transcripts: Transcripts, corpus: Corpus, paths: Paths
) -> None:
    before = os.umask(0)
    try:
        await transcripts.report(TranscriptRequest())
    finally:
        os.umask(before)
    for file in paths.state.glob("transcripts.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_who_gives_up_leaves_no_process(
    transcripts: Transcripts, slow_cli: Install, corpus: Corpus
) -> None:
    slow_cli("True")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(transcripts.report, TranscriptRequest())
        await until(lambda: len(below()) >= 2, "a keeper and its readers")
        tasks.cancel_scope.cancel()
    assert below() == []


async def test_who_asks_does_not_wait_for_what_is_read_unasked(
    transcripts: Transcripts, slow_cli: Install, corpus: Corpus
) -> None:
    await transcripts.report(TranscriptRequest())
    slow_cli("os.sched_getscheduler(0) == os.SCHED_IDLE")
    caught_up: list[bool] = []

    async def catch_up() -> None:
        caught_up.append(await transcripts.catch_up())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(catch_up)
        await until(below, "a keeper")
        with anyio.fail_after(PATIENCE):
            report = await transcripts.report(TranscriptRequest())
    assert caught_up == [False]
    assert report.files == len(corpus.files) + 3
    assert await transcripts.catch_up(), "there was nothing left to read"


async def test_several_who_ask_at_once_get_the_same(transcripts: Transcripts, corpus: Corpus) -> None:
    totals = []

    async def ask() -> None:
        totals.append((await transcripts.report(TranscriptRequest())).total)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask)
    assert totals[0] == totals[1] == totals[2]
    assert totals[0].calls == sum(corpus.calls.values())


@pytest.fixture
def asking(tmp_path: Path, paths: Paths) -> Iterator[subprocess.Popen[bytes]]:
    """A process that asks, and waits for the answer."""
    script = (
        "import anyio; from pathlib import Path; from agenttop.core.paths import Paths;"
        "from agenttop.core.budget.prices import Prices; from agenttop.core.api import TranscriptRequest;"
        "from agenttop.core.transcripts import Transcripts;"
        f"paths = Paths(Path({str(paths.config)!r}), Path({str(paths.state)!r}));"
        f"asked = Transcripts(paths, {{'HOME': {str(tmp_path)!r}}}, Prices());"
        "anyio.run(asked.report, TranscriptRequest())"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_a_kernel_that_is_killed_takes_its_readers_along(
    slow_cli: Install, request: pytest.FixtureRequest
) -> None:
    slow_cli("True")
    process: subprocess.Popen[bytes] = request.getfixturevalue("asking")

    def started() -> bool:
        assert process.poll() is None, process.stderr and process.stderr.read()
        return len(below(process.pid)) >= 3

    wait_for(started, "a keeper and two readers")
    found = below(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: gone(found), "their end")


async def test_a_reading_process_that_dies_is_an_error_and_the_next_question_is_answered(
    transcripts: Transcripts, slow_cli: Install, corpus: Corpus, tmp_path: Path
) -> None:
    slow_cli(f"os.path.exists({str(tmp_path / 'wait')!r})")
    (tmp_path / "wait").touch()
    async with anyio.create_task_group() as tasks:

        async def kill() -> None:
            await until(lambda: len(below()) >= 2, "a keeper and its readers")
            keeper = next(one for one in below() if one.ppid() == os.getpid())
            os.kill(keeper.pid, signal.SIGKILL)

        tasks.start_soon(kill)
        with pytest.raises(AgentTopError, match="the transcripts cannot be read"):
            await transcripts.report(TranscriptRequest())
    (tmp_path / "wait").unlink()
    report = await transcripts.report(TranscriptRequest())
    assert report.total.calls == sum(corpus.calls.values())


async def test_a_zone_that_is_none_is_refused(transcripts: Transcripts) -> None:
    with pytest.raises(UsageError, match="Middle_Earth"):
        await transcripts.report(TranscriptRequest(timezone="Middle_Earth/Shire"))


async def test_an_observer_that_cannot_be_used_is_named(
    transcripts: Transcripts, slow_cli: Install, tmp_path: Path, corpus: Corpus
) -> None:
    slow_cli("False")
    (package,) = (tmp_path / "site").glob("*.py")
    package.write_text("raise RuntimeError('half written')")
    checks = await transcripts.checks()
    (found,) = [check for check in checks if check.group == "slow"]
    assert (found.level, found.name) == ("warn", "reader")
    assert "half written" in found.found
    assert any(check.group == "Claude Code" for check in checks)


async def test_a_reader_that_fails_is_named_and_the_others_go_on(
    transcripts: Transcripts, slow_cli: Install, corpus: Corpus
) -> None:
    slow_cli("1 / 0")
    report = await transcripts.report(TranscriptRequest())
    assert report.total.calls == sum(corpus.calls.values())
    failed = [check for check in await transcripts.checks() if check.group == "Slow"]
    assert [check.found for check in failed if check.level == "warn"] == 3 * [
        "ZeroDivisionError: division by zero"
    ]
