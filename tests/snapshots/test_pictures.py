"""The README's pictures: drawn by one command, and the same each time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCREENSHOTS = Path(__file__).parents[2] / "screenshots"
#: This one shows a path below the kernel's folder, which is another each time.
NAME = "launch-120x34"


def draw(into: Path) -> bytes:
    into.mkdir()
    done = subprocess.run(
        [sys.executable, str(SCREENSHOTS / "make.py"), "--into", str(into), NAME],
        capture_output=True, text=True, timeout=180, check=False,
        env={**os.environ, "AGENTTOP_HOME": str(into / "not-this-one")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert [path.name for path in into.iterdir()] == [f"{NAME}.svg"]
    return (into / f"{NAME}.svg").read_bytes()


def test_two_runs_draw_the_same_picture(tmp_path: Path) -> None:
    first = draw(tmp_path / "first")
    assert first.startswith(b"<svg")
    assert b"New agent" in first.replace(b"&#160;", b" ")
    assert first == draw(tmp_path / "second")


def test_every_picture_that_can_be_drawn_is_there() -> None:
    sys.path.insert(0, str(SCREENSHOTS))
    try:
        import make  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(SCREENSHOTS))
    wanted = {f"{picture.name}.svg" for picture in make.PICTURES}
    assert {path.name for path in SCREENSHOTS.glob("*.svg")} == wanted
