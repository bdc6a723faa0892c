"""Bikes by (operator, id): an open-addressing table in numpy, because a dict of a million strings is bound by the cache.

A bike's slot is its number in arrays. The table holds 64 bits of Python's own hash of the id, mixed with the operator;
two bikes of a million share one with a chance of 3e-8, and no id is compared at a hit. The hash differs from process to
process, so it is never written down: only slots that nothing outside may depend on come from it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.int64]

_MIX = np.int64(-7046029254386353131)  # 2**64 / golden ratio, odd: spreads small operator numbers over all bits
_LEAST = 1024
_FULLEST = 0.7
_GROWTH = 1.5


class IdTable:
    """Slots 0 to n - 1 of n bikes, in order of their first sight. Ids hold no line break and are not empty.

    About 27 bytes a bike, and the id's own in one arena.
    """

    def __init__(self) -> None:
        self._table = np.zeros((_LEAST, 2), dtype=np.int64)  # (hash, slot); hash 0: empty, no bike has it
        self._arena = bytearray()  # ids, each with a line break behind it
        self._ends = np.zeros(0, dtype=np.int64)  # where each ends in the arena, line break included
        self._operators = np.zeros(0, dtype=np.int16)
        self._n = 0

    def __len__(self) -> int:
        return self._n

    @property
    def operators(self) -> NDArray[np.int16]:
        """int16 (n,): operator by slot."""
        return self._operators[: self._n]

    def memory(self) -> int:
        """Bytes taken."""
        return self._table.nbytes + self._ends.nbytes + self._operators.nbytes + sys.getsizeof(self._arena)

    def slots(self, hashes: NDArray[np.int64], operators: NDArray[np.int16], ids: Sequence[str]) -> Slots:
        """The slots of n bikes, int64 (n,); those not seen before get the next free ones. hashes: as `hashes_of` gives."""
        slots = self._find(hashes)
        missing = np.flatnonzero(slots < 0)
        if missing.size:
            slots[missing] = self._add(hashes[missing], operators[missing], [ids[i] for i in missing.tolist()])
        return slots

    def ids(self, slots: Slots) -> list[str]:
        """The ids of m slots."""
        ends = self._ends[slots].tolist()
        starts = np.where(slots > 0, self._ends[slots - 1], 0).tolist()
        arena = self._arena
        return [arena[start : end - 1].decode() for start, end in zip(starts, ends, strict=True)]

    def packed_ids(self, keep: NDArray[np.bool_]) -> bytes:
        """The ids of the slots to keep, bool (n,), in order of slots, each with a line break behind it."""
        if keep.all():
            return bytes(self._arena)
        lengths = np.diff(self._ends[: self._n], prepend=0)
        return np.frombuffer(self._arena, dtype=np.uint8)[np.repeat(keep, lengths)].tobytes()

    @classmethod
    def of(cls, operators: NDArray[np.int16], packed_ids: bytes) -> IdTable:
        """A table of n bikes, slots in order; the ids as `packed_ids` gives them."""
        table = cls()
        ids = packed_ids.decode().split("\n")[:-1]
        if len(ids) != len(operators):
            raise ValueError(f"as many ids as operators are needed, got {len(ids)} and {len(operators)}")
        if ids:
            table._append(operators, ids)
            table._rebuild(hashes_of(operators, ids), np.arange(len(ids)))
        return table

    def keep(self, keep: NDArray[np.bool_]) -> None:
        """Forget the other slots; those kept are renumbered, their order stays. bool (n,)."""
        arena = bytearray(self.packed_ids(keep))
        lengths = np.diff(self._ends[: self._n], prepend=0)[keep]
        operators = self.operators[keep]
        used = self._table[self._table[:, 0] != 0]
        used = used[keep[used[:, 1]]]
        self._arena, self._ends, self._operators, self._n = arena, np.cumsum(lengths), operators, len(lengths)
        self._rebuild(used[:, 0].copy(), (np.cumsum(keep) - 1)[used[:, 1]])

    def _find(self, hashes: NDArray[np.int64]) -> Slots:
        """Slots of n hashes, -1 where there is none. Linear probing; each round handles those not settled yet."""
        table, size = self._table, len(self._table)
        position = _position(hashes, size)
        found = table.take(position, axis=0)
        slots = found[:, 1].copy()
        left = np.flatnonzero(found[:, 0] != hashes)
        found = found[left]
        while left.size:
            empty = found[:, 0] == 0
            slots[left[empty]] = -1
            left = left[~empty]
            position[left] = (position[left] + 1) % size
            found = table.take(position[left], axis=0)
            hit = found[:, 0] == hashes[left]
            slots[left[hit]] = found[hit, 1]
            left, found = left[~hit], found[~hit]
        return slots

    def _add(self, hashes: NDArray[np.int64], operators: NDArray[np.int16], ids: list[str]) -> Slots:
        """Slots for bikes not in the table; one bike may come several times."""
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        slots = np.arange(self._n, self._n + len(first))
        self._append(operators[first], [ids[i] for i in first.tolist()])
        if self._n > _FULLEST * len(self._table):
            used = self._table[self._table[:, 0] != 0]
            self._rebuild(np.concatenate((used[:, 0], hashes[first])), np.concatenate((used[:, 1], slots)))
        else:
            self._insert(hashes[first], slots)
        return slots[inverse]

    def _append(self, operators: NDArray[np.int16], ids: list[str]) -> None:
        n = self._n + len(ids)
        text = "\n".join(ids) + "\n"
        lengths = map(len, ids) if text.isascii() else (len(id_.encode()) for id_ in ids)
        if n > len(self._ends):
            more = max(_LEAST, n // 4, n - len(self._ends))
            self._ends = np.concatenate((self._ends, np.zeros(more, dtype=np.int64)))
            self._operators = np.concatenate((self._operators, np.zeros(more, dtype=np.int16)))
        ends = np.cumsum(np.fromiter(lengths, dtype=np.int64, count=len(ids)) + 1)
        self._ends[self._n : n] = ends + len(self._arena)
        self._operators[self._n : n] = operators
        self._arena += text.encode()
        self._n = n

    def _rebuild(self, hashes: NDArray[np.int64], slots: Slots) -> None:
        size = max(_LEAST, int(len(hashes) / _FULLEST * _GROWTH))
        self._table = np.zeros((size, 2), dtype=np.int64)
        self._insert(hashes, slots)

    def _insert(self, hashes: NDArray[np.int64], slots: Slots) -> None:
        """Put distinct hashes that are not in the table. Of several that want one place the last one has it."""
        table, size = self._table, len(self._table)
        position = _position(hashes, size)
        left = np.arange(len(hashes))
        while left.size:
            want = position[left]
            free = table[want, 0] == 0
            table[want[free], 0] = hashes[left[free]]
            mine = table[want, 0] == hashes[left]
            table[want[mine], 1] = slots[left[mine]]
            left = left[~mine]
            position[left] = (position[left] + 1) % size


def hashes_of(operators: NDArray[np.int16], ids: Sequence[str]) -> NDArray[np.int64]:
    """int64 (n,). Cheapest right after the ids were made, while they are in the cache."""
    hashes = np.fromiter(map(hash, ids), dtype=np.int64, count=len(ids))
    hashes ^= (operators.astype(np.int64) + 1) * _MIX
    hashes |= 1  # 0 marks an empty place
    return hashes


def _position(hashes: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Where to look first: the upper half of the hash, scaled to the table's size (any size will do)."""
    return ((hashes >> 32) + 2**31) * size >> 32
