"""A private sshd on loopback, as this user, and machines that are another AGENTTOP_HOME each.

Nothing of the user's own ssh is read or written: the client gets a configuration file of the test's, and
the far side learns its AGENTTOP_HOME from the key that was used (``environment=`` in authorized_keys).
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin")
CLIENT = shutil.which("ssh")

#: Where the agenttop under test lies; the far side's shell finds it as a user's would be found.
PROGRAM = Path(sys.executable).with_name("agenttop")


class Sshd:
    """One server, and the hosts it stands for."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.folder = folder
        self.address = address
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.config = folder / "ssh_config"
        self.keys = folder / "authorized_keys"

    @property
    def ssh(self) -> list[str]:
        """The client's command."""
        assert CLIENT is not None
        return [CLIENT, "-F", str(self.config)]

    def prepare(self) -> None:
        """Make keys and configuration."""
        self.folder.mkdir(mode=0o700, parents=True)
        self._key("host_key")
        self.port = free_port()
        self.keys.touch(mode=0o600)
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress {self.address}\nHostKey {self.folder}/host_key\n"
            f"AuthorizedKeysFile {self.keys}\nPermitUserEnvironment yes\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
            f"PidFile {self.folder}/sshd.pid\nUseDNS no\nPrintMotd no\nMaxStartups 100\nLogLevel VERBOSE\n"
        )
        key = (self.folder / "host_key.pub").read_text().split()
        self.known = self.folder / "known_hosts"
        self.known.write_text(f"[{self.address}]:{self.port} {key[0]} {key[1]}\n")
        self.config.write_text("")

    def host(self, name: str, home: Path | None, *, extra: str = "") -> None:
        """Add a host; its key leads to an account whose AGENTTOP_HOME is ``home``."""
        self._key(name)
        public = (self.folder / f"{name}.pub").read_text().strip()
        path = f"{PROGRAM.parent}:/usr/bin:/bin" if home is not None else "/usr/bin:/bin"
        environ = {"PATH": path, "HOME": str(self.folder / "far")}
        if home is not None:
            environ["AGENTTOP_HOME"] = str(home)
        options = ",".join(f'environment="{key}={value}"' for key, value in environ.items())
        with self.keys.open("a") as file:
            file.write(f"{options} {public}\n")
        (self.folder / "far").mkdir(exist_ok=True)
        with self.config.open("a") as file:
            file.write(
                f"Host {name}\n  HostName {self.address}\n  Port {self.port}\n  User {getpass.getuser()}\n"
                f"  IdentityFile {self.folder}/{name}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
                f"  UserKnownHostsFile {self.known}\n  GlobalKnownHostsFile /dev/null\n"
                f"  StrictHostKeyChecking yes\n{extra}"
            )

    def start(self) -> None:
        """Serve."""
        assert SERVER is not None
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True, mode=0o755)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [SERVER, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while not accepts(self.address, self.port):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def cut(self) -> int:
        """Kill every session of this server; how many there were. It goes on listening."""
        assert self.process is not None
        found = children(self.process.pid)
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return len(found)

    def stop(self) -> None:
        """End the server and its sessions."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)  # no new session while the old ones are ended
            self.cut()
            self.process.kill()
            self.process.wait()
            self.process = None

    def _key(self, name: str) -> None:
        made = subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self.folder / name)],
            capture_output=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr


@contextmanager
def sshd(folder: Path, hosts: dict[str, Path | None], address: str = "127.0.0.1") -> Iterator[Sshd]:
    """A running server with these hosts, gone afterwards."""
    server = Sshd(folder, address)
    server.prepare()
    for name, home in hosts.items():
        server.host(name, home)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def why_not() -> str:
    """Why there can be no server here; empty if there can."""
    if SERVER is None or CLIENT is None:
        return "OpenSSH's client and server are not installed"
    if not PROGRAM.exists():
        return f"{PROGRAM} is not there"
    return ""


def free_port() -> int:
    """A port nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(address: str, port: int) -> bool:
    """Whether somebody listens."""
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


def children(pid: int) -> list[int]:
    """The living children of a process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
