"""Every way to write a ping, right or wrong, is read alike by the decoder and by the oracle; so are the numbers."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from geo.borders import Borders
from geo.coordinates import bd09_to_wgs84, gcj02_to_wgs84, wgs84_to_gcj02
from geo.geodesy import distance2_mm2
from tests.laws.check import of_frames
from tests.laws.fleet import Sent
from tests.laws.garbage import WAYS, bytes_of, way
from tests.laws.harness import run_sources
from tests.laws.worlds import World, WorldFeed, world
from tests.oracle.plane import city_of, d2
from tests.oracle.shift import to_gcj02, to_wgs84
from tests.oracle.truth import whole_truth

FEEDS = (WorldFeed("own", "alfa", "wgs84"), WorldFeed("gate", None, "wgs84"), WorldFeed("map", "alfa", "gcj02"))
LAT, LNG = st.integers(-900_000_000, 900_000_000), st.integers(-1_800_000_000, 1_800_000_000)
NEAR = st.integers(-2_000_000, 2_000_000)


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.topic)
@given(seed=st.integers(0, 2**32))
@example(seed=0)
def test_whatever_a_record_holds_the_decoder_reads_it_as_the_oracle_does(feed: WorldFeed, seed: int) -> None:
    r = random.Random(seed)
    here = replace(world(seed, 1), feeds={feed.topic: feed}, partitions={feed.topic: 1}, written=())
    sent = [_sent(r, here, feed, i) for i in range(WAYS)]
    here = replace(here, sent=sent)
    logs = here.logs()
    assert of_frames(here, run_sources(here, logs), whole_truth(here.feeds, here.timeline, logs)) is None


def _sent(r: random.Random, here: World, feed: WorldFeed, i: int) -> Sent:
    """The i-th way to be wrong, each at its own tick and of its own bike."""
    now = 1_700_000_000_000 + i * here.timeline.tick_ms
    fields = {"bike_id": f"b{i}", "ts": now, "status": r.choice(("available", "on_trip", None))}
    if feed.operator is None or r.random() < 0.5:
        fields["operator"] = r.choice(("alfa", "alfa", "bravo", "nobody"))
    at = (399_000_000 + r.randint(-10_000, 10_000), 1_164_000_000 + r.randint(-10_000, 10_000))
    return Sent(feed.topic, "k", now, way(i, bytes_of(r, fields, at, feed.coordinates)))


@given(LAT, LNG, LAT, LNG)
@example(0, 1_800_000_000, 0, -1_800_000_000)
@example(900_000_000, 0, -900_000_000, 1_799_999_999)
def test_distances_far_apart_are_those_of_the_oracle(lat1: int, lng1: int, lat2: int, lng2: int) -> None:
    assert _distance2(lat1, lng1, lat2, lng2) == d2((lat1, lng1), (lat2, lng2))


@given(LAT, LNG, NEAR, NEAR)
def test_distances_close_by_are_those_of_the_oracle(lat: int, lng: int, north: int, east: int) -> None:
    other = (max(-900_000_000, min(900_000_000, lat + north)), max(-1_800_000_000, min(1_800_000_000, lng + east)))
    assert _distance2(lat, lng, *other) == d2((lat, lng), other)


def _distance2(*degrees: int) -> int:
    return int(distance2_mm2(*(np.array([value], np.int32) for value in degrees))[0])


@given(st.integers(0, 2**32))
def test_a_point_is_in_the_city_that_the_oracle_finds(seed: int) -> None:
    """Points near and on the corners and edges of real boundaries, where it is hard."""
    r = random.Random(seed)
    cities = world(seed, 1).timeline.epochs[0].cities
    rings = [ring for city in cities for polygon in city.boundary for ring in polygon]
    points = []
    for ring in rings:
        for (lat1, lng1), (lat2, lng2) in zip(ring, (*ring[1:], ring[0]), strict=True):
            part = r.choice((0, 1, r.random()))
            jolt = r.choice((0, 0, 1, -1, 1000))
            points.append((round(lat1 + part * (lat2 - lat1)) + jolt, round(lng1 + part * (lng2 - lng1)) - jolt))
    points = [(lat, lng) for lat, lng in points if abs(lng) <= 1_800_000_000]
    lat, lng = (np.array(column, np.int32) for column in zip(*points, strict=True))
    found = Borders([(i, city.boundary) for i, city in enumerate(cities, 1)]).city_of(lat, lng)
    names = [None, *(city.name for city in cities)]
    assert [names[i] for i in found.tolist()] == [city_of(cities, point) for point in points]


@given(st.floats(-90, 90), st.floats(-180, 180))
@example(39.9, 116.4)
@example(22.5, 114.05)
def test_chinese_coordinates_are_the_published_ones(lat: float, lng: float) -> None:
    """Within 1e-10 degrees: a hundredth of a millimetre, and a thousandth of what is kept."""
    one, other = np.array([lat]), np.array([lng])
    assert _pair(gcj02_to_wgs84(one, other)) == pytest.approx(to_wgs84("gcj02", lat, lng), abs=1e-10)
    assert _pair(bd09_to_wgs84(one, other)) == pytest.approx(to_wgs84("bd09", lat, lng), abs=1e-10)
    assert _pair(wgs84_to_gcj02(one, other)) == pytest.approx(to_gcj02(lat, lng), abs=1e-10)


def _pair(arrays: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    return float(arrays[0][0]), float(arrays[1][0])
