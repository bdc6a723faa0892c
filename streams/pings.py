"""Pings from the wire: JSON values of Kafka records to the columns that geo works on. docs/semantics.md, section 1.

Pings that fit one of their producer's templates, nearly all in most feeds, are read as columns (streams.flat_json). Each of the
others is parsed by itself, so that a broken one cannot splice into its neighbours and each gets its own reason. Both ways give
the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from geo.coordinates import bd09_to_wgs84, gcj02_to_wgs84
from geo.params import Timeline
from geo.records import Records
from geo.spans import Spans
from geo.states import OTHER_VEHICLE, STATES, TOUCHING, VEHICLES
from streams.batches import Batch
from streams.flat_json import E7, Field, Names, Reader, Table
from streams.refusals import explain, shown
from streams.rfc3339 import parse_ms

Coordinates = Literal["wgs84", "gcj02", "bd09"]
Reason = tuple[int, str]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Feed:
    """A topic of pings. operator: whose feed it is; None: a gateway's, whose pings name the operator."""

    topic: str
    operator: str | None
    coordinates: Coordinates = "wgs84"
    format: Literal["json"] = "json"


END_OF_TIME_MS = 4_102_444_800_000  # year 2100
NULL_ISLAND_E7 = 10_000
GREATEST_ACCURACY_MM = 2**31 - 1
_MM = 10_000  # in 1e-7 m
_ZERO = np.zeros(1, dtype=np.int64)

_Name = Annotated[str, Meta(min_length=1, max_length=128)]
_Time = Annotated[int, Meta(gt=0, lt=END_OF_TIME_MS)] | str
_Number = float | None
_Text = str | None
_State = Literal["available", "reserved", "non_operational", "non_contactable", "on_trip", "removed", "missing", "elsewhere"]


class _GatewayPing(msgspec.Struct, gc=False, kw_only=True):
    """A ping on a gateway's feed, which must say whose bike it is."""

    bike_id: _Name
    ts: _Time
    lat: Annotated[float, Meta(ge=-90, le=90)]
    lng: Annotated[float, Meta(ge=-180, le=180)]
    accuracy: Annotated[float, Meta(ge=0)] | None = None
    status: _State | None = None
    vehicle_type: _Text = None
    event: Annotated[str, Meta(max_length=128)] | None = None
    speed: _Number = None
    heading: _Number = None
    battery: _Number = None
    telemetry_id: _Text = None
    received_at: int | str | None = None
    operator: _Name


_STATE_CODES: dict[str | None, int] = dict(zip((None, *STATES[1:]), range(len(STATES)), strict=True))
_VEHICLE_CODES: dict[str | None, int] = dict(zip((None, *VEHICLES[1:]), range(len(VEHICLES)), strict=True))
_PLAIN = bytes(range(0x20, 0x7F))  # printable ASCII

_TO_WGS84: dict[str, Callable[..., tuple[NDArray[np.float64], NDArray[np.float64]]]] = {
    "gcj02": gcj02_to_wgs84,
    "bd09": bd09_to_wgs84,
}


PIECE_RECORDS = 8_192
"""Decoded at a time: the columns of more do not stay in the cache."""

_COLUMNS: dict[str, Any] = {
    "operator": np.int16,
    "device_ms": np.int64,
    "lat": np.int32,
    "lng": np.int32,
    "accuracy": np.int32,
    "state": np.uint8,
    "vehicle": np.uint8,
    "touched": np.bool_,
}

_FIELDS = (
    Field("bike_id", "text"),
    Field("ts", "milliseconds"),
    *(Field(name, "decimal") for name in ("accuracy", "speed", "heading", "battery")),
    Field("status", "text", Names(["", *STATES[1:]])),
    Field("vehicle_type", "text", Names(["", *VEHICLES[1:]])),
)
_REQUIRED = ("bike_id", "ts", "lat", "lng")


@dataclass(slots=True)
class _Decoded:
    """n records on their way into columns. good: bool (n,), the rows that are filled; reasons: of rows that never will be."""

    columns: dict[str, Any]
    ids: Spans
    good: NDArray[np.bool_]
    reasons: list[Reason]

    @classmethod
    def of(cls, values: Spans) -> _Decoded:
        n = len(values)
        ids = Spans(values.buffer, np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64))
        return cls({name: np.zeros(n, dtype=dtype) for name, dtype in _COLUMNS.items()}, ids, np.zeros(n, dtype=np.bool_), [])

    def put(self, rows: Rows, ids: Spans, columns: Mapping[str, Any]) -> None:
        """Fill m rows, ascending; each column has m values, or one for all."""
        if not len(rows):
            return
        run = int(rows[-1]) - int(rows[0]) + 1 == len(rows)
        at = slice(int(rows[0]), int(rows[-1]) + 1) if run else rows
        for name, column in columns.items():
            self.columns[name][at] = column
        if ids.buffer is self.ids.buffer:
            self.ids.start[at] = ids.start
        else:
            self.ids.start[at] = ids.start + len(self.ids.buffer)
            self.ids.buffer = np.concatenate((self.ids.buffer, ids.buffer))
        self.ids.size[at] = ids.size
        self.good[at] = True

    def records(self, read: Batch) -> Records:
        rows, ids, columns = np.flatnonzero(self.good), self.ids, self.columns
        if len(rows) < len(self.good):
            ids, columns = ids[rows], {name: column[rows] for name, column in columns.items()}
        return Records(record_ms=read.record_ms, offsets=read.offsets, has_value=read.has_value, rows=rows, ids=ids, **columns)


