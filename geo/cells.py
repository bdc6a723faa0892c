"""H3: the cell of a position, its size and its shape. The only module of the core that calls H3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import h3.api.basic_int as h3
import numpy as np
from numpy.typing import NDArray

ALERT_RESOLUTION = 9
"""Counted in every city, whatever its rules say: 7.5 ha in Beijing, 12 ha in Singapore."""

HOT_SPOT_RESOLUTION = 10

MOST_PRINTED = 1_000
"""Positions of an outline that an alert prints."""

HALF_TURN_E7 = 1_800_000_000


@dataclass(frozen=True, slots=True)
class Area:
    """What a rule is judged on, as an alert prints it. Positions are (lat, lng) in degrees, rounded to 7 decimals.

    kind: cell, cells, zone, or city. A zone has a name and an outline of its own, which may be too long to be printed.
    """

    id: str
    kind: str
    centroid: tuple[float, float]
    boundary: tuple[tuple[float, float], ...] | None
    area_e4: int  # 1e-4 ha
    h3: str | None = None
    resolution: int | None = None
    name: str | None = None
    cells: tuple[str, ...] | None = None  # of those that are told of as one


def cells_of(lat: NDArray[np.int32], lng: NDArray[np.int32], resolution: int) -> NDArray[np.int64]:
    """The cells that hold n positions of 1e-7 degrees: int64 (n,), 0.4 us each. Their top bit is never set."""
    cell = h3.latlng_to_cell
    degrees = zip((lat / 1e7).tolist(), (lng / 1e7).tolist(), strict=True)
    return np.fromiter((cell(y, x, resolution) for y, x in degrees), np.int64, len(lat))


def area_e4(cell: int) -> int:
    """Size of a cell in 1e-4 ha (square metres), an integer so that thresholds are exact."""
    km2: float = h3.cell_area(cell, "km^2")
    return round(km2 * 100 * 10_000)


def least_area_e4(resolution: int) -> int:
    """Less than any cell of the resolution has.

    Hexagons reach down to 0.6 of their average, the twelve pentagons to 0.5 (h3geo.org, "Tables of cell statistics").
    """
    return int(h3.average_hexagon_area(resolution, "km^2") * 100 * 10_000 * 0.4)


def cell_area(cell: int) -> Area:
    """The cell as an area of an alert."""
    name = h3.int_to_str(cell)
    boundary = tuple((round(lat, 7), round(lng, 7)) for lat, lng in h3.cell_to_boundary(cell))
    return Area(
        id=name,
        kind="cell",
        centroid=centroid(cell),
        boundary=boundary,
        area_e4=area_e4(cell),
        h3=name,
        resolution=h3.get_resolution(cell),
    )


def merged_area(founder: int, cells: Sequence[int]) -> Area:
    """Cells that touch as one area of an alert, named by the one that was first. docs/policies.md, section 13."""
    ordered = sorted(cells)
    return Area(
        id=name_of(founder),
        kind="cells",
        centroid=_middle([e7(centroid(cell)) for cell in ordered]),
        boundary=outline(ordered),
        area_e4=sum(area_e4(cell) for cell in ordered),
        h3=name_of(founder),
        resolution=h3.get_resolution(founder),
        cells=tuple(map(name_of, ordered)),
    )


@lru_cache(maxsize=65_536)
def neighbours(cell: int) -> tuple[int, ...]:
    """The five or six cells that share an edge with one."""
    return tuple(other for other in h3.grid_disk(cell, 1) if other != cell)


def outline(cells: Sequence[int]) -> tuple[tuple[float, float], ...] | None:
    """The outer ring of cells that touch, counter-clockwise from its southernmost vertex; None if it is too long to be printed.

    By H3's vertexes, of which neighbours share the indexes: no position is compared but to find where to begin. At a vertex three
    cells meet, so of the edges that are left one leads to it and one away. The southernmost vertex is on no hole's ring.
    """
    rings = (h3.cell_to_vertexes(cell) for cell in cells)
    edges = {edge for ring in rings for edge in zip(ring, (*ring[1:], ring[0]), strict=True)}
    onward = {start: end for start, end in edges if (end, start) not in edges}
    vertex = first = min(onward, key=lambda one: (h3.vertex_to_latlng(one)[0], one))
    ring = [first]
    while (vertex := onward[vertex]) != first:
        ring.append(vertex)
    if len(ring) > MOST_PRINTED:
        return None
    return tuple((round(lat, 7), round(lng, 7)) for lat, lng in map(h3.vertex_to_latlng, ring))


def _middle(points: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """(lat, lng) in degrees, the mean of points in 1e-7 degrees about the first one."""
    (lat, lng), n = points[0], len(points)
    by_lat = sum(point[0] - lat for point in points) // n
    by_lng = sum((point[1] - lng + HALF_TURN_E7) % (2 * HALF_TURN_E7) - HALF_TURN_E7 for point in points) // n
    east = (lng + by_lng + HALF_TURN_E7) % (2 * HALF_TURN_E7) - HALF_TURN_E7
    return (lat + by_lat) / 1e7, east / 1e7


def centroid(cell: int) -> tuple[float, float]:
    """(lat, lng) of a cell's centre, degrees rounded to 7 decimals."""
    lat, lng = h3.cell_to_latlng(cell)
    return round(lat, 7), round(lng, 7)


class Centres:
    """Centres of cells as they are printed, in 1e-7 degrees; those that were asked for once are remembered.

    _cell int64, _lat, _lng int32 (n,): by cell. A look-up of a hundred thousand costs a few ms, computing them a hundred.
    """

    def __init__(self) -> None:
        self._cell, self._lat, self._lng = np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32)

    def of(self, wanted: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(lat, lng) of n cells, int32 (n,)."""
        found = np.searchsorted(self._cell, wanted)
        known = np.take(np.append(self._cell, -1), found) == wanted
        if not known.all():
            self._learn(np.unique(wanted[~known]))
            found = np.searchsorted(self._cell, wanted)
        return self._lat[found], self._lng[found]

    def _learn(self, new: NDArray[np.int64]) -> None:
        at = np.array([e7(centroid(cell)) for cell in new.tolist()], np.int32)
        cell = np.concatenate((self._cell, new))
        order = np.argsort(cell)
        self._cell = cell[order]
        self._lat = np.concatenate((self._lat, at[:, 0]))[order]
        self._lng = np.concatenate((self._lng, at[:, 1]))[order]


def e7(centroid: tuple[float, float]) -> tuple[int, int]:
    """A printed (lat, lng) in 1e-7 degrees: it has seven decimals, so nothing is lost."""
    return round(centroid[0] * 1e7), round(centroid[1] * 1e7)


def name_of(cell: int) -> str:
    """The H3 index as H3 writes it: hex, lower case, without leading zeros."""
    return f"{cell:x}"


def hot_spot(positions: Iterable[tuple[float, float]]) -> tuple[int, int] | None:
    """(cell, positions in it) of the resolution-10 cell that holds most of the (lat, lng); of equals the smallest."""
    held = Counter(_hot_spot_of(lat, lng) for lat, lng in positions)
    return min(held.items(), key=lambda item: (-item[1], item[0])) if held else None


@lru_cache(maxsize=65_536)
def _hot_spot_of(lat: float, lng: float) -> int:
    """Remembered, because an update of an alert tells of bikes that the one before it told of."""
    return int(h3.latlng_to_cell(lat, lng, HOT_SPOT_RESOLUTION))
