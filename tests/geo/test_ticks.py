"""Stream time: the clock never goes back, and a tick's winners do not depend on how its records were batched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.ticks import Newest, TickClock, newest

Row = tuple[int, int, bool, int]  # bike, ts, fit, marks


def clock_after(*records: tuple[int, int, bool], cuts: tuple[int, ...] = ()) -> TickClock:
    """A clock with ticks of 10 ms that has seen (offset, ms, has a value)."""
    clock = TickClock(10)
    for start, stop in zip((0, *cuts), (*cuts, len(records)), strict=True):
        if start < stop:
            part = records[start:stop]
            ms = np.array([record[1] for record in part])
            offsets = np.array([record[0] for record in part])
            valued = np.array([record[2] for record in part])
            clock.advance(ms, offsets, clock.ticks(ms), None if valued.all() else valued)
    return clock


def test_the_clock_is_the_running_maximum_and_a_late_record_is_of_the_open_tick() -> None:
    assert TickClock(10).ticks(np.array([5, 31, 17, 39, 40, 2])).tolist() == [0, 3, 3, 3, 4, 4]


def test_a_tick_is_closed_at_its_end_and_not_before() -> None:
    assert clock_after((0, 49, True)).through == 3
    assert clock_after((0, 49, True), (1, 50, False)).through == 4


def test_before_any_record_nothing_is_known() -> None:
    clock = TickClock(10)
    assert (clock.through, clock.last_tick, clock.resume_offset, clock.resume_clock) == (-1, -1, None, -1)


def test_no_timestamp_counts_as_zero() -> None:
    assert TickClock(10).ticks(np.array([-1, -1, 5])).tolist() == [0, 0, 0]


def test_it_resumes_at_the_first_record_with_a_value_of_the_open_tick() -> None:
    clock = clock_after((3, 11, True), (5, 41, False), (6, 42, True), (9, 43, True))
    assert (clock.resume_offset, clock.resume_clock) == (6, 41)


def test_without_one_it_resumes_behind_all() -> None:
    clock = clock_after((3, 11, True), (5, 41, False), (6, 45, False))
    assert (clock.resume_offset, clock.resume_clock) == (7, 45)


RECORDS = st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=12)


@given(RECORDS, st.data())
def test_cutting_the_log_elsewhere_changes_nothing(items: list[tuple[int, bool]], data: st.DataObject) -> None:
    records = [(i + i // 3, ms, valued) for i, (ms, valued) in enumerate(items)]
    cuts = tuple(sorted(data.draw(st.sets(st.integers(0, len(records))))))
    assert clock_after(*records, cuts=cuts) == clock_after(*records)


def test_a_record_with_a_value_of_a_tick_that_was_cut_off_leaves_nothing_behind() -> None:
    records = ((0, 0, False), (1, 0, True), (2, 10, False))
    assert clock_after(*records, cuts=(2,)) == clock_after(*records)


@given(RECORDS)
def test_the_clock_to_resume_with_is_that_of_all_records_before(items: list[tuple[int, bool]]) -> None:
    clock = clock_after(*((i, ms, valued) for i, (ms, valued) in enumerate(items)))
    assert clock.resume_offset is not None
    assert clock.resume_clock == max((ms for ms, _ in items[: clock.resume_offset]), default=-1)


def test_a_log_that_does_not_go_on_where_the_state_stands_is_refused() -> None:
    clock = TickClock(10, now_ms=3, through=5, next_offset=7)
    with pytest.raises(ValueError, match="tick 0 is closed, the state is complete through 5"):
        clock.ticks(np.array([4]))


# --- the newest of each bike --------------------------------------------------------------------------------------------


SCRATCH = np.full(5, -1, dtype=np.int32)


def pick(rows: list[Row], ticks: list[int] | None = None) -> Newest:
    bike, ts, fit, marks = zip(*rows, strict=True)
    tick = np.array(ticks or [7] * len(rows))
    found = newest(np.array(bike), tick, np.array(ts), np.array(fit), np.array(marks, dtype=np.uint8), SCRATCH)
    assert (SCRATCH == -1).all(), "what is left in it would be taken for groups of the next rows"
    return found


def reduce(rows: list[Row]) -> list[Row]:
    found = pick(rows)
    return [(*rows[i][:3], mark) for i, mark in zip(found.rows.tolist(), found.marks.tolist(), strict=True)]


def slow(rows: list[Row]) -> dict[int, tuple[int, bool, int]]:
    best: dict[int, tuple[int, bool, int]] = {}
    for bike, ts, fit, marks in rows:
        old = best.get(bike)
        wins = old is None or (fit, ts) >= (old[1], old[0])
        best[bike] = (*((ts, fit) if wins or old is None else old[:2]), marks | (0 if old is None else old[2]))
    return best


ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30)


@given(ROWS)
def test_the_newest_fit_row_of_each_bike_wins_and_of_equals_the_last(rows: list[Row]) -> None:
    assert {bike: rest for bike, *rest in reduce(rows)} == {bike: [*rest] for bike, rest in slow(rows).items()}
    for i in pick(rows).rows.tolist():
        assert not any(rows[j][:3] == rows[i][:3] for j in range(i + 1, len(rows))) or not rows[i][2]


@given(ROWS, ROWS)
def test_reducing_a_part_first_changes_nothing(first: list[Row], rest: list[Row]) -> None:
    assert reduce(reduce(first) + rest) == reduce(first + rest)


def test_groups_come_in_order_of_their_first_rows() -> None:
    assert [bike for bike, *_ in reduce([(4, 0, True, 0), (1, 0, True, 0), (2, 0, True, 0), (1, 1, True, 0)])] == [4, 1, 2]


@given(st.lists(st.tuples(st.integers(0, 3), ROWS), min_size=1, max_size=4))
def test_each_tick_of_a_bike_is_a_group_of_its_own_and_waves_number_them(parts: list[tuple[int, list[Row]]]) -> None:
    parts.sort(key=lambda part: part[0])
    ticks = [tick for tick, rows in parts for _ in rows]
    rows = [row for _, some in parts for row in some]
    found = pick(rows, ticks)
    best = {
        (tick, bike): rest
        for tick in set(ticks)
        for bike, rest in slow([r for t, r in zip(ticks, rows, strict=True) if t == tick]).items()
    }
    groups = [(ticks[i], rows[i][0]) for i in found.rows.tolist()]
    assert {g: (*rows[i][1:3], m) for g, i, m in zip(groups, found.rows.tolist(), found.marks.tolist(), strict=True)} == best
    assert found.wave.tolist() == [sum(b == bike for _, b in groups[:i]) for i, (_, bike) in enumerate(groups)]
