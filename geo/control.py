"""One input partition of a control topic: documents in, frames out. The state stands at a tick's end at all times.

Time is cut as for bikes (`geo/ticks.py`), and what a tick says goes into one frame. A document says the same whatever was
said before it, so there is nothing to remember but the clock.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from geo.frame import OUTCOMES, Document, Frame, Section
from geo.packing import Column, Packed, pack_clock, unpack_clock
from geo.params import Timeline
from geo.ticks import Indices, TickClock, Times

Addressed = Mapping[str, Document]
"""A document as each city that it is for gets it."""


class ControlSource:
    """The state of one partition. index: its number among all sources."""

    def __init__(self, index: int, timeline: Timeline) -> None:
        self.index = index
        self._timeline = timeline
        self._clock = TickClock(timeline.tick_ms)
        self._open: dict[int, dict[str, list[Document]]] = {}  # tick -> city -> documents, of ticks that are not closed

    @property
    def through(self) -> int:
        """Complete through this tick; -1 before any record."""
        return self._clock.through

    @property
    def last_tick(self) -> int:
        """The last closed tick that had a record; -1 if there was none."""
        return self._clock.last_tick

    @property
    def resume_offset(self) -> int | None:
        return self._clock.resume_offset

    @property
    def resume_clock(self) -> int:
        return self._clock.resume_clock

    def add(
        self, record_ms: Times, offsets: Indices, has_value: NDArray[np.bool_] | None, documents: Mapping[int, Addressed]
    ) -> list[Frame]:
        """Take the next n records of the log. Gives the frames of all ticks that they close, in order.

        has_value: bool (n,), False is a clock record; None: all have one. documents: by index among the n; a record that was
        refused has none, and its tick is not empty all the same.
        """
        if not len(record_ms):
            return []
        ticks = self._clock.ticks(record_ms)
        valued = range(len(ticks)) if has_value is None else np.flatnonzero(has_value).tolist()
        for i in valued:
            said = self._open.setdefault(int(ticks[i]), {})
            for city, document in documents.get(i, {}).items():
                said.setdefault(city, []).append(document)
        frames = [self._close(tick) for tick in sorted(self._open) if tick < ticks[-1]]
        self._clock.advance(record_ms, offsets, ticks, has_value)
        return frames

    def _close(self, tick: int) -> Frame:
        operators, previous = len(self._timeline.operators), self.last_tick
        said = self._open.pop(tick)
        sections = {city: Section.of_documents(tuple(documents), operators) for city, documents in said.items()}
        self._clock.last_tick = tick
        return Frame(self.index, tick, previous, sections, np.zeros((operators + 1, len(OUTCOMES)), np.int64))

    def pack(self) -> Packed:
        """The whole state at the end of `through`, without the open tick."""
        return pack_clock(self._clock)

    @classmethod
    def restore(cls, index: int, timeline: Timeline, packed: Mapping[str, Column]) -> ControlSource:
        """A source as packed. Read the log on from `resume_offset`."""
        source = cls(index, timeline)
        source._clock = unpack_clock(packed, timeline.tick_ms)
        return source
