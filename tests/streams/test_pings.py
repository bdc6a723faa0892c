"""Pings from the wire: section 1 of docs/semantics.md, and that no record harms another one."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.coordinates import bd09_to_wgs84, gcj02_to_wgs84
from geo.records import Records
from geo.states import STATES, TOUCHING, VEHICLES
from streams.batches import Batch
from streams.pings import Coordinates, Feed, PingDecoder
from streams.rfc3339 import parse_ms
from tests.geo.story import epoch, timeline
from tests.laws.garbage import spoil

TS = 1_700_000_000_000
PING: dict[str, Any] = {"bike_id": "b1", "operator": "alfa", "ts": TS, "lat": 39.9, "lng": 116.4}


def wire(**fields: Any) -> bytes:
    return json.dumps({name: value for name, value in {**PING, **fields}.items() if value is not ...}).encode()


def decode(decoder: PingDecoder, values: Sequence[bytes | None]) -> tuple[Records, list[tuple[int, str]]]:
    records, malformed, _ = decoder.decode(Batch.of(values, np.full(len(values), TS), np.arange(len(values))))
    return records, malformed


def ids(records: Records) -> list[str]:
    return [id_.decode() for id_ in records.ids.tolist()]


def decoded(
    *values: bytes | None, operator: str | None = None, coordinates: Coordinates = "wgs84"
) -> tuple[Records, dict[int, str]]:
    decoder = PingDecoder(Feed("bike.pings", operator, coordinates, "json"), timeline(epoch()))
    records, bad = decode(decoder, values)
    assert [index for index, _ in bad] == sorted({index for index, _ in bad})
    return records, dict(bad)


def reason(value: bytes, operator: str | None = None) -> str:
    records, bad = decoded(wire(), value, wire(bike_id="b3"), operator=operator)
    assert ids(records) == ["b1", "b3"]
    assert records.rows.tolist() == [0, 2]
    assert list(bad) == [1]
    return bad[1]


def test_a_ping_in_columns() -> None:
    records, bad = decoded(wire(accuracy=4.5, status="on_trip", vehicle_type="moped", event="trip_start", speed=3, extra=[1]))
    assert bad == {}
    assert (ids(records), records.operator.tolist(), records.device_ms.tolist()) == (["b1"], [0], [TS])
    assert (records.lat.tolist(), records.lng.tolist(), records.accuracy.tolist()) == ([399_000_000], [1_164_000_000], [4500])
    assert (STATES[records.state[0]], VEHICLES[records.vehicle[0]], records.touched.tolist()) == ("on_trip", "moped", [True])
    assert records.has_value is None
    assert [c.dtype for c in (records.operator, records.lat, records.accuracy, records.state, records.touched)] == [
        "i2",
        "i4",
        "i4",
        "u1",
        "?",
    ]


def test_what_is_left_out_or_null_is_not_reported() -> None:
    null = dict.fromkeys(
        ("accuracy", "status", "vehicle_type", "event", "speed", "heading", "battery", "telemetry_id", "received_at")
    )
    records, bad = decoded(wire(), wire(**null), wire(accuracy=0))
    assert bad == {}
    assert (records.accuracy.tolist(), records.state.tolist(), records.vehicle.tolist()) == ([0] * 3, [0] * 3, [0] * 3)
    assert not records.touched.any()


@pytest.mark.parametrize(("degrees", "e7"), [(39.90000005, 399_000_000), (39.90000015, 399_000_002), (-90, -900_000_000), (1e-300, 0), (5, 50_000_000)])  # fmt: skip
def test_degrees_are_rounded_half_to_even(degrees: float, e7: int) -> None:
    records, _ = decoded(wire(lat=degrees))
    assert records.lat[0] == round(degrees * 1e7)
    assert abs(int(records.lat[0]) - e7) <= 1


@pytest.mark.parametrize(
    ("metres", "mm"), [(0.0004, 0), (0.0005, 0), (0.0015, 2), (99.9999, 100_000), (1e300, 2**31 - 1), (-0.0, 0)]
)
def test_accuracy_is_in_whole_millimetres(metres: float, mm: int) -> None:
    records, _ = decoded(wire(accuracy=metres), wire())
    assert records.accuracy.tolist() == [mm, 0]


@pytest.mark.parametrize(
    ("name", "code"), [("bicycle", 1), ("other", 10), ("none", 10), ("", 10), ("Bicycle", 10), ("hovercraft", 10)]
)
def test_vehicle_types_that_mds_does_not_know_are_other(name: str, code: int) -> None:
    assert decoded(wire(vehicle_type=name), wire())[0].vehicle.tolist() == [code, 0]


def test_every_state_and_event_is_known_by_its_name() -> None:
    assert decoded(*(wire(status=name) for name in STATES[1:]))[0].state.tolist() == list(range(1, 9))
    assert decoded(*(wire(event=name) for name in sorted(TOUCHING)))[0].touched.all()
    assert decoded(wire(event="telemetry"), wire(event=""), wire(event="x" * 128))[0].touched.tolist() == [False] * 3


# --- whose ----------------------------------------------------------------------------------------------------------------


def test_a_gateways_ping_names_the_operator() -> None:
    records, bad = decoded(wire(operator="bravo"), wire(operator="who"), wire(operator=...))
    assert records.operator.tolist() == [1, -1]
    assert bad[2].startswith("Object missing required field `operator`; got ")


def test_on_an_operators_own_feed_the_operator_may_be_left_out_and_no_other_named() -> None:
    records, bad = decoded(
        wire(operator=...), wire(operator="bravo"), wire(operator="alfa"), wire(operator=None), operator="bravo"
    )
    assert records.operator.tolist() == [1, 1, -1]
    assert list(bad) == [3]


def test_the_feed_of_an_operator_that_no_epoch_knows_has_no_pings() -> None:
    assert decoded(wire(operator=...), wire(operator="who"), operator="who")[0].operator.tolist() == [-1, -1]


# --- clock records and coordinates ----------------------------------------------------------------------------------------


def test_clock_records_have_no_row_and_are_not_malformed() -> None:
    records, bad = decoded(None, wire(), None, b"", b"null", None)
    assert records.has_value is not None
    assert records.has_value.tolist() == [False, True, False, True, True, False]
    assert (records.rows.tolist(), list(bad)) == ([1], [3, 4])


def test_nothing_decodes_to_nothing() -> None:
    assert [(len(r), len(r.ids), bad) for r, bad in (decoded(), decoded(None), decoded(b"["))] == [
        (0, 0, {}),
        (1, 0, {}),
        (
            1,
            0,
            {0: "Input data was truncated; got '['; send one flat JSON object in UTF-8, or an array of such, or one a line"},
        ),
    ]


@pytest.mark.parametrize(("coordinates", "convert"), [("gcj02", gcj02_to_wgs84), ("bd09", bd09_to_wgs84)])
def test_chinese_coordinates_become_wgs84_before_they_are_rounded(coordinates: Coordinates, convert: Any) -> None:
    records, _ = decoded(wire(), coordinates=coordinates)
    lat, lng = convert(np.array([39.9]), np.array([116.4]))
    assert (records.lat[0], records.lng[0]) == (round(lat[0] * 1e7), round(lng[0] * 1e7))
    assert abs(int(records.lat[0]) - 399_000_000) > 5_000


# --- times ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2023-11-14T22:13:20Z", TS),
        ("2023-11-14t22:13:20z", TS),
        ("2023-11-14 22:13:20.5+00:00", TS + 500),
        ("2023-11-15T06:13:20.0019999999+08:00", TS + 1),
        ("2023-11-14T18:43:20-03:30", TS),
        ("1970-01-01T00:00:00.001-00:00", 1),
        ("2099-12-31T23:59:59.999Z", 4_102_444_799_999),
    ],
)
def test_times_in_words(text: str, ms: int) -> None:
    assert parse_ms(text) == ms
    assert decoded(wire(), wire(ts=text))[0].device_ms.tolist() == [TS, ms]


@pytest.mark.parametrize(
    "ts",
    [0, -5, 4_102_444_800_000, 10**30, 1.7e12, True, None, [], {}, "", "now", "1700000000000", "2024-01-01", "2024-01-01T00:00:00",
     "2024-02-30T00:00:00Z", "2024-01-01T24:00:00Z", "2024-06-30T23:59:60Z", "2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00+01:60",
     "1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2100-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "2024-01-01T00:00:00.Z",
     "20240101T000000Z", "２０２４-01-01T00:00:00Z", "2024-W01-1T00:00:00Z", " 2024-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"],
)  # fmt: skip
def test_what_is_no_time_is_malformed(ts: Any) -> None:
    assert "ts" in reason(wire(ts=ts))


@given(st.datetimes(datetime(1970, 1, 2), datetime(2099, 12, 30)), st.integers(-23 * 60 - 59, 23 * 60 + 59))  # noqa: DTZ001
def test_every_time_that_python_writes_is_read(moment: datetime, minutes: int) -> None:
    ms = (moment - datetime(1970, 1, 1)) // timedelta(milliseconds=1)  # noqa: DTZ001
    local = (moment + timedelta(minutes=minutes)).isoformat()
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    assert parse_ms(local + zone) == ms
    assert parse_ms(moment.replace(tzinfo=UTC).isoformat()) == ms


# --- malformed ------------------------------------------------------------------------------------------------------------

TEXTS = [
    b"", b" ", b"null", b"7", b'"ping"', b"[", b"{", b"{}", b"{}{}", b"\xef\xbb\xbf{}", b"\x00", b"\xff\xfe", b"nonsense",
    b"[" + wire() + b",]", b"[" + wire(), wire() + b"]", wire() + b",", wire()[:-1], wire() + wire(), wire()[1:], wire().replace(b":", b"=", 1),
    wire() + b"],[2", b"1],[2", b'{"bike_id": "b9"},' + wire(),
    wire()[:-1] + b', "note": NaN}', wire()[:-1] + b', "lat": Infinity}', wire()[:-1] + b', "note": 01}',
    wire()[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b"[" * 1_000_000, wire()[:-1] + b',"lat":' + b"9" * 5_000 + b"}", wire()[:-1] + b',"lat":1e400}',
    wire()[:-1] + b', "note": "\xff"}', wire()[:-1] + b', "\xc3\x28": 1}', wire()[:-1] + b', "note": "\\ud800"}',
    wire(bike_id=b"x".decode() * 1_000_000), b"\xf0" + wire(), wire().replace(b"b1", b"b\xed\xa0\x80"),
]  # fmt: skip


@pytest.mark.parametrize("value", TEXTS)
def test_what_is_not_one_json_object_is_malformed(value: bytes) -> None:
    assert len(reason(value)) < 400


FIELDS: list[tuple[str, list[Any]]] = [
    (
        "bike_id",
        [..., None, 7, True, "", "x" * 129, "x" * 10_000, "a\nb", "a\r", "\t", "\x00", "\u2028", "\u200b", "\x7f", ["b1"]],
    ),
    ("operator", [..., None, 7, "", "x" * 129, "al\nfa"]),
    ("lat", [..., None, "39.9", True, [], {}, 90.0000001, -91, 1e300, 10**400]),
    ("lng", [..., None, "1", False, 180.0000001, -181]),
    ("accuracy", ["5", True, -1, -1e-9, [], 10**400]),
    ("status", ["unreported", "Available", "", "parked", 1, True]),
    ("vehicle_type", [5, [], False]),
    ("event", [5, "e" * 129, {}]),
    ("speed", ["fast", True, []]),
    ("heading", ["north", {}]),
    ("battery", ["full", False]),
    ("telemetry_id", [7, []]),
    ("received_at", [1.5, True, []]),
]


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in FIELDS for value in values])
def test_a_field_that_breaks_its_rule_is_named(field: str, value: Any) -> None:
    text = reason(wire(**{field: value}))
    assert field in text
    assert "; got " in text
    assert len(text) < 400


@pytest.mark.parametrize(("lat", "lng"), [(0, 0), (0.0009999, -0.0009999), (-0.00099994, 0)])
def test_null_island_is_malformed(lat: float, lng: float) -> None:
    assert reason(wire(lat=lat, lng=lng)).startswith("lat, lng must not both be within 0.001 degrees of 0; got (")


def test_near_null_island_is_the_gulf_of_guinea() -> None:
    assert decoded(wire(lat=0.001, lng=0), wire(lat=0, lng=-0.001))[1] == {}


def test_a_reason_says_the_rule_the_value_and_the_remedy() -> None:
    assert reason(wire(bike_id=7)) == (
        "bike_id: Expected `str`, got `int`; got 7; send the bike's id as a string of 1 to 128 printable characters"
    )
    assert reason(wire(status="x" * 500)).endswith(f"; got '{'x' * 78}…; send a vehicle_state of MDS 2.0, or leave it out")
    assert reason(wire(bike_id="a\nb")) == (
        "bike_id must be printable characters; got 'a\\nb'; send it without line breaks and control characters"
    )


def test_many_kinds_of_bad_records_in_one_batch_cost_the_good_ones_nothing() -> None:
    bad = [*TEXTS, wire(bike_id="a\nb"), wire(lat=0, lng=0), wire(ts="now"), wire(operator="\n"), None]
    values = [value for i, spoiled in enumerate(bad) for value in (wire(bike_id=f"ok-{i}"), spoiled)]
    records, reasons = decoded(*values)
    assert ids(records) == [f"ok-{i}" for i in range(len(bad))]
    assert records.rows.tolist() == list(range(0, len(values), 2))
    assert list(reasons) == list(range(1, len(values) - 1, 2))
    assert all(len(column) == len(bad) for column in (records.operator, records.device_ms, records.lat, records.touched))


SOUP = st.lists(
    st.one_of(st.binary(max_size=60), st.sampled_from([*TEXTS, wire()]), st.none(), st.text(max_size=20).map(str.encode)),
    max_size=8,
)


@given(SOUP)
def test_whatever_comes_it_does_not_raise_and_the_rest_is_read(values: list[bytes | None]) -> None:
    records, bad = decoded(*values, wire(bike_id="last"))
    assert ids(records)[-1] == "last"
    valued = len(records) if records.has_value is None else int(records.has_value.sum())
    assert len(records.ids) + len(bad) == valued


@given(SOUP)
def test_a_record_says_the_same_alone_and_among_others(values: list[bytes | None]) -> None:
    records, bad = decoded(*values)
    for i, value in enumerate(values):
        alone, alone_bad = decoded(value)
        assert alone_bad.get(0) == bad.get(i)
        assert ids(alone) == [id_ for row, id_ in zip(records.rows.tolist(), ids(records), strict=True) if row == i]


def pings_of_all_kinds(seed: int) -> list[bytes]:
    """Mostly brief pings, some longer ones, each of them perhaps spoilt in one of the laws' ways."""
    r = random.Random(seed)
    found = []
    for i in range(300):
        fields: dict[str, Any] = {"bike_id": f"b{r.randrange(99)}", "operator": r.choice(["alpha", "beta", "nobody"])}
        fields |= {"ts": 1_700_000_000_000 + i, "lat": round(r.uniform(-1, 60), 7), "lng": round(r.uniform(-1, 140), 7)}
        for name, value in (("accuracy", 5.5), ("status", "on_trip"), ("status", None), ("event", "lock"), ("battery", 0.5)):
            if r.random() < 0.2:
                fields[name] = value
        value = json.dumps(fields).encode()
        found.append(spoil(r, value) if r.random() < 0.3 else value)
    return found
