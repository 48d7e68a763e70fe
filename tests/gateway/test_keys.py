"""Secrets of agents, keys of providers, and prices."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest
from pydantic import ValidationError

from agenttop.core.budget.prices import OwnPrice, Prices, context_limit, price
from agenttop.core.errors import ConfigError
from agenttop.core.gateway.identity import LENGTH, Identity
from agenttop.core.gateway.providers import BUILT_IN, KeyRing, Origin, Provider
from agenttop.core.journal.events import Usage

USAGE = Usage(input=1000, cache_read=5000, cache_write_5m=200, output=42)


def provider(**changes: object) -> Provider:
    values = {
        "name": "p",
        "protocol": "anthropic",
        "base_url": "https://x.example",
        "key_env": "P_KEY",
        **changes,
    }
    return Provider.model_validate(values)


def test_a_secret_is_the_same_after_a_restart_and_another_under_another_key() -> None:
    first, again, other = Identity(b"k" * 32), Identity(b"k" * 32), Identity(b"l" * 32)
    assert first.secret("a1") == again.secret("a1")
    assert first.secret("a1") != other.secret("a1")
    assert first.secret("a1") != first.secret("a2")
    expected = hmac.new(b"k" * 32, b"agenttop agent secret\0a1", hashlib.sha256).hexdigest()
    assert first.secret("a1") == expected[:LENGTH]


def test_a_secret_finds_its_agent_only_while_that_is_known() -> None:
    secret = Identity(b"k" * 32).secret("a1")
    identity = Identity(b"k" * 32)
    assert identity.agent(secret, {"a1", "a2"}) == "a1"
    assert identity.agent(secret, {"a2"}) is None
    assert identity.agent(secret.upper(), {"a1"}) is None
    assert identity.agent("", {"a1"}) is None
    assert identity.agent("é" * LENGTH, {"a1"}) is None
    identity.forget("a1")
    assert identity.agent(secret, {"a2"}) is None
    assert identity.agent(secret, {"a1"}) == "a1"
    assert secret not in repr(identity)


def test_a_short_state_key_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Identity(b"short")


def test_keys_come_from_the_environment_or_are_supplied_later() -> None:
    ring = KeyRing({"P_KEY": " sk-1\n"})
    assert ring.get(provider()) == "sk-1"
    ring.supply("P_KEY", "sk-2")
    assert ring.get(provider()) == "sk-2"
    assert KeyRing({}).get(provider()) is None
    assert "sk-2" not in repr(ring) + str(ring)


def test_a_key_with_a_line_break_never_becomes_a_header() -> None:
    with pytest.raises(ConfigError) as caught:
        KeyRing({"P_KEY": "sk-1\r\nX-Evil: 1"}).get(provider())
    assert "sk-1" not in str(caught.value)


def test_a_key_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "key"
    ring = KeyRing()
    settings = provider(key_env=None, key_file=file)
    assert ring.get(settings) is None
    file.write_text("sk-file\n")
    file.chmod(0o600)
    assert ring.get(settings) == "sk-file"
    file.write_text("sk-rotated\n")
    assert ring.get(settings) == "sk-rotated"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o610])
def test_a_key_file_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key"
    file.write_text("sk-file\n")
    file.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        KeyRing().get(provider(key_env=None, key_file=file))
    assert "sk-file" not in str(caught.value)


def test_a_key_file_that_is_no_file_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    with pytest.raises(ConfigError, match="not a regular file"):
        KeyRing().get(provider(key_env=None, key_file=fifo))


@pytest.mark.parametrize(
    "changes",
    [
        {"base_url": "ftp://x"}, {"base_url": "https://user:pw@x"}, {"base_url": "https://x/?k=1"},
        {"base_url": "x"}, {"base_url": "https://x:99999"}, {"base_url": "http://a b"}, {"name": "a/b"},
        {"name": ""}, {"protocol": "soap"}, {"key_env": None}, {"key_env": "sk-ant-123"}, {"auth": "maybe"},
        {"keyenv": "X"},
    ],
)  # fmt: skip
def test_bad_provider_settings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        provider(**changes)


def test_where_a_provider_is() -> None:
    assert provider(base_url="https://x.example/api/").origin == Origin("https", "x.example", 443)
    assert provider(base_url="https://x.example/api/").path == b"/api"
    assert provider(base_url="http://[::1]:8080").origin.authority == "[::1]:8080"
    assert provider(base_url="http://127.0.0.1:80").origin.authority == "127.0.0.1"
    assert set(BUILT_IN) == {"anthropic", "openai", "gemini"}


def test_list_prices_cover_every_bucket() -> None:
    assert price("anthropic", "claude-opus-5-5", USAGE) == pytest.approx(0.00684)
    hour = USAGE._replace(cache_write_5m=0, cache_write_1h=200)
    assert price("anthropic", "claude-opus-5-5", hour) == pytest.approx(0.00744)
    assert context_limit("anthropic", "claude-opus-5-5") == 1_000_000


def test_what_has_no_price_is_not_free() -> None:
    assert price("anthropic", "claude-unheard-of", USAGE) is None
    assert price("nobody", "claude-opus-5-5", USAGE) is None
    assert price(None, None, USAGE) is None
    assert context_limit("anthropic", "claude-unheard-of") is None
    assert price("anthropic", "claude-unheard-of", Usage()) == 0.0


def test_a_provider_of_another_name_has_the_prices_of_its_address_or_protocol() -> None:
    prices = Prices()
    by_address = provider(name="work", base_url="https://api.anthropic.com")
    by_protocol = provider(name="work", base_url="https://llm.corp.example/anthropic")
    for settings in (by_address, by_protocol):
        assert prices.quote(settings, "claude-opus-5-5", USAGE).cost == pytest.approx(0.00684)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "http://localhost:1", "http://gpu-box:8000", "http://10.1.2.3"]
)
def test_a_model_served_at_home_has_no_list_price(url: str) -> None:
    home = provider(name="vllm", protocol="openai", base_url=url)
    assert Prices().quote(home, "gpt-5", USAGE).cost is None


def test_own_prices_go_first() -> None:
    own = OwnPrice(input=Decimal(1), output=Decimal(10), cache_read=Decimal(0), context_limit=32_000)
    prices = Prices({"p/m": own})
    quote = prices.quote(
        provider(), "m", Usage(input=10**6, cache_read=10**6, cache_write_5m=10**6, output=10**6)
    )
    assert quote == (12.0, 32_000)


class Vault(keyring.backend.KeyringBackend):
    """A keyring of the test's own."""

    priority = 9  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise keyring.errors.KeyringLocked("sk-quoted-by-the-vault")
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password


@pytest.fixture
def vault() -> Iterator[Vault]:
    before, made = keyring.get_keyring(), Vault()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


def test_a_key_out_of_the_keyring_is_read_once_and_kept(vault: Vault) -> None:
    in_keyring = provider(key_env=None, key_keyring="agenttop-anthropic:me")
    ring = KeyRing()
    assert ring.get(in_keyring) is None
    assert ring.read_keyring([in_keyring]) == []
    vault.entries["agenttop-anthropic", "me"] = "sk-secret"
    assert ring.read_keyring([in_keyring]) == ["keyring:agenttop-anthropic:me"]
    assert ring.get(in_keyring) == "sk-secret"
    vault.locked = True
    assert ring.read_keyring([in_keyring]) == []
    assert "sk-secret" not in repr(ring)


def test_a_locked_keyring_says_so_without_its_own_words(vault: Vault) -> None:
    vault.locked = True
    with pytest.raises(ConfigError, match="KeyringLocked") as error:
        KeyRing().read_keyring([provider(key_env=None, key_keyring="x")])
    assert "sk-quoted" not in str(error.value)
