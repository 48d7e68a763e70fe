from __future__ import annotations

import logging
import os
import re
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.errors import AgentTopError
from agenttop.core.log import LineFormatter, Log, Redactor

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) +[\w.]+: .*")
logger = logging.getLogger("agenttop.test")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kernel.log"


@pytest.fixture
def log(path: Path) -> Iterator[Log]:
    with Log(path) as opened:
        yield opened


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_each_record_is_one_line_with_time_level_and_name(log: Log, path: Path) -> None:
    logger.info("started with %d agents", 3)
    logger.warning("second")
    assert [line.split(" ", 1)[1] for line in lines(path)] == [
        "INFO    agenttop.test: started with 3 agents",
        "WARNING agenttop.test: second",
    ]
    assert all(LINE.fullmatch(line) for line in lines(path))


def test_what_is_below_the_level_is_not_written(path: Path) -> None:
    with Log(path, level="warning"):
        logger.info("no")
        logger.error("yes")
    assert [line.split(": ")[1] for line in lines(path)] == ["yes"]


def test_control_characters_and_line_ends_are_escaped(log: Log, path: Path) -> None:
    logger.info("name %s", "evil\nINFO forged\x1b[2J\x9b\u2028\ttab")
    (line,) = lines(path)
    assert line.endswith(r"name evil\nINFO forged\u001b[2J\u009b\u2028\ttab")


def test_text_that_is_not_unicode_is_escaped_too() -> None:
    # Not through a logger: pytest reports what it captured there, and cannot encode it.
    record = logging.makeLogRecord(
        {"msg": "file %s", "args": ("caf\udce9",), "name": "n", "levelname": "INFO"}
    )
    assert LineFormatter(Redactor()).format(record).endswith(r"file caf\udce9")


def test_a_traceback_stays_on_the_line_of_its_record(log: Log, path: Path) -> None:
    try:
        raise ValueError("deep")
    except ValueError:
        logger.exception("failed")
    (line,) = lines(path)
    assert r"failed\nTraceback (most recent call last):\n" in line
    assert line.endswith("ValueError: deep")


def test_secrets_in_paths_and_keys_made_known_are_not_written(log: Log, path: Path) -> None:
    log.hide("sk-ant-key", "sk-ant-key-longer")
    logger.info(
        "GET /a/0123456789abcdef/anthropic/v1/messages with %s and %s", "sk-ant-key-longer", "sk-ant-key"
    )
    try:
        raise ValueError("bad key sk-ant-key")
    except ValueError:
        logger.exception("refused")
    text = path.read_text()
    assert "GET /a/[secret]/anthropic/v1/messages with [secret] and [secret]\n" in text
    assert "sk-ant" not in text
    assert "0123456789abcdef" not in text


def test_words_too_short_to_be_keys_hide_nothing() -> None:
    redactor = Redactor()
    redactor.hide("", "a")
    assert redactor.clean("a banana") == "a banana"
    assert "a" not in repr(redactor).replace("Redactor", "").replace("secrets", "")


@given(st.text(max_size=40), st.text(min_size=6, max_size=12), st.text(max_size=40))
def test_no_secret_survives_and_no_record_breaks_its_line(before: str, secret: str, after: str) -> None:
    redactor = Redactor()
    redactor.hide(secret)
    values = {"msg": "%s%s%s", "args": (before, secret, after), "name": "n", "levelname": "INFO"}
    text = LineFormatter(redactor).format(logging.makeLogRecord(values))
    assert len(text.splitlines()) == 1
    assert secret not in redactor.clean(before + secret + after) or secret in "[secret]"


def test_the_file_is_private_whatever_the_umask_and_also_after_rotation(path: Path) -> None:
    old = os.umask(0)
    try:
        with Log(path, size=5_000, count=2):
            for number in range(300):
                logger.info("%d %s", number, "x" * 80)
    finally:
        os.umask(old)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["kernel.log", "kernel.log.1", "kernel.log.2"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert all(file.stat().st_size <= 5_000 for file in files)
    assert lines(path)[-1].split(": ")[1].startswith("299 ")


def test_a_file_that_others_could_read_is_made_private(path: Path) -> None:
    path.touch()
    path.chmod(0o644)
    with Log(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_closing_leaves_logging_as_it_was_found(path: Path) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    log = Log(path, level="debug")
    log.close()
    log.close()
    assert (root.level, list(root.handlers)) == before


def test_warnings_go_to_the_log(log: Log, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("careful", UserWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert "careful" in path.read_text()


def test_a_log_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(AgentTopError, match="cannot write the log"):
        Log(tmp_path / "nowhere" / "kernel.log")


FULL = """
import logging, resource, sys
from pathlib import Path
from agenttop.core.log import Log
path = Path(sys.argv[1])
most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
with Log(path) as log:
    logging.info("first")
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, most))
    for number in range(5):
        logging.info("lost %d", number)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    logging.info("after")
"""


def test_a_full_disk_costs_lines_and_says_how_many_and_never_writes_to_stderr(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert [line.split(": ", 1)[1] for line in lines(path)] == [
        "first",
        "5 records could not be written",
        "after",
    ]


def test_stderr_is_written_to_only_when_asked(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Log(path, stderr=True) as log:
        log.hide("top-secret")
        logger.info("top-secret thing")
    with Log(path):
        logger.info("quiet")
    captured = capsys.readouterr().err
    assert "[secret] thing" in captured
    assert "quiet" not in captured


DAEMON = """
import logging, os, sys
from pathlib import Path
from agenttop.core import log
log.to_file(Path(sys.argv[1]), 2_000, 2, "info").hide("sk-ant-key")
for number in range(60):
    logging.info("%d %s", number, "x" * 80)
os.write(2, b"the interpreter itself\\n")
raise ValueError("not caught, with sk-ant-key")
"""


def test_a_kernel_of_its_own_logs_its_stderr_and_what_ended_it_into_the_current_file(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DAEMON, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "kernel.log",
        "kernel.log.1",
        "kernel.log.2",
    ]
    text = "".join(lines(path))
    assert "the interpreter itself" in text
    assert "the kernel ended" in text
    assert "ValueError: not caught, with [secret]" in text


def test_stderr_is_given_back_when_the_log_is_closed(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Log(path, take_stderr=True):
        os.write(2, b"into the log\n")
    os.write(2, b"onto the terminal\n")
    assert capfd.readouterr().err == "onto the terminal\n"
    assert lines(path) == ["into the log"]


def test_many_threads_write_whole_lines(log: Log, path: Path) -> None:
    def work(name: int) -> None:
        for number in range(50):
            logger.info("%d %d", name, number)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(path)) == 400
    assert all(LINE.fullmatch(line) for line in lines(path))
