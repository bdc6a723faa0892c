"""Stream time: the clock of one source, where its ticks are cut, and which fix of a bike counts within a tick."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geo.compiled import compiled

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
            self.first_offset, self.before_first_ms = None, -1
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


@dataclass(slots=True)
class Newest:
    """One of n rows for each of m groups (bike, tick), groups in order of their first row.

    rows   int64 (m,)
    marks  uint8 (m,)  bits that any row of the group has
    wave   int64 (m,)  how many groups of the same bike come before it
    """

    rows: Indices
    marks: NDArray[np.uint8]
    wave: NDArray[np.int64]

    def take(self, which: Indices | NDArray[np.bool_]) -> Newest:
        """Some of the groups."""
        return Newest(self.rows[which], self.marks[which], self.wave[which])


def newest(
    bike: Indices, tick: Times, ts: Times, fit: NDArray[np.bool_], marks: NDArray[np.uint8], scratch: NDArray[np.int32]
) -> Newest:
    """Of each bike and tick the fit row of greatest ts, of equal ones the last; in a group with no fit row, any.

    Associative: rows may be reduced part by part. All but scratch have n rows; ticks ascend. scratch: int32, -1 for every bike
    that there may be, as it is again afterwards.
    """
    found = Newest(np.empty_like(bike), np.empty_like(marks), np.empty_like(bike))
    m = _newest(bike, tick, ts, fit, marks, scratch, found.rows, found.marks, found.wave)
    return found.take(np.arange(m)) if m < len(bike) else found


@compiled
def _newest(
    bike: Indices,
    tick: Times,
    ts: Times,
    fit: NDArray[np.bool_],
    marks: NDArray[np.uint8],
    group_of: NDArray[np.int32],
    rows: Indices,
    union: NDArray[np.uint8],
    wave: NDArray[np.int64],
) -> int:
    """Fills the last three; gives how many groups there are."""
    m = 0
    for i in range(len(bike)):
        group = group_of[bike[i]]
        if group >= 0 and tick[rows[group]] == tick[i]:
            union[group] |= marks[i]
            best = rows[group]
            if fit[i] > fit[best] or (fit[i] == fit[best] and ts[i] >= ts[best]):
                rows[group] = i
            continue
        wave[m] = wave[group] + 1 if group >= 0 else 0
        rows[m], union[m] = i, marks[i]
        group_of[bike[i]] = m
        m += 1
    for group in range(m):
        group_of[bike[rows[group]]] = -1
    return m
