"""The same core without Kafka: recorded pings in, the alerts that the live system would send out, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from zlib import crc32

import numpy as np

from geo.city import CityState, Event
from geo.control import ControlSource
from geo.density import Telling
from geo.frame import Document, Frame
from geo.merge import Merger, Waiting, documents_of, facts_of
from geo.params import Timeline
from geo.report import Reported
from geo.source import Source
from streams.batches import Batch
from streams.control_stage import ControlReader
from streams.feeds.records import FeedRecord
from streams.pings import Feed, PingDecoder
from streams.policy_documents import read_policy
from streams.settings import ControlSettings, Settings

CHUNK_RECORDS = 50_000


@dataclass(frozen=True, slots=True)
class Trial:
    """Other policies for the same cities. policies: ids that are on trial: what the topic says of them is not heeded."""

    timeline: Timeline
    policies: frozenset[str]

    def heeded(self, documents: Sequence[Document]) -> tuple[Document, ...]:
        return tuple(d for d in documents if d.kind != "policy" or read_policy(d.body).policy_id not in self.policies)


class Backtest:
    """A whole deployment in one object: every source, the merger, every city."""

    def __init__(
        self,
        timeline: Timeline,
        feeds: Iterable[Feed],
        partitions: int = 1,
        controls: Iterable[ControlSettings] = (),
        *,
        trial: Trial | None = None,
        density: Callable[[Telling], None] = lambda told: None,
        report: Callable[[Reported], None] = lambda told: None,
    ) -> None:
        """partitions: of each feed's topic. The result does not depend on it for logs sorted by record time.

        trial: the same cities once more with other policies, told the same. density: is handed what is told of the cells, in
        order of time; of one moment the cities by name. report: likewise what is told of days.
        """
        feeds = sorted(feeds, key=lambda feed: feed.topic)
        controls = sorted(controls, key=lambda control: control.topic)
        self._partitions = partitions
        self._tick_ms = timeline.tick_ms
        self._feeds = len(feeds) * partitions
        self._first = {feed.topic: i * partitions for i, feed in enumerate(feeds)}
        self._control = {control.topic: self._feeds + i for i, control in enumerate(controls)}
        self._sources: list[_Bikes | _Documents] = [
            _Bikes(i * partitions + p, feed, timeline) for i, feed in enumerate(feeds) for p in range(partitions)
        ]
        self._sources += [_Documents(self._control[control.topic], control, timeline) for control in controls]
        self._offsets = [0] * len(self._sources)
        self._merger = Merger(len(self._sources))
        self._density, self._report = density, report
        self.cities = {name: CityState(name, timeline, read_policy) for name in timeline.cities}
        self._trial = trial
        tried = trial.timeline if trial else timeline
        self._tried = {name: CityState(name, tried, read_policy) for name in tried.cities} if trial else {}

    def run(self, records: Iterable[FeedRecord]) -> Iterator[Event]:
        """Events in order of time; of one tick the cities by name. records: sorted by record time."""
        yield from (event for event, tried in self.run_both(records) if not tried)

    def run_both(self, records: Iterable[FeedRecord]) -> Iterator[tuple[Event, bool]]:
        """The same, and those of the trial, which are marked."""
        stream = iter(records)
        clock_ms = -1
        while chunk := list(islice(stream, CHUNK_RECORDS)):
            clock_ms = max(clock_ms, *(record.record_ms for record in chunk))
            yield from self._take(chunk, clock_ms)
        if clock_ms >= 0:
            yield from self._take([], (clock_ms // self._tick_ms + 1) * self._tick_ms)

    def _take(self, chunk: list[FeedRecord], clock_ms: int) -> list[tuple[Event, bool]]:
        shares: list[list[FeedRecord]] = [[] for _ in self._sources]
        for record in chunk:
            shares[self._source_of(record)].append(record)
        for index, share in enumerate(shares):
            self._feed(index, share, clock_ms)
        return self._advance()

    def _source_of(self, record: FeedRecord) -> int:
        first = self._first.get(record.topic)
        return self._control[record.topic] if first is None else first + crc32(record.key) % self._partitions

    def _feed(self, index: int, share: list[FeedRecord], clock_ms: int) -> None:
        """The share of one source, and then a clock record: it has nothing more up to there."""
        values: list[bytes | None] = [*(record.value for record in share), None]
        record_ms = np.array([*(record.record_ms for record in share), clock_ms], np.int64)
        offsets = np.arange(self._offsets[index], self._offsets[index] + len(values), dtype=np.int64)
        self._offsets[index] += len(values)
        source = self._sources[index]
        for frame in source.add(Batch.of(values, record_ms, offsets)):
            self._merger.offer(index, frame.tick, Waiting(frame.previous, frame.sections, int(offsets[0]), b""))
        self._merger.complete(index, source.state.through, source.state.last_tick)

    def _advance(self) -> list[tuple[Event, bool]]:
        ready = self._merger.ready()
        if ready <= self._merger.done:
            return []
        told = self._merger.take(ready)
        events: list[tuple[Event, bool]] = []
        tellings: list[Telling] = []
        reports: list[Reported] = []
        for name, city in self.cities.items():
            facts, documents = facts_of(name, told, self._feeds), documents_of(name, told, self._feeds)
            events += [(event, False) for event in city.advance(ready, facts, documents)]
            tellings += city.density.take()
            reports += city.reports.take()
            if self._trial:
                documents = [(tick, self._trial.heeded(some)) for tick, some in documents]
                events += [(event, True) for event in self._tried[name].advance(ready, facts, documents)]
                self._tried[name].density.take()
                self._tried[name].reports.take()
        for telling in sorted(tellings, key=lambda told: told.at_ms):
            self._density(telling)
        for reported in sorted(reports, key=lambda told: told.at_ms):
            self._report(reported)
        return sorted(events, key=lambda one: one[0].tick)


class _Bikes:
    """A partition of a feed."""

    def __init__(self, index: int, feed: Feed, timeline: Timeline) -> None:
        self.state = Source(index, timeline)
        self._decoder = PingDecoder(feed, timeline)

    def add(self, batch: Batch) -> list[Frame]:
        return self.state.add(self._decoder.decode(batch)[0]).frames


class _Documents:
    """A control topic."""

    def __init__(self, index: int, control: ControlSettings, timeline: Timeline) -> None:
        self.state = ControlSource(index, timeline)
        self._reader = ControlReader(control, timeline)

    def add(self, batch: Batch) -> list[Frame]:
        return self.state.add(batch.record_ms, batch.offsets, batch.has_value, self._reader.read(batch)[0])


def backtester(
    settings: Settings,
    *,
    partitions: int = 1,
    trial: Trial | None = None,
    density: Callable[[Telling], None] = lambda told: None,
    report: Callable[[Reported], None] = lambda told: None,
) -> Backtest:
    """Of a whole configuration; trial, density, report: as in `Backtest`."""
    feeds = [Feed(f.topic, f.operator, f.coordinates, f.format, dict(f.providers)) for f in settings.feeds]
    return Backtest(settings.timeline, feeds, partitions, settings.controls, trial=trial, density=density, report=report)


def backtest(
    settings: Settings,
    records: Iterable[FeedRecord],
    *,
    partitions: int = 1,
    density: Callable[[Telling], None] = lambda told: None,
    report: Callable[[Reported], None] = lambda told: None,
) -> Iterator[Event]:
    """The events that the live system would send for these records under this configuration. density, report: as in `Backtest`."""
    yield from backtester(settings, partitions=partitions, density=density, report=report).run(records)


def with_documents(records: Iterable[FeedRecord], documents: Iterable[FeedRecord]) -> Iterator[FeedRecord]:
    """Pings and documents of control topics, each in order of record time, as one."""
    return merge(records, documents, key=lambda record: record.record_ms)
