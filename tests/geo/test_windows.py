"""Windows of local time: over midnight, and where the clocks change. The truth here is Python's zoneinfo, read from tzdata."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.resources import files
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.windows import DAY_S, Offsets, Window, first_showing, next_edge, span_at
from streams.settings.localtime import offsets_of

HOUR_MS = 3_600_000
BERLIN = offsets_of("Europe/Berlin")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = ("Europe/Berlin", "America/Havana", "Asia/Beirut", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Shanghai", "UTC")


def zone_of(name: str) -> ZoneInfo:
    """From the wheel: the host may have another version."""
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file)


def ms(text: str) -> int:
    """Of an RFC 3339 time."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(milliseconds=1)


def window(start: str, end: str, days: tuple[int, ...] = tuple(range(7))) -> Window:
    def seconds(text: str) -> int:
        hours, minutes = map(int, text.split(":"))
        return hours * 3600 + minutes * 60

    return Window(days, seconds(start), seconds(end))


def is_open(one: Window, at: str, offsets: Offsets = BERLIN, prepare_ms: int = 0) -> bool:
    return span_at(one, prepare_ms, offsets, ms(at)) is not None


def test_a_window_is_closed_below_and_open_above() -> None:
    """08:00 to 10:00 in Berlin, in winter."""
    morning = window("08:00", "10:00")
    assert not is_open(morning, "2026-01-15T06:59:59.999Z")
    assert is_open(morning, "2026-01-15T07:00:00Z")
    assert is_open(morning, "2026-01-15T08:59:59.999Z")
    assert not is_open(morning, "2026-01-15T09:00:00Z")


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_opens() -> None:
    """Friday 22:00 to Saturday 06:00; 2026-01-16 is a Friday."""
    night = window("22:00", "06:00", days=(4,))
    assert is_open(night, "2026-01-16T22:00:00+01:00")
    assert is_open(night, "2026-01-17T05:59:59+01:00")
    assert not is_open(night, "2026-01-17T06:00:00+01:00")
    assert not is_open(night, "2026-01-17T22:00:00+01:00"), "Saturday is no day of it"
    assert not is_open(night, "2026-01-16T05:00:00+01:00"), "that was Thursday's night"


def test_equal_times_make_a_whole_day() -> None:
    day = window("06:00", "06:00", days=(4,))
    assert is_open(day, "2026-01-16T06:00:00+01:00") and is_open(day, "2026-01-17T05:59:59+01:00")
    assert not is_open(day, "2026-01-17T06:00:00+01:00")


def test_the_end_of_the_day_leaves_no_gap_to_the_next_one() -> None:
    evening = Window(tuple(range(7)), 20 * 3600, DAY_S)
    assert is_open(evening, "2026-01-15T23:59:59.999+01:00")
    assert not is_open(evening, "2026-01-16T00:00:00+01:00")


def test_a_time_that_summer_time_leaves_out_is_the_moment_of_the_change() -> None:
    """2026-03-29 in Berlin: from 02:00 the clocks go to 03:00, at 01:00 UTC."""
    change = ms("2026-03-29T01:00:00Z")
    assert span_at(window("02:30", "04:00"), 0, BERLIN, change) == (change, change, change + HOUR_MS)
    assert not is_open(window("02:30", "04:00"), "2026-03-29T00:59:59Z")


def test_a_window_that_summer_time_swallows_does_not_open() -> None:
    gone = window("02:00", "03:00")
    assert not any(is_open(gone, f"2026-03-29T0{hour}:{minute:02d}:00Z") for hour in (0, 1, 2) for minute in range(60))
    assert is_open(gone, "2026-03-28T01:30:00Z") and is_open(gone, "2026-03-30T00:30:00Z")


def test_an_hour_that_comes_twice_in_autumn_is_the_first_of_the_two() -> None:
    """2026-10-25 in Berlin: from 03:00 the clocks go back to 02:00, at 01:00 UTC."""
    late = window("02:30", "04:00")
    assert not is_open(late, "2026-10-25T00:29:59Z")
    assert is_open(late, "2026-10-25T00:30:00Z"), "02:30 for the first time"
    assert is_open(late, "2026-10-25T01:10:00Z"), "02:10 once more: it has opened already"
    assert is_open(late, "2026-10-25T02:59:59Z")
    assert not is_open(late, "2026-10-25T03:00:00Z")
    early = window("00:00", "02:30")
    assert not is_open(early, "2026-10-25T00:30:00Z"), "closed at 02:30 for the first time"
    assert not is_open(early, "2026-10-25T01:10:00Z"), "and does not open again at 02:10"


def test_a_night_is_an_hour_shorter_in_spring_and_longer_in_autumn() -> None:
    night = window("22:00", "06:00")
    for day, hours in (("2026-03-28", 7), ("2026-10-24", 9), ("2026-01-10", 8)):
        opens = first_showing(ms(f"{day}T22:00:00Z"), BERLIN)
        span = span_at(night, 0, BERLIN, opens)
        assert span is not None and span.close - span.open == hours * HOUR_MS


def test_preparation_begins_before_the_window() -> None:
    morning = window("08:00", "10:00")
    assert is_open(morning, "2026-01-15T06:00:00+01:00", prepare_ms=2 * HOUR_MS)
    assert not is_open(morning, "2026-01-15T05:59:59+01:00", prepare_ms=2 * HOUR_MS)
    span = span_at(morning, 2 * HOUR_MS, BERLIN, ms("2026-01-15T06:00:00+01:00"))
    assert span is not None and span.open == ms("2026-01-15T08:00:00+01:00")


@pytest.mark.parametrize("name", ZONES)
@given(st.integers(ms("2001-01-01T00:00:00Z"), ms("2090-01-01T00:00:00Z")))
def test_offsets_are_those_of_tzdata(name: str, at: int) -> None:
    offset = next(offset for start, offset in reversed(offsets_of(name)) if start <= at)
    moment = EPOCH + timedelta(milliseconds=at)
    assert moment.astimezone(zone_of(name)).utcoffset() == timedelta(milliseconds=offset)


@pytest.mark.parametrize("name", ZONES)
@given(st.integers(ms("2024-01-01T00:00:00Z") // 1000, ms("2027-01-01T00:00:00Z") // 1000))
def test_the_first_moment_is_that_of_a_clock_that_is_watched(name: str, shows_s: int) -> None:
    """Nothing before it shows the time or later, and it does. Changes of clocks fall on quarters of hours."""
    offsets, zone = offsets_of(name), zone_of(name)
    at = first_showing(shows_s * 1000, offsets)

    def clock(moment_ms: int) -> int:
        local = (EPOCH + timedelta(milliseconds=moment_ms)).astimezone(zone).replace(tzinfo=UTC)
        return (local - EPOCH) // timedelta(milliseconds=1)

    assert clock(at) >= shows_s * 1000
    quarters = range(at - 1, at - 30 * HOUR_MS, -HOUR_MS // 4)
    assert all(clock(moment) < shows_s * 1000 for moment in quarters)


@given(st.sets(st.integers(0, 6), min_size=1), st.integers(0, DAY_S - 1), st.integers(1, DAY_S), st.integers(0, 2**26))
def test_nothing_changes_between_one_edge_and_the_next(days: set[int], start: int, end: int, minutes: int) -> None:
    one, at = Window(tuple(sorted(days)), start, end), ms("2000-06-01T00:00:00Z") + minutes * 1000
    edge = next_edge(one, 0, BERLIN, at)
    assert edge > at
    between = range(at, edge, max(1, (edge - at) // 50))
    assert len({span_at(one, 0, BERLIN, moment) for moment in between}) == 1
