"""The same contract for somebody who is not root, with each freeze mechanism in a subtree that is theirs.

A delegated subtree is simulated: root makes one, gives it to an unprivileged user id, and runs this
folder's suite again as that user, inside it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agenttop.backends import cgroups, mounts

from ..conftest import missing

USER = 61_234
HERE = Path(__file__).parent
OWN = "(test_subprocess_own or test_subprocess_groups)"
REPOSITORY = HERE.parent.parent
#: Long tests that do not differ from root's are left out; what touches mechanisms, signals and limits stays.
CHOSEN = (
    "freeze or freez or thaw or stop or kill or wait or adopt or run or limit or memory or start or stdin"
)


def interpreter() -> str:
    """A Python that the unprivileged user may run; the tests' own may lie in root's home."""
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        command = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", candidate, "-c"]
        # setpriv still has its rights when it execs: only the program can tell what it may do itself.
        same = f"sys.version_info[:2] == {sys.version_info[:2]!r}"
        check = f"import os, sys; sys.exit(not ({same} and os.access({candidate!r}, os.X_OK)))"
        if (
            os.path.exists(candidate)
            and not subprocess.run([*command, check], capture_output=True).returncode
        ):
            return candidate
    missing("user", "no interpreter of this version that an unprivileged user may run")
    raise AssertionError


@contextlib.contextmanager
def delegated(mechanism: str, name: str) -> Iterator[tuple[str | None, list[str]]]:
    """A subtree that belongs to the user: its folder, and the groups that a process must enter to use it."""
    found = mounts.current()
    place = {"cgroup2": found.v2, "cgroup1": found.v1.get("freezer")}.get(mechanism)
    if place is None:
        yield None, []
        return
    top = Path(place.mount, f"agenttop-test-{name}")
    inside = top / "kernel"
    try:
        inside.mkdir(parents=True)
        for folder in (top, inside):
            for entry in (folder, *folder.iterdir()):
                if entry == folder or entry.name.startswith(
                    ("cgroup.procs", "cgroup.threads", "cgroup.subtree")
                ):
                    os.chown(entry, USER, USER)
        yield str(top), [f"{inside}/cgroup.procs"]
    finally:
        cgroups.remove([str(top)])
        assert not top.exists(), cgroups.tree.group_pids(str(top))


@pytest.mark.root
@pytest.mark.parametrize("mechanism", cgroups.MECHANISMS)
def test_the_contract_holds_for_an_ordinary_user(mechanism: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("the suite beside this file runs as an ordinary user already")
    if shutil.which("setpriv") is None:
        missing("setpriv", "util-linux is not installed")
    if mechanism != "signal" and mechanism not in cgroups.choose(Path("/"), {}).mechanisms:
        missing(mechanism, "not on this machine")
    python = interpreter()
    folder = tempfile.mkdtemp(prefix="agenttop-user-", dir="/tmp")  # pytest's own is closed to others
    try:
        os.chown(folder, USER, USER)
        with delegated(mechanism, os.path.basename(folder)[-8:]) as (group, enter):
            done = run_suite(python, mechanism, folder, group, enter)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert " passed" in done.stdout
    finally:
        shutil.rmtree(folder)


def environment(folder: str) -> dict[str, str]:
    """What the user's processes get; everything of theirs lies in ``folder``."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": folder,
        "TMPDIR": folder,
        "PYTHONPATH": os.pathsep.join(
            [str(REPOSITORY / ".typing"), *(path for path in sys.path if "site-packages" in path)]
        ),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run_suite(
    python: str, mechanism: str, folder: str, group: str | None, enter: list[str]
) -> subprocess.CompletedProcess[str]:
    chosen = f"({mechanism} and ({CHOSEN})) or ({OWN} and ({CHOSEN}) and not signal)"
    tests = [str(HERE / f"test_subprocess{part}.py") for part in ("", "_own", "_groups")]
    command = [
        *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"),
        *(python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--basetemp={folder}/tmp"),
        *(f"--rootdir={REPOSITORY}", "-k", chosen, *tests),
    ]
    env = environment(folder)
    if group is not None:
        env["AGENTTOP_TEST_CGROUP"] = group
    entering = "".join(f"echo 0 > {path} && " for path in enter)
    return subprocess.run(
        ["sh", "-c", entering + 'exec "$@"', "sh", *command],
        cwd=REPOSITORY,
        env=env,
        capture_output=True,
        text=True,
        timeout=110,
    )
