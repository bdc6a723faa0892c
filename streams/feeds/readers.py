"""Recorded feeds: files of many forms -> rows in file order, with the bad ones counted.

Record time is `received_at` if a ping has it, else its device time.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
import orjson

from streams.feeds.records import TIME_FIELDS, ReadReport, TableError, UnreadableRowError
from streams.feeds.times import text_ms, time_ms

FIELDS = (
    "bike_id", "operator", "ts", "received_at", "lat", "lng", "accuracy", "speed", "heading", "battery", "status",
    "vehicle_type", "event", "telemetry_id",
)  # fmt: skip
TRIP_FIELDS = (
    "bike_id", "operator", "vehicle_type", "start_ts", "start_lat", "start_lng", "end_ts", "end_lat", "end_lng",
)  # fmt: skip
NUMBERS = frozenset({"lat", "lng", "accuracy", "speed", "heading", "battery"})
MOBIKE = {"lng": "lon", "status": ":available", "operator": ":mobike"}
FORMATS = ("ndjson", "csv", "mobike", "trips")
_ENDS = (("start_", "on_trip", "trip_start"), ("end_", "available", "trip_end"))
_GZIP_MAGIC = b"\x1f\x8b"
_MOST_LINE = 1 << 20


class Row(NamedTuple):
    """One ping of a file. value: canonical JSON."""

    record_ms: int
    bike_id: str
    operator: str | None
    value: bytes


@dataclass(frozen=True, slots=True)
class Format:
    """How files are to be read.

    mapping: canonical field -> column, or ":constant"; columns of a canonical name need none.
    zone: of times without an offset. operators: if given, bikes are split over these by a stable hash of their id.
    """

    name: str = "ndjson"
    mapping: Mapping[str, str] = field(default_factory=dict)
    zone: tzinfo | None = None
    operators: Sequence[str] = ()


class _Head(msgspec.Struct, gc=False):
    """What a reader must know of a ping; the rest is judged by the worker."""

    bike_id: str
    ts: int | str
    operator: str | None = None
    received_at: int | str | None = None


_decode_head = msgspec.json.Decoder(_Head).decode


def read_rows(paths: Iterable[Path], form: Format, report: ReadReport) -> Iterator[Row]:
    """All rows of all files in order. Raises OSError if a file cannot be read, TableError if its columns do not fit."""
    for path in paths:
        with _opened(path) as stream:
            rows = (
                _json_rows(stream, path.name, report) if form.name == "ndjson" else _csv_rows(stream, path.name, form, report)
            )
            yield from _split(rows, form.operators) if form.operators else rows


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked if they are gzip, whatever its name says."""
    with path.open("rb") as raw:
        packed = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        if not packed:
            yield raw
            return
        with gzip.open(raw) as unpacked:
            try:
                yield io.BufferedReader(unpacked, 1 << 20)
            except (EOFError, zlib.error) as error:
                raise OSError(f"{path} is cut off or broken: {error}") from error


def _json_rows(stream: IO[bytes], file: str, report: ReadReport) -> Iterator[Row]:
    """Canonical NDJSON. Values pass as they are; a line without id or time cannot be placed and is skipped."""
    for number, line in enumerate(stream, 1):
        value = line.strip()
        if not value:
            continue
        try:
            head = _decode_head(value)
            moment = _record_ms(head)
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            report.skip(file, number, _reason(error))
            continue
        report.rows += 1
        yield Row(moment, head.bike_id, head.operator, value)


def _record_ms(head: _Head) -> int:
    """A `received_at` that is no time is nobody's fault but the gateway's: the ping is then placed by its device time."""
    if head.received_at is not None:
        try:
            return time_ms(head.received_at)
        except ValueError:
            pass
    return time_ms(head.ts)


def _reason(error: Exception) -> str:
    """A reason without the value in it, so that rows of one kind are counted together."""
    return str(error).split(" (byte")[0].split(": ")[0]


def _csv_rows(stream: IO[bytes], file: str, form: Format, report: ReadReport) -> Iterator[Row]:
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
    table = csv.reader(text)
    header = next(table, None)
    if header is None:
        raise TableError(f"{file} is empty; a CSV file begins with the names of its columns")
    make = (_trip_maker if form.name == "trips" else _row_maker)(file, header, form)
    while True:
        try:
            cells = next(table)
            if not cells:
                continue
            rows = make(cells)
        except StopIteration:
            break
        except (UnreadableRowError, csv.Error) as error:
            report.skip(file, table.line_num, str(error))
            continue
        report.rows += 1
        yield from rows
    text.detach()


_Maker = Callable[[Sequence[str]], list[Row]]


