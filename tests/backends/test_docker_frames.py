"""dockerd's log stream: cut anywhere, read again from any point, told twice; needs no dockerd."""

from __future__ import annotations

import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agenttop.backends.docker_files import Files
from agenttop.backends.docker_frames import STREAMS, Entry, Frames, Resume, Stream, Taken, unix_time

BASE = "2026-11-21T02:45:40.{:09d}Z"


def encode(entries: list[Entry]) -> bytes:
    frames = []
    for entry in entries:
        data = entry.stamp.encode() + b" " + entry.data
        frames.append(struct.pack(">BxxxL", 1 if entry.stream == "out" else 2, len(data)) + data)
    return b"".join(frames)


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """A log: stamps never go back within a stream, and the parts of a long line share one."""
    now: dict[Stream, int] = {"out": 0, "err": 0}
    entries = []
    for step, stream, data in draw(
        st.lists(st.tuples(st.integers(0, 2), st.sampled_from(STREAMS), st.binary(min_size=1, max_size=6)))
    ):
        now[stream] += step
        entries.append(Entry(stream, BASE.format(now[stream]), data + b"\n"))
    return entries


def take(entries: list[Entry], taken: dict[Stream, Taken], resume: Resume) -> list[Entry]:
    fresh = [entry for entry in entries if resume.is_new(entry)]
    for entry in fresh:
        taken[entry.stream] = taken[entry.stream].plus(entry)
    return fresh


@given(logs(), st.integers(1, 40))
def test_frames_cut_anywhere_give_the_same_entries(entries: list[Entry], size: int) -> None:
    raw, frames = encode(entries), Frames()
    assert [e for at in range(0, len(raw), size) for e in frames.feed(raw[at : at + size])] == entries


@given(logs(), st.data())
def test_reading_on_from_any_point_has_no_loss_and_no_repeat(
    entries: list[Entry], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(entries)))
    taken = dict.fromkeys(STREAMS, Taken())
    first = take(entries[:cut], taken, Resume(taken))
    again = Resume(taken)
    told = [e for e in entries if again.since == "0" or float(unix_time(e.stamp)) >= float(again.since)]
    second = take(told, taken, again)
    for stream in STREAMS:
        assert [e for e in first + second if e.stream == stream] == [e for e in entries if e.stream == stream]
        assert taken[stream].offset == sum(len(e.data) for e in entries if e.stream == stream)


@given(logs(), st.data())
def test_entries_told_twice_are_taken_once(entries: list[Entry], data: st.DataObject) -> None:
    # A rotated log sends its reader back to the beginning of a file.
    mine = [entry for entry in entries if entry.stream == "out"]
    cut = data.draw(st.integers(0, len(mine)))
    if cut > 0 and mine[cut - 1].stamp == mine[0].stamp:
        cut = 0  # the same stamp before and after the jump back is one run of parts: not told apart
    taken = dict.fromkeys(STREAMS, Taken())
    resume = Resume(taken)
    assert take(mine[:cut], taken, resume) == mine[:cut]
    assert take(mine, taken, resume) == mine[cut:]


def test_the_end_of_a_long_line_that_dockerd_dropped_is_put_back() -> None:
    parts = [(1, b"x" * 4), (1, b"xx"), (2, b"next\n"), (3, b"last")]
    taken, written = Taken(), b""
    for stamp, data in parts:
        entry = Entry("out", BASE.format(stamp), data)
        written += taken.bytes_of(entry)
        taken = taken.plus(entry)
    assert written == b"xxxxxx\nnext\nlast"
    assert taken.offset == len(written)


def test_stamps_of_a_clock_that_was_set_back_are_new() -> None:
    taken = dict.fromkeys(STREAMS, Taken())
    late, early = Entry("out", BASE.format(9), b"a"), Entry("out", BASE.format(3), b"b")
    assert take([late, early], taken, Resume(taken)) == [late, early]


def test_a_stamp_becomes_what_dockerd_asks_for() -> None:
    assert unix_time("2026-11-21T02:45:40.219796215Z") == "1795229140.219796215"
    assert unix_time("1970-01-01T00:00:00.000000000Z") == "0.000000000"


def test_files_are_cut_back_to_their_point_and_two_sources_write_once(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.put("out", 0, b"live ahead")
    files.put("out", 0, b"live")
    files.taken["out"] = Taken(BASE.format(1), 1, 4)
    files.close()
    assert (tmp_path / "out").read_bytes() == b"live ahead"
    again = Files(tmp_path)
    assert (tmp_path / "out").read_bytes() == b"live"
    again.put("out", 4, b" on")
    again.close()
    assert (tmp_path / "out").read_bytes() == b"live on"
    assert again.taken["out"].offset == 4


def test_files_shorter_than_their_point_are_copied_anew(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.put("out", 0, b"0123456789")
    files.taken["out"] = Taken(BASE.format(1), 1, 10)
    files.close()
    (tmp_path / "out").write_bytes(b"0123")
    again = Files(tmp_path)
    assert again.taken["out"] == Taken()
    again.close()
