"""How the interpreter runs a kernel: when it collects cycles, and how soon a waiting thread gets its turn."""

from __future__ import annotations

import gc
import sys

#: Objects made and not freed between two collections. The usual 700 are made within ten model calls, and
#: a round of the collector then takes a twentieth of all CPU; 10,000 are a few MB at most.
OBJECTS = 10_000

#: Seconds until a running thread makes room for one that waits. The journal's writer needs the interpreter
#: for some microseconds before and after each commit; of the usual 5 ms every call would wait twice.
TURN = 0.000_5


def steady() -> None:
    """What lives now lives for ever: leave it out of collections, and collect seldom; share the interpreter
    in short turns."""
    gc.freeze()
    gc.set_threshold(OBJECTS, 10, 10)
    gc.enable()
    sys.setswitchinterval(TURN)
