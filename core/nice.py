"""What a nice value is worth: Linux's own table, for CPU time and for tokens alike."""

from __future__ import annotations

#: ``sched_prio_to_weight`` of the kernel (kernel/sched/core.c), nice -20 to 19: each step is about 25 %.
WEIGHTS = (
    88761, 71755, 56483, 46273, 36291,
    29154, 23254, 18705, 14949, 11916,
    9548, 7620, 6100, 4904, 3906,
    3121, 2501, 1991, 1586, 1277,
    1024, 820, 655, 526, 423,
    335, 272, 215, 172, 137,
    110, 87, 70, 56, 45,
    36, 29, 23, 18, 15,
)  # fmt: skip

NORMAL = 1024
"""The weight of nice 0."""


def weight(nice: int) -> int:
    """The weight of a nice value; one outside -20..19 counts as the nearest."""
    return WEIGHTS[max(-20, min(19, nice)) + 20]
