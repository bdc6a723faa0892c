"""Pings in Arrow's streaming format, a row each, as flat JSON pings.

Rows become JSON so that from there on nothing differs from pings that came as JSON: what a field may be, what is said of one
that is wrong, and what of it goes to quarantine. Taken is what Arrow's libraries and data frames write by themselves: numbers,
text in its three layouts, dictionaries of text, times with a zone. Columns that are no field of a ping are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from streams.arrow_stream import (
    DICTIONARY,
    FLOAT,
    INT,
    KINDS,
    LARGE_UTF8,
    NULL,
    ROWS,
    SCHEMA,
    TIMESTAMP,
    UTF8,
    UTF8_VIEW,
    Bits,
    Column,
    Parts,
    columns,
    messages,
    numbers,
    texts,
    valid,
)
from streams.flatbuffer import Table
from streams.refusals import BrokenRecordError, shown, too_many

_FEW_BYTES, _TIMES = 65_536, 16
"""How long the texts of a record may be when unpacked: a short record can name a long text many times over."""

_TEXT_KINDS = (UTF8, LARGE_UTF8, UTF8_VIEW)
_FIELDS = {
    **dict.fromkeys(("bike_id", "operator", "status", "vehicle_type", "event", "telemetry_id"), (NULL, *_TEXT_KINDS)),
    **dict.fromkeys(("lat", "lng", "accuracy", "speed", "heading", "battery"), (NULL, INT, FLOAT)),
    **dict.fromkeys(("ts", "received_at"), (NULL, INT, TIMESTAMP, *_TEXT_KINDS)),
}
_PER_SECOND = (1, 1_000, 1_000_000, 1_000_000_000)  # by unit of a timestamp
_FAR = 1 << 53  # seconds that are beyond all times even after they were multiplied

Values = list[Any]


def arrow_pings(value: bytes, most: int) -> list[bytes]:
    """The rows of a stream as JSON. Raises BrokenRecordError, also if there are more than `most`."""
    try:
        return _Stream(most, _FEW_BYTES + _TIMES * len(value)).pings(memoryview(value))
    except (BrokenRecordError, MemoryError):
        raise
    except Exception as error:  # any number in it may be a lie, and lead anywhere
        text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        raise BrokenRecordError(
            f"a record of this feed must be an Arrow IPC stream; {text}; got {shown(value[:40])}; "
            "write it with an Arrow library, in the streaming format"
        ) from None


class _Stream:
    """Reads one stream, and keeps count of what it unpacks to."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._rows = 0
        self._text_bytes = 0
        self._infinite = False
        self._columns: tuple[Column, ...] = ()
        self._kept: dict[int, Column] = {}
        self._dictionaries: dict[int, Values] = {}

    def pings(self, data: memoryview) -> list[bytes]:
        pings: list[bytes] = []
        for kind, header, body in messages(data):
            if kind == SCHEMA:
                self._columns, self._kept = columns(header)
                _check(self._columns)
            elif kind == DICTIONARY:
                self._keep(header, body)
            elif kind == ROWS:
                pings += self._read(Parts(header, body))
            else:
                raise ValueError(f"a message is of kind {kind}")
        return pings

    def _keep(self, header: Table, body: memoryview) -> None:
        """A dictionary, or more of one. Those of columns that do not count are not looked at."""
        number, batch, more = header.number(0, "q"), header.table(1), header.number(2, "B")
        column = self._kept[number]
        if batch is None or column.kind not in _FIELDS.get(column.name, ()):
            return
        parts = Parts(batch, body)
        rows = parts.node()
        if not 0 <= rows <= len(body):  # it may well have more texts than the stream has rows
            raise ValueError(f"a dictionary has {rows} texts")
        values = self._values(column, parts, rows)
        self._dictionaries[number] = (self._dictionaries.get(number, []) if more else []) + values

    def _read(self, parts: Parts) -> list[bytes]:
        self._rows += self._few(parts.rows)
        self._few(self._rows)
        self._infinite = False
        names: list[str] = []
        found: list[Values] = []
        for column in self._columns:
            if column.name in _FIELDS:
                names.append(column.name)
                found.append(self._values(column, parts, self._few(parts.node())))
            else:
                parts.skip(column)
        if any(len(values) != parts.rows for values in found):
            raise ValueError("the columns of a batch are of different lengths")
        write = _strange if self._infinite else _json
        return [write(names, row) for row in zip(*found, strict=True)] if found else [b"{}"] * parts.rows

    def _values(self, column: Column, parts: Parts, rows: int) -> Values:
        """The values of a column, or of its dictionary; None for null."""
        if column.kind == NULL:
            return [None] * rows
        good = valid(parts.buffer(), rows)
        if column.dictionary is not None:
            index = numbers(parts.buffer(), column.dtype, rows).tolist()
            return self._looked_up(self._dictionaries[column.dictionary], index, good)
        if column.kind in _TEXT_KINDS:
            found = texts(parts, column.kind, rows, good)
            self._count(found)
            return [None if text is None else str(text, "utf-8", "surrogateescape") for text in found]
        plain = numbers(parts.buffer(), column.dtype, rows)
        if column.kind == TIMESTAMP:
            plain = _milliseconds(plain, _PER_SECOND[column.unit])
        elif column.kind == FLOAT:
            good = good & ~np.isnan(plain)  # what data frames write for a number that is missing
            self._infinite |= bool(np.isinf(plain).any())
        return [number if there else None for number, there in zip(plain.tolist(), good.tolist(), strict=True)]

    def _looked_up(self, known: Values, index: list[int], good: Bits) -> Values:
        if any(there and not 0 <= i < len(known) for i, there in zip(index, good.tolist(), strict=True)):
            raise ValueError("an index points beyond its dictionary")
        found = [known[i] if there else None for i, there in zip(index, good.tolist(), strict=True)]
        self._count(found)
        return found

    def _few(self, rows: int) -> int:
        if rows < 0:
            raise ValueError(f"there are {rows} rows")
        if rows > self._most:
            raise too_many(rows, self._most)
        return rows

    def _count(self, found: Sequence[Any]) -> None:
        self._text_bytes += sum(len(text) for text in found if text is not None)
        if self._text_bytes > self._most_bytes:
            raise BrokenRecordError(
                f"the texts of a record must be at most {self._most_bytes} bytes when unpacked; got {self._text_bytes} and more; "
                "send the pings in more records"
            )


