"""Zones: who is inside, how large, where the middle is. The truth is the oracle's plain arithmetic, and H3's cells."""

from __future__ import annotations

import h3.api.basic_int as h3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.cells import area_e4
from geo.policy import Boundary, Geography
from geo.zones import Zones, size_e4, zone_area
from tests.oracle import places
from tests.oracle.plane import covers

LAT, LNG = 399_000_000, 1_164_000_000


def box(south: int, west: int, north: int, east: int) -> tuple[tuple[int, int], ...]:
    return ((LAT + south, LNG + west), (LAT + south, LNG + east), (LAT + north, LNG + east), (LAT + north, LNG + west))


RING_WITH_HOLE: Boundary = ((box(0, 0, 100, 100), box(40, 40, 60, 60)),)
SLANTED: Boundary = ((((LAT, LNG), (LAT + 30, LNG + 90), (LAT + 100, LNG + 20)),),)
TWO_PARTS: Boundary = ((box(0, 200, 10, 210),), (box(0, 220, 10, 230),))
ALL = (RING_WITH_HOLE, SLANTED, TWO_PARTS)


def holding(zones: Zones, lat: int, lng: int) -> set[int]:
    point, zone = zones.holding(np.array([LAT + lat], np.int32), np.array([LNG + lng], np.int32))
    assert set(point.tolist()) <= {0}
    return set(zone.tolist())


def index(*polygons: Boundary) -> Zones:
    return Zones([Geography(str(i), str(i), one) for i, one in enumerate(polygons)])


def test_the_rim_is_inside_and_so_is_the_rim_of_a_hole() -> None:
    zones = index(RING_WITH_HOLE)
    for lat, lng in ((0, 0), (0, 50), (100, 100), (40, 50), (60, 60), (20, 20)):
        assert holding(zones, lat, lng) == {0}
    for lat, lng in ((-1, 0), (50, 50), (41, 41), (101, 50)):
        assert holding(zones, lat, lng) == set()


def test_a_zone_of_several_parts_is_one_zone() -> None:
    zones = index(SLANTED, TWO_PARTS)
    assert holding(zones, 5, 205) == holding(zones, 5, 225) == {1}
    assert holding(zones, 5, 215) == set()


def test_no_zones_hold_nothing() -> None:
    assert holding(index(), 0, 0) == set()


@given(st.lists(st.tuples(st.integers(-5, 105), st.integers(-5, 235)), min_size=1, max_size=40))
def test_membership_is_that_of_plain_integer_arithmetic(points: list[tuple[int, int]]) -> None:
    zones = index(*ALL)
    lat, lng = (np.array(axis, np.int32) for axis in zip(*((LAT + y, LNG + x) for y, x in points), strict=True))
    point, zone = zones.holding(lat, lng)
    told = set(zip(point.tolist(), zone.tolist(), strict=True))
    true = {
        (i, number)
        for i, (y, x) in enumerate(points)
        for number, polygons in enumerate(ALL)
        if any(covers(polygon, (LAT + y, LNG + x)) for polygon in polygons)
    }
    assert told == true


@pytest.mark.parametrize("at", [(39.9, 116.4), (1.3, 103.8), (-37.8, 144.96), (69.6, 18.9)])
def test_a_zone_in_the_shape_of_a_cell_is_as_large_as_the_cell(at: tuple[float, float]) -> None:
    """To a millionth: H3's edges are great circles, a zone's are straight in degrees."""
    cell = h3.latlng_to_cell(*at, 9)
    ring = tuple((round(lat * 1e7), round(lng * 1e7)) for lat, lng in h3.cell_to_boundary(cell))
    assert size_e4(((ring,),)) == pytest.approx(area_e4(cell), rel=1e-4)


@given(st.integers(-800_000_000, 800_000_000), st.lists(st.integers(1, 5_000_000), min_size=4, max_size=4))
def test_size_middle_and_outline_are_those_of_the_oracle(south: int, steps: list[int]) -> None:
    a, b, c, d = steps
    outer = ((south, 0), (south + a, c), (south + a + b, 0), (south + a, -d))
    hole = ((south + a, 0), (south + a + b // 3, 0), (south + a, c // 3))
    polygons: Boundary = ((outer, hole), (((south - 9, 1), (south - 4, 5), (south - 7, 9)),))
    area = zone_area("z", "Z", polygons)
    assert abs(area.area_e4 - places.size_e4(polygons)) <= 1, "sums of floats in another order"
    assert area.centroid == tuple(axis / 1e7 for axis in places.centroid_e7(polygons))
    assert area.boundary is not None and [list(point) for point in area.boundary] == places.outline(polygons)


def test_an_outline_that_is_too_long_is_not_printed() -> None:
    ring = tuple((LAT + i, LNG + i * i) for i in range(1_000))
    assert zone_area("z", "Z", ((ring,),)).boundary is not None
    assert zone_area("z", "Z", (((*ring, (LAT - 5, LNG + 7)),),)).boundary is None
