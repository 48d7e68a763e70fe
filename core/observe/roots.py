"""Where the transcripts of this machine's agent CLIs lie, those of managed agents among them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from ..agents import templates
from ..errors import AgentTopError
from ..paths import Paths
from .contract import Observer
from .history import Root


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
    own = _own(paths)
    try:
        folders = [entry.path for entry in os.scandir(paths.agents)]
    except FileNotFoundError:
        return
    for folder in folders:
        for variables in own:
            environ = {name: value.replace("{folder}", folder) for name, value in variables.items()}
            for name, observer in observers.items():
                for root in observer.roots(environ, folder):
                    if root.path.startswith(f"{folder}/") and os.path.exists(root.path):
                        yield root, name


def _own(paths: Paths) -> list[dict[str, str]]:
    """The variables by which templates give agents folders of their own."""
    found: dict[str, dict[str, str]] = {}
    for name in templates.names(paths):
        try:
            found[name] = templates.get(paths, name).own
        except AgentTopError:  # its user is told wherever it is used
            continue
    return [dict(items) for items in {tuple(own.items()) for own in found.values() if own}]
