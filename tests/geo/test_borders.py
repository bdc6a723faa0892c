"""Cities of points: whatever the raster says, it is what the polygons say."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geo.borders import Borders, Boundary
from tests.geo.story import box

Point = tuple[int, int]


def ask(borders: Borders, *points: Point) -> list[int]:
    lat, lng = np.array(points, dtype=np.int32).T
    return list(map(int, borders.city_of(lat, lng)))


def slowly(cities: list[tuple[int, Boundary]], point: Point) -> int:
    """In integers, by crossing numbers; the rims of holes belong to the city as well."""
    return next((n for n, boundary in sorted(cities) if any(covers(polygon, point) for polygon in boundary)), 0)


def covers(rings: tuple[tuple[Point, ...], ...], point: Point) -> bool:
    if any(on_rim(ring, point) for ring in rings):
        return True
    return encircles(rings[0], point) and not any(encircles(hole, point) for hole in rings[1:])


def on_rim(ring: tuple[Point, ...], p: Point) -> bool:
    return any(
        (b[0] - a[0]) * (p[1] - a[1]) == (b[1] - a[1]) * (p[0] - a[0])
        and min(a[0], b[0]) <= p[0] <= max(a[0], b[0])
        and min(a[1], b[1]) <= p[1] <= max(a[1], b[1])
        for a, b in zip(ring, (*ring[1:], ring[0]), strict=True)
    )


def encircles(ring: tuple[Point, ...], p: Point) -> bool:
    inside = False
    for a, b in zip(ring, (*ring[1:], ring[0]), strict=True):
        if (a[0] > p[0]) != (b[0] > p[0]):
            low, high = sorted((a, b))
            inside ^= (high[1] - low[1]) * (p[0] - low[0]) > (p[1] - low[1]) * (high[0] - low[0])
    return inside


Y, X = 399_000_000, 1_164_000_000
STAR: tuple[Point, ...] = (
    (Y, X),
    (Y + 150_001, X + 400_003),
    (Y + 7, X + 800_001),
    (Y + 390_000, X + 390_001),
    (Y + 300_000, X + 100_000),
)
HOLE: tuple[Point, ...] = ((Y + 160_000, X + 300_000), (Y + 200_011, X + 420_000), (Y + 260_000, X + 310_000))
CITIES: list[tuple[int, Boundary]] = [
    (1, ((STAR, HOLE), (box(Y - 500_000, X, Y - 400_000, X + 90_000),))),
    (2, ((box(Y - 450_000, X - 100_000, Y + 170_000, X + 350_000),),)),
    (5, ((((-800_000_000, -1_790_000_000), (-800_000_001, 1_700_000_000), (850_000_000, 100)),),)),
]
NEAR = st.tuples(st.integers(Y - 600_000, Y + 500_000), st.integers(X - 200_000, X + 900_000))
ANYWHERE = st.tuples(st.integers(-900_000_000, 900_000_000), st.integers(-1_800_000_000, 1_800_000_000))


@st.composite
def on_the_rim(draw: st.DrawFn) -> Point:
    """At most a unit off a rim: there the answer hangs on the last digit."""
    rings = [ring for _, boundary in CITIES for polygon in boundary for ring in polygon]
    ring = draw(st.sampled_from(rings))
    i, part = draw(st.integers(0, len(ring) - 1)), draw(st.integers(0, 1000))
    a, b = ring[i - 1], ring[i]
    return tuple(p + (q - p) * part // 1000 + draw(st.integers(-1, 1)) for p, q in zip(a, b, strict=True))  # type: ignore[return-value]


@cache
def made(count: int) -> Borders:
    return Borders(CITIES[:count])


@pytest.mark.parametrize("count", [1, 2, 3])
@given(st.lists(st.one_of(NEAR, on_the_rim(), ANYWHERE), min_size=1, max_size=30))
def test_the_raster_and_the_polygons_agree(count: int, points: list[Point]) -> None:
    assert ask(made(count), *points) == [slowly(CITIES[:count], point) for point in points]


def test_the_rim_and_the_rim_of_a_hole_belong_to_the_city() -> None:
    borders = Borders([(1, ((box(0, 0, 100_000, 100_000), box(40_000, 40_000, 60_000, 60_000)),))])
    assert ask(borders, (0, 0), (100_000, 50_000), (100_001, 50_000), (40_000, 50_000), (40_001, 50_000)) == [1, 1, 0, 1, 0]


def test_of_cities_that_overlap_the_lowest_number_has_the_point() -> None:
    square = ((box(0, 0, 10**6, 10**6),),)
    assert ask(Borders([(7, square), (3, square)]), (5, 5), (-5, 5)) == [3, 0]


def test_without_cities_all_is_elsewhere() -> None:
    assert ask(Borders([]), (0, 0), (5, 5)) == [0, 0]


def test_no_points_are_in_no_city() -> None:
    none = np.zeros(0, dtype=np.int32)
    assert made(3).city_of(none, none).shape == (0,)


def test_a_city_smaller_than_a_cell_is_found() -> None:
    assert ask(Borders([(1, ((box(10, 10, 12, 12),),))]), (10, 12), (11, 11), (9, 11), (12, 13)) == [1, 1, 0, 0]


class Counting(Borders):
    """Counts the points about which the polygons are asked."""

    asked = 0

    def _ask(self, lat: NDArray[np.int32], lng: NDArray[np.int32]) -> NDArray[np.int16]:
        self.asked += len(lat)
        return super()._ask(lat, lng)


def test_most_points_cost_no_question_to_the_polygons() -> None:
    borders = Counting([(1, ((box(Y, X, Y + 4 * 10**6, X + 4 * 10**6),),))])
    r = np.random.default_rng(1)
    lat, lng = (r.integers(low, low + 4 * 10**6, 10_000, dtype=np.int32) for low in (Y, X))
    assert (borders.city_of(lat, lng) == 1).all()
    assert 0 < borders.asked < 200
