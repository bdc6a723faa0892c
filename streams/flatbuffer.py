"""FlatBuffers, as far as Arrow's messages need them: tables with their fields by number. https://flatbuffers.dev/internals

What is read comes from anybody, so every place is looked at before it is read: outside of the data is a ValueError.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=32)
def _layout(form: str) -> struct.Struct:
    return struct.Struct("<" + form)


def read(data: memoryview, form: str, at: int) -> int:
    """One number, little-endian; form as in `struct`."""
    layout = _layout(form)
    if not 0 <= at <= len(data) - layout.size:
        raise ValueError(f"byte {at} is outside of the {len(data)} there are")
    number: int = layout.unpack_from(data, at)[0]
    return number


def part(data: memoryview, start: int, size: int) -> memoryview:
    """Some of the bytes, not copied."""
    if start < 0 or size < 0 or start + size > len(data):
        raise ValueError(f"{size} bytes from {start} on are not among the {len(data)} there are")
    return data[start : start + size]


class Table:
    """A table of a buffer. An absent field has its default."""

    __slots__ = ("_at", "_data", "_fields", "_fields_size")

    def __init__(self, data: memoryview, at: int) -> None:
        self._data = data
        self._at = at
        self._fields = at - read(data, "i", at)
        self._fields_size = read(data, "H", self._fields)

    @classmethod
    def root(cls, data: memoryview) -> Table:
        return cls(data, read(data, "I", 0))

    def number(self, field: int, form: str, default: int = 0) -> int:
        at = self._find(field)
        return default if at is None else read(self._data, form, at)

    def table(self, field: int) -> Table | None:
        at = self._find(field)
        return None if at is None else Table(self._data, self._follow(at))

    def text(self, field: int) -> str:
        """Empty if absent."""
        start, size = self._vector(field)
        return str(part(self._data, start, size), "utf-8")

    def tables(self, field: int) -> Iterator[Table]:
        """Of a vector of tables."""
        start, count = self._vector(field)
        for at in range(start, start + 4 * count, 4):
            yield Table(self._data, self._follow(at))

    def structs(self, field: int, form: str) -> list[tuple[Any, ...]]:
        """Of a vector of structs, or of numbers."""
        layout = _layout(form)
        start, count = self._vector(field)
        return list(layout.iter_unpack(part(self._data, start, count * layout.size)))

    def _find(self, field: int) -> int | None:
        place = 4 + 2 * field
        offset = read(self._data, "H", self._fields + place) if place + 2 <= self._fields_size else 0
        return self._at + offset if offset else None

    def _follow(self, at: int) -> int:
        return at + read(self._data, "I", at)

    def _vector(self, field: int) -> tuple[int, int]:
        """Where the elements begin, and how many there are."""
        at = self._find(field)
        if at is None:
            return 0, 0
        start = self._follow(at)
        return start + 4, read(self._data, "I", start)
