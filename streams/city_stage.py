"""Stage two at the edge: runs of frames in, alert events out. One state per facts partition, of all cities that it carries."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from geo.city import CityState, Event
from geo.density import Telling
from geo.merge import Merger, Waiting, documents_of, facts_of
from geo.params import SEMANTICS, Timeline
from geo.report import Reported
from streams.batches import Run
from streams.density import DensityMirror, density_record
from streams.errors import NewerFormat, WireError
from streams.events import AlertTopics, alert_records, open_record
from streams.frames import Assembler, Complete, Message, Part, decode_frame, decode_message
from streams.keeper import Boundary, PartitionState
from streams.metrics import Metrics, SnapshotKind
from streams.mirror import Mirror
from streams.outbox import Record, Sink
from streams.pacing import Progress
from streams.policy_documents import read_policy
from streams.readback import LogReader
from streams.report import ReportMirror, report_record
from streams.snapshots import Columns, Snapshot
from streams.source_stage import FactsRoute, facts_routes

log = logging.getLogger(__name__)

_GAP_PATIENCE_S = 30.0


class MergerState(msgspec.Struct):
    """Extra of a city's manifest: by source, the newest non-empty tick worked on and how far it was complete."""

    done: int
    sources: dict[str, tuple[int, int]]


class CityPartition:
    """One facts partition: its cities, and the merger of all sources."""

    def __init__(
        self,
        route: FactsRoute,
        timeline: Timeline,
        sources: Sequence[tuple[str, int]],
        position: int,
        *,
        feeds: int | None = None,
    ) -> None:
        """feeds: how many of the sources are of feeds, the others are control topics; None: all."""
        self.route = route
        self.position = position
        self.timeline = timeline
        self.sources = sources
        self.index = {source: i for i, source in enumerate(sources)}
        self.merger = Merger(len(sources))
        self.feeds = len(sources) if feeds is None else feeds
        self.assembler = Assembler()
        self.cities = {name: CityState(name, timeline, read_policy) for name in route.cities}
        self.advanced_at = time.monotonic()
        self.strangers: set[tuple[str, int]] = set()

    # --- the keeper's side ----------------------------------------------------------------------------------------------

    def boundary(self) -> Boundary | None:
        if self.merger.done < 0:
            return None
        waiting = [p for p in (self.merger.first_position(), self.assembler.first_position()) if p is not None]
        return Boundary(self.merger.done, -1, min([*waiting, self.position]))

    def pack(self) -> tuple[Columns, bytes]:
        columns = {f"{name}/{column}": value for name, city in self.cities.items() for column, value in city.pack().items()}
        state = dict(zip((f"{t}/{p}" for t, p in self.sources), self.merger.state(), strict=True))
        return columns, msgspec.msgpack.encode(MergerState(self.merger.done, state))

    def load(self, snapshot: Snapshot) -> None:
        """Take over a snapshot. Sources that it does not know begin anew; cities likewise."""
        kept = msgspec.msgpack.decode(snapshot.manifest.extra, type=MergerState)
        state = [kept.sources.get(f"{t}/{p}", (-1, -1)) for t, p in self.sources]
        self.merger = Merger.restore(kept.done, state)
        for name in self.cities:
            prefix = f"{name}/"
            columns = {k.removeprefix(prefix): v for k, v in snapshot.columns.items() if k.startswith(prefix)}
            if columns:
                self.cities[name] = CityState.restore(name, self.timeline, columns, read_policy)

    # --- the work -------------------------------------------------------------------------------------------------------

    def take(self, message: Message, offset: int) -> None:
        """Take one record: parts of frames and completions of one source."""
        sender = message.sender
        source = self.index.get((sender.topic, sender.partition))
        if source is None:
            self._stranger(sender.topic, sender.partition)
            return
        for entry in message.entries:
            if isinstance(entry, Complete):
                self.merger.complete(source, entry.through, entry.last)
            else:
                self._part(source, message, entry, offset)

    def _part(self, source: int, message: Message, part: Part, offset: int) -> None:
        chain = self.merger.chains[source]
        if part.tick <= chain.last:
            self.merger.repeat(source, part.tick, part.digest)
            return
        whole = self.assembler.add(message.sender, part, offset)
        if whole is None:
            return
        position, body = whole
        sections, _ = decode_frame(body, self.timeline)
        self.merger.offer(source, part.tick, Waiting(part.previous, sections, position, part.digest))
        self.assembler.forget(message.sender.topic, message.sender.partition, chain.last)

    def _stranger(self, topic: str, partition: int) -> None:
        if (topic, partition) not in self.strangers:
            self.strangers.add((topic, partition))
            log.error("frames of %s/%d, which is not a source of this configuration, are ignored", topic, partition)

    def advance(self) -> list[Event]:
        """Work on every tick that all sources have completed."""
        ready = self.merger.ready()
        if ready <= self.merger.done:
            return []
        self.advanced_at = time.monotonic()
        ticks = self.merger.take(ready)
        events: list[Event] = []
        for name, city in self.cities.items():
            events += city.advance(ready, facts_of(name, ticks, self.feeds), documents_of(name, ticks, self.feeds))
        return events

    def tellings(self) -> Iterator[Telling]:
        """What is to be told of the cells of its cities, by city in order of time; each once."""
        for city in self.cities.values():
            yield from city.density.take()

    def reports(self) -> Iterator[Reported]:
        """Days of its cities that are to be told, or told again; each once."""
        for city in self.cities.values():
            yield from city.reports.take()

    def waits_for(self) -> list[tuple[str, int]]:
        return [self.sources[i] for i in self.merger.waits_for()]


