"""Provider keys out of the operating system's keyring, through the ``keyring`` package (an extra).

A keyring may ask its owner for a password, or wait for a session bus that is not there: it is read in a
thread, at the kernel's start and when a client comes, and never on the way of a call.
"""

from __future__ import annotations

import logging

from ..errors import ConfigError

log = logging.getLogger("agenttop.keys")


def read(entry: str) -> str | None:
    """The secret of ``SERVICE`` or ``SERVICE:USER`` in the keyring; ``None`` if there is none. Blocking.

    Raises:
        ConfigError: The package is not installed, or the keyring cannot be used.
    """
    service, _, user = entry.partition(":")
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError as error:
        raise ConfigError(
            f"the key {entry} cannot be read",
            "The keyring package is missing",
            "Install it: pip install 'agenttop[keyring]'",
        ) from error
    try:
        return keyring.get_password(service, user or "agenttop")
    except KeyringError as error:
        # Only what kind of error: its text is a stranger's, and may quote what it was given.
        raise ConfigError(
            f"the key {entry} cannot be read",
            f"The keyring said {type(error).__name__}",
            "Unlock it, or give the key by key_env or key_file",
        ) from error
