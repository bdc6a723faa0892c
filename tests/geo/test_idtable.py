"""The id table: each (operator, id) has one slot, and keeps it."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geo.idtable import IdTable, hashes_of
from geo.spans import Spans

Bike = tuple[int, str]


def spans(ids: list[str]) -> Spans:
    return Spans.of([id_.encode() for id_ in ids])


def slots(table: IdTable, bikes: list[Bike]) -> list[int]:
    operators, ids = np.array([operator for operator, _ in bikes], dtype=np.int16), spans([id_ for _, id_ in bikes])
    return list(map(int, table.slots(hashes_of(operators, ids), operators, ids)))


def names(table: IdTable) -> list[Bike]:
    return list(zip(table.operators.tolist(), table.ids(np.arange(len(table))), strict=True))


BIKES = st.lists(st.tuples(st.integers(0, 3), st.text("ab日é-", min_size=1, max_size=3)), max_size=40)


@given(st.lists(BIKES, max_size=6))
def test_a_bike_has_the_slot_that_it_was_given_first(batches: list[list[Bike]]) -> None:
    table, known = IdTable(), dict[Bike, int]()
    for batch in batches:
        for bike, slot in zip(batch, slots(table, batch), strict=True):
            assert known.setdefault(bike, slot) == slot
    assert sorted(known.values()) == list(range(len(table)))
    assert {bike: i for i, bike in enumerate(names(table))} == known


def test_the_same_id_of_two_operators_is_two_bikes() -> None:
    table = IdTable()
    assert len(set(slots(table, [(0, "1"), (1, "1"), (2, "1"), (0, "1")]))) == 3


def test_it_grows_from_one_batch_to_the_next_and_within_one() -> None:
    table, bikes = IdTable(), [(i % 5, f"bike-{i}") for i in range(20_000)]
    first = slots(table, bikes[:3]) + slots(table, bikes[3:])
    random.Random(1).shuffle(order := list(range(len(bikes))))
    assert slots(table, [bikes[i] for i in order]) == [first[i] for i in order]
    assert names(table)[first[12_345]] == bikes[12_345]


TEXTS = st.text(min_size=1, max_size=40) | st.text("01", min_size=1, max_size=128)


@given(st.lists(TEXTS, max_size=30))
def test_ids_share_a_hash_only_if_they_are_the_same_wherever_they_stand(ids: list[str]) -> None:
    hashes = hashes_of(np.zeros(len(ids), dtype=np.int16), spans(ids)).tolist()
    assert len(set(hashes)) == len(set(ids))
    for id_, hash_ in zip(ids, hashes, strict=True):
        assert hashes_of(np.zeros(1, dtype=np.int16), spans(["before", id_])[1:]).tolist() == [hash_]


def test_every_byte_of_an_id_and_its_length_count() -> None:
    for size in (1, 7, 8, 9, 31, 32, 33, 128, 512):
        near = [b"x" * size, *(b"x" * i + b"y" + b"x" * (size - i - 1) for i in range(size)), b"x" * (size - 1) or b"z"]
        hashes = hashes_of(np.zeros(len(near), dtype=np.int16), Spans.of(near))
        assert len(np.unique(hashes)) == len(near)


def test_an_id_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 512 bytes, got one of 513"):
        hashes_of(np.zeros(1, dtype=np.int16), Spans.of([b"x" * 513]))


def crowd(n: int) -> NDArray[np.int64]:
    """Different hashes that all want the same place."""
    return (np.arange(n) * 2 + 1) | (1 << 60)


def test_hashes_that_want_one_place_all_find_one() -> None:
    table, operators, ids = IdTable(), np.zeros(200, dtype=np.int16), [f"b{i}" for i in range(200)]
    first = table.slots(crowd(200)[:90], operators[:90], spans(ids[:90]))
    both = table.slots(crowd(200), operators, spans(ids))
    assert both[:90].tolist() == first.tolist()
    assert sorted(both.tolist()) == list(range(200))
    assert table.ids(both) == ids


def test_the_last_place_is_followed_by_the_first() -> None:
    table, ids = IdTable(), [f"b{i}" for i in range(50)]
    hashes = np.arange(50) * 2 + 1 + (np.int64(2**31 - 1) << 32)
    first = table.slots(hashes, np.zeros(50, dtype=np.int16), spans(ids))
    assert table.slots(hashes[::-1].copy(), np.zeros(50, dtype=np.int16), spans(ids[::-1])).tolist() == first[::-1].tolist()


def test_no_hash_is_the_mark_of_an_empty_place() -> None:
    assert (hashes_of(np.arange(-1, 100, dtype=np.int16), spans(["x"] * 101)) != 0).all()


@given(BIKES, st.randoms(use_true_random=False))
def test_forgetting_some_leaves_the_others_in_their_order(bikes: list[Bike], r: random.Random) -> None:
    table = IdTable()
    slots(table, bikes)
    before = names(table)
    keep = np.array([r.random() < 0.5 for _ in before], dtype=np.bool_)
    table.keep(keep)
    kept = [bike for bike, stays in zip(before, keep, strict=True) if stays]
    assert names(table) == kept
    assert slots(table, kept) == list(range(len(kept)))
    assert slots(table, [(7, "new")]) == [len(kept)]


@given(BIKES, st.randoms(use_true_random=False))
def test_packed_and_made_again_it_is_the_same(bikes: list[Bike], r: random.Random) -> None:
    table = IdTable()
    slots(table, bikes)
    keep = np.array([r.random() < 0.7 for _ in names(table)], dtype=np.bool_)
    kept = [bike for bike, stays in zip(names(table), keep, strict=True) if stays]
    again = IdTable.of(table.operators[keep], table.packed_ids(keep))
    assert names(again) == kept
    assert slots(again, kept) == list(range(len(kept)))


def test_ids_and_operators_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match="as many ids as operators are needed, got 1 and 2"):
        IdTable.of(np.zeros(2, dtype=np.int16), b"one\n")
