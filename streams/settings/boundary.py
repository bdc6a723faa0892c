"""A city's boundary from its configuration: a box, GeoJSON in place, or a GeoJSON file beside the TOML.

GeoJSON has longitude first. This is where it is turned round; everything behind has latitude first, in 1e-7 degrees.
"""

from __future__ import annotations

import json
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

from shapely.geometry import MultiPolygon, Polygon
from shapely.validation import explain_validity

from streams.settings.problems import RefusedError, shown
from streams.settings.scalars import exact

Ring = tuple[tuple[int, int], ...]
Boundary = tuple[tuple[Ring, ...], ...]

_SIDES = ("south", "west", "north", "east")
_HOW = (
    "Write { south = …, west = …, north = …, east = … } in degrees, a GeoJSON Polygon or MultiPolygon, "
    'or { file = "city.geojson" }.'
)


def parse_boundary(value: object, folder: Path) -> Boundary:
    """The `boundary` value -> polygons of rings (outer first, not closed) of (lat_e7, lng_e7). Files lie in `folder`."""
    if not isinstance(value, dict):
        raise RefusedError("must be a table", _HOW)
    if set(value) == set(_SIDES):
        polygons = _box(value)
    elif set(value) == {"file"}:
        polygons = _geojson(_read(folder / str(value["file"])))
    elif "type" in value:
        polygons = _geojson(value)
    else:
        raise RefusedError("must be a box, a GeoJSON geometry or a file", _HOW)
    _check(polygons)
    return polygons


def _box(value: dict[str, Any]) -> Boundary:
    south, west, north, east = (exact(value[side]) for side in _SIDES)
    if south >= north or west >= east:
        raise RefusedError("must have south < north and west < east", "Swap them; a box over longitude 180 needs two polygons.")
    return (((_point(west, south), _point(east, south), _point(east, north), _point(west, north)),),)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise RefusedError(f"names a file that cannot be read ({error.strerror})", "Paths are relative to this file.") from None
    except ValueError as error:
        raise RefusedError(f"names a file that is not JSON ({error})", "Export it as GeoJSON.") from None


def _geojson(value: Any) -> Boundary:
    """A geometry, a Feature, or a FeatureCollection (all its polygons together)."""
    kind = value.get("type") if isinstance(value, dict) else None
    try:
        if kind == "FeatureCollection":
            return tuple(polygon for feature in value["features"] for polygon in _geojson(feature))
        if kind == "Feature":
            return _geojson(value["geometry"])
        if kind == "Polygon":
            return (tuple(_ring(ring) for ring in value["coordinates"]),)
        if kind == "MultiPolygon":
            return tuple(tuple(_ring(ring) for ring in polygon) for polygon in value["coordinates"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, RefusedError):
            raise
        raise RefusedError(f"is broken GeoJSON ({type(error).__name__}: {error})", _HOW) from None
    raise RefusedError(f"must be a Polygon or MultiPolygon, not {shown(kind)}", _HOW)


def _ring(positions: list[list[Any]]) -> Ring:
    """GeoJSON repeats the first position at the end; we do not."""
    points = [_point(exact(position[0]), exact(position[1])) for position in positions]
    if len(points) > 1 and points[0] == points[-1]:
        points.pop()
    if len(set(points)) < 3:
        raise RefusedError("has a ring of fewer than three different points", _HOW)
    return tuple(points)


def _point(lng: Decimal, lat: Decimal) -> tuple[int, int]:
    if not -90 <= lat <= 90 or not -180 <= lng <= 180:
        raise RefusedError(
            f"has the position lat {lat}, lng {lng} that is not on Earth",
            "GeoJSON has longitude first: [lng, lat], in degrees.",
        )
    return _e7(lat), _e7(lng)


def _e7(degrees: Decimal) -> int:
    return int((degrees * 10_000_000).to_integral_value(ROUND_HALF_EVEN))


def _check(polygons: Boundary) -> None:
    """Rings that cross themselves have no inside that two libraries would agree on."""
    shapes = [Polygon(rings[0], rings[1:]) for rings in polygons if rings]
    if not shapes:
        raise RefusedError("has no polygon", _HOW)
    shape = MultiPolygon(shapes)
    if not shape.is_valid or not shape.area:
        raise RefusedError(
            f"is not a valid area ({explain_validity(shape)}, as lat and lng in 1e-7 degrees)",
            "Repair the polygon, for example with shapely.make_valid.",
        )
