"""Which city a point is in: exact, and for most points the cost of two gathers.

The plane of (lat, lng) is cut into square cells of 2**13 e-7 degrees (90 m) or more. A cell that lies wholly inside one
city, or outside of all, answers for its points; in a cell that a border crosses the polygons are asked. Cells come in
pages of 64 x 64, and pages without a border are one shared page each, so that a country costs little more than its rim.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

Boundary = tuple[tuple[tuple[tuple[int, int], ...], ...], ...]
"""Polygons of rings (outer first) of (lat_e7, lng_e7), not closed; as in geo.params.City."""

_PAGE_BITS = 6
_STEP_BITS = 3  # a page is refined in two steps of 8 x 8
_FINEST_BITS = 13
_MOST_PAGES = 2**20  # of the index
_MOST_TRIED = 2**15  # pages that may hold something of a city
_MOST_CROSSED = 1024  # pages with cells of their own, 8 KiB each
_MARGIN = 16  # units of 1e-7 degree: far above the rounding of any predicate, far below a cell
_CROSSED = -1

Points = NDArray[np.int32]
Corners = NDArray[np.int64]


class Borders:
    """Cities by number: a point that several cover is of the lowest. The border belongs to the city."""

    def __init__(self, cities: Sequence[tuple[int, Boundary]]) -> None:
        """cities: (number > 0, boundary), by name."""
        polygons = [(number, polygon) for number, boundary in sorted(cities) for polygon in _polygons(boundary)]
        self._numbers = np.array([number for number, _ in polygons], dtype=np.int16)
        self._polygons = np.array([polygon for _, polygon in polygons], dtype=object)
        shapely.prepare(self._polygons)
        self._tree = shapely.STRtree(self._polygons)
        if polygons:
            self._lay_out()

    def city_of(self, lat: Points, lng: Points) -> NDArray[np.int16]:
        """Numbers of the cities that n points in 1e-7 degrees are in, 0 for none; int16 (n,)."""
        if not len(self._polygons):
            return np.zeros(len(lat), dtype=np.int16)
        bits, page_bits = self._bits, self._bits + _PAGE_BITS
        y = np.subtract(lat, self._south, dtype=np.int64)
        x = np.subtract(lng, self._west, dtype=np.int64)
        rows, columns = self._index.shape
        page_y = np.clip(y >> page_bits, 0, rows - 1)  # the outermost pages are empty on purpose
        page_x = np.clip(x >> page_bits, 0, columns - 1)
        page = self._index.take(page_y * columns + page_x)
        inner = (1 << _PAGE_BITS) - 1
        cell = (((y >> bits) & inner) << _PAGE_BITS) | ((x >> bits) & inner)
        city: NDArray[np.int16] = self._pages.take((page << 2 * _PAGE_BITS) | cell)
        crossed = np.flatnonzero(city == _CROSSED)
        if crossed.size:
            city[crossed] = self._ask(lat[crossed], lng[crossed])
        return city

    def _ask(self, lat: Points, lng: Points) -> NDArray[np.int16]:
        """What the polygons themselves say."""
        points = shapely.points(lng, lat)
        point, polygon = self._tree.query(points)
        covered = shapely.intersects(self._polygons[polygon], points[point])
        point, number = point[covered], self._numbers[polygon[covered]]
        city = np.full(len(points), np.iinfo(np.int16).max, dtype=np.int16)
        np.minimum.at(city, point, number)
        city[city == np.iinfo(np.int16).max] = 0
        return city

    def _lay_out(self) -> None:
        """Fill the pages; the cells are as small as memory and the time for this allow."""
        bounds = shapely.bounds(self._polygons).astype(np.int64)  # west, south, east, north
        self._bits = _FINEST_BITS
        while not self._try_out(bounds):
            self._bits += 1

    def _try_out(self, bounds: NDArray[np.int64]) -> bool:
        side = 1 << self._page_bits
        self._west, self._south = (bounds[:, :2].min(axis=0) - side - 2 * _MARGIN).tolist()
        x, y = bounds[:, ::2] - self._west >> self._page_bits, bounds[:, 1::2] - self._south >> self._page_bits
        rows, columns = int(y.max()) + 2, int(x.max()) + 2
        spans = [(range(y0, y1 + 1), range(x0, x1 + 1)) for (y0, y1), (x0, x1) in zip(y.tolist(), x.tolist(), strict=True)]
        if rows * columns > _MOST_PAGES or sum(len(ys) * len(xs) for ys, xs in spans) > _MOST_TRIED:
            return False
        tried = np.unique(np.concatenate([np.add.outer(np.array(ys) * columns, np.array(xs)).reshape(-1) for ys, xs in spans]))
        south, west = self._south + tried // columns * side, self._west + tried % columns * side
        city = self._classify(south, west, side)
        crossed = city == _CROSSED
        if crossed.sum() > _MOST_CROSSED:
            return False
        numbers = np.unique(city[~crossed])
        index = np.zeros(rows * columns, dtype=np.int64)  # page 0 lies outside of all
        index[tried[~crossed]] = np.searchsorted(numbers, city[~crossed]) + 1
        index[tried[crossed]] = np.arange(crossed.sum()) + len(numbers) + 1
        whole = np.repeat(np.append(0, numbers).astype(np.int16), 1 << 2 * _PAGE_BITS)
        self._index = index.reshape(rows, columns)
        self._pages = np.concatenate((whole, self._refine(south[crossed], west[crossed]).reshape(-1)))
        return True

    @property
    def _page_bits(self) -> int:
        return self._bits + _PAGE_BITS

    def _refine(self, south: Corners, west: Corners) -> NDArray[np.int16]:
        """Cells of m pages that a border crosses, int16 (m, 4096), rows from the south."""
        blocks = _split(south, west, 1 << self._page_bits - _STEP_BITS)
        coarse = self._classify(*blocks, 1 << self._page_bits - _STEP_BITS)
        crossed = np.flatnonzero(coarse == _CROSSED)
        cells = np.repeat(coarse, 1 << 2 * _STEP_BITS).reshape(-1, 1 << 2 * _STEP_BITS)
        fine = self._classify(*_split(blocks[0][crossed], blocks[1][crossed], 1 << self._bits), 1 << self._bits)
        cells[crossed] = fine.reshape(len(crossed), -1)
        step = 1 << _STEP_BITS
        return cells.reshape(-1, step, step, step, step).transpose(0, 1, 3, 2, 4).reshape(-1, 1 << 2 * _PAGE_BITS)

    def _classify(self, south: Corners, west: Corners, side: int) -> NDArray[np.int16]:
        """Of n squares: the city that each lies wholly in, 0 if it lies outside of all, else _CROSSED. int16 (n,)."""
        boxes = shapely.box(west - _MARGIN, south - _MARGIN, west + side + _MARGIN, south + side + _MARGIN)
        state = np.zeros(len(boxes), dtype=np.int16)
        for number, polygon, index in self._touching(boxes):
            open_ = index[state[index] == 0]  # a city before has the square, or its border crosses it
            inside = shapely.contains_properly(polygon, boxes[open_])
            state[open_] = np.where(inside, number, _CROSSED)
        return state

    def _touching(self, boxes: NDArray[np.object_]) -> Iterator[tuple[int, shapely.Polygon, NDArray[np.int64]]]:
        """Each polygon with the boxes that it meets."""
        box, polygon = self._tree.query(boxes)
        for i in np.unique(polygon).tolist():
            near = box[polygon == i]
            yield int(self._numbers[i]), self._polygons[i], near[shapely.intersects(self._polygons[i], boxes[near])]


def _polygons(boundary: Boundary) -> list[shapely.Polygon]:
    """Polygons in the plane (lng, lat) of 1e-7 degrees: integers, so nothing is rounded."""
    swapped = [[[(lng, lat) for lat, lng in ring] for ring in rings] for rings in boundary]
    return [shapely.Polygon(rings[0], rings[1:]) for rings in swapped]


def _split(south: Corners, west: Corners, side: int) -> tuple[Corners, Corners]:
    """South-western corners of the 8 x 8 squares of a side in each of m greater squares, int64 (64 m,)."""
    y, x = np.divmod(np.arange(1 << 2 * _STEP_BITS), 1 << _STEP_BITS)
    return (south[:, None] + y * side).reshape(-1), (west[:, None] + x * side).reshape(-1)
