"""Kafka record batches as they come, without an object per record.

aiokafka makes a `ConsumerRecord` of every record; that costs more than decoding it. Here a whole record batch becomes one
`Run`: its records unpacked for who reads them as columns, and one by one on demand.

How it hooks in: `aiokafka.consumer.fetcher` makes three objects for every fetched partition, by names of its module.
`install` replaces those names with subclasses that behave as before, unless the consumer was made with
`value_deserializer=RunReading(...)`; so other consumers of the same process are untouched.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Any

import aiokafka.consumer.fetcher as stock
import numpy as np
from aiokafka import codec
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP
from numpy.typing import NDArray

from streams.batches import Body

CREATE_TIME, LOG_APPEND_TIME = 0, 1

_COUNT = struct.Struct(">i")
_COUNT_AT, _RECORDS_AT = 57, 61
_UNPACK: dict[int, Callable[[bytes], bytes]] = {
    0: lambda packed: packed,
    1: codec.gzip_decode,
    2: codec.snappy_decode,
    3: codec.lz4_decode,
    4: codec.zstd_decode,
}
_LENGTH = struct.Struct(">i")
_LENGTH_AT, _BODY_AT, _MAGIC_AT = 8, 12, 16  # a batch starts: base offset (8), length of the rest (4), epoch (4), magic
_OLDEST_MAGIC = 2  # the only format that Kafka has written since 0.11, and the only one that Kafka 4 reads

# Taken before `install` puts the subclasses in their place.
_StockRecords: Any = stock.PartitionRecords
_StockResult: Any = stock.FetchResult


class Run:
    """The records of one record batch that the reader has not had yet. Treat it as frozen.

    Reading goes on at `next_offset`, which may lie behind the last record's offset + 1: compaction removes records and control
    batches have offsets too. `body` is what `streams.batches` reads whole; everything else parses the batch once, on demand.
    """

    __slots__ = ("_batch", "_records", "_skip", "base", "body", "next_offset", "timestamp_type", "tp")

    def __init__(
        self, tp: TP, batch: bytes, *, base: int, next_offset: int, timestamp_type: int, body: Body | None, skip: int = 0
    ) -> None:
        self.tp = tp
        self.base = base
        self.next_offset = next_offset
        self.timestamp_type = timestamp_type
        self.body = body
        self._batch = batch
        self._skip = skip
        self._records: list[Any] | None = None

    def __len__(self) -> int:
        return len(self._parsed()) if self.body is None else self.body.records_count - self.body.skip

    def __repr__(self) -> str:
        return f"<Run {self.tp.topic}[{self.tp.partition}] {len(self)} records from {self.base} to {self.next_offset}>"

    @property
    def values(self) -> list[bytes | None]:
        """[len] values; None is that of a clock record (a record without value)."""
        return [record.value for record in self._parsed()]

    def timestamps(self) -> NDArray[np.int64]:
        """[len] ms since 1970, one per record; with LogAppendTime the batch's one time for all."""
        return np.array([record.timestamp for record in self._parsed()], np.int64)

    def offsets(self) -> NDArray[np.int64]:
        """[len] offsets, rising; contiguous unless the log was compacted."""
        return np.array([record.offset for record in self._parsed()], np.int64)

    def key(self, i: int) -> bytes | None:
        """The key of record i."""
        key: bytes | None = self._parsed()[i].key
        return key

    def headers(self, i: int) -> list[tuple[str, bytes]]:
        """The headers of record i."""
        return [(name, value or b"") for name, value in self._parsed()[i].headers]

    def _parsed(self) -> list[Any]:
        if self._records is None:
            self._records = list(DefaultRecordBatch(self._batch))[self._skip :]
        return self._records


