"""The lean path against aiokafka's own reading, record by record: the slow truth."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import aiokafka.consumer.fetcher as fetcher
import numpy as np
import pytest
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.transport import CREATE_TIME, LOG_APPEND_TIME, Run
from streams.transport.runs import RunReading, _KeepRaw, _RunRecords, _RunResult, _StockRecords, read_batch

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
PLACE, HERE = TopicPartition("pings", 3), TP("pings", 3)
_ATTRIBUTES_AT, _CRC_AT, _LAST_DELTA_AT, _MAX_TIME_AT = 21, 17, 23, 35
_LOG_APPEND, _TRANSACTIONAL, _CONTROL = 0x08, 0x10, 0x20
COMMIT_MARKER, ABORT_MARKER = b"\x00\x00\x00\x01", b"\x00\x00\x00\x00"

Record = tuple[int, bytes | None, bytes | None]  # offset, key, value


def build(
    base: int,
    records: list[Record],
    *,
    codec: str = "none",
    next_offset: int | None = None,
    log_append_ms: int | None = None,
    attributes: int = 0,
    producer_id: int = -1,
) -> bytes:
    """A batch as a broker stores it, also one that was compacted (offsets missing) or that the broker itself wrote."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=CODECS[codec],
        is_transactional=0,
        producer_id=producer_id,
        producer_epoch=0,
        base_sequence=-1,
        batch_size=1 << 24,
    )
    for offset, key, value in records:
        builder.append(offset - base, 1_700_000_000_000 + 7 * offset, key, value, [("h", b"%d" % offset)])
    raw = bytearray(builder.build())
    raw[:8] = struct.pack(">q", base)
    last = (next_offset if next_offset is not None else records[-1][0] + 1) - 1 - base
    struct.pack_into(">i", raw, _LAST_DELTA_AT, last)
    flags = struct.unpack_from(">h", raw, _ATTRIBUTES_AT)[0] | attributes
    if log_append_ms is not None:
        flags |= _LOG_APPEND
        struct.pack_into(">q", raw, _MAX_TIME_AT, log_append_ms)
    struct.pack_into(">h", raw, _ATTRIBUTES_AT, flags)
    struct.pack_into(">I", raw, _CRC_AT, calc_crc32c(bytes(raw[_ATTRIBUTES_AT:])))
    return bytes(raw)


def plain(base: int, count: int, **options: Any) -> bytes:
    return build(base, [(base + i, b"k%d" % (base + i), b"v%d" % (base + i)) for i in range(count)], **options)


def control(offset: int, marker: bytes, producer_id: int = 9) -> bytes:
    flags = _CONTROL | _TRANSACTIONAL
    return build(offset, [(offset, marker, b"\0" * 6)], attributes=flags, producer_id=producer_id)


def reader(kind: Any, raw: bytes, start: int, *, lean: bool, aborted: Any = None, committed_only: bool = True) -> Any:
    level = fetcher.READ_COMMITTED if committed_only else fetcher.READ_UNCOMMITTED
    return kind(PLACE, _KeepRaw(raw), aborted, start, None, RunReading(16_384) if lean else None, True, level)


def both(raw: bytes, start: int, **options: Any) -> tuple[list[Run], list[Any]]:
    """Runs, and aiokafka's records; their positions must agree as well."""
    lean = reader(_RunRecords, raw, start, lean=True, **options)
    stock = reader(_StockRecords, raw, start, lean=False, **options)
    runs, records = list(lean), list(stock)
    assert lean.next_fetch_offset == stock.next_fetch_offset
    return runs, records


def check_same(runs: list[Run], records: list[Any]) -> None:
    assert [value for run in runs for value in run.values] == [record.value for record in records]
    assert [int(o) for run in runs for o in run.offsets()] == [record.offset for record in records]
    assert [int(t) for run in runs for t in run.timestamps()] == [record.timestamp for record in records]
    assert [run.key(i) for run in runs for i in range(len(run))] == [record.key for record in records]
    assert [run.headers(i) for run in runs for i in range(len(run))] == [list(record.headers) for record in records]
    assert [run.timestamp_type for run in runs for _ in run.values] == [record.timestamp_type for record in records]
    for run in runs:
        assert run.tp == HERE
        assert run.base == run.offsets()[0]
        assert run.next_offset > run.offsets()[-1]
        assert run.timestamps().dtype == run.offsets().dtype == np.int64


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("log_append_ms", [None, 1_800_000_000_000])
def test_every_codec_and_both_kinds_of_time_read_as_aiokafka_reads_them(codec: str, log_append_ms: int | None) -> None:
    raw = plain(10, 50, codec=codec, log_append_ms=log_append_ms) + plain(60, 7, codec=codec)
    runs, records = both(raw, 10)
    assert [len(run) for run in runs] == [50, 7]
    assert runs[0].timestamp_type == (CREATE_TIME if log_append_ms is None else LOG_APPEND_TIME)
    check_same(runs, records)


@pytest.mark.parametrize("start", [10, 11, 35, 59])
def test_reading_may_start_within_a_batch(start: int) -> None:
    runs, records = both(plain(10, 50, codec="lz4") + plain(60, 7), start)
    assert runs[0].base == start
    check_same(runs, records)


def test_a_record_without_value_is_a_clock_record_and_none() -> None:
    runs, records = both(build(0, [(0, b"k", None), (1, None, b""), (2, b"k", b"x")]), 0)
    assert runs[0].values == [None, b"", b"x"]
    check_same(runs, records)


