"""The bodies of events: section 7 of docs/semantics.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import h3
import orjson

from geo.params import Rule
from tests.oracle.ping import STATES, VEHICLES
from tests.oracle.places import Zone, centroid_e7, outline, size_e4
from tests.oracle.plane import Point
from tests.oracle.shift import to_gcj02

NAMESPACE = uuid5(NAMESPACE_URL, "urn:urban-brain:episode")
FEED_SILENT = ("built-in", "feed_silent")
RESERVED, NON_OPERATIONAL = 2, 3


@dataclass(frozen=True)
class TrueEvent:
    """What the city tells; operator_body None: no operator is told."""

    kind: str

    operator: str
    tick: int
    state: str
    event_id: str
    sequence: int
    area: str
    rule: tuple[str, str]
    body: bytes
    operator_body: bytes | None
    cleared_by: str | None
    shadow: bool


@dataclass(frozen=True)
class Standing:
    """A bike that counts in the area of an alert."""

    bike: str
    at: Point
    since: int
    heard: int
    state: int
    vehicle: int


def dumps(body: dict[str, Any]) -> bytes:
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def rfc_3339(ms: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def id_of(city: str, rule: tuple[str, str], area: str, operator: str, opened: int, *more: str) -> str:
    return str(uuid5(NAMESPACE, "|".join((city, *rule, area, operator, str(opened), *more))))


@lru_cache(maxsize=100_000)
def cell_of(at: Point, resolution: int) -> str:
    return str(h3.latlng_to_cell(at[0] / 1e7, at[1] / 1e7, resolution))


@lru_cache(maxsize=100_000)
def area_e4(cell: str) -> int:
    """Area of a cell in 1e-4 ha."""
    return round(float(h3.cell_area(cell, "km^2")) * 100 * 10_000)


def severity(count: int, most: int) -> str:
    if count >= 2 * most:
        return "critical"
    return "major" if 2 * count >= 3 * most else "minor"


def listed(rule: Rule, excess: int, standing: Sequence[Standing]) -> list[Standing]:
    """The bikes that an alert names, in its order."""
    free = [bike for bike in standing if bike.state != RESERVED]
    free.sort(key=lambda bike: (bike.state != NON_OPERATIONAL, bike.since, bike.bike))
    return free[: min(excess, rule.bikes_cap)]


def rule_part(rule: Rule, limit: int, time_zone: str) -> dict[str, Any]:
    part: dict[str, Any] = {
        "policy_id": rule.policy_id,
        "rule_id": rule.rule_id,
        "name": rule.name,
        "threshold": limit,
        "unit": "bikes",
        "per_hectare": rule.per_hectare_text,
        "window": None,
    }
    if rule.window is not None:
        names = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
        part["window"] = {
            "days": [names[day] for day in rule.window.days],
            "start_time": str(timedelta(seconds=rule.window.start_s)).rjust(8, "0"),
            "end_time": str(timedelta(seconds=min(86_399, rule.window.end_s))).rjust(8, "0"),
            "time_zone": time_zone,
        }
    if rule.all_operators:
        part["scope"] = "all_operators"
    return part


def centroid(cell: str) -> dict[str, float]:
    lat, lng = h3.cell_to_latlng(cell)
    return {"lat": round(lat, 7), "lng": round(lng, 7)}


def cell_part(rule: Rule, cell: str, bikes: Sequence[Standing]) -> dict[str, Any]:
    return {
        "type": "cell",
        "h3": cell,
        "resolution": rule.resolution,
        "name": None,
        "centroid": centroid(cell),
        "boundary": [[round(lat, 7), round(lng, 7)] for lat, lng in h3.cell_to_boundary(cell)],
        "area_ha": area_e4(cell) / 1e4,
        "hot_spot": hot_spot(bikes),
    }


def zone_part(zone: Zone, bikes: Sequence[Standing]) -> dict[str, Any]:
    lat, lng = centroid_e7(zone.polygons)
    return {
        "type": zone.kind,
        "h3": None,
        "resolution": None,
        "name": zone.name,
        "centroid": {"lat": lat / 1e7, "lng": lng / 1e7},
        "boundary": outline(zone.polygons),
        "area_ha": size_e4(zone.polygons) / 1e4,
        "hot_spot": hot_spot(bikes),
    }


def hot_spot(bikes: Sequence[Standing]) -> dict[str, Any] | None:
    if not bikes:
        return None
    cells = Counter(cell_of(bike.at, 10) for bike in bikes)
    most = max(cells.values())
    hottest = min(cell for cell, count in cells.items() if count == most)
    return {"h3": hottest, "resolution": 10, "bikes": most, "centroid": centroid(hottest)}


def bike_part(bike: Standing) -> dict[str, Any]:
    return {
        "id": bike.bike,
        "lat": bike.at[0] / 1e7,
        "lng": bike.at[1] / 1e7,
        "parked_since": rfc_3339(bike.since),
        "last_heard": rfc_3339(bike.heard),
        "state": STATES[bike.state],
        "vehicle_type": VEHICLES[bike.vehicle],
    }


def moves_part(hauls: Sequence[tuple[int, Point, int, int]]) -> list[dict[str, Any]]:
    """(cell, point, bikes, metres) of each; 0 is the depot."""
    moves: list[dict[str, Any]] = []
    for to, (lat, lng), bikes, distance_m in hauls:
        move: dict[str, Any] = {"to": None, "centroid": None, "bikes": bikes, "distance_m": None}
        if to:
            move |= {"to": f"{to:x}", "centroid": {"lat": lat / 1e7, "lng": lng / 1e7}, "distance_m": distance_m}
        moves.append(move)
    return moves


def links_part(where: dict[str, float]) -> dict[str, str]:
    lat, lng = where["lat"], where["lng"]
    china_lat, china_lng = to_gcj02(lat, lng)
    return {
        "wgs84": f"https://www.openstreetmap.org/?mlat={lat:.5f}&mlon={lng:.5f}#map=18/{lat:.5f}/{lng:.5f}",
        "gcj02": f"https://uri.amap.com/marker?position={china_lng:.5f},{china_lat:.5f}&coordinate=gaode",
    }
