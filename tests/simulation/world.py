"""A whole deployment in one process: logs in memory, real stages, a real keeper, and workers that can be killed or stopped at
any send. Fakes stand only for Kafka: an append-only log, a compacted view of it, committed offsets.

A worker that is *killed* raises at its next send and never comes back. One that is *stopped* (SIGSTOP) waits in the middle of
what it does until it is woken; then it goes on as a zombie, for its partitions have moved meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geo.params import Timeline
from streams.city_stage import CityStage
from streams.control_stage import ControlStage
from streams.errors import OutputError
from streams.events import AlertTopics
from streams.keeper import Keeper
from streams.metrics import Metrics
from streams.outbox import Record
from streams.pings import Feed
from streams.pings_stage import PingsStage
from streams.readback import LogRecord, Place
from streams.settings import ControlSettings

FACTS, ALERTS, OPEN, PROGRESS, QUARANTINE = "city.facts", "alerts", "alerts.open", "city.progress", "quarantine"
SHADOW, DENSITY, REPORT = "alerts.shadow", "cell.density", "operator.report"


class Killed(BaseException):
    """The process is gone in the middle of something."""


class TP(NamedTuple):
    topic: str
    partition: int


@dataclass(slots=True)
class Stored:
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]
    timestamp_ms: int


@dataclass
class Kafka:
    """Logs by place, what was committed by (place), and where logs start. made: how often a topic was made; brokers that
    know no ids tell none (`tells_ids`)."""

    logs: dict[Place, list[Stored]] = field(default_factory=dict)
    committed: dict[TP, tuple[int, str]] = field(default_factory=dict)
    log_starts: dict[Place, int] = field(default_factory=dict)
    made: dict[str, int] = field(default_factory=dict)
    tells_ids: bool = True

    def log(self, topic: str, partition: int = 0) -> list[Stored]:
        return self.logs.setdefault((topic, partition), [])

    def append(self, record: Record) -> int:
        log = self.log(record.topic, record.partition)
        log.append(Stored(record.key, record.value, dict(record.headers), record.timestamp_ms or 0))
        return len(log) - 1

    def compacted(self, topic: str, partition: int = 0) -> dict[bytes, bytes]:
        """What a compacted topic holds once it is compacted."""
        newest: dict[bytes, bytes] = {}
        for stored in self.log(topic, partition):
            assert stored.key is not None
            if stored.value is None:
                newest.pop(stored.key, None)
            else:
                newest[stored.key] = stored.value
        return newest

    async def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        return {topic: f"{topic} no. {self.made.get(topic, 1)}" for topic in topics} if self.tells_ids else {}

    async def starts(self, places: Iterable[Place]) -> dict[Place, int]:
        return {place: self.log_starts.get(place, 0) for place in places}

    async def read(self, wanted: Mapping[Place, int]) -> tuple[dict[Place, list[LogRecord]], dict[Place, int]]:
        records = {
            place: [LogRecord(i, s.key, s.value) for i, s in enumerate(self.log(*place)) if i >= start]
            for place, start in wanted.items()
        }
        return records, {place: len(self.log(*place)) for place in wanted}


@dataclass(slots=True)
class FakeRun:
    """Consecutive records of a log, as the transport hands them out."""

    base: int
    stored: list[Stored]
    body: None = None

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def next_offset(self) -> int:
        return self.base + len(self.stored)

    @property
    def values(self) -> list[bytes | None]:
        return [one.value for one in self.stored]

    def timestamps(self) -> NDArray[np.int64]:
        return np.array([one.timestamp_ms for one in self.stored], np.int64)

    def offsets(self) -> NDArray[np.int64]:
        return np.arange(self.base, self.next_offset, dtype=np.int64)

    def key(self, i: int) -> bytes | None:
        return self.stored[i].key


class FakeSink:
    """Writes to the logs. `fate` decides before each send: go on, be killed, be stopped, lose this record for good."""

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka
        self.sends = 0
        self.kill_at: int | None = None
        self.stop_at: int | None = None
        self.lose_at: int | None = None
        self.after_loss = 0  # sends that still get through after the lost one, as aiokafka lets them
        self.stopped = asyncio.Event()
        self.woken = asyncio.Event()
        self.lost = False
        self.dead = False

    async def send(self, record: Record) -> asyncio.Future[Any]:
        await asyncio.sleep(0)  # others get their turn at every send, as with a real producer
        self.sends += 1
        if self.dead or self.sends == self.kill_at:
            self.dead = True
            raise Killed
        if self.sends == self.stop_at:
            self.stopped.set()
            await self.woken.wait()
        if self.lost and self.after_loss <= 0:
            raise OutputError("a record could not be written")
        if self.sends == self.lose_at:
            self.lost = True
        else:
            self.after_loss -= self.lost
            offset = self.kafka.append(record)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_result(SimpleNamespace(offset=-1 if self.sends == self.lose_at else offset))
        return future

    async def send_all(self, records: Sequence[Record]) -> None:
        for record in records:
            await self.send(record)

    async def flush(self) -> None:
        if self.dead:
            raise Killed
        if self.lost:
            raise OutputError("a record could not be written")


class SimWorker:
    """One worker process."""

    def __init__(
        self,
        kafka: Kafka,
        timeline: Timeline,
        feeds: list[Feed],
        sources: list[Place],
        controls: Sequence[ControlSettings] = (),
        *,
        interval_s: float = 30.0,
    ) -> None:
        """sources: of feeds, and behind them the control topics."""
        self.kafka = kafka
        self.sink = FakeSink(kafka)
        self.now_ms = 0
        metrics = Metrics(timeline, version="test", clock="replay")
        self.metrics = metrics
        common: dict[str, Any] = {
            "timeline": timeline, "sources": sources, "facts_topic": FACTS, "quarantine_topic": QUARANTINE,
            "quarantine_cap": 10, "sink": self.sink, "metrics": metrics,
        }  # fmt: skip
        self.pings = PingsStage(feeds=feeds, **common)
        self.control = ControlStage(controls=controls, **common)
        self.stages: dict[str, Any] = dict.fromkeys((feed.topic for feed in feeds), self.pings)
        self.stages |= dict.fromkeys((control.topic for control in controls), self.control)
        self.city = CityStage(
            timeline=timeline, sources=sources, feeds=len(sources) - len(controls),
            topics=AlertTopics(ALERTS, OPEN, SHADOW, lambda operator: f"alerts.{operator}"),
            density_topic=DENSITY, report_topic=REPORT, progress_topic=PROGRESS, sink=self.sink, metrics=metrics, clock="replay", reader=kafka,
        )  # fmt: skip
        self.stages[FACTS] = self.city
        self.keeper = Keeper(
            stages=self.stages,
            changelog=lambda topic: f"{topic}-changelog",
            reader=kafka,
            sink=self.sink,
            epochs=[(epoch.from_tick, epoch.hash) for epoch in timeline.epochs],
            metrics=metrics,
            interval_s=interval_s,
        )
        self.keeper.commit = self._commit
        self.keeper.committed = self._committed
        self.keeper.topic_ids = kafka.topic_ids
        self.zombie = False

    async def _commit(self, offsets: Mapping[TP, tuple[int, str]]) -> None:
        if self.sink.dead:
            raise Killed
        if self.zombie:
            raise RuntimeError("CommitFailedError: the group has moved on")
        self.kafka.committed.update(offsets)

    async def _committed(self, tps: Iterable[TP]) -> dict[TP, tuple[int, str] | None]:
        return {tp: self.kafka.committed.get(tp) for tp in tps}

    async def own(self, tps: Iterable[TP]) -> None:
        await self.keeper.acquire(frozenset(tps))

    async def pump(self, tp: TP, n: int) -> int:
        """Take up to n records of a partition in one message; how many there were."""
        state: Any = self.keeper.held[tp].state
        records = self.kafka.log(*tp)[state.position : state.position + n]
        if records:
            stage = self.stages[tp.topic]
            half = len(records) // 2
            runs = [FakeRun(state.position, records[:half]), FakeRun(state.position + half, records[half:])]
            await self.keeper.work(tp, partial(stage.take, runs=[run for run in runs if run.stored]))
        return len(records)

    async def drain(self, n: int = 50) -> None:
        """Work until nothing is left to read."""
        while True:
            did = 0
            for tp in sorted(self.keeper.held, key=lambda tp: tp.topic == FACTS):
                did += await self.pump(tp, n)
            if not did:
                return


async def killed_again_and_again(
    make: Callable[[], SimWorker],
    tps: Sequence[TP],
    r: random.Random,
    *,
    times: int = 15,
    latest: int = 120,
    writes: float = 0.2,
) -> SimWorker:
    """So many workers one after the other, each killed at a send, the `latest` at most; and one more, which works to the end.

    writes: how probably a partition is written down rather than worked on.
    """
    for _ in range(times):
        one = make()
        one.sink.kill_at = r.randint(1, latest)
        try:
            await one.own(tps)
            for _ in range(40):
                tp = r.choice(tps)
                if r.random() < writes:
                    await one.keeper.write(tp)
                else:
                    await one.pump(tp, r.choice([1, 7, 60]))
        except Killed:
            continue
    last = make()
    await last.own(tps)
    await last.drain()
    return last
