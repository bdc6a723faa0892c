"""Policies: which rules are in force, and where a bike counts. Sections 2, 3 and 5 of docs/policies.md."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import h3

from geo.params import City
from geo.policy import Geography, Policy, Rule
from geo.windows import Offsets
from tests.oracle.plane import Point, covers

DAY = 86_400_000
Polygons = tuple[tuple[tuple[Point, ...], ...], ...]


@dataclass(frozen=True)
class Force:
    """A policy at a tick, with the rules of it that are in force, and the city that it is in force in."""

    policy: Policy
    rules: tuple[Rule, ...]
    city: City
    by_itself: bool  # one of the city's own rules


def in_force(city: City | None, start: int) -> dict[str, Force]:
    """By policy; `start` is that of the tick. Those without any rule in force are left out."""
    if city is None:
        return {}
    own = [Policy(f"own {'|'.join(rule.key)}", "", (rule,)) for rule in city.rules]
    found = {}
    for policy in [*own, *city.policies]:
        rules = tuple(rule for rule in policy.rules if _is_open(policy, rule, city.offsets, start))
        if rules:
            found[policy.policy_id] = Force(policy, rules, city, policy in own)
    return found


def _is_open(policy: Policy, rule: Rule, offsets: Offsets, start: int) -> bool:
    if policy.from_ms is not None and start < policy.from_ms:
        return False
    if policy.until_ms is not None and start >= policy.until_ms:
        return False
    return rule.window is None or window_of(rule, offsets, start) is not None


def window_of(rule: Rule, offsets: Offsets, at: int) -> tuple[int, int] | None:
    """(opening, closing) of the window, preparation not counted, that has this moment; of several the first by date."""
    assert rule.window is not None
    for date in range(at // DAY - 4, at // DAY + 5):
        if (date + 3) % 7 not in rule.window.days:  # 1970-01-01 was a Thursday
            continue
        last = date if rule.window.end_s > rule.window.start_s else date + 1
        opens = first_moment(date * DAY + rule.window.start_s * 1000, offsets)
        closes = first_moment(last * DAY + rule.window.end_s * 1000, offsets)
        if opens < closes and opens - rule.prepare_ms <= at < closes:
            return opens, closes
    return None


@lru_cache(maxsize=100_000)
def first_moment(clock: int, offsets: Offsets) -> int:
    """The first moment at which the local clock shows `clock` or later."""
    if not offsets:
        return clock
    near = [(start, offset) for start, offset in offsets if abs(start - clock) < 3 * DAY]
    values = {offset for _, offset in near} | {local_offset(clock - 3 * DAY, offsets)}
    moments = sorted({clock - offset for offset in values} | {start for start, _ in near})
    return next(moment for moment in moments if moment + local_offset(moment, offsets) >= clock)


def local_offset(at: int, offsets: Offsets) -> int:
    found = offsets[0][1]
    for start, offset in offsets:
        if start <= at:
            found = offset
    return found


def place_of(force: Force, operator: str, at: Point, state: int, vehicle: int) -> tuple[Rule, str] | None:
    """(rule, id of the area) in which a standing bike counts."""
    if force.policy.operators and operator not in force.policy.operators:
        return None
    for rule in force.rules:
        if rule.states and state not in rule.states:
            continue
        if rule.vehicles and (vehicle or 1) not in rule.vehicles:
            continue
        area = _area_at(rule, force.city, at)
        if area is not None:
            return rule, area
    return None


def named(rule: Rule, city: City) -> list[Geography]:
    by_id = {geography.geography_id: geography for geography in city.geographies}
    return [by_id[name] for name in rule.geographies]


def _area_at(rule: Rule, city: City, at: Point) -> str | None:
    holding = [g.geography_id for g in named(rule, city) if _holds(g, at)]
    if rule.geographies and not holding:
        return None
    if rule.area == "cell":
        return str(h3.latlng_to_cell(at[0] / 1e7, at[1] / 1e7, rule.resolution))
    if not rule.geographies:
        return "city"
    if rule.area == "each_zone":
        return holding[0]
    return rule.geographies[0] if len(rule.geographies) == 1 else rule.rule_id


@lru_cache(maxsize=200_000)
def _holds(geography: Geography, at: Point) -> bool:
    return any(covers(polygon, at) for polygon in geography.polygons)


@dataclass(frozen=True)
class Zone:
    """An area that is no cell. kind: as printed."""

    id: str
    kind: str
    name: str
    polygons: Polygons
    places: int


def zones_of(rule: Rule, city: City) -> list[Zone]:
    """The areas of a rule that does not count by cells, in order."""
    if rule.area == "cell":
        return []
    geographies = named(rule, city)
    if not geographies:
        return [Zone("city", "city", city.name, city.boundary, 0)]
    if rule.area == "each_zone" or len(geographies) == 1:
        return [Zone(g.geography_id, "zone", g.name, g.polygons, g.capacity or 0) for g in geographies]
    polygons = tuple(polygon for g in geographies for polygon in g.polygons)
    return [Zone(rule.rule_id, "zone", rule.name, polygons, sum(g.capacity or 0 for g in geographies))]


@lru_cache(maxsize=10_000)
def size_e4(polygons: Polygons) -> int:
    return round(sum(_ring_size(rings[0]) - sum(_ring_size(hole) for hole in rings[1:]) for rings in polygons))


def _ring_size(ring: Sequence[Point]) -> float:
    """Square metres."""
    total = 0.0
    for (lat1, lng1), (lat2, lng2) in _edges(ring):
        south, north = math.radians(lat1 / 1e7), math.radians(lat2 / 1e7)
        half = (north - south) / 2
        mean = math.sin((south + north) / 2) * (math.sin(half) / half if half else 1.0)
        total += math.radians((lng2 - lng1) / 1e7) * mean
    return abs(total) * 6_371_007.180918475**2


def _edges(ring: Sequence[Point]) -> Iterator[tuple[Point, Point]]:
    yield from zip(ring, [*ring[1:], ring[0]], strict=True)


def centroid_e7(polygons: Polygons) -> Point:
    """In integers, about the first position of the first polygon."""
    if not polygons:
        return 0, 0
    lat0, lng0 = polygons[0][0][0]
    area = by_lat = by_lng = 0
    for rings in polygons:
        for number, ring in enumerate(rings):
            moved = [(lat - lat0, lng - lng0) for lat, lng in ring]
            crosses = [(a, b, a[1] * b[0] - b[1] * a[0]) for a, b in _edges(moved)]
            turn = sum(c for _, _, c in crosses)
            sign = (1 if turn > 0 else -1) * (-1 if number else 1)
            area += sign * turn
            by_lat += sign * sum((a[0] + b[0]) * c for a, b, c in crosses)
            by_lng += sign * sum((a[1] + b[1]) * c for a, b, c in crosses)
    return lat0 + by_lat // (3 * area), lng0 + by_lng // (3 * area)


def outline(polygons: Polygons) -> list[list[float]] | None:
    """The outer ring of the greatest polygon."""
    if not polygons:
        return None
    plane = [_plane_size(rings[0]) - sum(_plane_size(hole) for hole in rings[1:]) for rings in polygons]
    ring = polygons[plane.index(max(plane))][0]
    return [[lat / 1e7, lng / 1e7] for lat, lng in ring] if len(ring) <= 1000 else None


def _plane_size(ring: Sequence[Point]) -> int:
    return abs(sum(a[1] * b[0] - b[1] * a[0] for a, b in _edges(ring)))


def maximum(rule: Rule, size: int, places: int, fleet: int) -> int | None:
    """None: nothing is ever too much."""
    if rule.per_hectare is not None:
        return math.floor(rule.per_hectare * size / 10_000)
    if rule.capacity is not None:
        return math.floor(rule.capacity * places)
    if rule.share_of_fleet is not None:
        return math.floor(rule.share_of_fleet * fleet)
    return rule.maximum


def shares(excess: int, counts: dict[str, int]) -> dict[str, int]:
    """An excess shared out in proportion, what is left over one each to the greatest remainders."""
    total = sum(counts.values())
    if total == 0:
        return dict.fromkeys(counts, 0)
    given = {name: excess * n // total for name, n in counts.items()}
    left = excess - sum(given.values())
    for name in sorted(counts, key=lambda name: (-(excess * counts[name] % total), name))[:left]:
        given[name] += 1
    return given
