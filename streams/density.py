"""The topic `cell.density` at the edge: tellings as records, and what of the topic is not what was told.

The topic is compacted. A crash repeats records and a woken worker may write old ones, so every record, also one without value,
has the stream time that it describes as a header: of one key the greatest counts, of equal ones the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

import orjson

from geo.alert import end_of, rfc3339
from geo.city import CityState
from geo.density import Telling
from streams.mirror import Mirror
from streams.outbox import Record
from streams.readback import LogReader

TIME_HEADER = "observed_at"


def density_record(told: Telling, topic: str, partition: int) -> Record:
    """What one telling is on the wire."""
    return _record(topic, partition, told.key, told.body, _text_of(told.at_ms))


@lru_cache(maxsize=64)
def _text_of(time_ms: int) -> str:
    """Thousands of cells are told at one moment."""
    return rfc3339(time_ms)


def _record(topic: str, partition: int, key: bytes, value: bytes | None, observed_at: str) -> Record:
    headers = ((TIME_HEADER, observed_at.encode()),) if observed_at else ()
    return Record(topic, partition, key, value, headers)


class DensityMirror:
    """Our partition of the topic, read back, and compared with what its cities told last."""

    def __init__(self, reader: LogReader, topic: str, partition: int) -> None:
        self._topic, self._partition = topic, partition
        self._mirror = Mirror(reader, (topic, partition))
        self._whole = False  # whether everything was compared once; from then on only what was written since
        self._ahead: set[bytes] = set()

    async def refresh(self) -> None:
        await self._mirror.refresh()

    def wrong(self, cities: Mapping[str, CityState]) -> Iterator[Record]:
        """Records that put right what differs. cities: of this partition, by name.

        A record of a time that the city has not worked yet was told by an owner before us, who came further than the snapshot
        that we began with: it is left alone until we are there, for then we tell the same.
        """
        looked_at = (self._mirror.touched | self._ahead) if self._whole else None
        right = {told.key: told for city in cities.values() for told in city.density.newest(_cells(looked_at))}
        keys = looked_at if looked_at is not None else self._mirror.newest.keys() | right.keys()
        self._whole, self._mirror.touched, self._ahead = True, set(), set()
        for key in sorted(keys):
            told, found = right.get(key), self._mirror.newest.get(key)
            if found == (told.body if told else None):
                continue
            city = cities.get(key.partition(b"/")[0].decode(errors="replace"))
            if told is not None and (found is None or not is_ahead(found, city)):
                yield density_record(told, self._topic, self._partition)
            elif found is not None and is_ahead(found, city):
                self._ahead.add(key)
            elif found is not None:
                yield _record(self._topic, self._partition, key, None, time_of(found) or _time_at(city))


def _cells(keys: set[bytes] | None) -> set[int] | None:
    """The cells that keys name; what is no cell has never been told."""
    if keys is None:
        return None
    cells = set()
    for key in keys:
        try:
            cells.add(int(key.partition(b"/")[2] or b"0", 16))
        except ValueError:
            continue
    return {cell for cell in cells if 0 <= cell < 1 << 63}


def is_ahead(value: bytes, city: CityState | None) -> bool:
    """Whether a record is of a time that the city has not worked yet."""
    return city is not None and time_of(value) > _time_at(city)


def _time_at(city: CityState | None) -> str:
    """How far a city is; texts of times of one form are in order of time."""
    return rfc3339(end_of(city.done, city.timeline.tick_ms)) if city is not None else ""


def time_of(value: bytes) -> str:
    """`observed_at` of a record; "": it has none, so it is not ours."""
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return ""
    found = body.get(TIME_HEADER) if isinstance(body, dict) else None
    return found if isinstance(found, str) else ""
