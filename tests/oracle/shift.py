"""Chinese coordinates, by the published formulas and libm.

The core computes the same with a polynomial sine; before rounding to 1e-7 degrees they differ by less than 1e-11.
"""

from __future__ import annotations

from math import atan2, cos, pi, sin, sqrt

A = 6_378_245.0
EE = 0.00669342162296594323
BD = pi * 3000 / 180


def outside_china(lat: float, lng: float) -> bool:
    return not (0.8293 < lat < 55.8271 and 72.004 < lng < 137.8347)


def _offset(lat: float, lng: float) -> tuple[float, float]:
    x, y = lng - 105.0, lat - 35.0
    dlat = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * sqrt(abs(x))
    dlat += (20.0 * sin(6.0 * x * pi) + 20.0 * sin(2.0 * x * pi)) * 2.0 / 3.0
    dlat += (20.0 * sin(y * pi) + 40.0 * sin(y / 3.0 * pi)) * 2.0 / 3.0
    dlat += (160.0 * sin(y / 12.0 * pi) + 320.0 * sin(y * pi / 30.0)) * 2.0 / 3.0
    dlng = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * sqrt(abs(x))
    dlng += (20.0 * sin(6.0 * x * pi) + 20.0 * sin(2.0 * x * pi)) * 2.0 / 3.0
    dlng += (20.0 * sin(x * pi) + 40.0 * sin(x / 3.0 * pi)) * 2.0 / 3.0
    dlng += (150.0 * sin(x / 12.0 * pi) + 300.0 * sin(x / 30.0 * pi)) * 2.0 / 3.0
    radians = lat / 180.0 * pi
    magic = 1 - EE * sin(radians) ** 2
    return (
        dlat * 180.0 / ((A * (1 - EE)) / (magic * sqrt(magic)) * pi),
        dlng * 180.0 / (A / sqrt(magic) * cos(radians) * pi),
    )


def to_gcj02(lat: float, lng: float) -> tuple[float, float]:
    if outside_china(lat, lng):
        return lat, lng
    dlat, dlng = _offset(lat, lng)
    return lat + dlat, lng + dlng


def from_gcj02(lat: float, lng: float) -> tuple[float, float]:
    """The exact inverse, by iteration to the end."""
    a, b = lat, lng
    for _ in range(30):
        dlat, dlng = _offset(a, b)
        a, b = lat - dlat, lng - dlng
    return a, b


def from_bd09(lat: float, lng: float) -> tuple[float, float]:
    x, y = lng - 0.0065, lat - 0.006
    z = sqrt(x * x + y * y) - 0.00002 * sin(y * BD)
    theta = atan2(y, x) - 0.000003 * cos(x * BD)
    return from_gcj02(z * sin(theta), z * cos(theta))


def to_wgs84(coordinates: str, lat: float, lng: float) -> tuple[float, float]:
    if outside_china(lat, lng):
        return lat, lng
    if coordinates == "gcj02":
        return from_gcj02(lat, lng)
    if coordinates == "bd09":
        return from_bd09(lat, lng)
    return lat, lng
