"""The keeper: the state of each partition that this worker owns, where reading goes on, and when it is written down.

The order that loses nothing: outputs flushed with every result checked, then the parts of the snapshot, then its manifest,
then the commit of exactly the manifest's resume offset. What lies between the resume offset and a crash is read again, gives
the same bytes again, and readers ignore what they have.

The resume offset of the newest whole snapshot is the only start position of a partition, above or below the committed offset;
a partition that stays here over a rebalance goes on where its state in memory stands. The commit is a label for lag
monitors, and its metadata a hint from which offset of the changelog to read.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from streams.errors import SnapshotError
from streams.metrics import Metrics, SnapshotKind
from streams.outbox import Record, Sink
from streams.readback import LogReader
from streams.snapshots import (
    MANIFEST_PART,
    Columns,
    Key,
    Manifest,
    PartRef,
    Shelf,
    Snapshot,
    check_epochs,
    check_topic,
    checksum,
    encode_key,
    encode_manifest,
    pack_columns,
    tombstone_order,
    unpack_columns,
)

log = logging.getLogger(__name__)

KEPT_SNAPSHOTS = 2
WRITTEN_AT_A_TIME = 4


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where a state stands: at the end of `tick`. The log is to be read again from `resume_offset` with the clock at `clock`."""

    tick: int
    clock: int
    resume_offset: int


class PartitionState(Protocol):
    """The state of one input partition, as the keeper needs to know it."""

    position: int  # offset of the next record to take, in memory

    def boundary(self) -> Boundary | None:
        """None before there is anything worth keeping."""

    def pack(self) -> tuple[Columns, bytes]:
        """A copy of the state at the boundary, and the owner's extra bytes for the manifest."""


class Stage(Protocol):
    """What makes states for the partitions of its topics."""

    kind: SnapshotKind

    def fresh(self, topic: str, partition: int, log_start: int) -> PartitionState: ...
    def restore(self, topic: str, partition: int, snapshot: Snapshot) -> PartitionState: ...
    async def loaded(self, topic: str, partition: int, state: PartitionState) -> None:
        """Called before reading begins, for what has to be put right in the outputs."""


class Commit(Protocol):
    async def __call__(self, offsets: Mapping[Any, tuple[int, str]]) -> None: ...


class TopicIds(Protocol):
    async def __call__(self, topics: Iterable[str]) -> dict[str, str]: ...


class Hint(msgspec.Struct):
    """Metadata of a commit: the changelog offset from which the two newest snapshots are found."""

    changelog_from: int


@dataclass(slots=True)
class Held:
    """One partition in our hands. shelf: (tick, writer, parts, first offset) of the snapshots in the changelog, newest first."""

    state: PartitionState
    due_at: float
    topic_id: str = ""  # of the topic that the state was made from, as far as it is known
    shelf: list[tuple[int, str, int, int]] = field(default_factory=list)
    written: Boundary | None = None
    written_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    working: asyncio.Lock = field(default_factory=asyncio.Lock)
    whole: bool = True  # False while, or after, a piece of work was left in the middle: outputs are missing


