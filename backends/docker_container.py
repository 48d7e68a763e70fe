"""What a run's container looks like: its name, its labels, and how it is hardened.

Defaults, each of which ``docker inspect`` shows: no capabilities, no new privileges, an init that
reaps zombies, a limit on processes, a read-only root with a private /tmp, no network but the door to
the gateway, no environment but the one declared, and a user who is not root:

- ``spec.user``, if given;
- with a workspace (``spec.cwd``): the owner of that folder, because the agent must be able to write
  it. A folder that belongs to root thus means user 0, still without any capability: that user can
  write root's files below the workspace and nothing else;
- otherwise the kernel's own user, or 65534:65534 (nobody) if that is root.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agenttop.core.backend import Launch
from agenttop.core.errors import BackendError
from agenttop.core.nice import weight

from . import docker_gate

LABEL_AGENT = "agenttop.agent"
LABEL_RUN = "agenttop.run"
LABEL_STATE = "agenttop.state"

#: Processes a container may have when the spec does not say.
DEFAULT_PIDS = 2048
_NOBODY = "65534:65534"
_TMP = "rw,exec,nosuid,nodev,mode=1777,size=1g"
_LOG_FLOOR = 8 << 20


def state_label(state: Path) -> str:
    """A short, stable name of a state folder, so that two kernels' containers are told apart."""
    return hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:16]


def names(launch: Launch, state: Path) -> tuple[str, str]:
    """The container's name, and the one to take if another kernel's container has that."""
    name = f"agenttop-{launch.agent}-{launch.run}"
    return name, f"{name}-{state_label(state)[:8]}"


def labels(launch: Launch, state: Path) -> dict[str, str]:
    """What makes the container findable. The spec's own labels stay in the kernel."""
    return {
        LABEL_AGENT: launch.agent,
        LABEL_RUN: launch.marker,
        LABEL_STATE: state_label(state),
        "agenttop.name": launch.spec.name,
    }


def command_of(launch: Launch, image: Mapping[str, Any]) -> list[str]:
    """The whole argument vector: the image's entry point, then the spec's command or the image's own.

    Raises:
        BackendError: There is nothing to run.
    """
    config = image.get("Config") or {}
    entry = list(config.get("Entrypoint") or ())
    rest = list(launch.command) or list(config.get("Cmd") or ())
    if not entry + rest:
        raise BackendError(
            f"cannot start {launch.spec.name}",
            f"Image {launch.spec.image} has no command of its own",
            "Give one after `--`",
        )
    return entry + rest


def config(
    launch: Launch, argv: Sequence[str], state: Path, *, gate: Path | None = None, init: bool = True
) -> dict[str, Any]:
    """The body of dockerd's ``containers/create``.

    Args:
        gate: The closed gate's file; the program then begins when the gate opens.
        init: Let dockerd add its own init; the gate is one itself.

    Raises:
        BackendError: A folder to mount is missing or belongs to the kernel.
    """
    spec = launch.spec
    body: dict[str, Any] = {
        "Image": spec.image,
        "Entrypoint": [docker_gate.INSIDE, "--"] if gate else [argv[0]],
        "Cmd": list(argv) if gate else list(argv[1:]),
        "Env": [f"{key}={value}" for key, value in _environment(launch).items()],
        "User": _user(launch),
        "Labels": labels(launch, state),
        "Tty": False,
        "OpenStdin": spec.stdin,
        "StdinOnce": spec.stdin,
        "AttachStdin": spec.stdin,
        "AttachStdout": False,
        "AttachStderr": False,
        "NetworkDisabled": False,
        "StopSignal": "SIGTERM",
        "HostConfig": _host_config(launch, state, gate, init and gate is None),
    }
    if spec.cwd:
        body["WorkingDir"] = launch.cwd
    return body


def _host_config(launch: Launch, state: Path, gate: Path | None, init: bool) -> dict[str, Any]:
    spec = launch.spec
    limits = spec.limits
    host: dict[str, Any] = {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "Privileged": False,
        "Init": init,
        "AutoRemove": False,  # the exit status must outlive a kernel that was away
        "RestartPolicy": {"Name": "no"},
        "ReadonlyRootfs": spec.read_only,
        "Tmpfs": {"/tmp": _TMP},
        "IpcMode": "private",
        "NetworkMode": "bridge" if spec.network == "open" else "none",
        "PidsLimit": limits.pids or DEFAULT_PIDS,
        "CpuShares": weight(spec.nice),
        "Mounts": _mounts(launch, state, gate),
        "LogConfig": _log_config(spec.output.bytes),
    }
    if limits.memory:
        host["Memory"] = host["MemorySwap"] = limits.memory  # equal: no swap on top
    if limits.cpus:
        host["NanoCpus"] = int(limits.cpus * 1e9)
    return host


def _log_config(kept: int) -> dict[str, Any]:
    # "local" keeps bytes as they are ("json-file" replaces what is not UTF-8). Two files together hold
    # what the run may keep, so that a kernel that was away loses no more than a trim would have taken;
    # never less than a burst, because a log that rotates under its reader loses entries.
    size = max(_LOG_FLOOR, kept // 2)
    return {"Type": "local", "Config": {"max-size": str(size), "max-file": "2", "compress": "false"}}


def _environment(launch: Launch) -> dict[str, str]:
    env = dict(launch.env)
    if launch.spec.read_only and launch.spec.user is None:
        env.setdefault("HOME", "/tmp")
    return env


def _user(launch: Launch) -> str:
    if launch.spec.user is not None:
        return launch.spec.user
    if launch.spec.cwd:
        try:
            owner = os.stat(launch.cwd)
        except OSError as error:
            raise _unusable(launch, launch.cwd, error.strerror or str(error)) from error
        return f"{owner.st_uid}:{owner.st_gid}"
    return _NOBODY if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}"


def _mounts(launch: Launch, state: Path, gate: Path | None) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = []
    if launch.spec.cwd:
        mounts.extend(_bind(launch, launch.cwd, launch.cwd, state, read_only=False))
    for mount in launch.spec.mounts:
        source = os.path.join(launch.cwd, os.path.expanduser(mount.source))
        mounts.extend(_bind(launch, source, mount.target, state, read_only=mount.read_only))
    if gate is not None:
        mounts.append(_mount(str(gate), docker_gate.INSIDE, read_only=True))
    return mounts


def _bind(launch: Launch, source: str, target: str, state: Path, *, read_only: bool) -> list[dict[str, Any]]:
    """A bind mount. The kernel's own folder holds every agent's secret, so it never comes along."""
    real, home = Path(source).resolve(), state.resolve()
    if not real.exists():
        raise _unusable(launch, source, "there is no such file or folder")
    if real.is_relative_to(home):
        raise _unusable(launch, source, "it lies in the kernel's own state folder")
    mounts = [_mount(str(real), target, read_only=read_only)]
    if home.is_relative_to(real):
        hidden = os.path.join(target, home.relative_to(real))
        mounts.append(
            {
                "Type": "tmpfs",
                "Target": hidden,
                "ReadOnly": True,
                "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0},
            }
        )
    return mounts


def _mount(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }


def _unusable(launch: Launch, path: str, why: str) -> BackendError:
    return BackendError(
        f"cannot start {launch.spec.name}", f"{path} cannot be mounted: {why}", "Choose another folder"
    )
