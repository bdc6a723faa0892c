"""Everything within a distance is found, and nothing else: by looking at all pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.reach import pairs_within
from tests.oracle.plane import d2

E7 = 10_000_000


def near_a_point(lat: int, lng: int, spread: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Points about one, wrapped at the date line."""
    lats = st.integers(-spread, spread).map(lambda d: max(-90 * E7, min(90 * E7, lat + d)))
    lngs = st.integers(-spread, spread).map(lambda d: (lng + d + 180 * E7) % (360 * E7) - 180 * E7)
    return st.lists(st.tuples(lats, lngs), max_size=12)


def columns(points: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    return np.array([lat for lat, _ in points], np.int32), np.array([lng for _, lng in points], np.int32)


@pytest.mark.parametrize("lat", [0, 52, -35, 80, 89.99, -90])
@pytest.mark.parametrize("lng", [0, 116, -180, 179.9999])
@given(data=st.data())
def test_all_pairs_within_a_distance_and_no_others(lat: float, lng: float, data: st.DataObject) -> None:
    reach_mm = data.draw(st.sampled_from([0, 1, 70_000, 3_000_000, 50_000_000]))
    spread = reach_mm // 60 + 100
    where = near_a_point(round(lat * E7), round(lng * E7), spread)
    origins, places = data.draw(where), data.draw(where)
    found = pairs_within(columns(origins), columns(places), reach_mm)
    expected = [
        (i, j, (math.isqrt(d2(origin, place)) + 500) // 1000)
        for i, origin in enumerate(origins)
        for j, place in enumerate(places)
        if d2(origin, place) <= reach_mm**2
    ]
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected


@pytest.mark.parametrize("reach_mm", [-1, 50_000_001])
def test_a_distance_out_of_range_is_refused(reach_mm: int) -> None:
    with pytest.raises(ValueError, match="reach_mm must be from 0 to 50000000"):
        pairs_within(columns([]), columns([]), reach_mm)
