"""Zones: which of many polygons hold a point, how large they are, what they look like. docs/policies.md, section 2.

The only module that asks shapely about zones, and so the only one here with longitude first. Corners are integers of 1e-7
degrees, which shapely's doubles hold exactly and whose side of a line it decides exactly: a point on a rim is inside on
every machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from geo.cells import Area
from geo.coordinates import sin_pi
from geo.policy import Boundary, Geography

Points = NDArray[np.int32]

SPHERE_M = 6_371_007.180918475
"""Radius of H3's sphere: a zone's hectares and a cell's are of one kind."""

MOST_PRINTED = 1_000
"""Positions of an outline in an alert."""

Ring = tuple[tuple[int, int], ...]


class Zones:
    """An index of geographies, by their number in the list given."""

    def __init__(self, geographies: Sequence[Geography]) -> None:
        polygons = [(i, polygon) for i, geography in enumerate(geographies) for polygon in geography.polygons]
        self._zone = np.array([i for i, _ in polygons], np.int64)
        self._polygons = np.array([_polygon(polygon) for _, polygon in polygons], dtype=object)
        shapely.prepare(self._polygons)
        self._tree = shapely.STRtree(self._polygons)

    def holding(self, lat: Points, lng: Points) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of n points in 1e-7 degrees lie in which zones, rims included: (point, zone), both int64 (m,).

        A point that several polygons of one zone hold comes several times. Cost follows the points and the zones near them.
        """
        x, y = lng.astype(np.float64), lat.astype(np.float64)
        point, polygon = self._tree.query(shapely.points(x, y))
        inside = shapely.intersects_xy(self._polygons[polygon], x[point], y[point])
        return point[inside], self._zone[polygon[inside]]


def size_e4(polygons: Boundary) -> int:
    """Size in 1e-4 ha (square metres) of polygons that do not overlap."""
    sizes = (_ring_m2(rings[0]) - sum(map(_ring_m2, rings[1:])) for rings in polygons)
    return round(sum(sizes))


def zone_area(zone_id: str, name: str, polygons: Boundary, kind: str = "zone") -> Area:
    """The zone as an area of an alert."""
    return Area(
        id=zone_id,
        kind=kind,
        centroid=_centroid(polygons),
        boundary=_outline(polygons),
        area_e4=size_e4(polygons),
        name=name,
    )


def _polygon(rings: tuple[Ring, ...]) -> shapely.Polygon:
    swapped = [[(lng, lat) for lat, lng in ring] for ring in rings]
    return shapely.Polygon(swapped[0], swapped[1:])


def _ring_m2(ring: Ring) -> float:
    """Square metres inside of a ring whose edges are straight in latitude and longitude, on a sphere.

    The strip between an edge and the equator is R² * dlng * the mean of sin(lat) along it. Sines are those of
    `geo/coordinates.py`, so that every machine gets the same.
    """
    half_turns = np.array(ring, np.float64) / 1.8e9
    lat, lng = half_turns[:, 0], half_turns[:, 1]
    next_lat, next_lng = np.roll(lat, -1), np.roll(lng, -1)
    half = (next_lat - lat) / 2
    flat = half == 0
    sinc = np.where(flat, 1.0, sin_pi(half) / (np.pi * np.where(flat, 1.0, half)))
    strips = (next_lng - lng) * np.pi * sin_pi((lat + next_lat) / 2) * sinc
    return abs(float(strips.sum())) * SPHERE_M * SPHERE_M


def _centroid(polygons: Boundary) -> tuple[float, float]:
    """(lat, lng) of the centre of area in the plane of degrees, to 1e-7, in integers."""
    if not polygons:
        return 0.0, 0.0
    origin = polygons[0][0][0]
    area = lats = lngs = 0
    for rings in polygons:
        for number, ring in enumerate(rings):
            doubled, lat_sum, lng_sum = _moments(ring, origin)
            sign = (1 if doubled > 0 else -1) * (1 if number == 0 else -1)
            area, lats, lngs = area + sign * doubled, lats + sign * lat_sum, lngs + sign * lng_sum
    return (origin[0] + lats // (3 * area)) / 1e7, (origin[1] + lngs // (3 * area)) / 1e7


def _moments(ring: Ring, origin: tuple[int, int]) -> tuple[int, int, int]:
    """Twice the area, and six times the first moments by latitude and longitude, about an origin."""
    points = [(lat - origin[0], lng - origin[1]) for lat, lng in ring]
    doubled = lat_sum = lng_sum = 0
    for (lat, lng), (next_lat, next_lng) in zip(points, points[1:] + points[:1], strict=True):
        cross = lng * next_lat - next_lng * lat
        doubled += cross
        lat_sum += (lat + next_lat) * cross
        lng_sum += (lng + next_lng) * cross
    return doubled, lat_sum, lng_sum


def _outline(polygons: Boundary) -> tuple[tuple[float, float], ...] | None:
    """The outer ring of the greatest polygon in degrees, None if it is too long to be printed."""
    if not polygons:
        return None
    areas = [abs(_moments(rings[0], rings[0][0])[0]) - sum(abs(_moments(r, r[0])[0]) for r in rings[1:]) for rings in polygons]
    ring = polygons[areas.index(max(areas))][0]
    return tuple((lat / 1e7, lng / 1e7) for lat, lng in ring) if len(ring) <= MOST_PRINTED else None
