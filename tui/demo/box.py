"""The demo's container image: busybox and one script, made here and now, since there may be no registry.

It speaks to Docker's API itself (https://docs.docker.com/reference/api/engine/): four requests over a
local socket do not need a client library, and the reaper that cleans up must start at once.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import socket
import struct
import tarfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

_DEFAULT = "/var/run/docker.sock"
_APPLETS = ("sh", "wget", "sleep", "sed", "date", "echo", "cat", "seq", "tr", "head", "printf", "true", "ps")
_PT_INTERP = 3

IMPORTING = "importing"
"""The file in a demo's home that is there while Docker makes the image."""

#: The agent inside: model calls without streaming, by busybox's wget, through the base URL it is given.
AGENT = r"""#!/bin/sh
# An agent of the demo. $1 is its name, $TASK what it is told, $PAUSE the seconds between calls.
URL="${ANTHROPIC_BASE_URL:-$AGENTTOP_URL/anthropic}/v1/messages"
GUIDE=$(for n in $(seq 1 600); do printf 'Rule %s of %s. ' "$n" "$1"; done)
echo "* $1 in a container"
trap 'echo "  leaving"; exit 143' TERM  # as process 1 it would otherwise not act
turn=0
while :; do
  turn=$((turn + 1))
  BODY=$(printf '{"model":"claude-haiku-5-5","max_tokens":1024,"system":[{"type":"text","text":"%s",'\
'"cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":"%s, part %s"}]}' \
    "$GUIDE" "$TASK" "$turn")
  echo
  echo "> $TASK, part $turn"
  if REPLY=$(wget -q -O - --header 'content-type: application/json' --header 'anthropic-version: 2023-06-01' \
      --header "x-api-key: ${ANTHROPIC_API_KEY:-demo}" --header "x-agent: $AGENTTOP_AGENT" \
      --post-data "$BODY" "$URL"); then
    echo "$REPLY" | sed 's/.*"text":"\([^"]*\)".*/  \1/'
  else
    echo "  the call failed, trying again"
  fi
  sleep "${PAUSE:-3}" &
  wait $!
done
"""


class DockerSaid(Exception):
    """Docker cannot be used here, or refused; the message says why."""


def image_name(home: Path) -> str:
    """The image of one demo: named after its home, so that what belongs to it can be found again."""
    return "agenttop-demo:" + home.name.lower().lstrip("-.")


def build(name: str) -> None:
    """Make the image.

    Raises:
        DockerSaid: There is no static busybox, or no Docker, or it refused.
    """
    busybox = _static_busybox()
    repository, _, tag = name.partition(":")
    query = f"fromSrc=-&repo={quote(repository)}&tag={quote(tag)}&changes={quote('LABEL agenttop.demo=1')}"
    _ask("POST", f"/images/create?{query}", _rootfs(busybox), "application/x-tar")
    _ask("GET", f"/images/{quote(name, safe='')}/json")


def remove(name: str, *, expect: float = 0.0) -> None:
    """Remove the image and every container made from it; nothing there is fine.

    Docker finishes an import whose client died. With ``expect`` the image is waited for so many seconds.

    Raises:
        DockerSaid: Docker refused. No Docker at all is fine: then there is nothing to remove.
    """
    deadline = time.monotonic() + expect
    try:
        while not _exists(name) and time.monotonic() < deadline:
            time.sleep(0.1)
        filters = quote(json.dumps({"ancestor": [name]}))
        containers = _ask("GET", f"/containers/json?all=1&filters={filters}")
        for container in containers or []:
            _ask("DELETE", f"/containers/{container['Id']}?force=1&v=1", missing_ok=True)
        _ask("DELETE", f"/images/{quote(name, safe='')}?force=1", missing_ok=True)
    except (FileNotFoundError, ConnectionRefusedError):
        return


def _exists(name: str) -> bool:
    return _ask("GET", f"/images/{quote(name, safe='')}/json", missing_ok=True) is not None


def _static_busybox() -> bytes:
    path = shutil.which("busybox") or "/bin/busybox"
    try:
        program = Path(path).read_bytes()
    except OSError as error:
        raise DockerSaid(f"no busybox ({error.strerror}); Debian has it as busybox-static") from error
    if not is_static(program):
        raise DockerSaid(f"{path} is not statically linked; Debian has it as busybox-static")
    return program


def is_static(program: bytes) -> bool:
    """Whether an ELF file asks for no dynamic loader (no ``PT_INTERP``; elf(5))."""
    if program[:4] != b"\x7fELF" or len(program) < 64:
        return False
    wide, order = program[4] == 2, "<" if program[5] == 1 else ">"
    offset = struct.unpack_from(order + ("Q" if wide else "I"), program, 32 if wide else 28)[0]
    size, count = struct.unpack_from(order + "HH", program, 54 if wide else 42)
    kinds = (struct.unpack_from(order + "I", program, offset + n * size)[0] for n in range(count))
    return _PT_INTERP not in kinds


def _rootfs(busybox: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("bin", "tmp", "etc", "proc", "sys", "dev"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        files = (("bin/busybox", busybox, 0o755), ("agent.sh", AGENT.encode(), 0o755))
        for name, data, mode in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
        for applet in _APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return buffer.getvalue()


class _Local(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _ask(
    method: str,
    path: str,
    body: bytes | None = None,
    kind: str = "application/json",
    *,
    missing_ok: bool = False,
) -> Any:
    """One request; its JSON answer, or ``None`` for no or no single JSON value, and for a permitted 404."""
    host = os.environ.get("DOCKER_HOST", f"unix://{_DEFAULT}")
    if not host.startswith("unix://"):
        raise DockerSaid(f"DOCKER_HOST is {host}, not a local socket")
    connection = _Local(host.removeprefix("unix://"))
    try:
        connection.request(method, path, body, {"content-type": kind})
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    if response.status >= 400:
        if missing_ok and response.status in (404, 409):
            return None
        raise DockerSaid(f"Docker answered {response.status} to {method}: {_reason(data)}")
    try:
        return json.loads(data)
    except ValueError:
        return None  # progress lines, or nothing


def _reason(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data[:200].decode("utf-8", "replace")
