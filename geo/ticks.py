"""Stream time: the clock of one source, where its ticks are cut, and which fix of a bike counts within a tick."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]
Indices = NDArray[np.int64]


@dataclass(slots=True)
class TickClock:
    """The running maximum of record timestamps, and from where to read again.

    It never goes back: a record with an earlier timestamp belongs to the tick that is open when it is read, so that a tick
    once closed stays closed. Tick k covers [k * tick_ms, (k + 1) * tick_ms) of it.
    """

    tick_ms: int
    now_ms: int = -1  # -1: no record yet
    through: int = -1  # the tick before the open one
    last_tick: int = -1  # the last closed tick that had a record with a value
    next_offset: int | None = None  # one past the last record seen
    first_offset: int | None = None  # the first record with a value of the open tick
    before_first_ms: int = -1  # now_ms before that record

    @property
    def open(self) -> int:
        return self.through + 1

    @property
    def resume_offset(self) -> int | None:
        """Where the open tick begins: to read on from here with the state at `through` gives everything again."""
        return self.next_offset if self.first_offset is None else self.first_offset

    @property
    def resume_clock(self) -> int:
        """The running maximum over all records before `resume_offset`."""
        return self.now_ms if self.first_offset is None else self.before_first_ms

    def ticks(self, record_ms: Times) -> Times:
        """Ticks of the next n > 0 records of the log, int64 (n,), ascending. `advance` then takes them as read."""
        clock = self.clock(record_ms)
        if clock[0] < 0:  # Kafka's "no timestamp" is -1
            np.maximum(clock, 0, out=clock)
        ticks: Times = clock // self.tick_ms
        if ticks[0] <= self.through:
            raise ValueError(
                f"the log does not go on where the state stands: tick {ticks[0]} is closed, "
                f"the state is complete through {self.through}; restore it with the log it was made from"
            )
        return ticks

    def clock(self, record_ms: Times) -> Times:
        """The clock after each of the next n > 0 records, int64 (n,)."""
        clock = np.maximum.accumulate(record_ms)
        if clock[0] < self.now_ms:
            np.maximum(clock, self.now_ms, out=clock)
        return clock

    def advance(self, record_ms: Times, offsets: Indices, ticks: Times, has_value: NDArray[np.bool_] | None) -> None:
        """Take n > 0 records as read. Closes every tick before the last record's."""
        last = int(ticks[-1])
        start = 0
        if last > self.through + 1 or self.next_offset is None:
            start = int(np.searchsorted(ticks, last))
            self.first_offset = None
        if self.first_offset is None:
            self._find_first(record_ms, offsets, has_value, start)
        self.through = last - 1
        self.now_ms = max(self.now_ms, int(record_ms.max()))
        self.next_offset = int(offsets[-1]) + 1

    def _find_first(self, record_ms: Times, offsets: Indices, has_value: NDArray[np.bool_] | None, start: int) -> None:
        if has_value is not None:
            start += int(has_value[start:].argmax())
            if not has_value[start]:
                return
        self.first_offset = int(offsets[start])
        self.before_first_ms = max(self.now_ms, int(record_ms[:start].max())) if start else self.now_ms


def newest(group: Indices, ts: Times, fit: NDArray[np.bool_], marks: NDArray[np.uint8]) -> tuple[Indices, NDArray[np.uint8]]:
    """One of n > 0 rows for each group, in ascending order of group, and the bits that any row of the group has.

    It is the fit row of greatest ts, of equal ones the last; in a group with no fit row, any. group int64 (n,), below
    2**62 / n; marks: bits, uint8 (n,). Associative: rows may be reduced part by part.
    """
    n = len(group)
    bits = n.bit_length()
    # One sort of (group, row) in one number: several times faster than an argsort, and stable by construction.
    keys = np.sort((group << bits) | np.arange(n))
    rows = keys & ((1 << bits) - 1)
    keys >>= bits
    first = np.empty(n, dtype=np.bool_)
    first[0] = True
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    if len(starts) == n:
        return rows, marks[rows]
    chosen = rows[starts]
    crowded = np.repeat(np.diff(starts, append=n) > 1, np.diff(starts, append=n))
    number, several = (np.cumsum(first) - 1)[crowded], rows[crowded]
    order = np.lexsort((ts[several], fit[several], number))
    chosen[number[order]] = several[order]  # of several writes to one place the last one stays
    return chosen, np.bitwise_or.reduceat(marks[rows], starts)
