"""The process that reads transcripts beside others: jobs in on stdin, readings out on stdout.

A job is one line of JSON; a reading is two lengths, then JSON, then its packed calls. It imports
nothing but the readers, so that it starts in a few milliseconds and stays small.
"""

from __future__ import annotations

import gc
import struct
import sys

import orjson

from .scan import Job, Reading, read

LENGTHS = struct.Struct("<II")


def encode(reading: Reading) -> bytes:
    """A reading as it travels."""
    head = orjson.dumps([*reading[:-1]], option=orjson.OPT_NON_STR_KEYS)
    return LENGTHS.pack(len(head), len(reading.calls)) + head + reading.calls


def decode(head: bytes, calls: bytes) -> Reading:
    """A reading that travelled."""
    values = orjson.loads(head)
    values[-1] = {int(key): name for key, name in values[-1].items()}
    return Reading._make([*values, calls])


def main() -> None:
    """Read jobs until stdin ends."""
    gc.disable()  # it makes nothing but tuples, and forgets them after each file
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        out.write(encode(read(Job(*orjson.loads(line)))))
        out.flush()


if __name__ == "__main__":
    main()
