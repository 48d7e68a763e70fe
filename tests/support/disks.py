"""Disks that are full."""

from __future__ import annotations

from pathlib import Path

_PIECE = b"\0" * (16 << 10)


def fill(disk: Path) -> Path:
    """Write until nothing more fits; the file that is in the way."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(_PIECE):
                pass
        except OSError:
            return filler
    raise AssertionError("the disk did not fill up")
