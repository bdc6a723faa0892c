"""Chinese coordinates: the published formula, and its inverse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geo.coordinates import bd09_to_wgs84, gcj02_to_wgs84, sin_pi, wgs84_to_gcj02

IN_CHINA = st.tuples(st.floats(3.5, 53.5), st.floats(73.7, 134.7))


def point(lat: float, lng: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([lat]), np.array([lng])


def slow_gcj02(lat: float, lng: float) -> tuple[float, float]:
    """The formula as it is passed around, with the C library's sine."""
    x, y, pi = lng - 105.0, lat - 35.0, math.pi
    common = (20 * math.sin(6 * x * pi) + 20 * math.sin(2 * x * pi)) * 2 / 3
    north = -100 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * math.sqrt(abs(x)) + common
    north += (20 * math.sin(y * pi) + 40 * math.sin(y / 3 * pi)) * 2 / 3
    north += (160 * math.sin(y / 12 * pi) + 320 * math.sin(y * pi / 30)) * 2 / 3
    east = 300 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * math.sqrt(abs(x)) + common
    east += (20 * math.sin(x * pi) + 40 * math.sin(x / 3 * pi)) * 2 / 3
    east += (150 * math.sin(x / 12 * pi) + 300 * math.sin(x / 30 * pi)) * 2 / 3
    a, ee = 6378245.0, 0.00669342162296594323
    magic = 1 - ee * math.sin(lat / 180 * pi) ** 2
    north = north * 180 / (a * (1 - ee) / (magic * math.sqrt(magic)) * pi)
    east = east * 180 / (a / math.sqrt(magic) * math.cos(lat / 180 * pi) * pi)
    return lat + north, lng + east


@given(IN_CHINA)
def test_the_shift_is_the_published_one(at: tuple[float, float]) -> None:
    lat, lng = wgs84_to_gcj02(*point(*at))
    assert (lat[0], lng[0]) == pytest.approx(slow_gcj02(*at), abs=1e-10, rel=0)


@given(IN_CHINA)
def test_there_and_back_is_where_one_was(at: tuple[float, float]) -> None:
    lat, lng = gcj02_to_wgs84(*wgs84_to_gcj02(*point(*at)))
    assert (lat[0], lng[0]) == pytest.approx(at, abs=1e-9, rel=0)


@given(IN_CHINA)
def test_baidu_is_gcj02_shifted_once_more(at: tuple[float, float]) -> None:
    gcj_lat, gcj_lng = slow_gcj02(*at)
    turn = math.pi * 3000 / 180
    radius = math.hypot(gcj_lng, gcj_lat) + 0.00002 * math.sin(gcj_lat * turn)
    angle = math.atan2(gcj_lat, gcj_lng) + 0.000003 * math.cos(gcj_lng * turn)
    lat, lng = bd09_to_wgs84(*point(radius * math.sin(angle) + 0.006, radius * math.cos(angle) + 0.0065))
    assert (lat[0], lng[0]) == pytest.approx(at, abs=1e-5, rel=0)  # Baidu's own inverse is good to a metre


@pytest.mark.parametrize(("lat", "lng"), [(48.85, 2.35), (0.0, 0.0), (-33.9, 151.2), (60.0, 110.0), (-90.0, -180.0), (90.0, 180.0)])  # fmt: skip
def test_outside_of_china_nothing_is_shifted(lat: float, lng: float) -> None:
    for convert in (gcj02_to_wgs84, bd09_to_wgs84, wgs84_to_gcj02):
        assert [value[0] for value in convert(*point(lat, lng))] == [lat, lng]


@given(st.floats(-1000, 1000))
def test_our_sine_is_a_sine(x: float) -> None:
    assert sin_pi(np.array([x]))[0] == pytest.approx(math.sin(math.pi * math.fmod(x, 2)), abs=1e-14)


def test_our_sine_has_the_same_bits_for_one_point_and_for_many() -> None:
    x = np.linspace(-7, 7, 1001)
    assert [sin_pi(x[i : i + 1])[0] for i in range(len(x))] == sin_pi(x).tolist()


def test_bits_are_what_they_were() -> None:
    lat, lng = gcj02_to_wgs84(*point(39.9101, 116.40374))
    assert (lat[0].hex(), lng[0].hex()) == ("0x1.3f4502abe2943p+5", "0x1.d197094dc2a92p+6")
