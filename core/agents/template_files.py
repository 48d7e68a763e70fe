"""Where templates are found, and how one is read: ours, those of installed packages, the user's.

A package offers the TOML files of one of its own packages by an entry point of the group
``agenttop.templates`` (``any-name = "mypackage.templates"``). Of several with one name the user's is
taken, then ours, then a package's: installing something does not change what ``claude`` means.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError, UsageError
from ..paths import Paths
from ..tomlfile import TomlFile, merged_over
from .template import Template

GROUP = "agenttop.templates"
BUILT_IN = Path(__file__).parent / "templates"

_OURS, _YOURS = "built-in", "yours"


class Source(NamedTuple):
    """Where a template comes from: ``built-in``, ``yours`` or the package; ``wrong``: why it has no file."""

    origin: str
    file: Path
    wrong: str = ""


def sources(paths: Paths) -> dict[str, Source]:
    """All templates by name, in the order of their names. Blocking."""
    found = dict(_of_packages())
    for origin, folder in ((_OURS, BUILT_IN), (_YOURS, paths.templates)):
        found |= {file.stem: Source(origin, file) for file in folder.glob("*.toml")}
    return dict(sorted(found.items()))


def source(paths: Paths, name: str) -> Source:
    """Where the template of this name is. Blocking.

    Raises:
        UsageError: There is none.
    """
    for origin, folder in ((_YOURS, paths.templates), (_OURS, BUILT_IN)):
        file = folder / f"{name}.toml"
        if "/" not in name and file.is_file():
            return Source(origin, file)
    found = _of_packages().get(name)
    if found is None:
        known = list(sources(paths))
        hint = _meant(name, known) or f"There are {', '.join(known)}"
        raise UsageError(f"there is no template {name}", hint=hint)
    return found


def read(paths: Paths, found: Source) -> tuple[Template, dict[str, Any]]:
    """A template, and what its file says with all it extends.

    ``extends = "NAME"`` takes everything from another template but what the file says itself; tables are
    joined key by key. One that extends its own name extends the one it takes the place of.

    Raises:
        ConfigError: Naming file, line and field.
    """
    if found.wrong:
        raise ConfigError(f"the templates of {found.origin} cannot be read", found.wrong)
    file, data = _whole(paths, found, ())
    if "name" in data:
        raise file.wrong(["name"], "a template is named by its file")
    return file.validate(Template, {**data, "name": found.file.stem}), data


def _whole(paths: Paths, found: Source, above: tuple[Path, ...]) -> tuple[TomlFile, dict[str, Any]]:
    try:
        file = TomlFile.read(found.file)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no template file {found.file}") from error
    data = dict(file.data)
    if "extends" not in data:
        return file, data
    name = data.pop("extends")
    if not isinstance(name, str):
        raise file.wrong(["extends"], "this is the name of a template")
    base = _base(paths, found, name)
    if base is None:
        known = [one for one in sources(paths) if one != found.file.stem]
        raise file.wrong(["extends"], f"there is no template {name}", hint=_meant(name, known))
    if base.wrong:
        raise file.wrong(["extends"], base.wrong)
    above = (*above, found.file)
    if base.file in above:
        way = " → ".join(path.stem for path in (*above, base.file))
        raise file.wrong(["extends"], f"templates extend each other in a circle: {way}")
    return file, merged_over(_whole(paths, base, above)[1], data)


def _base(paths: Paths, found: Source, name: str) -> Source | None:
    """What a file means by ``name``: never itself."""
    if name != found.file.stem:
        return sources(paths).get(name)
    ours = BUILT_IN / f"{name}.toml"
    if found.origin == _YOURS and ours.is_file():
        return Source(_OURS, ours)
    return _of_packages().get(name) if found.origin in (_YOURS, _OURS) else None


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"Did you mean {close[0]}?" if close else ""


@functools.cache
def _of_packages() -> Mapping[str, Source]:
    """What is installed, looked for once in the life of this process."""
    return of_packages(entry_points(group=GROUP))


def of_packages(points: Iterable[EntryPoint]) -> dict[str, Source]:
    """The templates these entry points offer; one that cannot be loaded stands there under its own name."""
    found: dict[str, Source] = {}
    for point in sorted(points, key=lambda point: point.name):
        origin = point.dist.name if point.dist is not None else point.name
        try:
            folder = Path(str(files(point.load())))
        except Exception as error:  # noqa: BLE001  # whatever somebody's package raises at its import
            found.setdefault(point.name, Source(origin, Path(point.value), f"{point.value}: {error!r}"))
            continue
        for file in sorted(folder.glob("*.toml")):
            found.setdefault(file.stem, Source(origin, file))
    return found
