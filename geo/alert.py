"""What an alert says: ids and bodies, the same bytes whoever computes them. docs/semantics.md, section 7.

A body is JSON with sorted keys; nothing in it comes from a clock, a host or the order in which sources were applied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import orjson

from geo import cells
from geo.cells import Area
from geo.coordinates import wgs84_to_gcj02
from geo.policy import Rule
from geo.windows import DAY_S, DAYS, Window

SCHEMA = "urban-brain/alert/1"
NAMESPACE = uuid5(NAMESPACE_URL, "urn:urban-brain:episode")

RAISED, UPDATED, ESCALATED, CLEARED = STATES = ("raised", "updated", "escalated", "cleared")
OVERCROWDED, DEFICIT, FEED_SILENT = "overcrowded", "deficit", "feed_silent"
POLICY_REFUSED, FEED_DEGRADED = "policy_refused", "feed_degraded"
INCIDENT = "incident"  # no kind: an overcrowded episode of several cells
MINOR, MAJOR, CRITICAL = SEVERITIES = ("minor", "major", "critical")

BY_POLICY = "policy"  # cleared, because what was in force is not any more
MERGED = "merged"  # cleared, because an older incident has its cells
RESTOCKED = "restocked"  # cleared, because enough bikes came

BUILT_IN = "built-in"
WHOLE_CITY = "city"
POLICY_REFUSED_RULE = (BUILT_IN, POLICY_REFUSED)

LOST_PERCENT = 50
"""A feed is degraded if more than so much of a fleet is lost within one tick."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The only key that operators must not see. No JSON string can hold an unescaped quote, so only a key matches.
_CITYS_OWN = re.compile(rb',"count_all_operators":(?:\d+|null)')


@dataclass(frozen=True, slots=True)
class Event:
    """One event of an episode. `body` is the city's copy; `operator_body` the operator's, None if nobody gets one.

    shadow: of a rule that is on trial: for the city's eyes only.
    """

    city: str
    operator: str
    tick: int
    time_ms: int
    kind: str
    state: str
    episode_id: str
    event_id: str
    sequence: int
    area: str
    rule: tuple[str, str]
    body: bytes
    operator_body: bytes | None
    opened_at_ms: int
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Heading:
    """What all events of one episode share, and which of them this is.

    tells_all: the operator may know how many bikes all operators have there.
    """

    city: str
    operator: str
    kind: str
    state: str
    area: str
    rule: tuple[str, str]
    opened: int  # tick
    tick: int
    tick_ms: int
    sequence: int
    shadow: bool = False
    tells_all: bool = False
    incident: bool = False
    episode_id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "episode_id", self.id_of(self.area, self.opened))

    def id_of(self, area: str, opened: int) -> str:
        """Of an episode of this kind, rule and operator, this one or another."""
        more = (DEFICIT,) if self.kind == DEFICIT else (INCIDENT,) if self.incident else ()
        return episode_id(self.city, self.rule, area, self.operator, opened, *more)

    def fields(self) -> dict[str, object]:
        """The part of a body that every kind of alert has."""
        fields: dict[str, object] = {
            "schema": SCHEMA,
            "event_id": f"{self.episode_id}/{self.sequence}",
            "episode_id": self.episode_id,
            "sequence": self.sequence,
            "kind": self.kind,
            "state": self.state,
            "city": self.city,
            "operator": self.operator,
            "moves": [],
            "opened_at": rfc3339(end_of(self.opened, self.tick_ms)),
            "observed_at": rfc3339(end_of(self.tick, self.tick_ms)),
        }
        return fields | {"mode": "shadow"} if self.shadow else fields

    def event(self, body: bytes) -> Event:
        """The event that has this body."""
        return Event(
            city=self.city,
            operator=self.operator,
            tick=self.tick,
            time_ms=end_of(self.tick, self.tick_ms),
            kind=self.kind,
            state=self.state,
            episode_id=self.episode_id,
            event_id=f"{self.episode_id}/{self.sequence}",
            sequence=self.sequence,
            area=self.area,
            rule=self.rule,
            body=body,
            operator_body=self._operators_copy(body),
            opened_at_ms=end_of(self.opened, self.tick_ms),
            shadow=self.shadow,
        )

    def _operators_copy(self, body: bytes) -> bytes | None:
        if not self.operator or self.shadow:
            return None
        return body if self.tells_all else operators_copy(body)


