"""When bikes expire, without looking at all of them: buckets of a minute of speaking time.

A bike lies in the bucket in which it was filed, whatever is heard of it since. When the bucket is opened, those that were
heard meanwhile are filed anew, so a bike is touched about once per time to live. No objects per bike: arrays of slots.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from geo.counts import Slots as Int32
from geo.silence import Silence

Slots = NDArray[np.int64]

BUCKET_MS = 60_000
_NEVER = 2**62


class _Queue:
    """The bikes of one operator. `front` are those of opened buckets, none of which is due before `front_from`."""

    def __init__(self) -> None:
        self.buckets: dict[int, list[Int32]] = {}
        self.order: list[int] = []  # heap of the buckets' numbers
        self.front = np.zeros(0, np.int32)
        self.front_from = _NEVER

    def file(self, slots: Int32, spoken: NDArray[np.int64]) -> None:
        """File bikes by their h: int32 and int64 (n,)."""
        if not len(slots):
            return
        numbers = spoken // BUCKET_MS
        order = np.argsort(numbers, kind="stable")
        numbers, slots = numbers[order], slots[order]
        starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
        for number, part in zip(numbers[starts].tolist(), np.split(slots, starts[1:]), strict=True):
            if number not in self.buckets:
                self.buckets[number] = []
                heappush(self.order, number)
            self.buckets[number].append(part)

    def first(self) -> int:
        """No bike has a smaller h."""
        return min(self.front_from, self.order[0] * BUCKET_MS if self.order else _NEVER)

    def pop(self, limit: int, spoken_of: Callable[[Int32], NDArray[np.int64]]) -> Int32:
        """Take out the bikes whose h is at most `limit`."""
        opened = [self.front]
        while self.order and self.order[0] * BUCKET_MS <= limit:
            opened += self.buckets.pop(heappop(self.order))
        slots = np.concatenate(opened)
        spoken = spoken_of(slots)
        near = spoken // BUCKET_MS <= limit // BUCKET_MS
        self.file(slots[~near], spoken[~near])
        slots, spoken = slots[near], spoken[near]
        waits = spoken > limit
        self.front = slots[waits]
        self.front_from = int(spoken[waits].min()) if len(self.front) else _NEVER
        return slots[~waits]

    def renumber(self, new: Int32) -> None:
        """The roster moved: int32, the new slot of each old one."""
        self.front = new[self.front]
        self.buckets = {number: [new[np.concatenate(parts)]] for number, parts in self.buckets.items()}
        self.order = list(self.buckets)
        heapify(self.order)


class Expiry:
    """Every bike held lies in exactly one place of its operator's queue."""

    def __init__(self, operators: int) -> None:
        self._queues = [_Queue() for _ in range(operators)]

    def file(self, operators: NDArray[np.int16], slots: Slots, spoken: NDArray[np.int64]) -> None:
        """Bikes that were not held before: operator int16, slot int64, h int64 (n,)."""
        for operator in np.flatnonzero(np.bincount(operators)).tolist() if len(slots) else ():
            own = operators == operator
            self._queues[operator].file(slots[own].astype(np.int32), spoken[own])

    def pop(self, silence: Silence, ttl_ms: int, spoken_of: Callable[[Int32], NDArray[np.int64]]) -> Slots:
        """Take out all that expire now: of operators that speak, and not heard for `ttl_ms` of their speaking time."""
        expired = [
            queue.pop(limit, spoken_of)
            for queue, limit, silent in zip(
                self._queues, (silence.spoken - ttl_ms).tolist(), silence.silent.tolist(), strict=True
            )
            if not silent and queue.first() <= limit
        ]
        return np.concatenate(expired).astype(np.int64) if expired else np.zeros(0, np.int64)

    def drop(self, operator: int) -> None:
        """All bikes of an operator left the roster."""
        self._queues[operator] = _Queue()

    def deadline(self, silence: Silence, ttl_ms: int) -> int | None:
        """The first tick at which one can expire."""
        firsts = ((operator, queue.first()) for operator, queue in enumerate(self._queues))
        ticks = (silence.tick_of(operator, first + ttl_ms) for operator, first in firsts if first != _NEVER)
        return min((tick for tick in ticks if tick is not None), default=None)

    def renumber(self, new: Int32) -> None:
        """The roster moved: int32, the new slot of each old one."""
        for queue in self._queues:
            queue.renumber(new)
