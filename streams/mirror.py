"""What a compacted topic of ours holds now, read back.

A worker that was stopped and woken may write the newest state of an alert after another has cleared it; in a compacted topic
that write would stand for ever. So the owner of a city reads its own partition back, at load and once a minute, and rewrites
every key that differs from its state.
"""

from __future__ import annotations

from streams.readback import LogReader, LogRecord, Place


class Mirror:
    """Newest value by key of one partition of a compacted topic. touched: keys written since it was last emptied."""

    def __init__(self, reader: LogReader, place: Place) -> None:
        self._reader = reader
        self._place = place
        self._position = 0
        self.newest: dict[bytes, bytes] = {}
        self.touched: set[bytes] = set()

    async def refresh(self) -> None:
        """Read to the present end; the first time from the start."""
        records, ends = await self._reader.read({self._place: self._position})
        self._position = ends[self._place]
        for record in records[self._place]:
            if record.key is not None:
                self.note(record.key, record)

    def note(self, key: bytes, record: LogRecord) -> None:
        """Take one record that was read."""
        self.touched.add(key)
        if record.value is None:
            self.newest.pop(key, None)
        else:
            self.newest[key] = record.value