def _check(columns: Sequence[Column]) -> None:
    """What each row would be wrong by is said once."""
    names = [column.name for column in columns if column.name in _FIELDS]
    for column in columns:
        if column.name not in _FIELDS:
            continue
        if names.count(column.name) > 1:
            raise BrokenRecordError(f"the columns must have different names; got two {shown(column.name)}; drop one of them")
        kinds = _FIELDS[column.name]
        if column.kind not in kinds:
            wanted = ", ".join(KINDS[kind] for kind in kinds if kind != NULL)
            raise BrokenRecordError(
                f"the column {column.name} must be of one of the types {wanted}; got {KINDS[column.kind]}; cast it"
            )
        if column.kind == TIMESTAMP and not column.zone:
            raise BrokenRecordError(
                f"the column {column.name} must have a time zone; got a timestamp without one; "
                "say which it is in, or send milliseconds since 1970 as integers"
            )
        if column.dictionary is not None and column.kind not in _TEXT_KINDS:
            raise BrokenRecordError(
                f"the column {column.name} must be plain numbers; got a dictionary of {KINDS[column.kind]}; cast it"
            )


def _milliseconds(times: NDArray[np.int64], per_second: int) -> NDArray[np.int64]:
    """Cut down to milliseconds, int64; what is far off stays far off."""
    if per_second < 1000:
        return np.clip(times, -_FAR, _FAR) * 1000
    return times // (per_second // 1000)


def _json(names: Sequence[str], row: Sequence[Any]) -> bytes:
    try:
        return orjson.dumps({name: value for name, value in zip(names, row, strict=True) if value is not None})
    except TypeError:
        return _strange(names, row)


def _strange(names: Sequence[str], row: Sequence[Any]) -> bytes:
    """With infinite numbers and bytes that are no UTF-8 as they are, for the parser to say so: orjson would write null."""
    ping = {name: value for name, value in zip(names, row, strict=True) if value is not None}
    return json.dumps(ping, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape")