class Keeper:
    """Owner of partitions for the transport (`streams.transport.Owner`)."""

    def __init__(
        self,
        *,
        stages: Mapping[str, Stage],
        changelog: Callable[[str], str],
        reader: LogReader,
        sink: Sink,
        epochs: list[tuple[int, str]],
        metrics: Metrics,
        interval_s: float = 30.0,
    ) -> None:
        self._stages = stages
        self._changelog = changelog
        self._reader = reader
        self._sink = sink
        self._epochs = epochs
        self._metrics = metrics
        self._interval_s = interval_s
        self.writer = uuid.uuid4().hex[:12]
        self.held: dict[Any, Held] = {}
        self.assigned: frozenset[Any] = frozenset()
        self.recovering = True
        self.commit: Commit | None = None  # of the transport; set by the composition root, with `committed`
        self.committed: Callable[[Iterable[Any]], Awaitable[dict[Any, tuple[int, str] | None]]] | None = None
        self.topic_ids: TopicIds | None = None  # of the transport, too
        self.dropped: Callable[[Iterable[Any]], None] = lambda tps: None

    # --- the transport's side -------------------------------------------------------------------------------------------

    async def acquire(self, tps: frozenset[Any]) -> Mapping[Any, int]:
        """Have the state of every partition in memory and tell where each goes on."""
        started = time.monotonic()
        self.recovering = True
        self._metrics.recovering.set(1)
        self.assigned = tps
        # A state whose work was broken off is past outputs that were never sent: it is loaded anew, and works them again.
        await self.lost([tp for tp, held in self.held.items() if tp not in tps or not held.whole])
        new = sorted(tp for tp in tps if tp not in self.held)
        if new:
            await self._load(new)
        now = time.monotonic()
        for i, tp in enumerate(sorted(tps)):  # staggered, so that no moment has to pack everything
            self.held[tp].due_at = now + self._interval_s * (i + 1) / len(tps)
        for tp in new:
            await self._stages[tp.topic].loaded(tp.topic, tp.partition, self.held[tp].state)
        self.recovering = False
        self._metrics.recovering.set(0)
        self._metrics.recovery_seconds.set(time.monotonic() - started)
        log.info("have %d partitions, %d of them loaded in %.2f s", len(tps), len(new), time.monotonic() - started)
        return {tp: self.held[tp].state.position for tp in tps}

    async def release(self, tps: frozenset[Any]) -> None:
        """Write down and commit; the states stay in memory until it is known who gets the partitions."""
        await asyncio.gather(*(self.write(tp) for tp in sorted(tps) if tp in self.held))

    async def lost(self, tps: Iterable[Any]) -> None:
        gone = [tp for tp in tps if self.held.pop(tp, None) is not None]
        self.dropped(gone)

    def oldest_snapshot_age_s(self) -> float:
        """Seconds since the partition that was written longest ago was written; 0 with nothing held."""
        now = time.monotonic()
        return max((now - held.written_at for held in self.held.values()), default=0.0)

    # --- working --------------------------------------------------------------------------------------------------------

    async def work(self, tp: Any, work: Callable[[Any], Awaitable[None]]) -> None:
        """Let a stage take records into the state of a partition. Does nothing if another worker has the partition now.

        A stage changes its state first and then hands over the outputs, which may wait. Between the two no snapshot may be
        packed: its resume offset would lie beyond outputs that nobody has sent. Nor ever again, if the work was broken off.
        """
        held = self.held.get(tp)
        if held is None:
            return
        async with held.working:
            if not held.whole:
                return
            held.whole = False
            await work(held.state)
            held.whole = True

    # --- writing --------------------------------------------------------------------------------------------------------

    async def run(self, stopping: Callable[[], bool]) -> None:
        """Write what is due until told to stop. A snapshot mostly waits for acknowledgements, so a few go on at a time."""
        writing: dict[Any, asyncio.Task[None]] = {}
        try:
            while not stopping():
                for tp in [tp for tp, task in writing.items() if task.done()]:
                    writing.pop(tp).result()
                wait_s = self._start_due(writing)
                if writing:
                    await asyncio.wait(writing.values(), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await asyncio.sleep(wait_s)
        finally:
            for task in writing.values():
                task.cancel()

    def _start_due(self, writing: dict[Any, asyncio.Task[None]]) -> float:
        """Start the snapshots whose time has come, longest due first; seconds until it is worth looking again."""
        now = time.monotonic()
        waiting = sorted((held.due_at, tp) for tp, held in self.held.items() if tp not in writing)
        for due_at, tp in waiting:
            if due_at > now:
                return min(1.0, due_at - now)
            if len(writing) >= WRITTEN_AT_A_TIME:
                break
            self.held[tp].due_at = now + self._interval_s
            writing[tp] = asyncio.create_task(self.write(tp))
        return 0.2

    async def write(self, tp: Any) -> None:
        """One snapshot and its commit. Raises OutputError if anything of it could not be written."""
        held = self.held[tp]
        async with held.lock:
            started = time.monotonic()
            async with held.working:
                if not held.whole:
                    return
                boundary = held.state.boundary()
                if boundary is None or boundary == held.written:  # nothing to keep, so nothing is out of date either
                    held.written_at = time.monotonic()
                    return
                columns, extra = held.state.pack()
            self._metrics.step.labels("snapshot_pack").observe(time.monotonic() - started)
            await self._sink.flush()
            nbytes = await self._put(tp, held, boundary, columns, extra)
            held.written, held.written_at = boundary, time.monotonic()
            await self._commit(tp, held, boundary)
            kind, seconds = self._stages[tp.topic].kind, time.monotonic() - started
            self._metrics.step.labels("snapshot_write").observe(seconds)
            self._metrics.snapshot_written(kind, tp.topic, tp.partition, seconds=seconds, size=nbytes, now_s=time.time())
            await self._tidy(tp, held)

    async def _put(self, tp: Any, held: Held, boundary: Boundary, columns: Columns, extra: bytes) -> int:
        source = source_name(tp)
        topic = self._changelog(tp.topic)
        layout, parts = await asyncio.to_thread(pack_columns, columns)
        sent = [
            await self._sink.send(Record(topic, tp.partition, encode_key(Key(source, boundary.tick, self.writer, i)), part))
            for i, part in enumerate(parts)
        ]
        await self._sink.flush()
        manifest = Manifest(
            source=source,
            writer=self.writer,
            tick=boundary.tick,
            clock=boundary.clock,
            resume_offset=boundary.resume_offset,
            layout=layout,
            parts=[PartRef(len(part), checksum(part)) for part in parts],
            epochs=self._epochs,
            extra=extra,
            topic_id=held.topic_id,
        )
        key = encode_key(Key(source, boundary.tick, self.writer, MANIFEST_PART))
        sent.append(await self._sink.send(Record(topic, tp.partition, key, encode_manifest(manifest))))
        await self._sink.flush()
        held.shelf = sorted([(boundary.tick, self.writer, len(parts), sent[0].result().offset), *held.shelf], reverse=True)
        return sum(map(len, parts))

    async def _commit(self, tp: Any, held: Held, boundary: Boundary) -> None:
        if self.commit is None:
            return
        hint = min((offset for _, _, _, offset in held.shelf[:KEPT_SNAPSHOTS]), default=0)
        try:
            await self.commit({tp: (boundary.resume_offset, msgspec.json.encode(Hint(hint)).decode())})
        except Exception as error:  # a rebalance is under way, or this worker is a zombie: the snapshot itself is true
            log.warning("%s: the snapshot at tick %d is written, its commit was refused: %r", tp, boundary.tick, error)

    async def _tidy(self, tp: Any, held: Held) -> None:
        """Tombstones for all but the newest snapshots."""
        for tick, writer, parts, _ in held.shelf[KEPT_SNAPSHOTS:]:
            for key in tombstone_order(source_name(tp), tick, writer, parts):
                await self._sink.send(Record(self._changelog(tp.topic), tp.partition, key, None))
        held.shelf = held.shelf[:KEPT_SNAPSHOTS]

    # --- loading --------------------------------------------------------------------------------------------------------

    async def _load(self, tps: list[Any]) -> None:
        assert self.committed is not None
        # First of all: should a topic be made anew while its state is loaded, the state keeps the old id, and the next load refuses.
        ids = {} if self.topic_ids is None else await self.topic_ids({tp.topic for tp in tps})
        committed = await self.committed(tps)
        starts = await self._reader.starts((tp.topic, tp.partition) for tp in tps)
        shelves = await self._read({tp: _hint(committed.get(tp)) for tp in tps})
        again = [tp for tp in tps if shelves[tp].newest() is None and _hint(committed.get(tp)) > 0]
        shelves |= await self._read(dict.fromkeys(again, 0)) if again else {}
        for tp in tps:
            topic_id, log_start = ids.get(tp.topic, ""), starts[tp.topic, tp.partition]
            self.held[tp] = self._revive(tp, shelves[tp], committed.get(tp), log_start, topic_id)
            await self._tidy_up(tp, shelves[tp])

    async def _read(self, hints: Mapping[Any, int]) -> dict[Any, Shelf]:
        """The changelog partitions of some input partitions, from the hints to their present ends."""
        places = {(self._changelog(tp.topic), tp.partition): tp for tp in hints}
        records, _ = await self._reader.read({place: hints[tp] for place, tp in places.items()})
        shelves = {tp: Shelf(source_name(tp)) for tp in hints}
        for place, tp in places.items():
            for record in records[place]:
                if record.key is not None:
                    shelves[tp].put(record.key, record.value, record.offset)
        return shelves

    def _revive(self, tp: Any, shelf: Shelf, committed: tuple[int, str] | None, log_start: int, topic_id: str) -> Held:
        found = shelf.newest()
        stage = self._stages[tp.topic]
        if found is None:
            if committed is not None:
                raise SnapshotError(
                    f"{tp}: offset {committed[0]} is committed, but the changelog {self._changelog(tp.topic)!r} holds no whole "
                    "snapshot to go with it. Restore that topic, or start anew with another application id (or delete the "
                    "consumer group) to compute everything again from the start of the log"
                )
            return Held(stage.fresh(tp.topic, tp.partition, log_start), 0.0, topic_id, written_at=time.monotonic())
        manifest, parts = found
        check_topic(manifest, topic_id)
        check_epochs(manifest, self._epochs)
        if manifest.resume_offset < log_start:
            raise SnapshotError(
                f"{tp}: the newest snapshot goes on at offset {manifest.resume_offset}, but the log starts at {log_start}: records "
                "were deleted before they were worked on. Raise the topic's retention; to go on without them, delete the changelog "
                "and the consumer group and accept an incomplete picture for one ttl"
            )
        started = time.monotonic()
        state = stage.restore(tp.topic, tp.partition, Snapshot(manifest, unpack_columns(manifest.layout, parts)))
        self._metrics.step.labels("restore").observe(time.monotonic() - started)
        boundary = Boundary(manifest.tick, manifest.clock, manifest.resume_offset)
        log.info(
            "%s: snapshot at tick %d by %s, going on at offset %d", tp, manifest.tick, manifest.writer, manifest.resume_offset
        )
        return Held(state, 0.0, topic_id or manifest.topic_id, shelf.snapshots(), boundary, time.monotonic())

    async def _tidy_up(self, tp: Any, shelf: Shelf) -> None:
        """Tombstones for all that is older than the newest snapshots, whoever left it there."""
        for key in shelf.litter(KEPT_SNAPSHOTS):
            await self._sink.send(Record(self._changelog(tp.topic), tp.partition, encode_key(key), None))
        self.held[tp].shelf = self.held[tp].shelf[:KEPT_SNAPSHOTS]


def source_name(tp: Any) -> str:
    """The name of a partition in snapshots and frames."""
    return f"{tp.topic}/{tp.partition}"


def _hint(committed: tuple[int, str] | None) -> int:
    if committed is None or not committed[1]:
        return 0
    try:
        return msgspec.json.decode(committed[1], type=Hint).changelog_from
    except msgspec.MsgspecError:
        return 0
