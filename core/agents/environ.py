"""The environment an agent is started with: what the caller had, less every provider key.

It is kept beside the journal in a 0600 file, because the values may be secrets; the journal's spec
carries only a keyed digest of the values a spec declares, enough to tell whether they changed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson

from .spec import AgentSpec

#: Credentials of model providers that no agent gets unless its spec names them in ``pass_keys``.
PROVIDER_KEYS = frozenset(
    {
        "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN",
        "OPENAI_API_KEY", "CODEX_API_KEY", "AZURE_OPENAI_API_KEY",
        "GEMINI_API_KEY", "GOOGLE_API_KEY", "OPENROUTER_API_KEY", "MISTRAL_API_KEY", "GROQ_API_KEY",
        "DEEPSEEK_API_KEY", "DASHSCOPE_API_KEY", "XAI_API_KEY", "TOGETHER_API_KEY",
        "FIREWORKS_API_KEY", "CEREBRAS_API_KEY", "COHERE_API_KEY", "PERPLEXITY_API_KEY",
    }
)  # fmt: skip

#: Of a caller that is itself an agent: its identity is not its children's.
_OWN = ("AGENTTOP_", "CLAUDECODE", "CLAUDE_CODE_SESSION", "CLAUDE_PID")

#: For agents whose caller sent no environment (a script with curl).
_BARE = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

_FILE = "environ.json"


def strip(environ: Mapping[str, str], key_names: Iterable[str], keep: Iterable[str] = ()) -> dict[str, str]:
    """``environ`` without provider keys (but with those in ``keep``) and without agenttop's own."""
    secret = (PROVIDER_KEYS | set(key_names)) - set(keep)
    return {k: v for k, v in environ.items() if k not in secret and not k.startswith(_OWN)}


def bare(home: str | None = None) -> dict[str, str]:
    """A minimal environment for callers that sent none."""
    return {**_BARE, "HOME": home or os.path.expanduser("~")}


def store(
    folder: Path, environ: Mapping[str, str], declared: Mapping[str, str], *, same: Path | None = None
) -> None:
    """Keep the caller's environment and the spec's own values, mode 0600.

    Args:
        same: The folder of an agent that was stored with the very same values: the file is shared
            with it where the file system can (it is replaced, never written to).
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if same is None or not _share(same / _FILE, folder / _FILE):
        _write(folder, orjson.dumps({"environ": dict(environ), "declared": dict(declared)}))


def _share(file: Path, other: Path) -> bool:
    try:
        os.link(file, other)
    except OSError:  # there is one already, too many links, or a file system without them
        return False
    return True


def _write(folder: Path, body: bytes) -> None:
    temporary = folder / (_FILE + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        view = memoryview(body)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)
    temporary.rename(folder / _FILE)


def load(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The caller's environment and the spec's own values, as kept by ``store``."""
    try:
        data = orjson.loads((folder / _FILE).read_bytes())
    except FileNotFoundError:
        return {}, {}
    return data["environ"], data["declared"]


def veil(spec: AgentSpec, key: bytes) -> AgentSpec:
    """The spec as the journal may have it: values of the environment and of blocks as keyed digests.

    Blocks can be forgotten, and the journal forgets nothing.
    """
    if not spec.env and not spec.blocks:
        return spec
    return spec.model_copy(update={"env": _veiled(spec.env, key), "blocks": _veiled(spec.blocks, key)})


def _veiled(values: Mapping[str, str], key: bytes) -> dict[str, str]:
    return {
        name: "hmac:"
        + hmac.new(key, f"{name}={value}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:32]
        for name, value in values.items()
    }
