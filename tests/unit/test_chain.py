from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agenttop.core.journal.chain import GENESIS, Head, VerifyResult, link, walk
from agenttop.core.journal.events import Record

ROW = st.tuples(
    st.floats(min_value=0, max_value=4e9),
    st.text(max_size=8),
    st.none() | st.text(max_size=8),
    st.binary(max_size=40),
)


def chain_of(rows: list[tuple[float, str, str | None, bytes]]) -> list[Record]:
    records, previous, ts = [], GENESIS, 0.0
    for seq, (time, kind, agent, body) in enumerate(rows, 1):
        ts = max(ts, time)
        previous = link(previous, seq, ts, kind, agent, body)
        records.append(Record(seq, ts, kind, agent, body, previous))
    return records


def verify(records: list[Record]) -> VerifyResult:
    return walk(VerifyResult(0, Head()), records)


@given(st.lists(ROW, max_size=8))
def test_a_chain_that_was_built_verifies(rows: list[tuple[float, str, str | None, bytes]]) -> None:
    records = chain_of(rows)
    result = verify(records)
    assert result.ok
    assert result.events == len(rows)
    assert result.head.hash == (records[-1].hash if records else GENESIS)


@given(st.lists(ROW, min_size=1, max_size=6), st.data())
def test_any_changed_field_is_found_at_its_row(
    rows: list[tuple[float, str, str | None, bytes]], data: st.DataObject
) -> None:
    records = chain_of(rows)
    at = data.draw(st.integers(0, len(records) - 1))
    bad = records[at]
    other = data.draw(
        st.sampled_from(
            [
                bad._replace(body=bad.body + b"x"),
                bad._replace(kind=bad.kind + "x"),
                bad._replace(agent=(bad.agent or "") + "x"),
                bad._replace(agent=None if bad.agent is not None else ""),
                bad._replace(ts=bad.ts + 1),
                bad._replace(hash=bytes(32)),
            ]
        )
    )
    records[at] = other
    result = verify(records)
    assert result.first_bad == bad.seq
    assert result.events == at


def test_a_missing_row_is_found_at_the_row_after_it() -> None:
    records = chain_of([(1.0, "A", None, b"")] * 4)
    del records[1]
    result = verify(records)
    assert (result.first_bad, result.why) == (3, "event 2 is missing")


def test_two_rows_cannot_share_their_bytes_by_shifting_kind_agent_and_body() -> None:
    parts = {
        link(GENESIS, 1, 0.0, "ab", "c", b"d"),
        link(GENESIS, 1, 0.0, "a", "bc", b"d"),
        link(GENESIS, 1, 0.0, "abc", "", b"d"),
        link(GENESIS, 1, 0.0, "abc", None, b"d"),
        link(GENESIS, 1, 0.0, "abcd", None, b""),
    }
    assert len(parts) == 5
