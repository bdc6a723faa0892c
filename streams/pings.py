"""Pings from the wire: JSON values of Kafka records to the columns that geo works on. docs/semantics.md, section 1.

Each record is parsed by itself, so that a broken one cannot splice into its neighbours and each gets its own reason. All
else is done on whole columns.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from geo.coordinates import bd09_to_wgs84, gcj02_to_wgs84
from geo.params import Timeline
from geo.records import Records
from geo.states import OTHER_VEHICLE, STATES, TOUCHING, VEHICLES
from streams.refusals import explain, shown
from streams.rfc3339 import parse_ms

Coordinates = Literal["wgs84", "gcj02", "bd09"]
Reason = tuple[int, str]


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


class _BriefPing(msgspec.Struct, gc=False, kw_only=True, forbid_unknown_fields=True):
    """What most pings are: no field but these, and time as a number. Parsing and reading a small struct is cheaper.

    What it takes, `_GatewayPing` takes too, with the same values; what it does not is parsed again by that.
    """

    bike_id: _Name
    ts: Annotated[int, Meta(gt=0, lt=END_OF_TIME_MS)]
    lat: Annotated[float, Meta(ge=-90, le=90)]
    lng: Annotated[float, Meta(ge=-180, le=180)]
    accuracy: Annotated[float, Meta(ge=0)] | None = None
    status: _State | None = None
    operator: _Name


_STATE_CODES: dict[str | None, int] = dict(zip((None, *STATES[1:]), range(len(STATES)), strict=True))
_VEHICLE_CODES: dict[str | None, int] = dict(zip((None, *VEHICLES[1:]), range(len(VEHICLES)), strict=True))
_PLAIN = bytes(range(0x20, 0x7F))  # printable ASCII

_TO_WGS84: dict[str, Callable[..., tuple[NDArray[np.float64], NDArray[np.float64]]]] = {
    "gcj02": gcj02_to_wgs84,
    "bd09": bd09_to_wgs84,
}


PIECE_RECORDS = 4_096
"""Decoded at a time: the objects of more do not stay in the cache, and their memory goes back to the system each time."""


@dataclass(slots=True)
class _Piece:
    """What some of the values decode to."""

    columns: dict[str, Any]
    rows: NDArray[np.int64]
    clocks: list[int]
    reasons: list[Reason]

    @classmethod
    def joined(cls, pieces: Sequence[_Piece]) -> _Piece:
        columns: dict[str, Any] = {"ids": [id_ for piece in pieces for id_ in piece.columns.pop("ids")]}
        for name in pieces[0].columns:
            columns[name] = np.concatenate([piece.columns[name] for piece in pieces])
        return cls(
            columns,
            np.concatenate([piece.rows for piece in pieces]),
            [index for piece in pieces for index in piece.clocks],
            [reason for piece in pieces for reason in piece.reasons],
        )


class PingDecoder:
    """Decodes the records of one feed. Keeps nothing from one batch to the next but whether its pings are brief ones."""

    def __init__(self, feed: Feed, timeline: Timeline) -> None:
        ping: type[msgspec.Struct] = _GatewayPing
        brief: type[msgspec.Struct] = _BriefPing
        numbers = {name: number for number, name in enumerate(timeline.operators)}
        if feed.operator is not None:
            # On an operator's own feed the operator may be left out, and no other may be named.
            ping = msgspec.defstruct(
                "Ping", [("operator", _Name, feed.operator)], bases=(_GatewayPing,), gc=False, kw_only=True
            )
            brief = msgspec.defstruct(
                "Brief",
                [("operator", _Name, feed.operator)],
                bases=(_BriefPing,),
                gc=False,
                kw_only=True,
                forbid_unknown_fields=True,
            )
            numbers = {feed.operator: numbers.get(feed.operator, -1)}
        self._operators = numbers
        self._parse_one: Callable[[Any], Any] = msgspec.json.Decoder(ping).decode
        self._parse_brief: Callable[[Any], Any] = msgspec.json.Decoder(brief).decode
        self._brief_pause = 0  # pieces before brief pings are tried again
        self._next_pause = 1
        self._to_wgs84 = _TO_WGS84.get(feed.coordinates)

    def decode(
        self, values: Sequence[bytes | None], record_ms: NDArray[np.int64], offsets: NDArray[np.int64]
    ) -> tuple[Records, list[Reason]]:
        """The records, and (index, reason) of the malformed ones, ascending. Never raises, whatever the values are.

        record_ms and offsets are int64 (n,), for n values; a value of None is a clock record.
        """
        pieces = [self._piece(values[at : at + PIECE_RECORDS], at) for at in range(0, max(len(values), 1), PIECE_RECORDS)]
        whole = pieces[0] if len(pieces) == 1 else _Piece.joined(pieces)
        has_value = None
        if whole.clocks:
            has_value = np.ones(len(values), dtype=np.bool_)
            has_value[whole.clocks] = False
        records = Records(record_ms=record_ms, offsets=offsets, has_value=has_value, rows=whole.rows, **whole.columns)
        return records, whole.reasons

    def _piece(self, values: Sequence[bytes | None], first: int) -> _Piece:
        """Decode some values; `first` is the index of the first of them, and all indices in the answer count from there."""
        brief = self._brief(values)
        pings, clocks, reasons = self._parse(values) if brief is None else (brief, [], [])
        rows = np.arange(len(values))
        if clocks or reasons:
            rows = np.delete(rows, clocks + [index for index, _ in reasons])
        if brief is None:
            bad = _bad_utf8([values[i] for i in rows.tolist()] if len(pings) < len(values) else values)
            columns = self._columns(pings, bad)
            columns["vehicle"] = _vehicles([ping.vehicle_type for ping in pings])
            columns["touched"] = _touched([ping.event for ping in pings])
        else:  # no field was skipped, so all text has been looked at
            bad = {}
            columns = self._columns(pings, bad)
            columns["vehicle"] = np.zeros(len(pings), dtype=np.uint8)
            columns["touched"] = np.zeros(len(pings), dtype=np.bool_)
        if bad:
            index = sorted(bad)
            reasons += [(int(rows[i]), bad[i]) for i in index]
            reasons.sort()
            columns = _without(columns, index)
            rows = np.delete(rows, index)
        return _Piece(columns, rows + first, [i + first for i in clocks], [(i + first, text) for i, text in reasons])

    def _brief(self, values: Sequence[bytes | None]) -> list[Any] | None:
        """All of the values as brief pings, or None if any is not one. Feeds whose pings never are get tried ever more rarely."""
        if self._brief_pause:
            self._brief_pause -= 1
            return None
        try:
            pings = list(map(self._parse_brief, values))
        except MemoryError:
            raise
        except Exception:  # a clock record, a longer ping, a broken one: the other way tells
            self._brief_pause, self._next_pause = self._next_pause, min(2 * self._next_pause, 64)
            return None
        self._next_pause = 1
        return pings

    def _parse(self, values: Sequence[bytes | None]) -> tuple[list[Any], list[int], list[Reason]]:
        """Pings that parse, indices of clock records, and reasons of the others."""
        pings: list[Any] = []
        clocks: list[int] = []
        reasons: list[Reason] = []
        # `extend` keeps what it has when a record raises, and `map` its place: the good ones cost no Python at all.
        parsing = map(self._parse_one, values)
        while True:
            try:
                pings.extend(parsing)
                return pings, clocks, reasons
            except MemoryError:
                raise
            except Exception as error:
                index = len(pings) + len(clocks) + len(reasons)
                value = values[index]
                if value is None:
                    clocks.append(index)
                else:
                    reasons.append((index, explain(value, error)))

    def _columns(self, pings: list[Any], bad: dict[int, str]) -> dict[str, Any]:
        """Columns of Records for n parsed pings; adds to the bad ones those that break a rule beyond the parser's."""
        n = len(pings)
        ids = [ping.bike_id for ping in pings]
        lat = np.fromiter([ping.lat for ping in pings], dtype=np.float64, count=n)
        lng = np.fromiter([ping.lng for ping in pings], dtype=np.float64, count=n)
        lat_e7, lng_e7 = _e7(lat), _e7(lng)
        operators = self._operator_numbers([ping.operator for ping in pings])
        for reasons in (_null_island(lat_e7, lng_e7), _unprintable("bike_id", ids)):
            bad |= reasons
        if n and operators.min() < 0:
            bad |= _unprintable("operator", [ping.operator for ping in pings])
        device_ms = _times([ping.ts for ping in pings], bad)
        if self._to_wgs84 is not None:
            lat_e7, lng_e7 = map(_e7, self._to_wgs84(lat, lng))
        return {
            "ids": ids,
            "operator": operators,
            "device_ms": device_ms,
            "lat": lat_e7,
            "lng": lng_e7,
            "accuracy": _millimetres([ping.accuracy for ping in pings]),
            "state": np.fromiter([_STATE_CODES[ping.status] for ping in pings], dtype=np.uint8, count=n),
        }

    def _operator_numbers(self, names: list[str]) -> NDArray[np.int16]:
        numbers = self._operators
        try:
            found = [numbers[name] for name in names]
        except KeyError:
            found = [numbers.get(name, -1) for name in names]
        return np.fromiter(found, dtype=np.int16, count=len(names))


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


def _without(columns: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    """The columns without some rows."""
    gone = set(rows)
    ids = [id_ for i, id_ in enumerate(columns.pop("ids")) if i not in gone]
    return {"ids": ids, **{name: np.delete(column, rows) for name, column in columns.items()}}
