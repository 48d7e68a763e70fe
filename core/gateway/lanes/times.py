"""Moments as a row shows them: as exact as somebody who waits for them wants them."""

from __future__ import annotations

import time


def until(moment: float, now: float) -> str:
    """Local time of a moment to come (seconds since the epoch): ``12:03:20``, ``14:05``, ``Nov 22 14:05``."""
    ahead = moment - now
    form = "%H:%M:%S" if ahead < 600 else "%H:%M" if ahead < 20 * 3600 else "%b %d %H:%M"
    return time.strftime(form, time.localtime(moment))
