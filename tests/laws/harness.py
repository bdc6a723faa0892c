"""The core as it runs, without Kafka: logs in, frames and events out, with any cuts, crashes and orders on the way.

A `Fate` decides where batches end, where a process dies and what its newest snapshot then is. What is read again after a
crash must come out the same byte for byte, or the harness itself fails.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from geo.alert import CLEARED, DEFICIT, OVERCROWDED, Event
from geo.control import ControlSource
from geo.density import Telling
from geo.frame import OUTCOMES, Frame
from geo.params import SEMANTICS, Timeline
from geo.report import Reported
from geo.source import Source
from streams.batches import Batch
from streams.city_stage import CityPartition
from streams.control_stage import ControlReader
from streams.frames import Sender, Writer, decode_message, encode_frame
from streams.pings import Feed, PingDecoder
from streams.settings import ControlSettings
from streams.snapshots import Columns, Snapshot, pack_columns, unpack_columns
from streams.source_stage import FactsRoute, facts_routes
from tests.laws.answers import Open
from tests.laws.worlds import Logs, World, WorldFeed
from tests.oracle.bodies import TrueEvent
from tests.oracle.density import TrueTelling
from tests.oracle.report import TrueReport
from tests.oracle.stage import Record, TickTruth

Plain = dict[str, Any]


@dataclass
class Fate:
    """How a log is read. batch: the greatest number of records read at once, None: all; crash: probability per batch.

    lives: how many crashes there are at most in one log; each may throw it back to its beginning.
    """

    r: random.Random
    batch: int | None = None
    crash: float = 0.0
    lives: int = 8

    def take(self, left: int) -> int:
        return left if self.batch is None else min(left, self.r.randint(1, self.batch))

    def dies(self, crashes: int) -> bool:
        return crashes < self.lives and self.r.random() < self.crash


SMOOTH = Fate(random.Random(0))


# --- stage one ----------------------------------------------------------------------------------------------------------


@dataclass
class SourceRun:
    """What stage one makes of one partition. told: by facts partition, the record values that it writes there."""

    frames: list[Frame] = field(default_factory=list)
    refused: set[tuple[int, int, str]] = field(default_factory=set)
    told: dict[int, list[bytes]] = field(default_factory=dict)
    crashes: int = 0
    source: Source | ControlSource | None = None


class Bikes:
    """Reads the records of a feed."""

    kind = Source

    def __init__(self, feed: WorldFeed, timeline: Timeline) -> None:
        settings = Feed(feed.topic, feed.operator, cast(Any, feed.coordinates), cast(Any, feed.format))
        self.decoder = PingDecoder(settings, timeline)
        for reader in (self.decoder._reader, self.decoder._item_reader):
            reader.few = 1  # batches are small here, and templates are to be tried on them

    def add(self, source: Source, batch: Batch, refused: set[tuple[int, int, str]]) -> list[Frame]:
        records, malformed, _ = self.decoder.decode(batch)
        step = source.add(records)
        items = np.full(len(records), -1) if records.items is None else records.items
        refused.update((int(records.offsets[i]), int(items[i]), "malformed") for i, _ in malformed)
        refused.update(step.refused)
        return step.frames


class Papers:
    """Reads the records of a control topic."""

    kind = ControlSource

    def __init__(self, topic: str, operator: str | None, timeline: Timeline) -> None:
        self.reader = ControlReader(ControlSettings(topic, "response" if operator else "policy", operator), timeline)

    def add(self, source: ControlSource, batch: Batch, refused: set[tuple[int, int, str]]) -> list[Frame]:
        documents, bad = self.reader.read(batch)
        refused.update((one.offset, one.item, one.reason) for one in bad)
        return source.add(batch.record_ms, batch.offsets, batch.has_value, documents)


def run_source(world: World, name: tuple[str, int], index: int, log: Sequence[Record], fate: Fate = SMOOTH) -> SourceRun:
    timeline, feed = world.timeline, world.feeds.get(name[0])
    decoder: Any = Papers(name[0], world.controls[name[0]], timeline) if feed is None else Bikes(feed, timeline)
    routes = facts_routes(timeline)
    run = SourceRun(told={route.partition: [] for route in routes})
    known: dict[int, bytes] = {}
    source, kept, at = decoder.kind(index, timeline), None, 0
    while at < len(log):
        if fate.dies(run.crashes):
            run.crashes += 1
            source, at = _reborn(decoder.kind, index, timeline, kept, log)
            continue
        end = at + fate.take(len(log) - at)
        part = log[at:end]
        frames = _add(source, decoder, part, run.refused)
        _told(run, routes, world, name, source, frames)
        for frame in frames:
            body = _bytes(frame, timeline)
            if known.setdefault(frame.tick, body) is body:
                run.frames.append(frame)
            assert known[frame.tick] == body, f"source {name} says something else of tick {frame.tick} after a restart"
        at = end
        if fate.crash and fate.r.random() < 0.4 and source.through >= 0:
            kept = (_stored(source.pack()), source.resume_offset)
    run.source = source
    return run


def _add(source: Any, decoder: Any, part: Sequence[Record], refused: set[tuple[int, int, str]]) -> list[Frame]:
    record_ms = np.array([record.timestamp_ms for record in part], np.int64)
    offsets = np.array([record.offset for record in part], np.int64)
    frames: list[Frame] = decoder.add(source, Batch.of([record.value for record in part], record_ms, offsets), refused)
    return frames


def _reborn(
    kind: Any, index: int, timeline: Timeline, kept: tuple[Any, int | None] | None, log: Sequence[Record]
) -> tuple[Any, int]:
    if kept is None:
        return kind(index, timeline), 0
    packed, resume = kept
    assert resume is not None
    at = next((i for i, record in enumerate(log) if record.offset >= resume), len(log))
    return kind.restore(index, timeline, packed), at


def _stored(columns: Columns) -> Columns:
    """Columns as they come back from a changelog."""
    layout, blobs = pack_columns(columns)
    return dict(unpack_columns(layout, [bytes(blob) for blob in blobs]))


def _told(
    run: SourceRun, routes: Sequence[FactsRoute], world: World, name: tuple[str, int], source: Any, frames: Sequence[Frame]
) -> None:
    """As `streams.source_stage` tells it."""
    for route in routes:
        writer = Writer(Sender(*name, bytes(16), SEMANTICS))
        for frame in frames:
            if frame.tick >= route.from_tick:
                previous = frame.previous if frame.previous >= route.from_tick else -1
                writer.frame(frame.tick, previous, encode_frame(frame, world.timeline, route.cities))
        if source.through >= 0:
            writer.complete(source.through, source.last_tick if source.last_tick >= route.from_tick else -1)
        run.told[route.partition] += writer.values()


def _bytes(frame: Frame, timeline: Timeline) -> bytes:
    return encode_frame(frame, timeline, timeline.cities) + f"|{frame.tick}|{frame.previous}".encode()


def run_sources(world: World, logs: Logs, fate: Fate = SMOOTH) -> list[SourceRun]:
    """All partitions, in order of (topic, partition)."""
    return [run_source(world, name, i, logs[name], fate) for i, name in enumerate(sorted(logs))]


# --- the city -----------------------------------------------------------------------------------------------------------


@dataclass
class CitiesRun:
    events: dict[str, list[Event]]  # by city, distinct, in order
    density: dict[str, list[Telling]]  # likewise
    reports: dict[str, list[Reported]]  # likewise
    crashes: int = 0
    partitions: list[CityPartition] = field(default_factory=list)

    @property
    def told(self) -> tuple[object, ...]:
        """All that the contract holds for."""
        return self.events, self.density, self.reports


def interleaved(runs: Sequence[SourceRun], partition: int, r: random.Random | None, *, repeat: float = 0.0) -> list[bytes]:
    """The log of a facts partition: each source in its order, sources mixed anyhow.

    repeat: how probably a record comes again later; then some sources have also lost a send and written all anew.
    """
    queues = [list(run.told[partition]) for run in runs]
    if r is None:
        return [value for queue in queues for value in queue]
    if repeat:
        queues = [_torn(queue, r) if len(queue) > 2 and r.random() < 0.5 else queue for queue in queues]
    log: list[bytes] = []
    while queues := [queue for queue in queues if queue]:
        log.append(r.choice(queues).pop(0))
        if r.random() < repeat:
            log.append(r.choice(log))
    return log


def _torn(queue: list[bytes], r: random.Random) -> list[bytes]:
    """One record was lost, some behind it were not; then the source was restored before it and wrote it all again."""
    lost = r.randrange(len(queue) - 1)
    died = r.randint(lost + 1, len(queue))
    return queue[:lost] + queue[lost + 1 : died] + queue[r.randint(0, lost) :]


def run_cities(
    world: World, names: Sequence[tuple[str, int]], logs: Mapping[int, Sequence[bytes]], fate: Fate = SMOOTH
) -> CitiesRun:
    """names: sources in order; logs: of each facts partition."""
    cities = world.timeline.cities
    run = CitiesRun(*({name: [] for name in cities} for _ in range(3)))
    for route in facts_routes(world.timeline):
        _run_partition(run, route, world, sorted(names), logs[route.partition], fate)
    return run


def _run_partition(
    run: CitiesRun, route: FactsRoute, world: World, names: Sequence[tuple[str, int]], log: Sequence[bytes], fate: Fate
) -> None:
    known: dict[str, Event] = {}
    mapped: dict[tuple[bytes, int], Telling] = {}
    rated: dict[tuple[bytes, int], Reported] = {}
    state, kept, at, crashes = _city(route, world, names), None, 0, 0
    while at < len(log):
        if fate.dies(crashes):
            crashes += 1
            run.crashes += 1
            state, at = _city_reborn(route, world, names, kept)
            continue
        end = at + fate.take(len(log) - at)
        for offset in range(at, end):
            state.take(decode_message(log[offset]), offset)
            state.position = offset + 1
        for event in state.advance():
            if known.setdefault(event.event_id, event) is event:
                run.events[event.city].append(event)
            assert known[event.event_id] == event, f"{event.event_id} was told otherwise before"
        for telling in state.tellings():
            if mapped.setdefault((telling.key, telling.at_ms), telling) is telling:
                run.density[telling.city].append(telling)
            assert mapped[telling.key, telling.at_ms] == telling, f"{telling.key!r} was told otherwise before"
        for report in state.reports():
            if rated.setdefault((report.key, report.at_ms), report) is report:
                run.reports[report.city].append(report)
            assert rated[report.key, report.at_ms] == report, f"{report.key!r} was told otherwise before"
        at = end
        boundary = state.boundary()
        if fate.crash and boundary is not None and fate.r.random() < 0.4:
            columns, extra = state.pack()
            kept = (_stored(columns), extra, boundary.resume_offset)
    assert state.merger.conflicts == 0
    run.partitions.append(state)


def _city(route: FactsRoute, world: World, names: Sequence[tuple[str, int]]) -> CityPartition:
    return CityPartition(route, world.timeline, names, 0, feeds=sum(topic in world.feeds for topic, _ in names))


def _city_reborn(
    route: FactsRoute, world: World, names: Sequence[tuple[str, int]], kept: tuple[Columns, bytes, int] | None
) -> tuple[CityPartition, int]:
    state = _city(route, world, names)
    if kept is None:
        return state, 0
    columns, extra, resume = kept
    state.load(cast(Snapshot, SimpleNamespace(columns=columns, manifest=SimpleNamespace(extra=extra))))
    state.position = resume
    return state, resume


def run_all(world: World, logs: Logs, fate: Fate = SMOOTH, *, repeat: float = 0.0) -> CitiesRun:
    """Both stages."""
    runs = run_sources(world, logs, fate)
    r = None if fate is SMOOTH else fate.r
    facts = {route.partition: interleaved(runs, route.partition, r, repeat=repeat) for route in facts_routes(world.timeline)}
    return run_cities(world, sorted(logs), facts, fate)


def episodes_of(world: World) -> list[Open]:
    """All that operators are told of, in the order in which they open."""
    found: dict[str, Open] = {}
    world = replace(world, timeline=_plain_cities(world.timeline))
    last = max((one.record_ms for one in world.sent), default=0) // world.timeline.tick_ms
    for event in (event for events in run_all(world, world.logs()).events.values() for event in events):
        if event.kind in (OVERCROWDED, DEFICIT):
            opened = found.get(event.episode_id) or Open(event.city, event.operator, event.episode_id, event.tick, last)
            found[event.episode_id] = replace(opened, cleared=event.tick) if event.state == CLEARED else opened
    return sorted(found.values(), key=lambda one: (one.opened, one.episode_id))


def _plain_cities(timeline: Timeline) -> Timeline:
    """Without what costs time and changes nothing of when episodes open and clear."""
    epochs = (
        replace(e, cities=tuple(replace(c, planning=None, density_interval_ms=0) for c in e.cities)) for e in timeline.epochs
    )
    return replace(timeline, epochs=tuple(epochs))


# --- to compare ---------------------------------------------------------------------------------------------------------


def plain_frame(frame: Frame, timeline: Timeline) -> Plain:
    """A frame in words, as `plain_truth` puts the oracle's."""
    names = [*timeline.operators, ""]
    cities = {}
    for city, section in frame.sections.items():
        facts, heard = section.facts, section.heard.tolist()
        columns = (facts.lat, facts.lng, facts.stands, facts.state, facts.vehicle, facts.rode, facts.since, facts.version)
        rows = zip(facts.operator.tolist(), facts.ids, *(column.tolist() for column in columns), strict=True)
        cities[city] = {
            "facts": [(names[operator], *rest) for operator, *rest in rows],
            "heard": {names[i]: n for i, n in enumerate(heard) if n},
        }
    counts = frame.outcomes.tolist()
    outcomes = {(names[i], OUTCOMES[j]): n for i, row in enumerate(counts) for j, n in enumerate(row) if n}
    return {"tick": frame.tick, "previous": frame.previous, "cities": cities, "outcomes": outcomes}


def plain_truth(truth: TickTruth) -> Plain:
    cities = {}
    for city, said in truth.cities.items():
        facts = [(f.operator, f.bike, *f.at, f.stands, f.state, f.vehicle, f.rode, f.since, f.version) for f in said.facts]
        cities[city] = {"facts": facts, "heard": dict(said.heard)}
    return {"tick": truth.tick, "previous": truth.previous, "cities": cities, "outcomes": dict(truth.outcomes)}


def plain_events(events: Sequence[Event] | Sequence[TrueEvent]) -> list[tuple[object, ...]]:
    return [
        (e.event_id, e.tick, e.operator, e.kind, e.state, e.sequence, e.area, e.rule, e.body, e.operator_body, e.shadow)
        for e in events
    ]


def plain_records(
    told: Sequence[Telling | Reported] | Sequence[TrueTelling] | Sequence[TrueReport],
) -> list[tuple[object, ...]]:
    return [(one.key if isinstance(one.key, bytes) else one.key.encode(), one.at_ms, one.body) for one in told]
