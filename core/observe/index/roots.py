"""Where the transcripts of this machine's agent CLIs lie, those of managed agents among them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from ...agents import templates
from ...errors import AgentTopError
from ...paths import Paths
from ..contract import Observer
from .history import Root

#: Stands for an agent's folder.
_FOLDER = "/{folder}"


def all_roots(
    observers: Mapping[str, Observer], wheres: Iterable[tuple[Mapping[str, str], str]], paths: Paths
) -> dict[Root, str]:
    """Every folder that may have transcripts, and whose: the observer's name. Blocks.

    Args:
        wheres: Environments that say where, each with the home that is meant where they do not.
    """
    found: dict[Root, str] = {}
    for environ, home in wheres:
        for name, observer in observers.items():
            found.update(dict.fromkeys(observer.roots(environ, home), name))
    for root, name in _managed(observers, paths):
        found.setdefault(root, name)
    return found


def _managed(observers: Mapping[str, Observer], paths: Paths) -> Iterable[tuple[Root, str]]:
    """Those in managed agents' own folders, which their templates give them."""
    patterns = _patterns(observers, paths)
    try:
        folders = [entry.path for entry in os.scandir(paths.agents)]
    except FileNotFoundError:
        return
    for folder in folders:
        try:
            there = set(os.listdir(folder))
        except OSError:  # removed meanwhile, or no folder
            continue
        for first, root, name in patterns:
            if first in there and os.path.exists(path := root.path.replace(_FOLDER, folder, 1)):
                yield root._replace(path=path), name


def _patterns(observers: Mapping[str, Observer], paths: Paths) -> list[tuple[str, Root, str]]:
    """The same for any agent, with ``_FOLDER`` for its folder, and what must be in that first."""
    found: dict[Root, str] = {}
    for variables in _own(paths):
        environ = {name: value.replace("{folder}", _FOLDER) for name, value in variables.items()}
        for name, observer in observers.items():
            roots = observer.roots(environ, f"{_FOLDER}/home")
            found.update((root, name) for root in roots if root.path.startswith(f"{_FOLDER}/"))
    return [(root.path.split("/")[2], root, name) for root, name in found.items()]


def _own(paths: Paths) -> list[dict[str, str]]:
    """The variables by which templates give agents folders of their own."""
    found: dict[str, dict[str, str]] = {}
    for name in templates.names(paths):
        try:
            found[name] = templates.get(paths, name).own
        except AgentTopError:  # its user is told wherever it is used
            continue
    return [dict(items) for items in {tuple(own.items()) for own in found.values() if own}]
