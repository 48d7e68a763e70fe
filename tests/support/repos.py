"""Real git repositories for tests: made by git, in a folder of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.conftest import missing

#: Whoever commits is nobody, and no configuration but the repository's own is read.
ENVIRON = {
    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "nobody",
    "GIT_AUTHOR_EMAIL": "nobody@example.invalid",
    "GIT_COMMITTER_NAME": "nobody",
    "GIT_COMMITTER_EMAIL": "nobody@example.invalid",
}


def need_git() -> None:
    """Skip (or fail, where it is required) on a machine without git."""
    if shutil.which("git") is None:
        missing("git", "it is not installed")


class Repo:
    """One repository with a working tree."""

    def __init__(self, path: Path, *, bare: bool = False, commit: bool = True) -> None:
        need_git()
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self("init", "-q", "-b", "main", *(["--bare"] if bare else []))
        if not bare:
            self("config", "user.name", "nobody")
            self("config", "user.email", "nobody@example.invalid")
            if commit:
                self.write("README", "hello\n")
                self.write("src/app.py", "print('hello')\n")
                self.commit("first")

    def __call__(self, *arguments: str, cwd: Path | str | None = None) -> str:
        """What git answers, without the last newline."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=cwd or self.path,
            env=ENVIRON,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout.rstrip("\n")

    def write(self, name: str, text: str, *, top: Path | str | None = None) -> Path:
        """Write a file, with its folders."""
        path = Path(top or self.path, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def commit(self, message: str, *, top: Path | str | None = None) -> str:
        """Commit everything; gives the commit."""
        self("add", "-A", cwd=top)
        self("commit", "-q", "--allow-empty", "-m", message, cwd=top)
        return self("rev-parse", "HEAD", cwd=top)

    def branches(self) -> set[str]:
        """All local branches."""
        return set(self("for-each-ref", "--format=%(refname:short)", "refs/heads").split())

    def worktrees(self) -> list[str]:
        """The working trees that git knows, the first one's included."""
        lines = self("worktree", "list", "--porcelain").splitlines()
        return [line.removeprefix("worktree ") for line in lines if line.startswith("worktree ")]
