"""Distances that decide: integers only, so that every machine gets the same answer to the last digit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Coordinates = NDArray[Any]
"""int32 or int64 arrays of 1e-7 degrees."""

MM_PER_E3 = 111_195
"""Millimetres per 1e-3 degree of a great circle: 6,371,008.8 m * pi / 180, rounded."""

CLAMP_MM = 100_000_000
"""Each axis is clamped to 100 km before squaring: nobody asks for more, and the square fits int64."""

_HALF_TURN = 1_800_000_000
_COS_BITS = 20
COS: NDArray[np.int64] = np.array([round(math.cos(math.radians(i / 100)) * 2**_COS_BITS) for i in range(9001)], dtype=np.int64)
"""int64 (9001,): cosine * 2**20 by hundredth of a degree."""


def distance2_mm2(lat1: Coordinates, lng1: Coordinates, lat2: Coordinates, lng2: Coordinates) -> NDArray[np.int64]:
    """Squared distance in mm² between points in 1e-7 degrees, elementwise; int64 (n,).

    The first point is the reference: its latitude gives the cosine. Exact within 0.2 % up to some 50 km, and monotone
    beyond; a difference of longitude goes the short way round.
    """
    y = np.abs(np.subtract(lat2, lat1, dtype=np.int64))
    y *= MM_PER_E3
    y //= 10_000
    np.minimum(y, CLAMP_MM, out=y)
    x = np.abs(np.subtract(lng2, lng1, dtype=np.int64))
    if x.size and x.max() > _HALF_TURN:
        np.minimum(x, 2 * _HALF_TURN - x, out=x)
    x *= MM_PER_E3
    x //= 10_000
    hundredth = np.abs(lat1, dtype=np.int64)
    hundredth += 50_000
    hundredth //= 100_000
    x *= COS.take(hundredth)
    x >>= _COS_BITS
    np.minimum(x, CLAMP_MM, out=x)
    x *= x
    y *= y
    x += y
    return x


def near(lat1: Coordinates, lng1: Coordinates, lat2: Coordinates, lng2: Coordinates, mm: int) -> NDArray[np.bool_]:
    """Whether points lie within a distance of the reference, the bound included; bool (n,)."""
    return distance2_mm2(lat1, lng1, lat2, lng2) <= mm * mm
