"""The records of Kafka's record batches as columns, without an object for a record.

A body is what follows the header of a batch, unpacked: records one behind the other, each with its length in front
(https://kafka.apache.org/documentation/#recordbatch, format version 2). If anything is not as it must be, or a record has
headers, the answer is None, and the records are to be read one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from geo.compiled import compiled, inlined
from geo.spans import PAD, Spans, padded

Longs = NDArray[np.int64]

_SHORTEST_RECORD = 7  # bytes: its length, attributes, time, offset, and the sizes of key, value and headers
_LONGEST_VARINT = 5  # bytes: lengths of up to 2 GB, times within half a year of the batch's first
_NO_VALUE = -1


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
    """The records of some bodies, if none has headers and all are whole."""
    buffer = padded([body.records for body in bodies])
    count = np.array([body.records_count for body in bodies])
    sizes = np.array([len(body.records) for body in bodies])
    if (count < 0).any() or (count * _SHORTEST_RECORD > sizes).any():
        return None
    value, size, record_ms, offsets = np.zeros((4, int(count.sum())), dtype=np.int64)
    if not _walk(buffer, np.cumsum(sizes) - sizes + PAD, sizes, count, value, size, record_ms, offsets):
        return None
    record_ms += np.repeat([body.first_ms for body in bodies], count)
    for body, end in zip(bodies, np.cumsum(count).tolist(), strict=True):
        if body.appended_ms is not None:
            record_ms[end - body.records_count : end] = body.appended_ms
    offsets += np.repeat([body.base_offset for body in bodies], count)
    has_value = size != _NO_VALUE
    np.maximum(size, 0, out=size)
    found = Batch(Spans(buffer, value, size), None if has_value.all() else has_value, record_ms, offsets)
    return _wanted(found, bodies, count) if any(body.skip for body in bodies) else found


def _wanted(found: Batch, bodies: Sequence[Body], count: Longs) -> Batch:
    number = np.arange(len(found)) - np.repeat(np.cumsum(count) - count, count)
    which = number >= np.repeat([body.skip for body in bodies], count)
    has_value = None if found.has_value is None else found.has_value[which]
    return Batch(found.values[which], has_value, found.record_ms[which], found.offsets[which])


@compiled
def _walk(
    buffer: NDArray[np.uint8],
    begin: Longs,
    sizes: Longs,
    count: Longs,
    value: Longs,
    size: Longs,
    delta_ms: Longs,
    delta: Longs,
) -> bool:
    """Walk over the records of b bodies, and fill the last four with n records. False: something is not as it must be.

    begin, sizes, count: int64 (b,), of each body, where it begins, its bytes and its records. size: -1 for no value.
    """
    i = 0
    for body in range(len(begin)):
        at: int | np.int64 = begin[body]
        stop = begin[body] + sizes[body]
        for _ in range(count[body]):
            length, at = _varint(buffer, at)
            end = at + length
            if at < 0 or length < 1 or end > stop or buffer[at] != 0:  # attributes, of which there are none yet
                return False
            delta_ms[i], at = _varint(buffer, at + 1)
            delta[i], at = _varint(buffer, at) if at > 0 else (0, at)
            key, at = _varint(buffer, at) if at > 0 else (0, at)
            if at < 0 or key < _NO_VALUE or at + max(key, 0) >= end:
                return False
            size[i], at = _varint(buffer, at + max(key, 0))
            value[i] = at
            # Behind the value there is the number of headers and nothing else.
            if at < 0 or size[i] < _NO_VALUE or at + max(size[i], 0) != end - 1 or buffer[end - 1] != 0:
                return False
            at = end
            i += 1
        if at != stop:
            return False
    return True


@inlined
def _varint(buffer: NDArray[np.uint8], at: int | np.int64) -> tuple[int | np.int64, int | np.int64]:
    """A signed number and where it ends; (0, -1): it is longer than it may be."""
    number = np.int64(0)
    for i in range(_LONGEST_VARINT):
        byte = np.int64(buffer[at + i])
        number |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at + i + 1
    return 0, -1
