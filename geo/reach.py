"""Who is near whom: all pairs of points within a distance, without looking at all pairs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geo.geodesy import COS, MM_PER_E3, distance2_mm2

GREATEST_REACH_MM = 50_000_000
"""Up to here squares are exact as floats, and so are the roots of them."""

_HALF_TURN = 1_800_000_000
_ROW_SHIFT = 33  # room for any longitude below a row's number

Points = NDArray[np.int32]


class Pairs(NamedTuple):
    """k pairs, ascending by (origin, place): indices int64 (k,), distance in whole metres int64 (k,)."""

    origin: NDArray[np.int64]
    place: NDArray[np.int64]
    distance_m: NDArray[np.int64]


def pairs_within(origins: tuple[Points, Points], places: tuple[Points, Points], reach_mm: int) -> Pairs:
    """Every (origin, place) not further apart than `reach_mm`, the bound included, as `geo.geodesy` measures from the origin.

    Both are (lat, lng) in 1e-7 degrees, int32 arrays of one length each. Places lie in rows as high as the reach, sorted by longitude: of
    each origin only a stretch of three rows is looked at. Raises ValueError for a reach above 50 km.
    """
    if not 0 <= reach_mm <= GREATEST_REACH_MM:
        raise ValueError(f"reach_mm must be from 0 to {GREATEST_REACH_MM}, got {reach_mm}: plan in smaller steps")
    lat, lng = (axis.astype(np.int64) for axis in places)
    height = reach_mm * 10_000 // MM_PER_E3 + 1
    keys = ((lat + _HALF_TURN) // height << _ROW_SHIFT) + (lng + _HALF_TURN)
    order = np.argsort(keys, kind="stable")
    origin, at = _stretches(origins, keys[order], height, reach_mm)
    place = order[at]
    d2 = distance2_mm2(origins[0][origin], origins[1][origin], places[0][place], places[1][place])
    near = np.flatnonzero(d2 <= reach_mm * reach_mm)
    origin, place, d2 = origin[near], place[near], d2[near]
    by_place = np.lexsort((place, origin))
    # The root of an integer below 2**53 is rounded correctly by IEEE 754: the same metres on every machine.
    distance_m = (np.sqrt(d2[by_place]).astype(np.int64) + 500) // 1000
    return Pairs(origin[by_place], place[by_place], distance_m)


def _stretches(
    origins: tuple[Points, Points], keys: NDArray[np.int64], height: int, reach_mm: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(origin, index into the sorted keys) of every place in a stretch that may hold something within reach."""
    lat, lng = (axis.astype(np.int64) for axis in origins)
    width = _width(lat, reach_mm)
    found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for row in (-1, 0, 1):
        base = (lat + _HALF_TURN) // height + row << _ROW_SHIFT
        for turn in (-2 * _HALF_TURN, 0, 2 * _HALF_TURN):  # the date line runs through some cities
            west = np.clip(lng + turn - width, -_HALF_TURN, _HALF_TURN + 1)
            east = np.clip(lng + turn + width, -_HALF_TURN - 1, _HALF_TURN)
            first = np.searchsorted(keys, base + west + _HALF_TURN, "left")
            last = np.searchsorted(keys, base + east + _HALF_TURN, "right")
            found.append(_expanded(first, np.maximum(last - first, 0)))
    return np.concatenate([origin for origin, _ in found]), np.concatenate([at for _, at in found])


def _width(lat: NDArray[np.int64], reach_mm: int) -> NDArray[np.int64]:
    """A difference of longitude that no point within reach exceeds: the formula of `distance2_mm2` turned round, rounded up."""
    cosine = np.maximum(COS.take((np.abs(lat) + 50_000) // 100_000), 1)
    most = ((reach_mm + 1) << 20) // cosine + 2
    width: NDArray[np.int64] = np.minimum(most * 10_000 // MM_PER_E3 + 1, _HALF_TURN)
    return width


def _expanded(first: NDArray[np.int64], length: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(i, first[i]), (i, first[i] + 1)… length[i] of them, for every i."""
    owner = np.repeat(np.arange(len(first)), length)
    begins = np.cumsum(length) - length
    return owner, np.arange(len(owner)) - np.repeat(begins - first, length)
