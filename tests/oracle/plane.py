"""Distances in millimetres and points in polygons, in integers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from geo.params import City

Point = tuple[int, int]
"""(lat, lng) in 1e-7 degrees."""

K = 111_195
COS = [round(math.cos(math.radians(i / 100)) * 2**20) for i in range(9001)]
FARTHEST = 100_000_000


def d2(reference: Point, other: Point) -> int:
    """Squared distance in mm²; the reference is the older of the two."""
    dlat = abs(other[0] - reference[0])
    dlng = abs(other[1] - reference[1])
    if dlng > 1_800_000_000:
        dlng = 3_600_000_000 - dlng
    y = min(dlat * K // 10_000, FARTHEST)
    x = min((dlng * K // 10_000) * COS[(abs(reference[0]) + 50_000) // 100_000] >> 20, FARTHEST)
    return x * x + y * y


def near(reference: Point, other: Point, radius_mm: int) -> bool:
    return d2(reference, other) <= radius_mm * radius_mm


def _on_segment(p: Point, a: Point, b: Point) -> bool:
    cross = (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])
    return cross == 0 and min(a[0], b[0]) <= p[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= p[1] <= max(a[1], b[1])


def _edges(ring: Sequence[Point]) -> list[tuple[Point, Point]]:
    return [(ring[i - 1], ring[i]) for i in range(len(ring))]


def _inside_ring(p: Point, ring: Sequence[Point]) -> bool:
    """Ray casting towards greater longitudes; a point on the ring itself is not asked for."""
    inside = False
    for a, b in _edges(ring):
        if (a[0] > p[0]) == (b[0] > p[0]):
            continue
        low, high = (a, b) if a[0] < b[0] else (b, a)
        # The edge crosses the ray right of p: lng of the edge at p's latitude is greater than p's.
        side = (high[1] - low[1]) * (p[0] - low[0]) - (p[1] - low[1]) * (high[0] - low[0])
        if side > 0:
            inside = not inside
    return inside


def covers(polygon: Sequence[Sequence[Point]], p: Point) -> bool:
    """Boundary included, also the boundary of a hole."""
    if any(_on_segment(p, a, b) for ring in polygon for a, b in _edges(ring)):
        return True
    return _inside_ring(p, polygon[0]) and not any(_inside_ring(p, hole) for hole in polygon[1:])


@lru_cache(maxsize=200_000)
def city_of(cities: tuple[City, ...], p: Point) -> str | None:
    """The first city by name that covers a point."""
    for city in sorted(cities, key=lambda c: c.name):
        if any(covers(polygon, p) for polygon in city.boundary):
            return city.name
    return None
