"""Values of many pings to columns, and the rules that go beyond the type of a field. docs/semantics.md, section 1."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geo.states import OTHER_VEHICLE, TOUCHING, VEHICLES
from streams.flat_json import E7
from streams.ping_forms import END_OF_TIME_MS
from streams.refusals import explain, shown
from streams.rfc3339 import parse_ms

NULL_ISLAND_E7 = 10_000
GREATEST_ACCURACY_MM = 2**31 - 1
MM = 10_000  # in 1e-7 m

Reasons = dict[int, str | Exception]
"""By index of a ping why it is malformed: in words, or as the error of the parser."""

_VEHICLE_CODES: dict[str | None, int] = dict(zip((None, *VEHICLES[1:]), range(len(VEHICLES)), strict=True))
_PLAIN = bytes(range(0x20, 0x7F))  # printable ASCII


def takes(numbers: Mapping[str, NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Which of the numbers read break no rule and need no rounding that only a float can tell; bool (m,)."""
    lat, lng = np.abs(numbers["lat"]), np.abs(numbers["lng"])
    ok: NDArray[np.bool_] = (lat <= 90 * E7) & (lng <= 180 * E7) & (numbers["ts"] < END_OF_TIME_MS)
    ok &= (lat >= NULL_ISLAND_E7) | (lng >= NULL_ISLAND_E7)
    if "accuracy" in numbers:
        # A half of a millimetre is rounded as the float has it; that it was rounded to 1e-7 may have moved it by one.
        accuracy = numbers["accuracy"]
        ok &= (accuracy >= 0) & (np.abs(accuracy % MM - MM // 2) > 1)
    return ok


def e7(degrees: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.rint(degrees * 1e7).astype(np.int32)


def null_island(lat: NDArray[np.int32], lng: NDArray[np.int32]) -> Reasons:
    """Receivers without a fix say (0, 0). The coordinates are those of the feed, before any conversion."""
    at_zero = np.flatnonzero((np.abs(lat) < NULL_ISLAND_E7) & (np.abs(lng) < NULL_ISLAND_E7))
    text = "lat, lng must not both be within 0.001 degrees of 0; got ({:.7f}, {:.7f}); leave out pings without a fix"
    return {i: text.format(lat[i] / 1e7, lng[i] / 1e7) for i in at_zero.tolist()}


def unprintable(field: str, names: list[str]) -> Reasons:
    text = "".join(names)
    if not text.encode().translate(None, _PLAIN) or text.isprintable():
        return {}
    rule = "{} must be printable characters; got {}; send it without line breaks and control characters"
    return {i: rule.format(field, shown(name)) for i, name in enumerate(names) if not name.isprintable()}


def bad_utf8(values: Sequence[Any]) -> Reasons:
    """The parser does not look into strings that it skips; JSON text is UTF-8 throughout."""
    if b"".join(values).isascii():
        return {}
    bad: Reasons = {}
    for i, value in enumerate(values):
        try:
            value.decode()
        except UnicodeDecodeError as error:
            bad[i] = explain(value, error)
    return bad


def times(times: list[int | str], bad: Reasons) -> NDArray[np.int64]:
    """Milliseconds, int64 (n,); adds to the bad ones those whose text is no time."""
    try:
        return np.frombuffer(array("q", times), dtype=np.int64)  # type: ignore[type-var]
    except TypeError:  # some are text
        pass
    for i, time in enumerate(times):
        if isinstance(time, str):
            ms = parse_ms(time)
            if ms is None or not 0 < ms < END_OF_TIME_MS:
                bad.setdefault(i, _NO_TIME.format(shown(time)))
            times[i] = ms or 0
    return np.fromiter(times, dtype=np.int64, count=len(times))


_NO_TIME = (
    "ts must be milliseconds or RFC 3339 with an offset, after 1970 and before 2100; got {}; "
    "send it like 1700000000000 or 2023-11-14T22:13:20Z"
)


def millimetres(metres: list[float | None]) -> NDArray[np.int32]:
    """int32 (n,); 0: not reported."""
    mm = np.array(metres, dtype=np.float64)  # None becomes NaN, which JSON cannot say
    mm *= 1000
    np.rint(mm, out=mm)
    np.minimum(mm, GREATEST_ACCURACY_MM, out=mm)
    mm[np.isnan(mm)] = 0
    return mm.astype(np.int32)


def vehicles(names: list[str | None]) -> NDArray[np.uint8]:
    if names.count(None) == len(names):
        return np.zeros(len(names), dtype=np.uint8)
    return np.fromiter([_VEHICLE_CODES.get(name, OTHER_VEHICLE) for name in names], dtype=np.uint8, count=len(names))


def touched(events: list[str | None]) -> NDArray[np.bool_]:
    if events.count(None) == len(events):
        return np.zeros(len(events), dtype=np.bool_)
    return np.fromiter([event in TOUCHING for event in events], dtype=np.bool_, count=len(events))
