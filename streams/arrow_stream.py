"""Arrow's streaming format, read without trusting it: messages, the schema, and the buffers of columns.

https://arrow.apache.org/docs/format/Columnar.html, with the tables of
https://github.com/apache/arrow/blob/main/format/Schema.fbs and Message.fbs. Numbers in `Table` calls are those of their fields.

The reader is our own because a record comes from anybody and must not kill a worker: readers in C take a stream's word for where
things are (a byte changed at random in a valid one was enough to crash one of them). Whatever is wrong here is a ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streams.flatbuffer import Table, part, read

SCHEMA, DICTIONARY, ROWS = 1, 2, 3

NULL, INT, FLOAT, UTF8, TIMESTAMP, UNION, LARGE_UTF8, BINARY_VIEW, UTF8_VIEW = 1, 2, 3, 5, 10, 14, 20, 23, 24
KINDS = (
    *("none", "null", "int", "float", "binary", "utf8", "bool", "decimal", "date", "time", "timestamp", "interval", "list"),
    *("struct", "union", "fixed-size binary", "fixed-size list", "map", "duration", "large binary", "large utf8", "large list"),
    *("run-end encoded", "binary view", "utf8 view", "list view", "large list view"),
)
_BUFFERS = (0, 0, 2, 2, 3, 3, 2, 2, 2, 2, 2, 2, 2, 1, 0, 2, 1, 2, 2, 3, 3, 2, 0, 2, 2, 3, 3)
"""How many of each kind, beside those that a view names in its batch."""

_CONTINUATION: Final = 0xFFFF_FFFF
_VERSION_4: Final = 3
_MOST_FIELDS: Final = 1000
_SHORT_VIEW: Final = 12  # bytes of a text that stands in its view

Bits = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Column:
    """A field of the schema. kind: of its values; dtype: of numbers, or of the indices into the `dictionary` of that id.

    unit, zone: of timestamps.
    """

    name: str
    kind: int
    dtype: str
    unit: int = 0
    zone: str = ""
    dictionary: int | None = None
    children: tuple[Column, ...] = ()


def messages(data: memoryview) -> Iterator[tuple[int, Table, memoryview]]:
    """(kind, header, body) of each message, the schema first."""
    at, first = 0, True
    while at < len(data):
        if read(data, "I", at) != _CONTINUATION:
            raise ValueError(f"no message begins at byte {at}")
        size = read(data, "i", at + 4)
        if size == 0:
            break
        head = Table.root(part(data, at + 8, size))
        at += 8 + size
        body = part(data, at, head.number(3, "q"))
        at += len(body)
        kind, header = head.number(1, "B"), head.table(2)
        if header is None or (kind == SCHEMA) is not first or head.number(0, "h") < _VERSION_4:
            raise ValueError("its messages are not those of a stream of version 4 or 5")
        yield kind, header, body
        first = False
    if first:
        raise ValueError("there is no schema")


def columns(schema: Table) -> tuple[tuple[Column, ...], dict[int, Column]]:
    """The columns of a schema, and by id what the values of each dictionary are."""
    if schema.number(0, "h"):
        raise ValueError("it is big-endian")
    dictionaries: dict[int, Column] = {}
    left = [_MOST_FIELDS]
    return tuple(_column(field, dictionaries, left) for field in schema.tables(1)), dictionaries


def _column(field: Table, dictionaries: dict[int, Column], left: list[int]) -> Column:
    left[0] -= 1
    if left[0] < 0:  # tables may be shared: a short schema can have more fields than there are atoms
        raise ValueError(f"there are more than {_MOST_FIELDS} fields")
    name, kind, detail, encoding = field.text(0), field.number(2, "B"), field.table(3), field.table(4)
    if not 0 < kind < len(KINDS) or detail is None:
        raise ValueError(f"a field is of kind {kind}")
    children = tuple(_column(child, dictionaries, left) for child in field.tables(5))
    unit, zone = (detail.number(0, "h"), detail.text(1)) if kind == TIMESTAMP else (0, "")
    if encoding is None:
        return Column(name, kind, _dtype(kind, detail), unit, zone, None, children)
    number, index = encoding.number(0, "q"), encoding.table(1)
    dictionaries[number] = Column(name, kind, _dtype(kind, detail), unit, zone, None, children)
    return Column(name, kind, "i4" if index is None else _dtype(INT, index), unit, zone, number)


def _dtype(kind: int, detail: Table) -> str:
    """Of numpy; empty for what is no number."""
    if kind == INT:
        return {8: "1", 16: "2", 32: "4", 64: "8"}[detail.number(0, "i")].rjust(2, "i" if detail.number(1, "B") else "u")
    if kind == FLOAT:
        return ("f2", "f4", "f8")[detail.number(0, "h") & 3]
    return "i8" if kind == TIMESTAMP else ""


class Parts:
    """What a batch holds, to be taken in the order of the schema."""

    def __init__(self, batch: Table, body: memoryview) -> None:
        if batch.table(3) is not None:
            raise ValueError("it is compressed: leave that to the producer, which compresses all records of a batch at once")
        self.rows = batch.number(0, "q")
        self._body = body
        self._nodes = iter(batch.structs(1, "qq"))
        self._buffers = iter(batch.structs(2, "qq"))
        self._more = iter(batch.structs(4, "q"))

    def node(self) -> int:
        """How many values the next column has."""
        for rows, _ in self._nodes:
            return int(rows)
        raise ValueError("there are fewer columns than the schema has")

    def buffer(self) -> memoryview:
        for offset, size in self._buffers:
            return part(self._body, offset, size)
        raise ValueError("there are fewer buffers than the columns have")

    def more(self) -> list[memoryview]:
        """The buffers of texts that views point into."""
        for (count,) in self._more:
            if count <= len(self._body):
                return [self.buffer() for _ in range(count)]
        raise ValueError("views point into buffers that are not there")

    def skip(self, column: Column) -> None:
        self.node()
        if column.kind == UNION:
            raise ValueError(f'the column "{column.name}" is a union')
        for _ in range(_BUFFERS[column.kind] if column.dictionary is None else 2):
            self.buffer()
        if column.dictionary is None and column.kind in (BINARY_VIEW, UTF8_VIEW):
            self.more()
        for child in column.children:
            self.skip(child)


def valid(buffer: memoryview, rows: int) -> Bits:
    """Which of the rows are not null; bool (rows,)."""
    if not len(buffer):
        return np.ones(rows, dtype=np.bool_)
    bits = np.frombuffer(part(buffer, 0, (rows + 7) // 8), dtype=np.uint8)
    return np.unpackbits(bits, bitorder="little")[:rows].astype(np.bool_)


def numbers(buffer: memoryview, dtype: str, rows: int) -> NDArray[Any]:
    """(rows,) of the type."""
    wanted = np.dtype("<" + dtype)
    return np.frombuffer(part(buffer, 0, rows * wanted.itemsize), dtype=wanted)


def texts(parts: Parts, kind: int, rows: int, valid: Bits) -> list[memoryview | None]:
    """The bytes of each text, not copied; None for null."""
    if kind == UTF8_VIEW:
        return _views(parts, rows, valid)
    offsets, text = parts.buffer(), parts.buffer()
    if not rows:
        return []
    ends = numbers(offsets, "i8" if kind == LARGE_UTF8 else "i4", rows + 1)
    if ends[0] < 0 or (np.diff(ends) < 0).any() or ends[-1] > len(text):
        raise ValueError("a text ends before it begins, or beyond its buffer")
    bounds = ends.tolist()
    return [text[start:end] if good else None for start, end, good in zip(bounds, bounds[1:], valid.tolist(), strict=False)]


def _views(parts: Parts, rows: int, valid: Bits) -> list[memoryview | None]:
    views = part(parts.buffer(), 0, 16 * rows)
    more = parts.more()
    found: list[memoryview | None] = []
    for at, good in zip(range(0, 16 * rows, 16), valid.tolist(), strict=True):
        size = read(views, "i", at)
        if not good:
            found.append(None)
        elif 0 <= size <= _SHORT_VIEW:
            found.append(views[at + 4 : at + 4 + size])
        else:
            found.append(part(_chosen(more, read(views, "i", at + 8)), read(views, "i", at + 12), size))
    return found


def _chosen(buffers: Sequence[memoryview], number: int) -> memoryview:
    if not 0 <= number < len(buffers):
        raise ValueError(f"there is no buffer {number}")
    return buffers[number]
