"""When a rule is in force: windows of a city's local time, also over midnight and where the clocks change.

docs/policies.md, section 3. Local time is data: a table of offsets comes in with the city, nothing here knows a time zone.
Moments are int64 milliseconds of stream time (UTC), windows are closed below and open above.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

Offsets = tuple[tuple[int, int], ...]
"""(from, offset): local time is UTC + offset (ms) from that moment on. Ascending; the first one also holds before. Empty: UTC."""

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MS = 86_400_000
DAY_S = 86_400

_THURSDAY = 3  # 1970-01-01
_FARTHEST_OFFSET_MS = 86_400_000  # no zone is or was a day away from UTC
_WEEK = 7


@dataclass(frozen=True, slots=True)
class Window:
    """From `start_s` to `end_s` (seconds of the day; 86,400 is its end) on the days it opens on, 0 = Monday.

    An end that is not after the start is one of the next day.
    """

    days: tuple[int, ...] = tuple(range(_WEEK))
    start_s: int = 0
    end_s: int = DAY_S


class Span(NamedTuple):
    """One time that a window is open: the rule is in force from `begin` on, the window itself from `open` on, until `close`."""

    begin: int
    open: int
    close: int


def first_showing(local_ms: int, offsets: Offsets) -> int:
    """The first moment at which the local clock shows this (ms since 1970-01-01 00:00 by that clock) or something later.

    A time that a change of the clocks leaves out is thus the moment of the change; of an hour that comes twice it is the first.
    """
    if not offsets:
        return local_ms
    for i in range(max(0, bisect_right(offsets, (local_ms - _FARTHEST_OFFSET_MS, 0)) - 1), len(offsets)):
        start, offset = offsets[i]
        shows = local_ms - offset if i == 0 else max(start, local_ms - offset)
        if i + 1 == len(offsets) or shows < offsets[i + 1][0]:
            return shows
    raise AssertionError("the last offset holds for ever")


def date_at(at_ms: int, offsets: Offsets) -> int:
    """The local date of a moment, in days since 1970-01-01: the last one whose 00:00 is not after it. It never goes back."""
    date = (at_ms + _FARTHEST_OFFSET_MS) // DAY_MS
    while first_showing(date * DAY_MS, offsets) > at_ms:
        date -= 1
    return date


def spans(window: Window, prepare_ms: int, offsets: Offsets, around_ms: int) -> Iterator[Span]:
    """All times the window is open that can hold a moment, and those of the week after it; by date."""
    today = around_ms // DAY_MS
    for day in range(today - 3, today + _WEEK + 4):  # offset and end on the next day before it, preparation after it
        if (day + _THURSDAY) % _WEEK in window.days:
            opens = first_showing(day * DAY_MS + window.start_s * 1000, offsets)
            next_day = window.end_s <= window.start_s
            closes = first_showing((day + next_day) * DAY_MS + window.end_s * 1000, offsets)
            if opens < closes:
                yield Span(opens - prepare_ms, opens, closes)


def span_at(window: Window, prepare_ms: int, offsets: Offsets, at_ms: int) -> Span | None:
    """The open window that a moment lies in, of several the first by date."""
    return next((span for span in spans(window, prepare_ms, offsets, at_ms) if span.begin <= at_ms < span.close), None)


def next_edge(window: Window, prepare_ms: int, offsets: Offsets, after_ms: int) -> int:
    """The first moment after this one at which the window begins or closes.

    Never later than it truly is: if a whole week of windows is swallowed, a moment to look again.
    """
    edges = (edge for span in spans(window, prepare_ms, offsets, after_ms) for edge in (span.begin, span.close))
    return min((edge for edge in edges if edge > after_ms), default=after_ms + _WEEK * DAY_MS)
