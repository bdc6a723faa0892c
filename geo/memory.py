"""Where the rows of a partition's bikes are kept, by slot: a million do not stay in any cache, so what is seldom looked at stands apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geo.rows import BIKE, COLD, HOT, Indices, Rows

_LINE = 64  # bytes of a cache line
_NOT_SMALL, _HUGE = 1 << 20, 1 << 22
_LEAST = 1024
_GROWTH = 1.25
_RAW_HOT, _RAW_COLD = np.dtype((np.void, HOT.itemsize)), np.dtype((np.void, COLD.itemsize))


class Memory:
    """Rows of `room` slots, blank at first.

    hot      HOT (room,), each in a cache line of its own
    scratch  int32 (room,), -1 whenever nobody works with it: marks by slot
    """

    def __init__(self, room: int = _LEAST) -> None:
        self.hot = _lines(room)
        self._cold = np.zeros(room, dtype=_RAW_COLD)
        self.scratch = np.full(room, -1, dtype=np.int32)

    @classmethod
    def of(cls, rows: Rows) -> Memory:
        """These rows, and room for more."""
        memory = cls(int(len(rows) * _GROWTH) + _LEAST)
        memory.put(np.arange(len(rows)), rows)
        return memory

    @property
    def room(self) -> int:
        return len(self.hot)

    def nbytes(self) -> int:
        return self.hot.nbytes + self._cold.nbytes + self.scratch.nbytes

    def take(self, slots: Indices) -> Rows:
        """Copies of some rows, BIKE (n,)."""
        rows = np.empty(len(slots), dtype=BIKE)
        raw = rows.view(np.uint8).reshape(-1, BIKE.itemsize)
        raw[:, : HOT.itemsize] = self.hot.view(_RAW_HOT).take(slots).view(np.uint8).reshape(-1, HOT.itemsize)
        raw[:, HOT.itemsize :] = self._cold.take(slots).view(np.uint8).reshape(-1, COLD.itemsize)
        return rows

    def put(self, slots: Indices, rows: Rows) -> None:
        """Write some rows back."""
        raw = rows.view(np.uint8).reshape(-1, BIKE.itemsize)
        self.hot.view(_RAW_HOT).put(slots, np.ascontiguousarray(raw[:, : HOT.itemsize]).view(_RAW_HOT))
        self._cold.put(slots, np.ascontiguousarray(raw[:, HOT.itemsize :]).view(_RAW_COLD))

    def make_room(self, bikes: int) -> None:
        """Have room for as many."""
        if bikes > self.room:
            self._become(np.arange(self.room), max(int(self.room * _GROWTH), bikes))

    def keep(self, slots: Indices) -> None:
        """Only these rows stay, in this order, with room for more."""
        self._become(slots, int(len(slots) * _GROWTH) + _LEAST)

    def _become(self, slots: Indices, room: int) -> None:
        hot, cold = _lines(room), np.zeros(room, dtype=_RAW_COLD)
        hot.view(_RAW_HOT)[: len(slots)] = self.hot.view(_RAW_HOT).take(slots)
        cold[: len(slots)] = self._cold.take(slots)
        self.hot, self._cold, self.scratch = hot, cold, np.full(room, -1, dtype=np.int32)


def _lines(room: int) -> Rows:
    """Blank hot rows that begin where a cache line does.

    numpy asks the system for huge pages for arrays from 4 MB on. At random places most of the time goes into finding pages, so
    an array that is not small asks for that much; what is not touched takes no memory.
    """
    size = room * HOT.itemsize + _LINE
    raw: NDArray[np.uint8] = np.zeros(size if size < _NOT_SMALL else max(size, _HUGE), dtype=np.uint8)
    start = -raw.ctypes.data % _LINE
    return raw[start : start + room * HOT.itemsize].view(HOT)