def _row_maker(file: str, header: Sequence[str], form: Format) -> _Maker:
    """A function that makes the row of a table's cells."""
    read = _cells_reader(file, header, form)

    def make(cells: Sequence[str]) -> list[Row]:
        ping = read(cells)
        return [_row(ping, ping.get("received_at", ping.get("ts")))]

    return make


def _trip_maker(file: str, header: Sequence[str], form: Format) -> _Maker:
    """A function that makes two pings of a trip's cells: at its start the bike is ridden, at its end it is parked.

    Where one end has no time it says nothing: the trip has not ended, or began before the table did.
    """
    read = _cells_reader(file, header, form)

    def make(cells: Sequence[str]) -> list[Row]:
        trip = read(cells)
        start, end = trip.get("start_ts"), trip.get("end_ts")
        if isinstance(start, int) and isinstance(end, int) and end < start:
            raise UnreadableRowError("ends before it starts")
        rows = []
        for side, status, event in _ENDS:
            if (moment := trip.get(f"{side}ts")) is not None:
                ping = {key: value for key, value in trip.items() if not key.startswith(("start_", "end_"))}
                ping |= {key: trip[side + key] for key in ("ts", "lat", "lng") if side + key in trip}
                rows.append(_row({**ping, "status": status, "event": event}, moment))
        if not rows:
            raise UnreadableRowError("has no bike_id or no time")
        return rows

    return make


def _row(ping: dict[str, object], moment: object) -> Row:
    bike, operator = ping.get("bike_id"), ping.get("operator")
    if not isinstance(bike, str) or not isinstance(moment, int):
        raise UnreadableRowError("has no bike_id or no time")
    return Row(moment, bike, operator if isinstance(operator, str) else None, _encode(ping))


def _cells_reader(file: str, header: Sequence[str], form: Format) -> Callable[[Sequence[str]], dict[str, object]]:
    """A function that gives what a table's cells say, by canonical field; what is empty says nothing."""
    columns, constants = _columns(file, header, form)
    width = len(header)

    def read(cells: Sequence[str]) -> dict[str, object]:
        if len(cells) != width:
            raise UnreadableRowError(f"has not {width} columns")
        said: dict[str, object] = dict(constants)
        for key, index in columns:
            if text := cells[index]:
                said[key] = _cell(key, text, form.zone)
        return said

    return read


def _columns(file: str, header: Sequence[str], form: Format) -> tuple[list[tuple[str, int]], dict[str, object]]:
    """Canonical fields with their column's index, and the constants. Raises TableError that names what is missing."""
    fields = TRIP_FIELDS if form.name == "trips" else FIELDS
    required = ("bike_id", *TRIP_FIELDS[3:]) if form.name == "trips" else ("bike_id", "ts", "lat", "lng")
    mapping = {name: name for name in fields if name in header}
    mapping |= (dict(MOBIKE) if form.name == "mobike" else {}) | dict(form.mapping)
    constants = {key: _cell(key, source[1:], form.zone) for key, source in mapping.items() if source.startswith(":")}
    named = {key: source for key, source in mapping.items() if not source.startswith(":")}
    unknown = sorted(set(mapping) - set(fields))
    if unknown:
        raise TableError(f"--map names unknown fields: {', '.join(unknown)}; there are {', '.join(fields)}")
    absent = sorted(source for source in named.values() if source not in header)
    if absent:
        raise TableError(f"{file} has no columns {', '.join(absent)}; it has {', '.join(header)}")
    needed = [key for key in required if key not in mapping]
    if needed:
        raise TableError(f"{file} has no columns {', '.join(needed)}; map them: --map {needed[0]}=COLUMN")
    return [(key, header.index(source)) for key, source in named.items()], constants


def _cell(key: str, text: str, zone: tzinfo | None) -> object:
    """A cell's value. A number that is none stays a text: the ping is then malformed, and counted as such."""
    key = key.removeprefix("start_").removeprefix("end_")
    if key in TIME_FIELDS:
        try:
            return text_ms(text, zone)
        except ValueError as error:
            reason = str(error) if "--tz" in str(error) else "has a time that cannot be read"
            raise UnreadableRowError(reason) from None
    if key in NUMBERS:
        try:
            return float(text)
        except ValueError:
            return text
    return text


def _split(rows: Iterable[Row], operators: Sequence[str]) -> Iterator[Row]:
    """Bikes over operators: crc32 of the id, the same on every machine and in every version of Python."""
    for row in rows:
        operator = operators[zlib.crc32(row.bike_id.encode()) % len(operators)]
        ping = orjson.loads(row.value)
        if isinstance(ping, dict):
            ping["operator"] = operator
        yield Row(row.record_ms, row.bike_id, operator, _encode(ping))


def _encode(ping: object) -> bytes:
    """Copied, because orjson's results hold on to the buffer (4 KB) that they grew in, and rows are sorted in memory."""
    return bytes(memoryview(orjson.dumps(ping)))
