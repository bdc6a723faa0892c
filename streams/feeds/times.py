"""Times as feeds write them -> milliseconds since the epoch."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, tzinfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_SECONDS_BELOW = 10**11  # as seconds the year 5138, as milliseconds 1973: no feed means either
MOST_MS = 4_102_444_800_000  # the year 2100, exclusive, as in docs/semantics.md


def time_ms(value: object) -> int:
    """A canonical ping's time: integer milliseconds, or RFC 3339 with an offset (cut to ms). Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _in_range(value)
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return _in_range((moment - _EPOCH) // _MS)
    raise ValueError("not a time")


def text_ms(text: str, zone: tzinfo | None) -> int:
    """A time in a table: seconds or milliseconds since the epoch, or ISO 8601; `zone` is that of times without one.

    Raises ValueError. A time without an offset is refused if there is no `zone`: a guess would be hours off.
    """
    try:
        number = float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            if zone is None:
                raise ValueError("time without offset; give --tz") from None
            moment = moment.replace(tzinfo=zone)
        return _in_range((moment - _EPOCH) // _MS)
    if not math.isfinite(number):
        raise ValueError("not a time")
    if abs(number) >= _SECONDS_BELOW:
        return _in_range(int(number))
    return _in_range(math.floor(number * 1000))


def _in_range(ms: int) -> int:
    if not 0 < ms < MOST_MS:
        raise ValueError("time out of range")
    return ms
