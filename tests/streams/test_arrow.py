"""Arrow streams, as data frames write them and as nobody should: what they say, and that none of them harms a worker."""

from __future__ import annotations

import io
import random
import struct
import time
from typing import Any

import orjson
import polars as pl
import pytest

from streams.packs import MOST_PINGS, pings_of
from streams.refusals import BrokenRecordError
from tests.streams.test_packs import decode, places, told
from tests.streams.test_pings import TS, ids, wire

OLD, NEW = pl.CompatLevel.oldest(), pl.CompatLevel.newest()
PINGS: dict[str, list[Any]] = {
    "bike_id": ["b1", "a bike with a long name", "b3"],
    "operator": ["alfa", "bravo", "alfa"],
    "ts": [TS, TS + 1, TS + 2],
    "lat": [39.9, -1.25, 1 / 3],
    "lng": [116.4, 2.5, 1e-3],
    "accuracy": [4.5, None, 0.0],
    "status": ["available", None, "on_trip"],
}


def frame(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame({**PINGS, **columns})


def stream(table: pl.DataFrame, level: pl.CompatLevel = NEW, compression: Any = "uncompressed") -> bytes:
    file = io.BytesIO()
    table.write_ipc_stream(file, compat_level=level, compression=compression)
    return file.getvalue()


def arrow(*values: bytes | None) -> Any:
    return decode(*values, format="arrow")


def as_json(table: pl.DataFrame) -> list[bytes]:
    return [orjson.dumps({name: value for name, value in row.items() if value is not None}) for row in table.to_dicts()]


@pytest.mark.parametrize("level", [OLD, NEW])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"ts": pl.Series(PINGS["ts"], dtype=pl.UInt64)},
        {"ts": ["2023-11-14T22:13:20Z"] * 3},
        {"status": pl.Series(PINGS["status"], dtype=pl.Categorical)},
        {"vehicle_type": pl.Series(["moped", None, "bicycle"], dtype=pl.Enum(["bicycle", "moped", "car"]))},
        {"lat": [1, 2, 3], "accuracy": pl.Series([1, 2, 3], dtype=pl.UInt8)},
        {"event": [None] * 3},
        {"lists": [[1], None, [2, 3]], "nested": [{"a": "x", "b": [1.5]}] * 3, "flags": [True, None, False]},
        {"blob": [b"x" * 100, b"", None], "day": pl.Series([1, 2, None], dtype=pl.Date), "deep": [[[["y" * 30]]]] * 3},
    ],
)
def test_a_stream_says_what_its_rows_say_as_json(change: dict[str, Any], level: pl.CompatLevel) -> None:
    table = frame(**change)
    known = table.select(name for name in table.columns if name in {*PINGS, "event", "vehicle_type"})
    assert told(arrow(stream(table, level))) == told(decode(*as_json(known)))


@pytest.mark.parametrize(("unit", "per_ms"), [("ms", 1), ("us", 1_000), ("ns", 1_000_000)])
def test_times_with_a_zone_are_cut_to_milliseconds(unit: Any, per_ms: int) -> None:
    moments = pl.Series([(TS + i) * per_ms + per_ms - 1 for i in range(3)], dtype=pl.Int64).cast(
        pl.Datetime(unit, "Asia/Shanghai")
    )
    assert arrow(stream(frame(ts=moments))).records.device_ms.tolist() == [TS, TS + 1, TS + 2]


def test_rows_of_all_batches_of_a_stream_count_in_order_and_share_the_records_place() -> None:
    parts = pl.concat([frame(bike_id=[f"b{3 * i}", f"b{3 * i + 1}", f"b{3 * i + 2}"]) for i in range(4)], rechunk=False)
    found = arrow(None, stream(parts), stream(frame().clear()), stream(frame()))
    assert ids(found.records) == [f"b{i}" for i in range(12)] + PINGS["bike_id"]
    assert places(found, found.records.rows.tolist()) == [(1, i) for i in range(12)] + [(3, i) for i in range(3)]
    assert found.malformed == []


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("bike_id", None, "Object missing required field `bike_id`"),
        ("bike_id", "", "bike_id: Expected `str` of length >= 1"),
        ("bike_id", "a\nb", "bike_id must be printable characters"),
        ("lat", None, "Object missing required field `lat`"),
        ("lat", float("nan"), "Object missing required field `lat`"),
        ("lat", float("inf"), "JSON is malformed"),
        ("lat", 91.0, "lat: Expected `float` <= 90.0"),
        ("ts", -1, "ts: Expected `int` >= 1"),
        ("accuracy", -1.0, "accuracy: Expected `float` >= 0.0"),
        ("status", "flying", "status: Invalid enum value 'flying'"),
    ],
)
def test_only_the_broken_row_is_malformed(at: int, name: str, value: object, why: str) -> None:
    values = list(PINGS[name])
    values[at] = value
    found = arrow(stream(frame(**{name: pl.Series(values, strict=False)})), stream(frame()))
    [(row, text)] = found.malformed
    assert places(found, [row]) == [(0, at)]
    assert text.startswith(why)
    assert len(ids(found.records)) == 5