class PingDecoder:
    """Decodes the records of one feed. Keeps nothing from one batch to the next but the templates of its producers."""

    def __init__(self, feed: Feed, timeline: Timeline) -> None:
        ping: type[msgspec.Struct] = _GatewayPing
        numbers = {name: number for number, name in enumerate(timeline.operators)}
        required: tuple[str, ...] = (*_REQUIRED, "operator")
        if feed.operator is not None:
            # On an operator's own feed the operator may be left out, and no other may be named.
            ping = msgspec.defstruct(
                "Ping", [("operator", _Name, feed.operator)], bases=(_GatewayPing,), gc=False, kw_only=True
            )
            numbers = {feed.operator: numbers.get(feed.operator, -1)}
            required = _REQUIRED
        self._operators = numbers
        self._numbers = np.array([*numbers.values(), -1], dtype=np.int16)
        self._parse_one: Callable[[Any], Any] = msgspec.json.Decoder(ping).decode
        self._to_wgs84 = _TO_WGS84.get(feed.coordinates)
        # Degrees that are yet to be converted must not have been rounded.
        degrees: list[Field] = [
            Field(name, "decimal" if self._to_wgs84 is None else "short decimal") for name in ("lat", "lng")
        ]
        self._reader = Reader((*_FIELDS, *degrees, Field("operator", "text", Names(list(numbers)))), required)

    def decode(self, batch: Batch) -> tuple[Records, list[Reason]]:
        """The records, and (index, reason) of the malformed ones, ascending. Never raises, whatever the values are."""
        values, has_value = batch.values, batch.has_value
        decoded = _Decoded.of(values)
        for at in range(0, len(values), PIECE_RECORDS):
            for rows, table in self._reader.read(values[at : at + PIECE_RECORDS]):
                self._take(table, rows + at, decoded)
        left = np.flatnonzero(~decoded.good if has_value is None else has_value & ~decoded.good)
        for at in range(0, len(left), PIECE_RECORDS):
            rows = left[at : at + PIECE_RECORDS]
            self._parse(values[rows].tolist(), rows, decoded)
        return decoded.records(batch), decoded.reasons

    # --- by template ----------------------------------------------------------------------------------------------------

    def _take(self, table: Table, rows: Rows, decoded: _Decoded) -> None:
        """Take what was read of m records, but for what only the parser can say something about."""
        numbers, ids = table.numbers, table.texts["bike_id"]
        ok = table.ok & _takes(numbers)
        if not ok.all():
            rows, ids, numbers = rows[ok], ids[ok], {name: column[ok] for name, column in numbers.items()}
        lat: NDArray[Any] = numbers["lat"]
        lng: NDArray[Any] = numbers["lng"]
        if self._to_wgs84 is not None:
            lat, lng = map(_e7, self._to_wgs84(lat / E7, lng / E7))
        columns = {
            "operator": self._numbers.take(numbers.get("operator", 0)),
            "device_ms": numbers["ts"],
            "lat": lat,
            "lng": lng,
            "accuracy": np.minimum((numbers.get("accuracy", _ZERO) + _MM // 2) // _MM, GREATEST_ACCURACY_MM),
            "state": numbers.get("status", 0),
            "vehicle": numbers.get("vehicle_type", 0),
        }
        decoded.put(rows, ids, columns)

    # --- one by one -----------------------------------------------------------------------------------------------------

    def _parse(self, values: Sequence[bytes], rows: Rows, decoded: _Decoded) -> None:
        """Parse m records, rows of the batch."""
        pings, bad = self._parsed(values)
        kept = np.delete(np.arange(len(rows)), sorted(bad))
        broken = _bad_utf8([values[i] for i in kept.tolist()])
        columns = self._columns(pings, broken)
        ids = Spans.of([ping.bike_id.encode() for ping in pings])
        if broken:
            bad |= {int(kept[i]): reason for i, reason in broken.items()}
            whole = np.delete(np.arange(len(kept)), sorted(broken))
            kept, ids, columns = kept[whole], ids[whole], {name: column[whole] for name, column in columns.items()}
        decoded.put(rows[kept], ids, columns)
        decoded.reasons += sorted((int(rows[i]), reason) for i, reason in bad.items())

    def _parsed(self, values: Sequence[bytes]) -> tuple[list[Any], dict[int, str]]:
        """Pings that parse, and by index the reasons of the others."""
        pings: list[Any] = []
        bad: dict[int, str] = {}
        # `extend` keeps what it has when a record raises, and `map` its place: the good ones cost no Python at all.
        parsing = map(self._parse_one, values)
        while True:
            try:
                pings.extend(parsing)
                return pings, bad
            except MemoryError:
                raise
            except Exception as error:
                index = len(pings) + len(bad)
                bad[index] = explain(values[index], error)

    def _columns(self, pings: list[Any], bad: dict[int, str]) -> dict[str, Any]:
        """Columns for m parsed pings; adds to the bad ones those that break a rule beyond the parser's."""
        n = len(pings)
        lat = np.fromiter([ping.lat for ping in pings], dtype=np.float64, count=n)
        lng = np.fromiter([ping.lng for ping in pings], dtype=np.float64, count=n)
        lat_e7, lng_e7 = _e7(lat), _e7(lng)
        operators = self._operator_numbers([ping.operator for ping in pings])
        for reasons in (_null_island(lat_e7, lng_e7), _unprintable("bike_id", [ping.bike_id for ping in pings])):
            bad |= reasons
        if n and operators.min() < 0:
            bad |= _unprintable("operator", [ping.operator for ping in pings])
        device_ms = _times([ping.ts for ping in pings], bad)
        if self._to_wgs84 is not None:
            lat_e7, lng_e7 = map(_e7, self._to_wgs84(lat, lng))
        return {
            "operator": operators,
            "device_ms": device_ms,
            "lat": lat_e7,
            "lng": lng_e7,
            "accuracy": _millimetres([ping.accuracy for ping in pings]),
            "state": np.fromiter([_STATE_CODES[ping.status] for ping in pings], dtype=np.uint8, count=n),
            "vehicle": _vehicles([ping.vehicle_type for ping in pings]),
            "touched": _touched([ping.event for ping in pings]),
        }

    def _operator_numbers(self, names: list[str]) -> NDArray[np.int16]:
        return np.fromiter([self._operators.get(name, -1) for name in names], dtype=np.int16, count=len(names))


def _takes(numbers: Mapping[str, NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Which of the numbers read break no rule and need no rounding that only a float can tell; bool (m,)."""
    lat, lng = np.abs(numbers["lat"]), np.abs(numbers["lng"])
    ok: NDArray[np.bool_] = (lat <= 90 * E7) & (lng <= 180 * E7) & (numbers["ts"] < END_OF_TIME_MS)
    ok &= (lat >= NULL_ISLAND_E7) | (lng >= NULL_ISLAND_E7)
    if "accuracy" in numbers:
        # A half of a millimetre is rounded as the float has it; that it was rounded to 1e-7 may have moved it by one.
        accuracy = numbers["accuracy"]
        ok &= (accuracy >= 0) & (np.abs(accuracy % _MM - _MM // 2) > 1)
    return ok


def _e7(degrees: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.rint(degrees * 1e7).astype(np.int32)


def _null_island(lat: NDArray[np.int32], lng: NDArray[np.int32]) -> dict[int, str]:
    """Receivers without a fix say (0, 0). The coordinates are those of the feed, before any conversion."""
    at_zero = np.flatnonzero((np.abs(lat) < NULL_ISLAND_E7) & (np.abs(lng) < NULL_ISLAND_E7))
    text = "lat, lng must not both be within 0.001 degrees of 0; got ({:.7f}, {:.7f}); leave out pings without a fix"
    return {i: text.format(lat[i] / 1e7, lng[i] / 1e7) for i in at_zero.tolist()}


def _unprintable(field: str, names: list[str]) -> dict[int, str]:
    text = "".join(names)
    if not text.encode().translate(None, _PLAIN) or text.isprintable():
        return {}
    rule = "{} must be printable characters; got {}; send it without line breaks and control characters"
    return {i: rule.format(field, shown(name)) for i, name in enumerate(names) if not name.isprintable()}


def _bad_utf8(values: Sequence[Any]) -> dict[int, str]:
    """The parser does not look into strings that it skips; JSON text is UTF-8 throughout."""
    if b"".join(values).isascii():
        return {}
    bad = {}
    for i, value in enumerate(values):
        try:
            value.decode()
        except UnicodeDecodeError as error:
            bad[i] = explain(value, error)
    return bad


def _times(times: list[int | str], bad: dict[int, str]) -> NDArray[np.int64]:
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


def _millimetres(metres: list[_Number]) -> NDArray[np.int32]:
    """int32 (n,); 0: not reported."""
    mm = np.array(metres, dtype=np.float64)  # None becomes NaN, which JSON cannot say
    mm *= 1000
    np.rint(mm, out=mm)
    np.minimum(mm, GREATEST_ACCURACY_MM, out=mm)
    mm[np.isnan(mm)] = 0
    return mm.astype(np.int32)


def _vehicles(names: list[_Text]) -> NDArray[np.uint8]:
    if names.count(None) == len(names):
        return np.zeros(len(names), dtype=np.uint8)
    return np.fromiter([_VEHICLE_CODES.get(name, OTHER_VEHICLE) for name in names], dtype=np.uint8, count=len(names))


def _touched(events: list[_Text]) -> NDArray[np.bool_]:
    if events.count(None) == len(events):
        return np.zeros(len(events), dtype=np.bool_)
    return np.fromiter([event in TOUCHING for event in events], dtype=np.bool_, count=len(events))
