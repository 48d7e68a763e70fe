"""The gateway's door for those who may use Docker but are not root: opened by a sidecar container.

A container that shares the agent's network namespace binds the listener there and hands the socket to
the kernel through a Unix socket (SCM_RIGHTS), as a thread of a kernel that is root would have opened it.
A socket belongs to the namespace it was made in for good: the sidecar ends at once, nothing stands
between the agent and the gateway afterwards, and nothing is forwarded.

Nothing of the agent's image runs in the sidecar. Its own image is empty; the program is this machine's
Python, with the folders it needs mounted read-only.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import socket
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from agenttop.core.errors import BackendError

from .docker_container import LABEL_STATE
from .docker_engine import Engine, EngineRefused

#: Seconds a sidecar may take from its start to its socket.
PATIENCE = 30.0
LABEL = "agenttop.door"
_INSIDE = "/agenttop"
_FOLDERS = ("/usr", "/lib", "/lib64", "/lib32")
_PROGRAM = """
import socket, sys
near = socket.socket(socket.AF_UNIX)
near.connect(sys.argv[2])
try:
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind(("127.0.0.1", int(sys.argv[1])))
    door.listen(512)
except OSError as error:
    near.sendall(str(error).encode())
else:
    socket.send_fds(near, [b"door"], [door.fileno()])
near.recv(1)
"""


def interpreter() -> str:
    """The Python that runs in the sidecar: the one below this virtual environment, if this is one."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


async def listen(
    engine: Engine, container: str, port: int, folder: Path, state: str, *, rootless: bool
) -> socket.socket:
    """A listener on 127.0.0.1:``port`` inside ``container``.

    Args:
        folder: A folder of the kernel's where the Unix socket can lie; its path is short.
        state: The label that makes the sidecar findable as this kernel's.
        rootless: dockerd runs as an ordinary user, whose user 0 is that user outside.

    Raises:
        BackendError: The sidecar could not be started, or could not bind.
    """
    name = f"agenttop-door-{secrets.token_hex(6)}"
    doing = f"cannot open the gateway's door of container {container[:12]}"
    with _meeting(folder, name, doing) as (near, path):
        image = await engine.load_image(empty_image(), doing, f"LABEL {LABEL}={state}")
        try:
            body = _config(image, container, port, path, state, rootless=rootless)
            made = await engine.json(
                "POST", "containers/create", doing, params={"name": name}, body=body, patience=PATIENCE
            )
            try:
                await engine.json("POST", f"containers/{made['Id']}/start", doing, patience=PATIENCE)
                return await _receive(near, port, doing)
            finally:
                with anyio.CancelScope(shield=True):
                    await _remove(engine, f"containers/{made['Id']}")
        finally:
            with anyio.CancelScope(shield=True):
                await _remove(engine, f"images/{image}")


@contextmanager
def _meeting(folder: Path, name: str, doing: str) -> Iterator[tuple[socket.socket, Path]]:
    """Where the sidecar finds the kernel: a listening Unix socket in a folder of its own."""
    place = folder / name
    path = place / "s"
    try:
        place.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise BackendError(doing, f"{error.filename}: {error.strerror}") from error
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as near:
            try:
                near.bind(str(path))
            except OSError as error:
                raise BackendError(doing, f"{path}: {error}") from error
            near.listen(1)
            near.setblocking(False)
            yield near, place
    finally:
        path.unlink(missing_ok=True)
        place.rmdir()


def _config(
    image: str, container: str, port: int, place: Path, state: str, *, rootless: bool
) -> dict[str, Any]:
    python = interpreter()
    folders = [*_FOLDERS, sys.base_prefix, os.path.dirname(python)]
    mounts = [
        {"Type": "bind", "Source": source, "Target": source, "ReadOnly": True} for source in _needed(folders)
    ]
    mounts.append({"Type": "bind", "Source": str(place), "Target": _INSIDE, "ReadOnly": False})
    return {
        "Image": image,
        "Entrypoint": [python, "-I", "-S", "-B", "-c", _PROGRAM, str(port), f"{_INSIDE}/s"],
        "Cmd": [],
        "User": "0:0" if rootless else f"{os.geteuid()}:{os.getegid()}",
        "Labels": {LABEL: container, LABEL_STATE: state},
        "HostConfig": {
            "NetworkMode": f"container:{container}",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "ReadonlyRootfs": True,
            "PidsLimit": 8,
            "Memory": 256 << 20,
            "LogConfig": {"Type": "none", "Config": {}},
            "Mounts": mounts,
        },
    }


def _needed(folders: list[str]) -> list[str]:
    """Those that exist, without those that lie below another."""
    found = [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]
    return [one for one in found if not any(one.startswith(f"{other}/") for other in found)]


async def _receive(near: socket.socket, port: int, doing: str) -> socket.socket:
    """The socket the sidecar hands over, proven to be what was asked for."""
    with anyio.move_on_after(PATIENCE):
        await anyio.wait_readable(near)
        connection, _ = near.accept()
        with connection:
            connection.setblocking(False)
            await anyio.wait_readable(connection)
            data, handed, _, _ = socket.recv_fds(connection, 4096, 1)
            if not handed:
                why = data.decode("utf-8", "replace").strip() or "The sidecar ended without a word"
                raise BackendError(doing, why)
            return _proven(socket.socket(fileno=handed[0]), port, doing)
    raise BackendError(doing, f"The sidecar did not answer within {PATIENCE:g} s")


def _proven(listener: socket.socket, port: int, doing: str) -> socket.socket:
    try:
        good = (
            listener.family == socket.AF_INET
            and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            and listener.getsockname() == ("127.0.0.1", port)
        )
    except OSError:
        good = False
    if not good:
        listener.close()
        raise BackendError(doing, "The sidecar handed over another socket")
    os.set_inheritable(listener.fileno(), False)
    listener.setblocking(False)
    return listener


async def _remove(engine: Engine, what: str) -> None:
    try:
        await engine.json("DELETE", what, "cannot remove a sidecar", params={"force": "1"})
    except EngineRefused as refusal:
        if refusal.answer not in (404, 409):
            raise


def empty_image() -> bytes:
    """A tar archive with nothing but the folders that are mounted over."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for folder in (*_FOLDERS, _INSIDE):
            entry = tarfile.TarInfo(folder.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
    return made.getvalue()


async def sweep(engine: Engine, state: str) -> None:
    """Remove what sidecars of a kernel that was killed left behind."""
    doing = "cannot look for sidecars"
    filters = json.dumps({"label": [LABEL, f"{LABEL_STATE}={state}"]})
    for found in await engine.json("GET", "containers/json", doing, params={"all": "1", "filters": filters}):
        await _remove(engine, f"containers/{found['Id']}")
    filters = json.dumps({"label": [f"{LABEL}={state}"]})
    for found in await engine.json("GET", "images/json", doing, params={"filters": filters}):
        await _remove(engine, f"images/{found['Id']}")