class Bike(NamedTuple):
    """A bike as an alert names it. Position in 1e-7 degrees, times in ms."""

    id: str
    lat: int
    lng: int
    since: int
    version: int
    state: str
    vehicle: str | None


class Haul(NamedTuple):
    """A move as an alert prints it: so many bikes to a point (1e-7 degrees) in a cell; to = 0: to the depot, which is no place."""

    distance_m: int
    to: int
    lat: int
    lng: int
    bikes: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What an event on too many bikes, or too few, found at its tick. respond_by, resolve_by: ms.

    handling: what the body has of responses and escalations.
    """

    severity: str
    limit: int
    count: int
    excess: int
    count_all_operators: int
    bikes: Sequence[Bike]
    hauls: Sequence[Haul]
    links: dict[str, str]
    cleared_by: str | None
    respond_by: int
    resolve_by: int
    relatives: Mapping[str, str] = field(default_factory=dict)  # ids of other incidents, by key
    handling: Mapping[str, object] = field(default_factory=dict)


def end_of(tick: int, tick_ms: int) -> int:
    """Stream time of whatever happens at a tick: its end, ms."""
    return (tick + 1) * tick_ms


def episode_id(city: str, rule: tuple[str, str], area: str, operator: str, opened: int, *more: str) -> str:
    """The id of the episode that opened at a tick: whoever computes it gets the same. more: what else tells it apart."""
    return str(uuid5(NAMESPACE, "|".join((city, *rule, area, operator, str(opened), *more))))


def rfc3339(time_ms: int) -> str:
    """UTC with milliseconds and `Z`."""
    return (_EPOCH + timedelta(milliseconds=time_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def severity_of(count: int, maximum: int) -> str:
    """By the ratio of what is there to what may be."""
    if count >= 2 * maximum:
        return CRITICAL
    return MAJOR if 2 * count >= 3 * maximum else MINOR


def operators_copy(body: bytes) -> bytes:
    """The body as the operator may see it: without the count of its rivals' bikes."""
    return _CITYS_OWN.sub(b"", body, count=1)


def map_links(centroids: Sequence[tuple[float, float]]) -> list[dict[str, str]]:
    """Where to look at n points (lat, lng): maps in WGS-84 and in the coordinates of Chinese maps."""
    shifted = wgs84_to_gcj02(np.array([lat for lat, _ in centroids]), np.array([lng for _, lng in centroids]))
    return [
        {
            "wgs84": f"https://www.openstreetmap.org/?mlat={lat:.5f}&mlon={lng:.5f}#map=18/{lat:.5f}/{lng:.5f}",
            "gcj02": f"https://uri.amap.com/marker?position={chinese_lng:.5f},{chinese_lat:.5f}&coordinate=gaode",
        }
        for (lat, lng), chinese_lat, chinese_lng in zip(centroids, *(axis.tolist() for axis in shifted), strict=True)
    ]


def count_body(heading: Heading, rule: Rule, area: Area, found: Finding, *, time_zone: str) -> bytes:
    """Too many bikes of one operator in one area, or too few."""
    body = heading.fields() | {
        "severity": found.severity,
        "rule": _rule(rule, found.limit, time_zone),
        "area": _area(area, found.bikes),
        "count": found.count,
        "excess": found.excess,
        "bikes": _bikes(found.bikes),
        "moves": [_move(haul) for haul in found.hauls],
        "respond_by": rfc3339(found.respond_by),
        "resolve_by": rfc3339(found.resolve_by),
        "cleared_by": found.cleared_by,
        "links": found.links,
        "count_all_operators": found.count_all_operators,
        **found.relatives,
        **found.handling,
    }
    if heading.kind == DEFICIT:
        body |= {"excess": 0, "missing": found.excess}
    return encode(body)


def encode(body: dict[str, Any]) -> bytes:
    """The one encoding of bodies. Copied, because orjson's results hold on to the buffer (4 KB at least) that they grew in."""
    return bytes(memoryview(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)))


