"""A kernel's containers: found by their labels, and proven by them to be the run that is meant."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agenttop.core.backend import Launch, Process, RunRef
from agenttop.core.errors import BackendError

from . import docker_container as container_of
from .docker_engine import Engine, EngineRefused


class Containers:
    """dockerd's view of the containers of one state folder.

    Every method may raise ``BackendUnavailable`` (dockerd is away) and ``EngineRefused``; the parameter
    ``doing`` is what the error then says could not be done.
    """

    def __init__(self, engine: Engine, state: Path) -> None:
        self._engine = engine
        self._state = state
        self.state_label = container_of.state_label(state)

    async def find(self, launch: Launch) -> dict[str, Any] | None:
        """The run's container by its labels, whatever its name; ``None`` if there is none."""
        labels = container_of.labels(launch, self._state)
        wanted = [f"{key}={labels[key]}" for key in (container_of.LABEL_RUN, container_of.LABEL_STATE)]
        filters = json.dumps({"label": wanted})
        doing = f"cannot look for {launch.spec.name}"
        found = await self._engine.json(
            "GET", "containers/json", doing, params={"all": "1", "filters": filters}
        )
        try:
            return await self.by_id(found[0]["Id"], doing) if found else None
        except EngineRefused as refusal:
            if refusal.answer == 404:
                return None
            raise

    async def by_id(self, container: str, doing: str) -> dict[str, Any]:
        """dockerd's ``containers/ID/json``."""
        return dict(await self._engine.json("GET", f"containers/{container}/json", doing))

    async def inspect(self, ref: RunRef, doing: str) -> dict[str, Any]:
        """dockerd's view of a run, proven by its labels to be that run.

        Raises:
            BackendError: The container is another run's.
        """
        info = await self.by_id(ref["container"], doing)
        labels = info["Config"]["Labels"]
        expected = {container_of.LABEL_RUN: ref["run"], container_of.LABEL_STATE: self.state_label}
        if any(labels.get(key) != value for key, value in expected.items()):
            raise BackendError(doing, f"Container {ref['name']} is not this run's")
        return info

    async def live(self, ref: RunRef, doing: str) -> dict[str, Any]:
        """The same of a run that lives.

        Raises:
            BackendError: It has ended, or its container was removed.
        """
        try:
            info = await self.inspect(ref, doing)
        except EngineRefused as refusal:
            if refusal.answer != 404:
                raise
            raise BackendError(doing, "Its container was removed") from refusal
        if not is_live(info):
            raise BackendError(doing, "The run has ended")
        return info

    async def create(self, launch: Launch, body: dict[str, Any], doing: str) -> str:
        """Make the run's container; its id."""
        names = container_of.names(launch, self._state)
        path = "containers/create"
        try:
            made = await self._engine.json("POST", path, doing, params={"name": names[0]}, body=body)
        except EngineRefused as refusal:
            if refusal.answer != 409:
                raise
            # Another kernel's container has the name, or a stranger's: not ours to touch.
            made = await self._engine.json("POST", path, doing, params={"name": names[1]}, body=body)
        return str(made["Id"])

    async def post(self, ref: RunRef, verb: str, doing: str, **params: str) -> None:
        """One of dockerd's verbs on a run's container: ``pause``, ``unpause``, ``kill``."""
        await self._engine.json("POST", f"containers/{ref['container']}/{verb}", doing, params=params)

    async def remove(self, container: str, *, force: bool = False) -> None:
        """Remove a container; harmless if it is gone or going."""
        path, params = f"containers/{container}", {"force": "1" if force else "0", "v": "1"}
        try:
            await self._engine.json("DELETE", path, "cannot remove a container", params=params)
        except EngineRefused as refusal:
            gone = refusal.answer == 404
            going = refusal.answer == 409 and "in progress" in refusal.why
            if not gone and not going:
                raise

    async def top(self, ref: RunRef) -> list[Process]:
        """``docker top``: the processes where their cgroup cannot be read; without start times and CPU."""
        params = {"ps_args": "-o pid,ppid,stat,rss,args"}
        answer = await self._engine.json(
            "GET", f"containers/{ref['container']}/top", "cannot list", params=params
        )
        return [
            Process(int(row[0]), int(row[1]), 0, row[2][:1], 0.0, int(row[3]) * 1024, row[4])
            for row in answer["Processes"]
        ]


def is_live(info: Mapping[str, Any]) -> bool:
    """Whether it runs (or is paused)."""
    return bool(info["State"]["Running"])
