"""The topic `operator.report` at the edge: days as records, and what of the topic is not what was told.

The topic is compacted, and every record has the stream time at which it was told as a header: of one key the greatest counts.
A city forgets a day once it is complete, so the topic is its memory: docs/reports.md, section 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from geo.alert import rfc3339
from geo.city import CityState
from geo.report import Reported, days_of
from streams.density import TIME_HEADER, is_ahead, time_of
from streams.mirror import Mirror
from streams.outbox import Record
from streams.readback import LogReader, LogRecord

LOOKED_AFTER_DAYS = 31
"""Days before a city's own that are put right when an old record stands last."""


def report_record(told: Reported, topic: str, partition: int) -> Record:
    """What one day of an operator is on the wire."""
    return _record(topic, partition, told.key, told.body, rfc3339(told.at_ms))


def _record(topic: str, partition: int, key: bytes, value: bytes, observed_at: str) -> Record:
    return Record(topic, partition, key, value, ((TIME_HEADER, observed_at.encode()),))


class _Seen(NamedTuple):
    observed_at: str
    value: bytes


class _Reading(Mirror):
    """Also the greatest that each key ever had, as far as it was read."""

    def __init__(self, reader: LogReader, place: tuple[str, int]) -> None:
        super().__init__(reader, place)
        self.greatest: dict[bytes, _Seen] = {}

    def note(self, key: bytes, record: LogRecord) -> None:
        super().note(key, record)
        if record.value is not None:
            seen = _Seen(time_of(record.value), record.value)
            if seen.observed_at and seen.observed_at >= self.greatest.get(key, seen).observed_at:
                self.greatest[key] = seen

    def forget(self, key: bytes) -> None:
        self.newest.pop(key, None)
        self.greatest.pop(key, None)
        self.touched.discard(key)


class ReportMirror:
    """Our partition of the topic, read back, and compared with what its cities told last and what it once held."""

    def __init__(self, reader: LogReader, topic: str, partition: int) -> None:
        self._topic, self._partition = topic, partition
        self._mirror = _Reading(reader, (topic, partition))

    async def refresh(self) -> None:
        await self._mirror.refresh()

    def wrong(self, cities: Mapping[str, CityState]) -> Iterator[Record]:
        """Records that put right what differs. cities: of this partition, by name.

        What is newer than a city was told by an owner before us, who came further: it is left alone until we are there.
        """
        held = {told.key: told.body for city in cities.values() for told in city.reports.newest()}
        self._forget(cities)
        for key in sorted(held.keys() | self._mirror.greatest.keys()):
            found, city = self._mirror.newest.get(key), cities[key.partition(b"/")[0].decode()]
            right = held.get(key) or self._mirror.greatest[key].value
            if found != right and not is_ahead(found or b"", city) and not is_ahead(right, city):
                yield _record(self._topic, self._partition, key, right, time_of(right))

    def _forget(self, cities: Mapping[str, CityState]) -> None:
        """Keys that are no day of our cities, or one of long ago, are not looked after."""
        self._mirror.touched.clear()
        for key in list(self._mirror.newest.keys() | self._mirror.greatest.keys()):
            name, _, rest = key.decode(errors="replace").partition("/")
            day, city = days_of(rest.rpartition("/")[2]), cities.get(name)
            if city is None or day is None or rest.count("/") != 1 or _is_old(day, city):
                self._mirror.forget(key)


def _is_old(day: int, city: CityState) -> bool:
    return bool(city.reports.days) and day < city.reports.days[-1].date - LOOKED_AFTER_DAYS
