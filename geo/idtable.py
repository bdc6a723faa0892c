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

from geo.compiled import compiled
from geo.spans import Spans, Words, words_of

Slots = NDArray[np.int64]

_MIX = np.uint64(11400714819323198485)  # 2**64 / golden ratio, odd: spreads small operator numbers over all bits
_LONGEST_ID = 512
_32, _RIGHT_HALF, _ODD = np.uint64(32), np.uint64(2**32 - 1), np.uint64(1)
_FIRST_BYTES = np.array([2 ** (8 * n) - 1 for n in range(9)], dtype=np.uint64)
# Python's hash of a text is keyed by a secret of the process (PEP 456): random to everybody who does not know it.
_KEYS = np.array([hash(f"key {i}") for i in range(2 * (2 + _LONGEST_ID // 4))]).view(np.uint64).reshape(2, -1)
_LEAST = 1024
_AT_A_TIME = 64
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
        ids: list[str] = text.tobytes().decode().split("\n")[:-1]
        return ids

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
        """Slots of n hashes, -1 where there is none."""
        slots = np.empty(len(hashes), dtype=np.int64)
        _look_up(hashes, self._table, slots)
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
    longest = int(ids.size.max(initial=0))
    if longest > _LONGEST_ID:
        raise ValueError(f"an id must have at most {_LONGEST_ID} bytes, got one of {longest}")
    hashes = np.empty(len(ids), dtype=np.uint64)
    _hash(words_of(ids.buffer), ids.start, ids.size, operators, _KEYS, hashes)
    return hashes.view(np.int64)


@compiled
def _hash(
    words: Words,
    start: NDArray[np.int64],
    size: NDArray[np.int64],
    operators: NDArray[np.int16],
    keys: NDArray[np.uint64],
    hashes: NDArray[np.uint64],
) -> None:
    """Fills hashes, uint64 (n,)."""
    for i in range(len(start)):
        length = np.uint64(size[i])
        high, low = keys[0, 0] + keys[0, 1] * length, keys[1, 0] + keys[1, 1] * length
        for at in range(0, size[i], 8):
            word = words[start[i] + at] & _FIRST_BYTES[min(size[i] - at, 8)]
            left, right = word & _RIGHT_HALF, word >> _32
            k = 2 + at // 4
            high += keys[0, k] * left + keys[0, k + 1] * right
            low += keys[1, k] * left + keys[1, k + 1] * right
        mixed = ((high & ~_RIGHT_HALF) | (low >> _32)) ^ np.uint64(operators[i] + 1) * _MIX
        hashes[i] = mixed | _ODD  # 0 marks an empty place


@compiled
def _look_up(hashes: NDArray[np.int64], table: NDArray[np.int64], slots: Slots) -> None:
    """Fills slots, int64 (n,). Linear probing, of a few bikes at a time: their places are fetched from memory all at once, while
    one that waits for a place and then finds it taken would let none of the next ones be fetched."""
    size = len(table)
    at, seen = np.empty(_AT_A_TIME, dtype=np.int64), np.empty(_AT_A_TIME, dtype=np.int64)
    for begin in range(0, len(hashes), _AT_A_TIME):
        few = min(_AT_A_TIME, len(hashes) - begin)
        for j in range(few):
            at[j] = ((hashes[begin + j] >> 32) + 2**31) * size >> 32  # as in _position
            seen[j] = table[at[j], 0]
        for j in range(few):
            wanted, here, found = hashes[begin + j], at[j], seen[j]
            while found != wanted and found != 0:
                here = here + 1 if here + 1 < size else 0
                found = table[here, 0]
            slots[begin + j] = table[here, 1] if found != 0 else -1


def _position(hashes: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Where to look first: the upper half of the hash, scaled to the table's size (any size will do)."""
    return ((hashes >> 32) + 2**31) * size >> 32
