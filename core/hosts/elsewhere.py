"""Requests made on one machine and meant for another: whose environment and folders they speak of."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..agents.spec import AgentSpec
    from ..api import FleetRequest, RunRequest
    from .dial import There


def moved_run(request: RunRequest, there: There | None) -> RunRequest:
    """The request with the login's environment there, and a folder there; as it is, for this machine."""
    if there is None:
        return request
    return request.model_copy(update={"spec": _spec(request.spec, there), "environ": there.environ})


def moved_fleet(request: FleetRequest, there: There | None) -> FleetRequest:
    """The same for a fleet."""
    if there is None:
        return request
    specs = [_spec(spec, there) for spec in request.specs]
    return request.model_copy(update={"specs": specs, "environ": there.environ})


def _spec(spec: AgentSpec, there: There) -> AgentSpec:
    if spec.backend == "docker":
        return spec
    return spec.model_copy(update={"cwd": _folder(spec.cwd, there.home)})


def _folder(cwd: str | None, home: str) -> str:
    """A folder over there: as ssh does, from the home folder on."""
    if cwd is None or cwd == "~":
        return home
    return posixpath.join(home, cwd.removeprefix("~/"))
