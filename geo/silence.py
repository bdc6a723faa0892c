"""Who speaks in a city: an operator that is not heard for long is silent, and its time stands still.

Speaking time S(k) of an operator is `tick_ms` times the ticks up to k, from the city's first one on, at which it was not
silent. Bikes expire and alerts ripen by it, so that an outage of a feed neither removes a bike nor clears an alert.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Packed = dict[str, NDArray[Any] | bytes]

GAPS = 32
USUAL = 16  # the usual gap is the 16th smallest of the last 32
FEWEST_MS = 600_000
TIMES_USUAL = 8

_COLUMNS = ("spoken", "silent", "watched", "last", "was_heard", "gaps", "gap_count")


class Silence:
    """Of each operator: when it was heard last, its usual gap, its speaking time, and whether it is silent.

    now        the last tick that was worked; `first - 1` before any
    spoken     int64 (operators,)  S(now)
    silent     bool (operators,)   at `now`
    watched    bool (operators,)   whether it can be silent at all
    last       int64 (operators,)  L: the tick at which it was heard last, or from which on it is waited for
    was_heard  bool (operators,)   whether L is a tick at which it was heard
    gaps       int64 (operators, 32)  ring of the last gaps in ticks; `gap_count` tells how many there ever were
    """

    def __init__(self, operators: int, tick_ms: int, first: int) -> None:
        self._tick_ms = tick_ms
        self._overrides = np.full(operators, -1, np.int64)
        self.first = first
        self.now = first - 1
        self.spoken = np.zeros(operators, np.int64)
        self.silent = np.zeros(operators, np.bool_)
        self.watched = np.zeros(operators, np.bool_)
        self.last = np.full(operators, first, np.int64)
        self.was_heard = np.zeros(operators, np.bool_)
        self.gaps = np.zeros((operators, GAPS), np.int64)
        self.gap_count = np.zeros(operators, np.int64)
        self.threshold_ms = np.zeros(operators, np.int64)
        self._set_thresholds()

    def watch(self, tick: int, watched: Sequence[int], silent_after_ms: Mapping[int, int]) -> list[int]:
        """From `tick` on watch these operators; those that were silent and are not watched any more.

        One that was not watched before begins anew: it is waited for from `tick` on, and its old gaps are forgotten.
        """
        now = np.zeros_like(self.watched)
        now[list(watched)] = True
        begins = now & ~self.watched
        released = self.silent & ~now
        self.spoken += np.where(self.silent, 0, (tick - 1 - self.now) * self._tick_ms)  # the rest passed as it was
        self.now = tick - 1
        self.last[begins] = tick
        self.was_heard[begins] = False
        self.gap_count[begins] = 0
        self.silent[released] = False
        self.watched = now
        self.override(silent_after_ms)
        return np.flatnonzero(released).tolist()

    def advance(self, tick: int, heard: NDArray[np.int64]) -> tuple[list[int], list[int]]:
        """Go on to a later tick, at which heard: int64 (operators,) were; who fell silent, and who returned.

        All ticks between are empty and hold no deadline of ours: nobody fell silent at one of them.
        """
        speaks = heard > 0
        before = self.silent
        returned = before & speaks
        fell = self.watched & ~before & ~speaks & ((tick - self.last) * self._tick_ms >= self.threshold_ms)
        # A tick at which an operator is declared silent is lost to it; one at which it returns is not.
        ticks = np.where(before, returned, (tick - self.now) - fell)
        self.spoken += ticks * self._tick_ms
        self._note_gaps(tick, np.flatnonzero(speaks & ~before & self.was_heard))
        self.last[speaks] = tick
        self.was_heard |= speaks
        self.silent = (before & ~returned) | fell
        self.now = tick
        return np.flatnonzero(fell).tolist(), np.flatnonzero(returned).tolist()

    def deadline(self) -> int | None:
        """The first tick at which an operator is declared silent, if none is heard before."""
        waiting = self.watched & ~self.silent
        if not waiting.any():
            return None
        return int((self.last + -(-self.threshold_ms // self._tick_ms))[waiting].min())

    def tick_of(self, operator: int, spoken_ms: int) -> int | None:
        """The first tick from `now` on at which S is at least `spoken_ms`, if the operator goes on as it does now."""
        missing = spoken_ms - int(self.spoken[operator])
        if missing <= 0:
            return self.now
        return None if self.silent[operator] else self.now - (-missing // self._tick_ms)

    def _note_gaps(self, tick: int, operators: NDArray[np.intp]) -> None:
        if not len(operators):
            return
        self.gaps[operators, self.gap_count[operators] % GAPS] = tick - self.last[operators]
        self.gap_count[operators] += 1
        self._set_thresholds()

    def _set_thresholds(self) -> None:
        usual = np.partition(self.gaps, USUAL - 1, axis=1)[:, USUAL - 1]
        usual_ms = np.where(self.gap_count >= GAPS, usual * self._tick_ms, FEWEST_MS)
        by_gap = np.maximum(FEWEST_MS, TIMES_USUAL * usual_ms)
        self.threshold_ms = np.where(self._overrides >= 0, self._overrides, by_gap)

    def pack(self) -> Packed:
        """The state, one row per operator; overrides and thresholds come from the configuration."""
        packed: Packed = {name: np.array(getattr(self, name)) for name in _COLUMNS}
        return packed | {"first": np.array([self.first, self.now], np.int64)}

    @classmethod
    def restore(cls, packed: Packed, tick_ms: int, index: NDArray[np.int64], operators: int) -> Silence:
        """Of `operators` operators; index int64 (n,) is where each packed one is now. Others were never heard of."""
        first, now = np.asarray(packed["first"]).tolist()
        self = cls(operators, tick_ms, first)
        self.now = now
        self.spoken.fill((now - first + 1) * tick_ms)
        for name in _COLUMNS:
            getattr(self, name)[index] = packed[name]
        self._set_thresholds()
        return self

    def override(self, silent_after_ms: Mapping[int, int]) -> None:
        """Operators' own thresholds, by index; of the others the usual gap decides."""
        self._overrides.fill(-1)
        for operator, after_ms in silent_after_ms.items():
            self._overrides[operator] = after_ms
        self._set_thresholds()
