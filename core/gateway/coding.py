"""Content codings: the bytes pass unchanged, usage is read from a decoded copy on the side."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

READABLE = (b"gzip", b"deflate", b"identity")
_PIECE = 64 << 10


class Decoder:
    """Decodes gzip or deflate as it arrives, in pieces of bounded size (a bomb stays small)."""

    def __init__(self, coding: bytes) -> None:
        self._raw_deflate = coding == b"deflate"
        self._started = False
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | (0 if self._raw_deflate else 16))
        self.broken = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decoded pieces of at most 64 kB. After a bad byte nothing more comes (``broken``)."""
        while data and not self.broken:
            try:
                piece = self._zlib.decompress(data, _PIECE)
            except zlib.error:
                if self._started or not self._raw_deflate:
                    self.broken = True
                    return
                # "deflate" means zlib (RFC 9110, 8.4.1.2), but some servers send it bare.
                self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
                self._started = True
                continue
            self._started = True
            if piece:
                yield piece
            data = self._zlib.unconsumed_tail
            if not data and self._zlib.eof:
                data = self._zlib.unused_data
                if data:
                    self._zlib = zlib.decompressobj(zlib.MAX_WBITS | (0 if self._raw_deflate else 16))


def accept_readable(value: bytes) -> bytes:
    """An Accept-Encoding that asks only for what ``Decoder`` reads; quality values are kept."""
    kept = [token.strip() for token in value.split(b",") if token.split(b";")[0].strip().lower() in READABLE]
    return b", ".join(kept) or b"identity"
