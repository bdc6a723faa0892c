"""A time zone as data: when its offset from UTC changes, from the pinned tzdata, never from the host's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from geo.windows import Offsets

FIRST, LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_STEP = timedelta(days=1)  # no zone changes its clocks twice within a day


@cache
def offsets_of(time_zone: str) -> Offsets:
    """(from, offset) in ms, from 2000 to 2099; before that the first one holds, after it the last."""
    zone = _pinned(time_zone)
    found = [(FIRST, _offset(zone, FIRST))]
    moment = FIRST
    while moment < LAST:
        if _offset(zone, moment + _STEP) != found[-1][1]:
            change = _change(zone, moment, moment + _STEP)
            found.append((change, _offset(zone, change)))
        moment += _STEP
    return tuple(((moment - _EPOCH) // _MS, offset // _MS) for moment, offset in found)


def _pinned(time_zone: str) -> ZoneInfo:
    with files("tzdata").joinpath("zoneinfo", *time_zone.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=time_zone)


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None
    return offset


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first second at which the offset is that of `after`."""
    old = _offset(zone, before)
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        before, after = (middle, after) if _offset(zone, middle) == old else (before, middle)
    return after
