"""Rollouts of a Codex thread's subagents: files of their own beside it, whose first line names their parent.

Source of the rules: Codex 0.169, run against a mock provider.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator

ROLLOUT = re.compile(r"(?:^|/)rollout-[0-9T-]+?-([0-9a-f]{8}-[0-9a-f-]{27})\.jsonl$")
_PARENT = re.compile(rb'"parent_thread_id":"([0-9a-f-]{36})"')
_NAMES = (re.compile(rb'"agent_nickname":"([^"\\]+)"'), re.compile(rb'"agent_path":"([^"\\]+)"'))
#: A folder of one day, as its path ends.
_DAY = re.compile(r"/\d{4}/\d\d/\d\d$")
#: So much of a rollout is looked at for its parent; instructions of some kilobytes follow after that.
_HEAD = 4096
#: Subagents that are followed.
_MOST = 64


class Spawned:
    """Looks for the rollouts of a thread's subagents, and of theirs, when a folder has changed.

    Attributes:
        found: Path and name of each by its thread's id, oldest first.
    """

    def __init__(self, thread: str, path: str) -> None:
        self._thread = thread
        self._folder, self._name = os.path.split(path)
        self._listed: dict[str, int] = {}
        self._seen: set[str] = {path}
        self.found: dict[str, tuple[str, str]] = {}

    def refresh(self) -> None:
        """Look for new ones; a folder that cannot be listed has none."""
        for folder in self._folders():
            try:
                changed = os.stat(folder).st_mtime_ns
                if changed == self._listed.get(folder):
                    continue
                names = sorted(os.listdir(folder))
            except OSError:
                continue
            self._listed[folder] = changed
            for name in names:  # they begin with the time: parents come before their children
                if name > self._name and f"{folder}/{name}" not in self._seen:
                    self._look(f"{folder}/{name}", name)

    def _folders(self) -> Iterator[str]:
        """Its own day's, and today's."""
        yield self._folder
        if _DAY.search(self._folder):
            today = self._folder[: -len("/YYYY/mm/dd")] + time.strftime("/%Y/%m/%d")
            if today != self._folder:
                yield today

    def _look(self, path: str, name: str) -> None:
        match = ROLLOUT.search(name)
        if match is None or len(self.found) >= _MOST:
            return
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return
        try:
            head = os.pread(descriptor, _HEAD, 0)
        except OSError:
            return
        finally:
            os.close(descriptor)
        if b"\n" not in head and len(head) < _HEAD:
            self._listed.clear()  # its first line is still being written
            return
        self._seen.add(path)
        parent = _PARENT.search(head)
        if parent is not None and (parent[1].decode() == self._thread or parent[1].decode() in self.found):
            names = [found[1].decode("utf-8", "replace") for name in _NAMES if (found := name.search(head))]
            self.found[match[1]] = (path, names[0] if names else match[1])
