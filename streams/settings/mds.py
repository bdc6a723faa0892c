"""Single values of MDS documents. Each refuses what it is not, or what counting cannot evaluate, with a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from pydantic import BeforeValidator

from geo.states import STATES, UNREPORTED, VEHICLES
from geo.windows import DAY_S, DAYS
from streams.settings.boundary import Boundary, parse_boundary
from streams.settings.problems import RefusedError, shown
from streams.settings.scalars import exact

_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d):([0-5]\d)")
_END_OF_DAY = "23:59:59"  # MDS' way to write it
_AREAS = ("Polygon", "MultiPolygon")


def listed(value: object) -> object:
    """JSON has lists and null, frozen values tuples."""
    return () if value is None else tuple(value) if isinstance(value, list) else value


def unique(value: object) -> object:
    if isinstance(value, list) and len(set(map(str, value))) != len(value):
        raise RefusedError("must not name one twice", "Remove the second one.")
    return listed(value)


def not_evaluated(what: str, why: str) -> BeforeValidator:
    def refuse(value: object) -> None:
        if value:
            raise RefusedError(f"{what} is not evaluated: {why}", "Leave it out, or leave the rule out.")

    return BeforeValidator(refuse)


def rule_type(value: object) -> str:
    if value != "count":
        why = "needs the trips of each vehicle" if value in ("time", "speed") else "cannot be counted"
        raise RefusedError(f'must be "count": any other {why}', "Leave the rule out of what this city evaluates.")
    return "count"


def state_codes(value: object) -> tuple[int, ...]:
    """The map of states to events -> codes; none: all."""
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise RefusedError("must be an object of states", 'Write {"available": [], "non_operational": []}.')
    known = [state for i, state in enumerate(STATES) if i != UNREPORTED]
    for state, events in value.items():
        if state not in known:
            raise RefusedError(f"must name MDS vehicle states, not {shown(state)}", f"There are {', '.join(known)}.")
        if events:
            rule = f"must have no events for {state}: a count does not know which event led to a state"
            raise RefusedError(rule, f'Write "{state}": [].')
    return tuple(sorted(STATES.index(state) for state in value))


def vehicle_codes(value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    known = VEHICLES[1:]
    for name in value if isinstance(value, list) else [value]:
        if name not in known:
            raise RefusedError(f"must name MDS vehicle types, not {shown(name)}", f"There are {', '.join(known)}.")
    return tuple(sorted({VEHICLES.index(name) for name in value})) if isinstance(value, list) else ()


def day_numbers(value: object) -> tuple[int, ...]:
    if value is None:
        return ()
    names = value if isinstance(value, list) else [value]
    if not all(name in DAYS for name in names):
        raise RefusedError("must be a list of days", 'Write ["mon", "tue"]; there are sun, mon, tue, wed, thu, fri, sat.')
    return tuple(sorted({DAYS.index(name) for name in names}))


def time_s(value: object) -> int:
    """hh:mm:ss -> seconds of the day."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise RefusedError("must be a time of the day hh:mm:ss", 'Write it like "08:00:00".')
    hours, minutes, seconds = map(int, match.groups())
    return hours * 3600 + minutes * 60 + seconds


def end_s(value: object) -> int:
    return DAY_S if value == _END_OF_DAY else time_s(value)


def per_hectare(value: object) -> str:
    """Kept as it was written: alerts print it."""
    if exact(value) <= 0:
        raise RefusedError("must be greater than zero", 'Write it like "2.5"; none at all is "maximum": 0.')
    return value if isinstance(value, str) else str(value)


def multiple(value: object) -> Fraction:
    number = exact(value)
    if number <= 0:
        raise RefusedError("must be greater than zero", "Write a decimal number like 1.2.")
    return Fraction(number)


def mode_id(value: object) -> object:
    if value not in (None, "micromobility"):
        raise RefusedError('must be "micromobility"', "Policies of other modes are for other systems: leave it out.")
    return value


def polygons(value: object) -> Boundary:
    """Without any polygon, where it has points or lines: stops are geographies of MDS, too, but nothing can be in them."""
    if not isinstance(value, dict) or "type" not in value:
        raise RefusedError("must be GeoJSON", "Write a Feature or FeatureCollection of polygons, longitude first.")
    return parse_boundary(value, Path()) if set(_kinds(value)) <= set(_AREAS) else ()


def _kinds(value: Any) -> Iterator[object]:
    """Types of all geometries."""
    if isinstance(value, dict) and value.get("type") == "FeatureCollection" and isinstance(value.get("features"), list):
        for feature in value["features"]:
            yield from _kinds(feature)
    elif isinstance(value, dict) and value.get("type") == "Feature":
        yield from _kinds(value.get("geometry"))
    elif isinstance(value, dict):
        yield str(value.get("type"))
