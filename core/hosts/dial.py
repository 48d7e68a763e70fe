"""Calling a host: ssh is started, the bridge at the other end greets, its kernel is awake.

This blocks and knows no event loop, because the first call of a host comes before the screen is open:
ssh may then ask on the terminal for a password or about an unknown host key. Later calls are made in a
thread, in a session of their own without any terminal, and fail where they would have to ask.
"""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import orjson

from .. import __version__
from ..errors import AgentTopError, KernelUnreachable, from_dict
from ..quick import OtherVersion
from ..starting import START
from .address import MISSING, Address, Reach, bridge_argv
from .channels import MAGIC, PROTOCOL, FrameReader, Garbled, Kind, frame

GREETING = 20.0
"""Seconds until the bridge greets, where ssh does not ask: ssh's own ConnectTimeout, and a slow login."""
NOISE = 256 << 10
"""Bytes of a shell's start files that are skipped before the greeting."""
TAIL = 4 << 10
"""Bytes of standard error that are kept."""

_ASKED = re.compile(
    r"permission denied|host key verification failed|too many authentication failures|"
    r"no such identity|passphrase|keyboard-interactive",
    re.IGNORECASE,
)

_ACTS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")
"""Control characters that do more than begin a line; ssh asks on the terminal itself, and not here."""

Started = Callable[[subprocess.Popen[bytes]], None]


class HostRefused(KernelUnreachable):
    """The host does not let us in, or is not known to be the host it was: trying again changes nothing."""

    code = "host_refused"


class NotThere(AgentTopError):
    """The host has no agenttop, or another one than this."""

    code = "host_without_agenttop"


class There(NamedTuple):
    """The far end of a line."""

    home: str
    environ: dict[str, str]
    state: str


class Called(NamedTuple):
    """An ssh process whose bridge has greeted; ``Line`` takes it over."""

    process: subprocess.Popen[bytes]
    there: There
    reader: FrameReader
    said: bytes
    """The tail of what ssh wrote on standard error."""


def call_all(addresses: list[Address], reach: Reach, *, terminal: bool) -> list[Called | AgentTopError]:
    """First calls, in the order of ``addresses``: all at once without a word; those that must ask then
    ask on the terminal, one after the other. Interrupted, nothing is left of them."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        return _call_all(addresses, reach, terminal, started.append)
    except BaseException:
        for process in started:
            end(process)
        raise


def _call_all(
    addresses: list[Address], reach: Reach, terminal: bool, started: Started
) -> list[Called | AgentTopError]:
    processes: list[subprocess.Popen[bytes]] = []

    def begun(process: subprocess.Popen[bytes]) -> None:
        processes.append(process)
        started(process)

    def quietly(address: Address) -> Called | AgentTopError:
        try:
            return call(address, reach, asks=False, started=begun)
        except AgentTopError as error:
            return error

    with ThreadPoolExecutor(max(1, len(addresses))) as pool:
        try:
            results = list(pool.map(quietly, addresses))
        except BaseException:
            for process in processes:  # the threads wait for these
                process.kill()
            raise
    for place, result in enumerate(results):
        if isinstance(result, HostRefused) and terminal:
            try:
                results[place] = call(addresses[place], reach, asks=True, started=started)
            except AgentTopError as error:
                results[place] = error
    return results


def has_terminal() -> bool:
    """Whether ssh could ask somebody: there is a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def call(address: Address, reach: Reach, *, asks: bool, started: Started | None = None) -> Called:
    """Start ssh and wait until the kernel there is awake.

    Args:
        asks: ssh may ask on the terminal, for as long as that takes.
        started: Is given the process at once; who wants to stop waiting kills it.

    Raises:
        HostRefused: A person has to do something about keys first.
        KernelUnreachable: The host cannot be reached, or its kernel does not answer.
        NotThere: There is no agenttop on it.
        OtherVersion: Its agenttop or its kernel is of another version.
    """
    argv = bridge_argv(address, reach, asks=asks)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            # Without a terminal neither ssh nor what it starts can write across the screen.
            start_new_session=not asks,
        )
    except OSError as error:
        raise KernelUnreachable(
            f"{argv[0]} cannot be run", error.strerror or str(error),
            "Install OpenSSH's client (openssh-client), or say in [remote] ssh what to run",
        ) from error  # fmt: skip
    if started is not None:
        started(process)
    try:
        return _Handshake(address, process, asks).run()
    except BaseException:
        end(process)
        raise


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill and reap ssh, and close its pipes."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


