"""Records with several pings: what is one, that a broken ping harms no other, and that nothing depends on how they were packed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.states import STATES
from streams.batches import Batch
from streams.packs import MOST_PINGS, pings_of
from streams.pings import Decoded, Feed, PingDecoder
from tests.geo.story import epoch, timeline
from tests.oracle.packs import pings_in
from tests.streams.test_pings import TEXTS, TS, ids, wire

PROVIDERS = {"7ad0e0a6-2f4c-4b6f-9a3e-000000000001": "alfa", "7ad0e0a6-2f4c-4b6f-9a3e-000000000002": "bravo"}
[ALFA, BRAVO] = PROVIDERS


def decode(*values: bytes | None, **feed: Any) -> Decoded:
    decoder = PingDecoder(Feed("bike.pings", **{"operator": None, **feed}), timeline(epoch()))
    n = len(values)
    found = decoder.decode(Batch.of(values, TS + np.arange(n), 100 + 2 * np.arange(n)))
    assert found.records.offsets.tolist() == sorted(found.records.offsets.tolist())
    return found


def places(found: Decoded, rows: Sequence[int]) -> list[tuple[int, int]]:
    """(record, ping in it) of some rows."""
    items = [-1] * len(found.records) if found.records.items is None else found.records.items.tolist()
    return [((int(found.records.offsets[row]) - 100) // 2, items[row]) for row in rows]


def told(found: Decoded) -> list[tuple[object, ...]]:
    """Every ping, column by column."""
    names = ("operator", "device_ms", "lat", "lng", "accuracy", "state", "vehicle", "touched")
    return list(zip(ids(found.records), *(getattr(found.records, name).tolist() for name in names), strict=True))


PINGS = [wire(bike_id=f"b{i}", lat=1 + i / 7, status=STATES[1 + i % 8], accuracy=i or None) for i in range(6)]


def array(*pings: bytes) -> bytes:
    return b"[" + b",".join(pings) + b"]"


def lines(*pings: bytes) -> bytes:
    return b"\n".join(pings)


# --- which records are which --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [array, lines])
def test_all_pings_of_a_record_have_its_time_and_offset_and_stand_in_order(together: Any) -> None:
    found = decode(PINGS[0], together(*PINGS[1:4]), None, PINGS[4], together(PINGS[5], PINGS[5]))
    assert told(found) == told(decode(*PINGS, PINGS[5]))
    assert places(found, range(8)) == [(0, -1), (1, 0), (1, 1), (1, 2), (2, -1), (3, -1), (4, 0), (4, 1)]
    assert found.records.record_ms.tolist() == [TS, TS + 1, TS + 1, TS + 1, TS + 2, TS + 3, TS + 4, TS + 4]
    assert found.records.has_value is not None
    assert found.records.has_value.tolist() == [True] * 4 + [False] + [True] * 3
    assert [found.batch.values[[row]].tolist() for row in (1, 2, 3)] == [[ping] for ping in PINGS[1:4]]
    assert found.malformed == []


@pytest.mark.parametrize("value", [b"[]", b" [ \n\t] \r\n"])
def test_an_empty_array_only_says_what_time_it_is(value: bytes) -> None:
    found = decode(PINGS[0], value, PINGS[1])
    assert found.records.has_value is not None
    assert (found.records.has_value.tolist(), found.records.rows.tolist()) == ([True, False, True], [0, 2])
    assert found.malformed == []


def test_one_ping_laid_out_over_lines_is_one_ping() -> None:
    ping = {**json.loads(PINGS[0]), "note": {"x": 1}}
    laid_out = json.dumps(ping, indent=1)
    for text in (laid_out, laid_out.replace('{\n  "x": 1\n }', '\n{"x": 1}\n'), json.dumps(ping) + "\n\n"):
        found = decode(text.encode())
        assert (ids(found.records), found.records.items, found.malformed) == (["b0"], None, [])


def test_a_broken_ping_laid_out_over_lines_is_one_broken_ping() -> None:
    value = json.dumps({**json.loads(PINGS[0]), "lat": "x"}, indent=2).encode()
    assert len(decode(value).malformed) == len(decode(value[:-4]).malformed) == 1


def test_lines_may_be_blank_and_end_as_on_windows() -> None:
    found = decode(b"\r\n" + PINGS[0] + b" \r\n\n \t\n" + PINGS[1] + b"\r\n")
    assert (ids(found.records), places(found, found.records.rows.tolist())) == (["b0", "b1"], [(0, 0), (0, 1)])


@pytest.mark.parametrize(
    "value",
    [b"[", b"[1,]", array(*PINGS)[:-1], array(*PINGS) + b"]", array(*PINGS[:2]).replace(b",{", b"{"), b"[" * 100_000,
     array(PINGS[0], b"{"), array(PINGS[0], b'{"note": "\\ud800"}'), array(PINGS[0], b"NaN"), lines(*PINGS[:2])[1:-1],
     b"\xef\xbb\xbf" + array(*PINGS)],
)  # fmt: skip
def test_what_is_broken_as_a_whole_is_one_broken_record(value: bytes) -> None:
    found = decode(PINGS[0], value, PINGS[1])
    assert (ids(found.records), [row for row, _ in found.malformed]) == (["b0", "b1"], [1])
    assert places(found, [1]) == [(1, -1)]


# --- poison -------------------------------------------------------------------------------------------------------------

BROKEN = [text for text in TEXTS if text.strip() and b"\n" not in text and text[:1] != b"["]
IN_ARRAYS = [b"null", b"7", b'"ping"', b"{}", b"[]", array(PINGS[0]), wire(lat="x"), wire(lat=0, lng=0), wire(bike_id="a\nb"),
             wire(ts="now"), wire(operator=...), wire(status="flying"), wire()[:-1] + b', "note": "\xff"}']  # fmt: skip


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("together", [array, lines])
def test_only_the_broken_ping_of_a_record_is_malformed_wherever_it_stands(at: int, together: Any) -> None:
    for bad in BROKEN if together is lines else IN_ARRAYS:
        pings = [*PINGS[:at], bad, *PINGS[at:3]]
        found = decode(PINGS[5], together(*pings), PINGS[4])
        assert ids(found.records) == ["b5", "b0", "b1", "b2", "b4"], bad[:80]
        assert places(found, [row for row, _ in found.malformed]) == [(1, at)], bad[:80]
        [(row, why)] = found.malformed
        [(_, alone)] = decode(bad).malformed if not bad.startswith(b"[") else [(0, why)]
        assert why == alone
        assert found.batch.values[[row]].tolist() == [bad.strip()]


def test_a_record_may_hold_so_many_pings_and_no_more() -> None:
    ping = wire(bike_id="b", speed=...)
    assert len(decode(array(*[ping] * MOST_PINGS)).records.ids) == MOST_PINGS
    for together in (array, lines):
        [(_, why)] = decode(together(*[ping] * (MOST_PINGS + 1))).malformed
        assert why == "a record of this size must hold at most 10000 pings; got 10001; send them in more records"


def test_a_record_that_claims_more_pings_than_its_bytes_can_say_is_refused_as_a_whole() -> None:
    assert len(decode(array(*[b"0"] * 72)).malformed) == 72
    assert len(decode(array(*[b"0"] * 1000)).malformed) == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=3), some, max_size=3),
    max_leaves=5,
)
PIECES = st.sampled_from(
    [b"[", b"]", b",", b"\n", b"{}", b" ", b'"', b'{"a":[1]}', b"\\ud800", b"\xff", b"{", b"}", b"1", *PINGS[:2]]
)


@given(st.lists(JSON, max_size=6), st.sampled_from([None, 1]))
def test_every_array_is_cut_where_its_elements_end(values: list[object], indent: int | None) -> None:
    found = pings_of(json.dumps(values, indent=indent).encode(), "json")
    assert found is not None
    assert [json.loads(one) for one in found] == values


@given(st.lists(PIECES, max_size=9).map(b"".join))
def test_records_are_cut_as_the_oracle_cuts_them(value: bytes) -> None:
    try:
        found = pings_of(value, "json")
    except ValueError:
        found = None
    assert found == pings_in(value)


@given(st.lists(st.sampled_from([*PINGS, *IN_ARRAYS[5:]]), min_size=1, max_size=30), st.data())
def test_how_pings_are_packed_changes_nothing(pings: list[bytes], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(pings)))) | {0, len(pings)})
    groups = [pings[a:b] for a, b in pairwise(cuts)]
    ways = [array(*group) if data.draw(st.booleans()) else lines(*group) if len(group) > 1 else group[0] for group in groups]
    if any(ping.startswith(b"[") for ping in pings):
        ways = [array(*group) for group in groups]
    found, alone = decode(*ways), decode(*(array(ping) for ping in pings))
    assert told(found) == told(alone)
    assert [why for _, why in found.malformed] == [why for _, why in alone.malformed]


# --- MDS ----------------------------------------------------------------------------------------------------------------


def point(provider: str | None = ALFA, **fields: Any) -> dict[str, Any]:
    whole = {
        "device_id": "d1",
        "provider_id": provider,
        "telemetry_id": "t1",
        "timestamp": TS,
        "trip_ids": None,
        "journey_id": None,
    }
    whole |= {"location": {"lat": 39.9, "lng": 116.4, "altitude": 7.5, "horizontal_accuracy": 4.5}, "battery_percent": 80}
    return {name: value for name, value in {**whole, **fields}.items() if value is not ...}


def mds(*values: object, operator: str | None = None, coordinates: Any = "wgs84") -> Decoded:
    return decode(*map(orjson.dumps, values), operator=operator, coordinates=coordinates, format="mds", providers=PROVIDERS)


def test_telemetry_is_read_as_the_ping_that_says_the_same() -> None:
    points = [point(), point(BRAVO, device_id="d2", trip_ids=["t"]), point(location={"lat": 1, "lng": 2}, trip_ids=[])]
    pings = [
        wire(bike_id="d1", accuracy=4.5),
        wire(bike_id="d2", operator="bravo", status="on_trip", accuracy=4.5),
        wire(bike_id="d1", lat=1, lng=2),
    ]
    for coordinates in ("wgs84", "gcj02"):
        want = told(decode(*pings, coordinates=coordinates))
        assert told(mds(*points, coordinates=coordinates)) == want
        for value in (points, {"telemetry": points}, {"version": "2.0.0", "links": {}, "telemetry": points}):
            assert told(mds(value, coordinates=coordinates)) == want
        text = b"\n".join(map(orjson.dumps, points))
        assert told(decode(text, format="mds", providers=PROVIDERS, coordinates=coordinates)) == want


def test_a_provider_is_whose_the_configuration_says_or_nobodys() -> None:
    nobody = point("7ad0e0a6-2f4c-4b6f-9a3e-00000000000f")
    assert mds(point(BRAVO), nobody).records.operator.tolist() == [1, -1]
    own = mds(point(BRAVO), point(...), point(ALFA), nobody, operator="bravo")
    assert (own.records.operator.tolist(), own.malformed) == ([1, 1, -1, -1], [])
    assert [row for row, _ in mds(point(...), point(None)).malformed] == [0, 1]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"device_id": ...}, "Object missing required field `device_id`"),
        ({"device_id": ""}, "device_id: Expected `str` of length >= 1"),
        ({"timestamp": 1.5}, "timestamp: Expected `int | str`, got `float`"),
        ({"location": ...}, "Object missing required field `location`"),
        ({"location": {"lat": 91, "lng": 1}}, "location.lat: Expected `float` <= 90.0"),
        ({"location": {"lat": 0, "lng": 0}}, "lat, lng must not both be within 0.001 degrees of 0"),
        ({"trip_ids": "t"}, "trip_ids: Expected `array | null`, got `str`"),
    ],
)
def test_a_broken_point_is_refused_alone_and_in_its_own_words(fields: dict[str, Any], why: str) -> None:
    found = mds({"telemetry": [point(), point(**fields), point()]})
    [(row, text)] = found.malformed
    assert places(found, [row]) == [(0, 1)]
    assert text.startswith(why)


@pytest.mark.parametrize("value", [{"telemetry": {}}, {"telemetry": None}, {}, 7, {"points": []}])
def test_what_is_neither_a_point_nor_several_is_one_broken_record(value: object) -> None:
    assert [row for row, _ in mds(value, point()).malformed] == [0]
    assert [row for row, _ in mds({"telemetry": []}, point()).malformed] == []
