"""Bikes by (operator, id): an open-addressing table in numpy, because a dict of a million strings is bound by the cache.

A bike's slot is its number in arrays. The table holds 63 bits of a hash of the id's bytes, mixed with the operator;
two bikes of a million share one with a chance of 5e-8, and no id is compared at a hit. The keys of the hash differ from process
to process, so nobody can make ids that collide, and it is never written down: only slots that nothing outside may depend on
come from it.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from geo.spans import Spans, blocks

Slots = NDArray[np.int64]

_MIX = np.int64(-7046029254386353131)  # 2**64 / golden ratio, odd: spreads small operator numbers over all bits
_LONGEST_ID = 512
_BLOCK = 4  # words looked at at a time
_32, _RIGHT_HALF = np.uint64(32), np.uint64(2**32 - 1)
_FIRST_BYTES = np.array([2 ** (8 * n) - 1 for n in range(9)], dtype=np.uint64)
# Python's hash of a text is keyed by a secret of the process (PEP 456): random to everybody who does not know it.
_KEYS = np.array([hash(f"key {i}") for i in range(2 * (2 + _LONGEST_ID // 4))]).view(np.uint64).reshape(2, -1)
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

    def slots(self, hashes: NDArray[np.int64], operators: NDArray[np.int16], ids: Spans) -> Slots:
        """The slots of n bikes, int64 (n,); those not seen before get the next free ones. hashes: as `hashes_of` gives."""
        slots = self._find(hashes)
        missing = np.flatnonzero(slots < 0)
        if missing.size:
            slots[missing] = self._add(hashes[missing], operators[missing], ids[missing])
        return slots

    def ids(self, slots: Slots) -> list[str]:
        """The ids of m slots."""
        ends = self._ends[slots]
        sizes = ends - np.where(slots > 0, self._ends[slots - 1], 0)
        first = np.cumsum(sizes) - sizes  # where each is to stand
        text = np.frombuffer(self._arena, dtype=np.uint8)[np.repeat(ends - sizes - first, sizes) + np.arange(sizes.sum())]
        return text.tobytes().decode().split("\n")[:-1]

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
        ids = Spans.of_lines(packed_ids)
        if len(ids) != len(operators):
            raise ValueError(f"as many ids as operators are needed, got {len(ids)} and {len(operators)}")
        if len(ids):
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

    def _add(self, hashes: NDArray[np.int64], operators: NDArray[np.int16], ids: Spans) -> Slots:
        """Slots for bikes not in the table; one bike may come several times."""
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        slots = np.arange(self._n, self._n + len(first))
        self._append(operators[first], ids[first])
        if self._n > _FULLEST * len(self._table):
            used = self._table[self._table[:, 0] != 0]
            self._rebuild(np.concatenate((used[:, 0], hashes[first])), np.concatenate((used[:, 1], slots)))
        else:
            self._insert(hashes[first], slots)
        return slots[inverse]

    def _append(self, operators: NDArray[np.int16], ids: Spans) -> None:
        n = self._n + len(ids)
        if n > len(self._ends):
            more = max(_LEAST, n // 4, n - len(self._ends))
            self._ends = np.concatenate((self._ends, np.zeros(more, dtype=np.int64)))
            self._operators = np.concatenate((self._operators, np.zeros(more, dtype=np.int16)))
        self._ends[self._n : n] = np.cumsum(ids.size + 1) + len(self._arena)
        self._operators[self._n : n] = operators
        self._arena += b"\n".join([*ids.tolist(), b""])
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


def hashes_of(operators: NDArray[np.int16], ids: Spans) -> NDArray[np.int64]:
    """int64 (n,). Ids of at most 512 bytes.

    Twice the upper half of the multilinear hash of the id's 32-bit words and its length, each strongly universal: two ids share
    one with a chance of 2**-32, whatever they are, as long as the keys are not known (D. Lemire and O. Kaser, "Strongly
    universal string hashing is fast", The Computer Journal 57, 2014, section 2).
    """
    high, low = (key[0] + key[1] * ids.size.view(np.uint64) for key in _KEYS)
    longest, shortest = int(ids.size.max(initial=0)), int(ids.size.min(initial=_LONGEST_ID))
    if longest > _LONGEST_ID:
        raise ValueError(f"an id must have at most {_LONGEST_ID} bytes, got one of {longest}")
    for at in range(0, longest, 8 * _BLOCK):
        wanted = min(_BLOCK, (longest - at + 7) // 8)
        words = blocks(ids.buffer, np.minimum(ids.start + at, len(ids.buffer) - 8 * wanted), wanted)
        for j in range(wanted):
            word, first = words[j], at + 8 * j
            if shortest < first + 8:
                word = word & _FIRST_BYTES.take(np.clip(ids.size - first, 0, 8))
            left, right = word & _RIGHT_HALF, word >> _32
            k = 2 + first // 4
            high += _KEYS[0, k] * left + _KEYS[0, k + 1] * right
            low += _KEYS[1, k] * left + _KEYS[1, k + 1] * right
    hashes: NDArray[np.int64] = ((high & ~_RIGHT_HALF) | (low >> _32)).view(np.int64)
    hashes ^= (operators.astype(np.int64) + 1) * _MIX
    hashes |= 1  # 0 marks an empty place
    return hashes


def _position(hashes: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Where to look first: the upper half of the hash, scaled to the table's size (any size will do)."""
    return ((hashes >> 32) + 2**31) * size >> 32
