"""Pings from the wire: values of Kafka records to the columns that geo works on. docs/semantics.md, section 1.

Pings that fit one of their producer's templates, nearly all in most feeds, are read as columns (streams.flat_json). Each of the
others is parsed by itself, so that a broken one cannot splice into its neighbours and each gets its own reason. Both ways give
the same. A record that is no ping may hold several (streams.packs): then these are read as if each were a record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from geo.coordinates import bd09_to_wgs84, gcj02_to_wgs84
from geo.params import Timeline
from geo.records import Records
from geo.spans import Spans
from geo.states import STATES, VEHICLES
from streams.batches import Batch, Taken
from streams.flat_json import E7, Field, Names, Reader, Table
from streams.packs import Format, pings_of
from streams.ping_columns import (
    GREATEST_ACCURACY_MM,
    MM,
    Reasons,
    bad_utf8,
    e7,
    millimetres,
    null_island,
    takes,
    times,
    touched,
    unprintable,
    vehicles,
)
from streams.ping_forms import GatewayPing, Telemetry
from streams.refusals import BrokenRecordError, explain

Coordinates = Literal["wgs84", "gcj02", "bd09"]
Reason = tuple[int, str]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Feed:
    """A topic of pings. operator: whose feed it is; None: a gateway's, whose pings name the operator.

    providers: operator by MDS provider id, for the format `mds`.
    """

    topic: str
    operator: str | None
    coordinates: Coordinates = "wgs84"
    format: Format = "json"
    providers: Mapping[str, str] = field(default_factory=dict)


_ZERO = np.zeros(1, dtype=np.int64)

_STATE_CODES: dict[str | None, int] = dict(zip((None, *STATES[1:]), range(len(STATES)), strict=True))

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
    """n records on their way into columns. good: bool (n,), the rows that are filled.

    bad: by row why it never will be: in words, or as the error of the parser, which is yet to be put into words.
    """

    columns: dict[str, Any]
    ids: Spans
    good: NDArray[np.bool_]
    bad: Reasons

    @classmethod
    def of(cls, values: Spans) -> _Decoded:
        n = len(values)
        ids = Spans(values.buffer, np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64))
        return cls({name: np.zeros(n, dtype=dtype) for name, dtype in _COLUMNS.items()}, ids, np.zeros(n, dtype=np.bool_), {})

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
        return Records(
            record_ms=read.record_ms,
            offsets=read.offsets,
            items=None if read.taken is None else read.taken.item,
            has_value=read.has_value,
            rows=rows,
            ids=ids,
            **columns,
        )

    def spread(self, batch: Batch, taken: Taken) -> _Decoded:
        """The same for a batch with some records taken apart, whose pings are still to be read."""
        record, alone = taken.record, taken.item < 0
        first = np.flatnonzero(np.diff(record, prepend=-1))
        return _Decoded(
            {name: column[record] for name, column in self.columns.items()},
            Spans(batch.values.buffer, self.ids.start[record], self.ids.size[record]),
            self.good[record] & alone,
            {int(first[row]): why for row, why in self.bad.items()},
        )

    def reasons(self, values: Spans) -> list[Reason]:
        """In words, in order."""
        bad = sorted(self.bad.items(), key=itemgetter(0))
        texts = values[np.array([row for row, _ in bad], dtype=np.int64)].tolist()
        return [(row, why if isinstance(why, str) else explain(text, why)) for (row, why), text in zip(bad, texts, strict=True)]


class Decoded(NamedTuple):
    """The pings of some records; (row, reason) of the malformed ones, ascending; and the batch that has these rows."""

    records: Records
    malformed: list[Reason]
    batch: Batch


class PingDecoder:
    """Decodes the records of one feed. Keeps nothing from one batch to the next but the templates of its producers."""

    def __init__(self, feed: Feed, timeline: Timeline) -> None:
        ping: type[msgspec.Struct] = Telemetry if feed.format == "mds" else GatewayPing
        numbers = {name: number for number, name in enumerate(timeline.operators)}
        required: tuple[str, ...] = (*_REQUIRED, "operator")
        if feed.operator is not None:
            # On an operator's own feed the operator may be left out, and no other may be named.
            owner = "provider_id" if feed.format == "mds" else "operator"
            name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
            ping = msgspec.defstruct("Ping", [(owner, name, feed.operator)], bases=(ping,), gc=False, kw_only=True)
            numbers = {feed.operator: numbers.get(feed.operator, -1)}
            required = _REQUIRED
        numbers |= {provider: numbers[name] for provider, name in feed.providers.items() if name in numbers}
        self._format: Format = feed.format
        self._operators = numbers
        self._numbers = np.array([*numbers.values(), -1], dtype=np.int16)
        self._parse_one: Callable[[Any], Any] = msgspec.json.Decoder(ping).decode
        self._to_wgs84 = _TO_WGS84.get(feed.coordinates)
        # Degrees that are yet to be converted must not have been rounded.
        degrees: list[Field] = [
            Field(name, "decimal" if self._to_wgs84 is None else "short decimal") for name in ("lat", "lng")
        ]
        fields = (*_FIELDS, *degrees, Field("operator", "text", Names(list(numbers))))
        self._reader = Reader(fields, required)
        self._item_reader = Reader(fields, required)  # of pings within records, which a record never looks like

    def decode(self, batch: Batch) -> Decoded:
        """Never raises, whatever the values are."""
        decoded = _Decoded.of(batch.values)
        if self._format == "json":
            for at in range(0, len(batch), PIECE_RECORDS):
                self._read(self._reader, batch.values[at : at + PIECE_RECORDS], at, decoded)
        left = np.flatnonzero(~decoded.good if batch.has_value is None else batch.has_value & ~decoded.good)
        if self._format == "arrow":
            decoded.bad = dict.fromkeys(left.tolist(), "")
        else:
            self._parse_all(batch.values, left, decoded)
        if decoded.bad and (pings := self._taken_apart(batch.values, decoded)):
            batch, decoded = self._with_pings(batch, pings, decoded)
        return Decoded(decoded.records(batch), decoded.reasons(batch.values), batch)

    # --- records with several pings -------------------------------------------------------------------------------------

    def _taken_apart(self, values: Spans, decoded: _Decoded) -> dict[int, list[bytes]]:
        """By row the pings of those bad records that hold several; they are bad no more. Others may be so for another reason."""
        rows = [row for row, why in decoded.bad.items() if not isinstance(why, str) or self._format == "arrow"]
        pings: dict[int, list[bytes]] = {}
        for row, value in zip(rows, values[np.array(rows, dtype=np.int64)].tolist(), strict=True):
            try:
                found = pings_of(value, self._format)
            except BrokenRecordError as error:
                decoded.bad[row] = str(error)
                continue
            if found is not None:
                pings[row] = found
                del decoded.bad[row]
        return dict(sorted(pings.items()))

    def _with_pings(self, batch: Batch, pings: Mapping[int, Sequence[bytes]], decoded: _Decoded) -> tuple[Batch, _Decoded]:
        batch = batch.taken_apart(pings, decoded.ids.buffer)
        assert batch.taken is not None
        decoded = decoded.spread(batch, batch.taken)
        rows = np.flatnonzero(batch.taken.item >= 0)
        if self._format != "mds":
            for at in range(0, len(rows), PIECE_RECORDS):
                piece = rows[at : at + PIECE_RECORDS]
                self._read(self._item_reader, batch.values[piece], piece, decoded)
        self._parse_all(batch.values, rows[~decoded.good[rows]], decoded)
        return batch, decoded

    # --- by template ----------------------------------------------------------------------------------------------------

    def _read(self, reader: Reader, values: Spans, rows: Rows | int, decoded: _Decoded) -> None:
        """Take what fits a template of m values; rows: theirs, or the first of them."""
        for which, table in reader.read(values):
            self._take(table, rows + which if isinstance(rows, int) else rows[which], decoded)

    def _take(self, table: Table, rows: Rows, decoded: _Decoded) -> None:
        """Take what was read of m records, but for what only the parser can say something about."""
        numbers, ids = table.numbers, table.texts["bike_id"]
        ok = table.ok & takes(numbers)
        if not ok.all():
            rows, ids, numbers = rows[ok], ids[ok], {name: column[ok] for name, column in numbers.items()}
        lat: NDArray[Any] = numbers["lat"]
        lng: NDArray[Any] = numbers["lng"]
        if self._to_wgs84 is not None:
            lat, lng = map(e7, self._to_wgs84(lat / E7, lng / E7))
        columns = {
            "operator": self._numbers.take(numbers.get("operator", 0)),
            "device_ms": numbers["ts"],
            "lat": lat,
            "lng": lng,
            "accuracy": np.minimum((numbers.get("accuracy", _ZERO) + MM // 2) // MM, GREATEST_ACCURACY_MM),
            "state": numbers.get("status", 0),
            "vehicle": numbers.get("vehicle_type", 0),
        }
        decoded.put(rows, ids, columns)

    # --- one by one -----------------------------------------------------------------------------------------------------

    def _parse_all(self, values: Spans, rows: Rows, decoded: _Decoded) -> None:
        for at in range(0, len(rows), PIECE_RECORDS):
            piece = rows[at : at + PIECE_RECORDS]
            self._parse(values[piece].tolist(), piece, decoded)

    def _parse(self, values: Sequence[bytes], rows: Rows, decoded: _Decoded) -> None:
        """Parse m records, rows of the batch."""
        pings, bad = self._parsed(values)
        kept = np.delete(np.arange(len(rows)), sorted(bad))
        broken: Reasons = bad_utf8([values[i] for i in kept.tolist()])
        columns = self._columns(pings, broken)
        ids = Spans.of([ping.bike_id.encode() for ping in pings])
        if broken:
            bad |= {int(kept[i]): reason for i, reason in broken.items()}
            whole = np.delete(np.arange(len(kept)), sorted(broken))
            kept, ids, columns = kept[whole], ids[whole], {name: column[whole] for name, column in columns.items()}
        decoded.put(rows[kept], ids, columns)
        decoded.bad |= {int(rows[i]): why for i, why in bad.items()}

    def _parsed(self, values: Sequence[bytes]) -> tuple[list[Any], Reasons]:
        """Pings that parse, and by index the errors of the others."""
        pings: list[Any] = []
        bad: Reasons = {}
        # `extend` keeps what it has when a record raises, and `map` its place: the good ones cost no Python at all.
        parsing = map(self._parse_one, values)
        while True:
            try:
                pings.extend(parsing)
                return pings, bad
            except MemoryError:
                raise
            except Exception as error:
                bad[len(pings) + len(bad)] = error.with_traceback(None)  # which would hold on to all of this

    def _columns(self, pings: list[Any], bad: Reasons) -> dict[str, Any]:
        """Columns for m parsed pings; adds to the bad ones those that break a rule beyond the parser's."""
        n = len(pings)
        lat = np.fromiter([ping.lat for ping in pings], dtype=np.float64, count=n)
        lng = np.fromiter([ping.lng for ping in pings], dtype=np.float64, count=n)
        lat_e7, lng_e7 = e7(lat), e7(lng)
        operators = self._operator_numbers([ping.operator for ping in pings])
        for reasons in (null_island(lat_e7, lng_e7), unprintable("bike_id", [ping.bike_id for ping in pings])):
            bad |= reasons
        if n and operators.min() < 0:
            bad |= unprintable("operator", [ping.operator for ping in pings])
        device_ms = times([ping.ts for ping in pings], bad)
        if self._to_wgs84 is not None:
            lat_e7, lng_e7 = map(e7, self._to_wgs84(lat, lng))
        return {
            "operator": operators,
            "device_ms": device_ms,
            "lat": lat_e7,
            "lng": lng_e7,
            "accuracy": millimetres([ping.accuracy for ping in pings]),
            "state": np.fromiter([_STATE_CODES[ping.status] for ping in pings], dtype=np.uint8, count=n),
            "vehicle": vehicles([ping.vehicle_type for ping in pings]),
            "touched": touched([ping.event for ping in pings]),
        }

    def _operator_numbers(self, names: list[str]) -> NDArray[np.int16]:
        return np.fromiter([self._operators.get(name, -1) for name in names], dtype=np.int16, count=len(names))
