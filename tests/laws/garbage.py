"""How a ping looks on the wire: one of many ways to say it, and many ways to get it wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from tests.oracle.shift import to_gcj02, to_wgs84

_EXTRAS: tuple[tuple[str, Any], ...] = (
    ("speed", 3.5),
    ("speed", None),
    ("heading", 359),
    ("battery", 0.5),
    ("telemetry_id", "t-1"),
    ("received_at", "2024-01-01T00:00:00Z"),
    ("received_at", 1_700_000_000_000),
    ("note", {"deep": [1, 2.5, {"x": None}], "lat": 1}),
    ("ünknown", True),
)


def bytes_of(r: random.Random, fields: dict[str, Any], at: tuple[int, int], coordinates: str) -> bytes:
    """The JSON of a ping; at: WGS-84, 1e-7 degrees; on the wire it is in the feed's coordinates."""
    lat, lng = _wire(at, coordinates)
    whole = {**fields, "lat": lat, "lng": lng}
    if r.random() < 0.2:
        whole["ts"] = _text_of(r, whole["ts"])
    for name, value in r.sample(_EXTRAS, r.choice((0, 0, 0, 1, 3))):
        whole[name] = value
    if r.random() < 0.3:
        whole = {name: value for name, value in whole.items() if value is not None}
    items = list(whole.items())
    if r.random() < 0.3:
        r.shuffle(items)
    text = json.dumps(dict(items), ensure_ascii=r.random() < 0.3, separators=r.choice(((",", ":"), (", ", ": "))))
    if r.random() < 0.03:  # of equal names the last one counts
        text = '{"lat": 0.5, "status": "missing", "ts": 5,' + text[1:]
    return text.encode() + r.choice((b"", b"", b"\n", b" \t"))


def _wire(at: tuple[int, int], coordinates: str) -> tuple[float, float]:
    if coordinates == "wgs84":
        return at[0] / 1e7, at[1] / 1e7
    lat, lng = to_gcj02(at[0] / 1e7, at[1] / 1e7)
    if coordinates == "bd09":
        lat, lng = lat + 0.006, lng + 0.0065
    lat, lng = round(lat, 7), round(lng, 7)
    while any(abs(x * 1e7 % 1 - 0.5) < 1e-3 for x in to_wgs84(coordinates, lat, lng)):
        lat = round(lat + 1e-7, 7)  # too near to where another sine would round to another side
    return lat, lng


def _text_of(r: random.Random, ms: int) -> str:
    """A time in RFC 3339, in one of its ways."""
    zone = r.choice((UTC, timezone(timedelta(hours=8)), timezone(-timedelta(hours=3, minutes=30))))
    moment = datetime.fromtimestamp(ms // 1000, zone)
    text = moment.isoformat()
    fraction = r.choice((f".{ms % 1000:03d}", f".{ms % 1000:03d}999", f".{ms % 1000:03d}000001"))
    text = text[:19] + fraction + text[19:]
    return text.replace("+00:00", r.choice(("Z", "z", "+00:00"))) if r.random() < 0.5 else text


def _with(name: str, value: str) -> Callable[[bytes], bytes]:
    """The ping with a field of its own at the end: of equal names the last one counts."""
    return lambda text: text.rstrip()[:-1] + f', "{name}": {value}}}'.encode()


def _without(name: str) -> Callable[[bytes], bytes]:
    return lambda text: text.replace(f'"{name}"'.encode(), b'"other"')


_WAYS: tuple[Callable[[bytes], bytes], ...] = (
    lambda text: b"",
    lambda text: text[:-3],
    lambda text: text.rstrip() + b"}",
    lambda text: b"[" + text + b"]",
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: text.decode().encode("utf-16"),
    lambda text: b"null",
    lambda text: b'"ping"',
    lambda text: text.replace(b'"bike_id": "', b'"bike_id": "\xff').replace(b'"bike_id":"', b'"bike_id":"\xff'),
    lambda text: text.rstrip()[:-1] + b', "note": "\xff"}',
    lambda text: text.rstrip()[:-1] + b', "note": "\\ud800"}',
    lambda text: text.rstrip()[:-1] + b",}",
    lambda text: text.replace(b":", b"=", 1),
    lambda text: b"'" + text + b"'",
    *map(_without, ("bike_id", "ts", "lat", "lng", "operator")),
    *(_with("lat", value) for value in ("NaN", "Infinity", '"39.9"', "null", "true", "91", "-90.0000001", "1e400", "[]")),
    *(_with("lng", value) for value in ("-Infinity", "180.00000001", "-181", "false", "{}", "9" * 400)),
    *(_with("ts", value) for value in ("0", "-5", "4102444800000", "1.7e12", "1700000000000.0", "true", "null", "9" * 30)),
    *(_with("ts", value) for value in ('"2024-02-30T00:00:00Z"', '"2024-01-01T00:00:00"', '"1700000000000"', '"now"')),
    *(_with("ts", value) for value in ('"2024-01-01T24:00:00Z"', '"2024-01-01T00:00:00+24:00"', '"2024-01-01"')),
    *(_with("ts", value) for value in ('"2024-06-30T23:59:60Z"', '"1969-12-31T23:59:59Z"', '"2024-01-01T00:00:00.Z"')),
    *(_with("bike_id", value) for value in ('""', "7", "null", '"a\\nb"', '"' + "x" * 129 + '"', '"\\u200b"', '"\\ud800"')),
    *(_with("operator", value) for value in ('""', "7", "null", '["alfa"]', '"\\u0000"')),
    *(_with("accuracy", value) for value in ("-1", "-0.0001", '"5"', "NaN", "true", "1e999")),
    *(_with("status", value) for value in ('"unreported"', '"Available"', '""', "1", '"parked"')),
    *(_with("event", value) for value in ("5", '"' + "e" * 129 + '"', "[]")),
    *(_with("vehicle_type", value) for value in ("5", "{}", "false")),
    *(_with("speed", value) for value in ('"fast"', "true", "NaN", "1e400")),
    *(_with(name, "[1]") for name in ("heading", "battery", "telemetry_id", "received_at")),
    *(_with("received_at", value) for value in ("true", "1.5", "9" * 25, '"yesterday"')),
    lambda text: _with("lat", "0.0009")(_with("lng", "-0.0009999")(text)),  # null island
    # Fine, though they look wrong:
    *(_with("lat", value) for value in ("1", "-90", "90.0", "2.5e1", "0.00010000001", "1e-300")),
    *(_with("lng", value) for value in ("180", "-180.0", "1E2", "-0")),
    *(_with("event", value) for value in ('""', '"' + "e" * 128 + '"', "null")),
    *(_with("accuracy", value) for value in ("0", "-0.0", "1e300", "null", "3000000000", "0.0005", "0.0015")),
    *(_with("status", value) for value in ("null", '"non\\u005foperational"')),
    *(_with("vehicle_type", value) for value in ('""', "null", '"Bicycle"')),
    *(_with("note", value) for value in ('"\\ud83d\\ude80"', "[[[[]]]]", "1e-400")),
    *(_with("speed", value) for value in ("-3", "1e-400", "5" * 200)),
)


def spoil(r: random.Random, text: bytes) -> bytes:
    """Some way to be wrong; a few only look so."""
    return r.choice(_WAYS)(text)


WAYS = len(_WAYS)


def way(i: int, text: bytes) -> bytes:
    return _WAYS[i](text)
