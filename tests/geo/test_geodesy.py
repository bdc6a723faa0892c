"""Distances: the vectorised formula says what the formula of docs/semantics.md says."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geo.geodesy import COS, distance2_mm2, near

LATITUDES = st.integers(-900_000_000, 900_000_000)
LONGITUDES = st.integers(-1_800_000_000, 1_800_000_000)


def slow_d2(lat1: int, lng1: int, lat2: int, lng2: int) -> int:
    dlat, dlng = abs(lat2 - lat1), abs(lng2 - lng1)
    if dlng > 1_800_000_000:
        dlng = 3_600_000_000 - dlng
    cosine = round(math.cos(math.radians(((abs(lat1) + 50_000) // 100_000) / 100)) * 2**20)
    y = min(dlat * 111_195 // 10_000, 100_000_000)
    x = min((dlng * 111_195 // 10_000) * cosine >> 20, 100_000_000)
    return x * x + y * y


def fast_d2(*point: int) -> int:
    return int(distance2_mm2(*(np.array([value], dtype=np.int32) for value in point))[0])


@given(LATITUDES, LONGITUDES, LATITUDES, LONGITUDES)
def test_the_vectorised_distance_is_the_written_one(lat1: int, lng1: int, lat2: int, lng2: int) -> None:
    assert fast_d2(lat1, lng1, lat2, lng2) == slow_d2(lat1, lng1, lat2, lng2)


@given(LATITUDES, LONGITUDES, st.integers(-100_000, 100_000), st.integers(-100_000, 100_000))
def test_near_points_too(lat: int, lng: int, north: int, east: int) -> None:
    there = max(-900_000_000, min(900_000_000, lat + north)), max(-1_800_000_000, min(1_800_000_000, lng + east))
    assert fast_d2(lat, lng, *there) == slow_d2(lat, lng, *there)


def test_a_thousandth_of_a_degree_of_latitude_is_111_195_mm() -> None:
    assert fast_d2(0, 0, 10_000, 0) == 111_195**2


def test_the_date_line_is_no_obstacle() -> None:
    assert fast_d2(0, 1_799_999_000, 0, -1_799_999_000) == fast_d2(0, 0, 0, 2_000)


def test_each_axis_ends_at_100_km() -> None:
    assert fast_d2(0, 0, 900_000_000, 900_000_000) == 2 * 100_000_000**2


def test_near_includes_its_bound() -> None:
    here, there = np.array([0]), np.array([10_000])
    assert near(here, here, there, here, 111_195).tolist() == [True]
    assert near(here, here, there, here, 111_194).tolist() == [False]


def test_the_table_of_cosines_ends_at_the_pole() -> None:
    assert (len(COS), COS[0], COS[6000], COS[9000]) == (9001, 2**20, 2**19, 0)


def test_no_points_have_no_distances() -> None:
    none = np.zeros(0, dtype=np.int32)
    assert distance2_mm2(none, none, none, none).shape == (0,)
