"""What is remembered of an operator's surroundings is what one would find without remembering."""

from __future__ import annotations

import h3.api.basic_int as h3
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geo.cells import Centres
from geo.counts import Counts
from geo.layers import Cells
from geo.reach import pairs_within
from geo.surroundings import Point, Surroundings, codes_at

HOME = h3.latlng_to_cell(39.9, 116.4, 9)
CELLS = np.array(sorted(h3.grid_disk(HOME, 6)), np.int64)
BICYCLE = 1


def at(cell: int) -> Point:
    lat, lng = h3.cell_to_latlng(cell)
    return round(lat * 1e7), round(lng * 1e7)


@st.composite
def changes(draw: st.DrawFn) -> tuple[list[tuple[int, int]], bool, list[int], int]:
    """Pairs that get a bike, whether empty ones are given up afterwards, origins, and how far is near."""
    pairs = draw(st.lists(st.tuples(st.integers(0, len(CELLS) - 1), st.integers(0, 1)), max_size=8))
    origins = draw(st.lists(st.integers(0, len(CELLS) - 1), min_size=1, max_size=5))
    return pairs, draw(st.booleans()), origins, draw(st.sampled_from([600, 600, 1_500]))


@given(st.lists(changes(), max_size=6))
def test_what_is_remembered_is_what_there_is(steps: list[tuple[list[tuple[int, int]], bool, list[int], int]]) -> None:
    table, around, centres, layers = Counts(), Surroundings(1, Centres()), Centres(), [Cells(8), Cells(8)]
    for step, (pairs, compacts, origins, reach_m) in enumerate(steps):
        cells, operators = CELLS[[cell for cell, _ in pairs]], np.array([operator for _, operator in pairs], np.int16)
        slots = table.pairs(cells, operators)
        table.change(slots[:0], slots)
        if compacts:
            table.compact(np.arange(table.size) % 3 != step % 3)
        around.refresh(table)
        mine = np.sort(table.codes[: table.size][table.operators[: table.size] == 1])
        assert np.array_equal(np.sort(around.cell), mine)
        points = [at(int(CELLS[origin])) for origin in origins]
        near = around.near(points, reach_m)
        lat, lng = (np.array(axis, np.int32) for axis in zip(*points, strict=True))
        there = pairs_within((lat, lng), centres.of(mine), reach_m * 1000)
        assert near.origin.tolist() == there.origin.tolist()
        assert around.cell[near.place].tolist() == mine[there.place].tolist()
        assert near.distance_m.tolist() == there.distance_m.tolist()
        asked = np.arange(len(around.cell))[:: step + 1]
        layer = layers[step % 2]
        codes = around.codes("key", layer, BICYCLE, asked)
        assert codes.tolist() == codes_at(layer, 1, BICYCLE, *(axis[asked] for axis in (around.lat, around.lng))).tolist()