def read_batch(tp: TP, raw: bytes, start: int) -> Run | None:
    """The records of one data batch from offset `start` on; None when it has none."""
    batch = DefaultRecordBatch(raw)
    next_offset: int = batch.next_offset
    count, base_offset = _COUNT.unpack_from(raw, _COUNT_AT)[0], batch.base_offset
    appended_ms = batch.max_timestamp if batch.timestamp_type == LOG_APPEND_TIME else None
    skip, body = max(0, start - base_offset), None
    if count == next_offset - base_offset:
        records = _UNPACK[batch.compression_type](raw[_RECORDS_AT:])
        body = Body(records, count, skip, base_offset, batch.first_timestamp, appended_ms)
        base = base_offset + skip
    else:  # compacted: only the records themselves know their offsets
        offsets = [record.offset for record in batch]
        skip = bisect_left(offsets, start)
        base = offsets[skip] if skip < len(offsets) else next_offset
    if base >= next_offset:
        return None
    return Run(tp, raw, base=base, next_offset=next_offset, timestamp_type=batch.timestamp_type, body=body, skip=skip)


class RunReading:
    """Given to a consumer as its `value_deserializer`, it switches the consumer to runs."""

    def __init__(self, records_per_partition: int) -> None:
        # How much of one partition is handed out at a time: a backlog in one must not starve the others, and what is
        # not handed out stays packed as it came.
        self.records_per_partition = records_per_partition

    def __call__(self, value: bytes | None) -> bytes | None:
        return value


class _KeepRaw:
    """`MemoryRecords` that can be asked for the bytes it was made of."""

    __slots__ = ("has_next", "next_batch", "raw", "size_in_bytes")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        records = MemoryRecords(raw)
        self.has_next, self.next_batch, self.size_in_bytes = records.has_next, records.next_batch, records.size_in_bytes


class _RunRecords(_StockRecords):  # type: ignore[misc]
    """The record batches of one fetched partition; iterates over runs."""

    _tp: Any
    next_fetch_offset: int

    @property
    def reading(self) -> RunReading | None:
        chosen = self._value_deserializer
        return chosen if isinstance(chosen, RunReading) else None

    def _unpack_records(self) -> Iterator[Any]:
        records: Iterator[Any] = super()._unpack_records() if self.reading is None else self._runs()
        return records

    def _runs(self) -> Iterator[Run]:
        tp = TP(self._tp.topic, self._tp.partition)
        for raw in _batches(self._records.raw):
            if raw[_MAGIC_AT] < _OLDEST_MAGIC:
                raise CorruptRecordException(f"{tp}: a message format older than Kafka 0.11 can not be read")
            batch = DefaultRecordBatch(raw)
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"{tp}: the check sum of the batch at offset {batch.base_offset} is wrong")
            run = read_batch(tp, raw, self.next_fetch_offset) if self._holds_data(batch) else None
            self.next_fetch_offset = max(self.next_fetch_offset, batch.next_offset)
            if run is not None:
                yield run

    def _holds_data(self, batch: Any) -> bool:
        """False for control batches and aborted transactions; the same steps as the stock reader's."""
        if self._isolation_level == stock.READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return False
        return not batch.is_control_batch


def _batches(raw: bytes) -> Iterator[bytes]:
    """The whole batches of a fetch response; the broker cuts the last one where the size limit falls."""
    at = 0
    while at + _BODY_AT <= len(raw):
        end = at + _BODY_AT + _LENGTH.unpack_from(raw, at + _LENGTH_AT)[0]
        if end > len(raw):
            return
        yield raw[at:end]
        at = end


class _RunResult(_StockResult):  # type: ignore[misc]
    """A fetched partition that waits to be handed out, a bounded piece at a time."""

    _partition_records: Any

    def getall(self, max_records: int | None = None) -> list[Any]:
        records = self._partition_records
        if records is None or records.reading is None:
            taken: list[Any] = super().getall(max_records)
            return taken
        if not self.check_assignment(self._topic_partition):
            return []
        runs: list[Any] = []
        room = records.reading.records_per_partition
        for run in records:
            runs.append(run)
            room -= len(run)
            if room <= 0:
                self._update_position()
                return runs
        self._update_position()
        self._partition_records = None
        return runs


def install() -> None:
    """Put the three subclasses in place of aiokafka's; doing it twice is harmless."""
    stock.MemoryRecords = _KeepRaw
    stock.PartitionRecords = _RunRecords
    stock.FetchResult = _RunResult