def feed_silent_body(heading: Heading, threshold_ms: int, cleared_by: str | None) -> bytes:
    """An operator's feed, or every feed of the city, is silent."""
    rule = {"name": "Feed silent", "threshold": threshold_ms // 1000, "unit": "s"}
    return encode(_of_no_place(heading, rule, cleared_by))


def feed_degraded_body(heading: Heading, lost: tuple[int, int], cleared_by: str | None) -> bytes:
    """An operator's feed took most of its fleet away at once. lost: bikes that stood before, and would stand after."""
    before, after = lost
    rule = {"name": "Feed degraded", "threshold": LOST_PERCENT, "unit": "%"}
    return encode(_of_no_place(heading, rule, cleared_by) | {"lost": {"before": before, "after": after}})


def policy_refused_body(heading: Heading, problems: Sequence[str], cleared_by: str | None) -> bytes:
    """A policy of the topic of policies that the city could not take: its id is the area of the heading."""
    rule = {"name": "Policy refused", "threshold": 0, "unit": "problems"}
    refused = {"policy_id": heading.area, "problems": list(problems)}
    return encode(_of_no_place(heading, rule, cleared_by) | {"refused": refused})


def _of_no_place(heading: Heading, rule: dict[str, object], cleared_by: str | None) -> dict[str, Any]:
    """The body of what is about no bikes and no place in the city. rule: its name, threshold and unit."""
    policy_id, rule_id = heading.rule
    area = dict.fromkeys(("h3", "resolution", "centroid", "boundary", "area_ha", "hot_spot"))
    return heading.fields() | {
        "severity": MAJOR,
        "rule": rule | {"policy_id": policy_id, "rule_id": rule_id, "per_hectare": None, "window": None},
        "area": area | {"type": WHOLE_CITY, "name": heading.city},
        "bikes": [],
        "cleared_by": cleared_by,
        **dict.fromkeys(("count", "excess", "respond_by", "resolve_by", "links", "count_all_operators")),
    }


def _rule(rule: Rule, limit: int, time_zone: str) -> dict[str, object]:
    told: dict[str, object] = {
        "policy_id": rule.policy_id,
        "rule_id": rule.rule_id,
        "name": rule.name,
        "threshold": limit,
        "unit": "bikes",
        "per_hectare": rule.per_hectare_text,
        "window": None if rule.window is None else _window(rule.window, time_zone),
    }
    return told | {"scope": "all_operators"} if rule.all_operators else told


def _window(window: Window, time_zone: str) -> dict[str, object]:
    """As MDS writes it: the end of the day is 23:59:59."""
    end_s = min(window.end_s, DAY_S - 1)
    return {
        "days": [DAYS[day] for day in window.days],
        "start_time": _clock(window.start_s),
        "end_time": _clock(end_s),
        "time_zone": time_zone,
    }


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _area(area: Area, bikes: Sequence[Bike]) -> dict[str, object]:
    cells_of_it = {} if area.cells is None else {"cells": area.cells}
    return {
        **cells_of_it,
        "type": area.kind,
        "h3": area.h3,
        "resolution": area.resolution,
        "name": area.name,
        "centroid": _position(area.centroid),
        "boundary": area.boundary,
        "area_ha": area.area_e4 / 1e4,
        "hot_spot": _hot_spot(bikes),
    }


def _hot_spot(bikes: Sequence[Bike]) -> dict[str, object] | None:
    spot = cells.hot_spot((bike.lat / 1e7, bike.lng / 1e7) for bike in bikes)
    if spot is None:
        return None
    cell, held = spot
    return {
        "h3": cells.name_of(cell),
        "resolution": cells.HOT_SPOT_RESOLUTION,
        "bikes": held,
        "centroid": _position(cells.centroid(cell)),
    }


def _bikes(bikes: Sequence[Bike]) -> list[dict[str, object]]:
    times = np.array([(bike.since, bike.version) for bike in bikes], "datetime64[ms]").reshape(-1, 2)
    return [
        {
            "id": bike.id,
            "lat": bike.lat / 1e7,
            "lng": bike.lng / 1e7,
            "parked_since": since + "Z",
            "last_heard": version + "Z",
            "state": bike.state,
            "vehicle_type": bike.vehicle,
        }
        for bike, (since, version) in zip(bikes, np.datetime_as_string(times, "ms").tolist(), strict=True)
    ]


def _move(haul: Haul) -> dict[str, object]:
    if not haul.to:
        return {"to": None, "centroid": None, "bikes": haul.bikes, "distance_m": None}
    at = _position((haul.lat / 1e7, haul.lng / 1e7))
    return {"to": cells.name_of(haul.to), "centroid": at, "bikes": haul.bikes, "distance_m": haul.distance_m}


def _position(centroid: tuple[float, float]) -> dict[str, float]:
    return {"lat": centroid[0], "lng": centroid[1]}
