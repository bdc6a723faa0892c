"""Record batches read as columns are what aiokafka reads record by record, whatever is in them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.batches import Batch, Body, located
from streams.transport.runs import Run, read_batch

MS = 1_700_000_000_000
_COUNT_AT, _RECORDS_AT = 57, 61
Record = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes]]]  # ms, key, value, headers


def build(records: list[Record], base: int = 7) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 1 << 24)
    for i, (ms, key, value, headers) in enumerate(records):
        builder.append(i, MS + ms, key, value, headers)
    raw = bytearray(builder.build())
    raw[:8] = struct.pack(">q", base)
    return bytes(raw)


def run(raw: bytes, start: int = 0) -> Run:
    found = read_batch(TP("pings", 0), raw, start)
    assert found is not None
    return found


def check(batch: Batch, runs: list[Run]) -> None:
    values = [value for one in runs for value in one.values]
    assert batch.values.tolist() == [value or b"" for value in values]
    assert batch.record_ms.tolist() == [ms for one in runs for ms in one.timestamps()]
    assert batch.offsets.tolist() == [offset for one in runs for offset in one.offsets()]
    has_value = batch.has_value if batch.has_value is not None else np.ones(len(batch), dtype=np.bool_)
    assert has_value.tolist() == [value is not None for value in values]


def pings(n: int, ending: bytes = b"}") -> list[Record]:
    return [(i % 90, b"b%d" % i, b'{"i":%d' % i + b" " * (i % 300) + ending, []) for i in range(n)]


@pytest.mark.parametrize("sizes", [[1], [400], [400, 400, 17], [1] * 50, [5000]])
@pytest.mark.parametrize("ending", [b"}", b"}\n", b"\xff"])
def test_batches_of_pings_are_read_without_looking_at_one_record(sizes: list[int], ending: bytes) -> None:
    runs = [run(build(pings(n, ending), base=10_000 * i)) for i, n in enumerate(sizes)]
    batch = located([body for one in runs if (body := one.body) is not None])
    assert batch is not None
    check(batch, runs)


@pytest.mark.parametrize("skip", [0, 1, 39])
def test_what_was_read_before_is_left_out(skip: int) -> None:
    runs = [run(build(pings(40)), 7 + skip), run(build(pings(40), base=47))]
    assert all(one.body is not None for one in runs)
    batch = located([body for one in runs if (body := one.body) is not None])
    assert batch is not None
    assert batch.offsets[0] == 7 + skip
    check(batch, runs)


@pytest.mark.parametrize(
    "odd",
    [
        (0, b"k", None, []),
        (0, None, b"{}", []),
        (0, b"k", b"", []),
        (0, b"k", b"{}", [("trace", b"1")]),
        (0, b"k}\0", b'{"i":1}\0 }', []),
        (0, b"}\0" * 5, b"}\0" * 100 + b"}", []),
        (-5_000, b"k", b"{}", []),
        (10**9, b"k", b"{}", []),
        (10**11, b"k", b"{}", []),
        (0, b"k" * 70_000, b"{}", []),
        (0, b"k", b"x" * 3_000_000 + b"}", []),
        (0, b"k", b"\0", []),
    ],
)
@pytest.mark.parametrize("at", [0, 3, 5])
def test_an_odd_record_costs_time_and_nothing_else(odd: Record, at: int) -> None:
    records = pings(5)
    records.insert(at, odd)
    runs = [run(build(pings(9))), run(build(records, base=16)), run(build(pings(3), base=22))]
    check(Batch.of_runs(runs), runs)


VALUES = st.none() | st.binary(max_size=20) | st.sampled_from([b"{}", b"}", b"}\0", b"\0", b"{}\0\0"])
RECORDS = st.lists(
    st.tuples(st.integers(-300, 300), VALUES, VALUES, st.just([]) | st.just([("h", b"}\0")])), min_size=1, max_size=12
)


@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_whatever_is_in_the_records_they_are_read_as_they_are(batches: list[list[Record]]) -> None:
    runs, base = [], 0
    for records in batches:
        runs.append(run(build(records, base)))
        base += len(records)
    check(Batch.of_runs(runs), runs)


def spoilt(change: Callable[[random.Random, bytearray], None]) -> int:
    """Bodies in which something is changed: what is read of them, if anything is, is what aiokafka reads."""
    r, read = random.Random(1), 0
    for _ in range(3_000):
        raw = bytearray(build([(r.randrange(9), b"k%d" % i, b'{"i":%d}' % i, []) for i in range(r.randrange(1, 6))]))
        change(r, raw)
        count = struct.unpack_from(">i", raw, _COUNT_AT)[0]
        batch = located([Body(bytes(raw[_RECORDS_AT:]), count, 0, 7, MS, None)])
        if batch is None:
            continue
        read += 1
        truth = list(DefaultRecordBatch(bytes(raw)))
        assert batch.values.tolist() == [record.value for record in truth]
        assert batch.offsets.tolist() == [record.offset for record in truth]
    return read


def test_a_spoilt_body_is_never_misread() -> None:
    def flip(r: random.Random, raw: bytearray) -> None:
        raw[r.randrange(_RECORDS_AT, len(raw))] = r.randrange(256)

    def cut(r: random.Random, raw: bytearray) -> None:
        del raw[r.randrange(_RECORDS_AT, len(raw)) :]

    def insert(r: random.Random, raw: bytearray) -> None:
        raw.insert(r.randrange(_RECORDS_AT, len(raw)), r.choice(b"}\0\x01\x80"))

    assert spoilt(flip) > 300  # within a key or a value any byte may stand
    assert spoilt(cut) == 0
    assert spoilt(insert) < 30
