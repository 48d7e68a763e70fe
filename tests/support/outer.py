"""A tmux of a person's own: a real terminal in front of what is tested, to type into and to look at."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..conftest import missing

#: Seconds; far more than anything takes.
PATIENCE = 60.0


def need_tmux() -> None:
    """Skip (or fail, see ``missing``) where there is no tmux."""
    if shutil.which("tmux") is None:
        missing("tmux", "it is not on the PATH")


class Outer:
    """One window with one program in it."""

    def __init__(self, folder: Path) -> None:
        self._socket = str(folder / "outer")

    def __call__(self, *arguments: str) -> str:
        """One tmux command; what it prints."""
        command = ["tmux", "-S", self._socket, "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout

    def shown(self) -> str:
        """What the window shows."""
        return self("capture-pane", "-p")

    def shows(self, text: str) -> bool:
        """Whether it shows this now."""
        return text in self.shown()

    def until(self, condition: Callable[[str], bool], what: str) -> str:
        """Look until the window is so; what it shows then."""
        end = time.monotonic() + PATIENCE
        while not condition(shown := self.shown()):
            assert time.monotonic() < end, f"{what} did not come about:\n{shown}"
            time.sleep(0.05)
        return shown

    def until_shows(self, *texts: str) -> str:
        """Look until all of these are shown."""
        return self.until(lambda shown: all(text in shown for text in texts), f"the text {texts}")

    def press(self, *keys: str) -> None:
        """Type keys by tmux's names."""
        self("send-keys", *keys)

    def type(self, text: str) -> None:
        """Type words as they are."""
        self("send-keys", "-l", text)


@contextmanager
def outer_tmux(folder: Path, command: str, size: tuple[int, int] = (100, 30)) -> Iterator[Outer]:
    """A terminal of this size in which ``command`` runs in ``folder``, until it is left."""
    need_tmux()
    outer = Outer(folder)
    width, height = map(str, size)
    outer("new-session", "-d", "-x", width, "-y", height, "-c", str(folder), command)
    try:
        yield outer
    finally:
        outer("kill-server")