class _Handshake:
    """Reads both of ssh's outputs until the bridge has said what it has to say."""

    def __init__(self, address: Address, process: subprocess.Popen[bytes], asks: bool) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self._address = address
        self._process = process
        self._asks = asks
        self._noise = b""
        self._said = b""
        self._reader = FrameReader()
        self._frames: list[bytes] = []
        self._greeted = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(process.stdout, selectors.EVENT_READ, self._out)
        self._selector.register(process.stderr, selectors.EVENT_READ, self._err)
        self._over = False

    def run(self) -> Called:
        with self._selector:
            self._read(lambda: self._greeted, None if self._asks else GREETING, "did not let us in")
            assert self._process.stdin is not None
            os.write(self._process.stdin.fileno(), frame(Kind.WAKE))
            self._read(lambda: bool(self._frames), START + 5, "does not say whether its kernel runs")
        there = awake(self._address, self._frames[0])
        return Called(self._process, there, self._reader, self._said)

    def _read(self, done: Callable[[], bool], seconds: float | None, silent: str) -> None:
        deadline = None if seconds is None else time.monotonic() + seconds
        while not done():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise KernelUnreachable(
                    f"{self._address.label} {silent}", f"{seconds:g} s are over", self._hint()
                )
            for key, _ in self._selector.select(left):
                data = os.read(key.fd, 65_536)
                if not data:
                    self._selector.unregister(key.fileobj)
                    self._over = self._over or key.data == self._out
                else:
                    key.data(data)
            if self._over and not done():
                self._rest_of_errors()
                raise ended(self._address, self._process.wait(), self._said, self._noise)

    def _rest_of_errors(self) -> None:
        """What ssh said last; a master connection that stays behind may keep the pipe open."""
        for key, _ in self._selector.select(0.2):
            self._err(os.read(key.fd, 65_536))

    def _out(self, data: bytes) -> None:
        if not self._greeted:
            self._noise += data
            start = self._noise.find(MAGIC)
            end = self._noise.find(b"\n", start) if start >= 0 else -1
            if end < 0:
                if len(self._noise) > NOISE:
                    raise ended(self._address, 0, self._said, self._noise)
                return
            self._check(self._noise[start + len(MAGIC) : end].decode("ascii", "replace"))
            data, self._noise = self._noise[end + 1 :], self._noise[:start]
            self._greeted = True
        for kind, _, payload in self._reader.feed(data):
            if kind == Kind.AWAKE:
                self._frames.append(payload)

    def _err(self, data: bytes) -> None:
        self._said = (self._said + data)[-TAIL:]
        if self._asks and not self._greeted and MISSING.encode() not in data:
            sys.stderr.buffer.write(_ACTS.sub(b"", data))
            sys.stderr.flush()

    def _check(self, greeting: str) -> None:
        protocol, _, version = greeting.partition(" ")
        if version != __version__ or protocol != str(PROTOCOL):
            raise OtherVersion(
                f"agenttop on {self._address.label} is of another version",
                f"It is {version or 'unknown'}, this is agenttop {__version__}",
                "Install the same version on both machines",
            )

    def _hint(self) -> str:
        return f"Try `ssh {self._address.text}` by hand"


def awake(address: Address, payload: bytes) -> There:
    """What the bridge tells of its place.

    Raises:
        AgentTopError: Why no kernel runs there.
        Garbled: It does not say.
    """
    answer = _read(address, payload)
    if "error" in answer:
        raise _of_bridge(address, answer["error"])
    there = answer.get("there")
    if not isinstance(there, dict) or not isinstance(environ := there.get("environ"), dict):
        raise senseless(address)
    if not all(isinstance(value, str) for value in environ.values()):
        raise senseless(address)
    return There(str(there.get("home", "/")), environ, str(there.get("state", "/")))


def told(address: Address, payload: bytes) -> AgentTopError:
    """The bridge's error as this side's user reads it.

    Raises:
        Garbled: It is none.
    """
    return _of_bridge(address, _read(address, payload))


def senseless(address: Address, why: str = "") -> Garbled:
    """The error where a host's words cannot be understood, though they came whole."""
    return Garbled(
        f"{address.label} answers what makes no sense", why, f"See what runs as agenttop on {address.label}"
    )


def _read(address: Address, payload: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(payload)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise senseless(address)
    return found


def _of_bridge(address: Address, data: Any) -> AgentTopError:
    if not isinstance(data, dict):
        raise senseless(address)
    error = from_dict(data)
    if isinstance(error, OtherVersion):
        hint = f"Run `agenttop --host {address.text} kernel restart`; the agents run on"
        return OtherVersion(f"the kernel on {address.label} is of another version", error.why, hint)
    return type(error)(f"{address.label}: {error.what}", error.why, error.hint)


def ended(address: Address, status: int, said: bytes, noise: bytes = b"") -> AgentTopError:
    """Why ssh ended before, or instead of, being a line."""
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    text = "; ".join(lines[-3:])
    host = address.label
    if MISSING in text or status == 127:
        return NotThere(
            f"there is no agenttop on {host}",
            "Neither the PATH of its shells nor ~/.local/bin has it" if MISSING in text else text,
            "Install it there (`pipx install agenttop`, `uv tool install agenttop`), "
            f'or say where it is: [remote."{host}"] command = "…" in config.toml',
        )
    if status == 255:
        return _of_ssh(address, text)
    if status == 2 and "bridge" in text:
        return NotThere(f"agenttop on {host} is too old", text, "Install the same version on both machines")
    if noise and not text:
        text = f"It said: {noise[-200:].decode('utf-8', 'replace').strip()}"
    return KernelUnreachable(
        f"the line to {host} ended",
        text or f"Its ssh ended with status {status}",
        f"Try `ssh {address.text}`",
    )


def _of_ssh(address: Address, text: str) -> AgentTopError:
    by_hand = f"Try `ssh {address.text}`"
    if "host key verification failed" in text.lower() or "REMOTE HOST IDENTIFICATION" in text:
        return HostRefused(
            f"{address.label} is not known to be the host it says it is", text,
            f"{by_hand} once, and look at the key; this check is never left out",
        )  # fmt: skip
    if _ASKED.search(text):
        return HostRefused(
            f"{address.label} did not let us in", text,
            f"{by_hand}; with a key in ssh-agent, or with ControlMaster, it comes back by itself",
        )  # fmt: skip
    return KernelUnreachable(f"{address.label} cannot be reached", text or "ssh did not say why", by_hand)
