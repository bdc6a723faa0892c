"""The same core without Kafka: recorded pings in, the alerts that the live system would send out, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from zlib import crc32

import numpy as np

from geo.city import CityState, Event
from geo.density import Telling
from geo.merge import Merger, Waiting
from geo.params import Timeline
from geo.source import Source
from streams.batches import Batch
from streams.feeds.records import FeedRecord
from streams.pings import Feed, PingDecoder
from streams.settings import Settings

CHUNK_RECORDS = 50_000


class Backtest:
    """A whole deployment in one object: every source, the merger, every city."""

    def __init__(
        self,
        timeline: Timeline,
        feeds: Iterable[Feed],
        partitions: int = 1,
        *,
        density: Callable[[Telling], None] = lambda told: None,
    ) -> None:
        """partitions: of each feed's topic. The result does not depend on it for logs sorted by record time.

        density: is handed what is told of the cells, in order of time; of one moment the cities by name.
        """
        feeds = sorted(feeds, key=lambda feed: feed.topic)
        self._partitions = partitions
        self._tick_ms = timeline.tick_ms
        self._first = {feed.topic: i * partitions for i, feed in enumerate(feeds)}
        self._sources = [Source(i, timeline) for i in range(len(feeds) * partitions)]
        self._decoders = [PingDecoder(feed, timeline) for feed in feeds for _ in range(partitions)]
        self._offsets = [0] * len(self._sources)
        self._merger = Merger(len(self._sources))
        self._density = density
        self.cities = {name: CityState(name, timeline) for name in timeline.cities}

    def run(self, records: Iterable[FeedRecord]) -> Iterator[Event]:
        """Events in order of time; of one tick the cities by name. records: sorted by record time."""
        stream = iter(records)
        clock_ms = -1
        while chunk := list(islice(stream, CHUNK_RECORDS)):
            clock_ms = max(clock_ms, *(record.record_ms for record in chunk))
            yield from self._take(chunk, clock_ms)
        if clock_ms >= 0:
            yield from self._take([], (clock_ms // self._tick_ms + 1) * self._tick_ms)

    def _take(self, chunk: list[FeedRecord], clock_ms: int) -> list[Event]:
        shares: list[list[FeedRecord]] = [[] for _ in self._sources]
        for record in chunk:
            shares[self._first[record.topic] + crc32(record.key) % self._partitions].append(record)
        for index, share in enumerate(shares):
            self._feed(index, share, clock_ms)
        return self._advance()

    def _feed(self, index: int, share: list[FeedRecord], clock_ms: int) -> None:
        """The share of one source, and then a clock record: it has nothing more up to there."""
        values: list[bytes | None] = [*(record.value for record in share), None]
        record_ms = np.array([*(record.record_ms for record in share), clock_ms], np.int64)
        offsets = np.arange(self._offsets[index], self._offsets[index] + len(values), dtype=np.int64)
        self._offsets[index] += len(values)
        source = self._sources[index]
        records, _, _ = self._decoders[index].decode(Batch.of(values, record_ms, offsets))
        for frame in source.add(records).frames:
            self._merger.offer(index, frame.tick, Waiting(frame.previous, frame.sections, int(offsets[0]), b""))
        self._merger.complete(index, source.through, source.last_tick)

    def _advance(self) -> list[Event]:
        ready = self._merger.ready()
        if ready <= self._merger.done:
            return []
        ticks = self._merger.take(ready)
        events: list[Event] = []
        tellings: list[Telling] = []
        for name, city in self.cities.items():
            events += city.advance(ready, [(tick, [(i, s[name]) for i, s in told if name in s]) for tick, told in ticks])
            tellings += city.density.take()
        for telling in sorted(tellings, key=lambda told: told.at_ms):
            self._density(telling)
        return sorted(events, key=lambda event: event.tick)


def backtest(
    settings: Settings,
    records: Iterable[FeedRecord],
    *,
    partitions: int = 1,
    density: Callable[[Telling], None] = lambda told: None,
) -> Iterator[Event]:
    """The events that the live system would send for these records under this configuration. density: as in `Backtest`."""
    feeds = [Feed(f.topic, f.operator, f.coordinates, f.format, dict(f.providers)) for f in settings.feeds]
    yield from Backtest(settings.timeline, feeds, partitions, density=density).run(records)
