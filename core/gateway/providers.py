"""Providers: the upstreams calls are forwarded to, and the keys for them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..errors import AgentTopError, ConfigError
from . import oskeyring

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
RESERVED = frozenset({"sys", "mcp"})
"""Parts of the kernel at the agents' door; see ``routes.SYSCALLS``."""
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ProtocolName = Literal["anthropic", "openai", "gemini"]


class Origin(NamedTuple):
    """Where a connection goes: scheme, host and port; or the path of a Unix socket."""

    scheme: Literal["http", "https", "unix"]
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of a Host header."""
        if self.scheme == "unix":
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


class CallLimits(BaseModel):
    """How much a provider is sent: ``limits = {concurrency = 8, requests = 60, tokens = 100_000}``.

    ``requests`` and ``tokens`` (input and output together) are per minute; ``None`` is unlimited.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: Annotated[int, Field(ge=1, le=100_000)] | None = None
    requests: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None
    tokens: Annotated[float, Field(gt=0, le=1e15, allow_inf_nan=False)] | None = None


class Provider(BaseModel):
    """One ``[providers.NAME]`` table.

    ``auth = "inject"`` replaces the client's credentials by the provider key; ``"passthrough"``
    keeps the client's own (a subscription login, say). Then each account waits for its own limits, unless
    ``limits`` or ``models`` say what all of them share.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    protocol: ProtocolName
    base_url: str = Field(max_length=2048)
    key_env: str | None = None
    key_file: Path | None = None
    key_keyring: str | None = Field(default=None, min_length=1, max_length=200)
    """``SERVICE`` or ``SERVICE:USER`` in the operating system's keyring (default user: agenttop)."""
    auth: Literal["inject", "passthrough"] = "inject"
    limits: CallLimits = CallLimits()
    models: dict[Annotated[str, Field(min_length=1, max_length=200)], CallLimits] = Field(
        default_factory=dict, max_length=100
    )
    """Limits of models, by shell pattern: ``[providers.NAME.models."claude-*"]``. All models that match a
    pattern share its limits; of several patterns that match, the longest counts."""
    fallback: str | None = None
    """Another provider of the same protocol, with a key of its own, which takes the calls while this one is
    broken."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError("a provider's name has letters, digits, '_', '.' and '-'")
        if name in RESERVED:
            raise ValueError(f"no provider can be called {name}: the kernel itself answers there")
        return name

    @field_validator("base_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"{url!r} is not a URL: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise ValueError("base_url is http://HOST or https://HOST, with a port and a path if need be")
        if parts.username or parts.password:
            raise ValueError(
                "base_url has no user and no password; keys come from key_env, key_file or a keyring"
            )
        if parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError("base_url has no query, no fragment and no blanks")
        return url.rstrip("/")

    @field_validator("key_env")
    @classmethod
    def _check_env(cls, name: str | None) -> str | None:
        if name is not None and not ENVIRONMENT_NAME.fullmatch(name):
            raise ValueError("key_env is the name of an environment variable, not the key itself")
        return name

    @model_validator(mode="after")
    def _some_key(self) -> Provider:
        if self.auth == "inject" and not (self.key_env or self.key_file or self.key_keyring):
            raise ValueError("auth = 'inject' needs key_env, key_file or key_keyring")
        return self

    @property
    def origin(self) -> Origin:
        """Where to connect."""
        return _split(self.base_url)[0]

    @property
    def path(self) -> bytes:
        """The path part of ``base_url``, put before that of every request; no slash at its end."""
        return _split(self.base_url)[1]

    @property
    def key_name(self) -> str:
        """What a person is told is missing."""
        if self.key_env is None and self.key_file is None:
            return f"keyring:{self.key_keyring}"
        return self.key_env or str(self.key_file)


@lru_cache(maxsize=256)
def _split(base_url: str) -> tuple[Origin, bytes]:
    parts = urlsplit(base_url)
    https = parts.scheme == "https"
    origin = Origin("https" if https else "http", parts.hostname or "", parts.port or (443 if https else 80))
    return origin, parts.path.encode()


BUILT_IN: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(
            name="anthropic",
            protocol="anthropic",
            base_url="https://api.anthropic.com",
            key_env="ANTHROPIC_API_KEY",
        ),
        Provider(
            name="openai", protocol="openai", base_url="https://api.openai.com", key_env="OPENAI_API_KEY"
        ),
        Provider(
            name="gemini",
            protocol="gemini",
            base_url="https://generativelanguage.googleapis.com",
            key_env="GEMINI_API_KEY",
        ),
    )
}
"""The providers that exist without being declared."""


class KeyRing:
    """Provider keys: from the environment, from 0600 files, the system's keyring, or supplied by a client.

    Keys are never in a ``repr``, a log line or an error.

    Args:
        environ: Read once; only the variables that providers name are ever looked at.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = environ if environ is not None else {}
        self._supplied: dict[str, str] = {}
        self._kept: dict[str, str] = {}
        self._files: dict[Path, tuple[tuple[int, int, int], str]] = {}

    def __repr__(self) -> str:
        return f"<KeyRing with {len(self._supplied)} supplied keys>"

    def get(self, provider: Provider) -> str | None:
        """The provider's key; ``None`` where it is not there (yet).

        Raises:
            ConfigError: The key file can be read by others, or is not a key.
        """
        if provider.key_env:
            key = self._supplied.get(provider.key_env) or self._environ.get(provider.key_env)
            if key:
                return _clean(key, f"the variable {provider.key_env}")
        if provider.key_file is not None:
            return self._from_file(provider.key_file.expanduser())
        return self._kept.get(provider.key_keyring) if provider.key_keyring else None

    def read_keyring(self, providers: Iterable[Provider]) -> list[str]:
        """Read the keys that lie in the system's keyring and are not known yet. Blocking, so in a thread.

        Returns:
            The names (``key_name``) of those that are there now.

        Raises:
            ConfigError: The keyring cannot be used.
        """
        found = []
        for provider in providers:
            entry = provider.key_keyring
            if entry is None or entry in self._kept:
                continue
            key = oskeyring.read(entry)
            if key:
                self._kept[entry] = _clean(key, f"the keyring's entry {entry}")
                found.append(provider.key_name)
        return found

    def supply(self, name: str, key: str) -> None:
        """Take a key that a client of the owner has; ``name`` is the environment variable."""
        if key:
            self._supplied[name] = _clean(key, f"the variable {name}")

    def _from_file(self, path: Path) -> str | None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"cannot read the key file {path}", error.strerror or str(error)) from error
        with open(fd, "rb") as file:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"the key file {path} is not used", "It is not a regular file")
            if found.st_mode & 0o077:
                raise ConfigError(
                    f"the key file {path} is not used",
                    f"Its mode is {stat.S_IMODE(found.st_mode):04o}, so others may read it",
                    f"chmod 600 {path}",
                )
            if found.st_uid not in (os.geteuid(), 0):
                raise ConfigError(f"the key file {path} is not used", f"It belongs to user {found.st_uid}")
            version = (found.st_ino, found.st_mtime_ns, found.st_size)
            known = self._files.get(path)
            if known is None or known[0] != version:
                known = (version, _clean(file.read(8192).decode("utf-8", "replace"), f"the key file {path}"))
                self._files[path] = known
            return known[1] or None


def _clean(key: str, source: str) -> str:
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{source} is not used", "It does not contain one key on one line")
    return key


def check_providers(providers: Mapping[str, Provider]) -> None:
    """Refuse names that do not match their provider, and fallbacks that cannot take its calls.

    Raises:
        AgentTopError: With the name.
    """
    for name, provider in providers.items():
        if name != provider.name:
            raise AgentTopError(f"the provider {provider.name} is registered as {name}")
        if problem := fallback_problem(provider, providers):
            raise AgentTopError(f"the provider {name} cannot fall back", problem)


def fallback_problem(provider: Provider, providers: Mapping[str, Provider]) -> str:
    """Why a provider's ``fallback`` cannot take its calls; empty where it can, or where there is none."""
    if provider.fallback is None:
        return ""
    other = providers.get(provider.fallback)
    if other is None:
        return f"there is no provider {provider.fallback}"
    if other.name == provider.name:
        return "a provider cannot be its own fallback"
    if other.protocol != provider.protocol:
        return f"{other.name} speaks {other.protocol}, {provider.name} {provider.protocol}"
    if other.auth != "inject":
        return f"{other.name} has auth = 'passthrough': it would be sent credentials for {provider.name}"
    return ""