class CityStage:
    """Every facts partition that this worker owns. Implements `streams.keeper.Stage` for `city.facts`."""

    kind: SnapshotKind = "city"

    def __init__(
        self,
        *,
        timeline: Timeline,
        sources: Sequence[tuple[str, int]],
        feeds: int | None = None,
        topics: AlertTopics,
        density_topic: str,
        report_topic: str,
        progress_topic: str,
        sink: Sink,
        metrics: Metrics,
        clock: Literal["live", "replay"],
        reader: LogReader,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._timeline = timeline
        self._sources = sources
        self._feeds = feeds
        self._topics = topics
        self._density_topic = density_topic
        self._report_topic = report_topic
        self._progress_topic = progress_topic
        self._sink = sink
        self._metrics = metrics
        self._clock = clock
        self._now_ms = now_ms
        self._reader = reader
        self._mirrors: dict[int, tuple[Mirror, DensityMirror, ReportMirror]] = {}
        self._routes = {route.partition: route for route in facts_routes(timeline)}
        self._hashes = {bytes.fromhex(epoch.hash)[:16] for epoch in timeline.epochs}
        self._warned: set[bytes] = set()
        self.states: dict[int, CityPartition] = {}

    # --- the keeper's side ----------------------------------------------------------------------------------------------

    def fresh(self, topic: str, partition: int, log_start: int) -> PartitionState:
        return self._hold(partition, log_start)

    def restore(self, topic: str, partition: int, snapshot: Snapshot) -> PartitionState:
        state = self._hold(partition, snapshot.manifest.resume_offset)
        state.load(snapshot)
        return state

    def _hold(self, partition: int, position: int) -> CityPartition:
        route = self._routes.get(partition, FactsRoute(partition, (), 0))
        state = self.states[partition] = CityPartition(route, self._timeline, self._sources, position, feeds=self._feeds)
        return state

    async def loaded(self, topic: str, partition: int, state: PartitionState) -> None:
        opened = Mirror(self._reader, (self._topics.alerts_open, partition))
        density = DensityMirror(self._reader, self._density_topic, partition)
        self._mirrors[partition] = opened, density, ReportMirror(self._reader, self._report_topic, partition)
        await self.mend(partition)

    async def mend(self, partition: int) -> None:
        """Make our partition of the compacted topics say what the state says: a zombie may have written into it.

        Nothing may be taken into the state meanwhile: what it decides would be sent, and then the older again.
        """
        await self.read_back(partition)
        await self.put_right(partition)

    async def read_back(self, partition: int) -> None:
        """Read what was written since the last time; may wait for a broker, and harms nothing meanwhile."""
        if partition in self._mirrors:
            await self._sink.flush()
            for mirror in self._mirrors[partition]:
                await mirror.refresh()

    async def put_right(self, partition: int) -> None:
        """Rewrite what was read back and differs from the state."""
        state = self.states.get(partition)
        if state is None or partition not in self._mirrors:
            return
        opened, density, reports = self._mirrors[partition]
        await self._put_alerts_right(opened, state)
        wrong = list(density.wrong(state.cities))
        if wrong:
            log.warning("cell.density does not say of %d cells what was told last: written again", len(wrong))
        days = list(reports.wrong(state.cities))
        if days:
            log.warning("operator.report does not say of %d days what was told last: written again", len(days))
        await self._sink.send_all(wrong)
        await self._sink.send_all(days)

    async def _put_alerts_right(self, mirror: Mirror, state: CityPartition) -> None:
        partition = state.route.partition
        events = (event for city in state.cities.values() for event in city.open_events().values())
        opened = {event.episode_id.encode(): event for event in events if not event.shadow}
        for key in [key for key in mirror.newest if key not in opened]:
            log.warning("alerts.open holds an episode that is not open: deleted")
            await self._sink.send(Record(self._topics.alerts_open, partition, key, None))
        for key, event in opened.items():
            newest = mirror.newest.get(key)
            if newest != event.body:
                await self._sink.send(open_record(event, self._topics.alerts_open, partition, event.body))

    # --- the agent's side -----------------------------------------------------------------------------------------------

    async def take(self, state: CityPartition, runs: Sequence[Run]) -> None:
        """Take consecutive record batches of a facts partition and send what they decide."""
        started = time.perf_counter()
        for run in runs:
            if run.next_offset <= state.position:
                continue
            offsets: NDArray[np.int64] = run.offsets()
            for offset, value in zip(offsets.tolist(), run.values, strict=True):
                if offset >= state.position and value is not None:
                    self._read(state, value, offset)
            state.position = run.next_offset
        merged = time.perf_counter()
        before = state.merger.done
        events = state.advance()
        decided = time.perf_counter()
        for event in events:
            self._metrics.decided(event.city, event.kind, event.state)
            await self._publish(event, state.route.partition)
        for one in state.cities.values():
            self._metrics.answered(one.responses.counted())
        tellings = list(state.tellings())
        await self._sink.send_all([density_record(told, self._density_topic, state.route.partition) for told in tellings])
        reports = list(state.reports())
        await self._sink.send_all([report_record(told, self._report_topic, state.route.partition) for told in reports])
        for city, days in Counter(told.city for told in reports).items():
            self._metrics.reports.told(city, days)
        for city, cells in Counter(told.city for told in tellings).items():
            self._metrics.density_told(city, cells)
        if state.merger.done > before:
            await self._progress(state)
        self._metrics.step.labels("merge").observe(merged - started)
        self._metrics.step.labels("city").observe(decided - merged)
        self._metrics.step.labels("publish").observe(time.perf_counter() - decided)

    def _read(self, state: CityPartition, value: bytes, offset: int) -> None:
        try:
            message = decode_message(value)
        except NewerFormat:
            raise
        except WireError as error:
            log.error("a record of city.facts at offset %d is not a frame and is ignored: %s", offset, error)
            self._metrics.frame_conflicts.inc()
            return
        self._compare(message)
        conflicts = state.merger.conflicts
        state.take(message, offset)
        if state.merger.conflicts > conflicts:
            self._metrics.frame_conflicts.inc(state.merger.conflicts - conflicts)
            log.error(
                "two different frames for one tick of %s/%d: the first counts", message.sender.topic, message.sender.partition
            )

    def _compare(self, message: Message) -> None:
        sender = message.sender
        if (sender.config in self._hashes and sender.semantics == SEMANTICS) or sender.config in self._warned:
            return
        self._warned.add(sender.config)
        log.warning(
            "frames of %s/%d come from a worker with another configuration (%s) or semantics (%d, here %d)",
            *(sender.topic, sender.partition, sender.config.hex(), sender.semantics, SEMANTICS),
        )

    async def _publish(self, event: Event, partition: int) -> None:
        late_ms = self._now_ms() - event.time_ms if self._clock == "live" else None
        sent: list[asyncio.Future[Any]] = [
            await self._sink.send(record) for record in alert_records(event, self._topics, partition, late_ms)
        ]
        sent[0].add_done_callback(lambda done: self._sent(event, done))

    def _sent(self, event: Event, done: asyncio.Future[Any]) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        latency_s = (self._now_ms() - event.time_ms) / 1000 if self._clock == "live" else None
        self._metrics.alert_sent(event.city, event.operator, event.kind, event.state, latency_s=latency_s)

    async def _progress(self, state: CityPartition) -> None:
        value = msgspec.json.encode(Progress(state.merger.done, self._timeline.tick_ms))
        for name in state.cities:
            await self._sink.send(Record(self._progress_topic, state.route.partition, name.encode(), value))

    def _report(self, state: CityPartition) -> None:
        end_ms = (state.merger.done + 1) * self._timeline.tick_ms
        for name, city in state.cities.items():
            self._metrics.city_at(name, end_ms)
            counts: dict[tuple[str, str, str], int] = {}
            for event in city.open_events().values():
                if event.shadow:
                    continue
                key = (event.operator, *event.rule)
                counts[key] = counts.get(key, 0) + 1
            self._metrics.episodes(name, counts)
            self._metrics.density(name, cells=city.density.cells)
            self._metrics.reports.today(name, city.reports.of_today(city.watches, city.silence.now))
            self._metrics.roster(name, {operator: city.roster_count(operator) for operator in self._timeline.operators})

    # --- watching -------------------------------------------------------------------------------------------------------

    def watch(self) -> list[str]:
        """Report how the cities stand and which sources they wait for, at each scrape; sentences for /ready about those that
        have waited too long."""
        reasons = []
        for state in self.states.values():
            if state.merger.done >= 0:
                self._report(state)
            waited_s = time.monotonic() - state.advanced_at
            waiting = state.waits_for() if waited_s > 2 * self._timeline.tick_ms / 1000 else []
            for name in state.cities:
                self._metrics.city_waits_for(name, dict.fromkeys(waiting, waited_s))
            # When a replay is over, all sources are equally far and nothing is waited for.
            held_back = bool(waiting) and (self._clock == "live" or len(waiting) < len(self._sources))
            if state.cities and held_back and waited_s > _GAP_PATIENCE_S:
                names = ", ".join(source_name_of(source) for source in waiting[:5])
                reasons.append(f"{', '.join(state.cities)} has waited {waited_s:.0f} s for {names}")
            for index, tick in state.merger.gaps().items():
                log.error(
                    "a frame of %s behind tick %d is missing; waiting for its source to send it again",
                    self._sources[index],
                    tick,
                )
        return reasons

    def forget(self, kept: Iterable[int]) -> None:
        """Drop what went to another worker."""
        keep = set(kept)
        for partition in [p for p in self.states if p not in keep]:
            for name in self.states.pop(partition).cities:
                self._metrics.forget_city(name)


def source_name_of(source: tuple[str, int]) -> str:
    return f"{source[0]}/{source[1]}"
