"""How many bikes of an operator stand in an area, for each (area, operator) pair that was ever occupied.

Areas are those of one layer (`geo/layers.py`), by code: H3 cells of one resolution, or what a policy's rules count in.

A pair has a dense slot, so that counts, thresholds and the bikes' own pairs are plain arrays. Cost follows what changes:
nothing here walks over all pairs but compaction and restore.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.int32]

NOWHERE = -1
"""The pair of a bike that does not stand."""

OPERATOR_BITS = 12
FEW_PAIRS = 4096  # are not worth a compaction
INDEX_BITS = np.uint64((1 << 52) - 1)  # of an H3 index, below mode and resolution
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: Fibonacci hashing


def key_of(codes: NDArray[np.int64], operators: NDArray[np.integer]) -> NDArray[np.uint64]:
    """One word for an area (a cell of one known resolution, or a code below 2**52) and an operator below 4096: uint64 (n,)."""
    index = codes.view(np.uint64) & INDEX_BITS
    return index << np.uint64(OPERATOR_BITS) | operators.astype(np.uint64)


class KeyTable:
    """Slots 0, 1, 2… of uint64 keys in order of insertion: an open-addressing table, looked up many keys at a time.

    A dict of Python integers costs 80 bytes a pair and a cache miss under the interpreter for each of them; this costs
    16 to 24 bytes. Keys are never removed one by one: whoever drops some makes a new table of those that stay.
    """

    def __init__(self, keys: NDArray[np.uint64] | None = None) -> None:
        self.size = 0 if keys is None else len(keys)
        self._keys = np.zeros(max(16, self.size), np.uint64)
        if keys is not None:
            self._keys[: self.size] = keys
        self._rebuild()

    def lookup(self, keys: NDArray[np.uint64]) -> Slots:
        """Slots int32 (n,) of n keys; -1 where a key is not there."""
        found = np.full(len(keys), -1, np.int32)
        place = self._place(keys)
        asked = np.arange(len(keys))
        while len(asked):
            slots = self._table[place]
            taken = slots >= 0
            match = taken & (self._keys[slots] == keys[asked])
            found[asked[match]] = slots[match]
            onward = taken & ~match
            asked, place = asked[onward], (place[onward] + 1) & self._mask
        return found

    def insert(self, keys: NDArray[np.uint64]) -> Slots:
        """Slots int32 (n,) of n distinct keys that are not there yet."""
        slots = np.arange(self.size, self.size + len(keys), dtype=np.int32)
        if self.size + len(keys) > len(self._keys):
            grown = np.zeros((self.size + len(keys)) * 3 // 2, np.uint64)
            grown[: self.size] = self._keys[: self.size]
            self._keys = grown
        self._keys[slots] = keys
        self.size += len(keys)
        if 2 * self.size > len(self._table):
            self._rebuild()
        else:
            self._settle(slots)
        return slots

    def _place(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        return ((keys * _MIX) >> self._shift).astype(np.int64)

    def _rebuild(self) -> None:
        bits = max(6, (3 * self.size).bit_length())
        self._table = np.full(1 << bits, -1, np.int32)
        self._mask = (1 << bits) - 1
        self._shift = np.uint64(64 - bits)
        self._settle(np.arange(self.size, dtype=np.int32))

    def _settle(self, slots: Slots) -> None:
        """Give each slot a place of the table; of several that want one place, one gets it and the others go on."""
        place = self._place(self._keys[slots])
        while len(slots):
            free = self._table[place] < 0
            self._table[place[free]] = slots[free]
            onward = self._table[place] != slots
            slots, place = slots[onward], (place[onward] + 1) & self._mask


class Counts:
    """Standing bikes per (area, operator) of one layer.

    codes      int64 (capacity,)  area of each pair; `size` of them are in use
    operators  int16 (capacity,)  index into Timeline.operators
    count      int32 (capacity,)
    """

    def __init__(self) -> None:
        self.codes = np.zeros(64, np.int64)
        self.operators = np.zeros(64, np.int16)
        self.count = np.zeros(64, np.int32)
        self._table = KeyTable()
        self._look_at = FEW_PAIRS

    @property
    def size(self) -> int:
        return self._table.size

    def pairs(self, codes: NDArray[np.int64], operators: NDArray[np.int16]) -> Slots:
        """Slots int32 (n,) of n pairs; those that are new get one."""
        keys = key_of(codes, operators)
        slots = self._table.lookup(keys)
        missing = np.flatnonzero(slots < 0)
        if len(missing):
            new, first, inverse = np.unique(keys[missing], return_index=True, return_inverse=True)
            given = self._table.insert(new)
            self._fit()
            self.codes[given] = codes[missing][first]
            self.operators[given] = operators[missing][first]
            slots[missing] = given[inverse]
        return slots

    def find(self, codes: NDArray[np.int64], operators: NDArray[np.int16]) -> Slots:
        """Slots int32 (n,) of n pairs; -1 for those that never were."""
        return self._table.lookup(key_of(codes, operators))

    def change(self, left: Slots, entered: Slots) -> Slots:
        """Count bikes out of pairs and into others (a slot may stand there many times); the pairs touched, once each."""
        slots, inverse = np.unique(np.concatenate((left, entered)), return_inverse=True)
        change = np.bincount(inverse[len(left) :], minlength=len(slots))
        change -= np.bincount(inverse[: len(left)], minlength=len(slots))
        self.count[slots] += change.astype(np.int32)
        return slots

    def by_operator(self, codes: NDArray[np.int64], operators: int) -> NDArray[np.int64]:
        """Bikes of each operator (0 to operators - 1) in n areas: int64 (n, operators)."""
        everyone = np.tile(np.arange(operators, dtype=np.int16), len(codes))
        slots = self.find(np.repeat(codes, operators), everyone)
        return np.asarray(np.where(slots >= 0, self.count[slots], 0).reshape(len(codes), operators), np.int64)

    def wasted(self) -> bool:
        """Whether most pairs stand empty, so that compaction pays. Looks only when a quarter more than last time exist."""
        if self.size < self._look_at:
            return False
        self._look_at = max(FEW_PAIRS, self.size * 5 // 4)
        return 2 * int(np.count_nonzero(self.count[: self.size])) < self.size

    def compact(self, keep: NDArray[np.bool_]) -> Slots:
        """Drop the pairs that `keep`: bool (size,) does not name; int32 (size + 1,): the new slot of each old one.

        Dropped pairs become -1, and so does slot -1.
        """
        old = np.flatnonzero(keep)
        renumbered = np.full(self.size + 1, NOWHERE, np.int32)
        renumbered[old] = np.arange(len(old), dtype=np.int32)
        self.codes, self.operators = _with_room(self.codes[old]), _with_room(self.operators[old])
        self.count = _with_room(self.count[old])
        self._table = KeyTable(key_of(self.codes[: len(old)], self.operators[: len(old)]))
        return renumbered

    @classmethod
    def restore(cls, codes: NDArray[np.int64], operators: NDArray[np.int16], count: Slots) -> Counts:
        """Counts of these pairs, their slots in the order given."""
        self = cls()
        self.codes, self.operators, self.count = _with_room(codes), _with_room(operators), _with_room(count)
        self._table = KeyTable(key_of(codes, operators))
        return self

    def _fit(self) -> None:
        if self.size > len(self.count):
            more = self.size // 2 + self.size - len(self.count)
            self.codes = np.concatenate((self.codes, np.zeros(more, np.int64)))
            self.operators = np.concatenate((self.operators, np.zeros(more, np.int16)))
            self.count = np.concatenate((self.count, np.zeros(more, np.int32)))


def _with_room(column: NDArray[Any]) -> NDArray[Any]:
    """A copy with one place more: whoever looks up a pair that is not there looks at the last place, so there must be one."""
    return np.concatenate((column, np.zeros(1, column.dtype)))
