"""One record's value to one ping, with the standard library's JSON and our own checks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from tests.oracle.shift import to_wgs84

STATES = (
    "unreported",
    "available",
    "reserved",
    "non_operational",
    "non_contactable",
    "on_trip",
    "removed",
    "missing",
    "elsewhere",
)
VEHICLES = (
    None,
    "bicycle",
    "cargo_bicycle",
    "scooter_standing",
    "scooter_seated",
    "moped",
    "motorcycle",
    "car",
    "bus",
    "delivery_robot",
    "other",
)
TOUCHING = {
    "locked",
    "unlocked",
    "lock",
    "unlock",
    "pick_up",
    "drop_off",
    "trip_start",
    "trip_end",
    "trip_cancel",
    "maintenance_pick_up",
    "maintenance_drop_off",
    "rebalance_pick_up",
    "rebalance_drop_off",
    "compliance_pick_up",
    "compliance_drop_off",
    "agency_pick_up",
    "agency_drop_off",
    "provider_drop_off",
    "provider_pick_up",
    "charge_pick_up",
    "charge_drop_off",
}
YEAR_2100 = 4_102_444_800_000
RFC_3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


class Malformed(ValueError):
    """The record is not a ping."""


@dataclass(frozen=True)
class Ping:
    """accuracy in mm, 0 if not reported; lat, lng in 1e-7 degrees WGS-84."""

    operator: str | None
    bike: str
    ts: int
    lat: int
    lng: int
    accuracy: int
    state: int
    vehicle: int
    touched: bool


def parse(value: bytes, coordinates: str) -> Ping:
    try:
        fields = json.loads(value.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)) from error
    if type(fields) is not dict:
        raise Malformed("not an object")
    _only_unicode(fields)
    for name in ("speed", "heading", "battery"):
        _number(fields, name)
    _text(fields, "telemetry_id")
    if type(fields.get("received_at")) not in (int, str, type(None)):
        raise Malformed("received_at")
    event = _text(fields, "event")
    if event is not None and len(event) > 128:
        raise Malformed("event")
    lat, lng = _position(fields, coordinates)
    return Ping(
        operator=_name(fields, "operator") if "operator" in fields else None,
        bike=_name(fields, "bike_id"),
        ts=_time(fields.get("ts")),
        lat=lat,
        lng=lng,
        accuracy=_accuracy(fields),
        state=_state(fields),
        vehicle=_vehicle(fields),
        touched=event in TOUCHING,
    )


def _refuse(literal: str) -> NoReturn:
    raise Malformed(literal)


def _only_unicode(value: Any) -> None:
    """Half of a surrogate pair is valid by the grammar of JSON, but it is no text."""
    if type(value) is str:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise Malformed("surrogate") from error
    elif type(value) is list:
        for item in value:
            _only_unicode(item)
    elif type(value) is dict:
        for key, item in value.items():
            _only_unicode(key)
            _only_unicode(item)


def _number(fields: dict[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if type(value) not in (int, float):
        raise Malformed(name)
    try:
        number = float(value)
    except OverflowError as error:
        raise Malformed(name) from error
    if number in (float("inf"), float("-inf")):
        raise Malformed(name)
    return number


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and type(value) is not str:
        raise Malformed(name)
    return value


def _name(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if type(value) is not str or not 1 <= len(value) <= 128 or not value.isprintable():
        raise Malformed(name)
    return value


def _time(value: Any) -> int:
    ms = value if type(value) is int else _rfc_3339(value) if type(value) is str else 0
    if not 0 < ms < YEAR_2100:
        raise Malformed("ts")
    return ms


def _rfc_3339(text: str) -> int:
    match = RFC_3339.fullmatch(text)
    if match is None:
        raise Malformed("ts")
    year, month, day, hour, minute, second, fraction, sign, off_hour, off_minute = match.groups()
    if off_hour is not None and (int(off_hour) > 23 or int(off_minute) > 59):
        raise Malformed("ts")
    try:
        local = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second))  # noqa: DTZ001
    except ValueError as error:
        raise Malformed("ts") from error
    since = local - datetime(1970, 1, 1)  # noqa: DTZ001
    seconds = since.days * 86_400 + since.seconds
    if sign is not None:
        offset = int(off_hour) * 3600 + int(off_minute) * 60
        seconds -= offset if sign == "+" else -offset
    return seconds * 1000 + int(((fraction or "") + "000")[:3])


def _position(fields: dict[str, Any], coordinates: str) -> tuple[int, int]:
    lat, lng = _number(fields, "lat"), _number(fields, "lng")
    if lat is None or lng is None or not -90 <= lat <= 90 or not -180 <= lng <= 180:
        raise Malformed("position")
    if abs(round(lat * 1e7)) < 10_000 and abs(round(lng * 1e7)) < 10_000:
        raise Malformed("null island")
    lat, lng = to_wgs84(coordinates, lat, lng)
    return round(lat * 1e7), round(lng * 1e7)


def _accuracy(fields: dict[str, Any]) -> int:
    metres = _number(fields, "accuracy")
    if metres is None:
        return 0
    if metres < 0:
        raise Malformed("accuracy")
    return 2**31 - 1 if metres > 3_000_000 else min(round(metres * 1000), 2**31 - 1)


def _state(fields: dict[str, Any]) -> int:
    status = _text(fields, "status")
    if status is None:
        return 0
    if status not in STATES[1:]:
        raise Malformed("status")
    return STATES.index(status)


def _vehicle(fields: dict[str, Any]) -> int:
    kind = _text(fields, "vehicle_type")
    if kind is None:
        return 0
    return VEHICLES.index(kind) if kind in VEHICLES else VEHICLES.index("other")
