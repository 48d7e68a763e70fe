"""What reads along with an answer: decoding where needed, then the protocol's own reader."""

from __future__ import annotations

from collections.abc import Callable

from ..journal.events import Usage
from .coding import Decoder
from .heard import Kept
from .http1 import ResponseHead
from .protocols.base import AnswerReader


class Tap:
    """Feeds a decoded copy of an answer to an ``AnswerReader``.

    Args:
        make: Makes the reader, once the answer's head is known.
        kept: Keeps what is read, for whoever remembers it.
    """

    def __init__(self, make: Callable[[ResponseHead], AnswerReader], kept: Kept | None = None) -> None:
        self._make = make
        self.kept = kept
        self._decoder: Decoder | None = None
        self._unreadable = ""
        self.reader: AnswerReader | None = None

    def head(self, head: ResponseHead) -> None:
        """The answer begins."""
        self.reader = self._make(head)
        coding = head.lower.get(b"content-encoding", b"").strip().lower()
        if coding in (b"gzip", b"x-gzip", b"deflate"):
            self._decoder = Decoder(coding)
        elif coding not in (b"", b"identity"):
            self._unreadable = f"the content coding {coding.decode('latin-1')[:40]} cannot be read"

    @property
    def answered(self) -> bool:
        """The first token was seen."""
        return self.reader is not None and self.reader.answered

    @property
    def error(self) -> str:
        """What the answer says went wrong, or why it could not be read."""
        if self._unreadable:
            return self._unreadable
        if self._decoder is not None and self._decoder.broken:
            return "the answer's content coding was broken"
        return self.reader.error if self.reader is not None else ""

    @property
    def direct(self) -> Callable[[bytes], int | None] | None:
        """What reads pieces that need no decoding; ``None`` where they need that."""
        if self.reader is None or self._decoder is not None or self._unreadable:
            return None
        return self.reader.feed if self.kept is None else self.kept.before(self.reader.feed)

    def feed(self, data: bytes, last: bool) -> int | None:
        """Read a piece; the offset from which it is to be kept back, ``None`` for nothing."""
        reader = self.reader
        cut: int | None = None
        if reader is not None and data and not self._unreadable:
            kept = self.kept
            if self._decoder is None:
                if kept is not None:
                    kept.add(data)
                cut = reader.feed(data)
            else:
                for piece in self._decoder.feed(data):
                    if kept is not None:
                        kept.add(piece)
                    if reader.feed(piece) is not None:
                        cut = 0
        if last:
            if reader is not None and not self._unreadable:
                reader.finish()
            return cut if cut is not None else 0
        return cut

    def usage(self) -> Usage:
        """What was used so far."""
        return self.reader.usage() if self.reader is not None else Usage()
