"""The name of the folder in which Claude Code keeps a working folder's transcripts."""

from __future__ import annotations

import re

_OTHER = re.compile(r"[^A-Za-z0-9]")
LONGEST = 200


def slug(folder: str) -> str:
    """The folder's name for a resolved path; one over 200 characters is only its beginning.

    Each UTF-16 unit outside ``[A-Za-z0-9]`` becomes ``-``: JavaScript counts those, so a character
    beyond the basic plane becomes two. Longer names are cut and get a suffix that is not known here.
    """
    text = folder.encode("utf-16-le", "surrogatepass")
    units = "".join(chr(int.from_bytes(text[i : i + 2], "little")) for i in range(0, len(text), 2))
    return _OTHER.sub("-", units)[:LONGEST]
