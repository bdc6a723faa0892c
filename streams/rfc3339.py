"""Times as text: RFC 3339 with an offset to milliseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:\d{2})", flags=re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_ms(text: str) -> int | None:
    """Milliseconds since 1970, cut and not rounded; None if the text is not such a time. A leap second is not one."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    day, time, fraction, zone = match.groups()
    whole = _whole_ms(day, time, zone)
    return whole if whole is None or fraction is None else whole + int((fraction + "00")[:3])


@lru_cache(maxsize=4096)
def _whole_ms(day: str, time: str, zone: str) -> int | None:
    """Pings of one batch share their second, so it is worked out once."""
    if zone[1:3] > "23" or zone[4:] > "59":
        return None
    try:
        moment = datetime.fromisoformat(f"{day}T{time}{zone.upper().replace('Z', '+00:00')}")
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        return None
