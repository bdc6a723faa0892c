"""The records of Kafka's record batches as columns, without an object for a record.

A body is what follows the header of a batch, unpacked: records one behind the other, each with its length in front
(https://kafka.apache.org/documentation/#recordbatch, format version 2). Where a record begins is known only from the one
before it, which no array operation can follow. So it is guessed and then proved: where the last byte of a value and the 0 of
"no headers" stand, a record may end; if the first one begins where its body begins, every length leads to the next
beginning, and the last one to the end of its body, then these are the records. If anything differs, the answer is None, and
the records are to be read one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from geo.spans import PAD, Spans, blocks, padded
from streams.swar import Words, bytes_below, every, first, shared

Longs = NDArray[np.int64]

_HIGH = every(0x80)
_LONGEST_VARINT = 4  # bytes: lengths below 128 MB, times within a day and a half of the batch's first
_SEVEN_BITS = [np.uint64(0x7F << 7 * i) for i in range(_LONGEST_VARINT)]
_ONE_BYTE = np.ones(1, dtype=np.int64)
_SHIFTS = [np.uint64(i) for i in range(_LONGEST_VARINT)]
_ONE, _64, _BYTE = np.uint64(1), np.uint64(64), np.uint64(0xFF)


class Body(NamedTuple):
    """The records of one batch. skip: how many of them are not wanted; appended_ms: the time of all, if the broker gave it."""

    records: bytes
    records_count: int
    skip: int
    base_offset: int
    first_ms: int
    appended_ms: int | None


class Run(Protocol):
    """A Kafka record batch (streams.transport.Run). body: None where only reading record by record will do."""

    next_offset: int

    @property
    def body(self) -> Body | None: ...
    @property
    def values(self) -> list[bytes | None]: ...
    def timestamps(self) -> Longs: ...
    def offsets(self) -> Longs: ...
    def key(self, i: int) -> bytes | None: ...
    def __len__(self) -> int: ...


class Taken(NamedTuple):
    """Of n pings: the number of each one's record in the batch as it was read, int64 (n,); which ping of that record it is,
    int32 (n,), -1 where the record is a ping by itself, or nothing.
    """

    record: Longs
    item: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Batch:
    """n consecutive records of a partition.

    values     n strings, empty where there is none
    has_value  bool (n,); None: all have one
    record_ms  int64 (n,)  Kafka's timestamps
    offsets    int64 (n,)
    taken      None, or how records with several pings were taken apart, so that each of the n is one ping
    """

    values: Spans
    has_value: NDArray[np.bool_] | None
    record_ms: Longs
    offsets: Longs
    taken: Taken | None = None

    def __len__(self) -> int:
        return len(self.record_ms)

    @classmethod
    def of(cls, values: Sequence[bytes | None], record_ms: Longs, offsets: Longs) -> Batch:
        """Of records that were read one by one; a value of None is a clock record."""
        has_value = None
        if None in values:
            has_value = np.array([value is not None for value in values], dtype=np.bool_)
        return cls(Spans.of([value or b"" for value in values]), has_value, record_ms, offsets)

    @classmethod
    def of_runs(cls, runs: Sequence[Run]) -> Batch:
        """Of at least one run."""
        bodies = [body for run in runs if (body := run.body) is not None]
        if len(bodies) == len(runs) and (found := located(bodies)) is not None:
            return found
        values = [value for run in runs for value in run.values]
        record_ms = np.concatenate([run.timestamps() for run in runs])
        return cls.of(values, record_ms, np.concatenate([run.offsets() for run in runs]))

    def taken_apart(self, pings: Mapping[int, Sequence[bytes]], buffer: NDArray[np.uint8]) -> Batch:
        """Some records, by number, replaced by their pings; one without any becomes a clock record.

        buffer: that of the values, perhaps with more behind it; the pings go behind all of it.
        """
        counts = np.ones(len(self), dtype=np.int64)
        rows = np.array(list(pings), dtype=np.int64)  # ascending
        counts[rows] = [max(len(some), 1) for some in pings.values()]
        record = np.repeat(np.arange(len(self)), counts)
        item = (np.arange(len(record)) - np.repeat(np.cumsum(counts) - counts, counts)).astype(np.int32)
        several = np.zeros(len(self), dtype=np.bool_)
        several[rows] = [len(some) > 0 for some in pings.values()]
        ours = several[record]
        item[~ours] = -1
        more = Spans.of([ping for some in pings.values() for ping in some])
        start, size = self.values.start[record], self.values.size[record]
        start[ours], size[ours] = more.start + len(buffer), more.size
        has_value = self.has_value
        if not several[rows].all():
            has_value = np.ones(len(self), dtype=np.bool_) if has_value is None else has_value.copy()
            has_value[rows[~several[rows]]] = False
        return Batch(
            values=Spans(np.concatenate((buffer, more.buffer)), start, size),
            has_value=None if has_value is None else has_value[record],
            record_ms=self.record_ms[record],
            offsets=self.offsets[record],
            taken=Taken(record, item),
        )


def located(bodies: Sequence[Body]) -> Batch | None:
    """The records of some bodies, if each has a value and no headers, and the guess of where they end holds."""
    buffer = padded([body.records for body in bodies])
    count = np.array([body.records_count for body in bodies])
    ends = _ends(buffer, bodies, count)
    if ends is None:
        return None
    start = np.concatenate(([PAD], ends[:-1]))
    head = _Varints(blocks(buffer, start, 2))
    length = head.next()
    right = start + head.used + length == ends
    right &= head.byte() == 0  # attributes, of which there are none yet
    delta_ms, delta, key_size = head.next(), head.next(), head.next()
    right &= (head.used <= 16) & (key_size >= -1)
    at = start + head.used + np.maximum(key_size, 0)
    right &= at < ends
    tail = _Varints(blocks(buffer, np.minimum(at, len(buffer) - 16), 2))
    size = tail.next()
    value = at + tail.used
    right &= (size >= 0) & (value + size == ends - 1)
    if not right.all() or head.bad.any() or tail.bad.any():
        return None
    record_ms = np.repeat([body.first_ms for body in bodies], count) + delta_ms
    for body, end in zip(bodies, np.cumsum(count).tolist(), strict=True):
        if body.appended_ms is not None:
            record_ms[end - body.records_count : end] = body.appended_ms
    offsets = np.repeat([body.base_offset for body in bodies], count) + delta
    found = Batch(Spans(buffer, value, size), None, record_ms, offsets)
    return _wanted(found, bodies, count) if any(body.skip for body in bodies) else found


def _ends(buffer: NDArray[np.uint8], bodies: Sequence[Body], count: Longs) -> Longs | None:
    """Where n records may end, int64 (n,), if as many places are found as there are records, and each body ends at one."""
    size = np.array([len(body.records) for body in bodies])
    body_ends = np.cumsum(size) + PAD
    last_bytes = buffer[body_ends - 2]
    if count.min() < 1 or size.min() < 2 or not last_bytes[0] or (last_bytes != last_bytes[0]).any():
        return None
    ends: Longs = np.flatnonzero(buffer[:-1] == last_bytes[0])
    ends = ends[buffer[ends + 1] == 0] + 2
    if len(ends) != count.sum() or (ends[np.cumsum(count) - 1] != body_ends).any():
        return None
    return ends


def _wanted(found: Batch, bodies: Sequence[Body], count: Longs) -> Batch:
    number = np.arange(len(found)) - np.repeat(np.cumsum(count) - count, count)
    which = number >= np.repeat([body.skip for body in bodies], count)
    return Batch(found.values[which], None, found.record_ms[which], found.offsets[which])


class _Varints:
    """Reads signed numbers from the front of n records. used: bytes so far; bad: True where one is longer than it may be."""

    def __init__(self, words: Words) -> None:
        self._front, self._behind = words
        self.used: Longs = np.zeros(words.shape[1], dtype=np.int64)
        self.bad = np.zeros(words.shape[1], dtype=np.bool_)

    def next(self) -> Longs:
        """int64 (n,)."""
        mark = shared(first(~self._front & _HIGH))  # the last byte of a varint has its highest bit clear
        size = bytes_below(mark) + 1
        self.bad |= size > _LONGEST_VARINT
        groups = self._front & (mark - _ONE)
        number = groups & _SEVEN_BITS[0]
        for i in range(1, min(int(size.max(initial=1)), _LONGEST_VARINT)):
            number |= (groups >> _SHIFTS[i]) & _SEVEN_BITS[i]
        self._skip(size)
        value: Longs = (number >> _ONE).view(np.int64) ^ -(number & _ONE).view(np.int64)
        return value

    def byte(self) -> Words:
        """uint64 (n,)."""
        byte: Words = self._front & _BYTE
        self._skip(_ONE_BYTE)
        return byte

    def _skip(self, size: Longs) -> None:
        bits = (size << 3).view(np.uint64)
        self._front = self._front >> bits | self._behind << (_64 - bits)
        self._behind = self._behind >> bits
        self.used = self.used + size
