"""Recorded feeds: what is read, in which order, and what is said of rows that cannot be."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest

from streams.feeds.order import feed_records, shift_records, sort_rows
from streams.feeds.readers import Format, Row, read_rows
from streams.feeds.records import FeedRecord, ReadReport, Router, TableError
from streams.settings import Settings, loads

SETTINGS = """
[network]
operators = ["amber", "cobalt", "jade"]
[[network.feeds]]
topic = "pings.amber"
operator = "amber"
partitions = 1
[[network.feeds]]
topic = "pings.gateway"
gateway = true
partitions = 1
[city]
name = "rivertown"
time_zone = "UTC"
boundary = { south = 52, west = 9.9, north = 52.25, east = 10.2 }
"""
DATA = Path(os.environ.get("URBAN_BRAIN_DATA", Path(__file__).parents[3] / "shared" / "data"))
MOBIKE = DATA / "beijing-mobike-parked-2018-02.csv.gz"
WOLFSBURG = DATA / "wolfsburg-gbfs23-2023.csv.gz"


@pytest.fixture
def settings() -> Settings:
    return loads(SETTINGS)


def written(tmp_path: Path, text: str | bytes, name: str = "feed") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path: Path, form: Format) -> tuple[list[Row], ReadReport]:
    report = ReadReport()
    return list(read_rows([path], form, report)), report


def ping(**fields: object) -> bytes:
    return orjson.dumps({"bike_id": "b", "operator": "amber", "ts": 1_000, "lat": 52.1, "lng": 10.0} | fields)


# NDJSON.


def test_a_line_passes_as_it_is(tmp_path: Path) -> None:
    line = b'{"bike_id": "7",  "ts": 5000, "lat": 1.50, "lng": 2, "extra": [1]}'
    rows, _ = read(written(tmp_path, line + b"\r\n\n"), Format())
    assert rows == [Row(5000, "7", None, line)]


def test_record_time_is_when_it_was_received_else_when_the_device_says(tmp_path: Path) -> None:
    lines = [
        ping(),
        ping(received_at=2_000),
        ping(received_at="1970-01-01T08:00:03.0009+08:00"),
        ping(received_at=None),
        ping(received_at="soon"),
    ]
    rows, _ = read(written(tmp_path, b"\n".join(lines)), Format())
    assert [row.record_ms for row in rows] == [1_000, 2_000, 3_000, 1_000, 1_000]


def test_a_line_that_has_no_place_in_time_is_skipped_and_counted_with_its_reason(tmp_path: Path) -> None:
    lines = [ping(), b"{", b"[]", b'{"ts": 5}', ping(ts=0), ping(ts="2026-01-01T00:00:00"), ping(bike_id=5), ping()]
    rows, report = read(written(tmp_path, b"\n".join(lines)), Format())
    assert len(rows) == report.rows == 2
    assert report.skipped_rows == 6
    assert report.examples[0].startswith("feed:2: ")
    assert report.examples[-1].startswith("feed:7: ")


def test_a_ping_that_is_wrong_in_itself_goes_on_so_that_the_worker_counts_it(tmp_path: Path) -> None:
    rows, report = read(written(tmp_path, ping(lat=400)), Format())
    assert (len(rows), report.skipped_rows) == (1, 0)


def test_gzip_is_unpacked_whatever_the_name_says(tmp_path: Path) -> None:
    rows, _ = read(written(tmp_path, gzip.compress(ping() + b"\n" + ping())), Format())
    assert len(rows) == 2


def test_gzip_that_is_cut_off_is_an_error_and_not_a_short_file(tmp_path: Path) -> None:
    whole = gzip.compress(b"\n".join(ping(ts=ts) for ts in range(1, 20_000)))
    with pytest.raises(OSError, match="is cut off or broken"):
        read(written(tmp_path, whole[:-500]), Format())


# CSV.

TABLE = "id,when,lat,lon,acc\n7,2026-01-01T08:00:00+08:00,52.1,10.25,\n8,2026-01-01 00:00:01.5Z,52.2,10,12.5\n"
MAP = {"bike_id": "id", "ts": "when", "lng": "lon", "accuracy": "acc", "operator": ":amber", "status": ":available"}


def test_columns_are_mapped_and_constants_set(tmp_path: Path) -> None:
    rows, _ = read(written(tmp_path, "\ufeff" + TABLE), Format("csv", MAP))
    assert [(row.record_ms, row.bike_id, row.operator) for row in rows] == [
        (1_767_225_600_000, "7", "amber"),
        (1_767_225_601_500, "8", "amber"),
    ]
    assert orjson.loads(rows[0].value) == {
        "bike_id": "7", "ts": 1_767_225_600_000, "lat": 52.1, "lng": 10.25, "operator": "amber", "status": "available",
    }  # fmt: skip
    assert orjson.loads(rows[1].value)["accuracy"] == 12.5


@pytest.mark.parametrize(
    ("text", "ms"),
    [("1690803922", 1_690_803_922_000), ("1690803922.5", 1_690_803_922_500), ("1690803922123", 1_690_803_922_123)],
)
def test_epoch_times_may_be_seconds_or_milliseconds(tmp_path: Path, text: str, ms: int) -> None:
    rows, _ = read(written(tmp_path, f"bike_id,ts,lat,lng\n1,{text},1,1\n"), Format("csv"))
    assert rows[0].record_ms == ms


def test_times_without_offset_are_of_the_zone_that_is_given_and_never_guessed(tmp_path: Path) -> None:
    path = written(tmp_path, "bike_id,ts,lat,lng\n1,2026-01-01 08:00:00,1,1\n")
    rows, _ = read(path, Format("csv", zone=ZoneInfo("Asia/Shanghai")))
    assert rows[0].record_ms == 1_767_225_600_000
    rows, report = read(path, Format("csv"))
    assert rows == []
    assert report.skipped == {"time without offset; give --tz": 1}


def test_bad_rows_of_a_table_are_skipped_with_their_line(tmp_path: Path) -> None:
    text = "bike_id,ts,lat,lng\n1,2000,1,1\n2,2000,1\n,2000,1,1\n4,noon,1,1\n5,2000,abc,1\n"
    rows, report = read(written(tmp_path, text), Format("csv"))
    assert report.examples == [
        "feed:3: has not 4 columns",
        "feed:4: has no bike_id or no time",
        "feed:5: has a time that cannot be read",
    ]
    assert [orjson.loads(row.value)["lat"] for row in rows] == [1.0, "abc"], "a wrong number is the worker's to refuse"


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"when": "ts"}, "--map names unknown fields: when"),
        ({"ts": "time"}, "feed has no columns time; it has bike_id, ts, lat"),
        ({}, "feed has no columns lng; map them: --map lng=COLUMN"),
    ],
)
def test_a_map_that_does_not_fit_says_what_there_is(tmp_path: Path, mapping: dict[str, str], message: str) -> None:
    with pytest.raises(TableError, match=message):
        read(written(tmp_path, "bike_id,ts,lat\n"), Format("csv", mapping))


# Trips.

TRIPS = "bike_id,start_ts,start_lat,start_lng,end_ts,end_lat,end_lng\n"


def test_a_trip_is_a_bike_that_is_ridden_at_its_start_and_stands_at_its_end(tmp_path: Path) -> None:
    text = "bike,kind,from,to,y0,x0,y1,x1\n7,moped,2024-01-01 08:00,2024-01-01 08:30,52.1,10,52.2,10.1\n"
    mapping = {"bike_id": "bike", "vehicle_type": "kind", "start_ts": "from", "end_ts": "to", "operator": ":amber"}
    mapping |= {"start_lat": "y0", "start_lng": "x0", "end_lat": "y1", "end_lng": "x1"}
    rows, report = read(written(tmp_path, text), Format("trips", mapping, ZoneInfo("Europe/Berlin")))
    assert [(row.record_ms, row.bike_id, row.operator) for row in rows] == [
        (1_704_092_400_000, "7", "amber"),
        (1_704_094_200_000, "7", "amber"),
    ]
    same = {"bike_id": "7", "operator": "amber", "vehicle_type": "moped"}
    assert [orjson.loads(row.value) for row in rows] == [
        {**same, "ts": 1_704_092_400_000, "lat": 52.1, "lng": 10.0, "status": "on_trip", "event": "trip_start"},
        {**same, "ts": 1_704_094_200_000, "lat": 52.2, "lng": 10.1, "status": "available", "event": "trip_end"},
    ]
    assert (report.rows, report.skipped_rows) == (1, 0)


def test_an_end_of_a_trip_that_has_no_time_says_nothing(tmp_path: Path) -> None:
    rows, report = read(written(tmp_path, TRIPS + "1,5,52,10,,,\n2,,,,9,52,10\n3,7,52,10,7,52,11\n"), Format("trips"))
    assert [(row.bike_id, row.record_ms, orjson.loads(row.value)["status"]) for row in rows] == [
        ("1", 5_000, "on_trip"),
        ("2", 9_000, "available"),
        ("3", 7_000, "on_trip"),
        ("3", 7_000, "available"),
    ]
    assert report.skipped_rows == 0


def test_trips_that_cannot_be_are_skipped_with_their_line(tmp_path: Path) -> None:
    text = TRIPS + "1,9,52,10,8,52,10\n2,,,,,,\n,5,52,10,6,52,10\n4,noon,52,10,6,52,10\n5,5,52\n6,2024-01-01 08:00,52,10,,,\n"
    rows, report = read(written(tmp_path, text), Format("trips"))
    assert rows == []
    assert report.examples == [
        "feed:2: ends before it starts",
        "feed:3: has no bike_id or no time",
        "feed:4: has no bike_id or no time",
        "feed:5: has a time that cannot be read",
        "feed:6: has not 7 columns",
        "feed:7: time without offset; give --tz",
    ]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "feed has no columns start_ts, start_lat, start_lng, end_ts, end_lat, end_lng; map them: --map start_ts=COLUMN"),
        ({"ts": "bike_id"}, "--map names unknown fields: ts; there are bike_id, operator, vehicle_type, start_ts, start_lat"),
        ({"end_ts": "until"}, "feed has no columns until; it has bike_id"),
    ],
)
def test_a_table_without_the_columns_of_a_trip_says_what_is_missing(
    tmp_path: Path, mapping: dict[str, str], message: str
) -> None:
    with pytest.raises(TableError) as error:
        read(written(tmp_path, "bike_id\n1\n"), Format("trips", mapping))
    assert str(error.value).startswith(message)


def test_bikes_are_split_over_operators_by_their_id_alone(tmp_path: Path) -> None:
    text = "bike_id,ts,lat,lng\n" + "".join(f"{i % 50},{1000 + i},1,1\n" for i in range(200))
    rows, _ = read(written(tmp_path, text), Format("csv", operators=("amber", "cobalt", "jade")))
    owners = {(row.bike_id, row.operator) for row in rows}
    assert len(owners) == 50
    assert {operator for _, operator in owners} == {"amber", "cobalt", "jade"}
    assert dict(owners)["7"] == "amber", "crc32, the same on every machine"


# Order.


def rows_at(times: Sequence[int]) -> list[Row]:
    return [Row(ms, f"b{i}", "amber", ping(bike_id=f"b{i}", ts=ms)) for i, ms in enumerate(times)]


@pytest.mark.parametrize("run_rows", [1, 7, 64, 1000])
def test_sorting_is_stable_however_many_runs_it_takes(run_rows: int) -> None:
    rows = rows_at([random.Random(3).randrange(1, 30) for _ in range(200)])
    assert list(sort_rows(rows, run_rows=run_rows)) == sorted(rows, key=lambda row: row.record_ms)


def test_records_go_to_the_operators_own_feed_else_to_a_gateway(settings: Settings) -> None:
    rows = [Row(1, "a", "amber", b"{}"), Row(2, "b", "jade", b"{}"), Row(3, "c", None, b"{}"), Row(4, "d", "who", b"{}")]
    topics = [record.topic for record in feed_records(rows, Router(settings))]
    assert topics == ["pings.amber", "pings.gateway", "pings.gateway", "pings.gateway"]


def test_rows_that_share_a_time_are_spread_evenly_in_file_order(settings: Settings) -> None:
    records = list(feed_records(rows_at([10_000] * 4), Router(settings), spread_ms=1_000))
    assert [record.record_ms for record in records] == [10_000, 10_250, 10_500, 10_750]
    assert [record.key for record in records] == [b"b0", b"b1", b"b2", b"b3"]
    assert [orjson.loads(record.value)["ts"] for record in records] == [10_000, 10_250, 10_500, 10_750]


def test_spread_groups_that_overlap_stay_in_order_of_time(settings: Settings) -> None:
    records = list(feed_records(rows_at([1_000] * 4 + [1_500] * 4), Router(settings), spread_ms=1_000))
    times = [record.record_ms for record in records]
    assert times == sorted(times)
    assert [record.key for record in records if record.record_ms == 1_500] == [b"b2", b"b4"]


def test_shifting_moves_every_time_by_the_same(settings: Settings) -> None:
    rows = [Row(2_000, "b", "amber", ping(received_at="1970-01-01T00:00:02Z")), Row(3_000, "b", "amber", ping(ts=3_000))]
    moved = list(shift_records(feed_records(rows, Router(settings)), 1_000_000))
    assert [record.record_ms for record in moved] == [1_000_000, 1_001_000]
    first = orjson.loads(moved[0].value)
    assert (first["ts"], first["received_at"]) == (999_000, 1_000_000)


def test_shifting_by_nothing_leaves_the_bytes_alone() -> None:
    record = FeedRecord(5, "t", b"b", b'{"ts":  5}')
    assert list(shift_records([record], None)) == list(shift_records([record], 5)) == [record]
    assert list(shift_records([], 5)) == []


# The real feeds.


@pytest.mark.realdata
@pytest.mark.skipif(not MOBIKE.exists(), reason=f"{MOBIKE} is not there; set URBAN_BRAIN_DATA to its folder")
def test_the_five_crawls_of_beijing_are_read_whole_and_in_order() -> None:
    report = ReadReport()
    rows = list(sort_rows(read_rows([MOBIKE], Format("mobike"), report)))
    assert (report.rows, report.skipped_rows) == (335_818, 0)
    times = [row.record_ms for row in rows]
    assert times == sorted(times)
    assert len(set(times)) == 5
    first = [row for row in rows if row.record_ms == times[0]]
    assert (len(first), len({row.bike_id for row in first})) == (74_668, 57_823)
    assert rows[0].operator == "mobike"
    assert orjson.loads(rows[0].value)["status"] == "available"


@pytest.mark.realdata
@pytest.mark.skipif(not WOLFSBURG.exists(), reason=f"{WOLFSBURG} is not there; set URBAN_BRAIN_DATA to its folder")
def test_a_gbfs_table_is_read_with_a_map() -> None:
    report = ReadReport()
    mapping = {
        "ts": "last_reported", "received_at": "snapshot_ts", "lng": "lon", "operator": ":tier", "status": ":available",
        "vehicle_type": ":scooter_standing",
    }  # fmt: skip
    rows = list(read_rows([WOLFSBURG], Format("csv", mapping), report))
    assert (len(rows), report.skipped_rows) == (65_593, 0)
    assert len({row.record_ms for row in rows}) == 77
