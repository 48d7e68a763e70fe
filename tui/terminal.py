"""The terminal under the screen: what is written to it is counted."""

from __future__ import annotations

from collections.abc import Callable

from textual.driver import Driver


def metered(base: type[Driver], count: Callable[[int], None]) -> type[Driver]:
    """``base``, telling ``count`` the bytes of every write."""

    class MeteredDriver(base):  # type: ignore[misc,valid-type]
        """A driver that counts what it writes."""

        def write(self, data: str) -> None:
            """Write and count."""
            count(len(data) if data.isascii() else len(data.encode("utf-8", "replace")))
            super().write(data)

    return MeteredDriver