@pytest.mark.parametrize("start", [100, 101, 103, 104, 106, 109])
def test_holes_of_compaction_keep_the_true_offsets(start: int) -> None:
    holed = build(100, [(o, b"k", b"v%d" % o) for o in (101, 104, 105, 108)], next_offset=110, codec="zstd")
    runs, records = both(holed + plain(110, 3), start)
    check_same(runs, records)
    assert runs[-1].next_offset == 113


def test_a_batch_that_compaction_has_emptied_is_passed_over() -> None:
    runs, records = both(build(5, [], next_offset=9) + plain(9, 2), 5)
    assert [run.base for run in runs] == [9]
    check_same(runs, records)
    alone = reader(_RunRecords, build(5, [], next_offset=9), 5, lean=True)
    assert list(alone) == []
    assert alone.next_fetch_offset == 9


@pytest.mark.parametrize("committed_only", [True, False])
def test_control_batches_and_aborted_transactions_are_never_records(committed_only: bool) -> None:
    raw = (
        plain(0, 4, attributes=_TRANSACTIONAL, producer_id=9)
        + plain(4, 3)
        + control(7, ABORT_MARKER)
        + plain(8, 2, attributes=_TRANSACTIONAL, producer_id=9)
        + control(10, COMMIT_MARKER)
        + plain(11, 1)
    )
    runs, records = both(raw, 0, aborted=[(9, 0)], committed_only=committed_only)
    check_same(runs, records)
    assert [run.base for run in runs] == ([4, 8, 11] if committed_only else [0, 4, 8, 11])


def test_the_broken_tail_of_a_response_waits_for_the_next_fetch() -> None:
    raw = plain(0, 5) + plain(5, 5)
    cut = raw[: len(plain(0, 5)) + 30]
    lean = reader(_RunRecords, cut, 0, lean=True)
    assert [len(run) for run in lean] == [5]
    assert lean.next_fetch_offset == 5


def test_a_wrong_check_sum_is_an_error_and_names_the_place() -> None:
    raw = bytearray(plain(40, 5))
    raw[-3] ^= 1
    with pytest.raises(CorruptRecordException, match=r"pings.*check sum of the batch at offset 40"):
        list(reader(_RunRecords, bytes(raw), 40, lean=True))


def test_a_message_format_before_kafka_0_11_is_refused() -> None:
    builder = LegacyRecordBatchBuilder(magic=1, compression_type=0, batch_size=1 << 16)
    builder.append(0, 1_700_000_000_000, b"k", b"v")
    with pytest.raises(CorruptRecordException, match=r"older than Kafka 0\.11"):
        list(reader(_RunRecords, bytes(builder.build()), 0, lean=True))


def test_a_consumer_that_did_not_ask_for_runs_reads_as_ever() -> None:
    raw = plain(10, 50, codec="lz4")
    other = reader(_RunRecords, raw, 12, lean=False)
    stock = reader(_StockRecords, raw, 12, lean=False)
    assert list(other) == list(stock)


def test_keys_are_found_in_a_run_that_starts_within_its_batch() -> None:
    run = read_batch(HERE, plain(10, 50), 30)
    assert run is not None
    assert (run.key(0), run.key(19), run.headers(3)) == (b"k30", b"k49", [("h", b"33")])


@st.composite
def logs(draw: st.DrawFn) -> tuple[bytes, int]:
    """Batches in offset order, with holes within and between them, and a place to start: as a broker answers, in or
    before the first batch."""
    raw, at = b"", draw(st.integers(0, 1000))
    start = -1
    for _ in range(draw(st.integers(1, 4))):
        base = at + draw(st.integers(0, 3))
        kept = draw(st.lists(st.integers(0, 12), unique=True, max_size=8).map(sorted))
        end = base + (kept[-1] if kept else 0) + 1 + draw(st.integers(0, 3))
        values = st.one_of(st.none(), st.binary(max_size=20))
        records = [(base + i, draw(values), draw(values)) for i in kept]
        time = draw(st.one_of(st.none(), st.just(1_800_000_000_000)))
        codec = draw(st.sampled_from(list(CODECS))) if kept else "none"  # so does a broker write an emptied batch
        raw += build(base, records, codec=codec, next_offset=end, log_append_ms=time)
        start = start if start >= 0 else draw(st.integers(at, end - 1))
        at = end
    return raw, start


@given(logs())
def test_law_runs_are_aiokafkas_records(log: tuple[bytes, int]) -> None:
    raw, start = log
    check_same(*both(raw, start))


def _fetched(runs_of: int, room: int) -> tuple[Any, Any]:
    """A fetch result that waits in aiokafka's buffer, and the state of its partition."""

    async def make() -> tuple[Any, Any]:
        assignment = Assignment([PLACE])
        assignment.state_value(PLACE).seek(0)
        raw = b"".join(plain(base, 10) for base in range(0, 10 * runs_of, 10))
        records = _RunRecords(PLACE, _KeepRaw(raw), None, 0, None, RunReading(room), True, fetcher.READ_COMMITTED)
        result = _RunResult(PLACE, assignment=assignment, partition_records=records, backoff=0.1)
        return result, assignment.state_value(PLACE)

    return asyncio.run(make())


def test_a_partitions_backlog_is_handed_out_in_bounded_pieces() -> None:
    result, state = _fetched(runs_of=5, room=20)
    pieces = []
    while result.has_more():
        pieces.append([run.base for run in result.getall()])
        assert state.position == min(50, 20 * len(pieces))
    assert pieces == [[0, 10], [20, 30], [40]]


def test_a_seek_in_between_drops_the_rest() -> None:
    result, state = _fetched(runs_of=5, room=20)
    result.getall()
    state.seek(3)
    assert result.getall() == []
    assert not result.has_more()
