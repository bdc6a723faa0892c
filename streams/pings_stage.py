"""Stage one at the edge: runs of ping records in, frames to every facts partition, refused records to quarantine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson

from geo.frame import OUTCOMES, QUARANTINED, Frame
from geo.params import SEMANTICS, Timeline
from geo.source import Records, Source
from streams.batches import Batch, Run
from streams.frames import Sender, Writer, encode_frame
from streams.keeper import Boundary, PartitionState
from streams.metrics import Metrics, SnapshotKind
from streams.outbox import Record, Sink
from streams.pings import Feed, PingDecoder
from streams.snapshots import Columns, Snapshot

QUARANTINE_VALUE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class FactsRoute:
    """A facts partition: which cities it carries, and the tick from which it has existed."""

    partition: int
    cities: tuple[str, ...]
    from_tick: int


def facts_routes(timeline: Timeline) -> tuple[FactsRoute, ...]:
    """The facts partitions that any epoch names. A frame before a partition's first epoch is not told to it."""
    cities: dict[int, set[str]] = {}
    start: dict[int, int] = {}
    for epoch in timeline.epochs:
        for city in epoch.cities:
            cities.setdefault(city.partition, set()).add(city.name)
            start.setdefault(city.partition, epoch.from_tick)
    return tuple(FactsRoute(p, tuple(sorted(cities[p])), start[p]) for p in sorted(cities))


@dataclass(slots=True)
class QuarantineCap:
    """How many of (operator, reason) were kept in the tick that is open; over `limit` they are only counted."""

    limit: int
    tick: int = -1
    kept: dict[tuple[int, str], int] = field(default_factory=dict)

    def admits(self, tick: int, operator: int, reason: str) -> bool:
        if tick != self.tick:
            self.tick, self.kept = tick, {}
        count = self.kept[operator, reason] = self.kept.get((operator, reason), 0) + 1
        return count <= self.limit


@dataclass(frozen=True, slots=True)
class Refused:
    """A ping that is set aside: where it was, whose, what it said, and why.

    index: in the batch; -1: of an earlier one. item: which ping of its record; -1: the record is no more than this.
    """

    index: int
    offset: int
    item: int
    operator: int
    reason: str
    text: str


class PingPartition:
    """One input partition of pings: the state, and how far the log is taken in."""

    def __init__(self, topic: str, partition: int, source: Source, decoder: PingDecoder, position: int, cap: int) -> None:
        self.topic = topic
        self.partition = partition
        self.source = source
        self.decoder = decoder
        self.position = position
        self.told_through = -1
        self.clock_ms = source.resume_clock
        self.clock_record_outstanding = False
        self.cap = QuarantineCap(cap)

    def boundary(self) -> Boundary | None:
        resume = self.source.resume_offset
        if resume is None or self.source.through < 0:
            return None
        return Boundary(self.source.through, self.source.resume_clock, resume)

    def pack(self) -> tuple[Columns, bytes]:
        return self.source.pack(), b""


