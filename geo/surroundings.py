"""What lies around an operator's bikes, remembered from plan to plan, as it hardly changes: who is within reach of whom, and which
areas a cell's centroid lies in. Nothing that is remembered changes an answer, so none of it is state.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geo.cells import Centres
from geo.counts import Counts
from geo.layers import Codes, Layer
from geo.reach import Pairs, pairs_within
from geo.roster import Key
from geo.states import STATES

_AVAILABLE = STATES.index("available")
_UNKNOWN = -2

Numbers = NDArray[np.int64]
Coordinates = NDArray[np.int32]
Point = tuple[int, int]


class Surroundings:
    """The cells of one table in which an operator ever had bikes, n of them, numbered as they were found.

    slot, cell: int64 (n,); lat, lng: int32 (n,), their centroids, 1e-7 degrees.
    """

    slot: Numbers
    cell: Numbers
    lat: Coordinates
    lng: Coordinates
    _reach_m: int
    _near: dict[Point, tuple[Numbers, Numbers]]  # (numbers, metres) by H3 index
    _codes: dict[tuple[Key, int], tuple[Layer, Codes]]

    def __init__(self, operator: int, centres: Centres) -> None:
        self._operator, self._centres = operator, centres
        self._forget()

    def refresh(self, table: Counts) -> None:
        """The table may have changed: new pairs at its end, or all of them numbered anew."""
        owners = table.operators[: table.size]
        mine = np.flatnonzero(owners == self._operator)
        known = len(self.slot)
        if (
            known > len(mine)
            or not np.array_equal(mine[:known], self.slot)
            or not np.array_equal(table.codes[self.slot], self.cell)
        ):
            self._forget()
            known = 0
        if known < len(mine):
            self._learn(mine[known:], table.codes[mine[known:]])

    def near(self, origins: list[Point], max_haul_m: int) -> Pairs:
        """All (origin, cell) within reach, ascending by (origin, H3 index); `place` is the cell's number."""
        if max_haul_m != self._reach_m:
            self._reach_m, self._near = max_haul_m, {}
        near = {point: self._near[point] for point in origins if point in self._near}  # what nobody asks for is forgotten
        missing = sorted(set(origins) - near.keys())
        self._near = near | dict(zip(missing, self._measure(missing, np.arange(len(self.cell))), strict=True))
        found = [self._near[point] for point in origins]
        return Pairs(
            np.repeat(np.arange(len(origins)), [len(place) for place, _ in found]),
            np.concatenate([np.zeros(0, np.int64), *(place for place, _ in found)]),
            np.concatenate([np.zeros(0, np.int64), *(distance_m for _, distance_m in found)]),
        )

    def codes(self, key: Key, layer: Layer, kind: int, numbers: Numbers) -> Codes:
        """In which area of a layer a bike of a type would count at the centroids of some cells, int64 (k,). key: the layer's."""
        layer_before, codes = self._codes.get((key, kind), (None, np.zeros(0, np.int64)))
        if layer_before is not layer:
            codes = codes[:0]
        if len(codes) < len(self.cell):
            codes = np.concatenate((codes, np.full(len(self.cell) - len(codes), _UNKNOWN)))
        new = numbers[codes[numbers] == _UNKNOWN]
        if len(new):
            codes[new] = codes_at(layer, self._operator, kind, self.lat[new], self.lng[new])
        self._codes[key, kind] = (layer, codes)
        return codes[numbers]

    def _forget(self) -> None:
        self.slot, self.cell = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.lat, self.lng = np.zeros(0, np.int32), np.zeros(0, np.int32)
        self._reach_m = 0
        self._near, self._codes = {}, {}

    def _learn(self, slot: Numbers, cell: Numbers) -> None:
        lat, lng = self._centres.of(cell)
        new = np.arange(len(self.cell), len(self.cell) + len(cell))
        self.slot, self.cell = np.concatenate((self.slot, slot)), np.concatenate((self.cell, cell))
        self.lat, self.lng = np.concatenate((self.lat, lat)), np.concatenate((self.lng, lng))
        points = list(self._near)
        for point, more in zip(points, self._measure(points, new), strict=True):
            if len(more[0]):
                place, distance_m = (np.concatenate(columns) for columns in zip(self._near[point], more, strict=True))
                by_cell = np.argsort(self.cell[place])
                self._near[point] = place[by_cell], distance_m[by_cell]

    def _measure(self, origins: list[Point], numbers: Numbers) -> list[tuple[Numbers, Numbers]]:
        """Of each origin: which of these cells are within reach, and how far, by H3 index."""
        if not origins:
            return []
        by_cell = numbers[np.argsort(self.cell[numbers])]
        at = np.array(origins, np.int32)
        pairs = pairs_within((at[:, 0], at[:, 1]), (self.lat[by_cell], self.lng[by_cell]), self._reach_m * 1000)
        ends = np.searchsorted(pairs.origin, np.arange(1, len(origins)))
        return list(zip(np.split(by_cell[pairs.place], ends), np.split(pairs.distance_m, ends), strict=True))


def codes_at(layer: Layer, operator: int, kind: int, lat: Coordinates, lng: Coordinates) -> Codes:
    """In which area a bike of a type that is available would count at n points."""
    n = len(lat)
    rows: dict[str, NDArray[Any]] = {
        "lat": lat,
        "lng": lng,
        "state": np.full(n, _AVAILABLE, np.uint8),
        "vehicle": np.full(n, kind, np.uint8),
    }
    return layer.codes(rows, np.full(n, operator, np.int16))
