"""What a template's program finds in its agent's folder before it runs for the first time."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from .template import Template
from .template_parts import filled


def furnish(
    template: Template, folder: Path, values: Mapping[str, str | None], *, home: str, share_login: bool
) -> None:
    """Make the template's folders, files and links in ``folder``; what is there stays. Blocking.

    A program changes its own settings, and a person may: they are written once in an agent's life.

    Args:
        values: For the placeholders in the files.
        home: The person's, in which the logins are that ``share_login`` lends.
    """
    for value in template.own.values():
        inside = value.removeprefix("{folder}/")
        if inside != value:
            made = folder / inside
            # What has an ending is a file the program makes itself.
            (made.parent if made.suffix else made).mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, source in template.login.items() if share_login else ():
        link = folder / path
        link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(at_home(source, home))
    for path, text in template.files.items():
        _write_once(folder / path, filled(text.lstrip("\n"), _escaped(values, path)) or "")


def at_home(source: str, home: str) -> str:
    """A path of the person's: what begins with ``~/`` lies in ``home``."""
    return os.path.join(home, source[2:]) if source.startswith("~/") else source


def home_of(said: str) -> str:
    """The person's home: what their environment says, or else the system."""
    if os.path.isabs(said):
        return said
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:  # an account without a name, as in containers
        return "/"


def _write_once(file: Path, text: str) -> None:
    if os.path.lexists(file):  # a link to a login that is not there yet is one, too
        return
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
    temporary.replace(file)


def _escaped(values: Mapping[str, str | None], path: str) -> dict[str, str | None]:
    """Values as they stand between quotes in this kind of file; TOML's strings escape as JSON's do."""
    if PurePosixPath(path).suffix not in (".json", ".toml"):
        return dict(values)
    return {name: None if value is None else json.dumps(value)[1:-1] for name, value in values.items()}
