"""Chinese map coordinates to WGS-84 and back, the same bits on every machine.

GCJ-02 shifts every position in China by up to 700 m by a published formula of sines; BD-09 shifts it once more. Libraries'
sines differ in the last bit from CPU to CPU, and positions decide, so sines here are a polynomial in + - * of doubles.
The formula and its constants are the ones in common use (eviltransform, coordtransform): Krasovsky's ellipsoid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Degrees = NDArray[np.float64]

_A = 6378245.0
_EE = 0.00669342162296594323
_PI = 3.14159265358979323846
_BAIDU_TURNS = 3000.0 / 180.0
_ROUNDS = 6  # each shrinks the error some 300 times; 3 would do for 1e-7 degrees
_WEST, _EAST, _SOUTH, _NORTH = 72.004, 137.8347, 0.8293, 55.8271

# Taylor coefficients of sin(pi * x) / x in x * x, up to pi**19 / 19!: exact to 1e-15 for abs(x) <= 1/2.
_SINE = (
    3.141592653589793,
    -5.16771278004997,
    2.5501640398773455,
    -0.5992645293207921,
    0.08214588661112823,
    -0.0073704309457143504,
    0.00046630280576761255,
    -2.1915353447830217e-05,
    7.952054001475513e-07,
    -2.2948428997269873e-08,
)


def gcj02_to_wgs84(lat: Degrees, lng: Degrees) -> tuple[Degrees, Degrees]:
    """(lat, lng) float64 (n,) in degrees. Inverts `wgs84_to_gcj02` to better than 1e-9 degrees; identity outside of China."""
    wgs_lat, wgs_lng = lat, lng
    for _ in range(_ROUNDS):
        d_lat, d_lng = _shift(wgs_lat, wgs_lng)
        wgs_lat, wgs_lng = lat - d_lat, lng - d_lng
    return _in_china(lat, lng, wgs_lat, wgs_lng)


def wgs84_to_gcj02(lat: Degrees, lng: Degrees) -> tuple[Degrees, Degrees]:
    """(lat, lng) float64 (n,) in degrees; identity outside of China."""
    d_lat, d_lng = _shift(lat, lng)
    return _in_china(lat, lng, lat + d_lat, lng + d_lng)


def bd09_to_wgs84(lat: Degrees, lng: Degrees) -> tuple[Degrees, Degrees]:
    """(lat, lng) float64 (n,) in degrees, by way of GCJ-02 (Baidu's usual inverse, good to 0.5 m); identity outside of China."""
    x, y = lng - 0.0065, lat - 0.006
    distance = np.sqrt(x * x + y * y)
    # Turned back by a small angle: cos(t - d) and sin(t - d) by the theorems of addition, without an arc tangent.
    angle = 0.000003 * sin_pi(x * _BAIDU_TURNS + 0.5) / _PI
    sine, cosine = sin_pi(angle), sin_pi(angle + 0.5)
    scale = (distance - 0.00002 * sin_pi(y * _BAIDU_TURNS)) / np.where(distance == 0, 1.0, distance)
    gcj_lng, gcj_lat = scale * (x * cosine + y * sine), scale * (y * cosine - x * sine)
    return _in_china(lat, lng, *gcj02_to_wgs84(gcj_lat, gcj_lng))


def _shift(lat: Degrees, lng: Degrees) -> tuple[Degrees, Degrees]:
    """What GCJ-02 adds to a position in WGS-84, in degrees."""
    x, y = lng - 105.0, lat - 35.0
    # All sines at once: for few positions it is the number of calls that costs.
    of_x = sin_pi(np.stack((6.0 * x, 2.0 * x, x, x / 3.0, x / 12.0, x / 30.0)))
    of_y = sin_pi(np.stack((y, y / 3.0, y / 12.0, y / 30.0, lat / 180.0, lat / 180.0 + 0.5)))
    common = (20.0 * of_x[0] + 20.0 * of_x[1]) * 2.0 / 3.0
    root = np.sqrt(np.abs(x))
    north = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * root + common
    north += (20.0 * of_y[0] + 40.0 * of_y[1]) * 2.0 / 3.0
    north += (160.0 * of_y[2] + 320.0 * of_y[3]) * 2.0 / 3.0
    east = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * root + common
    east += (20.0 * of_x[2] + 40.0 * of_x[3]) * 2.0 / 3.0
    east += (150.0 * of_x[4] + 300.0 * of_x[5]) * 2.0 / 3.0
    sine = of_y[4]
    magic = 1.0 - _EE * sine * sine
    root = np.sqrt(magic)
    meridian = _A * (1.0 - _EE) / (magic * root)
    parallel = _A / root * of_y[5]
    return north * 180.0 / (meridian * _PI), east * 180.0 / (np.maximum(parallel, 1.0) * _PI)


def _in_china(lat: Degrees, lng: Degrees, new_lat: Degrees, new_lng: Degrees) -> tuple[Degrees, Degrees]:
    """The new position where the old one lies in the box that the formula is for, else the old one."""
    inside = (lng > _WEST) & (lng < _EAST) & (lat > _SOUTH) & (lat < _NORTH)
    return np.where(inside, new_lat, lat), np.where(inside, new_lng, lng)


def sin_pi(x: Degrees) -> Degrees:
    """sin(pi * x). The reduction to abs(x) <= 1/2 is exact."""
    turns = np.rint(x)
    x = x - turns
    square = x * x
    value = np.full_like(x, _SINE[-1])
    for coefficient in _SINE[-2::-1]:
        value = value * square + coefficient
    odd = turns - 2.0 * np.floor(turns / 2.0)
    return value * x * (1.0 - 2.0 * odd)
