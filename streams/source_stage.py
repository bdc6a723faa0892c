"""Stage one at the edge, whatever the source: runs of records in, frames to every facts partition, refused records to quarantine.

What a source's records say is the affair of `streams/pings_stage.py` and `streams/control_stage.py`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Generic, Protocol, TypeVar

import orjson

from geo.frame import OUTCOMES, QUARANTINED, Frame
from geo.packing import Column, Packed
from geo.params import SEMANTICS, Timeline
from streams.batches import Batch, Run
from streams.frames import Sender, Writer, encode_frame
from streams.keeper import Boundary
from streams.metrics import Metrics, SnapshotKind
from streams.outbox import Record, Sink
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
    """What is set aside: where it was, whose, what it said, and why.

    index: in the batch; -1: of an earlier one. item: which ping of its record; -1: the record is no more than this.
    """

    index: int
    offset: int
    item: int
    operator: int
    reason: str
    text: str


class SourceState(Protocol):
    """What stage one knows of a partition: of bikes `geo.source.Source`, of control topics `geo.control.ControlSource`."""

    @property
    def through(self) -> int: ...
    @property
    def last_tick(self) -> int: ...
    @property
    def resume_offset(self) -> int | None: ...
    @property
    def resume_clock(self) -> int: ...
    def pack(self) -> Packed: ...


SourceT = TypeVar("SourceT", bound=SourceState)


class SourcePartition(Generic[SourceT]):
    """One input partition: the state, and how far the log is taken in."""

    def __init__(self, topic: str, partition: int, source: SourceT, position: int, cap: int) -> None:
        self.topic = topic
        self.partition = partition
        self.source = source
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


StateT = TypeVar("StateT", bound=SourcePartition[Any])


class SourceStage(ABC, Generic[StateT]):
    """Every input partition of a kind that this worker owns. Implements `streams.keeper.Stage` for its topics."""

    kind: SnapshotKind = "source"

    def __init__(
        self,
        *,
        timeline: Timeline,
        sources: Sequence[tuple[str, int]],
        facts_topic: str,
        quarantine_topic: str,
        quarantine_cap: int,
        sink: Sink,
        metrics: Metrics,
    ) -> None:
        self._timeline = timeline
        self._index = {source: i for i, source in enumerate(sources)}
        self._routes = facts_routes(timeline)
        self._facts_topic = facts_topic
        self._quarantine_topic = quarantine_topic
        self._quarantine_cap = quarantine_cap
        self._sink = sink
        self._metrics = metrics
        self._states: dict[tuple[str, int], StateT] = {}

    # --- what the kinds differ in ---------------------------------------------------------------------------------------

    @abstractmethod
    def _begin(self, topic: str, partition: int, packed: Mapping[str, Column] | None, position: int) -> StateT:
        """The state of a partition, as packed or with nothing known, that reads on from `position`."""

    @abstractmethod
    def _read(self, state: StateT, batch: Batch) -> tuple[list[Frame], list[Refused], Batch]:
        """Take records in: the frames of all ticks that they close, and what is to be set aside, by its index in the batch as it
        was taken: one of several pings has a place of its own."""

    def _report(self, state: StateT, *, complete_ms: int) -> None:
        self._metrics.source_at(state.topic, state.partition, clock_ms=state.clock_ms, complete_ms=complete_ms)

    # --- the keeper's side ----------------------------------------------------------------------------------------------

    def fresh(self, topic: str, partition: int, log_start: int) -> StateT:
        state = self._states[topic, partition] = self._begin(topic, partition, None, log_start)
        return state

    def restore(self, topic: str, partition: int, snapshot: Snapshot) -> StateT:
        state = self._begin(topic, partition, dict(snapshot.columns), snapshot.manifest.resume_offset)
        self._states[topic, partition] = state
        return state

    async def loaded(self, topic: str, partition: int, state: object) -> None:
        """Nothing to put right: frames are an append-only log and readers ignore repeats."""

    # --- the agent's side -----------------------------------------------------------------------------------------------

    async def take(self, state: StateT, runs: Sequence[Run]) -> None:
        """Take consecutive record batches of one partition: judge, tell the city, set refused records aside."""
        runs = [run for run in runs if run.next_offset > state.position]
        if not runs:
            return
        batch = Batch.of_runs(runs)
        frames, refused, taken = self._read(state, batch)
        state.position = runs[-1].next_offset
        state.clock_record_outstanding &= batch.has_value is None
        judged = time.perf_counter()
        self._metrics.batch_records.observe(len(batch))
        await self._tell(state, frames)
        if refused:
            await self._set_aside(state, runs, taken, refused)
        self._metrics.step.labels("frames").observe(time.perf_counter() - judged)
        state.clock_ms = max(state.clock_ms, int(batch.record_ms.max()))
        through = state.source.through
        self._report(state, complete_ms=(through + 1) * self._timeline.tick_ms if through >= 0 else -1)

    async def _tell(self, state: StateT, frames: Sequence[Frame]) -> None:
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

    async def _set_aside(self, state: StateT, runs: Sequence[Run], batch: Batch, refused: Sequence[Refused]) -> None:
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


def quarantine_record(topic: str, state: SourcePartition[Any], one: Refused, key: bytes | None, value: bytes | None) -> Record:
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
