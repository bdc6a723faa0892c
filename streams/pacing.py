"""Catching up: a source that is far ahead of its cities in stream time waits, so that a city need not hold hours of frames.

Timing only, never results. The city itself never stops reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from streams.mirror import Mirror

LEAD_LIMIT_MS = 3_600_000


class Progress(msgspec.Struct):
    """Value of `city.progress`: the tick that a city has closed."""

    tick: int
    tick_ms: int


def slowest_city_ms(mirrors: Iterable[Mirror], cities: Iterable[str]) -> int | None:
    """Stream time that every city has worked through; None while one of them has said nothing yet."""
    told: dict[str, int] = {}
    for mirror in mirrors:
        for key, value in mirror.newest.items():
            progress = msgspec.json.decode(value, type=Progress)
            told[key.decode()] = (progress.tick + 1) * progress.tick_ms
    times = [told.get(city) for city in cities]
    return None if None in times or not times else min(time for time in times if time is not None)


def sources_ahead(clocks_ms: Mapping[Any, int], slowest_ms: int | None, limit_ms: int = LEAD_LIMIT_MS) -> set[Any]:
    """The sources that should wait: their clock leads the slowest city by more than the limit."""
    if slowest_ms is None:
        return set()
    return {source for source, clock in clocks_ms.items() if clock > slowest_ms + limit_ms}