class PingsStage:
    """Every input partition of pings that this worker owns. Implements `streams.keeper.Stage` for its topics."""

    kind: SnapshotKind = "source"

    def __init__(
        self,
        *,
        timeline: Timeline,
        feeds: Iterable[Feed],
        sources: Sequence[tuple[str, int]],
        facts_topic: str,
        quarantine_topic: str,
        quarantine_cap: int,
        sink: Sink,
        metrics: Metrics,
    ) -> None:
        self._timeline = timeline
        self._feeds = {feed.topic: feed for feed in feeds}
        self._index = {source: i for i, source in enumerate(sources)}
        self._routes = facts_routes(timeline)
        self._facts_topic = facts_topic
        self._quarantine_topic = quarantine_topic
        self._quarantine_cap = quarantine_cap
        self._sink = sink
        self._metrics = metrics
        self._states: dict[tuple[str, int], PingPartition] = {}

    # --- the keeper's side ----------------------------------------------------------------------------------------------

    def fresh(self, topic: str, partition: int, log_start: int) -> PartitionState:
        return self._hold(topic, partition, Source(self._index[topic, partition], self._timeline), log_start)

    def restore(self, topic: str, partition: int, snapshot: Snapshot) -> PartitionState:
        source = Source.restore(self._index[topic, partition], self._timeline, dict(snapshot.columns))
        return self._hold(topic, partition, source, snapshot.manifest.resume_offset)

    async def loaded(self, topic: str, partition: int, state: PartitionState) -> None:
        """Nothing to put right: frames are an append-only log and readers ignore repeats."""

    def _hold(self, topic: str, partition: int, source: Source, position: int) -> PingPartition:
        decoder = PingDecoder(self._feeds[topic], self._timeline)
        state = self._states[topic, partition] = PingPartition(
            topic, partition, source, decoder, position, self._quarantine_cap
        )
        return state

    # --- the agent's side -----------------------------------------------------------------------------------------------

    async def take(self, state: PingPartition, runs: Sequence[Run]) -> None:
        """Take consecutive record batches of one partition: judge, tell the city, set refused records aside."""
        runs = [run for run in runs if run.next_offset > state.position]
        if not runs:
            return
        started = time.perf_counter()
        read = Batch.of_runs(runs)
        records, malformed, batch = state.decoder.decode(read)
        decoded = time.perf_counter()
        frames, refused = self._judge(state, records, malformed)
        state.position = runs[-1].next_offset
        state.clock_record_outstanding &= read.has_value is None
        judged = time.perf_counter()
        self._metrics.batch_records.observe(len(read))
        self._metrics.step.labels("decode").observe(decoded - started)
        self._metrics.step.labels("judge").observe(judged - decoded)
        await self._tell(state, frames)
        if refused:
            await self._set_aside(state, runs, batch, refused)
        self._metrics.step.labels("frames").observe(time.perf_counter() - judged)
        state.clock_ms = max(state.clock_ms, int(batch.record_ms.max()))
        through = state.source.through
        complete_ms = (through + 1) * self._timeline.tick_ms if through >= 0 else -1
        self._metrics.source_at(
            state.topic, state.partition, clock_ms=state.clock_ms, complete_ms=complete_ms, bikes=state.source.bikes()
        )

    def _judge(
        self, state: PingPartition, records: Records, malformed: Sequence[tuple[int, str]]
    ) -> tuple[list[Frame], list[Refused]]:
        step = state.source.add(records)
        refused = _refused(records, malformed, step.refused) if malformed or step.refused else []
        for frame in step.frames:
            self._metrics.count_outcomes(frame.outcomes)
            for city, section in frame.sections.items():
                self._metrics.facts.labels(city).inc(len(section.facts))
                self._metrics.heard(city, section.heard, (frame.tick + 1) * self._timeline.tick_ms)
        return step.frames, refused

    async def _tell(self, state: PingPartition, frames: Sequence[Frame]) -> None:
        through = state.source.through
        if not frames and through <= state.told_through:
            return
        epoch = self._timeline.at(max(through, 0))
        sender = Sender(state.topic, state.partition, bytes.fromhex(epoch.hash)[:16], SEMANTICS)
        for route in self._routes:
            writer = Writer(sender)
            for frame in frames:
                if frame.tick >= route.from_tick:
                    previous = frame.previous if frame.previous >= route.from_tick else -1
                    writer.frame(frame.tick, previous, encode_frame(frame, self._timeline, route.cities))
            last = state.source.last_tick
            writer.complete(through, last if last >= route.from_tick else -1)
            for value in writer.values():
                await self._sink.send(Record(self._facts_topic, route.partition, None, value))
        state.told_through = through

    async def _set_aside(self, state: PingPartition, runs: Sequence[Run], batch: Batch, refused: Sequence[Refused]) -> None:
        owners = [(run, i) for run in runs for i in range(len(run))]
        tick = state.source.through + 1
        kept: dict[str, int] = dict.fromkeys(QUARANTINED, 0)
        total: dict[str, int] = dict.fromkeys(QUARANTINED, 0)
        for one in refused:
            total[one.reason] += 1
            if not state.cap.admits(tick, one.operator, one.reason):
                continue
            kept[one.reason] += 1
            key, value = None, None
            if one.index >= 0:
                run, i = owners[one.index if batch.taken is None else batch.taken.record[one.index]]
                key, [value] = run.key(i), batch.values[one.index : one.index + 1].tolist()
            await self._sink.send(quarantine_record(self._quarantine_topic, state, one, key, value))
        for reason, count in total.items():
            if count:
                self._metrics.quarantine(reason, kept=kept[reason], suppressed=count - kept[reason])

    # --- the live clock -------------------------------------------------------------------------------------------------

    async def keep_time(self, now_ms: int, log_end: Mapping[tuple[str, int], int], grace_ms: int = 200) -> None:
        """Write a clock record into each quiet partition: its log is read to the end and its open tick is over.

        At most one is outstanding, the next only after it was read back. Only under `clock = "live"`.
        """
        tick_ms = self._timeline.tick_ms
        for (topic, partition), state in list(self._states.items()):
            end = log_end.get((topic, partition))
            over = state.clock_ms < 0 or now_ms >= (state.clock_ms // tick_ms + 1) * tick_ms + grace_ms
            if end is not None and state.position >= end and over and not state.clock_record_outstanding:
                state.clock_record_outstanding = True
                await self._sink.send(Record(topic, partition, b"", None))  # aiokafka wants a key or a value

    def forget(self, kept: Iterable[tuple[str, int]]) -> None:
        """Drop what went to another worker."""
        keep = set(kept)
        self._states = {tp: state for tp, state in self._states.items() if tp in keep}

    def clocks(self) -> dict[tuple[str, int], int]:
        """Clock of each source that has one; ms."""
        return {tp: state.clock_ms for tp, state in self._states.items() if state.clock_ms >= 0}


def _refused(records: Records, malformed: Sequence[tuple[int, str]], judged: Sequence[tuple[int, int, str]]) -> list[Refused]:
    """What the decoder and the source refused, as it is to be set aside."""
    offsets = records.offsets.tolist()
    items = [-1] * len(offsets) if records.items is None else records.items.tolist()
    refused = [Refused(i, offsets[i], items[i], -1, "malformed", text) for i, text in malformed]
    if judged:
        at = {place: i for i, place in enumerate(zip(offsets, items, strict=True))}
        whose = dict(zip(records.rows.tolist(), records.operator.tolist(), strict=True))
        for offset, item, reason in judged:
            index = at.get((offset, item), -1)
            refused.append(Refused(index, offset, item, whose.get(index, -1), reason, _TEXT[reason]))
    return refused


_TEXT = {
    "unknown_operator": "the operator is not in the allow-list, or not the one whose feed this is: correct the feed, or allow the operator",
    "future": "the device time is more than a minute ahead of the record's time: check the device's clock and the unit of `ts` (ms)",
    "internal_error": "judging this record raised an exception: please report it with this record",
}


def quarantine_record(topic: str, state: PingPartition, one: Refused, key: bytes | None, value: bytes | None) -> Record:
    """The refused record, or the refused ping of it, as JSON: what it said (cut), why it is refused, and where it came from."""
    origin: dict[str, Any] = {"topic": state.topic, "partition": state.partition, "offset": one.offset}
    if one.item >= 0:
        origin["index"] = one.item
    body: dict[str, Any] = {
        "schema": "urban-brain/quarantine/1",
        "reason": one.reason,
        "text": one.text,
        "origin": origin,
        "value": None if value is None else value[:QUARANTINE_VALUE_BYTES].decode("utf-8", "backslashreplace"),
        "value_bytes": None if value is None else len(value),
        "value_sha256": None if value is None else sha256(value).hexdigest(),
    }
    return Record(topic, 0, None if key is None else key[:QUARANTINE_VALUE_BYTES], orjson.dumps(body))


assert set(QUARANTINED) <= set(OUTCOMES)
