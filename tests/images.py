"""A container image made without a registry: a static busybox in a tar, by ``docker import``.

For tests, the demo's tests and CI. The image's name carries a digest of its content, so that several
sessions on one machine can share it and a changed recipe never meets an old image.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping

REPOSITORY = "agenttop-test-busybox"
_FOLDERS = ("bin", "dev", "etc", "proc", "sys", "tmp", "root", "work")
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/plain": "not a program\n",
}


def busybox() -> str | None:
    """The static busybox (Debian: busybox-static), or ``None`` if this machine has none."""
    found = shutil.which("busybox", path=os.environ.get("PATH", "") + ":/bin:/usr/bin")
    if found is None:
        return None
    with open(found, "rb") as file:
        static = b"/lib64/ld-linux" not in file.read(65536)
    return found if static else None


def archive(program: str) -> bytes:
    """The image's root file system: busybox and a link for each of its applets."""
    applets = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in _FOLDERS:
            _add(tar, folder, tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755)
        for path, text in _FILES.items():
            _add(tar, path, tarfile.REGTYPE, 0o644, text.encode())
        with open(program, "rb") as file:
            _add(tar, "bin/busybox", tarfile.REGTYPE, 0o755, file.read())
        for applet in applets:
            if applet != "busybox":
                _add(tar, f"bin/{applet}", tarfile.SYMTYPE, 0o777, link="busybox")
    return buffer.getvalue()


def ensure(env: Mapping[str, str] | None = None) -> str:
    """Import the image unless dockerd has it; its name.

    Args:
        env: The environment for ``docker``, to reach another dockerd by DOCKER_HOST.

    Raises:
        RuntimeError: There is no static busybox here.
        subprocess.CalledProcessError: dockerd refused.
    """
    program = busybox()
    if program is None:
        raise RuntimeError("no static busybox here (Debian: apt install busybox-static)")
    content = archive(program)
    name = f"{REPOSITORY}:{hashlib.sha256(content).hexdigest()[:12]}"
    environ = {**os.environ, **(env or {})}
    if subprocess.run(["docker", "image", "inspect", name], capture_output=True, env=environ).returncode != 0:
        command = ["docker", "import", "--change", 'CMD ["sh"]', "-", name]
        subprocess.run(command, input=content, check=True, capture_output=True, env=environ)
    return name


@contextlib.contextmanager
def borrowed() -> Iterator[str]:
    """The image in the machine's dockerd; the last of all who borrow it on this machine removes it.

    They tell each other by locks on the program that the image is made of.

    Raises:
        RuntimeError: There is no static busybox here.
    """
    program = busybox()
    if program is None:
        raise RuntimeError("no static busybox here (Debian: apt install busybox-static)")
    with open(program, "rb") as held:
        if _alone(held.fileno()):
            ensure()  # two at once would leave an image without a name
        fcntl.flock(held, fcntl.LOCK_SH)
        name = ensure()
        try:
            yield name
        finally:
            if _alone(held.fileno()):
                remove(name)


def _alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove(name: str, env: Mapping[str, str] | None = None) -> None:
    """Remove the image; one that a container of another session still uses stays."""
    subprocess.run(
        ["docker", "rmi", name], capture_output=True, env={**os.environ, **(env or {})}, check=False
    )


def _add(tar: tarfile.TarFile, path: str, kind: bytes, mode: int, data: bytes = b"", link: str = "") -> None:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(data), link
    tar.addfile(entry, io.BytesIO(data))