def test_text_that_is_no_utf8_spoils_its_row_alone() -> None:
    value = stream(frame(), OLD)
    assert value.count(b"b3") == 1
    found = arrow(value.replace(b"b3", b"b\xff"))
    assert (ids(found.records), [row for row, _ in found.malformed]) == (PINGS["bike_id"][:2], [2])
    assert b"\xff" in found.batch.values[[2]].tolist()[0]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"", "there is no schema"),
        (wire(), "no message begins at byte 0"),
        (b"ARROW1\0\0" + stream(frame()), "no message begins at byte 0"),
        (stream(frame(), compression="zstd"), "it is compressed"),
        (stream(frame(), compression="lz4"), "it is compressed"),
        (stream(frame(lat=["1"] * 3)), "the column lat must be of one of the types int, float; got utf8 view; cast it"),
        (stream(frame(ts=[1.5] * 3)), "the column ts must be of one of the types int, timestamp, utf8"),
        (stream(frame(bike_id=[[1]] * 3)), "the column bike_id must be of one of the types utf8"),
        (stream(frame(ts=pl.Series(PINGS["ts"], dtype=pl.Int64).cast(pl.Datetime("ms")))), "the column ts must have a time zone"),
        (stream(frame())[:-200], "are not among"),
        (stream(frame()).replace(b"lng\0", b"lat\0"), "the columns must have different names; got two 'lat'"),
    ],
)  # fmt: skip
def test_what_is_broken_as_a_whole_is_refused_once_with_a_reason(value: bytes, why: str) -> None:
    found = arrow(stream(frame()), value, stream(frame()))
    [(row, text)] = found.malformed
    assert places(found, [row]) == [(1, -1)]
    assert why in text
    assert len(ids(found.records)) == 6


def test_a_dictionary_may_have_more_texts_than_the_stream_has_rows() -> None:
    kinds = pl.Enum(["bicycle", "moped", *(f"kind-{i}" for i in range(5000))])
    found = arrow(stream(frame(vehicle_type=pl.Series(["moped", None, "bicycle"], dtype=kinds)), OLD))
    assert (found.records.vehicle.tolist(), found.malformed) == ([5, 0, 1], [])


def test_a_record_holds_so_many_rows_and_no_more() -> None:
    many = pl.concat([frame()] * (MOST_PINGS // 3 + 1))
    assert len(pings_of(stream(many.head(MOST_PINGS)), "arrow") or ()) == MOST_PINGS
    with pytest.raises(BrokenRecordError, match=r"^a record of this size must hold at most 10000 pings; got 1000[12]; send "):
        pings_of(stream(many), "arrow")
    nothing = pl.DataFrame({"bike_id": [None] * 9000})
    with pytest.raises(BrokenRecordError, match="must hold at most"):
        pings_of(stream(nothing), "arrow")


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical])
def test_a_long_text_that_many_rows_name_is_not_unpacked(kind: Any) -> None:
    """9,000 rows of 100,000 characters would be 900 MB."""
    texts = pl.Series(["x" * 100_000], dtype=pl.String).cast(kind).sample(9000, with_replacement=True)
    value = stream(pl.DataFrame({"bike_id": texts, "lat": [1.5] * 9000}))
    assert len(value) < 500_000
    with pytest.raises(BrokenRecordError, match="the texts of a record must be at most"):
        pings_of(value, "arrow")


def test_any_bytes_changed_are_read_or_refused_and_never_raise_anything_else() -> None:
    r = random.Random(5)
    table = frame(status=pl.Series(PINGS["status"], dtype=pl.Categorical), nested=[{"a": [1]}] * 3)
    whole = [stream(table, OLD), stream(table, NEW)]
    refused = 0
    for _ in range(4000):
        value = bytearray(r.choice(whole))
        for _ in range(r.choice((1, 1, 2, 6))):
            at = r.randrange(len(value) - 8)
            if r.random() < 0.5:
                value[at] = r.randrange(256)
            else:
                struct.pack_into(
                    "<q", value, at // 4 * 4, r.choice((-1, 0, 1, 2**31, 2**32 - 1, 2**62, -(2**63), r.randrange(1000)))
                )
        if r.random() < 0.1:
            del value[r.randrange(len(value)) :]
        started = time.process_time()
        try:
            pings_of(bytes(value), "arrow")
        except BrokenRecordError:
            refused += 1
        assert time.process_time() - started < 1
    assert 1000 < refused < 3800
