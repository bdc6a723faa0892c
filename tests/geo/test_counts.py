"""Counts by (cell, operator), the table that gives pairs their slots, and the buckets in which bikes wait to expire."""

from __future__ import annotations

import h3.api.basic_int as h3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.cells import area_e4, cells_of, hot_spot, least_area_e4
from geo.counts import Counts, KeyTable, key_of
from geo.expiry import BUCKET_MS, Expiry
from geo.silence import Silence

KEYS = st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 40), max_size=60), max_size=8)


@given(batches=KEYS)
def test_a_key_table_is_a_dict_from_keys_to_their_order_of_insertion(batches: list[list[int]]) -> None:
    table, truth = KeyTable(), dict[int, int]()
    for batch in batches:
        keys = np.array(batch, np.uint64)
        assert table.lookup(keys).tolist() == [truth.get(key, -1) for key in batch]
        new = [key for key in dict.fromkeys(batch) if key not in truth]
        truth |= dict(zip(new, range(len(truth), len(truth) + len(new)), strict=True))
        table.insert(np.array(new, np.uint64))
        assert table.lookup(keys).tolist() == [truth[key] for key in batch]
    assert KeyTable(np.array([*truth], np.uint64)).lookup(np.array([*truth], np.uint64)).tolist() == [*truth.values()]


@pytest.mark.parametrize("resolution", [0, 5, 9, 15])
def test_cells_and_operators_have_a_key_of_their_own(resolution: int) -> None:
    random = np.random.default_rng(5)
    lat = random.integers(-900_000_000, 900_000_000, 3_000).astype(np.int32)
    lng = random.integers(-1_800_000_000, 1_800_000_000, 3_000).astype(np.int32)
    cells, operators = cells_of(lat, lng, resolution), random.integers(0, 4_096, 3_000)
    pairs = set(zip(cells.tolist(), operators.tolist(), strict=True))
    assert len(np.unique(key_of(cells, operators))) == len(pairs)


def test_bikes_are_counted_in_and_out_of_pairs() -> None:
    counts = Counts()
    cells, operators = np.array([7, 7, 8], np.int64), np.array([0, 1, 0], np.int16)
    pairs = counts.pairs(cells, operators)
    assert counts.change(pairs[:0], np.repeat(pairs, 2)).tolist() == sorted(pairs.tolist())
    counts.change(pairs[[0, 0]], pairs[[2]])
    assert counts.count[pairs].tolist() == [0, 2, 3]
    assert counts.by_operator(np.array([7, 8, 9], np.int64), 2).tolist() == [[0, 2], [3, 0], [0, 0]]


def test_compaction_keeps_what_it_is_told_to_keep_and_says_where_it_is_now() -> None:
    counts = Counts()
    cells = np.arange(100, dtype=np.int64)
    pairs = counts.pairs(cells, np.zeros(100, np.int16))
    counts.change(pairs[:0], pairs[50:60])
    new = counts.compact(counts.count[: counts.size] > 0)
    assert (counts.size, new[-1]) == (10, -1)
    assert new[pairs[50:60]].tolist() == counts.find(cells[50:60], np.zeros(10, np.int16)).tolist() == list(range(10))
    assert (new[pairs[:50]] == -1).all()
    assert counts.pairs(cells[:1], np.zeros(1, np.int16)).tolist() == [10]


def test_where_no_bike_ever_stood_there_is_none_also_if_no_pair_is_left() -> None:
    """A layer that was restored, or compacted, while it was empty is asked about other places when bikes are to be brought."""
    nothing = np.zeros(0, np.int64)
    restored, compacted = Counts.restore(nothing, nothing.astype(np.int16), nothing.astype(np.int32)), Counts()
    compacted.pairs(np.array([7], np.int64), np.zeros(1, np.int16))
    compacted.compact(np.zeros(1, np.bool_))
    for counts in (restored, compacted):
        assert counts.by_operator(np.array([7], np.int64), 2).tolist() == [[0, 0]]
        assert counts.size == 0 and len(counts.count) > 0
        pair = counts.pairs(np.array([8], np.int64), np.zeros(1, np.int16))
        counts.change(pair[:0], pair)
        assert counts.by_operator(np.array([7, 8], np.int64), 1).tolist() == [[0], [1]]


@pytest.mark.parametrize("resolution", range(0, 13))
def test_no_cell_is_smaller_than_the_least_one(resolution: int) -> None:
    pentagons = h3.get_pentagons(resolution)
    smallest = min(area_e4(cell) for pentagon in pentagons for cell in h3.grid_disk(pentagon, 1))
    assert 0.6 * smallest < least_area_e4(resolution) < smallest


def test_of_equally_full_cells_the_smallest_index_is_the_hot_spot() -> None:
    here, there = (39.9042, 116.4074), (39.92, 116.45)
    cells = [h3.latlng_to_cell(lat, lng, 10) for lat, lng in (here, there)]
    assert hot_spot([here, there]) == hot_spot([there, here]) == (min(cells), 1)
    assert hot_spot([here, there, here]) == (cells[0], 2)
    assert hot_spot([]) is None


HEARD = st.lists(st.tuples(st.integers(0, 1), st.integers(-400_000, 400_000)), min_size=1, max_size=40)
STEPS = st.lists(st.tuples(st.integers(0, 60), st.lists(st.integers(0, 39), max_size=5)), max_size=12)


@given(bikes=HEARD, steps=STEPS, ttl=st.integers(1, 300_000))
def test_a_bike_expires_at_the_first_tick_at_which_its_speaking_time_is_over(
    bikes: list[tuple[int, int]], steps: list[tuple[int, list[int]]], ttl: int
) -> None:
    silence = Silence(2, tick_ms=5_000, first=0)
    operators, spoken = np.array([op for op, _ in bikes], np.int16), np.array([h for _, h in bikes], np.int64)
    expiry, alive = Expiry(2), set(range(len(bikes)))
    expiry.file(operators, np.arange(len(bikes)), spoken)
    for ticks, heard_again in steps:
        silence.advance(silence.now + ticks + 1, np.ones(2, np.int64))
        for bike in heard_again:
            if bike < len(spoken):
                spoken[bike] = max(spoken[bike], silence.spoken[0] - BUCKET_MS // 2)
        over = {bike for bike in alive if silence.spoken[0] - spoken[bike] >= ttl}
        assert sorted(expiry.pop(silence, ttl, lambda slots: spoken[slots]).tolist()) == sorted(over)
        alive -= over
        due = expiry.deadline(silence, ttl)
        assert (due is None) == (not alive)
        if due is not None:
            first = min(int(spoken[bike]) for bike in alive) + ttl
            assert silence.now < due <= silence.now - (int(silence.spoken[0]) - first) // 5_000
