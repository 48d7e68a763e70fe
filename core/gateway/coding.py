"""Content codings: the bytes pass unchanged, usage is read from a decoded copy on the side."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

READABLE = (b"gzip", b"deflate", b"identity")
_PIECE = 64 << 10
_GZIP = zlib.MAX_WBITS | 16


class Decoder:
    """Decodes gzip or deflate as it arrives, in pieces of bounded size (a bomb stays small)."""

    def __init__(self, coding: bytes) -> None:
        self._deflate = coding == b"deflate"
        self._first = b""
        self._zlib = None if self._deflate else zlib.decompressobj(_GZIP)
        self.broken = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decoded pieces of at most 64 kB. After a bad byte nothing more comes (``broken``)."""
        if self._zlib is None:
            data = self._first = self._first + data
            if len(data) < 2:
                return
            # "deflate" means zlib (RFC 9110, 8.4.1.2), but some servers send it bare: zlib's header tells.
            wrapped = data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0
            self._zlib = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        more = True
        while (data or more) and not self.broken:
            try:
                piece = self._zlib.decompress(data, _PIECE)
            except zlib.error:
                self.broken = True
                return
            if piece:
                yield piece
            more = len(piece) == _PIECE
            data = self._zlib.unconsumed_tail
            if self._zlib.eof:
                data = self._zlib.unused_data if not self._deflate else b""
                more = False
                if data:
                    self._zlib = zlib.decompressobj(_GZIP)  # a gzip body may have several members


def accept_readable(value: bytes) -> bytes:
    """An Accept-Encoding that asks only for what ``Decoder`` reads; quality values are kept."""
    kept = [token.strip() for token in value.split(b",") if token.split(b";")[0].strip().lower() in READABLE]
    return b", ".join(kept) or b"identity"
